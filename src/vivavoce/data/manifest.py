"""A finished set: shards, what was put aside, and a manifest that says what is in it."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vivavoce.audio.files import audio_info
from vivavoce.base.errors import AudioError, ConfigError, DataError
from vivavoce.base.records import read_record, write_record
from vivavoce.data.conversation import Conversation
from vivavoce.data.recordings import read_bytes
from vivavoce.data.shards import num_bytes, read_shard, write_shard

MANIFEST = "manifest.json"
QUARANTINE = "put_aside.jsonl"
SHARD_BYTES = 1 << 29  # of recordings in one shard


@dataclass
class Shard:
    """One file of a set."""

    file: str
    rows: int
    num_bytes: int


@dataclass
class Manifest:
    """What is in a set.

    Attributes:
        key: Of pipeline and source; "" if no pipeline made it.
        content_hash: Of all rows in order, whatever the shards' sizes.
        hours: Of recordings, cuts by start and end not counted off.
        audio_tokens: Ids in ``tokens`` of audio parts.
        codecs: Codec id -> hash of its weights.
        licenses, tasks: Name -> rows ("" for none).
        source_rows: Rows that went in.
        passed: Of these, rows that something was made of; of all others what was put aside tells why.
        put_aside: Why -> rows.
        pipeline: Its resolved settings.
    """

    name: str
    rows: int
    content_hash: str
    shards: list[Shard]
    key: str = ""
    hours: float = 0.0
    characters: int = 0
    audio_tokens: int = 0
    codecs: dict[str, str] = field(default_factory=dict)
    licenses: dict[str, int] = field(default_factory=dict)
    tasks: dict[str, int] = field(default_factory=dict)
    source_rows: int | None = None
    passed: int | None = None
    put_aside: dict[str, int] = field(default_factory=dict)
    pipeline: dict[str, Any] | None = None
    description: str = ""
    version: int = 1


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a set.

    Raises:
        DataError: There is none, or it is not one.
    """
    try:
        record = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        record["shards"] = [Shard(**shard) for shard in record["shards"]]
        return read_record(Manifest, record, MANIFEST)
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise DataError(f"{folder} is not a finished set: {error}") from error


def write_set(
    folder: Path,
    rows: Iterable[Conversation],
    aside: Iterable[dict[str, Any]] = (),
    *,
    pipeline: Any = None,
    name: str | None = None,
    key: str = "",
    source_rows: int | None = None,
    passed: int | None = None,
    shard_rows: int = 1000,
) -> Manifest:
    """Write rows as shards with a manifest, which comes last: a folder with a manifest is complete.

    Args:
        folder: Made if absent.
        rows: With their recordings in ``audios``; read once.
        aside: What was put aside, as `Chain.run` gives it.
        pipeline: A `Pipeline`, for its name, settings and shard size.
        name: Of the set, without a pipeline.
        key: Of pipeline and source.
        source_rows: Rows that went in.
        passed: Rows of these that something was made of.
        shard_rows: Rows of a shard, without a pipeline; shards with large recordings have fewer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    size = pipeline.shard_rows if pipeline is not None else shard_rows
    sums = _Sums()
    shards: list[Shard] = []
    batch: list[Conversation] = []
    held = 0

    def flush() -> None:
        path = folder / f"data-{len(shards):05d}.parquet"
        shards.append(Shard(path.name, len(batch), write_shard(path, batch)))
        batch.clear()

    for row in rows:
        sums.add(row)
        if batch and held + num_bytes(row) > SHARD_BYTES:
            flush()
            held = 0
        batch.append(row)
        held += num_bytes(row)
        if len(batch) == size:
            flush()
            held = 0
    if batch:
        flush()
    put_aside = _write_aside(folder / QUARANTINE, aside)
    manifest = Manifest(
        name or (pipeline.name if pipeline is not None else "data"), sums.rows, sums.hash.hexdigest(), shards, key,
        round(sums.seconds / 3600, 6), sums.characters, sums.audio_tokens, sums.codecs, dict(sums.licenses),
        dict(sums.tasks), source_rows, passed, put_aside, write_record(pipeline) if pipeline is not None else None,
        getattr(pipeline, "description", ""),
    )  # fmt: skip
    part = folder / f".{MANIFEST}.part"
    with part.open("w", encoding="utf-8") as file:
        file.write(json.dumps(write_record(manifest), indent=1, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / MANIFEST)
    return manifest


def read_set(folder: Path, start: int = 0) -> Iterator[Conversation]:
    """All rows of a finished set from row ``start`` on, in order."""
    for shard in read_manifest(folder).shards:
        if start < shard.rows:
            yield from read_shard(folder / shard.file, start)
        start = max(0, start - shard.rows)


def _write_aside(path: Path, aside: Iterable[dict[str, Any]]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        for line in aside:
            counts[f"{line['stage']}: {line['kind']}"] += 1
            file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
    if counts:
        part.replace(path)
    else:
        part.unlink()
        path.unlink(missing_ok=True)
    return dict(sorted(counts.items()))


class _Sums:
    """Adds up what a manifest tells."""

    def __init__(self) -> None:
        self.rows = self.characters = self.audio_tokens = 0
        self.seconds = 0.0
        self.hash = hashlib.sha256()
        self.codecs: dict[str, str] = {}
        self.licenses: Counter[str] = Counter()
        self.tasks: Counter[str] = Counter()

    def add(self, row: Conversation) -> None:
        self.rows += 1
        self.hash.update(row.content_hash().encode())
        self.licenses[row.license or ""] += 1
        self.tasks[row.task] += 1
        self.characters += sum(len(m.text) for m in row.messages)
        self.seconds += sum(map(_seconds, row.audios))
        for part in row.audio_parts():
            if part.tokens:
                self.audio_tokens += len(part.tokens.get("ids") or ())
                self.codecs[str(part.tokens.get("codec"))] = str(part.tokens.get("codec_hash", ""))


def _seconds(audio: Any) -> float:
    try:
        return audio_info(read_bytes(audio)).duration_s or 0.0
    except AudioError:
        return 0.0  # a path that is not here; `data check` reports it
