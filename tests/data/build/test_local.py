"""The local engine: any number of processes gives the same, and a row that kills its process is found and put aside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from tests.data.build.engine import CONTEXT, PLAIN, make, speaking

from vivavoce.base.errors import DataError
from vivavoce.data.build.run import build

ROOT = Path(__file__).parents[3]


def test_processes_do_not_change_the_result(tmp_path: Path) -> None:
    texts = ("slow one", *PLAIN, "value", "!!!", "slow two")
    told: list[int] = []
    made = [
        make(tmp_path / str(workers), speaking(texts), workers, report=lambda done, *_: told.append(done))
        for workers in (0, 1, 2)
    ]
    assert len({m.manifest.content_hash for m in made}) == 1
    assert len({(tmp_path / f"{n}" / "put_aside.jsonl").read_bytes() for n in range(3)}) == 1
    assert len({(tmp_path / f"{n}" / "data-00000.parquet").read_bytes() for n in range(3)}) == 1
    assert told[:6] == [0, 3, 6, 9, 12, 14] and told[-1] == 14 and len(told) == 18


@pytest.mark.parametrize("deaths", [("kill",), pytest.param(("kill", "exit"), marks=pytest.mark.slow)])
def test_a_row_that_kills_its_process_is_put_aside_and_no_other(
    tmp_path: Path, deaths: tuple[str, ...]
) -> None:
    """Ways to die, each in a block of its own; their neighbours are as they are without them."""
    texts = [text for i, death in enumerate(deaths) for text in (*PLAIN[3 * i : 3 * i + 2], f"{death} this")]
    made = make(tmp_path / "set", speaking(texts), workers=1)
    assert made.kinds == {"source: crashed": len(deaths)} and made.made_now == 3 * len(deaths)
    lines = [json.loads(line) for line in (tmp_path / "set" / "put_aside.jsonl").read_text().splitlines()]
    assert [line["number"] for line in lines] == [2, 5][: len(deaths)] and "died twice" in lines[0]["reason"]
    spared = make(tmp_path / "spared", speaking(["!" if text.endswith("this") else text for text in texts]))
    assert spared.manifest.content_hash == made.manifest.content_hash


@pytest.mark.slow
def test_a_block_of_nothing_but_deaths_is_no_rows_fault(tmp_path: Path) -> None:
    pipeline = speaking([*PLAIN[:4], *["kill"] * 4], block_rows=4)
    with pytest.raises(DataError, match="each of 4 rows killed the process"):
        build(pipeline, tmp_path / "set", CONTEXT, workers=1)
    assert len(list((tmp_path / "set").glob(".making-*/block-*.json"))) == 1


SCRIPT = """
import sys
from pathlib import Path
from tests.data.build.engine import CONTEXT, speaking
from vivavoce.data.build.run import build
{guard}
    print("begun", flush=True)
    build(speaking(["slow"] * 200, block_rows=1), Path(sys.argv[1]), CONTEXT, workers=2)
"""


def start(tmp_path: Path, guard: str) -> subprocess.Popen[str]:
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT.format(guard=guard)))
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "set")]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_script_without_a_guard_is_told_so_and_loses_no_row(tmp_path: Path) -> None:
    """Its workers run the script again instead of working; that must not look like rows that kill."""
    _, err = start(tmp_path, "if True:").communicate(timeout=120)
    assert "worker processes die before they begin" in err.splitlines()[-1], err
    assert not (tmp_path / "set").exists()


def children(pid: int) -> list[int]:
    """Processes that a process started, and what they started."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    direct = [int(p) for p in found.split()]
    return direct + [p for d in direct for p in children(d)]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_workers_go_when_the_run_does(tmp_path: Path, sent: signal.Signals) -> None:
    """By Ctrl-C, and when the process that started them is killed alone."""
    run = start(tmp_path, "if __name__ == '__main__':")
    try:
        until(lambda: any((tmp_path / "set").glob(".making-*/block-*.json")))
        workers = children(run.pid)
        assert len(workers) >= 2
        run.send_signal(sent)
        run.communicate(timeout=60)
        until(lambda: not any(alive(pid) for pid in workers))
    finally:
        run.kill()
        run.wait()


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0]
    except OSError:
        return False


def until(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)
