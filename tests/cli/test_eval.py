"""``vivavoce eval``: forms of the command, its JSON, reports and comparisons of folders made by hand, nano itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest
from tests.cli.running import SOURCE
from tests.evaluation.report.folders import make_folder

from vivavoce.base.errors import ConfigError
from vivavoce.cli.eval_config import read_config
from vivavoce.evaluation.results import Finding

can_speak = pytest.mark.skipif(find_spec("espeakng_loader") is None, reason="needs espeak-ng")
KEYS = ("cascade", "retention", "latency", "interval")


@pytest.fixture
def runner(monkeypatch):
    """The runner replaced by folders made by hand; gives the calls."""
    import vivavoce.evaluation.diagnosis as diagnosis
    import vivavoce.evaluation.run.runner as room

    calls = []

    def run_evaluation(model, tasks, systems, out, settings, progress):
        calls.append((model, tasks, systems, str(out), settings))
        make_folder(out, name=model)

    def run_evaluations(models, tasks, systems, out, settings, progress):
        for model in models:
            run_evaluation(model, tasks, systems, out / model, settings, progress)
        return {model: out / model for model in models}

    monkeypatch.setattr(room, "run_evaluation", run_evaluation)
    monkeypatch.setattr(room, "run_evaluations", run_evaluations)
    monkeypatch.setattr(diagnosis, "diagnose", lambda folder: [])
    return calls


@pytest.mark.parametrize("form", [["eval", "nano"], ["eval", "run", "nano"], ["eval", "--seed", "0", "nano"]])
def test_run_may_be_left_out(run, runner, form):
    outcome = run(*form, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["model"] == "nano"
    assert outcome.json["report"] == "eval-nano/report.html"


def test_options_reach_the_runner(run, runner):
    run(
        "eval", "m", "--out", "d", "--tasks", "a, b", "--cascade", "pocketsphinx+own", "--retention", "base",
        "--noise", "--limit", "5", "--seed", "3", "--twin", "--endpoint", "http://host/v1/", "--json",
    )  # fmt: skip
    model, tasks, systems, out, settings = runner[0]
    assert (model, tasks, systems, out) == ("openai:http://host/v1#m", ["a", "b"], (), "d")
    assert (settings.cascade, settings.base, settings.limit, settings.seed) == (
        "pocketsphinx+own",
        "base",
        5,
        3,
    )
    assert (settings.snr_db, settings.source) == ((20.0, 15.0, 10.0, 5.0, 0.0), "twin")


def test_a_file_says_the_same_and_options_win(run, runner, tmp_path):
    (tmp_path / "eval.yaml").write_text(
        "models: nano\ntasks: [nano_typed]\nlimit: 9\nseed: 2\nnoise: [10]\nout: o\n"
    )
    assert run("eval", "--config", "eval.yaml", "--limit", "4", "--json").code == 0
    _, tasks, _, out, settings = runner[0]
    assert (tasks, out, settings.limit, settings.seed, settings.snr_db) == (
        ["nano_typed"],
        "o",
        4,
        2,
        (10.0,),
    )


@pytest.mark.parametrize(
    "line", ["{name: calls, data: my.jsonl, view: asr, metric: wer}", "calls: {data: my.jsonl, view: asr}"]
)
def test_a_task_of_ones_own_is_one_line(tmp_path, line):
    (tmp_path / "eval.yaml").write_text(f"models: [nano]\ntasks:\n  - nano_typed\n  - {line}\n")
    row = {
        "id": "r",
        "messages": [{"role": "user", "content": [{"type": "audio", "audio": "a.wav", "transcript": "hi"}]}],
    }
    (tmp_path / "my.jsonl").write_text(json.dumps(row) + "\n")
    named, task = read_config(tmp_path / "eval.yaml", {}).made_tasks()
    assert named == "nano_typed"
    assert (task.name, task.kind, task.metrics) == ("calls", "transcribe", ({"name": "wer"},))
    assert [case.question.references for case in task.cases()] == [("hi",)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("modles: [nano]", "did you mean 'models'"),
        ("[1]", "wanted keys"),
        ("{", "cannot read"),
        ("limit: 3", "no model"),
    ],
)
def test_files_that_are_wrong_say_so(tmp_path, text, words):
    (tmp_path / "eval.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_config(tmp_path / "eval.yaml", {})


def test_no_model_is_one_error(run):
    assert run("eval", "--limit", "3").is_one_error("no model", "vivavoce eval nano")
    assert run("eval", "nano", "--codec", "nano").is_one_error("--codec measures a codec")


def test_several_models_stand_side_by_side(run, runner):
    outcome = run("eval", "one", "two", "--json")
    assert list(outcome.json["models"]) == ["one", "two"]
    assert outcome.json["report"] == "eval-models/report.html"


def test_report_on_the_terminal(run, tmp_path):
    findings = [Finding("audio_ignored", "broken", "it does not hear"), Finding("x", "ok", "fine")]
    make_folder(tmp_path / "run", findings=findings)
    outcome = run("eval", "report", "run")
    assert outcome.code == 0
    lines = outcome.text.splitlines()
    assert lines[0] == "BROKEN  audio ignored: it does not hear"
    assert any(line.split()[:5] == ["questions", "model", "exact_match", "75.0", "%"] for line in lines)
    assert any(
        line.startswith("questions: the model is 25.0 points better than pocketsphinx") for line in lines
    )
    assert any(line.startswith("typed: no loss of text can be claimed") for line in lines)
    assert any(line.startswith("noisy at 0 dB: ") for line in lines)
    assert lines[-1] == "report  run/report.html"
    assert (tmp_path / "run" / "report.html").is_file()
    assert run("eval", "report", "none").is_one_error("run.json")


def test_compare_says_who_is_better_and_refuses_other_questions(run, tmp_path):
    make_folder(tmp_path / "a", model=20)
    make_folder(tmp_path / "b", model=30)
    make_folder(tmp_path / "c", count=12, model=6, cascade=6, base=6, after=6)
    found = run("eval", "compare", "a", "b", "--json").json
    row = next(
        r for r in found["rows"] if (r["task"], r["part"], r["metric"]) == ("questions", "all", "exact_match")
    )
    assert (row["gain"]["value"], row["claim"]) == (0.25, "better")
    low, high = row["gain"]["interval"]
    assert 0 < low < 0.25 < high
    told = run("eval", "compare", "a", "b")
    assert "+25.0" in told.text
    assert "no difference can be claimed" in told.text
    assert "about 1 in 20" in told.err
    assert run("eval", "compare", "a", "c").is_one_error("questions", "--limit")


def test_tasks_are_listed(run):
    rows = run("eval", "tasks", "--json").json
    assert "nano_questions" in [row["name"] for row in rows["tasks"]]
    assert "nano_typed" in rows["suites"]["nano"]
    assert "nano_questions" in run("eval", "tasks").text


@can_speak
def test_codec_of_ones_own(run, tmp_path, codec_folder, tone):
    (tmp_path / "clips").mkdir()
    tone.rename(tmp_path / "clips" / "tone.wav")
    found = run("eval", "--codec", codec_folder, "--recordings", "clips", "--out", "c", "--json").json
    assert found["clips"] == 1
    assert found["scores"]["mel_distance"]["n"] == 1
    assert [level["size"] for level in found["levels"]] == [found["levels"][0]["size"]] * 2
    assert (tmp_path / "c" / "report.html").is_file()


def eval_nano(folder, *more, timeout):
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "NO_COLOR": "1"}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "vivavoce", "eval", "nano", "--out", str(folder), "--json", *more],
        env=environment, capture_output=True, timeout=timeout, check=True,
    )  # fmt: skip
    return json.loads(done.stdout), done.stdout.decode(), time.monotonic() - began


def check_nano(found, text, folder):
    assert [key for key in KEYS if f'"{key}"' not in text] == []
    task = found["tasks"]["nano_questions"]
    assert 0 <= task["speech"]["exact_match"]["value"] <= 1
    assert task["cascade"]["exact_match"]["n"] == task["speech"]["exact_match"]["n"]
    assert task["verdict"]
    assert "there is no 'before'" in found["retention"]["nano_typed"]["verdict"]
    assert found["latency"]["nano_questions"]["model"]["first_audio_s"]["p50"]["value"] > 0
    assert not found["broken"]
    assert (folder / "report.html").is_file()


@can_speak
def test_eval_nano_end_to_end(tmp_path):
    found, text, _ = eval_nano(
        tmp_path / "n", "--limit", "2", "--tasks", "nano_questions,nano_typed", timeout=150
    )
    check_nano(found, text, tmp_path / "n")


@can_speak
@pytest.mark.slow
def test_eval_nano_whole_in_three_minutes(tmp_path):
    found, text, seconds = eval_nano(tmp_path / "n", timeout=400)
    check_nano(found, text, tmp_path / "n")
    assert seconds < 180
