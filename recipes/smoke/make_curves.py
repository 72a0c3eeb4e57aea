"""Write `curves.json`: the loss of every smoke recipe at its logged updates, against which the tests hold later runs.

    python recipes/smoke/make_curves.py snac_asr snac_chat

Without names, all recipes of this folder. Curves of other recipes in the file stay. Run it only when a change of the
numbers is meant, and say in the commit why they change.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import torch

from vivavoce.training.kinds import load_any, train_any
from vivavoce.training.metrics_log import read_metrics

FOLDER = Path(__file__).parent
CURVES = FOLDER / "curves.json"


def curve(run: Path) -> dict[str, float]:
    """Loss by update of a run's folder."""
    return {str(line["step"]): round(line["loss"], 6) for line in read_metrics(run)}


def keep(name: str, found: dict[str, float]) -> None:
    """Put a curve into the file, beside those that are there by now."""
    known = json.loads(CURVES.read_text(encoding="utf-8")) if CURVES.exists() else {}
    known[name] = {"torch": torch.__version__.partition("+")[0], "loss": found}
    lines = [f"{json.dumps(key)}: {json.dumps(known[key])}" for key in sorted(known)]
    CURVES.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    for name in names or sorted(path.stem for path in FOLDER.glob("*.yaml")):
        with tempfile.TemporaryDirectory() as folder:
            found = train_any(load_any(FOLDER / f"{name}.yaml"), Path(folder) / "run")
            keep(name, curve(Path(folder) / "run"))
        print(f"{name}  loss {found['loss']:.4f}  exact {found.get('exact', float('nan')):.0%}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
