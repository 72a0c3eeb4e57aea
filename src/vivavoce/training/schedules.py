"""Learning rates over a run, by name: ``build_schedule({"type": "cosine", "warmup_ratio": 0.1}, 1000)``.

A schedule is a pure function of the number of updates done, so that a resumed run needs no state of it. Steps count
as in transformers: the first update has step 0, with a warmup its factor is ``warmup_from``, which is 0 by default.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from vivavoce.base.errors import ConfigError
from vivavoce.base.records import read_record
from vivavoce.base.registry import Registry

if TYPE_CHECKING:
    from torch.optim import Optimizer

SCHEDULES = Registry(
    "schedule",
    {
        "constant": "vivavoce.training.schedules:Constant",
        "linear": "vivavoce.training.schedules:Linear",
        "cosine": "vivavoce.training.schedules:Cosine",
        "cosine_salmonn": "vivavoce.training.schedules:SalmonnCosine",
        "wsd": "vivavoce.training.schedules:WarmupStableDecay",
        "exponential": "vivavoce.training.schedules:Exponential",
    },
    group="vivavoce.schedules",
)


def build_schedule(record: Mapping[str, Any], num_steps: int) -> Schedule:
    """Make the schedule of a run.

    Args:
        record: ``{"type": name in SCHEDULES, ...its settings}``.
        num_steps: Updates of the whole run, 1 or more.

    Raises:
        ConfigError: No such schedule, unknown settings, or values out of range; all at once.
    """
    cls = SCHEDULES.get(str(record.get("type")))
    settings = {name: value for name, value in record.items() if name != "type"}
    made: Schedule = read_record(cls, {**settings, "num_steps": num_steps}, "schedule")
    return made


def set_learning_rate(optimizer: Optimizer, factor: float) -> None:
    """Set the rate of every group to ``factor`` times the rate that the group was built with."""
    for group in optimizer.param_groups:
        set_group_rate(group, group.setdefault("initial_lr", float(group["lr"])) * factor)


def set_group_rate(group: dict[str, Any], rate: float) -> None:
    """Set the rate of one group, which some optimizers keep as a tensor that must stay the same object."""
    if hasattr(group["lr"], "fill_"):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


@dataclass(frozen=True, kw_only=True)
class Constant:
    """Warmup, then one rate; the base of the others.

    Attributes:
        num_steps: Updates of the whole run.
        warmup_steps: Updates in which the rate rises linearly.
        warmup_ratio: The same as a share of ``num_steps``, rounded up; one of the two.
        warmup_from: Factor of the first update, where there is a warmup.
    """

    num_steps: int
    warmup_steps: int = 0
    warmup_ratio: float = 0.0
    warmup_from: float = 0.0

    def __post_init__(self) -> None:
        faults = self._faults()
        if faults:
            raise ConfigError("; ".join(faults))

    @property
    def warmup(self) -> int:
        """Updates of the warmup."""
        return self.warmup_steps or math.ceil(self.num_steps * self.warmup_ratio)

    def factor(self, step: int) -> float:
        """What the learning rate is multiplied by at the update after ``step`` others; steps after the end give
        what the last gave or less, never more.
        """
        if step < self.warmup:
            return self.warmup_from + (1 - self.warmup_from) * step / self.warmup
        return self._after_warmup(step)

    def _after_warmup(self, step: int) -> float:
        return 1.0

    def _progress(self, step: int) -> float:
        """Share of the updates after the warmup that are done, 0 to 1."""
        return min(1.0, (step - self.warmup) / max(1, self.num_steps - self.warmup))

    def _faults(self) -> list[str]:
        faults = []
        if self.num_steps < 1:
            faults.append(f"num_steps is {self.num_steps}, wanted 1 or more")
        if self.warmup_steps < 0 or not 0 <= self.warmup_ratio <= 1 or not 0 <= self.warmup_from <= 1:
            faults.append(
                f"warmup_steps is {self.warmup_steps}, warmup_ratio {self.warmup_ratio}, warmup_from "
                f"{self.warmup_from}; wanted steps of 0 or more, the others from 0 to 1"
            )
        elif self.warmup_steps and self.warmup_ratio:
            faults.append(
                f"warmup_steps is {self.warmup_steps} and warmup_ratio {self.warmup_ratio}, wanted one of the two"
            )
        return faults


Schedule = Constant


@dataclass(frozen=True, kw_only=True)
class Linear(Constant):
    """Warmup, then a straight line down to ``min_ratio`` after the last update.

    Attributes:
        min_ratio: Factor at the end, 0 to 1.
    """

    min_ratio: float = 0.0

    def _after_warmup(self, step: int) -> float:
        return 1 - (1 - self.min_ratio) * self._progress(step)

    def _faults(self) -> list[str]:
        faults = super()._faults()
        if not 0 <= self.min_ratio <= 1:
            faults.append(f"min_ratio is {self.min_ratio}, wanted 0 to 1")
        return faults


@dataclass(frozen=True, kw_only=True)
class Cosine(Linear):
    """Warmup, then half a cosine down to ``min_ratio`` after the last update."""

    def _after_warmup(self, step: int) -> float:
        return _cosine(self._progress(step), self.min_ratio)


@dataclass(frozen=True, kw_only=True)
class SalmonnCosine(Cosine):
    """SALMONN's: warmup from 1e-6 to 3e-5, and a cosine to 1e-5 that has run from step 0 on when the warmup ends.

    So the rate falls by a jump where the warmup ends: by 0.2 % in the published run of 90,000 updates.

    Source: SALMONN's training configuration and schedule.
    """

    warmup_steps: int = 3000
    warmup_from: float = 1e-6 / 3e-5
    min_ratio: float = 1e-5 / 3e-5

    @property
    def warmup(self) -> int:
        """Updates of the warmup; ``warmup_ratio`` goes before the default of ``warmup_steps``."""
        return math.ceil(self.num_steps * self.warmup_ratio) if self.warmup_ratio else self.warmup_steps

    def _after_warmup(self, step: int) -> float:
        return _cosine(min(1.0, step / self.num_steps), self.min_ratio)

    def _faults(self) -> list[str]:
        return [fault for fault in super()._faults() if "one of the two" not in fault]


@dataclass(frozen=True, kw_only=True)
class WarmupStableDecay(Linear):
    """Warmup, one rate for most of the run, then down to ``min_ratio`` after the last update.

    A run can be prolonged from any checkpoint before the decay, which a cosine does not allow.

    Attributes:
        decay_steps: Updates of the decay.
        decay_ratio: The same as a share of ``num_steps``, rounded up; used where ``decay_steps`` is 0.
        decay: Its form: "linear", "cosine", or "sqrt", one minus the root of the progress.

    Source: MiniCPM (Hu et al. 2024, arXiv 2404.06395); the form "sqrt": Hägele et al. 2024, arXiv 2405.18392.
    """

    decay_steps: int = 0
    decay_ratio: float = 0.2
    decay: Literal["linear", "cosine", "sqrt"] = "linear"

    def _after_warmup(self, step: int) -> float:
        length = self._decay_length
        progress = min(1.0, max(0.0, (step - self.num_steps + length) / max(1, length)))
        if self.decay == "cosine":
            return _cosine(progress, self.min_ratio)
        left = 1 - (math.sqrt(progress) if self.decay == "sqrt" else progress)
        return self.min_ratio + (1 - self.min_ratio) * left

    @property
    def _decay_length(self) -> int:
        return self.decay_steps or math.ceil(self.num_steps * self.decay_ratio)

    def _faults(self) -> list[str]:
        faults = super()._faults()
        if self.decay_steps < 0 or not 0 <= self.decay_ratio <= 1:
            faults.append(
                f"decay_steps is {self.decay_steps}, decay_ratio {self.decay_ratio}; wanted 0 or more, and 0 to 1"
            )
        elif not faults and self.warmup + self._decay_length > self.num_steps:
            faults.append(
                f"a warmup of {self.warmup} and a decay of {self._decay_length} steps are more than the run's "
                f"{self.num_steps}"
            )
        return faults


@dataclass(frozen=True, kw_only=True)
class Exponential(Constant):
    """Warmup, then the same share of the rate is lost with every update, however long the run is.

    Attributes:
        decay: Factor per update; DAC's and SNAC's, which halves the rate in 173,000 updates.

    Source: Kumar et al. 2023 (DAC), training configuration.
    """

    decay: float = 0.999996

    def _after_warmup(self, step: int) -> float:
        return float(self.decay ** (min(step, self.num_steps) - self.warmup))

    def _faults(self) -> list[str]:
        faults = super()._faults()
        if not 0 < self.decay <= 1:
            faults.append(f"decay is {self.decay}, wanted above 0, up to 1")
        return faults


def _cosine(progress: float, least: float) -> float:
    """Half a cosine: 1 at progress 0, ``least`` at 1."""
    return least + (1 - least) * 0.5 * (1 + math.cos(math.pi * progress))
