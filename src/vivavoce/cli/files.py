"""Files that verbs write: where they go, and that each appears complete or not at all."""

from __future__ import annotations

import secrets
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vivavoce.base.errors import AudioError, ConfigError, VivavoceError
from vivavoce.cli.screen import note

STREAM = "-"
SOUND_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")


def output_paths(sources: Sequence[str], out: str, suffix: str) -> list[Path]:
    """Where the result of each source goes.

    Args:
        sources: File names; "-" is named "stdin".
        out: A file for one source; a folder for several, or if it is one or ends with a slash.
        suffix: Of the results in a folder.

    Raises:
        ConfigError: Two sources would be written to the same file, or ``out`` is a file and the sources are
            several.
    """
    folder = Path(out)
    if len(sources) == 1 and not folder.is_dir() and not out.endswith(("/", "\\")):
        return [folder]
    if folder.is_file():
        raise ConfigError(f"--out {out} is a file; {len(sources)} results need a folder.")
    paths = [folder / (("stdin" if s == STREAM else Path(s).stem) + suffix) for s in sources]
    for i, path in enumerate(paths):
        if path in paths[:i]:
            raise ConfigError(
                f"{sources[paths.index(path)]} and {sources[i]} would both be written to {path}; "
                "give them one at a time with --out FILE."
            )
    return paths


def read_bytes(source: str) -> bytes:
    """The contents of a file, or of stdin for "-".

    Raises:
        ConfigError: It cannot be read.
    """
    if source == STREAM:
        return sys.stdin.buffer.read()
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise ConfigError(f"{source} cannot be read: {error.strerror or error}.") from error


def write_bytes(path: Path, data: bytes) -> Path:
    """Write a file beside its place and rename it into it; folders are made as needed.

    Raises:
        ConfigError: The place cannot be written.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(data)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}.") from error
    return path


def write_stdout(data: bytes) -> None:
    """Write bytes on stdout."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def check_recording(file: str) -> None:
    """Look at the header of a recording, before costly work; streams such as stdin are left alone.

    Raises:
        AudioError, MissingExtraError: It cannot be read, or is too long to be loaded at once.
    """
    from vivavoce.audio.files import MAX_SECONDS, audio_info

    path = Path(file)
    if file == STREAM or (path.exists() and not path.is_file() and not path.is_dir()):
        return
    seconds = audio_info(path).duration_s
    if seconds is not None and seconds > MAX_SECONDS:
        raise AudioError(
            f"{file} is too long: {seconds:.0f} s, at most {MAX_SECONDS:.0f} s; cut it into shorter files."
        )


def bad_recordings(files: Sequence[str]) -> dict[str, VivavoceError]:
    """Check several recordings; returns the error of each bad one."""
    bad: dict[str, VivavoceError] = {}
    for file in files:
        try:
            check_recording(file)
        except VivavoceError as error:
            bad[file] = error
    return bad


def check_sound_path(out: str) -> None:
    """Refuse a name that no sound can be written to, before any work is done.

    Raises:
        AudioError: An unknown suffix, or a folder.
    """
    if out == STREAM:
        return
    path = Path(out)
    if path.is_dir():
        raise AudioError(f"{out} is a folder; wanted the name of a file.")
    if path.suffix.lower() not in SOUND_SUFFIXES:
        raise AudioError(f"cannot write {out!r}: wanted a name ending in {', '.join(SOUND_SUFFIXES)}.")


def write_sound(out: str | Path, waveform: Any, sample_rate: int) -> None:
    """Write a sound file, or a wav on stdout for "-"; folders are made as needed, which it says.

    Raises:
        AudioError: The file cannot be written.
    """
    from vivavoce.audio.files import write_audio

    if out == STREAM:
        with tempfile.TemporaryDirectory(prefix="vivavoce-") as folder:
            write_stdout(write_audio(Path(folder) / "sound.wav", waveform, sample_rate).read_bytes())
        return
    path = Path(out)
    if not path.parent.is_dir():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AudioError(f"cannot make the folder {path.parent}: {error.strerror or error}.") from error
        note(f"made the folder {path.parent}")
    write_audio(path, waveform, sample_rate)
