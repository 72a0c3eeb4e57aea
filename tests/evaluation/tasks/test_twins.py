"""The twin of every task goes through the task's own reader and view, to stored questions, systems and a score."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.evaluation.stand_ins import Echo

from vivavoce.audio.synthesis import has_synthesizer
from vivavoce.base.errors import ConfigError
from vivavoce.evaluation.items import Item
from vivavoce.evaluation.metrics import METRICS, make_metric
from vivavoce.evaluation.run.stored import StoredCase, stored_cases
from vivavoce.evaluation.run.systems import APPLIES, control_system, speech_system, swap, text_system
from vivavoce.evaluation.tasks import SUITES, TASKS, expand, make_task
from vivavoce.evaluation.tasks.task import Task, TaskOptions

pytestmark = pytest.mark.skipif(not has_synthesizer("espeak"), reason="needs espeak-ng")
TWINS = [name for name in TASKS if name not in ("own", "lm_eval")]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("twins")


def asked(name: str, cache: Path, out: Path) -> tuple[Task, list[StoredCase]]:
    task = make_task(name, TaskOptions(source="twin", limit=3, cache=cache))
    return task, stored_cases(task, out)


@pytest.mark.parametrize("name", TWINS)
def test_twin_end_to_end(name: str, cache: Path, tmp_path: Path) -> None:
    task, cases = asked(name, cache, tmp_path)
    assert 2 <= len(cases) <= 3
    assert task.twin or name.startswith(("nano", "retention"))
    for case in cases:
        clips = case.clips()
        assert bool(clips) == (task.kind in ("transcribe", "listen", "choose"))
        assert all(len(clip.waveform) > 0.2 * clip.sample_rate for clip in clips)
        assert (case.question.audio is not None) == (bool(clips) or task.kind == "speak")
        assert case.question.references or case.question.checks
        if task.kind == "transcribe":
            assert case.texts == list(case.question.references)
    echo = Echo()
    systems = [
        speech_system(echo, "model" if task.kind != "read" else "endpoint"),
        text_system(echo, "typed"),
    ]
    systems.append(control_system(echo, "swapped", {task.name: swap(cases, 0)}))
    for system in systems:
        if task.kind not in APPLIES[system.name]:
            continue
        given = [system.answer(case, task) for case in cases]
        outcomes = [g.outcome for g in given]
        assert all(o.hypothesis for o in outcomes) and [o.id for o in outcomes] == [
            c.question.id for c in cases
        ]
        assert (task.kind == "speak") <= all(g.sound is not None for g in given)
        items = [
            Item(q.id, o.hypothesis, q.references, q.language, q.question, choices=q.choices, checks=q.checks)
            for q, o in zip([c.question for c in cases], outcomes, strict=True)
        ]
        for record in task.metrics:
            assert record["name"] in METRICS
            if record["name"] != "judge":  # asks a model
                settings = {k: v for k, v in record.items() if k != "name"}
                assert make_metric(record["name"], **settings).score(items).n == len(items)


@pytest.mark.parametrize("name", ["llama_questions", "librispeech_clean"])
def test_right_answers_score_full(name: str, cache: Path, tmp_path: Path) -> None:
    task, cases = asked(name, cache, tmp_path)
    items = [Item(c.question.id, c.question.references[0], c.question.references, "en") for c in cases]
    assert make_metric(task.metrics[0]["name"]).score(items).value == (
        0.0 if task.kind == "transcribe" else 1.0
    )


def test_files_of_the_published_columns_are_read_like_the_twin(cache: Path, tmp_path: Path) -> None:
    _, twin = asked("llama_questions", cache, tmp_path / "a")
    options = TaskOptions(source=str(cache / "llama_questions.parquet"))
    task = make_task("llama_questions", options)
    assert not task.twin
    same = stored_cases(task, tmp_path / "b", 3)
    assert [c.question for c in same] == [c.question for c in twin]


def test_choices_reach_the_prompt_and_letters_are_right(cache: Path, tmp_path: Path) -> None:
    _, cases = asked("mmau", cache, tmp_path)
    assert [c.question.references for c in cases] == [("A",), ("B",), ("C",)]
    for case in cases:
        letter = case.question.references[0]
        assert (
            f"{letter}. {case.question.choices['ABCD'.index(letter)]}" in case.conversation.messages[0].text
        )
    _, moved = asked("retention", cache, tmp_path)
    assert len({c.question.references for c in moved}) == 3  # the right one stands at another place each time


def test_only_speech_of_four_emotions(cache: Path) -> None:
    task = make_task("iemocap", TaskOptions(source="twin", cache=cache))
    emotions = [c.question.slices["emotion"] for c in task.cases()]
    assert emotions == ["neutral", "happy", "sad", "angry"]  # excited is happy; frustrated is left out


def test_trajectory_keeps_all_turns(cache: Path, tmp_path: Path) -> None:
    _, cases = asked("humdial_trajectory", cache, tmp_path)
    assert [len(c.clips()) for c in cases] == [3, 3, 3]
    assert cases[0].question.references == ("happy -> anger -> neutral",)
    alone = sum(len(s.waveform) / s.sample_rate for s in cases[0].clips())
    assert cases[0].question.duration_s == pytest.approx(alone, abs=0.01)


def test_names() -> None:
    assert expand(["nano", "nano_typed"]) == list(SUITES["nano"])
    for suite in SUITES.values():
        assert all(name in TASKS for name in suite)
    with pytest.raises(ConfigError, match="librispeech_clean"):
        expand(["librispeech_clear"])
