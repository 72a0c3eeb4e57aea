"""The table of metrics; every one has ``score(items) -> Score`` and its settings as fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

from vivavoce.base.errors import ConfigError
from vivavoce.base.registry import Registry
from vivavoce.evaluation.items import Item
from vivavoce.evaluation.scores import Score

METRICS = Registry(
    "metric",
    {
        "wer": "vivavoce.evaluation.metrics.error_rates:WordErrorRate",
        "cer": "vivavoce.evaluation.metrics.error_rates:CharacterErrorRate",
        "bleu": "vivavoce.evaluation.metrics.translation:Bleu",
        "chrf": "vivavoce.evaluation.metrics.translation:ChrF",
        "exact_match": "vivavoce.evaluation.metrics.answers:ExactMatch",
        "contains": "vivavoce.evaluation.metrics.answers:Contains",
        "token_f1": "vivavoce.evaluation.metrics.answers:TokenF1",
        "rouge_l": "vivavoce.evaluation.metrics.answers:RougeL",
        "multiple_choice": "vivavoce.evaluation.metrics.choices:MultipleChoice",
        "instructions": "vivavoce.evaluation.metrics.instructions:Instructions",
        "trajectory_exact": "vivavoce.evaluation.metrics.trajectories:TrajectoryExact",
        "trajectory_turns": "vivavoce.evaluation.metrics.trajectories:TrajectoryTurns",
        "trajectory_edits": "vivavoce.evaluation.metrics.trajectories:TrajectoryEdits",
        "round_trip": "vivavoce.evaluation.metrics.round_trip:RoundTrip",
        "mel_distance": "vivavoce.evaluation.metrics.sound_quality:MelDistance",
        "stoi": "vivavoce.evaluation.metrics.sound_quality:Stoi",
        "pesq": "vivavoce.evaluation.metrics.sound_quality:Pesq",
        "judge": "vivavoce.evaluation.metrics.judge:RubricJudge",
    },
    group="vivavoce.metrics",
)
"""Name -> class; its settings are the fields of a dataclass."""


class Metric(Protocol):
    """Scores items."""

    @property
    def name(self) -> str:
        """As in `METRICS`."""

    def score(self, items: Sequence[Item]) -> Score:
        """Score a set of items.

        Raises:
            DataError: The set is empty, or an item lacks what the metric needs.
            MissingExtraError: The library is absent.
        """


def make_metric(name: str, **settings: Any) -> Metric:
    """Make a metric by name.

    Args:
        name: Row of `METRICS`.
        settings: Its fields.

    Raises:
        ConfigError: Unknown name or setting, or one that is missing or out of range.
    """
    made = METRICS.get(name)
    known = {f.name: f for f in dataclasses.fields(made) if f.init}
    if unknown := sorted(set(settings) - set(known)):
        raise ConfigError(f"metric {name!r} has no {', '.join(unknown)}; its settings: {', '.join(known)}.")
    empty = dataclasses.MISSING
    needed = [n for n, f in known.items() if f.default is empty and f.default_factory is empty]
    if lacking := [n for n in needed if n not in settings]:
        raise ConfigError(f"metric {name!r} needs {', '.join(lacking)}.")
    metric: Metric = made(**settings)
    return metric
