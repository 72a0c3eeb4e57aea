"""The runs of a sweep, each in a process of its own; what was killed goes on, what is done is not touched."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from vivavoce.base.errors import ConfigError, MissingExtraError, TrainingError
from vivavoce.evaluation.scaling.collect import collect
from vivavoce.evaluation.scaling.one_run import DONE, STOPPED
from vivavoce.evaluation.scaling.sweep import Cell, read_cells

Echo = Callable[[str], None]
LOG = "log.txt"


@dataclass(frozen=True)
class RunSettings:
    """How runs are made.

    Attributes:
        jobs: Runs at a time.
        engine: "local" starts processes; "ray" tasks, over a cluster that sees the sweep's folder.
        gpus: Of each run, for Ray.
        device: "cpu" or "cuda"; by default what is there.
        keep_models: Keep checkpoints and models of runs that are done.
    """

    jobs: int = 1
    engine: Literal["local", "ray"] = "local"
    gpus: float = 0.0
    device: str | None = None
    keep_models: bool = False

    def __post_init__(self) -> None:
        if self.jobs < 1 or self.gpus < 0:
            raise ConfigError(f"jobs is {self.jobs} and gpus {self.gpus}; wanted 1 or more, and 0 or more.")


def run_sweep(
    folder: Path, settings: RunSettings | None = None, echo: Echo = lambda line: None
) -> list[dict[str, Any]]:
    """Train what is not trained yet, and collect the losses.

    Args:
        folder: Of the sweep, as planned.
        settings: How.
        echo: Told of each run that begins and ends.

    Returns:
        The lines of ``results.jsonl``.

    Raises:
        TrainingError: Runs failed; the others are done and collected.
        MissingExtraError: Ray is asked for and not there.
    """
    settings = settings or RunSettings()
    cells = read_cells(folder)
    left = [cell for cell in cells if not (folder / "runs" / cell.id / DONE).is_file()]
    echo(f"{len(cells) - len(left)} of {len(cells)} runs are done")
    engine = _by_ray if settings.engine == "ray" else _by_processes
    failed = []
    for cell, code in engine(folder, left, settings, echo):
        if code == 0:
            lines = collect(folder)
            loss = next((line["loss"] for line in reversed(lines) if line["id"] == cell.id), float("nan"))
            echo(f"{cell.id}: loss {loss:.4f}")
        else:
            failed.append((cell, code))
    lines = collect(folder)
    if failed:
        cell, code = failed[0]
        words = "was stopped" if code in (STOPPED, -2, -15) else _last_words(folder / "runs" / cell.id)
        raise TrainingError(
            f"{len(failed)} of {len(cells)} runs are not done, {cell.id} first: {words.rstrip('.')}. The same command "
            "goes on."
        )
    return lines


def command(folder: Path, settings: RunSettings) -> list[str]:
    """What trains one run."""
    made = [sys.executable, "-m", "vivavoce.evaluation.scaling.one_run", str(folder)]
    made += ["--keep-model"] if settings.keep_models else []
    return made + (["--device", settings.device] if settings.device else [])


def environment(jobs: int) -> dict[str, str]:
    """Of a run's process: this package, and its share of the cores unless the user said how many."""
    import vivavoce

    found = dict(os.environ)
    source = str(Path(vivavoce.__file__).parents[1])
    found["PYTHONPATH"] = os.pathsep.join(filter(None, (source, found.get("PYTHONPATH", ""))))
    found.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    return found


def _by_processes(
    folder: Path, cells: list[Cell], settings: RunSettings, echo: Echo
) -> Iterator[tuple[Cell, int]]:
    """Run so many at a time on this machine; Ctrl-C stops all after the update that they make."""
    waiting, running = list(cells), dict[subprocess.Popen[bytes], Cell]()
    try:
        while waiting or running:
            while waiting and len(running) < settings.jobs:
                cell = waiting.pop(0)
                place = folder / "runs" / cell.id
                echo(f"{cell.id}: {cell.steps:,} updates")
                with (place / LOG).open("ab") as log:
                    started = subprocess.Popen(
                        command(place, settings),
                        stdout=log,
                        stderr=log,
                        stdin=subprocess.DEVNULL,
                        env=environment(settings.jobs),
                    )
                running[started] = cell
            for process in [p for p in running if p.poll() is not None]:
                yield running.pop(process), int(process.returncode)
            time.sleep(0.05)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def _by_ray(folder: Path, cells: list[Cell], settings: RunSettings, echo: Echo) -> Iterator[tuple[Cell, int]]:
    """Run them as tasks of Ray, each of which is the same process as above."""
    if find_spec("ray") is None:
        raise MissingExtraError("engine is 'ray': pip install 'vivavoce[ray]', or leave --engine out.")
    import ray

    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False)

    def task(place: str) -> int:
        with (Path(place) / LOG).open("ab") as log:
            return subprocess.run(
                command(Path(place), settings),
                stdout=log,
                stderr=log,
                env=environment(settings.jobs),
                check=False,
            ).returncode

    remote = ray.remote(num_gpus=settings.gpus, max_retries=-1)(task)
    waiting, running = list(cells), dict[Any, Cell]()
    while waiting or running:
        while waiting and len(running) < settings.jobs:
            cell = waiting.pop(0)
            echo(f"{cell.id}: {cell.steps:,} updates")
            running[remote.remote(str((folder / "runs" / cell.id).resolve()))] = cell
        done, _ = ray.wait(list(running), num_returns=1)
        for one in done:
            yield running.pop(one), int(ray.get(one))


def _last_words(place: Path) -> str:
    """The last line that a run wrote."""
    try:
        lines = (place / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1].removeprefix("error: ") if lines else "it ended without a word"
