"""The commands and the Python of the README do what they say, with the bundle, in an empty folder."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import vivavoce

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
USE = README.split("## Use it")[1].split("## Make data")[0]
MAKE = re.findall(r"```bash\n(.*?)```", README.split("## Make data")[1].split("## What is in it")[0], re.S)
BLOCKS = dict(re.findall(r"```(bash|python)\n(.*?)```", USE, re.S))
COMMANDS = [line.split("  #")[0].strip() for line in BLOCKS["bash"].splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    bundle = Path(vivavoce.__file__).parent / "bundle/nano"
    for name in ("question.wav", "clip.wav"):
        shutil.copy(bundle / "question.wav", tmp_path / name)
    return tmp_path


def test_the_readme_has_commands() -> None:
    assert sum("vivavoce " in command for command in COMMANDS) >= 6


def run(command: str, folder: Path) -> None:
    line = command.replace("vivavoce ", f"{sys.executable} -m vivavoce ")
    source = {
        "PYTHONPATH": str(ROOT / "src"),
        "PATH": "/usr/bin:/bin",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        line, shell=True, cwd=folder, env=source, input="/quit\n", capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_command_runs(command: str, folder: Path) -> None:
    run(command, folder)
    for name in re.findall(r"--out (\S+)", command):
        assert (folder / name).stat().st_size > 1000


def test_data_is_made_and_a_model_trained(folder: Path) -> None:
    (folder / "recipes").symlink_to(ROOT / "recipes")
    for block in MAKE:
        for line in block.splitlines():
            run(line.split("  #")[0].strip(), folder)
    assert (folder / "first-run" / "report.html").is_file()


def test_python_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    exec(compile(BLOCKS["python"], "README.md", "exec"), {})
    assert "what is seven plus five -> twelve" in capsys.readouterr().out
    assert (folder / "answer.wav").stat().st_size > 1000
