"""A sweep: which sizes of model see how many tokens, and by which rules the rest of a recipe follows.

| in the folder | what |
|---|---|
| `sweep.json` | the settings below, resolved |
| `plan.json` | one record for each run |
| `data/` | sets that pipelines of the recipe made, shared by all runs |
| `runs/ID/recipe.yaml` | what `vivavoce train` takes; the run's own files are beside it |
| `results.jsonl` | one line for each point that a law can be fitted to |
| `fit.json`, `fit.png`, `fit.html` | the law |
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.base.records import read_record, set_dotted, write_record
from vivavoce.base.whole_files import plain, write_whole
from vivavoce.training.config import TrainConfig
from vivavoce.training.recipe import load_recipe


@dataclass(frozen=True, kw_only=True)
class SizeRule:
    """How wide and deep models are; all have heads of one size, the rest keeps the recipe's proportions.

    Attributes:
        widths: Hidden sizes, multiples of ``head_size``.
        head_size: Values of one attention head.
        aspect: Width over layers; layers are the nearest whole number.
        least_layers: At the smallest widths.
        layers: Layers of each width, instead of the rule.
        models: Folders or hub ids of causal LMs, instead of widths (a published family, its weights kept).
    """

    widths: tuple[int, ...] = ()
    head_size: int = 64
    aspect: float = 64.0
    least_layers: int = 2
    layers: tuple[int, ...] | None = None
    models: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        faults = []
        if bool(self.widths) == bool(self.models):
            faults.append("wanted widths or models, one of the two")
        if self.head_size < 2 or self.head_size % 2:
            faults.append(f"head_size is {self.head_size}, wanted an even number")
        elif odd := [w for w in self.widths if w < 1 or w % self.head_size]:
            faults.append(f"widths {odd} are no multiples of head_size {self.head_size}")
        if len(set(self.widths)) < len(self.widths) or len(set(self.models)) < len(self.models):
            faults.append("a size is given twice")
        if not self.aspect > 0 or self.least_layers < 1:
            faults.append("aspect is above 0, least_layers 1 or more")
        if self.layers is not None and (len(self.layers) != len(self.widths) or min(self.layers) < 1):
            faults.append(f"layers is {list(self.layers)}, wanted one number for each of {list(self.widths)}")
        if faults:
            raise ConfigError("; ".join(faults))

    def depth(self, width: int) -> int:
        """Layers of a model of this width."""
        if self.layers is not None:
            return self.layers[self.widths.index(width)]
        return max(self.least_layers, round(width / self.aspect))


@dataclass(frozen=True, kw_only=True)
class RateRule:
    """Learning rate and batch by size and budget; 0 as power keeps what the recipe says.

    Attributes:
        lr: Highest rate at ``width``; None takes the recipe's.
        width: Where ``lr`` holds; None takes the smallest width. ``lr * (width / own width) ** power``.
        power: 1 as for hidden matrices under muP, 0.5 in between.
        batch_power: Rows of an update grow as ``(tokens / smallest budget) ** batch_power``.
        warmup: Share of the updates in which the rate rises; None leaves the recipe's schedule.
    """

    lr: float | None = None
    width: int | None = None
    power: float = 0.5
    batch_power: float = 0.0
    warmup: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.power <= 2 or not 0 <= self.batch_power <= 1:
            raise ConfigError(
                f"power is {self.power} and batch_power {self.batch_power}; wanted 0 to 2, and 0 to 1"
            )
        if self.warmup is not None and not 0 <= self.warmup <= 0.5:
            raise ConfigError(f"warmup is {self.warmup}, wanted a share from 0 to 0.5")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A grid of training runs.

    Attributes:
        recipe: Training recipe (YAML), from the sweep file's folder; or the record itself.
        change: Dotted key -> value, over the recipe.
        sizes: Of models.
        tokens: Budgets D, tokens of text and audio that a run learns from; each size gets each.
        flops: Budgets C instead: D = C / 6N for each size.
        rates: Rules for learning rate, batch and warmup.
        seeds: A run for each; more than one tells the noise between runs.
        points: "end" counts each run once, at its end. "stable" counts what was measured while a `wsd` or `constant`
            schedule stood at its highest rate, several times a run; such losses are not annealed.
        points_per_run: Of "stable".
        row_tokens: Tokens of a row in the mean; measured where None.
    """

    recipe: str | Mapping[str, Any]
    change: Mapping[str, Any] = field(default_factory=dict)
    sizes: SizeRule
    tokens: tuple[float, ...] = ()
    flops: tuple[float, ...] = ()
    rates: RateRule = field(default_factory=RateRule)
    seeds: tuple[int, ...] = (0,)
    points: Literal["end", "stable"] = "end"
    points_per_run: int = 6
    row_tokens: float | None = None

    def __post_init__(self) -> None:
        faults = []
        if bool(self.tokens) == bool(self.flops):
            faults.append("wanted tokens or flops, one of the two")
        for name in ("tokens", "flops"):
            values = getattr(self, name)
            if any(not 0 < v < math.inf for v in values) or len(set(values)) < len(values):
                faults.append(f"{name} is {list(values)}, wanted different numbers above 0")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            faults.append(f"seeds is {list(self.seeds)}, wanted one or more, all different")
        if self.row_tokens is not None and not self.row_tokens > 0:
            faults.append(f"row_tokens is {self.row_tokens}, wanted above 0")
        if self.points_per_run < 1:
            faults.append(f"points_per_run is {self.points_per_run}, wanted 1 or more")
        if faults:
            raise ConfigError("; ".join(faults))


def load_sweep(path: Path, overrides: Mapping[str, Any] | None = None) -> tuple[Sweep, TrainConfig]:
    """Read a sweep and its recipe.

    Args:
        path: YAML of a sweep; or of a training recipe, where the overrides say the rest.
        overrides: Dotted key -> value ("sizes.widths", "change.optimizer.lr").

    Raises:
        ConfigError: The file cannot be read, or all faults of its values at once.
    """
    try:
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(record, dict):
        raise ConfigError(f"{path} holds no settings; wanted a sweep (recipe, sizes, tokens) or a recipe.")
    if "model" in record and "recipe" not in record:
        record = {"recipe": path.name}
    changes: dict[str, Any] = dict(record.get("change") or {})
    for key, value in (overrides or {}).items():
        if key.startswith("change."):
            changes[key.removeprefix("change.")] = value
        else:
            set_dotted(record, key, value)
    sweep = read_record(Sweep, record | {"change": changes}, path.name)
    if isinstance(sweep.recipe, Mapping):
        recipe: dict[str, Any] = json.loads(json.dumps(sweep.recipe))
        for key, value in sweep.change.items():
            set_dotted(recipe, key, value)
        return sweep, read_record(TrainConfig, recipe, "recipe")
    file = Path(sweep.recipe)
    near = path.resolve().parent / file
    return sweep, load_recipe(near if near.is_file() else file, sweep.change)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of a sweep.

    Attributes:
        id: Name of its folder.
        size: Width as words, or the model's name.
        width, layers: Of the language model.
        n: Parameters of the language model without its token tables.
        n_total: All parameters of the model, token tables and ears too.
        tokens: D as planned.
        audio_s: Seconds of audio in D.
        steps, rows: Updates, and rows of each.
        passes: Over the rows.
        lr: Highest rate.
        seed: Of the run.
        flops: Of training, by the convention of ``training.speed``.
        seconds: Expected; None where no rate is known.
    """

    id: str
    size: str
    width: int
    layers: int
    n: int
    n_total: int
    tokens: float
    audio_s: float
    steps: int
    rows: int
    passes: float
    lr: float
    seed: int
    flops: float
    seconds: float | None = None


def write_cells(folder: Path, cells: list[Cell]) -> None:
    """Write ``plan.json``."""
    write_json(folder / "plan.json", [write_record(cell) for cell in cells])


def read_cells(folder: Path) -> list[Cell]:
    """The runs of a sweep.

    Raises:
        DataError: There is no plan.
    """
    try:
        records = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder} has no plan.json that can be read; make one by: vivavoce scale plan."
        ) from error
    return [read_record(Cell, record, "plan") for record in records]


def write_json(path: Path, value: Any) -> None:
    """Write a file of JSON whole or not at all; numbers that JSON does not have become null."""
    write_whole(path, json.dumps(plain(value), indent=1, ensure_ascii=False) + "\n")
