"""Parquet shards: conversations with their recordings inside, readable by `datasets` with and without this package.

Recordings are hoisted to the column ``audios``, which is declared as Hugging Face ``Audio``; parts name them by index.
What varies from row to row (labels, tools, meta, odd keys of messages) is JSON text. A shard is written beside its
place and renamed, so a file that has its name is whole.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vivavoce.base.errors import DataError, MissingExtraError
from vivavoce.data.conversation import Conversation, read_conversation

if TYPE_CHECKING:
    import pyarrow

GROUP_ROWS, GROUP_BYTES = 64, 1 << 27
_JSON_COLUMNS = ("tools", "meta")

_STRING, _FLOAT = {"dtype": "string", "_type": "Value"}, {"dtype": "float64", "_type": "Value"}
_WORD = {"word": _STRING, "start": _FLOAT, "end": _FLOAT}
_TOKENS = {
    "codec": _STRING, "codec_hash": _STRING, "layout": _STRING, "num_samples": {"dtype": "int64", "_type": "Value"},
    "path": _STRING, "ids": {"feature": {"dtype": "int32", "_type": "Value"}, "_type": "List"},
}  # fmt: skip
_PART = {
    "type": _STRING, "text": _STRING, "audio": {"dtype": "int32", "_type": "Value"}, "start": _FLOAT, "end": _FLOAT,
    "transcript": _STRING, "language": _STRING, "speaker": _STRING, "words": {"feature": _WORD, "_type": "List"},
    "labels": _STRING, "tokens": _TOKENS,
}  # fmt: skip
_MESSAGE = {
    "role": _STRING, "content": {"feature": _PART, "_type": "List"},
    "loss": {"text": _FLOAT, "audio": _FLOAT}, "more": _STRING,
}  # fmt: skip
# the columns in Hugging Face's own notation, from which the Arrow schema is made too
FEATURES: dict[str, Any] = {
    "id": _STRING, "messages": {"feature": _MESSAGE, "_type": "List"},
    "audios": {"feature": {"_type": "Audio"}, "_type": "List"},
    "tools": _STRING, "task": _STRING, "source": _STRING, "license": _STRING, "weight": _FLOAT, "meta": _STRING,
}  # fmt: skip


def import_pyarrow() -> Any:
    """pyarrow with its Parquet reader, asked for only where shards are.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("Parquet shards need pyarrow: pip install 'vivavoce[data]'.") from error
    return pyarrow


def schema() -> pyarrow.Schema:
    """The Arrow schema of a shard, with the metadata by which `datasets` knows the columns."""
    pa = import_pyarrow()
    scalars = {"string": pa.string(), "float64": pa.float64(), "int32": pa.int32(), "int64": pa.int64()}

    def arrow(feature: Mapping[str, Any]) -> Any:
        kind = feature.get("_type")
        if kind == "Value":
            return scalars[feature["dtype"]]
        if kind == "Audio":
            return pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        if kind == "List":
            return pa.list_(arrow(feature["feature"]))
        return pa.struct([(name, arrow(inner)) for name, inner in feature.items()])

    metadata = {"huggingface": json.dumps({"info": {"features": FEATURES}})}
    return pa.schema([(name, arrow(feature)) for name, feature in FEATURES.items()], metadata=metadata)


def write_shard(path: Path, conversations: Sequence[Conversation]) -> int:
    """Write one shard; its recordings must be in the rows (``data.recordings.hoist``).

    Args:
        path: Made or replaced as a whole.
        conversations: In order.

    Returns:
        Size in bytes.

    Raises:
        DataError: A recording is neither bytes nor a path.
    """
    pa = import_pyarrow()
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    columns = schema()
    try:
        with part.open("wb") as file:
            with pa.parquet.ParquetWriter(file, columns, compression="zstd", use_dictionary=False) as writer:
                for group in _groups(conversations):
                    writer.write_table(pa.Table.from_pylist([_encode(c) for c in group], schema=columns))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path.stat().st_size


def _groups(conversations: Sequence[Conversation]) -> Iterator[list[Conversation]]:
    """Rows that go into one row group: few enough that a reader has room for their recordings."""
    group: list[Conversation] = []
    size = 0
    for conversation in conversations:
        more = num_bytes(conversation)
        if group and (len(group) == GROUP_ROWS or size + more > GROUP_BYTES):
            yield group
            group, size = [], 0
        group.append(conversation)
        size += more
    if group:
        yield group


def num_bytes(conversation: Conversation) -> int:
    """Bytes of the recordings in a row."""
    return sum(len(a.get("bytes") or b"") for a in conversation.audios if isinstance(a, Mapping))


def read_shard(path: Path, start: int = 0) -> Iterator[Conversation]:
    """Read a shard from row ``start`` on, a few rows in memory at a time.

    Raises:
        DataError: It is no shard of conversations, or is cut off.
    """
    for _, row in read_rows(path, start):
        if isinstance(row, DataError):
            raise row
        yield row


def read_rows(path: Path, start: int = 0) -> Iterator[tuple[int, Conversation | DataError]]:
    """Read a shard as ``read_shard`` does, with numbers; a row that cannot be used is its error, and the next follows.

    Raises:
        DataError: It is no shard of conversations, or is cut off.
    """
    pa = import_pyarrow()
    try:
        file = pa.parquet.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}") from error
    with file:
        missing = sorted({"id", "messages"} - set(file.schema_arrow.names))
        if missing:
            raise DataError(
                f"{path} has no column {', '.join(missing)}; it has {', '.join(file.schema_arrow.names)}. Convert it "
                "first: vivavoce data convert."
            )
        number = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if number + rows > start:
                try:
                    found = file.read_row_group(group).to_pylist()
                except (pa.ArrowInvalid, OSError) as error:
                    raise DataError(f"{path} is damaged: {str(error).splitlines()[0]}") from error
                for i, row in enumerate(found, number):
                    if i >= start:
                        yield i, decode_row(row, i)
            number += rows


def row_groups(path: Path) -> list[int]:
    """Rows of each row group of a shard, from its footer."""
    pa = import_pyarrow()
    try:
        metadata = pa.parquet.read_metadata(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}") from error
    return [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]


def num_rows(path: Path) -> int:
    """Rows of a shard, from its footer."""
    return sum(row_groups(path))


def _json(value: Any) -> str | None:
    return json.dumps(value, ensure_ascii=False, sort_keys=True) if value else None


def _encode(conversation: Conversation) -> dict[str, Any]:
    """A conversation as one object of the schema."""
    row = conversation.row()
    row["weight"] = conversation.weight
    for name in _JSON_COLUMNS:
        row[name] = _json(row.get(name))
    row["audios"] = [_recording(audio, conversation.id) for audio in conversation.audios]
    row["messages"] = []
    for message in conversation.messages:
        loss = (
            message.loss
            if isinstance(message.loss, Mapping | None)
            else {"text": message.loss, "audio": message.loss}
        )
        parts = []
        for part in (p.row() for p in message.parts):
            words = part.get("words")
            part["words"] = words and [{"word": w, "start": a, "end": b} for w, a, b in words]
            part["labels"] = _json(part.get("labels"))
            parts.append(part)
        row["messages"].append(
            {"role": message.role, "content": parts, "loss": loss, "more": _json(message.more)}
        )
    return row


def _recording(audio: Any, where: str) -> dict[str, Any]:
    if isinstance(audio, str):
        return {"bytes": None, "path": audio}
    if isinstance(audio, Mapping) and (audio.get("bytes") is not None or audio.get("path")):
        return {"bytes": audio.get("bytes"), "path": audio.get("path")}
    raise DataError(f"row {where!r} has a recording that is {type(audio).__name__}; wanted a path or bytes.")


def decode_row(row: dict[str, Any], number: int) -> Conversation | DataError:
    """A row of the schema, or what is wrong with it."""
    try:
        return _decode(row, number)
    except DataError as error:
        return error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return DataError(f"row {number} has a value of another form than the columns of a set have: {error}")


def _decode(row: dict[str, Any], number: int) -> Conversation:
    """The inverse of ``_encode``; also takes rows whose ``content`` is plain text."""
    for name in _JSON_COLUMNS:
        if isinstance(row.get(name), str):
            row[name] = json.loads(row[name])
    row["audios"] = [_dropped(a) for a in row.get("audios") or ()]
    for message in row.get("messages") or ():
        message.update(json.loads(message.pop("more", None) or "{}"))
        loss = message.pop("loss", None)
        if isinstance(loss, Mapping):
            loss = {k: v for k, v in loss.items() if v is not None}
            loss = loss["text"] if len(loss) == 2 and loss["text"] == loss["audio"] else loss or None
        message["loss"] = loss
        for part in message["content"] if isinstance(message.get("content"), list) else ():
            part["words"] = part.get("words") and [[w["word"], w["start"], w["end"]] for w in part["words"]]
            part["labels"] = (
                json.loads(part["labels"]) if isinstance(part.get("labels"), str) else part.get("labels")
            )
            part["tokens"] = _dropped(part.get("tokens")) or None
    return read_conversation(row, number)


def _dropped(value: Any) -> dict[str, Any]:
    """Without the keys that Arrow fills in with nothing."""
    return {k: v for k, v in (value or {}).items() if v is not None}
