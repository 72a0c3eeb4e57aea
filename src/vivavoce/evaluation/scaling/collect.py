"""What the runs of a sweep came to: one line for each point that a law can be fitted to."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vivavoce.base.errors import DataError
from vivavoce.base.records import read_record
from vivavoce.base.whole_files import write_whole
from vivavoce.evaluation.scaling.one_run import DONE
from vivavoce.evaluation.scaling.plan import codec_rate, stable_span
from vivavoce.evaluation.scaling.sweep import Cell, Sweep, read_cells
from vivavoce.training.config import TrainConfig
from vivavoce.training.metrics_log import read_metrics

RESULTS = "results.jsonl"


def collect(folder: Path) -> list[dict[str, Any]]:
    """Read the losses of the runs that are done, and write ``results.jsonl``.

    Args:
        folder: Of a sweep.

    Returns:
        One record a point: ``id``, ``size``, ``width``, ``layers``, ``n``, ``n_total``, ``tokens`` and ``audio_h`` as
        learned, ``passes``, ``step``, ``steps``, ``lr``, ``seed``, ``schedule``, ``annealed``, ``flops``, ``loss`` and
        ``losses`` ("text", "audio", "slot_0", ...) in nats a token on rows held out, and ``bits_per_s`` of audio.

    Raises:
        DataError: There is no sweep.
    """
    try:
        record = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder} has no sweep.json that can be read; wanted the folder of a sweep."
        ) from error
    sweep = read_record(Sweep, record["sweep"], "sweep")
    config = read_record(TrainConfig, record["recipe"], "recipe")
    rate = codec_rate(config.model)
    lines = [
        point
        for cell in read_cells(folder)
        if (folder / "runs" / cell.id / DONE).is_file()
        for point in _points(folder / "runs" / cell.id, cell, sweep, rate)
    ]
    write_whole(folder / RESULTS, "".join(json.dumps(line) + "\n" for line in lines))
    return lines


def read_results(path: Path) -> list[dict[str, Any]]:
    """The points of a sweep, of its folder or of a file of such lines.

    A line of your own needs ``n``, ``tokens`` and ``loss``.

    Raises:
        DataError: There are none, or a line is damaged.
    """
    file = path / RESULTS if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read; make it by: vivavoce scale run.") from error
    found = []
    for number, line in enumerate(filter(str.strip, text.splitlines()), 1):
        try:
            record = json.loads(line)
            values = [float(record[name]) for name in ("n", "tokens", "loss")]
        except (ValueError, LookupError, TypeError) as error:
            raise DataError(
                f"line {number} of {file} is {line[:80]!r}, wanted an object with n, tokens and loss."
            ) from error
        if not all(math.isfinite(v) and v > 0 for v in values):
            raise DataError(f"line {number} of {file} has n, tokens, loss {values}; wanted numbers above 0.")
        found.append(record)
    if not found:
        raise DataError(f"{file} has no points yet; make some by: vivavoce scale run.")
    return found


def _points(place: Path, cell: Cell, sweep: Sweep, rate: float) -> Iterator[dict[str, Any]]:
    """The points of a run: its end, or those at the highest rate."""
    measured = [line for line in read_metrics(place) if "held_out/loss" in line]
    schedule = json.loads((place / "config.json").read_text(encoding="utf-8"))["recipe"]["schedule"]
    if sweep.points == "stable":
        first, last = stable_span(schedule, cell.steps)
        kept = [line for line in measured if first <= line["step"] <= last]
    else:
        kept = measured[-1:]
    for line in kept:
        losses = mean_losses(line)
        slots = [value for name, value in losses.items() if name.startswith("slot_")]
        yield {
            "id": cell.id, "size": cell.size, "width": cell.width, "layers": cell.layers, "n": cell.n,
            "n_total": cell.n_total, "tokens": line["tokens"], "audio_h": line["audio_s"] / 3600,
            "passes": cell.passes * line["step"] / cell.steps, "step": line["step"], "steps": cell.steps,
            "lr": cell.lr, "seed": cell.seed, "schedule": schedule["type"],
            "annealed": sweep.points == "end" and schedule["type"] != "constant",
            "flops": cell.flops * line["tokens"] / cell.tokens, "loss": line["held_out/loss"], "losses": losses,
            "bits_per_s": rate * sum(slots) / len(slots) / math.log(2) if slots and rate else None,
        }  # fmt: skip


def mean_losses(line: Mapping[str, Any]) -> dict[str, float]:
    """Held-out losses by what is predicted, the mean of the sets that have it."""
    found: dict[str, list[float]] = {}
    for key, value in line.items():
        parts: Sequence[str] = key.split("/")
        if parts[0] == "held_out" and len(parts) == 4 and parts[2] == "loss" and value is not None:
            found.setdefault(parts[3], []).append(value)
    return {name: sum(values) / len(values) for name, values in found.items()}
