"""Checks of a row's recordings: that they are there, can be read, and sound as the row says."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from vivavoce.audio.files import AudioInfo, audio_info, read_audio
from vivavoce.base.errors import AudioError, MissingExtraError
from vivavoce.data.check.findings import Finding, short
from vivavoce.data.conversation import Audio, Conversation
from vivavoce.data.recordings import ARCHIVE, read_bytes, source_of

LOOK_S = 300.0  # of a long part so much is decoded
SLACK_S = 0.05  # ends may be rounded
_ABSOLUTE = re.compile(r"/|~|[A-Za-z]:[\\/]|file:")


@dataclass(frozen=True)
class Heard:
    """What is known of a clip.

    Attributes:
        seconds: Length of the part that counts; None if it cannot be told.
        sample_rate: Hz; 0 if it cannot be told.
        digest: Of the recording's bytes, start and end; "" if they were not read.
    """

    seconds: float | None = None
    sample_rate: int = 0
    digest: str = ""


class Recordings:
    """Reads the recordings of rows.

    Args:
        root: Where relative paths start.
        how: "all", "headers" or "none", as in ``CheckConfig``.
        sample_rate: Wanted rate, Hz.
    """

    def __init__(self, root: Path, how: str = "all", sample_rate: int | None = None) -> None:
        self.root, self.how, self.sample_rate = root, how, sample_rate

    def check(self, part: Audio, conversation: Conversation, where: str) -> tuple[Heard, list[Finding]]:
        """Check the recording of an audio part; parts of sound tokens alone have none."""
        if part.audio is None:
            return Heard(), []
        source = source_of(part, conversation)
        found = list(_check_path(source, where))
        if self.how == "none" or any(f.kind == "network_audio" for f in found):
            return Heard(), found
        try:
            heard, more = self._look(source, part, where)
        except MissingExtraError as error:
            return Heard(), [
                *found,
                Finding("needs_program", str(error), "a recording that can be read here", where),
            ]
        except (AudioError, OSError) as error:
            return Heard(), [*found, _unreadable(error, where)]
        return heard, [*found, *more]

    def digest(self, part: Audio, conversation: Conversation) -> str:
        """Hash of a part's recording with its start and end; "" if it cannot be read, or has none."""
        if part.audio is None or self.how == "none":
            return ""
        try:
            found = self._place(source_of(part, conversation))
            return self._digest(found, part)
        except (AudioError, OSError):
            return ""

    def _place(self, source: Any) -> Path | bytes:
        """A file, which is read where it is, or the bytes of one."""
        if isinstance(source, Mapping) and source.get("bytes") is None:
            source = source.get("path")
        if isinstance(source, str) and source and not source.startswith("data:") and ARCHIVE not in source:
            return self.root / source
        return read_bytes(source, self.root)

    def _digest(self, place: Path | bytes, part: Audio) -> str:
        if isinstance(place, Path):
            if self.how != "all":
                return ""
            whole = _file_digest(place, *_state(place))
        else:
            whole = hashlib.sha256(place).hexdigest()
        return f"{whole} {part.start_s:g} {part.end_s}"

    def _look(self, source: Any, part: Audio, where: str) -> tuple[Heard, list[Finding]]:
        place = self._place(source)
        info = _header(place, *_state(place)) if isinstance(place, Path) else audio_info(place)
        rate = info.sample_rate
        found = list(self._rates(info, where))
        digest = self._digest(place, part)
        whole = info.duration_s
        if whole is not None and part.start_s >= whole:
            seen = f"start {part.start_s:g} s in a recording of {whole:.2f} s"
            return Heard(None, rate, digest), [*found, Finding("span_outside", seen, "a start inside", where)]
        if whole is not None and part.end_s is not None and part.end_s > whole + SLACK_S:
            seen = f"end {part.end_s:g} s in a recording of {whole:.2f} s"
            found.append(Finding("span_outside", seen, f"an end of {whole:.2f} s or less", where))
        seconds = None if whole is None else min(whole, part.end_s or whole) - part.start_s
        if self.how != "all":
            return Heard(seconds, rate, digest), found
        end = part.start_s + LOOK_S
        wave, _ = read_audio(place, None, part.start_s, end if part.end_s is None else min(end, part.end_s))
        if seconds is None and wave.size < LOOK_S * rate:
            seconds = wave.size / rate
        from vivavoce.data.check.sound import judge, measure

        length = wave.size / rate if seconds is None else seconds
        channels = f", {info.num_channels} channels averaged" if info.num_channels > 1 else ""
        for finding in judge(measure(wave, rate), length, rate, where):
            seen = finding.seen + (channels if finding.kind in ("silent", "quiet") else "")
            found.append(Finding(finding.kind, seen, finding.wanted, where))
        return Heard(seconds, rate, digest), found

    def _rates(self, info: AudioInfo, where: str) -> Iterator[Finding]:
        wanted = self.sample_rate
        if wanted is not None and info.sample_rate != wanted:
            kind = "low_rate" if info.sample_rate < wanted else "other_rate"
            yield Finding(kind, f"{info.sample_rate} Hz", f"{wanted} Hz", where)


def _check_path(source: Any, where: str) -> Iterator[Finding]:
    if isinstance(source, Mapping):
        source = None if source.get("bytes") is not None else source.get("path")
    if not isinstance(source, str) or source.startswith("data:"):
        return
    if re.match(r"[a-z][a-z0-9+.-]*://", source) and not source.startswith("file:"):
        yield Finding("network_audio", short(source), "a file", where)
    elif _ABSOLUTE.match(source):
        yield Finding("absolute_path", short(source), "a path from the set's folder", where)
    elif ".." in Path(source).parts:
        yield Finding("absolute_path", short(source), "a path inside the set's folder", where)


def _unreadable(error: Exception, where: str) -> Finding:
    text = str(error).rstrip(".")
    kind = "not_finite" if "NaN" in text else "unreadable_audio"
    return Finding(
        kind, short(text, 200), "finite samples" if kind == "not_finite" else "a readable recording", where
    )


def _state(path: Path) -> tuple[int, int]:
    """Size and time of change of a file, by which what is remembered of it stays true; 0 where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns


@lru_cache(maxsize=256)
def _header(path: Path, size: int, changed: int) -> AudioInfo:
    return audio_info(path)


@lru_cache(maxsize=256)
def _file_digest(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
