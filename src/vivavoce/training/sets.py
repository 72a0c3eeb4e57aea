"""The sets of a run, made by their pipelines where they are not there yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.base.records import read_record
from vivavoce.data.build.contract import Context
from vivavoce.data.build.pipeline import Pipeline, load_pipeline
from vivavoce.data.build.run import build
from vivavoce.data.reader import DataSource
from vivavoce.inference.services import SERVICES
from vivavoce.training.config import SetSettings
from vivavoce.training.world import World


def prepare_sets(
    sets: Sequence[SetSettings], folder: Path, world: World, echo: Callable[[str], None] = lambda line: None
) -> list[SetSettings]:
    """Make the sets that a run names by pipelines.

    Args:
        sets: Of the recipe.
        folder: Of the run; sets without a path go to ``folder/data/NAME``.
        world: The first process makes them, the others wait.
        echo: Told what is made.

    Returns:
        Sets with paths, each with a name of its own.

    Raises:
        DataError: A pipeline gives no rows.
    """
    made = []
    for one in sets:
        if one.pipeline is None:
            made.append(replace(one, name=one.name or Path(str(one.path)).name))
            continue
        pipeline, root = _pipeline(one.pipeline)
        out = Path(one.path) if one.path else folder / "data" / (one.name or pipeline.name)
        if world.is_first:
            echo(f"rows of {pipeline.name}")
            build(pipeline, out, Context(root=root, services=SERVICES), workers=0)
        world.barrier()
        made.append(replace(one, path=str(out), name=one.name or pipeline.name))
    return made


def check_sets(sets: Sequence[SetSettings]) -> None:
    """Look whether sets and pipelines are there, before any is made.

    Raises:
        ConfigError: One is not, or two sets have one name.
        DataError: A set cannot be read, or has no rows.
    """
    names = []
    for one in sets:
        if one.pipeline is not None:
            names.append(one.name or _pipeline(one.pipeline)[0].name)
            continue
        if not Path(str(one.path)).exists():
            raise ConfigError(
                f"the set {one.path} does not exist; wanted a folder, .parquet, .jsonl or .tar file."
            )
        names.append(one.name or Path(str(one.path)).name)
        if not len(DataSource(str(one.path), one.name)):
            raise DataError(f"the set {one.path} has no rows; leave it out, or fill it.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"two sets are called {twice[0]!r}; give each a name of its own.")


def _pipeline(given: Any) -> tuple[Pipeline, Path]:
    if isinstance(given, str):
        path = Path(given)
        if not path.is_file():
            raise ConfigError(f"the pipeline {given} does not exist; wanted a YAML file.")
        return load_pipeline(path), path.resolve().parent
    return read_record(Pipeline, given, "pipeline"), Path.cwd()
