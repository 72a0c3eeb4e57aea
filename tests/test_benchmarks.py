"""Programs in benchmarks/ start, whatever the names of their neighbours."""

from __future__ import annotations

import subprocess
import sys
import tokenize
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "benchmarks"


def run(code: str) -> str:
    """What a program in benchmarks/ prints; its folder is first on the path, as Python puts it there."""
    start = f"import sys; sys.path.insert(0, {str(FOLDER)!r}); "
    done = subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_benchmarks_import_the_tokenize_of_the_standard_library():
    assert run("import tokenize; print(tokenize.__file__, hasattr(tokenize, 'Workers'))") == (
        f"{tokenize.__file__} False"
    )
    assert run("import inspect; print(inspect.getsource(inspect.cleandoc)[:12])") == "def cleandoc"


def test_tokenize_is_a_program_as_well():
    command = [sys.executable, str(FOLDER / "tokenize.py"), "--help"]
    env = {"PYTHONPATH": str(FOLDER.parent / "src"), "PATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0 and "--clips" in done.stdout, done.stderr
