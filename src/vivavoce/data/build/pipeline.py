"""Pipelines: a source and a chain of builders, from YAML, with settings checked before any work.

```yaml
source: {type: text, file: questions.txt}
rows: 1000
seed: 0
stages:
  - {type: speak, voices: [espeak, flite], roles: [user]}
  - {type: tokenize, codec: nano}
license: cc0-1.0
```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vivavoce.base.errors import ConfigError, VivavoceError
from vivavoce.base.records import read_record, write_record
from vivavoce.data.build import BUILDERS, SOURCES
from vivavoce.data.build.contract import Context, Fault, Made
from vivavoce.data.conversation import Conversation, hash_json


@dataclass(frozen=True)
class Pipeline:
    """A resolved pipeline.

    Attributes:
        source: ``{"type": name in SOURCES, ...its settings}``.
        stages: ``{"type": name in BUILDERS, ...its settings}``, in order.
        name: For messages and the manifest.
        rows: Most rows to take from the source; None takes all.
        seed: Of everything random.
        block_rows: Rows of the source that are made and written together; what is lost by a kill at most.
        shard_rows: Rows of a finished shard.
        license: Of rows that name none.
        description: One line.
    """

    source: Mapping[str, Any]
    stages: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    name: str = "data"
    rows: int | None = None
    seed: int = 0
    block_rows: int = 32
    shard_rows: int = 1000
    license: str | None = None
    description: str = ""

    def __post_init__(self) -> None:
        faults = [
            f"{name} is {value}, wanted 1 or more"
            for name, value in (
                ("block_rows", self.block_rows),
                ("shard_rows", self.shard_rows),
                ("rows", self.rows),
            )
            if value is not None and value < 1
        ]
        places = [("source", SOURCES, self.source)]
        places += [(f"stages[{i}]", BUILDERS, stage) for i, stage in enumerate(self.stages)]
        for where, table, record in places:
            try:
                _settings(table, record, where)
            except VivavoceError as error:
                faults.append(str(error).rstrip("."))
        if faults:
            raise ConfigError("; ".join(faults) + ".")

    def key(self, source_fingerprint: str) -> str:
        """Names the result: the same for the same settings, builder versions and source, wherever it is made."""
        versions = [BUILDERS.get(stage["type"]).version for stage in self.stages]
        made = write_record(self)
        for name in ("name", "description", "shard_rows"):
            made.pop(name)
        return hash_json([made, versions, SOURCES.get(self.source["type"]).version, source_fingerprint])

    def make_source(self, context: Context) -> Any:
        cls = SOURCES.get(self.source["type"])
        return cls(_settings(SOURCES, self.source, "source"), context)


def load_pipeline(path: Path, overrides: Mapping[str, Any] | None = None) -> Pipeline:
    """Read a pipeline's YAML.

    Args:
        path: File.
        overrides: Dotted key -> value ("stages.0.speed"), which replace what the file says.

    Raises:
        ConfigError: All faults at once: unknown keys with the nearest name, missing files, values out of range.
    """
    try:
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(record, dict):
        raise ConfigError(f"{path} holds no settings; wanted at least source and stages.")
    for key, value in (overrides or {}).items():
        _override(record, key, value)
    return read_record(Pipeline, record, path.name)


class Chain:
    """The stages of a pipeline in one process; models are loaded when first needed and kept."""

    def __init__(self, pipeline: Pipeline, context: Context) -> None:
        self.pipeline, self.context = pipeline, context
        self._builders: list[Any] = [None] * len(pipeline.stages)

    def builder(self, number: int) -> Any:
        if self._builders[number] is None:
            record = self.pipeline.stages[number]
            cls = BUILDERS.get(record["type"])
            self._builders[number] = cls(_settings(BUILDERS, record, f"stages[{number}]"), self.context)
        return self._builders[number]

    def run(self, rows: Sequence[Conversation | Fault]) -> tuple[list[Conversation], list[dict[str, Any]]]:
        """Run all stages over rows of a block.

        Returns:
            The rows made, and for every row put aside ``{"stage", "kind", "reason", "filtered", "row"}``.
        """
        aside: list[dict[str, Any]] = [
            put_aside("source", row, None) for row in rows if isinstance(row, Fault)
        ]
        kept = [row for row in rows if not isinstance(row, Fault)]
        for number, record in enumerate(self.pipeline.stages):
            kept, faults = self.run_stage(number, kept)
            aside += [put_aside(record["type"], fault, row) for row, fault in faults]
        for row in kept:
            row.license = row.license or self.pipeline.license
        return kept, aside

    def run_stage(
        self, number: int, rows: Sequence[Conversation]
    ) -> tuple[list[Conversation], list[tuple[Conversation, Fault]]]:
        """Run one stage over rows."""
        builder = self.builder(number)
        made: list[Conversation] = []
        faults = []
        for start in range(0, len(rows), builder.batch_rows):
            batch = list(rows[start : start + builder.batch_rows])
            for row, result in zip(batch, _call(builder, batch), strict=True):
                if isinstance(result, Fault):
                    faults.append((row, result))
                else:
                    made += result
        return made, faults


def _call(builder: Any, batch: list[Conversation]) -> list[Made]:
    """Call a builder; when a batch fails, find out which rows do."""
    try:
        return list(builder(batch))
    except (VivavoceError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == 28:  # a full disk is nobody's row's fault
            raise
        if len(batch) == 1:
            return [Fault(type(error).__name__, str(error) or type(error).__name__)]
    return [result for row in batch for result in _call(builder, [row])]


def put_aside(stage: str, fault: Fault, row: Conversation | None) -> dict[str, Any]:
    """A line of the quarantine file; recordings in memory are left out."""
    kept = None if row is None else row.row()
    for i, audio in enumerate((kept or {}).get("audios", ())):
        if isinstance(audio, Mapping) and "bytes" in audio:
            kept["audios"][i] = {"path": audio.get("path"), "num_bytes": len(audio["bytes"])}  # type: ignore[index]
    return {
        "stage": stage,
        "kind": fault.kind,
        "reason": fault.reason,
        "filtered": fault.filtered,
        "row": kept,
    }


def _settings(table: Any, record: Any, where: str) -> Any:
    if not isinstance(record, Mapping) or "type" not in record:
        raise ConfigError(
            f"{where} is {record!r}, wanted {{type: name, ...}} with one of: {', '.join(table)}."
        )
    cls = table.get(record["type"])
    return read_record(cls.config_class, {k: v for k, v in record.items() if k != "type"}, where)


def _override(record: Any, key: str, value: Any) -> None:
    """Set ``a.b.0.c`` in nested records."""
    *path, last = key.split(".")
    for name in path:
        inner = record[int(name)] if isinstance(record, list) else record.setdefault(name, {})
        if not isinstance(inner, dict | list):
            raise ConfigError(f"{key}: {name} is {inner!r} and has no keys.")
        record = inner
    try:
        record[int(last) if isinstance(record, list) else last] = value
    except (ValueError, IndexError) as error:
        raise ConfigError(f"{key}: there are {len(record)} stages, numbered from 0.") from error
