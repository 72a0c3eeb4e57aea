"""Recordings with what is said in them, from rows of this project or from sound files with a .txt beside each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vivavoce.base.errors import DataError
from vivavoce.data.recordings import read_bytes, source_of
from vivavoce.data.rows import RowFile

SOUNDS = (".wav", ".flac", ".ogg", ".mp3")


@dataclass(frozen=True)
class Recording:
    """One recording and what is said in it.

    Attributes:
        name: Of its file, or its row's id.
        audio: Path, or the bytes of a file.
        start_s, end_s: Which part of it; None is the end.
        transcript: As written.
    """

    name: str
    audio: Path | bytes
    start_s: float
    end_s: float | None
    transcript: str


def find_recordings(place: Path) -> list[Recording]:
    """All recordings with transcripts of a set.

    Args:
        place: JSONL, Parquet or a folder of shards in this project's rows, or a folder of sound files with the
            transcript in a ``.txt`` of the same name beside each.

    Raises:
        DataError: Nothing there, or no transcripts.
    """
    if not place.exists():
        raise DataError(f"{place} does not exist; wanted rows (.jsonl, .parquet) or a folder of recordings.")
    files = sorted(f for f in place.rglob("*") if f.suffix.lower() in SOUNDS) if place.is_dir() else []
    if files:
        found = [(f, f.with_suffix(".txt")) for f in files]
        made = [
            Recording(f.name, f, 0.0, None, t.read_text(encoding="utf-8")) for f, t in found if t.is_file()
        ]
        total = len(files)
    else:
        rows = RowFile(place)
        made, total = [], 0
        for row in rows:
            for part in row.audio_parts():
                total += 1
                if part.transcript:
                    source = source_of(part, row)
                    held = source if isinstance(source, str) and "::" not in source else None
                    audio = rows.root / held if held else read_bytes(source, rows.root)
                    made.append(Recording(row.id, audio, part.start_s, part.end_s, part.transcript))
    if not made:
        raise DataError(
            f"{place} has {total} recordings and no transcript; give each audio part a 'transcript', or each sound "
            "file a .txt of the same name."
        )
    return made
