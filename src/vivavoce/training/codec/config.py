"""What the training of a codec is, as one typed record; `training/recipes_by_kind.py` reads the YAML.

What it has in common with other recipes (optimizer, schedule, what is kept) has the same keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from vivavoce.base.errors import ConfigError
from vivavoce.codecs.training.adversarial import Game
from vivavoce.codecs.training.spectral import MELS, WINDOWS
from vivavoce.codecs.training.trained_codec import CodebookSettings
from vivavoce.training.config import KeepSettings, OptimizerSettings


@dataclass(frozen=True, kw_only=True)
class CodecModelSettings:
    """Which codec.

    Attributes:
        start: A codec to go on with: name, folder or hub id of a SNAC or nano codec. Without it, one from scratch:
        type: "snac" or "nano".
        base: A published SNAC whose shape it has: "snac_24khz", "snac_32khz", "snac_44khz".
        settings: Keys of its config.json that differ from ``base`` or from the defaults, such as ``causal``.
        train: "all", or "decoder": encoder and codebooks stay, and the decoder learns from the codes of the
            recordings (those that rows hold, else made once by ``start`` and kept in the run's folder).
        average: Decay, per update, of the running mean of the weights, which is what is kept; null for the last ones.
    """

    start: str | None = None
    type: Literal["snac", "nano"] | None = None
    base: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    train: Literal["all", "decoder"] = "all"
    average: float | None = 0.999

    def __post_init__(self) -> None:
        faults = []
        if (self.start is None) == (self.type is None):
            faults.append("wanted start or type, one of the two")
        if self.train == "decoder" and self.start is None:
            faults.append("train is 'decoder', which needs a codec whose codes it learns from; give start")
        if self.average is not None and not 0 < self.average < 1:
            faults.append(f"average is {self.average}, wanted between 0 and 1, or null")
        if faults:
            raise ConfigError("; ".join(faults))


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """Weights of the losses, 0 to leave one out; the defaults are DAC's, which SNAC keeps.

    Attributes:
        mel, stft: Spectral distances.
        codebook, commitment: Of the quantizer.
        adversarial, feature_matching: Once discriminators play.
        mel_windows, mel_bands: Resolutions of the mel distance.
        mel_floor: Least magnitude of a mel band in the logarithm.
        stft_windows: Resolutions of the STFT distance.
        stft_log: Weight of log magnitudes in it.
    """

    mel: float = 15.0
    stft: float = 0.0
    codebook: float = 1.0
    commitment: float = 0.25
    adversarial: float = 1.0
    feature_matching: float = 2.0
    mel_windows: tuple[int, ...] = WINDOWS
    mel_bands: tuple[int, ...] = MELS
    mel_floor: float = 1e-5
    stft_windows: tuple[int, ...] = (512, 1024, 2048)
    stft_log: float = 1.0

    def __post_init__(self) -> None:
        weights = ("mel", "stft", "codebook", "commitment", "adversarial", "feature_matching", "stft_log")
        faults = [f"{n} is {getattr(self, n)}, wanted 0 or more" for n in weights if getattr(self, n) < 0]
        if not self.mel and not self.stft:
            faults.append("mel and stft are 0, so nothing says what the output should be")
        if len(self.mel_windows) != len(self.mel_bands):
            faults.append(
                "mel_windows and mel_bands have different lengths, wanted a number of bands for each window"
            )
        if faults:
            raise ConfigError("; ".join(faults))


@dataclass(frozen=True, kw_only=True)
class DiscriminatorSettings:
    """Attributes:
    from_step: The update from which they play.
    game: "least_squares" or "hinge".
    periods, windows: One discriminator for each, samples.
    period_channels, band_channels: Widths.
    lr: Highest learning rate; None for the optimizer's.
    """

    from_step: int = 0
    game: Game = "least_squares"
    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    windows: tuple[int, ...] = (2048, 1024, 512)
    period_channels: int = 32
    band_channels: int = 32
    lr: float | None = None

    def __post_init__(self) -> None:
        faults = []
        if self.from_step < 0:
            faults.append(f"from_step is {self.from_step}, wanted 0 or more")
        if not self.periods and not self.windows:
            faults.append("there are neither periods nor windows; leave discriminators out instead")
        if faults:
            raise ConfigError("; ".join(faults))


@dataclass(frozen=True, kw_only=True)
class SpokenSettings:
    """Speech made for the run by synthesizers.

    Attributes:
        texts: Sentences, or a text file with one on each line.
        voices: For `audio.synthesis.synthesize`; every text is said by every voice.
        held_out_voices: Say what is measured on, never learned.
        speed, pitch: Least and most, drawn for each.
    """

    texts: tuple[str, ...] | str
    voices: tuple[str, ...]
    held_out_voices: tuple[str, ...] = ()
    speed: tuple[float, ...] = (0.9, 1.1)
    pitch: tuple[float, ...] = (0.9, 1.1)

    def __post_init__(self) -> None:
        faults = []
        if not self.texts or not self.voices:
            faults.append("wanted at least one text and one voice")
        for name in ("speed", "pitch"):
            ends = getattr(self, name)
            if len(ends) != 2 or not 0.5 <= ends[0] <= ends[1] <= 2:
                faults.append(f"{name} is {list(ends)}, wanted least and most, within 0.5 and 2")
        if faults:
            raise ConfigError("; ".join(faults))


@dataclass(frozen=True, kw_only=True)
class CodecDataSettings:
    """Recordings; all sources together, every recording equally often.

    Attributes:
        recordings: Folders (with those inside), files or patterns with ``*``.
        rows: Sets of conversations (folder of shards, .parquet, .jsonl, .tar): every recording in them.
        spoken: Made for the run.
        held_out, held_out_rows: As ``recordings`` and ``rows``, to measure on.
        min_s: Shorter recordings are left out.
    """

    recordings: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    spoken: SpokenSettings | None = None
    held_out: tuple[str, ...] = ()
    held_out_rows: tuple[str, ...] = ()
    min_s: float = 0.1

    def __post_init__(self) -> None:
        if not self.recordings and not self.rows and self.spoken is None:
            raise ConfigError("there is no data; wanted recordings, rows or spoken")


@dataclass(frozen=True, kw_only=True)
class CropSettings:
    """What an update learns.

    Attributes:
        batch: Crops of an update, over all processes.
        seconds: Length, rounded up to a legal one: pairs of an update and the seconds from then on.
        gain: Factors on the level, least and most.
        noise_share: Of the crops, those with faint noise.
    """

    batch: int = 72
    seconds: tuple[tuple[float, ...], ...] = ((0, 0.38),)
    gain: tuple[float, ...] = (1.0, 1.0)
    noise_share: float = 0.0

    def __post_init__(self) -> None:
        faults = []
        if self.batch < 1:
            faults.append(f"batch is {self.batch}, wanted 1 or more")
        steps = [pair[0] for pair in self.seconds if len(pair) == 2]
        if not steps or len(steps) != len(self.seconds) or steps[0] != 0 or steps != sorted(set(steps)):
            faults.append(
                f"seconds is {self.seconds}, wanted pairs [update, seconds], the first [0, ...], in order"
            )
        elif any(not 0 < pair[1] <= 60 for pair in self.seconds):
            faults.append(f"seconds is {self.seconds}, wanted lengths above 0, up to 60")
        if len(self.gain) != 2 or not 0 < self.gain[0] <= self.gain[1]:
            faults.append(f"gain is {self.gain}, wanted least and most, above 0")
        if faults:
            raise ConfigError("; ".join(faults))


@dataclass(frozen=True, kw_only=True)
class CodecParallelSettings:
    """Attributes:
    autocast: Networks compute in bfloat16; losses, quantizer and weights stay float32.
    """

    autocast: bool = False


@dataclass(frozen=True, kw_only=True)
class CodecTrainConfig:
    """A training run of a codec.

    Attributes:
        kind: What tells it from other recipes.
        name, description, seed: Of the run.
        steps: Updates.
        model: Codec.
        losses: Weights.
        discriminators: None to train without.
        codebooks: How they start and stay alive.
        data: Recordings.
        crops: Updates.
        optimizer: AdamW, for codec and discriminators.
        schedule: As in other recipes, for both.
        parallel: Devices.
        keep: Files; ``sample_every`` writes recordings, what the codec makes of them, and their spectrograms.
    """

    kind: Literal["codec"]
    name: str = "codec"
    description: str = ""
    seed: int = 0
    steps: int
    model: CodecModelSettings
    losses: LossSettings = field(default_factory=LossSettings)
    discriminators: DiscriminatorSettings | None = None
    codebooks: CodebookSettings = field(default_factory=CodebookSettings)
    data: CodecDataSettings
    crops: CropSettings = field(default_factory=CropSettings)
    optimizer: OptimizerSettings = field(
        default_factory=lambda: OptimizerSettings(betas=(0.8, 0.99), weight_decay=0.01)
    )
    schedule: Mapping[str, Any] = field(default_factory=lambda: {"type": "exponential"})
    parallel: CodecParallelSettings = field(default_factory=CodecParallelSettings)
    keep: KeepSettings = field(default_factory=KeepSettings)

    def __post_init__(self) -> None:
        faults = []
        if self.steps < 1:
            faults.append(f"steps is {self.steps}, wanted 1 or more")
        if self.optimizer.type != "adamw" or self.optimizer.options:
            faults.append("a codec trains by optimizer.type 'adamw', without options")
        if "type" not in self.schedule:
            faults.append("schedule.type is missing")
        if "num_steps" in self.schedule:
            faults.append("schedule.num_steps is set, but a schedule is always as long as the run; set steps")
        if faults:
            raise ConfigError("; ".join(faults))
