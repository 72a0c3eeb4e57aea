"""A study says what its numbers are worth, and predictions beyond the grid are asked for by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.evaluation.scaling.law_cases import records, seen

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.evaluation.scaling.bootstrap import Refits
from vivavoce.evaluation.scaling.figures import write_png
from vivavoce.evaluation.scaling.fitting import Points
from vivavoce.evaluation.scaling.isoflop import find_valleys
from vivavoce.evaluation.scaling.law import BESIROGLU, CHINCHILLA
from vivavoce.evaluation.scaling.page import write_page
from vivavoce.evaluation.scaling.predict import predict, read_fit
from vivavoce.evaluation.scaling.study import Machine, StudySettings, study
from vivavoce.evaluation.scaling.sweep import write_json

QUICK = StudySettings(refits=Refits(200), machine=Machine(1e15, 0.5, 2.0))


def lines() -> list[dict[str, Any]]:
    """A sound sweep, with parts: audio is twice the loss, text half of it."""
    made = records(seen(CHINCHILLA, 1, 0.003))
    for line in made:
        line |= {
            "audio_h": line["tokens"] / 82.03125 / 3600,
            "passes": 0.5,
            "schedule": "cosine",
            "annealed": True,
        }
        line["losses"] = {"audio": 2 * line["loss"], "text": line["loss"] / 2}
        line["bits_per_s"] = 82.03125 * 2 * line["loss"] / np.log(2)
    return made


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return study(lines(), QUICK)


def names(made: dict[str, Any]) -> set[str]:
    return {c["name"] for c in made["cautions"]}


def test_a_sound_sweep(made: dict[str, Any]) -> None:
    assert made["cautions"] == []
    for name, truth in CHINCHILLA.as_dict().items():
        low, high = made["law"][name]["interval"]
        assert low <= truth <= high
    for part, factor in (("audio", 2.0), ("text", 0.5), ("bits_per_s", 2 * 82.03125 / np.log(2))):
        assert made["parts"][part]["law"]["E"]["value"] == pytest.approx(
            factor * made["law"]["E"]["value"], rel=1e-3
        )
    assert made["power"]["valleys"] == pytest.approx(made["power"]["law"], abs=0.1)


def test_the_largest_run_is_predicted_from_the_others(made: dict[str, Any]) -> None:
    held = made["held_back"]
    assert held["largest_run"]["fitted_to"] == 41 and held["largest_run"]["inside"] == 1
    assert held["largest_size"]["fitted_to"] == 36 and len(held["largest_size"]["runs"]) == 6
    assert held["largest_budget"]["fitted_to"] == 35 and held["largest_budget"]["error"] < 0.02


def test_budgets(made: dict[str, Any]) -> None:
    for one in made["budgets"]:
        n, d = one["n"]["value"], one["tokens"]["value"]
        assert 6 * n * d == pytest.approx(one["flops"])
        assert one["audio_h"] == pytest.approx(d / 82.03125 / 3600)
        assert one["gpu_h"] == pytest.approx(one["flops"] / 5e14 / 3600) and one["cost"] == 2 * one["gpu_h"]
        assert one["loss"]["interval"][0] < one["loss"]["value"] < one["loss"]["interval"][1]


def test_valleys_of_a_known_law() -> None:
    found = find_valleys(seen(BESIROGLU, 0, 0.0, 9, 9))
    assert found.power == pytest.approx(BESIROGLU.b / (BESIROGLU.a + BESIROGLU.b), abs=0.06)
    inside = [v for v in found.valleys if v.n is not None]
    assert len(inside) >= 4
    for valley in inside:
        assert valley.n == pytest.approx(float(BESIROGLU.best(valley.flops)[0]), rel=0.5)


def changed(keep: Any = None, **more: Any) -> dict[str, Any]:
    found = [line | more for line in lines()]
    return study([line for i, line in enumerate(found) if keep is None or keep(i, line)], QUICK)


@pytest.mark.parametrize(
    ("keep", "more", "name"),
    [
        (lambda i, line: line["n"] < 5e8, {}, "few_sizes"),
        (lambda i, line: i % 4 == 0, {}, "few_points"),
        (None, {"passes": 5.0}, "repeated"),
        (None, {"n_total": 1e12}, "embeddings"),
        (None, {"annealed": False, "schedule": "constant"}, "not_annealed"),
    ],
)
def test_cautions(keep: Any, more: dict[str, Any], name: str) -> None:
    assert name in names(changed(keep, **more))


def test_budgets_that_lie_close_together() -> None:
    n, d = (axis.ravel() for axis in np.meshgrid(np.geomspace(4e7, 1.6e10, 5), np.geomspace(1e9, 6e9, 3)))
    assert "narrow_tokens" in names(study(records(Points(n, d, CHINCHILLA.loss(n, d))), QUICK))


def test_mixed_schedules_are_broken() -> None:
    found = lines()
    found[3] |= {"schedule": "constant", "annealed": False}
    made = study(found, QUICK)
    assert "mixed_schedules" in names(made)
    with pytest.raises(ConfigError, match="numbers mean nothing: points of different schedules"):
        predict(made, n=1e9, tokens=1e10)
    assert predict(made, n=1e9, tokens=1e10, beyond=True)["loss"] > 1.7


def test_sizes_and_tokens_that_grow_together() -> None:
    n = np.geomspace(1e7, 1e10, 14)
    d = 20 * n
    points = Points(n, d, CHINCHILLA.loss(n, d))
    made = study(records(points), QUICK)
    assert {"collinear", "few_ratios"} <= names(made)
    assert any(c["severity"] == "broken" for c in made["cautions"])


def test_tokens_that_do_nothing_are_a_boundary() -> None:
    points = seen(CHINCHILLA, 0, 0.002)
    flat = Points(points.n, points.d, CHINCHILLA.loss(points.n, 1e11))
    noise = np.random.default_rng(0).normal(0, 1e-3, len(flat))
    made = study(records(Points(flat.n, flat.d, flat.loss * np.exp(noise))), QUICK)
    assert names(made) & {"boundary_b", "vague_b", "failed_refits", "boundary_E", "vague_E"}


def test_predictions_inside_and_a_little_beyond(made: dict[str, Any]) -> None:
    found = predict(made, n=1e9, tokens=2e10)
    low, high = found["interval"]
    assert (
        low < CHINCHILLA.loss(1e9, 2e10) < high and found["decades_beyond"] == 0 and found["cautions"] == []
    )
    near = predict(made, n=3.2e10, tokens=5e11)
    assert near["decades_beyond"] == pytest.approx(np.log10(2)) and near["stretched"] == pytest.approx(
        1.30, abs=0.01
    )
    assert "2 times the grid's most" in near["cautions"][0]


def test_far_beyond_is_refused_and_then_wider(made: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigError, match=r"1.6e\+12 parameters are 100 times the grid's most .* Say --beyond"
    ):
        predict(made, n=1.6e12, tokens=1e11)
    with pytest.raises(ConfigError, match="times below the grid's least"):
        predict(made, n=1e9, tokens=1e7)
    found = predict(made, n=1.6e12, tokens=1e11, beyond=True)
    assert found["stretched"] == pytest.approx(3.0) and "stretched 3.00 times" in found["cautions"][0]
    low, high = found["interval"]
    assert low < CHINCHILLA.loss(1.6e12, 1e11) < high
    with pytest.raises(ConfigError, match="Say --beyond"):
        predict(made, flops=1e26)
    assert predict(made, flops=1e26, beyond=True)["n_interval"][0] > 1e10


def test_a_budget_inside(made: dict[str, Any]) -> None:
    found = predict(made, flops=1e20)
    truth = CHINCHILLA.best(1e20)
    assert found["n_interval"][0] < float(truth[0]) < found["n_interval"][1]
    assert found["interval"][0] < float(truth[2]) < found["interval"][1]


@pytest.mark.parametrize(
    "asked", [{}, {"n": 1e9}, {"n": 1e9, "tokens": 1e9, "flops": 1e18}, {"n": -1.0, "tokens": 1e9}]
)
def test_what_is_asked_for_must_make_sense(made: dict[str, Any], asked: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"wanted --params and --tokens|above 0"):
        predict(made, **asked)


def test_a_fit_says_the_same_after_it_was_stored(made: dict[str, Any], tmp_path: Path) -> None:
    write_json(tmp_path / "fit.json", made)
    assert predict(read_fit(tmp_path), n=1e9, tokens=2e10) == predict(made, n=1e9, tokens=2e10)
    with pytest.raises(DataError, match="vivavoce scale fit"):
        read_fit(tmp_path / "nowhere")


def test_the_page_needs_nothing_else(made: dict[str, Any], tmp_path: Path) -> None:
    hostile = dict(made) | {"points": [dict(made["points"][0]) | {"id": "</script><b>"}, *made["points"][1:]]}
    text = write_page(hostile, tmp_path / "fit.html", "<law>").read_text(encoding="utf-8")
    assert "http" not in text and "src=" not in text and "</script><b>" not in text and "&lt;law&gt;" in text
    data = text.split("const made=")[1].split(";\n")[0]
    assert json.loads(data)["law"] == made["law"]


def test_the_page_shows_no_empty_panel(made: dict[str, Any], tmp_path: Path) -> None:
    none = dict(made) | {"valleys": dict(made["valleys"]) | {"valleys": []}}
    for fit, shown in ((made, True), (none, False)):
        text = write_page(fit, tmp_path / "fit.html").read_text(encoding="utf-8")
        assert ("At equal FLOPs" in text) == shown and ("id=valleys" in text) == shown


def test_the_picture(made: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = write_png(made, tmp_path / "fit.png")
    assert path.read_bytes()[:4] == b"\x89PNG" and path.stat().st_size < 200_000


def test_the_count_that_a_line_does_not_know() -> None:
    found = lines()
    del found[2]["n_total"]
    with pytest.raises(DataError, match="has no n_total"):
        study(found, StudySettings(count="n_total", refits=Refits(200)))
