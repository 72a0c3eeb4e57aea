"""Measure a codec: how near its output is to its input, how its codebooks are used, how fast it is."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vivavoce.audio.files import read_audio, write_audio
from vivavoce.base.errors import DataError, MissingExtraError
from vivavoce.codecs.contract import Codec, CodecSpec
from vivavoce.evaluation.items import Item, Sound
from vivavoce.evaluation.metrics import make_metric
from vivavoce.evaluation.report.verdicts import Verdict, compare_systems
from vivavoce.evaluation.scores import Score

SENTENCES = (
    "the small boat left the harbour before the storm",
    "seven people waited for the train to the city",
    "please put the green box beside the window",
    "she reads a new book every week in winter",
    "the old clock in the kitchen runs ten minutes late",
    "warm bread and fresh milk were on the table",
    "they walked along the river until it was dark",
    "the teacher wrote three questions on the board",
    "a light rain fell on the roof all night",
    "he could not find the key to the front door",
    "most birds fly south when the days grow short",
    "the doctor asked me to come back on monday",
)
"""Of the synthetic set; words that common recognisers know."""
VOICES = ("espeak:en-us", "flite:slt", "espeak:en-gb+f3", "flite:rms")
SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")
MOST_SECONDS = 60.0

Hear = Callable[[np.ndarray, int], str]


@dataclass(frozen=True)
class Clip:
    """A recording that goes through the codec.

    Attributes:
        id: Unique.
        sound: float32 [S] at the codec's rate.
        words: What is said; None where it is not known.
    """

    id: str
    sound: Sound
    words: str | None = None


@dataclass(frozen=True)
class LevelUse:
    """How a level's codebook is used.

    Attributes:
        codes: Seen; few codes cannot use a large codebook.
        used: Different codewords among them.
        size: Of the codebook.
        entropy_bits: Per code, from the counts; too low by about (used - 1) / (2 codes ln 2).
        codes_per_second: Of this level.
    """

    codes: int
    used: int
    size: int
    entropy_bits: float
    codes_per_second: float


@dataclass(frozen=True)
class CodecReport:
    """What is measured of a codec.

    Attributes:
        spec: Of the codec.
        source: The recordings in words.
        clips: Id -> files of original and reconstruction in the folder.
        scores: Name -> score; "wer original" and "wer reconstruction" by the recogniser.
        verdict: On the words a recogniser loses; None without.
        levels: Coarse to fine.
        seconds: Of audio.
        encode_rtf: Seconds to encode a second, below 1 is faster than it plays.
        decode_rtf: Seconds to decode one.
        recogniser: Who wrote down the words.
        unscored: Sentences about what was not measured.
        hardware: Facts by name.
        versions: Of packages.
    """

    spec: CodecSpec
    source: str
    clips: dict[str, tuple[str, str]]
    scores: dict[str, Score]
    verdict: Verdict | None
    levels: list[LevelUse]
    seconds: float
    encode_rtf: float
    decode_rtf: float
    recogniser: str
    unscored: list[str]
    hardware: dict[str, Any]
    versions: dict[str, str]

    @property
    def kbit_per_second(self) -> float:
        """With every code written in full."""
        return self.spec.tokens_per_second * math.log2(self.spec.codebook_size) / 1000

    @property
    def entropy_kbit_per_second(self) -> float:
        """With codes written by their frequencies."""
        return sum(level.entropy_bits * level.codes_per_second for level in self.levels) / 1000


def synthetic_clips(sample_rate: int, limit: int | None = None) -> list[Clip]:
    """Sentences by espeak-ng and flite, in turn.

    Raises:
        MissingExtraError: Neither synthesizer is there.
    """
    from vivavoce.audio.resample import resample
    from vivavoce.audio.synthesis import has_synthesizer, synthesize

    voices = [voice for voice in VOICES if has_synthesizer(voice.partition(":")[0])]
    if not voices:
        raise MissingExtraError(
            "no synthesizer for the synthetic recordings; run: pip install 'vivavoce[tts]', or give --recordings DIR"
        )
    clips = []
    for i, words in enumerate(SENTENCES[:limit]):
        wave, rate = synthesize(words, voices[i % len(voices)])
        sound = Sound(resample(wave, rate, sample_rate).astype(np.float32), sample_rate)
        clips.append(Clip(f"c{i:02d}", sound, words))
    return clips


def recorded_clips(folder: Path, sample_rate: int, limit: int | None = None) -> list[Clip]:
    """Recordings of a folder, the first minute of each; ``NAME.txt`` beside one says its words.

    Raises:
        DataError: There are none.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES][:limit]
    if not files:
        raise DataError(f"{folder} has no recordings; wanted some of {', '.join(SUFFIXES)}.")
    clips = []
    for i, path in enumerate(files):
        text = path.with_suffix(".txt")
        words = text.read_text(encoding="utf-8").strip() if text.is_file() else None
        sound = Sound(*read_audio(path, sample_rate, end_s=MOST_SECONDS))
        clips.append(Clip(f"{i:03d}_{path.stem}", sound, words or None))
    return clips


def measure_codec(
    codec: Codec,
    clips: Sequence[Clip],
    out: Path,
    source: str = "",
    hear: Hear | None = None,
    recogniser: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> CodecReport:
    """Encode and decode recordings one by one, and score what comes back.

    Args:
        codec: On the device where it is to be measured.
        clips: At its rate, one or more.
        out: Folder for the recordings.
        source: The recordings in words.
        hear: A recogniser; None for none.
        recogniser: Its name.
        progress: Told (done, all).
    """
    from vivavoce.evaluation.run.environment import hardware, package_versions

    device = next(codec.parameters()).device
    counts = [np.zeros(codec.spec.codebook_size, np.int64) for _ in codec.spec.strides]
    items, files, spent = [], {}, [0.0, 0.0]
    _through(codec, clips[0].sound.waveform, device, [])  # the first call pays for what later ones do not
    for number, clip in enumerate(clips):
        times: list[float] = []
        levels, wave = _through(codec, clip.sound.waveform, device, times)
        spent = [a + b for a, b in zip(spent, times, strict=True)]
        for count, level in zip(counts, levels, strict=True):
            count += np.bincount(level, minlength=len(count))
        back = Sound(wave, codec.spec.sample_rate)
        names = (f"audio/original/{clip.id}.flac", f"audio/reconstruction/{clip.id}.flac")
        for name, sound in zip(names, (clip.sound, back), strict=True):
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            write_audio(out / name, np.clip(sound.waveform, -1, 1), sound.sample_rate)
        files[clip.id] = names
        words = () if clip.words is None else (clip.words,)
        items.append(Item(clip.id, None, words, "en", audio=back, reference_audio=clip.sound))
        if progress is not None:
            progress(number + 1, len(clips))
    seconds = sum(len(c.sound.waveform) for c in clips) / codec.spec.sample_rate
    scores, unscored = _quality(items)
    verdict = _heard(items, hear, recogniser, scores, unscored)
    return CodecReport(
        codec.spec,
        source,
        files,
        scores,
        verdict,
        [_use(count, seconds) for count in counts],
        seconds,
        spent[0] / seconds,
        spent[1] / seconds,
        recogniser,
        unscored,
        hardware(),
        package_versions(),
    )


def _through(
    codec: Codec, waveform: np.ndarray, device: torch.device, times: list[float]
) -> tuple[list[np.ndarray], np.ndarray]:
    """(codes of each level [T_l], float32 [S]) of one recording; seconds of both steps are added to ``times``."""
    wave = torch.from_numpy(np.ascontiguousarray(waveform))[None, None].to(device)
    with torch.inference_mode():
        began = _now(device)
        codes = codec.encode(wave)
        between = _now(device)
        back = codec.decode(codes)
        times += [between - began, _now(device) - between]
    return [level[0].cpu().numpy() for level in codes.levels], back[0, 0].float().cpu().numpy()


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _use(counts: np.ndarray, seconds: float) -> LevelUse:
    total = int(counts.sum())
    share = counts[counts > 0] / max(total, 1)
    entropy = float(-(share * np.log2(share)).sum())
    return LevelUse(total, int((counts > 0).sum()), len(counts), max(entropy, 0.0), total / seconds)


def _quality(items: Sequence[Item]) -> tuple[dict[str, Score], list[str]]:
    scores, unscored = {}, []
    for name in ("mel_distance", "stoi", "pesq"):
        try:
            scores[name] = make_metric(name).score(items)
        except (MissingExtraError, DataError) as error:
            unscored.append(f"{name}: {error}")
    return scores, unscored


def _heard(
    items: Sequence[Item], hear: Hear | None, recogniser: str, scores: dict[str, Score], unscored: list[str]
) -> Verdict | None:
    """Score what a recogniser hears in originals and reconstructions; adds to ``scores``."""
    told = [item for item in items if item.references]
    if hear is None or not told:
        why = "no recogniser is there" if hear is None else "no words are known; put NAME.txt beside NAME.wav"
        unscored.append(f"wer: {why}")
        return None
    listened = {"recogniser": hear, "recogniser_name": recogniser}
    before = [dataclasses.replace(item, audio=item.reference_audio) for item in told]
    scores["wer original"] = make_metric("round_trip", **listened).score(before)
    scores["wer reconstruction"] = make_metric("round_trip", **listened).score(told)
    return compare_systems(
        "original",
        scores["wer original"],
        scores["wer reconstruction"],
        "the original",
        f"the reconstruction, heard by {recogniser},",
    )
