"""Tables of rows with columns: Parquet, Arrow, CSV and JSON, as Hugging Face data sets have them.

Recordings are structs ``{"bytes", "path"}`` and declared as ``Audio`` when written, so that `datasets` decodes them.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vivavoce.base.errors import DataError
from vivavoce.data.convert.json_rows import BadItem, Item, json_items
from vivavoce.data.convert.outputs import write_json
from vivavoce.data.shards import import_pyarrow

TABLE_SUFFIXES = (".parquet", ".arrow", ".csv", ".tsv")
_BATCH_ROWS = 256
_BATCH_BYTES = 64 << 20


def table_files(path: Path) -> list[Path]:
    """The files of a table: itself, or the Parquet (or Arrow) files below a folder, by name."""
    if path.is_file():
        return [path]
    return sorted(path.rglob("*.parquet")) or sorted(path.rglob("*.arrow"))


def table_items(path: Path, encoding: str = "utf-8") -> Iterator[Item | BadItem]:
    """Read the rows of a table.

    Args:
        path: Parquet, Arrow, CSV, TSV or JSON file, or a folder of Parquet or Arrow files.
        encoding: Of text files.

    Raises:
        DataError: There are no such files, or the first is none.
    """
    files = table_files(path)
    if not files:
        raise DataError(f"{path} has no .parquet or .arrow files.")
    number = 0
    for file in files:
        for item in _file_items(file, encoding):
            place = item.place if len(files) == 1 else f"{item.place} of {file.name}"
            yield item._replace(number=number, place=place)
            number += 1


def _file_items(path: Path, encoding: str) -> Iterator[Item | BadItem]:
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        yield from _csv_items(path, encoding, "\t" if suffix == ".tsv" else ",")
    elif suffix in (".parquet", ".arrow"):
        number = 0
        try:
            for batch in _batches(path):
                for row in batch.to_pylist():
                    yield Item(number, f"row {number}", row)
                    number += 1
        except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
            reason = f"{path.name} is cut off or damaged: {_line(error)}"
            if number == 0:
                raise DataError(reason) from error
            yield BadItem(number, f"row {number}", "cut off", reason)
    else:
        yield from json_items(path, encoding)


def _batches(path: Path) -> Iterator[Any]:
    pa = import_pyarrow()
    if path.suffix.lower() == ".parquet":
        with pa.parquet.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=64)
        return
    with pa.memory_map(str(path)) as source:
        try:
            reader = pa.ipc.open_stream(source)
        except pa.ArrowInvalid:
            whole = pa.ipc.open_file(source)
            yield from (whole.get_batch(i) for i in range(whole.num_record_batches))
        else:
            yield from reader


def _csv_items(path: Path, encoding: str, delimiter: str) -> Iterator[Item | BadItem]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        with path.open(encoding=encoding, errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file, delimiter=delimiter)
            for number, row in enumerate(reader):
                place = f"line {reader.line_num}"
                if any("\udc80" <= c <= "\udcff" for value in row.values() for c in str(value)):
                    yield BadItem(number, place, "encoding", f"bytes that are no {encoding} text")
                elif None in row or None in row.values():
                    yield BadItem(
                        number,
                        place,
                        "malformed",
                        f"wanted {len(reader.fieldnames or ())} columns as in the first line",
                    )
                else:
                    yield Item(number, place, {k: v for k, v in row.items() if v != ""})
    except (OSError, csv.Error, LookupError) as error:
        raise DataError(f"{path} cannot be read: {_line(error)}") from error


def write_table(path: Path, rows: Iterable[dict[str, Any]], columns: Mapping[str, str]) -> None:
    """Write rows as Parquet, CSV or JSON, by the name of the file.

    Args:
        path: To write.
        rows: With values for the columns, and other columns.
        columns: Column -> "audio", "string", "ints", "int" or "float"; others get the type of their first rows.

    Raises:
        DataError: A column changes its type, or comes late.
    """
    if path.suffix.lower() in (".csv", ".tsv"):
        _write_csv(path, rows, list(columns))
    elif path.suffix.lower() != ".parquet":
        write_json(path, rows)
    else:
        table = _Parquet(path, columns)
        for row in rows:
            table.add(row)
        table.close()


class _Parquet:
    """A Parquet file that grows by batches; the first rows decide the columns."""

    def __init__(self, path: Path, columns: Mapping[str, str]) -> None:
        self.pa, self.path, self.columns = import_pyarrow(), path, columns
        self.rows: list[dict[str, Any]] = []
        self.num_bytes = self.written = 0
        self.schema: Any = None
        self.writer: Any = None

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        for name, kind in self.columns.items():
            if kind == "audio" and isinstance(row.get(name), Mapping):
                self.num_bytes += len(row[name].get("bytes") or b"")
        if len(self.rows) >= _BATCH_ROWS or self.num_bytes >= _BATCH_BYTES:
            self._flush()

    def close(self) -> None:
        self._flush()
        self.writer.close()

    def _flush(self) -> None:
        pa = self.pa
        if self.schema is None:
            self.schema = self._schema()
            self.writer = pa.parquet.ParquetWriter(self.path, self.schema, compression="zstd")
        if not self.rows:
            return
        late = sorted({name for row in self.rows for name in row} - set(self.schema.names))
        if late:
            raise DataError(
                f"the columns {', '.join(late)} come first after row {self.written}; Parquet needs them from the "
                "beginning. Write JSON lines instead."
            )
        try:
            table = pa.Table.from_pylist(self.rows, schema=self.schema)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            reason = _line(error)
            raise DataError(
                f"a column changes its type after row {self.written}: {reason}. Write JSON lines instead."
            ) from error
        self.writer.write_table(table)
        self.written += len(self.rows)
        self.rows, self.num_bytes = [], 0

    def _schema(self) -> Any:
        pa = self.pa
        kinds = {
            "audio": pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
            "string": pa.string(),
            "int": pa.int64(),
            "float": pa.float64(),
            "ints": pa.list_(pa.int32()),
        }
        fields = [(name, kinds[kind]) for name, kind in self.columns.items()]
        names = dict.fromkeys(name for row in self.rows for name in row if name not in self.columns)
        for name in names:
            try:
                found = pa.array([row.get(name) for row in self.rows]).type
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise DataError(
                    f"the column {name} has values of several types: {_line(error)}. Write JSON lines instead."
                ) from error
            fields.append((name, pa.string() if pa.types.is_null(found) else found))
        audio = {name: {"_type": "Audio"} for name, kind in self.columns.items() if kind == "audio"}
        rest = {name: _feature(pa, kind) for name, kind in fields if name not in audio}
        features = {name: audio.get(name) or rest[name] for name, _ in fields}
        if None in features.values():
            features = dict(audio)  # `datasets` works out the others
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        return pa.schema(fields, metadata=metadata)


def _feature(pa: Any, kind: Any) -> dict[str, Any] | None:
    """A column's type in Hugging Face's notation, None for what has nested objects."""
    if pa.types.is_list(kind):
        inner = _feature(pa, kind.value_type)
        return inner and {"feature": inner, "_type": "List"}
    if pa.types.is_nested(kind):
        return None
    name = {"double": "float64", "float": "float32"}.get(str(kind), str(kind))
    return {"dtype": name, "_type": "Value"}


def _write_csv(path: Path, rows: Iterable[dict[str, Any]], names: list[str]) -> None:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, delimiter=delimiter, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            odd = sorted(set(row) - set(names))
            if odd:
                raise DataError(f"CSV has no room for {', '.join(odd)}, only for {', '.join(names)}.")
            plain = {
                k: json.dumps(v, ensure_ascii=False) if isinstance(v, list | dict) else v
                for k, v in row.items()
            }
            writer.writerow(plain)


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
