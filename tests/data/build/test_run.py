"""Builds: the same result however they are cut up or interrupted, and clear words where they cannot go on."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.data.build.engine import CONTEXT, PLAIN, Obedient, make, speaking

from vivavoce.base.errors import ConfigError, DataError, MissingExtraError
from vivavoce.data.build.contract import Context
from vivavoce.data.build.engines import blocks as blocks_module
from vivavoce.data.build.run import build
from vivavoce.data.manifest import read_set

MIXED = (*PLAIN, "value of this", "!!!", "assert it", "say eleven", "x" * 2000)


def test_blocks_and_shards_of_any_size_give_the_same(tmp_path: Path) -> None:
    made = [
        make(tmp_path / str(i), speaking(MIXED, block_rows=size, shard_rows=shard))
        for i, (size, shard) in enumerate([(1, 1000), (3, 2), (4, 1), (7, 5), (100, 3)])
    ]
    assert len({m.manifest.content_hash for m in made}) == 1
    assert [len(m.manifest.shards) for m in made] == [1, 6, 11, 3, 4]
    assert len({m.manifest.key for m in made}) == 1  # the size of a block is no setting of the result
    assert len({(tmp_path / str(i) / "put_aside.jsonl").read_text() for i in range(5)}) == 1
    assert [r.id for r in read_set(tmp_path / "1")] == [f"{i:07d}" for i in (*range(10), 13)]


def test_what_is_put_aside_has_stage_kind_and_reason(tmp_path: Path) -> None:
    made = make(tmp_path / "set", speaking(MIXED))
    lines = [json.loads(line) for line in (tmp_path / "set" / "put_aside.jsonl").read_text().splitlines()]
    told = [(line["number"], line["stage"], line["kind"], line["filtered"]) for line in lines]
    assert told == [
        (10, "speak", "ValueError", False), (11, "speak", "empty", False),
        (12, "speak", "AssertionError", False), (14, "speak", "too_long", True),
    ]  # fmt: skip
    assert lines[0]["reason"] == "this text is worth nothing" and lines[2]["reason"] == "AssertionError"
    assert [line["row"]["messages"][0]["content"] for line in lines[:2]] == ["value of this", "!!!"]
    kinds = {"speak: ValueError": 1, "speak: empty": 1, "speak: AssertionError": 1, "speak: too_long": 1}
    assert made.kinds == made.manifest.put_aside == kinds
    assert (made.manifest.source_rows, made.manifest.passed, made.manifest.rows) == (15, 11, 11)


def test_rows_that_no_set_can_hold_are_put_aside(tmp_path: Path) -> None:
    """Half a character, a licence that is a number, a text that is no text: the rest of the block is kept."""
    given = [
        {"prompt": "say one"}, {"prompt": "say \ud800 two"}, {"prompt": "say three", "license": 7}, {"prompt": ["x"]},
        {"prompt": "say\u2028four"},
    ]  # fmt: skip
    lines = [json.dumps(row, ensure_ascii=i != 4) for i, row in enumerate(given)]
    (tmp_path / "t.jsonl").write_text("\ufeff" + "\n\n".join([*lines, "[" * 100_000, "{"]), encoding="utf-8")
    pipeline = speaking(source={"type": "text", "file": "t.jsonl"}, stages=(), block_rows=10)
    context = replace(CONTEXT, root=tmp_path)
    made = build(pipeline, tmp_path / "set", context, workers=0)
    assert made.kinds == {"source: unreadable": 3, "store: unstorable": 2}
    assert [row.messages[0].text for row in read_set(tmp_path / "set")] == ["say one", "say\u2028four"]
    told = [json.loads(x) for x in (tmp_path / "set" / "put_aside.jsonl").read_text("utf-8").splitlines()]
    assert [line["number"] for line in told] == [1, 2, 3, 5, 6]
    assert told[0]["row"]["messages"][0]["content"] == "say \\ud800 two" and "line 13" in told[4]["reason"]


def test_a_finished_set_is_left_as_it_is(tmp_path: Path) -> None:
    first = make(tmp_path / "set")
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "set").iterdir()}
    for pipeline in (speaking(), speaking(name="other", shard_rows=2, block_rows=5)):
        again = make(tmp_path / "set", pipeline)
        assert (again.made_now, again.manifest) == (0, first.manifest) and first.made_now == 10
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "set").iterdir()} == before
    for changed, words in (({"seed": 1}, "seed 0 there, 1 here"), ({"rows": 3}, "rows None there, 3 here")):
        with pytest.raises(DataError, match=f"holds another set .*{words}"):
            make(tmp_path / "set", speaking(**changed))


def test_what_a_kill_after_the_last_step_leaves_is_removed(tmp_path: Path, monkeypatch: Any) -> None:
    """The manifest is there, but the workspace and the lock file still are."""
    with monkeypatch.context() as patch:
        patch.setattr(blocks_module.Workspace, "clear", lambda self: None)
        build(speaking(), tmp_path / "set", CONTEXT, workers=0)
    assert {".lock"} < {p.name for p in (tmp_path / "set").iterdir() if p.name.startswith(".")}
    assert make(tmp_path / "set").made_now == 0


class StopError(Exception):
    """Stands for whatever ends a run."""


def stop_after(rows: int) -> Any:
    def report(done: int, total: int, counts: dict[str, Any]) -> None:
        assert 0 <= done <= total == 10
        if done >= rows:
            raise StopError

    return report


def test_an_unfinished_run_goes_on_and_is_not_mixed_with_another(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole").manifest.content_hash
    with pytest.raises(StopError):
        build(speaking(), tmp_path / "set", CONTEXT, workers=0, report=stop_after(6))
    for changed, words in (
        ({"seed": 5}, "seed 0 there, 5 here"),
        ({"block_rows": 2}, "block_rows 3 there, 2 here"),
        ({"source": {"type": "text", "texts": PLAIN[:9]}}, "source.texts.9 'say ten' there, 'absent' here"),
    ):
        with pytest.raises(DataError, match=f"unfinished run of another pipeline or source .*{words}"):
            make(tmp_path / "set", speaking(**changed))
    told: list[tuple[int, int]] = []
    made = make(tmp_path / "set", report=lambda done, total, counts: told.append((done, total)))
    assert told == [(6, 10), (9, 10), (10, 10)] and made.made_now == 4
    assert made.manifest.content_hash == whole


def test_an_unfinished_run_goes_on_in_a_folder_named_from_here(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StopError):
        build(speaking(), Path("set"), CONTEXT, workers=0, report=stop_after(6))
    assert make(Path("set")).made_now == 4


def test_a_changed_file_is_not_mistaken_for_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("\n".join(PLAIN))
    pipeline = speaking(source={"type": "text", "file": str(tmp_path / "t.txt")})
    with pytest.raises(StopError):
        build(pipeline, tmp_path / "set", CONTEXT, workers=0, report=stop_after(6))
    (tmp_path / "t.txt").write_text("\n".join(PLAIN).replace("ten", "two"))
    with pytest.raises(DataError, match="the source or a builder's version changed"):
        make(tmp_path / "set", pipeline)


def _hold(out: Path, begun: Any, end: Any) -> None:
    def report(*_: Any) -> None:
        begun.set()
        end.wait(60)

    build(speaking(), out, CONTEXT, workers=0, report=report)


def test_a_second_run_at_the_same_time_is_refused(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")  # quick; the other process does what this one would
    begun, end = fork.Event(), fork.Event()
    other = fork.Process(target=_hold, args=(tmp_path / "set", begun, end))
    other.start()
    try:
        assert begun.wait(60)
        with pytest.raises(DataError, match="another run is writing"):
            make(tmp_path / "set")
    finally:
        end.set()
        other.join()
    assert other.exitcode == 0 and make(tmp_path / "set").made_now == 0


def test_folders_that_hold_or_are_something_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "data-00000.parquet").write_text("")
    for out, words in (
        ("file", "is a file"),
        ("mine", "which no run here made"),
        ("file/set", "cannot write"),
    ):
        with pytest.raises(DataError, match=words):
            make(tmp_path / out)
    assert sorted(p.name for p in (tmp_path / "mine").iterdir()) == ["data-00000.parquet"]
    (tmp_path / "mine" / "data-00000.parquet").rename(tmp_path / "mine" / "notes")
    build(speaking(), tmp_path / "mine", CONTEXT, workers=0)
    assert (tmp_path / "mine" / "notes").exists()  # other files do not hinder and stay


@pytest.mark.parametrize(
    "when", ["block-000001.parquet", "block-000002.json", "data-00000", "put_aside", "manifest"]
)
def test_a_full_disk_stops_with_what_to_do_and_loses_nothing(
    tmp_path: Path, monkeypatch: Any, when: str
) -> None:
    pipeline = speaking((*PLAIN, "!!!"))
    whole = make(tmp_path / "whole", pipeline).manifest.content_hash
    real = Path.open

    def full(self: Path, *arguments: Any, **more: Any) -> Any:
        if arguments[:1] in (("w",), ("wb",)) and when.removesuffix(".json") in self.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(DataError, match=r"no space left for .* free some and run the same command again"):
            make(tmp_path / "set", pipeline)
    kept = len(list((tmp_path / "set").glob(".making-*/*.json")))
    assert kept == {"block-000001.parquet": 1, "block-000002.json": 2}.get(when, 4)
    made = make(tmp_path / "set", pipeline)
    assert made.manifest.content_hash == whole and made.made_now == 11 - min(11, 3 * kept)


def test_files_that_may_not_grow_stop_the_run(tmp_path: Path) -> None:
    """A limit of the machine, met inside a worker's own files, is a clear error too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(DataError, match=r"cannot write .*File too large; put that right"):
            build(speaking(), tmp_path / "set", CONTEXT, workers=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    make(tmp_path / "set")


def test_what_is_wrong_with_the_run_stops_it_and_leaves_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    for pipeline, more, words in (
        (speaking(["settings"]), {}, "set wrongly"),
        (speaking([" "]), {"engine": "dask"}, "'dask'"),
        (speaking(), {"workers": -1}, "workers is -1"),
    ):
        with pytest.raises(ConfigError, match=words):
            build(pipeline, tmp_path / "set", CONTEXT, **{"workers": 0, **more})
    local = Context(services={"tts": type("Local", (Obedient,), {})})
    with pytest.raises(ConfigError, match="cannot be sent to worker processes"):
        build(speaking(), tmp_path / "set", local, workers=1)
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(ConfigError, match="the source has no rows"):
        build(
            speaking(source={"type": "text", "file": str(tmp_path / "empty.txt")}), tmp_path / "set", CONTEXT
        )
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match="pyarrow"):
        build(speaking(), tmp_path / "set", CONTEXT, workers=0)
    assert os.listdir(tmp_path) == ["empty.txt"]  # noqa: PTH208
