"""Rows of published data sets: from the hub, from files of the same columns, or from a synthetic twin."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from vivavoce.base.errors import DataError, MissingExtraError
from vivavoce.evaluation.tasks.task import Case, CaseMaker, KindOfTask, Task, TaskOptions

Row = dict[str, Any]
View = Callable[[Row, int], Case | None]
"""(row, its number) -> a case, or None for a row that is no question."""


@dataclass(frozen=True)
class HubSet:
    """A data set on the Hugging Face hub.

    Attributes:
        path: Its id.
        config: Configuration (language, subset).
        split: "test" and the like.
        audio: Columns of recordings; they come as ``{"bytes", "path"}``, decoded by this package.
        revision: Branch or commit.
        licence: Of the data, as far as its card says.
        known: How its columns are known: "card", "code" that reads it, or "memory" (never read by us).
    """

    path: str
    config: str | None = None
    split: str = "test"
    audio: tuple[str, ...] = ("audio",)
    revision: str | None = None
    licence: str = ""
    known: str = "memory"


def hub_task(
    name: str,
    kind: KindOfTask,
    hub: HubSet,
    view: View,
    twin: Callable[[], list[Row]],
    metrics: Sequence[dict[str, Any]],
    options: TaskOptions,
    prompt: str = "",
) -> Task:
    """A task over a hub data set or its twin; both go through the same reader and view.

    Args:
        name: Of the task.
        kind: Of the task.
        hub: Where the data is; ``options`` may name another configuration, split and revision.
        view: Makes cases of rows.
        twin: Makes the twin's rows, with the columns of the published ones.
        metrics: As in `Task`.
        options: As given.
        prompt: As in `Task`.
    """

    def cases() -> Iterator[Case]:
        found = (view(row, number) for number, row in enumerate(read_rows(name, hub, twin, options)))
        yield from islice((case for case in found if case is not None), options.limit)

    return make(name, kind, hub, cases, metrics, options, prompt)


def make(
    name: str, kind: KindOfTask, hub: HubSet, cases: CaseMaker, metrics: Sequence[dict[str, Any]],
    options: TaskOptions, prompt: str,
) -> Task:  # fmt: skip
    """A task with its source told in words."""
    config, split = options.config or hub.config, options.split or hub.split
    whole = " ".join(part for part in (hub.path, config, split) if part)
    told = {"hub": whole, "twin": f"synthetic twin of {whole}, espeak-ng"}
    source = told.get(options.source, f"{Path(options.source).name}, in the form of {hub.path}")
    licence = "Apache-2.0" if options.source == "twin" else hub.licence
    return Task(name, kind, cases, tuple(metrics), prompt, source, licence, twin=options.source == "twin")


def read_rows(name: str, hub: HubSet, twin: Callable[[], list[Row]], options: TaskOptions) -> Iterator[Row]:
    """Rows of the hub, of the twin, or of files.

    Raises:
        DataError: Files that cannot be read.
        MissingExtraError: ``datasets`` or pyarrow is absent.
    """
    if options.source == "hub":
        yield from _from_hub(hub, options)
        return
    path = Path(options.source)
    if options.source == "twin":
        folder = options.cache or Path(mkdtemp(prefix="vivavoce-twin-"))
        path = folder / f"{name}.parquet"
        if not path.is_file():
            write_parquet(twin(), path)
    yield from read_file(path)


def _from_hub(hub: HubSet, options: TaskOptions) -> Iterator[Row]:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError(
            f"{hub.path} is read by the package datasets; run: pip install datasets, or evaluate on its twin."
        ) from error
    try:
        found = datasets.load_dataset(
            hub.path,
            options.config or hub.config,
            split=options.split or hub.split,
            revision=options.revision or hub.revision,
            streaming=True,
        )
        for column in hub.audio:
            found = found.cast_column(column, datasets.Audio(decode=False))  # decoding would need torchcodec
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise DataError(
            f"{hub.path} cannot be read from the hub ({type(error).__name__}: {str(error)[:200]}); its terms may want "
            "a login, or it moved. Give files of the same columns, or evaluate on the twin."
        ) from error
    yield from found


def read_file(path: Path) -> Iterator[Row]:
    """Rows of a Parquet file, of a folder of them, or of JSONL; recordings named there start at its folder.

    Raises:
        DataError: It is none of these.
    """
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise DataError(
            f"{path} has no rows; wanted a .parquet or .jsonl file, or a folder of .parquet files."
        )
    for file in files:
        if file.suffix == ".parquet":
            yield from _read_parquet(file)
        elif file.suffix in (".jsonl", ".ndjson"):
            with file.open(encoding="utf-8") as lines:
                yield from (json.loads(line) for line in lines if line.strip())
        else:
            raise DataError(f"{file.name} is neither .parquet nor .jsonl.")


def _read_parquet(file: Path) -> Iterator[Row]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingExtraError("Parquet needs pyarrow; run: pip install 'vivavoce[data]'") from error
    with parquet.ParquetFile(file) as opened:
        for batch in opened.iter_batches(batch_size=32):
            yield from batch.to_pylist()


def write_parquet(rows: Sequence[Row], path: Path) -> None:
    """Write rows, whole or not at all.

    Raises:
        MissingExtraError: pyarrow is absent.
    """
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingExtraError("twins need pyarrow; run: pip install 'vivavoce[data]'") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), part)
    part.replace(path)
