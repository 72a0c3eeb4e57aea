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

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vivavoce.base.errors import ConfigError, VivavoceError
from vivavoce.base.records import read_record, set_dotted, write_record
from vivavoce.data.build import BUILDERS, SOURCES
from vivavoce.data.build.contract import Context, Fault, Made, Needs
from vivavoce.data.build.engines.quarantine import RUN_ERRORS, is_disk_full, put_aside
from vivavoce.data.build.texts.local_models import loading
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
    stages: tuple[Mapping[str, Any], ...] = ()
    name: str = "data"
    rows: int | None = None
    seed: int = 0
    block_rows: int = 32
    shard_rows: int = 1000
    license: str | None = None
    description: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
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
        for name in ("name", "description", "shard_rows", "block_rows"):
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
        set_dotted(record, key, value)
    return read_record(Pipeline, record, path.name)


def changes(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> str:
    """In which settings two pipelines differ, in a few words."""
    if not old or not new:
        return "its settings are not known"
    before, after = dict(_flat(old)), dict(_flat(json.loads(json.dumps(new, default=str))))
    names = [name for name in (*before, *after) if before.get(name) != after.get(name)]
    told = [
        f"{n} {before.get(n, 'absent')!r} there, {after.get(n, 'absent')!r} here"
        for n in dict.fromkeys(names)
    ]
    return (
        "; ".join(told[:3]) + ("; ..." if len(told) > 3 else "")
        or "the source or a builder's version changed"
    )


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping | list):
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def stage_needs(record: Mapping[str, Any]) -> Needs:
    """What a worker of a stage takes, with its settings."""
    needs: Needs = BUILDERS.get(record["type"]).needs(_settings(BUILDERS, record, record["type"]))
    return needs


class Chain:
    """The stages of a pipeline in one process, with their models."""

    def __init__(self, pipeline: Pipeline, context: Context) -> None:
        self.pipeline, self.context = pipeline, context
        self._builders: list[Any] = [None] * len(pipeline.stages)

    def builder(self, number: int) -> Any:
        if self._builders[number] is None:
            record = self.pipeline.stages[number]
            cls = BUILDERS.get(record["type"])
            config = _settings(BUILDERS, record, f"stages[{number}]")
            with loading(f"what stages[{number}], {record['type']}, works with"):
                self._builders[number] = cls(config, self.context)
        return self._builders[number]

    def make_builders(self) -> None:
        """Make the builders of all stages, with their models, before the first row.

        Raises:
            VivavoceError: One cannot be made: a model or package is missing, or does not fit the settings.
        """
        for number in range(len(self.pipeline.stages)):
            self.builder(number)

    def run(self, rows: Sequence[Conversation | Fault], first: int = 0) -> Parcel:
        """Run all stages over rows of a block.

        Args:
            rows: As a source gives them.
            first: Number of the first in the source.
        """
        self.make_builders()
        made = start(rows, first)
        for number in range(len(self.pipeline.stages)):
            made = self.run_stage(number, made)
        for _, row in made.kept:
            row.license = row.license or self.pipeline.license
        return made

    def run_stage(self, number: int, given: Parcel) -> Parcel:
        """Run one stage over rows; a row of which nothing was made is put aside too."""
        builder = self.builder(number)
        name = self.pipeline.stages[number]["type"]
        made = Parcel([], list(given.aside))
        for begin in range(0, len(given.kept), builder.batch_rows):
            batch = given.kept[begin : begin + builder.batch_rows]
            for (origin, row), result in zip(batch, _call(builder, [row for _, row in batch]), strict=True):
                if not isinstance(result, Fault) and not result:
                    result = Fault("nothing_made", f"{name} made nothing of this row", filtered=True)
                if isinstance(result, Fault):
                    made.aside.append({"number": origin, **put_aside(name, result, row)})
                else:
                    made.kept += [(origin, conversation) for conversation in result]
        return made


@dataclass
class Parcel:
    """Rows on their way through the stages.

    Attributes:
        kept: (number of its source row, row).
        aside: For every row put aside ``{"number", "stage", "kind", "reason", "filtered", "row"}``.
    """

    kept: list[tuple[int, Conversation]]
    aside: list[dict[str, Any]]


def start(rows: Sequence[Conversation | Fault], first: int) -> Parcel:
    """Rows as a source gives them, the first of which has this number."""
    aside = [
        {"number": n, **put_aside("source", row, None)}
        for n, row in enumerate(rows, first)
        if isinstance(row, Fault)
    ]
    return Parcel([(n, row) for n, row in enumerate(rows, first) if not isinstance(row, Fault)], aside)


def _call(builder: Any, batch: list[Conversation]) -> list[Made]:
    """Call a builder; when a batch fails, find out which rows do.

    What is wrong with the pipeline or the machine (settings, a model that cannot be loaded, a missing package, a full
    disk) is no row's fault and stops the run.
    """
    try:
        return list(builder(batch))
    except Exception as error:
        if isinstance(error, RUN_ERRORS) or is_disk_full(error):
            raise
        if len(batch) == 1:
            return [Fault(type(error).__name__, str(error) or type(error).__name__)]
    return [result for row in batch for result in _call(builder, [row])]


def _settings(table: Any, record: Any, where: str) -> Any:
    if not isinstance(record, Mapping) or "type" not in record:
        raise ConfigError(
            f"{where} is {record!r}, wanted {{type: name, ...}} with one of: {', '.join(table)}."
        )
    cls = table.get(record["type"])
    return read_record(cls.config_class, {k: v for k, v in record.items() if k != "type"}, where)
