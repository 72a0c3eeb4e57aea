"""What a data format is: rows of a published form to conversations, and conversations to that form.

Nothing is lost in silence. A row that cannot be read becomes a `RowFault` with its place and reason; a conversation
that the target form has no room for is counted in ``Written.left_out``, and a detail that it has no room for in
``Written.dropped``.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from vivavoce.base.errors import AudioError, ConfigError, DataError, VivavoceError
from vivavoce.data.build.contract import Fault
from vivavoce.data.conversation import Conversation
from vivavoce.data.convert.details import Room, details_of, kept
from vivavoce.data.convert.json_rows import BadItem, Item
from vivavoce.data.convert.outputs import Clips, Stage, write_json

AUDIO_MODES = ("keep", "copy", "embed")


@dataclass(frozen=True)
class RowFault(Fault):
    """Why a row of a file could not be read.

    Attributes:
        row: Its number in the file, from 0.
        place: For people: "line 7", "row 3 of data-00001.parquet".
    """

    row: int = 0
    place: str = ""

    def __str__(self) -> str:
        return f"{self.place or f'row {self.row}'}: {self.reason}"


class RowError(DataError):
    """A row cannot be read.

    Args:
        kind: A short word that is counted.
        reason: What was seen and what was wanted.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class Unfit(Exception):  # noqa: N818  (not an error of the user: the row is counted and left out)
    """The target form has no room for a conversation.

    Args:
        reason: The same words for the same reason, because they are counted.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Options:
    """How to read and write; every format looks at some of these.

    Attributes:
        audio_root: Where relative paths of recordings start; the folder of what is read by default.
        check_audio: Make rows whose recordings are not there into faults.
        encoding: Of text files.
        columns: Our word -> their column ("text", "audio", "description", "codes", ...), for reading.
        to_columns: The same, for writing.
        variant: Which of its shapes a form is written in; "" for the first.
        audio: What becomes of recordings in forms that name files: "keep" names files where they are, "copy" copies
            them beside the output, "embed" puts them inside where the form allows; "" for the form's usual way. What is
            no file of its own is always written as one.
        codec: Name of the codec of token columns; "" for the form's usual one.
        codec_hash: Hash of its weights, if known.
        form: Of token columns, as in `tokens.readers`; "auto" tells it from the first row.
        segments: "rows" makes a row of every segment of a long recording, "parts" keeps them in one row.
        shard_rows: Rows of a shard.
        limit: Most rows to read; None reads all.
        source, license: For rows that name none.
        overwrite: Replace a file that is there. Folders are never replaced.
    """

    audio_root: Path | None = None
    check_audio: bool = True
    encoding: str = "utf-8"
    columns: Mapping[str, str] = field(default_factory=dict)
    to_columns: Mapping[str, str] = field(default_factory=dict)
    variant: str = ""
    audio: str = ""
    codec: str = ""
    codec_hash: str = ""
    form: str = "auto"
    segments: str = "rows"
    shard_rows: int = 1000
    limit: int | None = None
    source: str | None = None
    license: str | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        faults = []
        if self.audio not in ("", *AUDIO_MODES):
            faults.append(f"audio is {self.audio!r}, wanted one of {', '.join(AUDIO_MODES)}")
        if self.segments not in ("rows", "parts"):
            faults.append(f"segments is {self.segments!r}, wanted 'rows' or 'parts'")
        if self.shard_rows < 1 or (self.limit is not None and self.limit < 1):
            faults.append(f"shard_rows is {self.shard_rows} and limit {self.limit}, wanted 1 or more")
        if faults:
            raise ConfigError("; ".join(faults) + ".")


@dataclass
class Written:
    """What was written.

    Attributes:
        rows: Conversations in the output.
        left_out: Why the form has no room for a conversation -> how many.
        dropped: What the form has no room for -> conversations written without it.
        entries: Rows of the output; more than ``rows`` where one conversation makes several.
        clips: Recordings written as files of their own.
        examples: The first few conversations left out, with the reason in full.
    """

    rows: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    entries: int = 0
    clips: int = 0
    examples: list[str] = field(default_factory=list)


class Format(ABC):
    """A published form of speech data.

    Attributes:
        name: In the table FORMATS.
        description: One line.
        suffixes: How files to write may end; "" stands for a folder.
        holds: Which details of a conversation come back after writing and reading (`details.DETAILS`).
        tasks: Tasks that rows of the form have; the first is what other tasks become.
        meta_keys: Keys of ``meta`` that have a place in the form; the one named like the form always has.
        audio_first: Whether recordings stand before typed words, where the form has no order of its own.
        variants: Shapes it can be written in, the usual one first.
        settings: Options that it looks at, beside those that all do.
        audio: What becomes of recordings if the options do not say.
        can_write: Whether conversations can be written in it.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".json", ".jsonl.gz")
    holds: ClassVar[frozenset[str]] = frozenset()
    tasks: ClassVar[tuple[str, ...]] = ("chat",)
    meta_keys: ClassVar[frozenset[str]] = frozenset()
    audio_first: ClassVar[bool] = False
    variants: ClassVar[tuple[str, ...]] = ()
    settings: ClassVar[frozenset[str]] = frozenset()
    audio: ClassVar[str] = "keep"
    can_write: ClassVar[bool] = True

    @abstractmethod
    def detect(self, path: Path) -> float:
        """How sure it is that ``path`` is of this form, 0 to 1; reads little and raises nothing."""

    @abstractmethod
    def items(self, path: Path, options: Options) -> Iterator[Item | BadItem]:
        """The raw rows of a file or folder, and the places that cannot be read.

        Raises:
            DataError: It cannot be read at all.
        """

    @abstractmethod
    def conversations(self, item: Item, options: Options) -> Iterable[Conversation | RowFault]:
        """A raw row as conversations, mostly one.

        Raises:
            VivavoceError: The row cannot be used.
        """

    def read(self, path: Path, options: Options | None = None) -> Iterator[Conversation | RowFault]:
        """Read what is at ``path``, in its order.

        Raises:
            DataError: It cannot be read at all.
        """
        path, options = Path(path), options or Options()
        if not path.exists():
            raise DataError(f"{path} does not exist; wanted a file or folder to read as {self.name}.")
        root = options.audio_root or (path if path.is_dir() else path.parent)
        for item in self.items(path, options):
            if isinstance(item, BadItem):
                yield RowFault(item.kind, item.reason, row=item.number, place=item.place)
                continue
            try:
                for made in self.conversations(item, options):
                    yield made if isinstance(made, RowFault) else self._checked(made, item, root, options)
            except (VivavoceError, OSError, ValueError, TypeError, LookupError, AttributeError) as error:
                # any other value may stand where a row of outside data wants text or a list
                yield fault_of(error, item)

    def _checked(
        self, row: Conversation, item: Item, root: Path, options: Options
    ) -> Conversation | RowFault:
        try:
            check_recordings(row, root, options.check_audio)
        except (AudioError, RowError) as error:
            return fault_of(error, item)
        return row

    def write(self, rows: Iterable[Conversation], path: Path, options: Options | None = None) -> Written:
        """Write conversations; the output appears whole or not at all.

        Raises:
            ConfigError: This form is read only, or ``path`` is not named as its files are.
            DataError: The output exists, or has no room for any of the rows.
        """
        path, options = Path(path), options or Options()
        self.check_target(path, options)
        done, left_out, dropped = Written(), Counter[str](), Counter[str]()
        with Stage(path, options.overwrite) as stage:
            clips = Clips(stage, options.audio_root or Path(), self.audio_mode(path, options))

            def made() -> Iterator[Any]:
                for row in rows:
                    try:
                        entries = list(self.entries(row, done.entries, clips, options))
                    except (Unfit, AudioError) as error:
                        clips.forget()
                        reason = error.reason if isinstance(error, Unfit) else "a recording cannot be read"
                        left_out[reason] += 1
                        if len(done.examples) < 5:
                            done.examples.append(f"{row.id}: {error}")
                        continue
                    clips.accept()
                    done.rows += 1
                    done.entries += len(entries)
                    dropped.update(self.lost(row, options))
                    yield from entries

            self.save(made(), stage, options)
            if not done.rows and left_out:
                reasons = "; ".join(f"{reason} ({count})" for reason, count in left_out.most_common())
                first = done.examples[0] if done.examples else ""
                raise DataError(
                    f"none of {left_out.total()} rows fits the form {self.name}: {reasons}. First: {first}"
                )
            done.left_out, done.dropped, done.clips = dict(left_out), dict(dropped), clips.count
        return done

    def check_target(self, path: Path, options: Options) -> None:
        """Refuse names and variants that this form does not have, before any work.

        Raises:
            ConfigError: As in ``write``.
        """
        if not self.can_write:
            raise ConfigError(f"the form {self.name} can be read, not written.")
        name = path.name.lower()
        fits = any(name.endswith(s) if s else not path.suffix or path.is_dir() for s in self.suffixes)
        if not fits:
            wanted = ", ".join(s or "a folder" for s in self.suffixes)
            raise ConfigError(f"{path.name} is no name for {self.name}; wanted {wanted}.")
        if options.variant and options.variant not in self.variants:
            known = ", ".join(self.variants) or "none"
            raise ConfigError(f"{self.name} has no variant {options.variant!r}; known: {known}.")

    def save(self, entries: Iterator[Any], stage: Stage, options: Options) -> None:
        """Write all entries, which are made as they are taken."""
        write_json(stage.main, entries)

    def audio_mode(self, path: Path, options: Options) -> str:
        """What becomes of recordings in this output: "keep", "copy" or "embed"."""
        return options.audio or self.audio

    def entries(self, row: Conversation, number: int, clips: Clips, options: Options) -> Iterable[Any]:
        """A conversation in this form.

        Args:
            row: Not changed.
            number: Place of the first entry in the output.
            clips: Puts recordings where the form can name them.
            options: As given.

        Raises:
            Unfit: The form has no room for it.
            AudioError: A recording cannot be read.
        """
        raise NotImplementedError

    def held(self, options: Options) -> frozenset[str]:
        """Which details come back in the variant that is written."""
        return self.holds

    def task_of(self, row: Conversation, options: Options) -> str:
        """The task that reading will give to a row."""
        return row.task if "task" in self.held(options) or row.task in self.tasks else self.tasks[0]

    def room(self, row: Conversation, options: Options) -> Room:
        """What of a row comes back in the variant that is written."""
        return Room(
            self.name, self.held(options), self.task_of(row, options), self.meta_keys, self.audio_first
        )

    def lost(self, row: Conversation, options: Options) -> set[str]:
        """Which details of a conversation do not survive."""
        return details_of(row, self.room(row, options)) - self.held(options)

    def survivor(self, row: Conversation, options: Options | None = None) -> Conversation:
        """The conversation without the details that do not survive."""
        return kept(row, self.room(row, options or Options()))


def fault_of(error: Exception, item: Item, kind: str = "") -> RowFault:
    """An error in a row as its fault."""
    named = getattr(error, "kind", "")
    kind = kind or named or ("audio" if isinstance(error, AudioError) else "malformed")
    reason = str(error) if isinstance(error, VivavoceError) else f"{type(error).__name__}: {error}"
    return RowFault(kind, reason, row=item.number, place=item.place)


def check_recordings(row: Conversation, root: Path, present: bool) -> None:
    """Refuse recordings that are addresses on the network, and those that are not there.

    Args:
        row: Whose recordings to look at; no file is opened.
        root: Where relative paths start.
        present: Whether files must be there.

    Raises:
        RowError: With the name of the first one.
    """
    for source in [*row.audios, *(p.audio for p in row.audio_parts() if isinstance(p.audio, str | Mapping))]:
        if isinstance(source, Mapping):
            if source.get("bytes") is not None:
                continue
            source = source.get("path")
        if not isinstance(source, str) or not source:
            raise RowError("malformed", f"a recording is {source!r}; wanted a path, bytes or a data URI.")
        if source.startswith("data:"):
            continue
        if "://" in source:
            raise RowError(
                "network address", f"{source} is an address on the network; download it and name the file."
            )
        if present:
            found = False
            with contextlib.suppress(OSError, ValueError):
                found = (root / source.partition("::")[0]).is_file()
            if not found:
                raise RowError("missing audio", f"there is no recording {source} in {root.name or root}.")
