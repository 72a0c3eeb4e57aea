"""Recipes of any kind: the YAML says what it trains, and what reads and runs it follows from that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from vivavoce.base.errors import ConfigError
from vivavoce.base.records import read_record, set_dotted
from vivavoce.training.codec.config import CodecDataSettings, CodecTrainConfig
from vivavoce.training.codec.run import train_codec
from vivavoce.training.config import TrainConfig
from vivavoce.training.recipe import load_recipe
from vivavoce.training.run import train
from vivavoce.training.updates import Progress
from vivavoce.training.world import World

KINDS = ("codec",)


def load_any(path: Path, overrides: Mapping[str, Any] | None = None) -> TrainConfig | CodecTrainConfig:
    """Read a recipe: of a codec if it says ``kind: codec``, of a speech LM if it says nothing.

    Relative paths in the file start at its folder, unless nothing is there; overrides are taken as they stand.

    Raises:
        ConfigError: The file cannot be read, its kind is not known, or all faults of its values at once.
    """
    try:
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(record, dict) or "kind" not in record:
        return load_recipe(path, overrides)
    if record["kind"] not in KINDS:
        raise ConfigError(
            f"{path.name}.kind is {record['kind']!r}, wanted 'codec', or no kind at all for a speech LM."
        )
    for key, value in (overrides or {}).items():
        set_dotted(record, key, value)
    config = read_record(CodecTrainConfig, record, path.name)
    return replace(config, data=_placed(config.data, path.resolve().parent, set(overrides or {})))


def train_any(
    config: TrainConfig | CodecTrainConfig,
    folder: Path,
    world: World | None = None,
    report: Callable[[Progress], None] | None = None,
    echo: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train what a recipe says, or go on with it; as `run.train` and `codec.run.train_codec`."""
    if isinstance(config, CodecTrainConfig):
        return train_codec(config, folder, world, report, echo)
    return train(config, folder, world, report, echo)


def _placed(data: CodecDataSettings, folder: Path, given: set[str]) -> CodecDataSettings:
    """The same data with paths that hold from anywhere."""

    def place(path: str) -> str:
        root = path.partition("*")[0].rstrip("/")
        here = not Path(path).is_absolute() and (folder / root).exists() and root
        return str(folder / path) if here else path

    found: dict[str, Any] = {
        name: tuple(map(place, getattr(data, name)))
        for name in ("recordings", "rows", "held_out", "held_out_rows")
        if f"data.{name}" not in given
    }
    if data.spoken is not None and isinstance(data.spoken.texts, str) and "data.spoken.texts" not in given:
        found["spoken"] = replace(data.spoken, texts=place(data.spoken.texts))
    return replace(data, **found)
