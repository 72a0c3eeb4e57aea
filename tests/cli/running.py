"""Commands as their own processes, and what a command did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parents[2] / "src"


@dataclass
class Outcome:
    """What a command did."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def is_one_error(self, *words: str) -> bool:
        """Exit code 2 and one line on stderr with these words; nothing on stdout."""
        lines = self.err.splitlines()
        assert self.code == 2, self
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: "), self.err
        assert not self.out, self.out
        assert [w for w in words if w not in lines[0]] == [], lines[0]
        return True


def process(*arguments: str, **more: Any) -> subprocess.Popen[bytes]:
    """Start a command as its own process."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-m", "vivavoce", *arguments]
    return subprocess.Popen(command, env=environment, **{**pipes, **more})


def listing(folder: Path) -> list[str]:
    """Names in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())
