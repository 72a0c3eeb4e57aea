"""``kill -9`` at random moments of a build, again and again: the set is that of a run that nothing disturbed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from tests.cli.running import process
from tests.data.build.stand_ins import needs

from vivavoce.data.check.sets import check_set
from vivavoce.data.manifest import read_set

RECIPE = """
source: {type: text, file: questions.txt}
stages:
  - {type: speak, voices: [espeak], sample_rate: 16000, speed: [0.8, 1.2]}
  - {type: tokenize, codec: nano}
block_rows: 1
shard_rows: 7
license: cc0-1.0
"""


def start(folder: Path, out: str, *more: str) -> subprocess.Popen[bytes]:
    return process("data", "build", "r.yaml", f"out={out}", *more, cwd=folder, start_new_session=True)


def finish(run: subprocess.Popen[bytes]) -> dict[str, Any]:
    out, err = run.communicate(timeout=150)
    assert run.returncode == 0, err.decode()
    return json.loads(out)


def progress(out: Path) -> int:
    """Steps that a run has made so far: blocks, and files of the set."""
    return len(list(out.glob(".making-*/block-*.json"))) + len(list(out.glob("*.*")))


def kill_at_random(folder: Path, out: str, rng: random.Random, *more: str) -> bool:
    """Start a run and kill all of it; false if it was faster. Most kills come while it makes and writes blocks."""
    before = progress(folder / out)
    run = start(folder, out, *more)
    steps, pause = rng.choice((0, 1, 1, 2, 4)), rng.uniform(0.0, 0.15)
    try:
        while run.poll() is None and steps and progress(folder / out) < before + steps:
            time.sleep(0.005)
        time.sleep(pause if steps else rng.uniform(0.0, 3.0))
        ended = run.poll() is not None
        if rng.random() < 0.25:
            run.kill()  # only the process that was started; its workers have to see to themselves
        os.killpg(run.pid, signal.SIGKILL) if not ended and run.poll() is None else run.kill()
    finally:
        run.communicate()
    return not ended


@pytest.mark.slow
@pytest.mark.parametrize(("kills", "workers"), [(3, 0), (20, 0), (20, 2)])
def test_killed_builds_end_as_undisturbed_ones(tmp_path: Path, kills: int, workers: int) -> None:
    """A set that was finished before the kill is compared, and the next one begun, until there were so many kills."""
    needs("espeak")
    rng, rows = random.Random(kills), 4 + kills
    lines = ["!!!" if i % 9 == 5 else f"question number {i}, is it {i * 7}?" for i in range(rows)]
    (tmp_path / "questions.txt").write_text("\n".join(lines))
    (tmp_path / "r.yaml").write_text(RECIPE)
    options = ("--workers", str(workers), "--json")
    whole = finish(start(tmp_path, "whole", *options))
    assert whole["source_rows"] == rows == whole["passed"] + sum(whole["put_aside"].values())
    killed, moments, number = 0, [], 0
    while killed < kills:
        if kill_at_random(tmp_path, f"killed{number}", rng, *options):
            killed += 1
            moments.append(progress(tmp_path / f"killed{number}"))
        else:
            assert_same(whole, tmp_path, f"killed{number}", options)
            number += 1
    assert_same(whole, tmp_path, f"killed{number}", options)
    print("steps done at each kill:", moments, "sets:", number + 1)


def assert_same(whole: dict[str, Any], folder: Path, out: str, options: tuple[str, ...]) -> None:
    """Finish a set; it is the undisturbed one, byte for byte, and nothing else is in its folder."""
    made = finish(start(folder, out, *options))
    for name in ("content_hash", "rows", "source_rows", "passed", "put_aside", "shards", "key"):
        assert made[name] == whole[name], name
    files = [{p.name: p.read_bytes() for p in (folder / name).iterdir()} for name in ("whole", out)]
    assert sorted(files[0]) == sorted(files[1]) and not [name for name in files[1] if name.startswith(".")]
    assert files[0] == files[1]
    assert len({row.id for row in read_set(folder / out)}) == made["rows"]
    assert check_set(folder / out).facts.rows == made["rows"]
