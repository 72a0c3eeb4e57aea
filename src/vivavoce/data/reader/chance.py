"""Random numbers by formula: the same on every machine and with every version of NumPy, at any index at once."""

from __future__ import annotations

import hashlib

import numpy as np

_STEP, _FIRST, _SECOND = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def seed_of(*names: object) -> int:
    """A 64-bit seed that depends on the names only, and on their order."""
    text = "\x1f".join(map(str, names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def numbers(seed: int, start: int, stop: int) -> np.ndarray:
    """Random numbers ``start`` to ``stop`` of a seed's endless sequence, uint64 [stop - start].

    Source: SplitMix64 (Steele, Lea and Flood, 2014), by index.
    """
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + (np.arange(start, stop, dtype=np.uint64) + np.uint64(1)) * _STEP
        z = (z ^ (z >> np.uint64(30))) * _FIRST
        z = (z ^ (z >> np.uint64(27))) * _SECOND
        return z ^ (z >> np.uint64(31))


def uniform(seed: int, start: int, stop: int) -> np.ndarray:
    """The same numbers as float64 in [0, 1)."""
    return (numbers(seed, start, stop) >> np.uint64(11)) * 2.0**-53


def permutation(count: int, seed: int) -> np.ndarray:
    """A permutation of ``range(count)``, int64 [count]."""
    return np.argsort(numbers(seed, 0, count), kind="stable")
