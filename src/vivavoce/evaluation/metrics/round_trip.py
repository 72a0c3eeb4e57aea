"""Is speech understood: a recogniser writes down what a system spoke, and its errors are counted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vivavoce.base.errors import ConfigError, VivavoceError
from vivavoce.evaluation.items import Item, checked
from vivavoce.evaluation.metrics.error_rates import WordErrorRate
from vivavoce.evaluation.scores import Score

Recogniser = Callable[[np.ndarray, int], str]
"""(float [S], Hz) -> the words heard."""


@dataclass(frozen=True, kw_only=True)
class RoundTrip:
    """Word error of what a recogniser hears in ``audio``, against the one reference.

    The recogniser has errors of its own: score the original recordings, or another system, with the same one.
    Items without audio, and those in which it fails with an error of this package, count as silence
    ("no_answer", "recogniser_failed").

    Attributes:
        recogniser: Writes down speech.
        recogniser_name: Name and version, for the record.
        errors: How words are compared.
    """

    recogniser: Recogniser
    recogniser_name: str
    errors: WordErrorRate = dataclasses.field(default_factory=WordErrorRate)

    name = "round_trip"

    def __post_init__(self) -> None:
        if not self.recogniser_name.strip():
            raise ConfigError("recogniser_name is empty; a word error says nothing without who listened.")

    def score(self, items: Sequence[Item]) -> Score:
        """Score items; what the system wrote (``hypothesis``) is not used.

        Raises:
            DataError: As `WordErrorRate.score`.
        """
        items = checked(items, self.name)
        heard, failed = [], 0
        for item in items:
            words = None
            if item.audio is not None:
                try:
                    words = self.recogniser(item.audio.waveform, item.audio.sample_rate)
                except VivavoceError:
                    failed += 1
                    words = ""
            heard.append(dataclasses.replace(item, hypothesis=words))
        score = self.errors.score(heard)
        counts = {**score.counts, **({"recogniser_failed": failed} if failed else {})}
        settings = {**score.settings, "recogniser": self.recogniser_name, "errors": self.errors.name}
        return dataclasses.replace(score, metric=self.name, counts=counts, settings=settings)
