"""Two runs compared: the paired bootstrap's own figures, and different questions refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.evaluation.report.folders import answered, make_folder, share, spoken_questions, write_task

from vivavoce.base.errors import DataError
from vivavoce.evaluation.comparison import compare
from vivavoce.evaluation.report.comparing import claim_words, compare_runs
from vivavoce.evaluation.report.report import read_report
from vivavoce.evaluation.results import read_run, write_run


@pytest.fixture
def runs(tmp_path):
    return make_folder(tmp_path / "a", model=20, after=36), make_folder(tmp_path / "b", model=30, after=20)


def test_rows_equal_the_paired_bootstrap(runs):
    found = compare_runs(*runs)
    rows = {(r.task, r.part, r.first.metric): r for r in found.rows}
    scores = [read_report(folder).models[0].tasks[0].scores.scores["model"]["token_f1"] for folder in runs]
    wanted = compare(*scores)
    row = rows["questions", "all", "token_f1"]
    assert row.comparison == wanted
    assert (row.gain, row.low, row.high) == (wanted.difference, wanted.low, wanted.high)
    assert (row.claim, claim_words(row)) == ("better", "better")
    assert rows["typed", "all", "exact_match"].claim == "worse"
    assert rows["noisy", "all", "wer"].claim == "undecided"
    assert rows["noisy_snr0", "all", "wer"].gain == 0.0


def test_slices_are_compared_on_their_items(runs):
    rows = {(r.task, r.part): r for r in compare_runs(*runs).rows}
    german = rows["questions", "language: de"]
    assert german.comparison.n == 10
    assert german.gain == pytest.approx(0.3)  # of 0, 4, ... 36: 5 are below 20, 8 below 30
    assert ("questions", "speaker: speaker 1") in rows


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"references": ("other",)}, "references is"),
        ({"question": "else"}, "question is"),
        ({"duration_s": 9.0}, "duration_s is"),
        ({"snr_db": 5.0}, "snr_db is"),
        ({"id": "else"}, "2 in only one, first 'else'"),
    ],
)
def test_different_questions_are_refused(runs, change, words):
    questions = spoken_questions(40)
    questions[3] = replace(questions[3], **change)
    write_task(runs[1], "questions", questions, {"model": answered(questions, share(40, 30))})
    with pytest.raises(DataError, match="questions") as error:
        compare_runs(*runs)
    assert words in str(error.value)
    assert "--seed" in str(error.value)


def test_fewer_questions_are_refused(tmp_path, runs):
    with pytest.raises(DataError, match=r"40 questions in .* and 12 in .*28 in only one"):
        compare_runs(runs[0], make_folder(tmp_path / "c", count=12, model=6, cascade=6, base=6, after=6))


def test_a_folder_of_several_models_is_refused(tmp_path, runs):
    with pytest.raises(DataError, match=r"holds 2 models; name one of .*/a, "):
        compare_runs(tmp_path, runs[0])


def test_a_task_scored_in_two_ways_is_left_out_and_said_so(runs):
    run = read_run(runs[1])
    noisy = replace(run.tasks["noisy"], metrics=({"name": "wer", "normaliser": "letters"},))
    write_run(replace(run, tasks={**run.tasks, "noisy": noisy}), runs[1])
    found = compare_runs(*runs)
    assert [
        sentence for sentence in found.left_out if "noisy: wer: the settings differ in normaliser" in sentence
    ]
    assert "questions" in {row.task for row in found.rows}
    assert "noisy" not in {row.task for row in found.rows}
