"""Every kind of set gives by number what reading it through gives, and reads no more than it must."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import tarfile
from pathlib import Path

import pytest
from tests.data.reader.sets import flac, lines, row, sound_set, text_row, text_set

from vivavoce.base.errors import DataError
from vivavoce.data.conversation import Conversation
from vivavoce.data.convert import get_format
from vivavoce.data.convert.contract import Options
from vivavoce.data.manifest import read_set, write_set
from vivavoce.data.reader import DataSource
from vivavoce.data.reader import index as index_room
from vivavoce.data.reader.parquet_rows import ParquetRows
from vivavoce.data.shards import write_shard


def source(path: Path, **options: object) -> DataSource:
    return DataSource(path, **{"cache": None, **options})  # type: ignore[arg-type]


def same(found: DataSource, wanted: list[Conversation]) -> None:
    numbers = [*range(0, len(wanted), 2), *range(len(wanted) - 1, 0, -2)][::-1]  # there and back
    assert len(found) == len(wanted)
    assert {n: found[n].content_hash() for n in numbers} == {n: wanted[n].content_hash() for n in numbers}


def test_a_finished_set(tmp_path: Path) -> None:
    folder = sound_set(tmp_path / "set", 25)
    found = source(folder)
    same(found, list(read_set(folder)))
    assert found.index.shard_rows.tolist() == [10, 10, 5]
    assert found.row(2, 3).id == "r23" and found.describe(23) == "row 3 of data-00002.parquet in set"
    with pytest.raises(IndexError):
        found.row(2, 5)


def test_parquet_and_folders_of_it(tmp_path: Path) -> None:
    rows = [row(i) for i in range(150)]
    write_shard(tmp_path / "b.parquet", rows[:70])
    write_shard(tmp_path / "c.parquet", rows[70:])
    same(source(tmp_path), rows)
    same(source(tmp_path / "c.parquet"), rows[70:])
    assert source(tmp_path).index.block_rows.tolist() == [64, 6, 64, 16]


def test_only_the_row_group_is_read_and_memory_is_bounded(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.parquet", [text_row(i) for i in range(256)])
    found = source(tmp_path / "a.parquet")
    assert isinstance(found.rows, ParquetRows)
    for number in (70, 80, 127, 64):
        assert found[number].id == f"t{number}"
    assert found.rows.groups_read == 1
    small = source(tmp_path / "a.parquet", memory_mb=1e-6)
    assert isinstance(small.rows, ParquetRows)
    for number in (0, 1, 70, 2):  # holds the newest group, whatever its size
        assert small[number].id == f"t{number}"
    assert small.rows.groups_read == 3 and len(small.rows._tables) == 1


def test_recordings_can_stay_in_the_file(tmp_path: Path) -> None:
    found = source(sound_set(tmp_path / "set", 3), recordings=False)
    assert found[1].audios == [{"path": "1.flac"}] and found[1].messages[0].words == "question 1"
    assert found[1].id == "r1"


def test_lines(tmp_path: Path) -> None:
    rows = [text_row(i) for i in range(9)]
    lines(tmp_path / "a.jsonl", rows[:4])
    body = lines(tmp_path / "b.jsonl", rows[4:]).read_bytes()
    (tmp_path / "b.jsonl").write_bytes(b"\n  \n" + body.replace(b"\n", b"\n\n").rstrip())
    same(source(tmp_path), rows)


@pytest.mark.parametrize("form", ["webdataset", "lhotse_shar"])
def test_archives_equal_their_converter(tmp_path: Path, form: str) -> None:
    rows = [row(i) for i in range(7)]
    rows[3].messages[1].parts = []  # an ASR row
    for one in rows if form == "lhotse_shar" else rows[:2]:
        one.messages, one.task = one.messages[:1], "asr"
    converter = get_format(form)
    converter.write(rows, tmp_path / "set", Options(shard_rows=3))
    wanted = [r for r in converter.read(tmp_path / "set") if isinstance(r, Conversation)]
    assert len(wanted) == 7
    same(source(tmp_path / "set"), wanted)
    if form == "webdataset":
        assert len(source(tmp_path / "set" / "000001.tar")) == 3


def _tar(path: Path, members: list[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_a_bad_row_is_an_error_and_its_neighbours_are_read(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", [text_row(i) for i in range(3)])
    text = path.read_text().split("\n")
    text[1] = '{"id": "x", "messages": [{"role"'
    path.write_text("\n".join(text))
    found = source(path)
    assert found[0].id == "t0" and found[2].id == "t2"
    with pytest.raises(DataError, match=r"row 1 of a.jsonl in a.jsonl cannot be read: it is not JSON"):
        found[1]
    sound = flac(0)
    _tar(tmp_path / "w.tar", [("a.flac", sound), ("a.txt", b"one"), ("../b.flac", sound), ("c.txt", b"no sound"),
                              ("d/e.flac", sound), ("d/e.json", b'{"speaker": "s", "weight": 2}')])  # fmt: skip
    found = source(tmp_path / "w.tar")
    assert [found[0].id, found[3].id] == ["a", "d/e"]
    for number, why in ((1, "leads outside"), (2, "0 recordings")):
        with pytest.raises(DataError, match=why):
            found[number]
    assert [type(r) is Conversation for r in get_format("webdataset").read(tmp_path / "w.tar")] == [
        True,
        False,
        False,
        True,
    ]


def test_an_archive_cut_off_anywhere_gives_what_its_converter_gives(tmp_path: Path) -> None:
    sound = flac(0)
    _tar(tmp_path / "w.tar", [("a.flac", sound), ("a.txt", b"one"), ("b.flac", sound), ("b.json", b"{}")])
    data = (tmp_path / "w.tar").read_bytes()
    for size in [*range(512, 11 * 512, 256), len(data)]:
        cut = tmp_path / f"{size}.tar"
        cut.write_bytes(data[:size])
        wanted = [
            r.content_hash() if isinstance(r, Conversation) else None
            for r in get_format("webdataset").read(cut)
        ]
        found, made = source(cut), list[str | None]()
        for number in range(len(found)):
            try:
                made.append(found[number].content_hash())
            except DataError:
                made.append(None)
        assert made == wanted, size


def test_weights_are_found_in_every_kind(tmp_path: Path) -> None:
    rows = [text_row(i, weight=2.0 if i == 3 else 1.0) for i in range(5)]
    write_set(tmp_path / "set", rows, shard_rows=2)
    write_set(tmp_path / "plain", [text_row(i) for i in range(5)])
    lines(tmp_path / "a.jsonl", rows)
    get_format("webdataset").write([*rows], tmp_path / "w.tar")
    for name in ("set", "a.jsonl", "w.tar"):
        weights = source(tmp_path / name).index.weights
        assert weights is not None and weights.tolist() == [1, 1, 1, 2, 1], name
    assert source(tmp_path / "plain").index.weights is None


def test_an_index_is_kept_and_made_again_when_files_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_room, "_WORTH_S", 0.0)
    cache, path = tmp_path / "cache", lines(tmp_path / "a.jsonl", [text_row(i, weight=0.5) for i in range(4)])
    first = DataSource(path, cache=cache)
    assert len(first) == 4 and len(list(cache.iterdir())) == 1
    again = DataSource(path, cache=cache)
    monkeypatch.setattr(again.rows, "scan", None)  # not called
    assert again[3].id == "t3" and again.index.digest() == first.index.digest()
    assert again.index.weights is not None and again.index.names == ["a.jsonl"]
    lines(path, [text_row(i) for i in range(6)])
    os.utime(path, (1, 1))
    assert len(DataSource(path, cache=cache)) == 6
    for kept in cache.iterdir():
        kept.write_bytes(b"broken")
    with pytest.warns(UserWarning, match="made again"):
        assert len(DataSource(path, cache=cache)) == 6


def test_a_source_can_be_sent_to_another_process(tmp_path: Path) -> None:
    for path in (text_set(tmp_path / "set", 5), lines(tmp_path / "a.jsonl", [text_row(i) for i in range(5)])):
        found = source(path)
        assert found[2].id == "t2"
        sent = pickle.loads(pickle.dumps(found))
        assert sent[4].id == "t4"
        found.close()
        assert found[0].id == "t0"


def test_what_is_no_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        source(tmp_path / "nothing")
    with pytest.raises(DataError, match="none of them"):
        source(tmp_path)
    with gzip.open(tmp_path / "a.jsonl.gz", "wb") as file:
        file.write(b"{}\n")
    with pytest.raises(DataError, match="vivavoce data convert"):
        source(tmp_path / "a.jsonl.gz")
    packed = tmp_path / "p.tar"
    with tarfile.open(packed, "w:gz"):
        pass
    with pytest.raises(DataError, match="gunzip"):
        len(source(packed))
    folder = text_set(tmp_path / "set", 12)
    write_shard(folder / "data-00001.parquet", [text_row(0)])
    with pytest.raises(DataError, match=r"data-00001.parquet of .* has 1 rows, its manifest says 2"):
        len(source(folder))
    (tmp_path / "not.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="not a readable Parquet"):
        len(source(tmp_path / "not.parquet"))
