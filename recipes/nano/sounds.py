"""Sounds without words that the ears must refuse.

Where it can be, they are made otherwise than the noises of training, so that refusing them is more than knowing a
generator; white, pink and brown noise are what they are.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from speech_data import RATE

from vivavoce.audio.augment import babble, colored_noise, rms

NOISE_RATE = 16_000
NOISES = ("white noise", "pink noise", "brown noise", "hum", "rain", "chords", "silence", "babble")


def make_noise(kind: str, index: int, voices: Sequence[np.ndarray] = ()) -> tuple[np.ndarray, int]:
    """One sound without words, 0.3 to 3 s at -50 to -12 dB; the same at every run.

    Args:
        kind: One of NOISES.
        index: Which one; the same sound at every run.
        voices: Speech for babble, at ``speech_data.RATE``.
    """
    rng = np.random.default_rng([zlib.crc32(kind.encode()), index])
    rate = RATE if kind == "babble" else NOISE_RATE
    size = int(rng.uniform(0.3, 3.0) * rate)
    if kind == "silence":  # digital silence, and what a good microphone hears in a quiet room
        return (rng.standard_normal(size) * (0.0, 1e-5, 1e-4)[index % 3]).astype(np.float32), rate
    exponent = {"white noise": 0.0, "pink noise": 1.0, "brown noise": 2.0}.get(kind)
    if exponent is not None:
        wave = colored_noise(size, exponent, rng)
    elif kind == "babble":
        wave = babble(size, voices, rng)
    else:
        wave = {"hum": _hum, "rain": _rain, "chords": _chords}[kind](np.arange(size) / rate, rng)
    return (wave / rms(wave) * 10 ** (rng.uniform(-50, -12) / 20)).clip(-1, 1).astype(np.float32), rate


def _hum(t: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mains transformer or a fan: a low tone and odd harmonics over a little brown noise."""
    base = rng.choice([50.0, 60.0, float(rng.uniform(90, 240))])
    tones = sum(np.sin(2 * np.pi * base * k * t + rng.uniform(0, 6)) / k**1.3 for k in (1, 2, 3, 5, 7, 9))
    return (tones + 0.2 * colored_noise(len(t), 2.0, rng)).astype(np.float32)


def _rain(t: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Drops at random times, each a short ringing click of its own pitch."""
    out = np.zeros(len(t))
    for _ in range(max(3, int(len(t) / NOISE_RATE * rng.uniform(10, 120)))):
        at, tail = int(rng.integers(len(t))), t[:240]
        drop = np.sin(2 * np.pi * rng.uniform(800, 6000) * tail) * np.exp(-tail * rng.uniform(300, 1500))
        out[at : at + 240] += (rng.exponential() * drop)[: len(out) - at]
    return (out + 1e-4 * rng.standard_normal(len(t))).astype(np.float32)


def _chords(t: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Plucked chords with vibrato, changing two to six times a second."""
    out, at = np.zeros(len(t)), 0
    while at < len(t):
        now = t[: min(len(t) - at, int(NOISE_RATE / rng.uniform(2, 6)))]
        base = 110 * 2 ** (rng.integers(0, 30) / 12)
        for step in rng.choice([0, 3, 4, 5, 7, 9, 12], size=3, replace=False):
            bend = 0.004 * np.sin(2 * np.pi * 5.5 * now)
            pitch = 2 * np.pi * base * 2 ** (step / 12) * (now + bend / 50)
            out[at : at + len(now)] += sum(np.sin(k * pitch) / k**1.5 for k in range(1, 7)) * np.exp(-3 * now)
        at += len(now)
    return out.astype(np.float32)
