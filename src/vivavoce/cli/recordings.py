"""Several recordings in one argument: a path, a comma list, a JSON array, or a list in a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from vivavoce.base.errors import AudioError, ConfigError
from vivavoce.cli.files import STREAM

LIKE_RECORDINGS = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".aac", ".webm", ".aiff")


def spread_audio(arguments: Sequence[str]) -> list[str]:
    """Let ``--audio a.wav b.wav`` be ``--audio a.wav --audio b.wav``, as people write it.

    Only arguments that look like recordings or lists of them are taken; a model's name stays what it is.
    """
    spread: list[str] = []
    after = False  # the last argument was a recording
    for argument in arguments:
        if spread and spread[-1] in ("--audio", "-a"):
            after = True
        elif after and (argument.startswith("@") or argument.lower().endswith(LIKE_RECORDINGS)):
            spread.append("--audio")
        else:
            after = False
        spread.append(argument)
    return spread


def expand_recordings(text: str) -> list[str]:
    """List the recordings that an argument names, in order.

    Understood: one path; ``a.wav,b.wav`` (a file whose name has commas is taken as such); a JSON array of
    paths; and ``@list.txt``, a file with one path per line, relative to the list's folder or else to the
    current one, where blank lines and lines that begin with ``#`` are skipped. ``-`` is stdin.

    Raises:
        ConfigError: Nothing is named, the list cannot be read, or the array holds something else than paths.
        AudioError: Recordings that do not exist, all of them named.
    """
    given = text.strip()
    if given.startswith("@"):
        return _from_list(Path(given[1:].strip()))
    if _is_there(given):
        return [given]
    if given.startswith("[") and given.endswith("]"):
        return _checked(_from_json(given), given)
    return _checked([name.strip() for name in given.split(",") if name.strip()], given)


def _from_json(given: str) -> list[str]:
    try:
        names = json.loads(given)
    except ValueError as error:
        raise ConfigError(
            f'{given} is no JSON array: {error}; wanted ["a.wav", "b.wav"], or a.wav,b.wav.'
        ) from error
    if not all(isinstance(name, str) for name in names):
        raise ConfigError(f'{given} holds something else than paths; wanted ["a.wav", "b.wav"].')
    return [name.strip() for name in names if name.strip()]


def _from_list(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigError(f"the list {file} cannot be read: {error.strerror or error}.") from error
    except UnicodeError as error:
        raise ConfigError(f"the list {file} is not UTF-8 text: {error}.") from error
    names = [line.strip() for line in lines]
    names = [name for name in names if name and not name.startswith("#")]
    beside = [str(file.parent / name) for name in names]
    found = [near if _is_there(near) else name for near, name in zip(beside, names, strict=True)]
    return _checked(found, f"the list {file}", f"looked in {file.parent} and in the current folder")


def _checked(names: Sequence[str], given: str, where: str = "check the paths") -> list[str]:
    if not names:
        raise ConfigError(f"{given or 'an empty text'} names no recording; wanted one path or more.")
    missing = [name for name in names if not _is_there(name)]
    if missing:
        verb = "does" if len(missing) == 1 else "do"
        raise AudioError(f"{', '.join(missing)} {verb} not exist; {where}.")
    return list(names)


def _is_there(name: str) -> bool:
    if name == STREAM:
        return True
    try:
        return bool(name) and Path(name).exists()
    except (OSError, ValueError):  # a name that is too long, or with a zero byte
        return False
