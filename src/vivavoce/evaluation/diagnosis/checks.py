"""Checks of a run's folder: each gives one finding, with the numbers it rests on."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np

from vivavoce.base.errors import DataError, VivavoceError
from vivavoce.evaluation.comparison import Comparison, compare
from vivavoce.evaluation.items import Item
from vivavoce.evaluation.metrics import make_metric
from vivavoce.evaluation.resampling import FORMULAS, Bootstrap
from vivavoce.evaluation.results import (
    Finding,
    Outcome,
    Question,
    RunRecord,
    read_outcomes,
    read_questions,
    read_run,
    write_findings,
)
from vivavoce.evaluation.scores import Score

Severity = Literal["ok", "warning", "broken"]
ORDER: tuple[Severity, ...] = ("ok", "warning", "broken")
SAME_ANSWERS = 0.5
"""Share of answers that stay the same with other audio, from which on the audio counts as unheard."""
MUCH_REFUSED, ALL_REFUSED = 0.5, 0.9
SURE = 8
"""Questions from which on losses alone decide."""
LAG_MARGIN = 0.1
"""Nats per token by which another lag must be better."""
LOST, MUCH_LOST = 0.1, 0.5
"""Nats per token that right answers may lose against the language model before."""
SLOW = 10.0
"""Times the median that makes an outlier."""


@dataclass
class Folder:
    """A run as checks see it.

    Attributes:
        run: ``run.json``.
        questions: Task -> its questions.
        outcomes: Task -> system -> id -> outcome.
        probes: ``probes.json``; empty where nothing was measured.
    """

    run: RunRecord
    questions: dict[str, list[Question]] = field(default_factory=dict)
    outcomes: dict[str, dict[str, dict[str, Outcome]]] = field(default_factory=dict)
    probes: dict[str, Any] = field(default_factory=dict)

    @property
    def tested(self) -> str:
        """The system under test."""
        return "endpoint" if any("endpoint" in systems for systems in self.outcomes.values()) else "model"

    def score(self, task: str, system: str) -> Score | None:
        """A system's score by the task's first metric, of the questions it was asked; None where there is none."""
        outcomes = self.outcomes[task].get(system, {})
        record = dict(self.run.tasks[task].metrics[0])
        items = [_item(q, outcomes[q.id]) for q in self.questions[task] if q.id in outcomes]
        try:
            return make_metric(record.pop("name"), **record).score(items)
        except VivavoceError:
            return None  # a judge or a library that is not here


def diagnose(folder: Path) -> list[Finding]:
    """Check a run, and write ``checks.json``.

    Raises:
        DataError: No run, or one that cannot be read.
    """
    read = read_folder(Path(folder))
    findings = [finding for check in CHECKS if (finding := check(read)) is not None]
    write_findings(findings, Path(folder))
    return findings


def read_folder(folder: Path) -> Folder:
    """Read all that checks need.

    Raises:
        DataError: As `read_run`, or ``probes.json`` is damaged.
    """
    found = Folder(read_run(folder))
    for task in found.run.tasks:
        place = folder / "items" / task
        if not (place / "inputs.jsonl").is_file():
            continue
        found.questions[task] = read_questions(place / "inputs.jsonl")
        files = [p for p in sorted(place.glob("*.jsonl")) if p.stem not in ("inputs", "cases")]
        found.outcomes[task] = {path.stem: read_outcomes(path) for path in files}
    path = folder / "probes.json"
    if path.is_file():
        try:
            found.probes = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{path}: {error}; delete it and evaluate again.") from None
    return found


def audio_ignored(folder: Folder) -> Finding | None:
    """Do answers follow the audio? With another question's audio, or silence, they must get worse."""
    numbers: dict[str, Any] = {}
    verdicts: list[Severity] = []
    deaf = False
    for task in folder.questions:
        systems = folder.outcomes[task]
        control = next((name for name in ("swapped", "silent") if systems.get(name)), None)
        if control is None or not systems.get(folder.tested):
            continue
        same = _same_answers(systems[folder.tested], systems[control])
        compared = _compared(folder, task, control, folder.tested)
        numbers[task] = {"control": control, "same_answers": round(same, 4), **_numbers(compared)}
        better = compared is not None and compared.better == "second"
        verdicts.append("ok" if better else "broken" if same >= SAME_ANSWERS else "warning")
    rows = [
        row for row in folder.probes.get("audio", ()) if row["own"] is not None and row["swapped"] is not None
    ]
    if len(rows) >= 2:
        gain, low, high = _mean([row["swapped"] - row["own"] for row in rows])
        numbers["loss_gained_by_audio"] = {"value": gain, "interval": [low, high], "n": len(rows)}
        if low <= 0:
            # a transcript's loss must fall; that of an answer need not where the words alone do not decide it
            deaf = (rows[0]["of"] == "transcript" and len(rows) >= SURE) or "ok" not in verdicts
            verdicts.append("broken" if deaf else "warning")
    if not verdicts:
        return None
    severity: Severity = max(verdicts, key=ORDER.index)
    if "ok" in verdicts and severity == "broken" and not deaf:
        severity = "warning"  # it does hear; in some tasks that does not help it
    words = {
        "ok": "Answers follow the audio: with another question's audio they get worse.",
        "warning": "With another question's audio the score is not surely worse; look at the task, or ask more "
        "questions.",
        "broken": "The audio is ignored: the language model makes the same of another question's audio. Look at the "
        "connector, at the place of the audio in the prompt, and at whether the encoder's output was trained on.",
    }
    return Finding("audio_ignored", severity, words[severity], numbers)


def labels_shifted(folder: Folder) -> Finding | None:
    """Is the loss of right answers smallest where it should be, at lag 0?"""
    rows = [row["lags"] for row in folder.probes.get("typed", ())]
    if len(rows) < 2:
        return None
    means = {}
    for lag in rows[0]:
        losses = [row[lag] for row in rows if row[lag] is not None]
        if losses:
            means[lag] = round(float(np.mean(losses)), 4)
    best = min(means, key=lambda lag: means[lag])
    numbers: dict[str, Any] = {"loss_by_lag": means, "n": len(rows)}
    if best == "0":
        words = "Right answers have their smallest loss at lag 0: the model predicts the next token."
        return Finding("labels_shifted", "ok", words, numbers)
    pairs = [(row["0"], row[best]) for row in rows if row[best] is not None and row["0"] is not None]
    gain, low, high = _mean([at_zero - at_best for at_zero, at_best in pairs])
    numbers["gain_at_best"] = {"lag": int(best), "value": gain, "interval": [low, high]}
    if low > LAG_MARGIN:
        words = (
            f"Labels are shifted: right answers have their smallest loss at lag {best}, not 0. The model was taught "
            f"to {'repeat what it has read' if int(best) < 0 else 'skip tokens'}; labels and inputs are moved against "
            "each other once too often or not at all."
        )
        return Finding("labels_shifted", "broken", words, numbers)
    words = (
        f"Losses at lag 0 and {best} do not differ for sure: the model may not have learned these answers."
    )
    return Finding("labels_shifted", "warning", words, numbers)


def text_head_damaged(folder: Folder) -> Finding | None:
    """Is the language model what it was, or, where nothing is known of that, does it know right answers from wrong?"""
    numbers: dict[str, Any] = {}
    verdicts: list[tuple[Severity, str]] = []
    for task in folder.questions:
        if not (folder.outcomes[task].get("base") and folder.outcomes[task].get("typed")):
            continue
        compared = _compared(folder, task, "base", "typed")
        if compared is None:
            continue
        numbers[task] = _numbers(compared)
        if compared.better == "first":
            verdicts.append(("broken", f"typed answers to {task} are worse than before speech training"))
    typed = {(r["task"], r["id"]): r for r in folder.probes.get("typed", ())}
    base = {(r["task"], r["id"]): r for r in folder.probes.get("base", ())}
    both = [key for key in typed if key in base]
    if len(both) >= 2:
        worse, low, high = _mean([typed[k]["lags"]["0"] - base[k]["lags"]["0"] for k in both])
        numbers["loss_above_base"] = {"value": worse, "interval": [low, high], "n": len(both)}
        if low > LOST:
            lost: Severity = "broken" if low > MUCH_LOST else "warning"
            verdicts.append((lost, "right answers became less likely than before speech training"))
    rows = [row for row in typed.values() if "other" in row]
    if len(rows) >= 2:
        loss = float(np.mean([row["lags"]["0"] for row in rows]))
        known, low, high = _mean([row["other"] - row["lags"]["0"] for row in rows])
        uniform = folder.probes["log_vocabulary"]
        numbers["loss"] = {"value": round(loss, 4), "uniform": round(uniform, 4)}
        numbers["right_over_wrong"] = {"value": known, "interval": [low, high], "n": len(rows)}
        if loss > uniform / 2:
            verdicts.append(("broken", "typed right answers are about as unlikely as any words"))
        elif low <= 0:
            verdicts.append(("warning", "typed right answers are no likelier than wrong ones"))
    if not numbers:
        return None
    if not verdicts:
        return Finding(
            "text_head_damaged", "ok", "Typed answers show no damage to the language model.", numbers
        )
    severity = max((v for v, _ in verdicts), key=ORDER.index)
    said = "; ".join(words for v, words in verdicts if v == severity)
    lead = "The language model is damaged: " if severity == "broken" else "The language model may have lost: "
    advice = " Look at what was trained: its head, its embeddings, its layers; and at the learning rate."
    return Finding("text_head_damaged", severity, f"{lead}{said}.{advice}", numbers)


def refuses_everything(folder: Folder) -> Finding | None:
    """Does it answer at all, and not always the same?"""
    numbers: dict[str, Any] = {}
    shares: dict[str, float] = {}
    for task in folder.questions:
        outcomes = list(folder.outcomes[task].get(folder.tested, {}).values())
        if folder.run.tasks[task].kind not in ("transcribe", "listen", "choose") or len(outcomes) < 3:
            continue
        refused = float(np.mean([not o.understood or not (o.hypothesis or "").strip() for o in outcomes]))
        numbers[task] = {"refused_or_empty": round(refused, 4)}
        if folder.run.tasks[task].kind == "listen":
            said = [o.hypothesis or "" for o in outcomes]
            rights = {q.references for q in folder.questions[task]}
            often = max(said.count(text) for text in set(said)) / len(said)
            numbers[task]["most_frequent_answer"] = round(often, 4)
            refused = max(refused, often if len(rights) > 2 else 0.0)
        shares[task] = refused
    if not shares:
        return None
    share = min(shares.values())  # a model that answers one task does not refuse everything
    worst = max(shares, key=lambda task: shares[task])
    most = shares[worst]
    severity: Severity = "broken" if share >= ALL_REFUSED else "warning" if most >= MUCH_REFUSED else "ok"
    words = {
        "ok": "It answers most spoken questions, and not all alike.",
        "warning": f"Task {worst}: {most:.0%} of its spoken questions got no answer, or all the same one.",
        "broken": f"It refuses everything: {share:.0%} or more of spoken questions got no answer, or all the same one.",
    }
    return Finding("refuses_everything", severity, words[severity], numbers)


def errors(folder: Folder) -> Finding | None:
    """Which questions ended in an error?"""
    numbers: dict[str, Any] = {}
    total, failed, first, all_of_one = 0, 0, "", False
    for task, systems in folder.outcomes.items():
        for system, outcomes in systems.items():
            faults = [o for o in outcomes.values() if o.error]
            total, failed = total + len(outcomes), failed + len(faults)
            if faults:
                numbers[f"{task}, {system}"] = {
                    "errors": len(faults),
                    "of": len(outcomes),
                    "first": faults[0].error,
                }
                first = first or f"{faults[0].id}: {faults[0].error}"
                all_of_one |= len(faults) == len(outcomes)
    if not total:
        return None
    if not failed:
        return Finding("errors", "ok", "No question ended in an error.", {"of": total})
    severity: Severity = "broken" if all_of_one else "warning"
    return Finding(
        "errors", severity, f"{failed} of {total} answers are errors; the first is {first}", numbers
    )


def latency_outliers(folder: Folder) -> Finding | None:
    """Which answers took many times as long as usual?"""
    slow: list[tuple[float, str]] = []
    numbers: dict[str, Any] = {}
    for task in folder.questions:
        times = {o.id: o.total_s for o in folder.outcomes[task].get(folder.tested, {}).values() if o.total_s}
        if len(times) < 5:
            continue
        usual = median(times.values())
        numbers[task] = {"median_s": round(usual, 4), "longest_s": round(max(times.values()), 4)}
        slow += [(s, f"{task}/{i} {s:.2f} s") for i, s in times.items() if s > SLOW * usual and s > 1.0]
    if not numbers:
        return None
    if not slow:
        return Finding(
            "latency_outliers", "ok", f"No answer took {SLOW:g} times the median or longer.", numbers
        )
    named = ", ".join(words for _, words in sorted(slow, reverse=True)[:5])
    words = f"{len(slow)} answers took more than {SLOW:g} times the median of their task: {named}."
    return Finding("latency_outliers", "warning", words, numbers)


CHECKS: tuple[Callable[[Folder], Finding | None], ...] = (
    audio_ignored, labels_shifted, text_head_damaged, refuses_everything, errors, latency_outliers,
)  # fmt: skip
"""Each gives None where there is nothing to judge by."""


def _item(question: Question, outcome: Outcome) -> Item:
    return Item(
        question.id, outcome.hypothesis, question.references, question.language, question.question,
        choices=question.choices, checks=question.checks, cluster=question.cluster,
    )  # fmt: skip


def _same_answers(first: Mapping[str, Outcome], second: Mapping[str, Outcome]) -> float:
    ids = [i for i in first if i in second]
    return float(np.mean([first[i].hypothesis == second[i].hypothesis for i in ids])) if ids else 0.0


def _compared(folder: Folder, task: str, first: str, second: str) -> Comparison | None:
    """Second against first, on the questions that both were asked."""
    scores = [folder.score(task, system) for system in (first, second)]
    if scores[0] is None or scores[1] is None:
        return None
    common = set(scores[0].ids) & set(scores[1].ids)
    try:
        kept = [
            s.subset([i for i, name in enumerate(s.ids) if name in common]) for s in scores if s is not None
        ]
        return compare(kept[0], kept[1])
    except DataError:
        return None


def _numbers(compared: Comparison | None) -> dict[str, Any]:
    if compared is None:
        return {}
    ends = [round(compared.low, 4), round(compared.high, 4)]
    return {
        "metric": compared.metric,
        "difference": round(compared.difference, 4),
        "interval": ends,
        "n": compared.n,
    }


def _mean(values: Sequence[float]) -> tuple[float, float, float]:
    """(mean, low, high) by bootstrap."""
    rows = np.array([(value, 1.0) for value in values])
    low, high = Bootstrap().ends(FORMULAS["ratio"](Bootstrap().totals(rows, np.arange(len(rows)))))
    return round(float(np.mean(values)), 4), round(low, 4), round(high, 4) if math.isfinite(high) else high
