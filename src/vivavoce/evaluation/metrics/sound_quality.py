"""How near a codec's or vocoder's output is to its input: mel distance, STOI, PESQ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from vivavoce.audio.resample import resample
from vivavoce.base.errors import ConfigError, DataError
from vivavoce.evaluation.items import Item, checked
from vivavoce.evaluation.resampling import Bootstrap
from vivavoce.evaluation.scores import Better, Score, mean_score, missing, versions

LONGEST_GAP_S = 0.1
SHORTEST_STOI_S = 0.4
LOWEST_PESQ = 1.0
_FLOOR_DB = -100.0  # of a full-scale sine's power: what lies below is silence in both


def mel_distance(reference: np.ndarray, output: np.ndarray, sample_rate: int, num_mels: int = 80) -> float:
    """Mean absolute difference of two log-mel spectrograms in dB, over all frames and bands.

    Hann windows of 2048 samples at 44.1 kHz (rounded to a power of 2 at other rates), a quarter of that as hop,
    Slaney's bands up to half the sample rate. Codecs are trained on a like distance; numbers of other papers use
    other windows and cannot be compared with this one.

    Args:
        reference: float [S].
        output: float [S].
        sample_rate: Hz.
        num_mels: Bands.
    """
    left, right = (_log_mel_db(wave, sample_rate, num_mels) for wave in (reference, output))
    return float(np.abs(left - right).mean())


def _log_mel_db(waveform: np.ndarray, sample_rate: int, num_mels: int) -> np.ndarray:
    """float64 [T, M]."""
    from vivavoce.audio.features import slaney_mel_filters

    size = 2 ** round(np.log2(2048 * sample_rate / 44_100))
    hop = size // 4
    padded = np.pad(np.asarray(waveform, np.float64), size // 2)
    padded = np.pad(padded, (0, max(0, size - len(padded))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    window = np.hanning(size + 1)[:-1]
    power = np.abs(np.fft.rfft(frames * window)) ** 2 / (window.sum() / 2) ** 2
    filters = slaney_mel_filters(num_mels, size, sample_rate)
    bands = power @ (filters / np.maximum(filters.sum(axis=1, keepdims=True), 1e-12)).T
    return 10 * np.log10(np.maximum(bands, 10 ** (_FLOOR_DB / 10)))


def aligned_pair(item: Item, metric: str) -> tuple[np.ndarray, np.ndarray, int]:
    """(reference, output, Hz) of an item, cut to the shorter one.

    Raises:
        DataError: One is missing or no mono waveform, the rates differ, or the lengths differ by more than
            LONGEST_GAP_S.
    """
    for what, sound in (("audio", item.audio), ("reference_audio", item.reference_audio)):
        if sound is None or np.ndim(sound.waveform) != 1 or not len(sound.waveform):
            seen = "none" if sound is None else f"of shape {np.shape(sound.waveform)}"
            raise DataError(f"{metric}: {what} of item {item.id!r} is {seen}, wanted samples [S].")
    output, reference = item.audio, item.reference_audio
    assert output is not None and reference is not None
    if output.sample_rate != reference.sample_rate:
        raise DataError(
            f"{metric}: item {item.id!r} has {output.sample_rate} Hz and {reference.sample_rate} Hz; resample one."
        )
    lengths, rate = (len(reference.waveform), len(output.waveform)), output.sample_rate
    if abs(lengths[0] - lengths[1]) > LONGEST_GAP_S * rate:
        raise DataError(
            f"{metric}: item {item.id!r} has a reference of {lengths[0]} and an output of {lengths[1]} samples, wanted "
            f"at most {LONGEST_GAP_S} s apart."
        )
    size = min(lengths)
    return reference.waveform[:size], output.waveform[:size], rate


@dataclass(frozen=True)
class _Quality:
    """Mean over items whose ``audio`` is None ("no_answer", left out) or comes with its ``reference_audio``.

    Attributes:
        bootstrap: How the interval is drawn.
    """

    bootstrap: Bootstrap = field(default_factory=Bootstrap)

    name = ""
    better: Better = field(default="higher", init=False, repr=False)

    def score(self, items: Sequence[Item]) -> Score:
        """Score items by the recordings that went in.

        Raises:
            DataError: No items, or recordings that cannot be compared.
            MissingExtraError: The library is absent.
        """
        items = checked(items, self.name, 0)
        counts: Counter[str] = Counter()
        values: list[float | None] = []
        for item in items:
            value = None
            if item.audio is None:
                counts["no_answer"] += 1
            else:
                pair = aligned_pair(item, self.name)
                value = self._measure(*pair)
                counts["silent_outputs"] += not np.any(pair[1])
                counts["undefined"] += value is None
            values.append(value)
        unit, settings = self._settings()
        options: dict[str, Any] = {"unit": unit, "better": self.better, "bootstrap": self.bootstrap}
        return mean_score(self.name, items, values, counts, settings, **options)

    def _measure(self, reference: np.ndarray, output: np.ndarray, rate: int) -> float | None:
        raise NotImplementedError

    def _settings(self) -> tuple[str, dict[str, Any]]:
        raise NotImplementedError


@dataclass(frozen=True)
class MelDistance(_Quality):
    """Mean of `mel_distance`; 0 is the same sound.

    Attributes:
        num_mels: Bands.
    """

    num_mels: int = 80

    name = "mel_distance"
    better: Better = field(default="lower", init=False, repr=False)

    def _measure(self, reference: np.ndarray, output: np.ndarray, rate: int) -> float | None:
        return mel_distance(reference, output, rate, self.num_mels)

    def _settings(self) -> tuple[str, dict[str, Any]]:
        return "dB", {"num_mels": self.num_mels, "floor_db": _FLOOR_DB, "longest_gap_s": LONGEST_GAP_S}


@dataclass(frozen=True)
class Stoi(_Quality):
    """Mean short-time objective intelligibility by pystoi, 0 to 1; clips with less than 0.4 s of sound have none.

    Attributes:
        extended: ESTOI (Jensen and Taal 2016).
    """

    extended: bool = False

    name = "stoi"

    def _measure(self, reference: np.ndarray, output: np.ndarray, rate: int) -> float | None:
        import warnings

        try:
            from pystoi import stoi
        except ImportError as error:
            raise missing("pystoi", self.name) from error
        if len(reference) < SHORTEST_STOI_S * rate:
            return None
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            value = float(stoi(reference, output, rate, extended=self.extended))
        short = any("Not enough STFT frames" in str(warning.message) for warning in seen)
        return None if short or not np.isfinite(value) else value

    def _settings(self) -> tuple[str, dict[str, Any]]:
        return "share", {"extended": self.extended, "versions": versions("pystoi")}


@dataclass(frozen=True)
class Pesq(_Quality):
    """Mean PESQ by pesq (ITU-T P.862), about 1 to 4.6; references without an utterance have none.

    Silence in place of speech counts as 1, and is counted ("silent_outputs").

    Attributes:
        mode: "wb" at 16 kHz, "nb" at 8 kHz; other rates are resampled.
    """

    mode: Literal["wb", "nb"] = "wb"

    name = "pesq"

    def __post_init__(self) -> None:
        if self.mode not in ("wb", "nb"):
            raise ConfigError(f"mode is {self.mode!r}; wanted 'wb' or 'nb'.")

    def _measure(self, reference: np.ndarray, output: np.ndarray, rate: int) -> float | None:
        try:
            from pesq import BufferTooShortError, NoUtterancesError, pesq
        except ImportError as error:
            raise missing("pesq", self.name) from error
        wanted = 16_000 if self.mode == "wb" else 8_000
        pair = [resample(np.asarray(wave, np.float32), rate, wanted) for wave in (reference, output)]
        if np.any(pair[0]) and not np.any(pair[1]):
            return LOWEST_PESQ  # the library has no number for a system that says nothing
        try:
            return float(pesq(wanted, *pair, self.mode))
        except (NoUtterancesError, BufferTooShortError):
            return None

    def _settings(self) -> tuple[str, dict[str, Any]]:
        return "MOS", {"mode": self.mode, "versions": versions("pesq")}
