"""WebDataset shards: tar archives in which files of one key are one row (``7.flac``, ``7.txt``, ``7.json``)."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from vivavoce.base.errors import DataError
from vivavoce.data.build.sources import AUDIO_SUFFIXES
from vivavoce.data.conversation import Audio, Conversation, read_conversation
from vivavoce.data.convert.archives import ArchiveWriter, Damage, is_inside, members
from vivavoce.data.convert.contract import Format, Options, RowError
from vivavoce.data.convert.details import ALL
from vivavoce.data.convert.json_rows import BadItem, Item
from vivavoce.data.convert.look import has_audio, look
from vivavoce.data.convert.outputs import Clips, Stage, safe_name
from vivavoce.data.convert.own import with_ids
from vivavoce.data.convert.texts import object_of, optional_text, rest

_TEXTS = ("text", "transcript", "transcription", "caption", "sentence")
_KEY = re.compile(r"[\w-]+(/[\w-]+)*")
_TAR = (".tar", ".tar.gz", ".tgz")


class WebDatasetFormat(Format):
    """Archives with recordings, their transcripts, and JSON about them.

    A row that is one recording with a transcript is written as plain ``.flac`` (or as it was), ``.txt`` and, if more is
    known, ``.json``. Every other row is written with its messages in ``.json``, and comes back whole.
    """

    name: ClassVar[str] = "webdataset"
    description: ClassVar[str] = "WebDataset tar shards: key.flac, key.txt, key.json"
    suffixes: ClassVar[tuple[str, ...]] = (".tar", "")
    holds: ClassVar[frozenset[str]] = ALL - {"recordings"}
    tasks: ClassVar[tuple[str, ...]] = ("asr",)
    settings: ClassVar[frozenset[str]] = frozenset({"shard_rows"})
    audio: ClassVar[str] = "embed"

    def detect(self, path: Path) -> float:
        seen = look(path)
        if seen.kind == "tar":
            return 0.9 if has_audio(seen.names) or any(n.endswith(".json") for n in seen.names) else 0.0
        tars = [n for n in seen.names if n.endswith(_TAR)] if seen.kind == "folder" else []
        return 0.9 if tars and not any(n.startswith("cuts.") for n in seen.names) else 0.0

    def items(self, path: Path, options: Options) -> Iterator[Item | BadItem]:
        shards = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.name.endswith(_TAR))
        if not shards:
            raise DataError(f"{path} has no .tar archives.")
        number = 0
        for shard in shards:
            for key, files in _groups(shard):
                place = f"{key} of {shard.name}" if key else shard.name
                if isinstance(files, Damage):
                    kind = "outside" if "leads outside" in files.reason else "cut off"
                    yield BadItem(number, place, kind, files.reason)
                else:
                    yield Item(number, place, (key, files))
                number += 1

    def conversations(self, item: Item, options: Options) -> Iterable[Conversation]:
        key, files = item.value
        about: dict[str, Any] = {}
        for suffix in ("json", "txt", "lab"):
            if suffix in files:
                about[suffix] = _decoded(files[suffix], suffix, options.encoding)
        if isinstance(about.get("json"), Mapping) and "messages" in about["json"]:
            yield _row(about["json"], key, files, item)
            return
        row = dict(object_of(about.get("json") or {}))
        sounds = [s for s in files if f".{s.rpartition('.')[2]}".lower() in AUDIO_SUFFIXES]
        if len(sounds) != 1:
            raise RowError(
                "no sound", f"{key} has {len(sounds)} recordings among {', '.join(files)}; wanted one."
            )
        text = about.get("txt", about.get("lab"))
        part: dict[str, Any] = {
            "type": "audio",
            "audio": {"bytes": files[sounds[0]], "path": f"{PurePosixPath(key).name}.{sounds[0]}"},
            "transcript": text.strip() if isinstance(text, str) else optional_text(row, *_TEXTS),
            "language": optional_text(row, "language", "lang"),
            "speaker": optional_text(row, "speaker", "speaker_id"),
        }
        meta = {self.name: row} if row and rest(row, *_TEXTS, "language", "speaker") else None
        yield read_conversation(
            {"id": key, "messages": [{"role": "user", "content": [part]}], "task": "asr", "meta": meta},
            item.number,
        )

    def entries(
        self, row: Conversation, number: int, clips: Clips, options: Options
    ) -> Iterable[tuple[str, dict[str, bytes]]]:
        is_key = bool(_KEY.fullmatch(row.id)) and is_inside(row.id)
        key = clips.unique(row.id if is_key else safe_name(row.id).replace(".", "_"), "")
        if key == row.id and _is_plain(row, self):
            yield key, _plain(next(row.audio_parts()), row, clips, self.name)
        else:
            yield key, _whole(row, clips)

    def save(self, entries: Iterator[Any], stage: Stage, options: Options) -> None:
        if stage.main.suffix == ".tar":
            _write(stage.main, entries)
            return
        stage.main.mkdir()
        for number in itertools.count():
            first = list(itertools.islice(entries, 1))
            if not first:
                break
            block = itertools.chain(first, itertools.islice(entries, options.shard_rows - 1))
            _write(stage.main / f"{number:06d}.tar", block)


def _groups(path: Path) -> Iterator[tuple[str, dict[str, bytes] | Damage]]:
    """Neighbouring files of the same key; what cannot be read stands where it was."""
    key, files = "", dict[str, bytes]()
    for member in members(path):
        if isinstance(member, Damage):
            if files:
                yield key, files
                files = {}
            yield "", member
            continue
        folder, _, name = member.name.rpartition("/")
        stem, _, suffix = name.partition(".")
        if not stem or not suffix:
            continue
        found = f"{folder}/{stem}".lstrip("/").removeprefix("./")
        if files and (found != key or suffix in files):
            yield key, files
            files = {}
        key = found
        files[suffix] = member.data
    if files:
        yield key, files


def _decoded(data: bytes, suffix: str, encoding: str) -> Any:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise RowError("encoding", f".{suffix} is no {encoding} text ({error.reason}).") from error
    if suffix != "json":
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise RowError("json", f".json is broken: {error}") from error


def _row(row: Mapping[str, Any], key: str, files: Mapping[str, bytes], item: Item) -> Conversation:
    """A row of ours, whose recordings are named by their suffix in the archive."""
    made = read_conversation(row, item.number)
    for part in made.audio_parts():
        if isinstance(part.audio, str) and part.audio in files:
            part.audio = {"bytes": files[part.audio], "path": f"{PurePosixPath(key).name}.{part.audio}"}
        elif part.audio is not None:
            raise RowError("missing audio", f"{key} has no .{part.audio} in the archive.")
    return made


def _is_plain(row: Conversation, form: WebDatasetFormat) -> bool:
    """Whether a row is one recording of which only the transcript, the language and the speaker are known."""
    parts = list(row.audio_parts())
    return (
        len(parts) == 1
        and row.row().keys() <= {"id", "messages", "task", "meta", "audios"}
        and row.task in form.tasks
        and not set(row.meta) - {form.name}
        and row.messages[0].row().keys() == {"role", "content"}
        and [(m.role, len(m.parts)) for m in row.messages] == [("user", 1)]
        and parts[0].audio is not None
        and parts[0].row().keys() <= {"type", "audio", "transcript", "language", "speaker"}
        and (parts[0].transcript or "") == (parts[0].transcript or "").strip()
    )


def _plain(part: Audio, row: Conversation, clips: Clips, form: str) -> dict[str, bytes]:
    data, suffix = clips.data(part, row)
    files = {suffix[1:]: data}
    known = dict(row.meta.get(form, {}))
    about = {"language": part.language, "speaker": part.speaker}
    names = {"language": ("language", "lang"), "speaker": ("speaker", "speaker_id")}
    known |= {k: v for k, v in about.items() if v is not None and not set(names[k]) & set(known)}
    if part.transcript is not None and not any(known.get(name) == part.transcript for name in _TEXTS):
        files["txt"] = part.transcript.encode()
    if known:
        files["json"] = json.dumps(known, ensure_ascii=False).encode()
    return files


def _whole(row: Conversation, clips: Clips) -> dict[str, bytes]:
    """All of a row: its recordings and its messages, which name them by suffix."""
    files: dict[str, bytes] = {}
    names: dict[bytes, str] = {}
    made = replace(row, messages=[replace(m, parts=[replace(p) for p in m.parts]) for m in row.messages])
    for part in made.audio_parts():
        if part.tokens and part.tokens.get("path"):
            part.tokens = with_ids(part.tokens, clips.root)
        if part.audio is not None:
            data, suffix = clips.data(part, row, cut=False)
            part.audio = names.setdefault(data, f"{len(names)}{suffix}")
            files[part.audio] = data
    made.audios = []
    return files | {"json": json.dumps(made.row(), ensure_ascii=False).encode()}


def _write(path: Path, entries: Iterable[tuple[str, dict[str, bytes]]]) -> None:
    with ArchiveWriter(path) as tar:
        for key, files in entries:
            for suffix, data in files.items():
                tar.add(f"{key}.{suffix}", data)
