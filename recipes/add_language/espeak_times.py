"""Speech by libespeak-ng in this process, with the start of every sound: what flite's -psdur tells for flite.

A call takes some 5 ms; a process for each, as ``audio.synthesis`` has, takes ten times that. The library carries its
wave phase from call to call, so the same texts give the same samples only in the same order from a fresh process.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from functools import cache

import numpy as np

from vivavoce.audio.espeak_process import (
    CHARACTERS,
    DO_NOT_EXIT,
    LIST_END,
    PHONEME,
    PHONEME_EVENTS,
    PITCH,
    RATE,
    SYNCHRONOUS,
    UTF8,
    Event,
)
from vivavoce.base.errors import MissingExtraError

PHONEME_IPA = 2  # option of espeak_Initialize: names of sounds in IPA


class _Library:
    """The loaded library and what its last call gave."""

    def __init__(self) -> None:
        name = ctypes.util.find_library("espeak-ng")
        if name is None:
            raise MissingExtraError("libespeak-ng is not installed; on Debian: apt install espeak-ng.")
        self.library = ctypes.CDLL(name)
        self.samples: list[np.ndarray] = []
        self.sounds: list[tuple[str, float]] = []
        kind = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event)
        )
        self.callback = kind(self._collect)
        options = DO_NOT_EXIT | PHONEME_EVENTS | PHONEME_IPA
        self.rate = self.library.espeak_Initialize(SYNCHRONOUS, 0, None, options)
        self.library.espeak_SetSynthCallback(self.callback)
        if hasattr(self.library, "espeak_ng_SetRandSeed"):
            self.library.espeak_ng_SetRandSeed(ctypes.c_long(1))

    def _collect(self, samples, count, events):  # type: ignore[no-untyped-def]
        if samples and count > 0:
            self.samples.append(np.ctypeslib.as_array(samples, (count,)).copy())
        i = 0
        while events[i].type != LIST_END:
            if events[i].type == PHONEME:
                self.sounds.append(
                    (events[i].name.decode("utf-8", "ignore"), events[i].audio_position / 1000)
                )
            i += 1
        return 0


@cache
def _library() -> _Library:
    return _Library()


def speak(
    text: str, voice: str, words_per_minute: int = 155, pitch: int = 50
) -> tuple[np.ndarray, int, list[tuple[str, float]]]:
    """Speak a text.

    Returns:
        float32 samples, their rate, and (IPA, start in seconds) of every sound; "" or "_" is a pause.

    Raises:
        ValueError: An unknown voice.
        MissingExtraError: No libespeak-ng.
    """
    made = _library()
    if made.library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise ValueError(f"espeak-ng has no voice {voice!r}; see espeak-ng --voices=de and --voices=variant.")
    made.library.espeak_SetParameter(RATE, words_per_minute, 0)
    made.library.espeak_SetParameter(PITCH, pitch, 0)
    made.samples, made.sounds = [], []
    data = text.encode()
    made.library.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, CHARACTERS, 0, UTF8, None, None)
    made.library.espeak_Synchronize()
    samples = np.concatenate(made.samples) if made.samples else np.zeros(0, np.int16)
    return samples.astype(np.float32) / 32768, made.rate, made.sounds


def pronounce(word: str, voice: str) -> str:
    """IPA of a word by itself."""
    return "".join(name for name, _ in speak(word, voice)[2] if not name.startswith("_"))
