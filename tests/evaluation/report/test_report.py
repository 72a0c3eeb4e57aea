"""Reports of folders made by hand: exact figures, and what their words claim."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from tests.evaluation.report.folders import answered, make_folder, share, spoken_questions, write_task

from vivavoce.base.errors import DataError
from vivavoce.evaluation.comparison import compare
from vivavoce.evaluation.report.latency import measure_times
from vivavoce.evaluation.report.making import make_report, to_json
from vivavoce.evaluation.report.report import read_report
from vivavoce.evaluation.report.verdicts import FEWEST
from vivavoce.evaluation.report.worst import word_diff
from vivavoce.evaluation.results import Finding, Outcome, Question, read_run, write_run
from vivavoce.evaluation.scores import finish


def record_of(folder):
    make_report(folder)
    return json.loads((folder / "report.json").read_text())


def test_exact_figures(tmp_path):
    record = record_of(make_folder(tmp_path / "run"))
    task = record["tasks"]["questions"]
    speech = task["speech"]["exact_match"]
    assert (speech["value"], speech["n"], speech["interval_by"]) == (0.75, 40, "Wilson")
    z = 1.959963984540054
    middle = (0.75 + z * z / 80) / (1 + z * z / 40)
    half = z / (1 + z * z / 40) * math.sqrt(0.75 * 0.25 / 40 + z * z / 6400)
    assert speech["interval"] == pytest.approx([middle - half, middle + half])
    assert speech["settings"]["normaliser"]
    assert task["cascade"]["exact_match"]["value"] == 0.5
    assert task["typed"]["exact_match"]["value"] == 39 / 40
    assert set(task["speech"]) == {"exact_match", "token_f1"}
    assert record["environment"]["hardware"]["cores"] == 2
    assert (record["environment"]["seed"], record["broken"]) == (7, False)


def test_json_has_the_promised_keys_and_an_interval_beside_every_value(tmp_path):
    record = record_of(make_folder(tmp_path / "run"))
    assert {"model", "tasks", "retention", "latency", "findings", "environment", "report"} <= set(record)
    assert {"speech", "cascade", "verdict"} <= set(record["tasks"]["questions"])

    def check(value, path):
        if isinstance(value, dict):
            if "value" in value and "worst" not in path:
                assert len(value["interval"]) == 2, path
            for key, inner in value.items():
                check(inner, f"{path}/{key}")
        elif isinstance(value, list):
            for inner in value:
                check(inner, path)

    check(record, "")


def test_verdict_says_better_with_the_paired_interval(tmp_path):
    report = read_report(make_folder(tmp_path / "run", model=30, cascade=20))
    task = report.models[0].tasks[0]
    paired = compare(task.scores.deciding("cascade"), task.scores.deciding("model"))
    verdict = task.verdicts[0]
    assert (verdict.about, verdict.claim) == ("cascade", "better")
    assert (verdict.gain, verdict.low, verdict.high) == (paired.difference, paired.low, paired.high)
    ends = f"[{100 * paired.low:.1f}, {100 * paired.high:.1f}]"
    assert verdict.words == (
        f"the model is 25.0 points better than pocketsphinx 5.1.1 + its own LLM {ends}, n 40."
    )


@pytest.mark.parametrize(
    ("model", "cascade", "claim", "words"),
    [
        (20, 30, "worse", "the model loses to pocketsphinx 5.1.1 + its own LLM by 25.0 points ["),
        (30, 29, "undecided", "no difference can be claimed between the model and pocketsphinx"),
        (30, None, "missing", "no cascade was run"),
    ],
)
def test_other_verdicts(tmp_path, model, cascade, claim, words):
    report = read_report(make_folder(tmp_path / "run", model=model, cascade=cascade))
    verdict = report.models[0].tasks[0].verdicts[0]
    assert (verdict.about, verdict.claim) == ("cascade", claim)
    assert verdict.words.startswith(words)


def test_lower_is_better_turns_the_gain(tmp_path):
    folder = make_folder(tmp_path / "run")
    questions = [
        replace(q, id=f"n{i}", references=("red green",), language="en")
        for i, q in enumerate(spoken_questions(40))
    ]
    right = share(40, 30)
    write_task(
        folder,
        "noisy",
        questions,
        {"model": answered(questions, right), "cascade": answered(questions, share(40, 10))},
    )
    task = next(t for t in read_report(folder).models[0].tasks if t.name == "noisy")
    verdict = task.verdicts[0]
    paired = compare(task.scores.deciding("cascade"), task.scores.deciding("model"))
    assert paired.difference < 0
    assert (verdict.claim, verdict.gain) == ("better", -paired.difference)
    assert (verdict.low, verdict.high) == (-paired.high, -paired.low)


def test_few_items_claim_nothing(tmp_path):
    few = FEWEST - 1
    report = read_report(make_folder(tmp_path / "run", count=few, model=few, cascade=0, base=few, after=0))
    spoken, typed = report.models[0].tasks[0].verdicts[0], report.models[0].tasks[-1].verdicts[0]
    assert spoken.low == spoken.high == 1.0
    assert (spoken.claim, typed.claim) == ("undecided", "undecided")
    assert f"{FEWEST} items or more" in spoken.words


def test_controls_and_ceiling_have_verdicts(tmp_path):
    folder = make_folder(tmp_path / "run")
    questions = spoken_questions(40)
    for system in ("silent", "swapped"):
        write_task(folder, "questions", questions, {system: answered(questions, share(40, 2))})
    found = {v.about: v for v in read_report(folder).models[0].tasks[0].verdicts}
    assert list(found) == ["cascade", "typed", "silent", "swapped"]
    assert (found["typed"].claim, found["silent"].claim) == ("worse", "better")
    assert "given silence" in found["silent"].words


@pytest.mark.parametrize(
    ("base", "after", "claim", "words"),
    [
        (36, 20, "worse", "text was damaged by speech training: 90.0 % [76.9, 96.0] before, 50.0 %"),
        (20, 36, "better", "text got better: "),
        (36, 35, "undecided", "no loss of text can be claimed: "),
        (36, 36, "undecided", "no loss of text can be claimed: "),
    ],
)
def test_retention_in_words(tmp_path, base, after, claim, words):
    report = read_report(make_folder(tmp_path / "run", base=base, after=after))
    verdict = report.models[0].tasks[-1].verdicts[0]
    assert (verdict.about, verdict.claim) == ("retention", claim)
    assert verdict.words.startswith(words)
    assert ("is not ruled out" in verdict.words) == (claim == "undecided" and base != after)
    assert ("the interval holds no loss" in verdict.words) == (base == after)
    assert "up to 0.0" not in verdict.words


def test_retention_without_a_before_says_why(tmp_path):
    folder = make_folder(tmp_path / "run", base=None, no_base="the language model was trained from scratch")
    record = record_of(folder)["retention"]["typed"]
    assert record["before"] is None
    assert record["after"]["exact_match"]["value"] == 35 / 40
    assert record["verdict"].startswith(
        "there is no 'before': the language model was trained from scratch. The text score now is 87.5 %"
    )


def test_slices_have_their_own_figures_and_mark_few(tmp_path):
    parts = record_of(make_folder(tmp_path / "run"))["tasks"]["questions"]["slices"]
    found = {(p["by"], p["name"], p["system"]): p for p in parts}
    assert found["language", "de", "speech"]["n"] == 10
    assert found["language", "de", "speech"]["value"] == 0.8  # 0, 4, ... 28 of 0 to 36
    assert found["language", "de", "speech"]["few"]
    assert not found["language", "en", "speech"]["few"]
    assert {by for by, _, _ in found} == {"length, s", "language", "speaker", "category"}
    assert found["category", "days", "cascade"]["n"] == 14


def test_noise_is_part_of_its_task(tmp_path):
    record = record_of(make_folder(tmp_path / "run"))
    assert list(record["tasks"]) == ["questions", "noisy"]
    levels = record["tasks"]["noisy"]["noise"]
    assert [(n["snr_db"], n["speech"]["wer"]["value"]) for n in levels] == [(0.0, 0.75), (10.0, 0.25)]
    sweep = read_report(tmp_path / "run").models[0].tasks[1].sweep
    assert sweep.levels == [0.0, 10.0, None]
    assert [score.value for score in sweep.scores["cascade"]] == [0.5, 0.5, 0.5]


def test_worst_items_are_the_worst_and_show_the_difference(tmp_path):
    worst = record_of(make_folder(tmp_path / "run", count=60))["tasks"]["questions"]["worst"]
    assert [w["id"] for w in worst] == [f"q{i:03d}" for i in range(30, 50)]
    assert worst[0]["diff"] == [["missing", "answer 30"], ["added", "wrong q030"]]
    noisy = read_report(tmp_path / "run").models[0].tasks[1].noisy[0].worst
    assert noisy[0].diff == [("same", "red"), ("missing", "green blue white")]


def test_diff_takes_the_nearest_reference_and_characters_where_there_are_no_spaces():
    assert word_diff(("a b c", "The cat sat."), "the dog sat", "en") == [
        ("same", "the"), ("missing", "cat"), ("added", "dog"), ("same", "sat"),
    ]  # fmt: skip
    assert word_diff(("你好吗",), "你很吗", "zh") == [
        ("same", "你"), ("missing", "好"), ("added", "很"), ("same", "吗"),
    ]  # fmt: skip
    assert word_diff((), "x", None) == [("added", "x")]


def test_latency_quantiles():
    times = [0.1 * i for i in range(1, 102)]
    rows = [Outcome(str(i), "x", total_s=t, spoken_s=2 * t) for i, t in enumerate(times)]
    found = measure_times([*rows, Outcome("none")])
    assert set(found) == {"total_s", "rtf"}
    total = found["total_s"]
    assert (total.n, total.p50.value, total.largest) == (101, pytest.approx(5.1), pytest.approx(10.1))
    assert total.p95.value == pytest.approx(np.quantile(times, 0.95))
    assert total.p50.low < 5.1 < total.p50.high
    assert found["rtf"].p95.value == pytest.approx(0.5)


def test_findings_come_worst_first(tmp_path):
    findings = [
        Finding("a", "ok", "fine"),
        Finding("b", "broken", "it is deaf"),
        Finding("c", "warning", "slow"),
    ]
    record = record_of(make_folder(tmp_path / "run", findings=findings))
    assert [f["severity"] for f in record["findings"]] == ["broken", "warning", "ok"]
    assert record["broken"]


def test_a_stopped_run_is_reported_and_said_so(tmp_path):
    folder = make_folder(tmp_path / "run")
    path = folder / "items" / "questions" / "model.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:25]) + '{"id": "q02')
    record = record_of(folder)["tasks"]["questions"]
    assert record["speech"]["exact_match"]["n"] == 25
    assert "model: 25 of 40 questions are answered" in record["unscored"][0]
    assert "n 25" in record["verdict"]


def test_what_needs_a_model_to_score_is_read_or_said_to_be_missing(tmp_path):
    folder = make_folder(tmp_path / "run")
    run = read_run(folder)
    task = replace(run.tasks["questions"], metrics=({"name": "exact_match"}, {"name": "judge"}))
    write_run(replace(run, tasks={**run.tasks, "questions": task}), folder)
    assert "judge: it needs a model to score" in " ".join(record_of(folder)["tasks"]["questions"]["unscored"])
    score = read_report(folder).models[0].tasks[0].scores.deciding("model")
    marks = finish(
        "judge", score.ids, score.clusters, score.statistics * 3, score.values, {}, {}, "points", "higher", "ratio",
        score.bootstrap, {},
    )  # fmt: skip
    path = folder / "scores" / "questions" / "model.judge.json"
    path.parent.mkdir(parents=True)
    path.write_text(to_json(marks.record()))
    assert record_of(folder)["tasks"]["questions"]["speech"]["judge"]["n"] == 40


def test_several_models_stand_side_by_side(tmp_path):
    make_folder(tmp_path / "both" / "one", model=30, name="one")
    make_folder(tmp_path / "both" / "two", model=10, name="two")
    record = record_of(tmp_path / "both")
    assert list(record["models"]) == ["one", "two"]
    assert record["models"]["two"]["tasks"]["questions"]["speech"]["exact_match"]["value"] == 0.25


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds no run\.json"):
        make_report(tmp_path)
    folder = make_folder(tmp_path / "run")
    (folder / "run.json").write_text("{")
    with pytest.raises(DataError, match="delete it"):
        make_report(folder)


@pytest.mark.parametrize(("metric", "worst"), [("wer", ["q2", "q0", "q1"]), ("token_f1", ["q2", "q0", "q1"])])
def test_worst_means_the_other_end_for_error_rates(tmp_path, metric, worst):
    folder = make_folder(tmp_path / "run")
    run = read_run(folder)
    settings = {"spellings": "none"} if metric == "wer" else {}
    task = replace(run.tasks["questions"], metrics=({"name": metric, **settings},))
    write_run(replace(run, tasks={"questions": task}), folder)
    words = ("red green blue white",)
    questions = [Question(f"q{i}", words, language="en") for i in range(4)]
    said = ["red green x y", "red green blue y", "x y z x", words[0]]
    write_task(
        folder, "questions", questions, {"model": [Outcome(f"q{i}", text) for i, text in enumerate(said)]}
    )
    assert [w["id"] for w in record_of(folder)["tasks"]["questions"]["worst"]] == worst
