"""Recordings on a page: inside it while they are small, beside it after that."""

from __future__ import annotations

import base64
import os
from html import escape
from pathlib import Path
from urllib.parse import quote

from vivavoce.evaluation.report.reading import file_inside

KINDS = {
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
}


class Players:
    """Makes players for the recordings of a report.

    Args:
        page: Folder of the page.
        most_clip_bytes: Larger recordings stay files beside the page.
        most_bytes: What all embedded ones may have.
    """

    def __init__(self, page: Path, most_clip_bytes: int = 600_000, most_bytes: int = 12_000_000) -> None:
        self.page, self.most_clip_bytes, self.left = page, most_clip_bytes, most_bytes

    def show(self, folder: Path, name: str | None, label: str) -> str:
        """A player; "" without a recording.

        Args:
            folder: Of the run.
            name: Of the file in it; one that lies elsewhere is not played.
            label: What is heard.
        """
        path = file_inside(folder, name)
        if path is None or path.suffix.lower() not in KINDS:
            return ""
        size = path.stat().st_size
        if size <= min(self.most_clip_bytes, self.left):
            self.left -= size
            data = base64.b64encode(path.read_bytes()).decode()
            source = f"data:{KINDS[path.suffix.lower()]};base64,{data}"
        else:
            source = quote(Path(os.path.relpath(path, self.page.resolve())).as_posix())
        heard = escape(label)
        return (
            f'<div class="small soft">{heard}</div>'
            f'<audio controls="controls" preload="none" aria-label="{heard}" src="{source}"></audio>'
        )
