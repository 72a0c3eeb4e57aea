"""One row to its waveforms: what is to be decoded, how long it is by its headers, and the decoding itself.

Letters: S samples.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vivavoce.audio.files import audio_info, read_audio
from vivavoce.base.errors import AudioError, DataError
from vivavoce.data.conversation import Audio, Conversation
from vivavoce.data.reader.archive_rows import Place, places
from vivavoce.data.recordings import ARCHIVE, read_bytes, source_of

Decode = Literal["all", "untokenized", "none"]
_ARCHIVES_HELD = 64


@dataclass(frozen=True)
class Clip:
    """A recording to decode; small enough to be sent to another process.

    Attributes:
        source: Path, or bytes of a file.
        start_s, end_s: The part that counts, seconds.
        seconds: How long that is by the header; None if only decoding tells.
    """

    source: Path | bytes
    start_s: float
    end_s: float | None
    seconds: float | None


class Clips:
    """Finds the recordings of rows, in files, archives and rows themselves.

    Args:
        decode: Which audio parts: "all" that have a recording, those "untokenized", or "none".
        measure: Look at headers for lengths.
    """

    def __init__(self, decode: Decode, measure: bool) -> None:
        self.decode, self.measure = decode, measure
        self._archives: OrderedDict[Path, dict[str, Place]] = OrderedDict()

    def of(self, row: Conversation, root: Path) -> list[Clip | None]:
        """What to decode of each audio part, in reading order; None for parts that are not decoded.

        Raises:
            AudioError: A recording is not there, or is none.
        """
        return [self._clip(part, row, root) if self._wants(part) else None for part in row.audio_parts()]

    def _wants(self, part: Audio) -> bool:
        return part.audio is not None and (
            self.decode == "all" or (self.decode == "untokenized" and part.tokens is None)
        )

    def _clip(self, part: Audio, row: Conversation, root: Path) -> Clip:
        named = source_of(part, row)
        source = self._found(named, root)
        if not self.measure:
            return Clip(source, part.start_s, part.end_s, None)
        length = audio_info(source).duration_s
        if length is None:
            seconds = None if part.end_s is None else part.end_s - part.start_s
        else:
            seconds = (length if part.end_s is None else min(length, part.end_s)) - part.start_s
        return Clip(source, part.start_s, part.end_s, seconds)

    def _found(self, named: Any, root: Path) -> Path | bytes:
        """A path where there is one, so that a cut of a long recording need not read all of it."""
        path = named.get("path") if isinstance(named, Mapping) and named.get("bytes") is None else named
        if not isinstance(path, str) or not path or "://" in path or path.startswith("data:"):
            return read_bytes(named, root)
        archive, _, member = path.partition(ARCHIVE)
        if not member:
            return root / path
        return self._member(root / archive, member)

    def _member(self, archive: Path, member: str) -> bytes:
        try:
            if archive not in self._archives:
                found = {p.name: p for p in places(archive) if isinstance(p, Place)}
                self._archives[archive] = found
                if len(self._archives) > _ARCHIVES_HELD:
                    self._archives.popitem(last=False)
            self._archives.move_to_end(archive)
            return self._archives[archive][member].read(archive)
        except KeyError:
            raise AudioError(
                f"{archive.name} has no member {member!r}; see what it has by: tar -tf."
            ) from None
        except (DataError, OSError) as error:
            raise AudioError(f"cannot read {member!r} of {archive.name}: {error}") from error


def decode(clips: list[Clip | None], sample_rate: int | None) -> list[tuple[np.ndarray, int] | None]:
    """Decode clips.

    Args:
        clips: As ``Clips.of`` gives them.
        sample_rate: Wanted rate, Hz; None keeps the files'.

    Returns:
        float32 [S] and rate of each, None where there is no clip.

    Raises:
        AudioError: One cannot be read.
        MissingExtraError: The ffmpeg program is needed and missing.
    """
    return [None if c is None else read_audio(c.source, sample_rate, c.start_s, c.end_s) for c in clips]


def without_bytes(row: Conversation) -> Conversation:
    """The row without the bytes of its recordings, whose names stay; the row given is not changed."""

    def bare(audio: Any) -> Any:
        if isinstance(audio, Mapping) and audio.get("bytes") is not None:
            return {"path": audio.get("path")}
        return {"path": None} if isinstance(audio, str) and audio.startswith("data:") else audio

    def part(found: Any) -> Any:
        return replace(found, audio=bare(found.audio)) if isinstance(found, Audio) else found

    made = replace(row, audios=[bare(audio) for audio in row.audios])
    if any(not isinstance(p.audio, int | None) for p in row.audio_parts()):
        made.messages = [replace(m, parts=[part(p) for p in m.parts]) for m in row.messages]
    return made
