"""Training recipes: YAML of values, read into a `TrainConfig` with overrides from the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from vivavoce.base.errors import ConfigError
from vivavoce.base.records import read_record, set_dotted
from vivavoce.training.config import DataSettings, ModelSettings, SetSettings, TrainConfig


def load_recipe(path: Path, overrides: Mapping[str, Any] | None = None) -> TrainConfig:
    """Read a recipe.

    Relative paths of sets and pipelines in the file start at its folder, unless nothing is there; overrides are taken
    as they stand.

    Args:
        path: YAML file.
        overrides: Dotted key -> value ("optimizer.lr").

    Raises:
        ConfigError: The file cannot be read, or all faults of its values at once: unknown keys with the nearest name,
            values of a wrong type or out of range.
    """
    try:
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(record, dict):
        raise ConfigError(f"{path} holds no settings; wanted at least model and data.")
    for key, value in (overrides or {}).items():
        set_dotted(record, key, value)
    config = read_record(TrainConfig, record, path.name)
    folder = path.resolve().parent
    return replace(config, data=_placed(config.data, folder), model=_taught(config.model, folder))


def _taught(model: ModelSettings, folder: Path) -> ModelSettings:
    """The same model, what a random language model is taught named so that it holds from anywhere."""
    lesson = model.llm.get("knows") if isinstance(model.llm, Mapping) else None
    if not isinstance(model.llm, Mapping) or not isinstance(lesson, Mapping):
        return model
    file = folder / str(lesson.get("file"))
    if not file.is_file():
        return model
    return replace(model, llm={**model.llm, "knows": {**lesson, "file": str(file.resolve())}})


def _placed(data: DataSettings, folder: Path) -> DataSettings:
    """The same data with paths that hold from anywhere."""

    def place(one: SetSettings) -> SetSettings:
        found: dict[str, Any] = {}
        if isinstance(one.pipeline, Mapping):
            source = dict(one.pipeline.get("source") or {})
            for key in ("file", "path", "folder"):
                if isinstance(source.get(key), str) and (folder / source[key]).exists():
                    source[key] = str((folder / source[key]).resolve())
            found["pipeline"] = {**one.pipeline, "source": source}
        for name in ("path", "pipeline"):
            given = getattr(one, name)
            if isinstance(given, str) and not Path(given).is_absolute() and (folder / given).exists():
                found[name] = str(folder / given)
        return replace(one, **found)

    return replace(data, sets=tuple(map(place, data.sets)), held_out=tuple(map(place, data.held_out)))
