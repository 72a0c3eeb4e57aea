"""Names for measured numbers: scales with fixed edges, so that a name never hangs on other recordings.

The words are those of Data-Speech and Parler-TTS where these have them. Where their edges come from one set of
recordings, the ones here are round numbers; ``measured_scales`` makes others from a described set.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.base.records import read_record
from vivavoce.data.conversation import Conversation


@dataclass(frozen=True)
class Scale:
    """Names for ranges of a number.

    Attributes:
        edges: Rising; a number that is an edge belongs to the range above it.
        names: One more than edges.
    """

    edges: tuple[float, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.edges) + 1 or not all(name.strip() for name in self.names):
            raise ConfigError(
                f"{len(self.names)} names for {len(self.edges)} edges, wanted one more than edges"
            )
        if any(not low < high for low, high in pairwise(self.edges)):
            raise ConfigError(f"edges are {list(self.edges)}, wanted rising numbers")

    def name(self, number: float) -> str:
        """The range that a number is in."""
        return self.names[bisect_right(self.edges, number)]

    @property
    def middle(self) -> str | None:
        """The name in the middle, if the names are odd in number."""
        return self.names[len(self.names) // 2] if len(self.names) % 2 else None


def _seven(low: str, middle: str, high: str) -> tuple[str, ...]:
    return (f"very {low}", low, f"slightly {low}", middle, f"slightly {high}", high, f"very {high}")


_RATE = _seven("slowly", "moderate speed", "fast")
_PITCH = _seven("low-pitch", "moderate pitch", "high-pitch")
SCALES: dict[str, Scale] = {
    "phones_per_second": Scale((6.5, 8.5, 10.5, 14, 16, 19), _RATE),
    "letters_per_second": Scale((7.5, 10, 12.5, 17, 19.5, 23), _RATE),
    "signs_per_second": Scale((2.5, 3.3, 4.1, 5.6, 6.5, 8), _RATE),
    "pitch": Scale((90, 115, 140, 170, 200, 235), _PITCH),
    "pitch_male": Scale((82, 99, 116, 133, 150, 167), _PITCH),
    "pitch_female": Scale((142, 163, 185, 206, 227, 249), _PITCH),
    "speech_monotony": Scale(
        (1.2, 2.2, 3.2, 4.5),
        ("very monotone", "monotone", "slightly expressive and animated", "expressive and animated",
         "very expressive and animated"),
    ),
    "noise": Scale((5, 10, 15, 22, 30, 40), _seven("noisy", "balanced in clarity", "clean")),
    "loudness": Scale((-45, -35, -28, -20, -16, -12), _seven("quiet", "moderate volume", "loud")),
    "bandwidth": Scale((2800, 4300, 8500), ("muffled", "telephone-band", "wideband", "full-band")),
    "duration": Scale((1, 4, 12, 30), ("very short", "short", "medium-length", "long", "very long")),
    "dynamics": Scale((6, 15, 30), ("steady", "slightly varying", "varying", "strongly varying")),
    "brightness": Scale((300, 800, 2000, 4000), ("very dark", "dark", "balanced", "bright", "very bright")),
    "tempo": Scale((60, 85, 110, 140, 175), ("very slow", "slow", "moderate", "lively", "fast", "very fast")),
}  # fmt: skip
"""By aspect; speaking rate by what it counts, pitch by the speaker's sex where that is known."""

ASPECTS: dict[str, tuple[str, ...]] = {
    "pitch": ("utterance_pitch_mean",),
    "speaking_rate": ("phones_per_second", "letters_per_second", "signs_per_second"),
    "speech_monotony": ("pitch_spread_semitones",),
    "noise": ("snr",),
    "loudness": ("level_db",),
    "bandwidth": ("bandwidth_hz",),
    "duration": ("duration_s",),
    "dynamics": ("dynamics_db",),
    "brightness": ("centroid_hz",),
    "tempo": ("tempo_bpm",),
}
"""Aspect -> labels with the number that it names, the first that is there."""

MEASURED = (*dict.fromkeys(label for labels in ASPECTS.values() for label in labels), *ASPECTS)
"""All labels that a described recording may have, beside "description", "gender" and those of Parler."""


def read_scales(given: Mapping[str, Any]) -> dict[str, Scale]:
    """The scales with some replaced.

    Args:
        given: Name -> ``{"edges", "names"}``, one of them or both.

    Raises:
        ConfigError: No such scale, or not one more name than edges.
    """
    scales = dict(SCALES)
    for name, record in given.items():
        if name not in SCALES:
            raise ConfigError(f"scales has {name!r}, wanted some of {', '.join(SCALES)}")
        if not isinstance(record, Mapping):
            raise ConfigError(f"scales.{name} is {record!r}, wanted an object with edges or names")
        usual = {"edges": SCALES[name].edges, "names": SCALES[name].names}
        scales[name] = read_record(Scale, {**usual, **record}, f"scales.{name}")
    return scales


def scale_of(aspect: str, label: str, gender: str | None) -> str:
    """Name of the scale for a number: ``label`` tells what was counted, ``gender`` whose pitch it is."""
    if aspect == "speaking_rate":
        return label
    return f"pitch_{gender}" if aspect == "pitch" and gender is not None else aspect


def name_numbers(
    numbers: Mapping[str, Any], gender: str | None, scales: Mapping[str, Scale]
) -> dict[str, str]:
    """Aspect -> the name of its number, for all numbers that are there."""
    names = {}
    for aspect, labels in ASPECTS.items():
        label = next((label for label in labels if label in numbers), None)
        if label is not None:
            names[aspect] = scales[scale_of(aspect, label, gender)].name(numbers[label])
    return names


def measured_scales(rows: Iterable[Conversation], least: int = 50) -> dict[str, dict[str, list[float]]]:
    """Edges by which the recordings of a described set would fall into equally many of each name.

    They are for the setting ``scales`` of `describe`, whose results stay independent of other rows that way.

    Args:
        rows: With labels of `describe`.
        least: Numbers that a scale is made of at least; scales with fewer are left out.

    Raises:
        DataError: No scale has so many.
    """
    seen: dict[str, list[float]] = {}
    for part in (part for row in rows for part in row.audio_parts()):
        for aspect, labels in ASPECTS.items():
            label = next((label for label in labels if label in part.labels), None)
            if label is not None:
                scale = scale_of(aspect, label, part.labels.get("gender"))
                seen.setdefault(scale, []).append(float(part.labels[label]))
    made = {}
    for name, numbers in sorted(seen.items()):
        shares = np.arange(1, len(SCALES[name].names)) / len(SCALES[name].names)
        edges = [round(float(edge), 2) for edge in np.quantile(numbers, shares)]
        if len(numbers) >= least and len(set(edges)) == len(edges):
            made[name] = {"edges": edges}
    if not made:
        raise DataError(f"no scale has {least} different recordings; run describe on more of them first.")
    return made
