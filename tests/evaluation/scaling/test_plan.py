"""A plan counts what the runs will be, and refuses what would not be a law."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.evaluation.scaling.sweep_cases import recipe, write_sweep

from vivavoce.base.errors import ConfigError
from vivavoce.evaluation.scaling.plan import make_plan, stable_every, stable_span
from vivavoce.evaluation.scaling.sweep import Cell, RateRule, SizeRule, load_sweep, read_cells
from vivavoce.training.models import build_model
from vivavoce.training.recipe import load_recipe
from vivavoce.training.world import World


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    write_sweep(folder)
    return folder


def planned(folder: Path, out: Path, dry: bool = False, **changes: Any) -> list[Cell]:
    return make_plan(*load_sweep(write_sweep(folder, **changes)), out, dry=dry)


def test_parameters_are_those_of_the_models(place: Path, tmp_path: Path) -> None:
    cells = planned(place, tmp_path / "s")
    assert read_cells(tmp_path / "s") == cells and len(cells) == 4
    assert [c.flops for c in cells] == sorted(c.flops for c in cells)
    for cell in cells:
        config = load_recipe(tmp_path / "s" / "runs" / cell.id / "recipe.yaml")
        model, _ = build_model(config.model, tmp_path / cell.id, 0, World())
        llm = model.language_model
        tables = llm.get_input_embeddings().weight.numel() + llm.get_output_embeddings().weight.numel()
        assert cell.n == sum(p.numel() for p in llm.parameters()) - tables
        assert cell.n_total == sum(p.numel() for p in model.parameters())
        assert (cell.width, cell.layers) == (llm.config.hidden_size, llm.config.num_hidden_layers)
        assert llm.config.hidden_size // llm.config.num_attention_heads == 8
        assert config.steps == cell.steps and config.optimizer.lr == pytest.approx(cell.lr)
        assert cell.flops == pytest.approx(6 * (cell.n + tables / 2) * cell.tokens, rel=0.2)  # and attention
    lr = {c.width: c.lr for c in cells}
    assert lr[16] == pytest.approx(0.01) and lr[32] == pytest.approx(0.01 / 2**0.5)


def test_budgets_become_updates_and_hours(place: Path, tmp_path: Path) -> None:
    for cell in planned(place, tmp_path / "s", rates={"batch_power": 0.5, "warmup": 0.25}):
        asked = float(cell.id.split("-d")[1].split("-")[0])
        assert cell.tokens == pytest.approx(asked, rel=0.15)
        assert cell.rows == (2 if asked == 1200 else 3)
        assert cell.audio_s == pytest.approx(cell.steps * cell.rows * 5 * 2048 / 24_000)
        assert cell.passes == pytest.approx(cell.steps * cell.rows / 24)
        config = load_recipe(tmp_path / "s" / "runs" / cell.id / "recipe.yaml")
        assert config.schedule["warmup_ratio"] == 0.25


def test_flops_as_budgets(place: Path, tmp_path: Path) -> None:
    cells = planned(place, tmp_path / "s", tokens=[], flops=[1e8])
    assert len(cells) == 2
    for cell in cells:
        assert 6 * cell.n * cell.tokens == pytest.approx(1e8, rel=0.1)


def test_dry_writes_nothing(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "s"
    dry = planned(place, out, dry=True)
    assert not out.exists() and [c.id for c in dry] == [c.id for c in planned(place, out)]


def test_unmade_sets_need_the_length_of_a_row_when_dry(place: Path, tmp_path: Path) -> None:
    record = recipe(place)
    pipeline = {"name": "p", "source": {"type": "text", "texts": ["a"]}, "license": "cc0-1.0"}
    record["data"]["sets"] = [{"pipeline": pipeline}]
    with pytest.raises(ConfigError, match="say row_tokens"):
        planned(place, tmp_path / "s", dry=True, recipe=record)
    cell = planned(place, tmp_path / "s", dry=True, recipe=record, row_tokens=60)[0]
    assert cell.audio_s == pytest.approx(cell.tokens / (7 * 24_000 / 2048))


def test_measured_time_grows_with_tokens(place: Path, tmp_path: Path) -> None:
    cells = make_plan(*load_sweep(write_sweep(place)), tmp_path / "s", measure=True)
    seconds = {(c.width, c.steps): c.seconds for c in cells}
    assert all(s and s > 0 for s in seconds.values())
    given = make_plan(*load_sweep(write_sweep(place)), tmp_path / "t", rate=1e9)
    assert all(c.seconds == pytest.approx(c.flops / 1e9) for c in given)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"points": "stable"}, "on its way down all the time"),
        ({"tokens": [10.0]}, "give it more tokens"),
        ({"tokens": []}, "wanted tokens or flops"),
        ({"sizes": {"widths": [20], "head_size": 8}}, "no multiples of head_size"),
        ({"sizes": {"widths": [16], "models": ["x"], "head_size": 8}}, "one of the two"),
        ({"seeds": [1, 1]}, "all different"),
    ],
)
def test_what_is_refused(place: Path, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        planned(place, tmp_path / "s", **changes)


def test_a_folder_holds_one_sweep(place: Path, tmp_path: Path) -> None:
    planned(place, tmp_path / "s")
    with pytest.raises(ConfigError, match="holds another sweep"):
        planned(place, tmp_path / "s", tokens=[1200, 3600])


def test_a_recipe_that_goes_on_with_a_model_has_no_widths(place: Path, tmp_path: Path) -> None:
    record = recipe(
        place, model={"start": "nano"}, train={"language_model": "full"}, objective={"type": "sft"}
    )
    with pytest.raises(ConfigError, match=r"give sizes\.models"):
        planned(place, tmp_path / "s", recipe=record)


def test_rules() -> None:
    assert SizeRule(widths=(64, 256, 512), aspect=64, least_layers=2).depth(256) == 4
    assert SizeRule(widths=(64, 512), aspect=64).depth(64) == 2
    assert SizeRule(widths=(64, 512), layers=(3, 5)).depth(512) == 5
    with pytest.raises(ConfigError, match="warmup"):
        RateRule(warmup=0.9)


def test_the_stable_part_of_wsd() -> None:
    schedule = {"type": "wsd", "warmup_steps": 10, "decay_ratio": 0.2}
    first, last = stable_span(schedule, 100)
    assert (first, last) == (11, 81)
    assert stable_every(schedule, 100, 7) == 10


def test_language_models_of_folders_are_made_wider(place: Path, tmp_path: Path) -> None:
    from vivavoce.training.tiny_llm import TinyLLM, write_tiny_llm

    llm = write_tiny_llm(tmp_path / "llm", TinyLLM())
    record = recipe(place)
    record["model"]["llm"] = str(llm)
    cells = planned(place, tmp_path / "s", recipe=record)
    assert sorted({c.width for c in cells}) == [16, 32]
    made = yaml.safe_load((tmp_path / "s/runs" / cells[0].id / "recipe.yaml").read_text(encoding="utf-8"))
    assert made["model"]["random_weights"] and Path(made["model"]["llm"]).is_dir()
    named = planned(place, tmp_path / "t", recipe=record, sizes={"models": [str(llm)]})
    assert {c.width for c in named} == {64} and {c.size for c in named} == {"llm"}
