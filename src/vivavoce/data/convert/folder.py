"""A folder of recordings with their transcripts beside, in the ways that corpora have them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from vivavoce.base.errors import DataError
from vivavoce.data.build.sources import AUDIO_SUFFIXES
from vivavoce.data.conversation import Conversation, read_conversation
from vivavoce.data.convert.contract import Format, Options, RowError
from vivavoce.data.convert.json_rows import BadItem, Item, json_items
from vivavoce.data.convert.look import has_audio, look
from vivavoce.data.convert.tables import table_items
from vivavoce.data.convert.texts import object_of, optional_text, rest

_BESIDE = (".txt", ".lab", ".normalized.txt")
_LISTS = ("metadata.csv", "metadata.jsonl", "metadata.tsv")
_TEXTS = ("text", "transcript", "transcription", "sentence")


class FolderFormat(Format):
    """Recordings in a folder and its sub-folders, by name.

    Transcripts come from ``a.txt`` or ``a.lab`` beside ``a.wav``, from ``metadata.csv`` or ``metadata.jsonl`` with
    ``file_name`` (Hugging Face) or ``id|text`` (LJSpeech), or from ``*.trans.txt`` (LibriSpeech). Recordings
    without one are rows without one.
    """

    name: ClassVar[str] = "folder"
    description: ClassVar[str] = "a folder of recordings with transcripts beside (read only)"
    suffixes: ClassVar[tuple[str, ...]] = ()
    tasks: ClassVar[tuple[str, ...]] = ("asr",)
    can_write: ClassVar[bool] = False

    def detect(self, path: Path) -> float:
        seen = look(path)
        if seen.kind != "folder" or seen.rows or any(n.endswith(".tar") for n in seen.names):
            return 0.0
        if has_audio(seen.names):
            return 0.7
        inner = [p for p in path.iterdir() if p.is_dir()][:20]
        found = any(
            has_audio(tuple(p.name for p in folder.rglob("*") if p.is_file())) for folder in inner[:3]
        )
        return 0.6 if found else 0.0

    def items(self, path: Path, options: Options) -> Iterator[Item | BadItem]:
        if not path.is_dir():
            raise DataError(f"{path} is no folder of recordings.")
        listed: dict[str, Any] = {}
        yield from _listed(path, options.encoding, listed)
        number = 0
        for file in sorted(p for p in path.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES):
            name = file.relative_to(path).as_posix()
            yield Item(number, name, (path, name, listed.pop(name, None) or listed.pop(file.stem, None)))
            number += 1
        for name in listed:
            if "/" in name or Path(name).suffix.lower() in AUDIO_SUFFIXES:
                yield BadItem(number, name, "missing audio", f"{name} is listed and not there")
                number += 1

    def conversations(self, item: Item, options: Options) -> Iterable[Conversation]:
        folder, name, row = item.value
        row = dict(object_of(row or {}))
        text = optional_text(row, *_TEXTS)
        for suffix in _BESIDE if text is None else ():
            file = (folder / name).with_suffix("").with_name(Path(name).stem + suffix)
            if file.is_file():
                try:
                    text = file.read_text(encoding=options.encoding).strip()
                except UnicodeDecodeError as error:
                    raise RowError("encoding", f"{file.name} is no {options.encoding} text.") from error
                break
        part = {
            "type": "audio",
            "audio": name,
            "transcript": text,
            "speaker": optional_text(row, "speaker", "speaker_id"),
            "language": optional_text(row, "language", "lang"),
        }
        columns = rest(row, "file_name", *_TEXTS, "speaker", "speaker_id", "language", "lang")
        meta = {self.name: columns} if columns else None
        yield read_conversation(
            {"id": name, "messages": [{"role": "user", "content": [part]}], "task": "asr", "meta": meta},
            item.number,
        )


def _listed(path: Path, encoding: str, listed: dict[str, Any]) -> Iterator[BadItem]:
    """Fill in what lists in the folder say: name of the file, or its stem -> row."""
    for name in _LISTS:
        file = path / name
        if not file.is_file():
            continue
        is_plain = name.endswith(".csv") and "file_name" not in _first_line(file, encoding)
        items = _ljspeech(file, encoding) if is_plain else _items(file, encoding)
        for item in items:
            if isinstance(item, BadItem):
                yield item._replace(place=f"{item.place} of {name}")
            elif isinstance(item.value, dict) and isinstance(item.value.get("file_name"), str):
                listed[item.value["file_name"]] = item.value
            else:
                yield BadItem(item.number, f"{item.place} of {name}", "malformed", "there is no file_name")
    for file in sorted(path.rglob("*.trans.txt")):
        try:
            lines = file.read_text(encoding=encoding).splitlines()
        except UnicodeDecodeError:
            yield BadItem(0, file.name, "encoding", f"{file.name} is no {encoding} text")
            continue
        for line in lines:
            stem, _, text = line.strip().partition(" ")
            if stem:
                listed[stem] = {"file_name": stem, "text": text}


def _items(file: Path, encoding: str) -> Iterator[Item | BadItem]:
    return json_items(file, encoding) if file.suffix == ".jsonl" else table_items(file, encoding)


def _first_line(file: Path, encoding: str) -> str:
    with file.open(encoding=encoding, errors="replace") as opened:
        return opened.readline()


def _ljspeech(file: Path, encoding: str) -> Iterator[Item | BadItem]:
    """``id|text|normalized text`` a line, no quotes."""
    with file.open(encoding=encoding, errors="surrogateescape", newline="") as opened:
        for number, cells in enumerate(csv.reader(opened, delimiter="|", quoting=csv.QUOTE_NONE)):
            place = f"line {number + 1}"
            if any("\udc80" <= c <= "\udcff" for cell in cells for c in cell):
                yield BadItem(number, place, "encoding", f"bytes that are no {encoding} text")
            elif len(cells) < 2:
                yield BadItem(number, place, "malformed", f"{'|'.join(cells)[:40]!r}, wanted id|text")
            else:
                row = {"file_name": cells[0], "text": cells[-1]}
                yield Item(number, place, row | ({"raw_text": cells[1]} if len(cells) > 2 else {}))
