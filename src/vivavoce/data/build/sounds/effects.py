"""What `augment` can do to a recording. Each effect is a dataclass of settings that is called with a sound.

Every range is [lowest, highest]; a number is drawn from it, rounded to thousandths and then told in the labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from vivavoce.audio.augment import Waveform
from vivavoce.base.errors import ConfigError
from vivavoce.base.registry import Registry
from vivavoce.data.build.sounds.backgrounds import Folders

EFFECTS = Registry(
    "effect",
    {
        "band": "vivavoce.data.build.sounds.channel_effects:Band",
        "clip": "vivavoce.data.build.sounds.channel_effects:Clip",
        "codec": "vivavoce.data.build.sounds.channel_effects:Codec",
        "dropouts": "vivavoce.data.build.sounds.channel_effects:Dropouts",
        "gain": "vivavoce.data.build.sounds.channel_effects:Gain",
        "mix": "vivavoce.data.build.sounds.place_effects:Mix",
        "noise": "vivavoce.data.build.sounds.place_effects:Noise",
        "room": "vivavoce.data.build.sounds.place_effects:Room",
        "speed": "vivavoce.data.build.sounds.channel_effects:Speed",
    },
    group="vivavoce.effects",
)
LABEL = "augment"


@dataclass(frozen=True)
class Around:
    """What effects may reach beside the sound.

    Attributes:
        folders: Recordings that settings name.
        others: Sample rate -> what others say in the same row.
    """

    folders: Folders
    others: Callable[[int], Sequence[Waveform]]


@dataclass(frozen=True)
class Changed:
    """A changed sound: float32 [S], what was done, and how many times as fast it goes."""

    waveform: Waveform
    told: dict[str, Any]
    factor: float = 1.0


@dataclass(frozen=True)
class Effect:
    """The part that all effects share.

    Attributes:
        p: How often.
    """

    p: float = 1.0

    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {}
    choices: ClassVar[Mapping[str, Sequence[str]]] = {}

    def __post_init__(self) -> None:
        faults = [] if 0 <= self.p <= 1 else [f"p is {self.p}, wanted 0 to 1"]
        for name, (low, high) in self.ranges.items():
            faults += range_faults(name, getattr(self, name), low, high)
        for name, known in self.choices.items():
            value = getattr(self, name)
            given = [value] if isinstance(value, str) else list(value)
            faults += [
                f"{name} has {v!r}, wanted some of {', '.join(known)}" for v in given if v not in known
            ]
            faults += [] if given else [f"{name} is empty, wanted some of {', '.join(known)}"]
        faults += self.faults()
        if faults:
            raise ConfigError("; ".join(faults))

    def faults(self) -> list[str]:
        """What else is wrong with the settings."""
        return []

    def prepare(self, folders: Folders) -> None:
        """See that everything is there that the effect needs.

        Raises:
            ConfigError: It is not.
        """
        folder = getattr(self, "folder", None)
        if folder:
            folders[folder]

    def __call__(
        self, sound: Waveform, sample_rate: int, rng: np.random.Generator, around: Around
    ) -> Changed | None:
        """Change a sound, float32 [S]; None if there is nothing that could be done to it."""
        raise NotImplementedError


def range_faults(name: str, given: Sequence[float], low: float, high: float) -> list[str]:
    """What is wrong with a range; both ends lie within ``low`` and ``high``."""
    if len(given) == 2 and low <= given[0] <= given[1] <= high:
        return []
    return [f"{name} is {list(given)}, wanted [lowest, highest] within {low:g} and {high:g}"]


def draw(rng: np.random.Generator, limits: Sequence[float]) -> float:
    """A number of a range, in thousandths."""
    return round(float(rng.uniform(limits[0], limits[1])), 3)


def draw_whole(rng: np.random.Generator, limits: Sequence[int]) -> int:
    """A whole number of a range."""
    return int(rng.integers(limits[0], limits[1] + 1))


def draw_name(rng: np.random.Generator, names: Sequence[str]) -> str:
    """One of some names."""
    return names[int(rng.integers(len(names)))]


def codes_dropped(tokens: Mapping[str, Any]) -> dict[str, str]:
    """What the label of a recording says when codes of the old one went."""
    return {"codes_dropped": str(tokens.get("codec"))}
