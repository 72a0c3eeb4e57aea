"""Effects of places: noise, other voices, rooms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from vivavoce.audio.augment import Waveform, rms, room_response
from vivavoce.audio.mixing import lay, scale_noise
from vivavoce.audio.room import from_direct, reverberate
from vivavoce.data.build.sounds.backgrounds import background, folder_faults
from vivavoce.data.build.sounds.effects import Around, Changed, Effect, draw, draw_name, draw_whole
from vivavoce.data.build.speech.loudness import speech_level_db

LEVELS = ("clip", "speech")
SOURCES_OF_VOICES = ("folder", "row")


def level_of(sound: Waveform, sample_rate: int, how: str) -> float:
    """RMS of a sound, of all of it ("clip") or without its pauses ("speech"); 0 for silence."""
    if not sound.any():
        return 0.0
    return rms(sound) if how == "clip" else float(10 ** (speech_level_db(sound, sample_rate) / 20))


@dataclass(frozen=True)
class Noise(Effect):
    """Adds a background; silence stays silence.

    Attributes:
        kinds: One is drawn: white, pink, brown, hum, impulses, chords; babble and recordings need a folder.
        snr_db: Signal over noise.
        level: What counts as the level of the signal: "clip" for all of it, "speech" without its pauses.
        folder: Of talkers for babble, or of recordings.
        voices: Talkers of a babble.
    """

    kinds: tuple[str, ...] = ("white", "pink", "brown", "hum")
    snr_db: tuple[float, ...] = (5.0, 30.0)
    level: str = "clip"
    folder: str | None = None
    voices: tuple[int, ...] = (4, 8)

    ranges: ClassVar = {"snr_db": (-40, 100), "voices": (1, 32)}
    choices: ClassVar = {"level": LEVELS}

    def faults(self) -> list[str]:
        return folder_faults(self.kinds, self.folder)

    def __call__(
        self, sound: Waveform, sample_rate: int, rng: np.random.Generator, around: Around
    ) -> Changed | None:
        kind, snr, voices = (
            draw_name(rng, self.kinds), draw(rng, self.snr_db), draw_whole(rng, self.voices),
        )  # fmt: skip
        level = level_of(sound, sample_rate, self.level)
        if not level:
            return None
        folder = around.folders[self.folder] if self.folder else None
        noise, told = background(kind, len(sound), sample_rate, rng, folder, voices)
        return Changed(sound + scale_noise(noise, level, snr), {**told, "snr_db": snr})


@dataclass(frozen=True)
class Mix(Effect):
    """Adds one other voice, from a random time on; silence stays silence.

    Attributes:
        source: "folder", or "row" for what others say in the row. A row in which no other speaks is left without.
        folder: Of recordings of speech.
        snr_db: First voice over the second one, while that sounds.
        level: As of noise.
    """

    source: str = "folder"
    folder: str | None = None
    snr_db: tuple[float, ...] = (5.0, 20.0)
    level: str = "clip"

    ranges: ClassVar = {"snr_db": (-40, 100)}
    choices: ClassVar = {"source": SOURCES_OF_VOICES, "level": LEVELS}

    def faults(self) -> list[str]:
        if (self.source == "folder") == bool(self.folder):
            return []
        return [f"source is {self.source!r}, wanted a folder with 'folder', and none with 'row'"]

    def __call__(
        self, sound: Waveform, sample_rate: int, rng: np.random.Generator, around: Around
    ) -> Changed | None:
        snr, level = draw(rng, self.snr_db), level_of(sound, sample_rate, self.level)
        if not level:
            return None
        told: dict[str, Any] = {"snr_db": snr}
        if self.folder:
            clip, told["file"] = around.folders[self.folder].draw(sample_rate, rng)
        else:
            others = [other for other in around.others(sample_rate) if other.any()]
            if not others:
                return None
            clip = others[int(rng.integers(len(others)))]
        other, where = lay(clip, len(sound), rng)
        if not other.any():
            return None
        told |= {"start": where.start / sample_rate, "end": where.stop / sample_rate}
        made = sound.copy()
        made[where] += scale_noise(other[where], level, snr)
        return Changed(made, told)


@dataclass(frozen=True)
class Room(Effect):
    """Puts the sound into a room; keeps its length and level.

    Attributes:
        rt60_s: Reverberation time of made rooms.
        direct_db: Energy of their direct sound over what rings.
        folder: Of recorded impulse responses, instead of made ones.
    """

    rt60_s: tuple[float, ...] = (0.1, 0.8)
    direct_db: tuple[float, ...] = (0.0, 12.0)
    folder: str | None = None

    ranges: ClassVar = {"rt60_s": (0.05, 10), "direct_db": (-30, 40)}

    def __call__(
        self, sound: Waveform, sample_rate: int, rng: np.random.Generator, around: Around
    ) -> Changed | None:
        if not sound.any():
            return None
        if self.folder:
            response, name = around.folders[self.folder].draw(sample_rate, rng)
            return Changed(reverberate(sound, from_direct(response)), {"file": name})
        told = {"rt60_s": draw(rng, self.rt60_s), "direct_db": draw(rng, self.direct_db)}
        return Changed(
            reverberate(sound, room_response(sample_rate, told["rt60_s"], rng, told["direct_db"])), told
        )
