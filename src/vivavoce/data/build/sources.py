"""Where pipelines begin: lines of text, rows of any set, or a folder of recordings."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from vivavoce.audio.files import audio_info
from vivavoce.base.errors import AudioError, ConfigError, DataError, MissingExtraError
from vivavoce.data.build.contract import Context, Fault
from vivavoce.data.conversation import Audio, Conversation, Message, Text
from vivavoce.data.rows import RowFile

# what counts as a recording by its name; whether it is one is seen when its header is read
AUDIO_SUFFIXES = frozenset(
    ".wav .wave .flac .ogg .oga .opus .mp3 .mp2 .m4a .m4b .aac .webm .weba .aif .aiff .aifc .au .snd .caf .w64 .rf64 "
    ".wma .amr .ape .wv .ac3 .mka .mkv .mp4 .mov .3gp .spx .sph".split()
)


@dataclass(frozen=True)
class TextConfig:
    """Lines of text.

    Attributes:
        file: Text file with one text a line, or JSONL with the fields below.
        texts: Texts given here, instead of a file.
        user, assistant: Fields of JSONL rows that become turns; a text file fills the user's turn.
        repeat: Go through the texts so many times (with other voices, say).
    """

    file: str | None = None
    texts: tuple[str, ...] = ()
    user: str = "prompt"
    assistant: str = "answer"
    repeat: int = 1

    def __post_init__(self) -> None:
        if bool(self.file) == bool(self.texts):
            raise ConfigError("wanted file or texts, one of the two")
        if self.repeat < 1:
            raise ConfigError(f"repeat is {self.repeat}, wanted 1 or more")


class TextSource:
    """Each text becomes a user turn, with the assistant's answer if its row has one."""

    config_class: ClassVar[type] = TextConfig
    version: ClassVar[int] = 1

    def __init__(self, config: TextConfig, context: Context) -> None:
        self.config, self.context = config, context

    @cached_property
    def _lines(self) -> list[tuple[int, str]]:
        """Lines with something in them and their numbers in the file; only line feeds end a line, as in JSONL."""
        if not self.config.file:
            return list(enumerate(self.config.texts, 1))
        path = self.context.root / self.config.file
        try:
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} cannot be read: {error}") from error
        return [(i, line) for i, line in enumerate(lines, 1) if line.strip()]

    def __len__(self) -> int:
        return len(self._lines) * self.config.repeat

    def rows(self, start: int, stop: int) -> list[Conversation | Fault]:
        return [self._row(i) for i in range(start, stop)]

    def _row(self, number: int) -> Conversation | Fault:
        (place, line), name = self._lines[number % len(self._lines)], f"{number:07d}"
        if not self.config.file or not self.config.file.endswith((".jsonl", ".json")):
            return Conversation(name, [Message("user", [Text(line.strip())])])
        where = f"line {place} of {self.config.file}"
        try:
            record = json.loads(line)
            turns = [("user", record[self.config.user]), ("assistant", record.get(self.config.assistant))]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            return Fault("unreadable", f"{where}: {type(error).__name__} {error}")
        wrong = next((text for _, text in turns if text is not None and not isinstance(text, str)), None)
        if wrong is not None or not turns[0][1]:
            return Fault("unreadable", f"{where}: {str(wrong)[:60]!r} stands for text, wanted words")
        if "id" in record:
            turn = number // len(self._lines)
            name = f"{record['id']}/{turn}" if turn else str(record["id"])
        messages = [Message(role, [Text(text)]) for role, text in turns if text]
        return Conversation(name, messages, license=record.get("license"))

    def fingerprint(self) -> str:
        return hashlib.sha256("\n".join(line for _, line in self._lines).encode()).hexdigest()


@dataclass(frozen=True)
class RowsConfig:
    """Rows of a set.

    Attributes:
        path: Folder of shards, Parquet file, or JSONL.
    """

    path: str


class RowsSource:
    """The rows of a set, as they are."""

    config_class: ClassVar[type] = RowsConfig
    version: ClassVar[int] = 1

    def __init__(self, config: RowsConfig, context: Context) -> None:
        self._file = RowFile(context.root / config.path)

    def __len__(self) -> int:
        return len(self._file)

    def rows(self, start: int, stop: int) -> list[Conversation | Fault]:
        found: list[Conversation | Fault] = []
        for number in range(start, stop):
            try:
                found.append(self._file[number])
            except (DataError, RecursionError) as error:
                found.append(Fault("unreadable", f"row {number}: {error}"))
        return found

    def fingerprint(self) -> str:
        return self._file.fingerprint()


@dataclass(frozen=True)
class RecordingsConfig:
    """Recordings in a folder.

    Attributes:
        folder: Searched through, sub-folders included, in the order of names.
        license: Of all of them.
        source: Where they come from.
    """

    folder: str
    license: str | None = None
    source: str | None = None


class RecordingsSource:
    """Each recording becomes a user turn; a text file of the same name beside it is its transcript.

    What has the name of a recording and is none is put aside ("unreadable"), and what needs a program that is not
    installed ("needs_program").
    """

    config_class: ClassVar[type] = RecordingsConfig
    version: ClassVar[int] = 1

    def __init__(self, config: RecordingsConfig, context: Context) -> None:
        self.config, self.folder = config, context.root / config.folder
        if not self.folder.is_dir():
            raise ConfigError(f"{self.folder} is no folder; wanted one with recordings.")

    @cached_property
    def _files(self) -> list[Path]:
        return sorted(
            p for p in self.folder.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES and not p.is_dir()
        )

    def __len__(self) -> int:
        return len(self._files)

    def rows(self, start: int, stop: int) -> list[Conversation | Fault]:
        return [self._row(path) for path in self._files[start:stop]]

    def _row(self, path: Path) -> Conversation | Fault:
        name, text = path.relative_to(self.folder).as_posix(), path.with_suffix(".txt")
        try:
            name.encode()
            if not path.is_file():  # a pipe would be waited for
                return Fault("unreadable", f"{name!r}: it is no file, or a link to none")
            audio_info(path)
        except (AudioError, OSError, UnicodeEncodeError) as error:
            return Fault("unreadable", f"{name!r}: {error}")
        except MissingExtraError as error:
            return Fault("needs_program", f"{name}: {error}")
        try:
            transcript = text.read_text(encoding="utf-8").strip() if text.is_file() else None
        except (OSError, UnicodeDecodeError) as error:
            return Fault("unreadable", f"the transcript of {name}: {error}")
        part = Audio(str(path), transcript=transcript or None)
        made = Conversation(name, [Message("user", [part])])
        made.license, made.source = self.config.license, self.config.source
        return made

    def fingerprint(self) -> str:
        listing = [
            f"{p.relative_to(self.folder)} {_stamp(p)} {_stamp(p.with_suffix('.txt'))}" for p in self._files
        ]
        return hashlib.sha256("\n".join(listing).encode(errors="surrogateescape")).hexdigest()


def _stamp(path: Path) -> str:
    """What changes when a file does: its size and when it was written."""
    try:
        found = path.stat()
    except OSError:
        return ""  # absent, a link to nowhere, or a file that may not be looked at; reading it will tell
    return f"{found.st_size} {found.st_mtime_ns}"
