"""Every smoke recipe begins along the stored curve of its loss; the slow tests see that each ends in right answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.data.build.stand_ins import needs
from tests.recipes.smoke_runs import SMOKE, begin_recipe

RECIPES = sorted(path.stem for path in SMOKE.glob("*.yaml"))


def test_every_recipe_has_a_curve() -> None:
    assert sorted(json.loads((SMOKE / "curves.json").read_text(encoding="utf-8"))) == RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_the_loss_falls_as_stored(name: str, tmp_path: Path) -> None:
    needs("espeak", "flite")
    assert not begin_recipe(name, tmp_path)
