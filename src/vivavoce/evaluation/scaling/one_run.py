"""One run of a sweep in a process of its own: ``python -m vivavoce.evaluation.scaling.one_run RUN_FOLDER``.

Two processes never train one run: the second waits for the first, and finds its work done.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vivavoce.base.errors import VivavoceError
from vivavoce.evaluation.scaling.sweep import write_json
from vivavoce.training.recipe import load_recipe
from vivavoce.training.run import train
from vivavoce.training.world import World

DONE = "done.json"
FAILED, STOPPED = 2, 3


def train_one(folder: Path, keep_model: bool = False, device: str | None = None) -> int:
    """Train the recipe of a run's folder, or go on with it.

    Args:
        folder: With ``recipe.yaml``.
        keep_model: Keep checkpoints and the trained model.
        device: "cpu" or "cuda"; by default what is there.

    Returns:
        0 done, 3 stopped before the end; then the same call goes on.
    """
    with _alone(folder):
        if not (folder / DONE).is_file():
            began = time.monotonic()
            found = train(load_recipe(folder / "recipe.yaml"), folder, World.from_environment(device))
            if found["step"] < found["steps"]:
                return STOPPED
            write_json(folder / DONE, {**found, "seconds": time.monotonic() - began})
        if not keep_model:
            for name in ("checkpoints", "model", "llm"):
                shutil.rmtree(folder / name, ignore_errors=True)
    return 0


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the run's lock, which the system lets go of when a process dies."""
    import fcntl

    place = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(place, fcntl.LOCK_EX)
        yield
    finally:
        os.close(place)


def main() -> int:
    """Train the run of a folder; the fault is the last line on stderr."""
    folder, *rest = sys.argv[1:]
    device = rest[rest.index("--device") + 1] if "--device" in rest else None
    try:
        return train_one(Path(folder), "--keep-model" in rest, device)
    except VivavoceError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
