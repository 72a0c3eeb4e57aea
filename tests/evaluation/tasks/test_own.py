"""The user's rows as a task by one line of YAML; rows of the hub stream without being decoded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from vivavoce.audio.files import write_audio
from vivavoce.audio.synthesis import has_synthesizer
from vivavoce.base.errors import ConfigError, DataError
from vivavoce.data.manifest import write_set
from vivavoce.data.recordings import hoist
from vivavoce.data.rows import RowFile
from vivavoce.evaluation.run.noise import noisy
from vivavoce.evaluation.run.stored import stored_cases
from vivavoce.evaluation.tasks import make_task
from vivavoce.evaluation.tasks.task import Task, TaskOptions


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    write_audio(tmp_path / "a.wav", np.sin(np.arange(8000) / 9).astype(np.float32) * 0.2, 16000)
    said = {
        "type": "audio",
        "audio": "a.wav",
        "transcript": "what is this",
        "language": "de",
        "speaker": "anna",
    }
    cut = {**said, "start": 0.1, "end": 0.3, "transcript": "and this"}
    found: list[dict[str, Any]] = [
        {
            "id": "one",
            "messages": [
                {"role": "user", "content": [said]},
                {"role": "assistant", "content": "a tone"},
                {"role": "user", "content": [cut]},
                {"role": "assistant", "content": "its middle"},
            ],
        },
        {
            "id": "two",
            "messages": [{"role": "user", "content": [said]}, {"role": "assistant", "content": "A"}],
            "meta": {"choices": ["a tone", "a word"], "references": ["A"]},
        },
    ]
    path = tmp_path / "my.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


def task(line: str) -> Task:
    return make_task("own", TaskOptions(settings=yaml.safe_load(line)))


def test_asr(rows: Path, tmp_path: Path) -> None:
    made = task(f"{{data: {rows}, view: asr, metric: cer}}")
    assert made.metrics == ({"name": "cer"},) and made.kind == "transcribe" and made.name == "my"
    cases = stored_cases(made, tmp_path / "out")
    assert [c.question.references for c in cases] == [("what is this",), ("and this",), ("what is this",)]
    assert [c.question.duration_s for c in cases] == [0.5, 0.2, 0.5]  # the part that counts
    assert {c.question.language for c in cases} == {"de"} and cases[0].question.speaker == "anna"
    assert cases[0].question.cluster == cases[1].question.cluster == "one"


def test_chat_keeps_earlier_turns(rows: Path, tmp_path: Path) -> None:
    made = task(f"{{data: {rows}, view: chat, metric: [token_f1, {{name: rouge_l}}], prompt: Be short.}}")
    first = stored_cases(made, tmp_path / "out")[0]
    assert [m.role for m in first.conversation.messages] == ["user", "assistant", "user"]
    assert first.question.references == ("its middle",)
    assert first.conversation.messages[2].text == "Be short." and not first.conversation.messages[0].text
    assert [m["name"] for m in made.metrics] == ["token_f1", "rouge_l"]


def test_a_built_set_is_asked_as_its_rows_in_files(rows: Path, tmp_path: Path) -> None:
    """Recordings inside a set's shards reach the questions, and the noise put over them."""
    found = list(RowFile(rows))
    write_set(tmp_path / "set", [hoist(row, tmp_path) for row in found])
    for view in ("chat", "asr"):
        listed, built = (
            task(f"{{data: {data}, view: {view}, name: x}}") for data in (rows, tmp_path / "set")
        )
        for which in (lambda t: t, lambda t: noisy(t, 10.0, seed=0)):
            one, other = (
                [(c.question.references, [clip.waveform.tolist() for clip in c.clips()]) for c in cases]
                for cases in (
                    stored_cases(which(t), tmp_path / view / str(n) / which(t).name)
                    for n, t in enumerate((listed, built))
                )
            )
            assert one == other and all(clips for _, clips in one)


def test_say_and_choose(rows: Path, tmp_path: Path) -> None:
    spoken = stored_cases(task(f"{{data: {rows}, view: say}}"), tmp_path / "a")
    assert [c.question.references for c in spoken] == [("its middle",), ("A",)] and not spoken[0].clips()
    chosen = stored_cases(task(f"{{data: {rows}, view: choose}}"), tmp_path / "b")
    assert chosen[1].question.choices == ("a tone", "a word")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{view: asr}", "data"),
        ("{data: x.jsonl, metric: werr}", "wer"),
        ("{data: x.jsonl, vieww: asr}", "view"),
    ],
)
def test_wrong_lines(line: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        task(line)


@pytest.mark.skipif(not has_synthesizer("espeak"), reason="needs espeak-ng")
def test_hub_rows_stream_undecoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    twin = make_task("llama_questions", TaskOptions(source="twin", cache=tmp_path))
    wanted = [(c.question, c.conversation.audios) for c in twin.cases()]
    asked: dict[str, Any] = {}
    real = datasets.load_dataset

    def load_dataset(path: str, config: str | None, **given: Any) -> Any:
        asked.update(given, path=path, config=config)
        files = str(tmp_path / "llama_questions.parquet")
        return real("parquet", data_files=files, split="train", streaming=True)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    cases = list(make_task("llama_questions", TaskOptions(limit=2)).cases())
    assert [c.question for c in cases] == [question for question, _ in wanted[:2]]
    assert asked["path"] == "fixie-ai/llama-questions" and asked["streaming"] and asked["split"] == "test"
    part = next(cases[0].conversation.audio_parts())
    assert isinstance(part.audio, dict) and isinstance(part.audio["bytes"], bytes)


def test_hub_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def load_dataset(*given: Any, **more: Any) -> Any:
        raise ConnectionError("no way there")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError, match="twin"):
        list(make_task("librispeech_clean", TaskOptions()).cases())
