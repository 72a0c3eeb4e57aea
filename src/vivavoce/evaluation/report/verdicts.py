"""Comparisons put in words: does the speech LLM beat its cascade, and did it keep its text?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from vivavoce.base.errors import DataError
from vivavoce.evaluation.comparison import Comparison, compare
from vivavoce.evaluation.report.scoring import TaskScores
from vivavoce.evaluation.report.wording import (
    SYSTEM_WORDS,
    gap_words,
    number,
    show_n,
    show_score,
)
from vivavoce.evaluation.scores import Score

FEWEST = 10
"""Items below which no difference is claimed: the bootstrap of so few is too sure of itself."""

COMPARED_WITH = SYSTEM_WORDS | {
    "cascade": "its cascade",
    "typed": "its ceiling, its own LLM given the true words",
    "original": "the original recordings, heard by the same recogniser",
}
Claim = Literal["better", "worse", "undecided", "missing"]

NO_LOSS = "the interval holds no loss to speak of"


@dataclass(frozen=True)
class Verdict:
    """What a comparison says.

    Attributes:
        about: "cascade" ("original" of tasks of kind "speak"), "typed", "silent", "swapped" or "retention".
        claim: Of the model against the other; "missing" where there is nothing to compare with.
        words: A sentence.
        metric: Compared by.
        unit: Of the metric.
        gain: Of the model, positive where it is better.
        low: Lower end of the paired interval of the gain.
        high: Upper end.
        n: Items that count for both.
        p: As in `Comparison`.
    """

    about: str
    claim: Claim
    words: str
    metric: str = ""
    unit: str = ""
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    p: float | None = None


def gain_of(comparison: Comparison, better: str) -> tuple[float, float, float]:
    """Difference (second minus first) and its ends, turned so that more is better."""
    if better == "higher":
        return comparison.difference, comparison.low, comparison.high
    return -comparison.difference, -comparison.high, -comparison.low


def claim_of(low: float, high: float, n: int) -> Claim:
    """What an interval of a gain allows to say."""
    if n < FEWEST or low <= 0 <= high:
        return "undecided"
    return "better" if low > 0 else "worse"


def compare_systems(
    about: str, other: Score, model: Score, words: str, subject: str = "the model"
) -> Verdict:
    """Compare the model with another system on the items that both answered.

    Args:
        about: As in `Verdict`.
        other: Score of the system it is compared with.
        model: Score of the model by the same metric.
        words: What the other system is.
        subject: What the model is called.
    """
    try:
        found = compare(*_common(other, model))
    except DataError as error:
        said = f"{subject} and {words} cannot be compared: {error}"
        return Verdict(about, "missing", said, model.metric, model.unit)
    gain, low, high = gain_of(found, model.better)
    claim = claim_of(low, high, found.n)
    ends, size = f"[{number(low, model.unit)}, {number(high, model.unit)}]", gap_words(gain, model.unit)
    if claim == "better":
        said = f"{subject} is {size} better than {words} {ends}, n {found.n}"
    elif claim == "worse":
        lost = f"[{number(-high, model.unit)}, {number(-low, model.unit)}]"
        said = f"{subject} loses to {words} by {size} {lost}, n {found.n}"
    else:
        seen = f"{'+' if gain > 0 else ''}{number(gain, model.unit)} {size.split(' ', 1)[1]} {ends}"
        said = f"no difference can be claimed between {subject} and {words}: {seen}, {show_n(found.n)}"
        if found.n < FEWEST:
            said += f"; {FEWEST} items or more are needed for a claim"
    return Verdict(about, claim, f"{said}.", found.metric, model.unit, gain, low, high, found.n, found.p)


def task_verdicts(task: TaskScores, systems: Mapping[str, str]) -> list[Verdict]:
    """The verdicts of a spoken task by its deciding metric: cascade first, then ceiling and controls.

    Args:
        task: Its scores.
        systems: Name -> what it is, from the run's record.
    """
    subject = task.answers.subject
    model = task.deciding(subject)
    if model is None or task.answers.typed:
        return []
    called = SYSTEM_WORDS[subject or "model"]
    verdicts = []
    first = "original" if task.answers.record.kind == "speak" else "cascade"
    for about in (first, "typed", "silent", "swapped"):
        other = task.deciding(about)
        if other is not None:
            named = systems.get(about, "").partition(" (")[0] if about == "cascade" else ""
            if task.answers.record.kind == "transcribe":
                named = named.partition(", then ")[0]  # nothing follows the recogniser
            words = named or COMPARED_WITH[about]
            verdicts.append(compare_systems(about, other, model, words, called))
        elif about == "cascade":
            said = "no cascade was run, so this score cannot be told from a recogniser in front of a text model's."
            verdicts.append(Verdict(about, "missing", said))
    return verdicts


def retention_verdict(task: TaskScores, no_base: str) -> Verdict | None:
    """What speech training did to the text of a typed task; None where the model did not answer it.

    Args:
        task: Its scores.
        no_base: Why there is no language model from before.
    """
    model, base = task.deciding(task.answers.subject), task.deciding("base")
    if model is None:
        return None
    now = f"{show_score(model)}, {show_n(model.n)}"
    if base is None:
        why = (
            no_base or "no run of the language model before speech training was asked for (--retention BASE)"
        )
        said = (
            f"there is no 'before': {why}. The text score now is {now}; what it lost or won cannot be told."
        )
        return Verdict("retention", "missing", said, model.metric, model.unit, n=model.n)
    try:
        first, second = _common(base, model)
        found = compare(first, second)
    except DataError as error:
        said = f"before and after cannot be compared: {error}"
        return Verdict("retention", "missing", said, model.metric, model.unit)
    gain, low, high = gain_of(found, model.better)
    claim = claim_of(low, high, found.n)
    unit = model.unit
    states = f"{show_score(first)} before, {show_score(second)} after"
    size = gap_words(gain, unit)
    if claim == "worse":
        lost = f"{size} lost [{number(-high, unit)}, {number(-low, unit)}]"
        said = f"text was damaged by speech training: {states}, {lost}, n {found.n}."
    elif claim == "better":
        said = (
            f"text got better: {states}, {size} won [{number(low, unit)}, {number(high, unit)}], n {found.n}."
        )
    else:
        change = f"{'+' if gain > 0 else ''}{number(gain, unit)} [{number(low, unit)}, {number(high, unit)}]"
        shown = gap_words(min(low, 0.0), unit)
        ruled = f"a loss of up to {shown} is not ruled out" if shown != gap_words(0.0, unit) else NO_LOSS
        said = f"no loss of text can be claimed: {states}, change {change}, {show_n(found.n)}; {ruled}."
    return Verdict("retention", claim, said, found.metric, unit, gain, low, high, found.n, found.p)


def _common(first: Score, second: Score) -> tuple[Score, Score]:
    """Both scores on the items that stand in both; a run that was stopped has fewer of one."""
    if set(first.ids) == set(second.ids):
        return first, second
    both = set(first.ids) & set(second.ids)
    return (
        first.subset([i for i, name in enumerate(first.ids) if name in both]),
        second.subset([i for i, name in enumerate(second.ids) if name in both]),
    )
