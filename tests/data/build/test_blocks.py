"""Blocks: what a kill leaves in their folder is made again, and nothing there stops the next run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.data.build.engine import CONTEXT, make, speaking

from vivavoce.base.errors import DataError
from vivavoce.data.build.engines import blocks, storing
from vivavoce.data.build.engines.blocks import Block, Workspace, plan_blocks
from vivavoce.data.build.pipeline import Parcel
from vivavoce.data.build.run import build
from vivavoce.data.conversation import Audio, Conversation, Message, Text


def test_blocks_cover_every_row_once() -> None:
    for rows in (1, 2, 5, 6, 7, 100):
        for size in (1, 2, 3, 50, 1000):
            planned = plan_blocks(rows, size)
            assert [n for b in planned for n in range(b.start, b.stop)] == list(range(rows))
            assert len({b.name for b in planned}) == len(planned) and all(b.stop > b.start for b in planned)


class KilledError(BaseException):
    """Stands for a kill: nothing catches it."""


def broken_off(out: Path) -> Path:
    """A run that ended after its second block; gives its workspace."""

    def report(done: int, *_: Any) -> None:
        if done == 6:
            raise KilledError

    with pytest.raises(KilledError):
        build(speaking(), out, CONTEXT, workers=0, report=report)
    [folder] = out.glob(".making-*")
    return folder


@pytest.mark.parametrize(
    "left",
    [
        "rows without their numbers", "parts of files", "no settings", "a set half written", "a workspace of another",
    ],
)  # fmt: skip
def test_what_a_kill_leaves_does_not_matter(tmp_path: Path, left: str) -> None:
    whole = make(tmp_path / "whole")
    out = tmp_path / "set"
    folder = broken_off(out)
    made = 4
    if left == "rows without their numbers":
        (folder / "block-000001.json").unlink()
        (folder / "block-000001.parquet").write_bytes(b"PAR1 and no more")
        made = 7
    elif left == "parts of files":
        (folder / ".block-000002.parquet.0a1b.part").write_bytes(b"x")
        (folder / ".block-000002.0a1b.part").write_bytes(b"{")
        (folder / ".settings.part").write_bytes(b"{")
    elif left == "no settings":
        (folder / "settings").unlink()
    elif left == "a set half written":
        (out / "data-00007.parquet").write_bytes(b"x")
        (out / ".data-00000.parquet.0a1b.part").write_bytes(b"x")
        (out / ".manifest.json.part").write_bytes(b"{")
        (out / ".lock").touch()
    else:
        shutil.copytree(folder, out / ".making-0123456789abcdef-3", ignore=shutil.ignore_patterns("block*"))
    again = make(out)
    assert again.made_now == made and again.manifest.content_hash == whole.manifest.content_hash


def parcel(*rows: Conversation) -> Parcel:
    return Parcel(list(enumerate(rows)), [])


def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path, "key")
    made.folder.mkdir()
    return made


def said(name: str, **more: Any) -> Conversation:
    return Conversation(name, [Message("user", [Text("hello")])], **more)


def test_rows_that_cannot_be_stored_do_not_take_others_with_them(tmp_path: Path) -> None:
    rows = [
        said("plain"), said("half \udc80"), said("odd", license=3), said("set", meta={"a": {1, 2}}),
        Conversation("gone", [Message("user", [Audio("nothing.wav")])]),
        Conversation("backwards", [Message("user", [Audio({"bytes": b"RIFF"}, start_s=2.0, end_s=1.0)])]),
        said("last"),
    ]  # fmt: skip
    space, block = workspace(tmp_path), Block(0, 0, 7)
    counts = space.write(block, parcel(*rows), tmp_path)
    assert counts == {"source": 7, "passed": 2, "rows": 2, "aside": 5}
    assert [row.id for row in space.rows([block])] == ["plain", "last"]
    told = [(line["number"], line["stage"], line["kind"]) for line in space.aside([block])]
    kinds = ["unstorable", "unstorable", "unstorable", "unreadable", "unstorable"]
    assert told == [(i, "store", kind) for i, kind in enumerate(kinds, 1)]
    only = space.write(Block(1, 0, 1), parcel(said("half \ud800")), tmp_path)
    assert (only["rows"], only["aside"]) == (0, 1) and list(space.rows([Block(1, 0, 1)])) == []


def test_recordings_larger_than_a_column_are_put_aside(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(storing, "LARGEST_ROW", 1000)
    rows = [Conversation(str(n), [Message("user", [Audio({"bytes": bytes(n)})])]) for n in (1000, 1001)]
    space = workspace(tmp_path)
    assert space.write(Block(0, 0, 2), parcel(*rows), tmp_path)["rows"] == 1
    [line] = space.aside([Block(0, 0, 2)])
    assert line["kind"] == "too_big" and line["row"]["audios"] == [{"num_bytes": 1001}]


def test_a_row_that_became_several_counts_once(tmp_path: Path) -> None:
    made = Parcel([(0, said("a/1")), (0, said("a/2")), (1, said("b"))], [])
    assert workspace(tmp_path).write(Block(0, 0, 2), made, tmp_path) == {
        "source": 2,
        "passed": 2,
        "rows": 3,
        "aside": 0,
    }


def test_a_lost_row_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="every row has an outcome"):
        workspace(tmp_path).write(Block(0, 0, 2), parcel(said("a")), tmp_path)


def test_rows_are_not_blamed_for_a_full_folder_of_temporary_files(tmp_path: Path, monkeypatch: Any) -> None:
    pipeline = speaking(["say one", "value"])
    with monkeypatch.context() as patch:
        patch.setattr(blocks, "LEAST_FREE", 1 << 60)
        with pytest.raises(DataError, match=r"no space left in .* 1 rows failed, the first with: this text"):
            build(pipeline, tmp_path / "set", CONTEXT, workers=0)
    assert make(tmp_path / "set", pipeline).kinds == {"speak: ValueError": 1}
    lines = (tmp_path / "set" / "put_aside.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["number"] == 1
