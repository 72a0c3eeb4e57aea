"""Our own form: JSON lines for people, Parquet shards for scale."""

from __future__ import annotations

import base64
import copy
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vivavoce.base.errors import AudioError, DataError
from vivavoce.data.conversation import Conversation, read_conversation
from vivavoce.data.convert.contract import Format, Options
from vivavoce.data.convert.details import ALL
from vivavoce.data.convert.json_rows import BadItem, Item, json_items
from vivavoce.data.convert.look import look
from vivavoce.data.convert.outputs import Clips, Stage, is_json, write_json
from vivavoce.data.manifest import MANIFEST, write_set
from vivavoce.data.recordings import hoist
from vivavoce.data.rows import RowFile
from vivavoce.data.shards import write_shard

_KEYS = frozenset("id messages audios tools task source license weight meta".split())
_MIME = {
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
}


class OwnFormat(Format):
    """Rows of `data.conversation`."""

    name: ClassVar[str] = "vivavoce"
    description: ClassVar[str] = (
        "our own rows: JSON lines, one Parquet file, or a folder of shards with a manifest"
    )
    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".json", ".jsonl.gz", ".parquet", "")
    holds: ClassVar[frozenset[str]] = ALL
    settings: ClassVar[frozenset[str]] = frozenset({"audio", "shard_rows"})
    audio: ClassVar[str] = "embed"  # in Parquet; "keep" in JSON

    def detect(self, path: Path) -> float:
        seen = look(path)
        if seen.kind == "folder" and MANIFEST in seen.names:
            return 1.0
        messages = seen.messages()
        if not messages or not seen.columns <= _KEYS:
            return 0.0
        contents = [m.get("content") for m in messages]
        if seen.kind in ("table", "folder"):
            ours = "id" in seen.columns and all("more" in m for m in messages)
            return 0.95 if ours else 0.0
        parts = [p for c in contents if isinstance(c, list) for p in c if isinstance(p, Mapping)]
        kinds = {str(p.get("type")) for p in parts}
        texts = [c for c in contents if isinstance(c, str)]
        if kinds - {"text", "audio"} or any(m.get("audio") for m in messages):
            return 0.0
        if any(mark in text for text in texts for mark in ("<audio>", "<|audio|>")):
            return 0.0
        return 0.95 if "audio" in kinds else 0.7

    def items(self, path: Path, options: Options) -> Iterator[Item | BadItem]:
        if path.is_file() and path.suffix != ".parquet":
            yield from json_items(path, options.encoding)
            return
        rows = RowFile(path)
        for number in range(len(rows)):
            place = f"row {number}"
            try:
                yield Item(number, place, rows[number])
            except DataError as error:
                yield BadItem(number, place, "malformed", str(error))

    def conversations(self, item: Item, options: Options) -> Iterable[Conversation]:
        is_read = isinstance(item.value, Conversation)
        yield item.value if is_read else read_conversation(item.value, item.number)

    def audio_mode(self, path: Path, options: Options) -> str:
        return options.audio or ("keep" if is_json(path) else "embed")

    def save(self, entries: Iterator[Any], stage: Stage, options: Options) -> None:
        if is_json(stage.main):
            write_json(stage.main, entries)
        elif stage.main.suffix == ".parquet":
            write_shard(stage.main, list(entries))
        else:
            write_set(stage.main, entries, name=stage.main.name, shard_rows=options.shard_rows)

    def entries(self, row: Conversation, number: int, clips: Clips, options: Options) -> Iterable[Any]:
        embed, as_json = clips.mode == "embed", is_json(clips.stage.main)
        made = copy.copy(row)
        made.messages = copy.deepcopy(row.messages)
        for part in made.audio_parts():
            if part.tokens and part.tokens.get("path"):
                part.tokens = with_ids(part.tokens, clips.root)
            if part.audio is None:
                continue
            if not embed:
                part.audio = clips.path(part, row, cut=False)
            elif as_json:
                data, suffix = clips.data(part, row, cut=False)
                code = base64.b64encode(data).decode("ascii")
                part.audio = f"data:{_MIME.get(suffix, 'application/octet-stream')};base64,{code}"
        if as_json:
            made.audios = []
            return [made.row()]
        made.audios = list(row.audios) if embed else []
        return [hoist(made, clips.root, embed)]


def with_ids(tokens: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Tokens with the ids of their file inside, so that the row needs no file.

    Raises:
        AudioError: The file cannot be read.
    """
    found = dict(tokens)
    try:
        ids = np.load(root / found.pop("path"), allow_pickle=False)
    except (OSError, ValueError) as error:
        raise AudioError(f"the tokens of a recording cannot be read: {error}") from error
    return found | {"ids": [int(i) for i in ids.reshape(-1)]}
