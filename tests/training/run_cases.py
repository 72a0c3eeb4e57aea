"""Small runs for tests of the trainer as a whole: sets, recipes, and what is left of a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from tests.training.row_cases import heard, row
from torch import Tensor

from vivavoce.base.records import read_record, set_dotted
from vivavoce.data.conversation import Conversation
from vivavoce.data.manifest import write_set
from vivavoce.data.recordings import hoist
from vivavoce.training.config import TrainConfig
from vivavoce.training.loop import Trainer
from vivavoce.training.metrics_log import read_metrics
from vivavoce.training.run import prepare
from vivavoce.training.world import World

TIMES = ("tokens_per_s", "audio_s_per_s")
ENCODER = {
    "type": "mel_ctc", "vocab_size": 60, "hidden_size": 16, "intermediate_size": 16, "num_layers": 1, "num_heads": 2,
    "num_mels": 80,
}  # fmt: skip
ADAPTERS = {"language_model": "lora", "lora": {"language_model": {"rank": 2, "dropout": 0.2}}}


def mixed(count: int = 13, first: int = 0) -> list[Conversation]:
    """Rows of different lengths, every third of which is heard."""
    made = []
    for i in range(first, first + count):
        asked = heard(0.4 + 0.1 * (i % 4), seed=i) if i % 3 == 0 else f"what is {i}"
        one = row(asked, answer=f"it is {i} " + "so " * (i % 5))
        one.id = f"r{i}"
        made.append(one)
    return made


def stored(folder: Path, rows: list[Conversation]) -> Path:
    """A set of rows."""
    for one in rows:
        hoist(one, None)
    write_set(folder, rows)
    return folder


def recipe(*sets: Path, **changes: Any) -> dict[str, Any]:
    """A recipe of three updates of eight rows; changes by dotted key, with ``__`` for the dot."""
    record: dict[str, Any] = {
        "steps": 3,
        "model": {
            "llm": {"hidden_size": 32, "num_layers": 2},
            "hears": {"encoder": ENCODER, "connector": {"type": "stack", "stack_factor": 2}},
        },
        "train": {"language_model": "full", "connector": "full"},
        "data": {"sets": [{"path": str(one)} for one in sets]},
        "batch": {"rows": 8, "max_tokens": 1024},
        "optimizer": {"type": "adamw", "lr": 1e-3, "eps": 1e-6},
        "schedule": {"type": "linear"},
        "keep": {"log_every": 2, "save_every": 0},
    }
    for key, value in changes.items():
        set_dotted(record, key.replace("__", "."), value)
    return record


def config_of(*sets: Path, **changes: Any) -> TrainConfig:
    return read_record(TrainConfig, recipe(*sets, **changes), "recipe")


def write_recipe(path: Path, *sets: Path, **changes: Any) -> Path:
    path.write_text(yaml.safe_dump(recipe(*sets, **changes)), encoding="utf-8")
    return path


def trainer_of(
    config: TrainConfig, folder: Path, world: World | None = None, loader: Callable[[Any], Any] = lambda x: x
) -> Trainer:
    """A trainer as ``train`` makes it, without held-out rows; the loader may be wrapped."""
    world = world or World()
    run = prepare(config, folder, world)
    return Trainer(config, folder, run.model, run.processor, loader(run.loader), world, run.steps)


def trained(model: Any) -> dict[str, Tensor]:
    """Parameters that are trained, by name."""
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


def lines(folder: Path) -> list[dict[str, Any]]:
    """Metrics of a run but for times."""
    return [{k: v for k, v in line.items() if k not in TIMES} for line in read_metrics(folder)]


def summary(folder: Path) -> str:
    return json.dumps(lines(folder))
