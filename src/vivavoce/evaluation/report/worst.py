"""The items a model answered worst, with the difference word by word."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vivavoce.evaluation.metrics.normalisers import UNSPACED
from vivavoce.evaluation.report.scoring import TaskScores
from vivavoce.evaluation.results import Outcome, Question

MOST = 20
Change = Literal["same", "missing", "added"]


@dataclass(frozen=True)
class Poor:
    """An item that was answered badly.

    Attributes:
        question: What was asked.
        outcome: What came.
        value: Of the item by the deciding metric.
        diff: Pieces of reference and answer, see `word_diff`.
        others: System -> what it answered to the same.
    """

    question: Question
    outcome: Outcome
    value: float
    diff: list[tuple[Change, str]]
    others: dict[str, str | None]


def worst_items(task: TaskScores, most: int = MOST) -> list[Poor]:
    """The items with the worst values, worst first; faultless ones are never among them."""
    subject = task.answers.subject
    score = task.deciding(subject)
    if score is None or subject is None:
        return []
    best = max if score.better == "higher" else min
    faultless = {"share": 1.0, "points": 100.0}.get(score.unit) if score.better == "higher" else 0.0
    values = [(v, i) for i, v in enumerate(score.values) if v is not None and v != faultless]
    sign = 1 if best is max else -1
    values.sort(key=lambda pair: (sign * pair[0], pair[1]))
    questions = {q.id: q for q in task.answers.questions}
    made = []
    for value, place in values[:most]:
        name = score.ids[place]
        question, outcome = questions[name], task.answers.outcomes[subject][name]
        shown = ("cascade", "typed", "base")
        answered = {s: o[name] for s, o in task.answers.outcomes.items() if s in shown and name in o}
        others = {system: other.hypothesis for system, other in answered.items()}
        diff = word_diff(question.references, outcome.hypothesis or "", question.language)
        made.append(Poor(question, outcome, value, diff, others))
    return made


def word_diff(references: Sequence[str], answer: str, language: str | None) -> list[tuple[Change, str]]:
    """Compare an answer with the nearest reference, word by word, or by character where words are not spaced.

    Case and punctuation do not count. Pieces of the answer are "same" or "added", those that only the reference
    has are "missing".
    """
    joined = "" if (language or "").split("-")[0] in UNSPACED else " "
    given = _words(answer, joined)
    best: difflib.SequenceMatcher[str] | None = None
    wanted: list[str] = []
    for reference in references or ("",):
        words = _words(reference, joined)
        matcher = difflib.SequenceMatcher(None, _plain(words), _plain(given), autojunk=False)
        if best is None or matcher.ratio() > best.ratio():
            best, wanted = matcher, words
    assert best is not None
    pieces: list[tuple[Change, str]] = []
    for kind, a, b, c, d in best.get_opcodes():
        if kind == "equal":
            pieces.append(("same", joined.join(given[c:d])))
            continue
        if b > a:
            pieces.append(("missing", joined.join(wanted[a:b])))
        if d > c:
            pieces.append(("added", joined.join(given[c:d])))
    return pieces


def _words(text: str, joined: str) -> list[str]:
    return text.split() if joined else [c for c in text if not c.isspace()]


def _plain(words: Sequence[str]) -> list[str]:
    return ["".join(c for c in w.casefold() if c.isalnum()) or w for w in words]
