"""Convert a file or folder from one form of speech data to another, and say what became of every row."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.base.records import read_record
from vivavoce.data.conversation import Conversation
from vivavoce.data.convert.contract import Format, Options, RowFault, Written
from vivavoce.data.convert.table import FORMATS

OWN = "vivavoce"
_EVERYWHERE = {
    "audio_root", "check_audio", "encoding", "variant", "limit", "source", "license", "overwrite", "audio",
}  # fmt: skip
_EXAMPLES = 20
_LEAD = 0.2  # by how much the best guess must be ahead


@dataclass(frozen=True)
class FormatFacts:
    """A row of the table of formats.

    Attributes:
        name: For ``convert``.
        description: One line.
        can_write: Whether it can be written.
        suffixes: How files to write end; "" for a folder.
        variants: Shapes it can be written in, the usual one first.
        holds: Details that survive.
        settings: Options that it looks at.
    """

    name: str
    description: str
    can_write: bool
    suffixes: tuple[str, ...]
    variants: tuple[str, ...]
    holds: tuple[str, ...]
    settings: tuple[str, ...]


@dataclass
class Converted:
    """What became of every row.

    Rows read are rows written and rows left out; rows that cannot be read are faults.

    Attributes:
        source_format, target_format: Names.
        rows_read: Conversations that were read.
        written: What the output has, and what was left out.
        faults: Kind -> rows that could not be read.
        examples: The first of these.
    """

    source_format: str
    target_format: str
    rows_read: int = 0
    written: Written = field(default_factory=Written)
    faults: dict[str, int] = field(default_factory=dict)
    examples: list[RowFault] = field(default_factory=list)

    @property
    def num_faults(self) -> int:
        return sum(self.faults.values())

    def __str__(self) -> str:
        done = self.written
        lines = [
            f"read        {self.rows_read} rows of {self.source_format}, {self.num_faults} could not be read",
            f"written     {done.rows} rows of {self.target_format} in {done.entries} entries, {done.clips} recordings",
        ]
        lines += [f"unreadable  {count}: {kind}" for kind, count in self.faults.items()]
        lines += [f"left out    {count}: {reason}" for reason, count in done.left_out.items()]
        lines += [f"dropped     {name}, of {count} rows" for name, count in done.dropped.items()]
        return "\n".join(lines)


def get_format(name: str) -> Format:
    """The format called ``name``.

    Raises:
        ConfigError: There is none; with the nearest name.
    """
    made: Format = FORMATS.get(name)()
    return made


def list_formats() -> list[FormatFacts]:
    """All formats, as the table of the command line has them."""
    formats = [get_format(name) for name in FORMATS]
    return [
        FormatFacts(
            f.name,
            f.description,
            f.can_write,
            f.suffixes,
            f.variants,
            tuple(sorted(f.holds)),
            tuple(sorted(f.settings)),
        )
        for f in formats
    ]


def detect_format(path: Path | str) -> str:
    """Name the form of a file or folder, by looking at its first rows.

    Raises:
        ConfigError: It may be several, or none; the message names the candidates.
        DataError: There is nothing at ``path``.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist.")
    scores = {name: float(get_format(name).detect(path)) for name in FORMATS}
    ranked = sorted((name for name in scores if scores[name] > 0), key=lambda n: -scores[n])
    if not ranked:
        raise ConfigError(
            f"{path} looks like none of the known forms; say which with from_ (--from): {', '.join(FORMATS)}."
        )
    close = [name for name in ranked if scores[name] > scores[ranked[0]] - _LEAD]
    if len(close) > 1:
        raise ConfigError(f"{path} may be {' or '.join(close)}; say which with from_ (--from).")
    return ranked[0]


def read_any(
    path: Path | str, from_: str | None = None, options: Options | Mapping[str, Any] | None = None
) -> Iterator[Conversation | RowFault]:
    """Read conversations of any form.

    Args:
        path: File or folder.
        from_: Its form; None to tell it.
        options: As ``Options``.

    Raises:
        ConfigError: Unknown form or options.
        DataError: It cannot be read at all.
    """
    path, chosen = Path(path), _options(options)
    source = get_format(from_ or detect_format(path))
    rows = source.read(path, replace(chosen, audio_root=_root(path, chosen)))
    return itertools.islice((_named(row, chosen) for row in rows), chosen.limit)


def convert(
    src: Path | str,
    dst: Path | str,
    from_: str | None = None,
    to: str | None = None,
    *,
    options: Options | Mapping[str, Any] | None = None,
    on_fault: Callable[[RowFault], None] | None = None,
    on_row: Callable[[int], None] | None = None,
) -> Converted:
    """Convert a file or folder.

    Args:
        src: What to read.
        dst: What to write; it appears whole or not at all. Its name must fit the form.
        from_: Form of ``src``; None tells it by looking.
        to: Form of ``dst``; None means our own.
        options: As ``Options``, or its keys.
        on_fault: Told of every row that cannot be read.
        on_row: Told how many rows were read.

    Returns:
        Counts that add up: rows read = rows written + rows left out.

    Raises:
        ConfigError: Unknown form, option or variant; a form that cannot be told; a name that does not fit.
        DataError: ``src`` cannot be read at all, no row of it can be read or written, or ``dst`` exists.
    """
    src, dst, chosen = Path(src), Path(dst), _options(options)
    source = get_format(from_ or detect_format(src))
    target = get_format(to or OWN)
    _check_settings(chosen, source, target)
    target.check_target(dst, chosen)
    if dst.exists() and src.resolve() == dst.resolve():
        raise ConfigError(f"{src} would be written over itself; choose another name.")
    root = _root(src, chosen)
    chosen = replace(chosen, audio_root=root)
    made = Converted(source.name, target.name)
    faults: Counter[str] = Counter()

    def rows() -> Iterator[Conversation]:
        for row in source.read(src, chosen):
            if isinstance(row, RowFault):
                faults[row.kind] += 1
                if len(made.examples) < _EXAMPLES:
                    made.examples.append(row)
                if on_fault:
                    on_fault(row)
                continue
            made.rows_read += 1
            if on_row:
                on_row(made.rows_read)
            _named(row, chosen)
            yield row
            if made.rows_read == chosen.limit:
                return

    stream = rows()
    first = list(itertools.islice(stream, 1))
    if not first:
        said = "; ".join(map(str, made.examples[:3])) or "it has no rows"
        raise DataError(f"no row of {src} can be read as {source.name}: {said}")
    made.written = target.write(itertools.chain(first, stream), dst, chosen)
    made.faults = dict(faults)
    assert made.rows_read == made.written.rows + sum(made.written.left_out.values())
    return made


def _options(given: Options | Mapping[str, Any] | None) -> Options:
    if given is None:
        return Options()
    if isinstance(given, Mapping) and "audio_root" in given and given["audio_root"] is not None:
        given = dict(given) | {"audio_root": Path(given["audio_root"])}
    return read_record(Options, given, "options")


def _root(path: Path, options: Options) -> Path:
    return options.audio_root or (path if path.is_dir() else path.parent)


def _named(row: Conversation | RowFault, options: Options) -> Any:
    """Give rows the source and the license that they do not name themselves."""
    if isinstance(row, Conversation):
        row.source = row.source or options.source
        row.license = row.license or options.license
    return row


def _check_settings(options: Options, source: Format, target: Format) -> None:
    """Refuse options that neither form looks at, instead of ignoring them.

    Raises:
        ConfigError: With the names.
    """
    known = _EVERYWHERE | source.settings | target.settings
    usual = Options()
    odd = [f.name for f in fields(Options) if getattr(options, f.name) != getattr(usual, f.name)]
    odd = [name for name in odd if name not in known]
    if odd:
        raise ConfigError(f"{', '.join(odd)}: neither {source.name} nor {target.name} looks at that.")
