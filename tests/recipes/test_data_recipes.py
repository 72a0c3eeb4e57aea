"""The data recipes: every file is a pipeline, and the offline ones build rows that `data check` has nothing against."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.data.build.stand_ins import needs

from vivavoce.data.build.contract import Context
from vivavoce.data.build.pipeline import Pipeline, load_pipeline
from vivavoce.data.build.run import build
from vivavoce.data.check.sets import check_set
from vivavoce.inference.services import SERVICES

FOLDER = Path(__file__).parents[2] / "recipes" / "data"
RECIPES = sorted(FOLDER.glob("*.yaml"))


def brings_its_data(pipeline: Pipeline) -> bool:
    return any(
        (FOLDER / str(name)).exists() for key, name in pipeline.source.items() if key in ("file", "path")
    )


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipe(recipe: Path, tmp_path: Path) -> None:
    pipeline = load_pipeline(recipe, {"rows": 4})
    assert pipeline.name == recipe.stem and pipeline.description
    if not brings_its_data(pipeline):
        return
    needs("espeak", "flite")
    outcome = build(pipeline, tmp_path / "set", Context(root=FOLDER, services=SERVICES), workers=0)
    assert outcome.manifest.rows >= 4 and outcome.manifest.source_rows == 4
    report = check_set(tmp_path / "set")
    assert report.ok, report.as_dict()
    assert recipe.name in (FOLDER / "README.md").read_text(encoding="utf-8")
