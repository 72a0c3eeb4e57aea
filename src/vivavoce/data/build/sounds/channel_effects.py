"""Effects of channels and machines: band limits, codecs, gain, clipping, speed, dropouts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from vivavoce.audio.augment import Waveform
from vivavoce.audio.bands import BANDS, limit_band
from vivavoce.audio.lossy import (
    FORMATS,
    drop_out,
    has_format,
    through_format,
    through_low_rate,
    through_mu_law,
)
from vivavoce.audio.tempo import change_tempo, exact_factor
from vivavoce.base.errors import ConfigError
from vivavoce.data.build.sounds.backgrounds import Folders
from vivavoce.data.build.sounds.effects import Around, Changed, Effect, draw, draw_name, draw_whole
from vivavoce.data.build.speech.loudness import PEAK

CODECS = (*FORMATS, "mu-law", "low-rate")


@dataclass(frozen=True)
class Band(Effect):
    """Takes away what a narrow channel does not carry.

    Attributes:
        kinds: One is drawn: telephone (300 to 3400 Hz), am (100 to 4500 Hz), wideband (50 to 7000 Hz).
    """

    kinds: tuple[str, ...] = tuple(BANDS)

    choices: ClassVar = {"kinds": tuple(BANDS)}

    def __call__(
        self, sound: Waveform, sample_rate: int, rng: np.random.Generator, around: Around
    ) -> Changed | None:
        kind = draw_name(rng, self.kinds)
        return Changed(limit_band(sound, sample_rate, *BANDS[kind]), {"kind": kind})


@dataclass(frozen=True)
class Codec(Effect):
    """Sends the sound through a lossy codec; keeps its length.

    Attributes:
        kinds: One is drawn: mp3, ogg, opus, mu-law (8 kHz, 8 bits), low-rate.
        compression: Of mp3, ogg and opus, 0 for the best quality to 1 for the smallest file.
        rate_hz, bits: Of low-rate.
    """

    kinds: tuple[str, ...] = CODECS
    compression: tuple[float, ...] = (0.5, 1.0)
    rate_hz: tuple[int, ...] = (4000, 8000)
    bits: tuple[int, ...] = (8, 12)

    ranges: ClassVar = {"compression": (0, 1), "rate_hz": (1000, 48_000), "bits": (2, 16)}
    choices: ClassVar = {"kinds": CODECS}

    def prepare(self, folders: Folders) -> None:
        missing = [kind for kind in self.kinds if kind in FORMATS and not has_format(kind)]
        if missing:
            raise ConfigError(
                f"{', '.join(missing)} cannot be written by the soundfile here; leave it out of kinds, or install "
                "soundfile 0.13 or later with libsndfile 1.2."
            )

    def __call__(
        self, sound: Waveform, sample_rate: int, rng: np.random.Generator, around: Around
    ) -> Changed | None:
        kind = draw_name(rng, self.kinds)
        if kind == "mu-law":
            return Changed(through_mu_law(sound, sample_rate), {"kind": kind})
        if kind == "low-rate":
            rate, bits = draw_whole(rng, self.rate_hz), draw_whole(rng, self.bits)
            made = through_low_rate(sound, sample_rate, rate, bits)
            return Changed(made, {"kind": kind, "rate_hz": rate, "bits": bits})
        compression = draw(rng, self.compression)
        made = through_format(sound, sample_rate, kind, compression)
        return Changed(made, {"kind": kind, "compression": compression})


@dataclass(frozen=True)
class Gain(Effect):
    """Makes the sound louder or softer.

    Attributes:
        db: By how much.
        clip: Cut off what goes past full scale; else it gets no louder than peaks allow.
    """

    db: tuple[float, ...] = (-12.0, 6.0)
    clip: bool = False

    ranges: ClassVar = {"db": (-60, 60)}

    def __call__(
        self, sound: Waveform, sample_rate: int, rng: np.random.Generator, around: Around
    ) -> Changed | None:
        db, peak = draw(rng, self.db), float(np.abs(sound).max())
        if not peak:
            return None
        if self.clip:
            made = np.clip(sound * 10 ** (db / 20), -1, 1)
            return Changed(made.astype(np.float32), {"db": db, "clipped": bool(np.abs(made).max() >= 1)})
        if db > 0:
            db = min(db, max(0.0, round(20 * float(np.log10(PEAK / peak)), 3)))
        return Changed((sound * 10 ** (db / 20)).astype(np.float32), {"db": db})


@dataclass(frozen=True)
class Clip(Effect):
    """Cuts peaks off, as an overdriven microphone does, whatever the level.

    Attributes:
        over_db: How far the highest peak is above what is cut off.
    """

    over_db: tuple[float, ...] = (3.0, 15.0)

    ranges: ClassVar = {"over_db": (0, 60)}

    def __call__(
        self, sound: Waveform, sample_rate: int, rng: np.random.Generator, around: Around
    ) -> Changed | None:
        over = draw(rng, self.over_db)
        top = float(np.abs(sound).max()) * 10 ** (-over / 20)
        return Changed(np.clip(sound, -top, top), {"over_db": over}) if top else None


@dataclass(frozen=True)
class Speed(Effect):
    """Makes speech faster or slower, and the times of words with it.

    Attributes:
        factor: More than 1 is faster.
        keep_pitch: Else the pitch moves too.
    """

    factor: tuple[float, ...] = (0.9, 1.1)
    keep_pitch: bool = False

    ranges: ClassVar = {"factor": (0.5, 2)}

    def __call__(
        self, sound: Waveform, sample_rate: int, rng: np.random.Generator, around: Around
    ) -> Changed | None:
        factor = exact_factor(draw(rng, self.factor), sample_rate)
        if factor == 1:
            return None
        made = change_tempo(sound, sample_rate, factor, self.keep_pitch)
        return Changed(made, {"factor": factor, "keep_pitch": self.keep_pitch}, factor)


@dataclass(frozen=True)
class Dropouts(Effect):
    """Silences short stretches, as lost packets do.

    Attributes:
        per_s: How many a second; a clip that draws none, or of which nothing would be left,
            stays as it is.
        length_s: Of each.
    """

    per_s: tuple[float, ...] = (0.2, 2.0)
    length_s: tuple[float, ...] = (0.02, 0.1)

    ranges: ClassVar = {"per_s": (0, 50), "length_s": (0.001, 1)}

    def __call__(
        self, sound: Waveform, sample_rate: int, rng: np.random.Generator, around: Around
    ) -> Changed | None:
        seconds = len(sound) / sample_rate
        count = int(rng.poisson(draw(rng, self.per_s) * seconds))
        if not count:
            return None
        starts, lengths = (
            rng.uniform(0, seconds, count),
            rng.uniform(self.length_s[0], self.length_s[1], count),
        )
        made = drop_out(sound, sample_rate, starts, lengths)
        if not made.any():
            return None
        return Changed(made, {"count": count, "seconds": round(float(lengths.sum()), 3)})
