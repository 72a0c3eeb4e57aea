"""A run that was stopped anywhere and goes on leaves what one that was never stopped leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.evaluation.stand_ins import Echo

from vivavoce.audio.files import flac_bytes
from vivavoce.base.errors import ConfigError, ModelError
from vivavoce.evaluation.results import Question, read_outcomes, read_run
from vivavoce.evaluation.run import Progress, RunSettings, run_evaluation, runner
from vivavoce.evaluation.run.answerers import Answer
from vivavoce.evaluation.run.systems import control_system, speech_system, swap
from vivavoce.evaluation.run.team import Team
from vivavoce.evaluation.tasks.task import Case, Task, ask_aloud

ROOT = Path(__file__).parents[3]


def tones(count: int = 10, kind: str = "listen") -> Task:
    """Recordings of different lengths, each with its own answer."""

    def cases() -> Iterator[Case]:
        for i in range(count):
            wave = 0.1 * np.sin(np.arange(1600 * (1 + i % 4) + 16 * i) * (i + 1) / 20).astype(np.float32)
            asked = Question(f"t{i}", (f"answer {i}",), f"words {i}", language="en")
            yield Case(asked, ask_aloud(asked.id, {"bytes": flac_bytes(wave, 16000)}, f"words {i}"))

    return Task("tones", kind, cases, ({"name": "exact_match"},))  # type: ignore[arg-type]


def with_echo(
    monkeypatch: pytest.MonkeyPatch, echo: Any, names: tuple[str, ...] = ("model", "swapped")
) -> None:
    """Let runs have these systems of a stand-in."""

    def make_team(model: Any, tasks: Any, stored: Any, wanted: Any, settings: Any) -> Team:
        swapped = {t.name: swap(stored[t.name], settings.seed) for t in tasks}
        made = {"model": speech_system(echo), "swapped": control_system(echo, "swapped", swapped)}
        return Team([made[name] for name in names], echo, None, swapped)

    monkeypatch.setattr(runner, "make_team", make_team)


def lines(out: Path) -> dict[str, list[Any]]:
    """All lines of a run, in the order of ids; every line is whole."""
    found = {}
    for path in sorted((out / "items").rglob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        found[f"{path.parent.name}/{path.name}"] = sorted(rows, key=lambda r: r["id"])
    return found


def test_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_echo(monkeypatch, Echo())
    seen: list[Progress] = []
    run_evaluation("echo", [tones()], [], tmp_path, RunSettings(batch_size=4, probes=False), seen.append)
    found = lines(tmp_path)
    assert [len(found[f"tones/{name}.jsonl"]) for name in ("model", "swapped", "inputs")] == [10, 10, 10]
    assert [p.done for p in seen if p.system == "model"] == [4, 8, 10]
    durations = {row["id"]: row["duration_s"] for row in found["tones/inputs.jsonl"]}
    order = [durations[i] for i in read_outcomes(tmp_path / "items/tones/model.jsonl")]
    assert order == sorted(order)  # questions of like length are asked together
    assert read_run(tmp_path).tasks["tones"].kind == "listen"


@pytest.mark.parametrize("stop_at", [0, 3, 5, 12])
def test_resume_is_never_stopped(stop_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = RunSettings(batch_size=3, probes=False)
    with_echo(monkeypatch, Echo())
    run_evaluation("echo", [tones()], [], tmp_path / "whole", settings)

    class StoppedError(Exception):
        pass

    class Stopping(Echo):
        def chat(self, messages: Any, aloud: bool = False) -> Answer:
            if len(self.given) == stop_at:
                raise StoppedError
            return super().chat(messages, aloud)

    with_echo(monkeypatch, Stopping())
    with pytest.raises(StoppedError):
        run_evaluation("echo", [tones()], [], tmp_path / "stopped", settings)
    kept = sum(len(v) for k, v in lines(tmp_path / "stopped").items() if "model" in k or "swapped" in k)
    assert stop_at - 3 < kept <= stop_at
    echo = Echo()
    with_echo(monkeypatch, echo)
    run_evaluation("echo", [tones()], [], tmp_path / "stopped", settings)
    assert lines(tmp_path / "stopped") == lines(tmp_path / "whole")
    assert len(echo.given) == 20 - kept  # what was answered is not asked again
    run_evaluation("echo", [tones()], [], tmp_path / "stopped", settings)
    assert len(echo.given) == 20 - kept


@pytest.mark.parametrize("cut", [1, 30, 120])
def test_torn_line(cut: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = RunSettings(probes=False)
    with_echo(monkeypatch, Echo())
    run_evaluation("echo", [tones()], [], tmp_path, settings)
    whole, path = lines(tmp_path), tmp_path / "items/tones/model.jsonl"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - cut])
    run_evaluation("echo", [tones()], [], tmp_path, settings)
    assert lines(tmp_path) == whole


def test_killed_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL while a system is being asked, then on in another process."""
    program = f"""
import sys, time
sys.path[:0] = [{str(ROOT / "src")!r}, {str(ROOT)!r}]
import pytest
from pathlib import Path
from tests.evaluation.run.test_runner import tones, with_echo
from tests.evaluation.stand_ins import Echo
from vivavoce.evaluation.run import RunSettings, run_evaluation
class Slow(Echo):
    def chat(self, messages, aloud=False):
        time.sleep(0.05)
        return super().chat(messages, aloud)
with_echo(pytest.MonkeyPatch(), Slow())
run_evaluation("echo", [tones(24)], [], Path(sys.argv[1]), RunSettings(batch_size=2, probes=False))
"""
    out, path = tmp_path / "killed", tmp_path / "killed/items/tones/model.jsonl"
    process = subprocess.Popen([sys.executable, "-c", program, str(out)])
    begin = time.monotonic()
    while not (path.is_file() and path.stat().st_size) and time.monotonic() < begin + 120:
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = path.read_bytes().count(b"\n")
    assert 2 <= kept < 24
    echo = Echo()
    with_echo(monkeypatch, echo)
    settings = RunSettings(batch_size=2, probes=False)
    run_evaluation("echo", [tones(24)], [], out, settings)
    assert len(echo.given) == 48 - kept
    run_evaluation("echo", [tones(24)], [], tmp_path / "whole", settings)
    assert lines(out) == lines(tmp_path / "whole")


def test_errors_of_single_questions_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Echo):
        def chat(self, messages: Any, aloud: bool = False) -> Answer:
            answer = super().chat(messages, aloud)
            if len(self.given) % 4 == 0:
                raise ModelError("no room")
            return answer

    with_echo(monkeypatch, Failing(), ("model",))
    run_evaluation("echo", [tones()], [], tmp_path, RunSettings(probes=False))
    outcomes = read_outcomes(tmp_path / "items/tones/model.jsonl")
    failed = [o for o in outcomes.values() if o.error]
    assert len(outcomes) == 10 and len(failed) == 2
    assert all(o.hypothesis is None and "no room" in str(o.error) for o in failed)


def test_another_run_in_the_same_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_echo(monkeypatch, Echo())
    run_evaluation("echo", [tones()], [], tmp_path, RunSettings(probes=False))
    with pytest.raises(ConfigError, match="seed"):
        run_evaluation("echo", [tones()], [], tmp_path, RunSettings(probes=False, seed=1))
    with pytest.raises(ConfigError, match="model"):
        run_evaluation("other", [tones()], [], tmp_path, RunSettings(probes=False))


def test_threads_answer_each_question_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_echo(monkeypatch, Echo(), ("model",))
    run_evaluation("echo", [tones(30)], [], tmp_path / "many", RunSettings(probes=False, workers=4))
    run_evaluation("echo", [tones(30)], [], tmp_path / "one", RunSettings(probes=False))
    assert lines(tmp_path / "many") == lines(tmp_path / "one")
