"""The full-size training recipes: all are read, by the classes of what they name, and say what they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from tests.data.build.stand_ins import needs

from vivavoce.base.errors import ConfigError
from vivavoce.base.records import read_record
from vivavoce.codecs.training.building import snac_config
from vivavoce.data.build.pipeline import Pipeline, load_pipeline
from vivavoce.models.compose import CodecSide
from vivavoce.tokens.layouts import LAYOUTS
from vivavoce.training.codec.config import CodecTrainConfig
from vivavoce.training.config import ModelSettings
from vivavoce.training.kinds import load_any
from vivavoce.training.objectives import OBJECTIVES
from vivavoce.training.optimizers import OPTIMIZERS
from vivavoce.training.recipe import load_recipe
from vivavoce.training.run import train
from vivavoce.training.schedules import build_schedule
from vivavoce.training.trainable import Trainable
from vivavoce.training.world import World

RECIPES = Path(__file__).parents[2] / "recipes"
FULL = sorted(
    path
    for path in RECIPES.glob("*/*.yaml")
    if path.parent.name not in ("data", "smoke", "nano")
    and "model" in yaml.safe_load(path.read_text("utf-8"))
)
# small and measured; they have no smaller twin
RUN_HERE = ("scaling", "trajectory_small", "codec_snac_small")
TOKENS = (
    "jan_llama3", "jan_llama3_fast", "snac_tts", "snac_asr", "snac_chat", "snac_pretrain", "interleave",
    "orpheus_finetune",
)  # fmt: skip
SMOKE = sorted((RECIPES / "smoke").glob("*.yaml"))


@pytest.mark.parametrize("path", [*FULL, *SMOKE], ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_recipe_is_read(path: Path) -> None:
    """Each part by the class that reads it in a run; unknown settings are refused there."""
    config = load_any(path)
    assert config.description and config.name
    if isinstance(config, CodecTrainConfig):
        build_schedule(config.schedule, config.steps)
        if config.model.type == "snac":
            snac_config(config.model.base, config.model.settings)
        return
    read_record(Trainable, config.train, "train")
    build_schedule(config.schedule, 10_000)
    record = dict(config.objective)
    objective = OBJECTIVES.get(str(record.pop("type")))
    objective(read_record(objective.config_class, record, "objective"), len(record.get("slot_weights", ())))
    OPTIMIZERS.get(config.optimizer.type)
    for side in (config.model.hears, config.model.speaks):
        if side is not None and "codec" in side:
            LAYOUTS.get(read_record(CodecSide, side, "side").layout)
    for one in (*config.data.sets, *config.data.held_out):
        if isinstance(one.pipeline, str):
            load_pipeline(Path(one.pipeline))
        elif one.pipeline is not None:
            read_record(Pipeline, one.pipeline, "pipeline")


@pytest.mark.parametrize(
    "path",
    [p for p in FULL if p.stem == "train" and p.parent.name not in RUN_HERE],
    ids=lambda path: path.parent.name,
)
def test_recipe_says_what_it_is(path: Path) -> None:
    config, text = load_any(path), (path.parent / "README.md").read_text(encoding="utf-8")
    assert config.name == path.parent.name
    assert f"recipes/{path.parent.name}/train.yaml" in text
    assert len(text.splitlines()) <= 60
    assert "not run by us" in text.lower(), "what was not measured has to be said"
    sets = () if isinstance(config, CodecTrainConfig) else config.data.sets
    assert not any(one.pipeline for one in sets) or "vivavoce" in text
    assert (RECIPES / "smoke" / f"{path.parent.name}.yaml").exists(), "a recipe has a small twin"


@pytest.mark.slow
@pytest.mark.parametrize("name", TOKENS)
def test_settings_of_full_size_train_the_small_model(name: str, tmp_path: Path) -> None:
    """Objective, batch, optimizer, trained parts and recomputation of the recipe, with its twin's model and rows."""
    needs("espeak", "flite")
    full, small = load_recipe(RECIPES / name / "train.yaml"), load_recipe(RECIPES / "smoke" / f"{name}.yaml")
    config = replace(
        full,
        steps=2,
        model=small.model,
        data=replace(full.data, sets=small.data.sets, held_out=(), mixing=small.data.mixing),
        batch=replace(full.batch, rows=8),
        schedule={"type": "constant"},
        parallel=replace(full.parallel, mode="none", compile=False),
        keep=replace(full.keep, save_every=0, sample_every=-1),
    )
    found = train(config, tmp_path, World.from_environment("cpu"))
    assert found["step"] == 2 and found["skipped_steps"] == 0 and 0 < found["loss"] < 12
    assert (tmp_path / "model" / "config.json").is_file()


def test_jan_llama3_is_the_table_of_its_card() -> None:
    config = load_recipe(RECIPES / "jan_llama3" / "train.yaml")
    optimizer = config.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.betas) == ("adam_mini", 5e-5, (0.9, 0.98))
    assert (optimizer.eps, optimizer.weight_decay, optimizer.max_grad_norm) == (1e-6, 0.01, 1.0)
    assert (config.batch.rows, config.batch.max_tokens, config.epochs, config.seed) == (128, 4096, 1, 3407)
    assert config.schedule == {"type": "cosine", "warmup_ratio": 0.1}
    fast = load_recipe(RECIPES / "jan_llama3_fast" / "train.yaml")
    assert (fast.optimizer, fast.schedule, fast.batch.rows) == (optimizer, config.schedule, 128)
    assert [(s.path, s.weight) for s in fast.data.sets] == [(s.path, s.weight) for s in config.data.sets]


def test_names_of_voices_are_added_to_a_model_that_speaks() -> None:
    with pytest.raises(ConfigError, match="speakers are added to start"):
        ModelSettings(llm="folder", speakers=("anna",))
