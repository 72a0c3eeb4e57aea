"""What the gate is set on: speech that neither training nor tests have, and readings weighed as the product does."""

from __future__ import annotations

import pytest
from make_speech import HELD_OUT_VOICES, TUNE_VOICES, VARIANTS, plan_tune
from tune_gate import Heard

from vivavoce.inference import joint
from vivavoce.inference.joint import Reading


def test_its_voices_are_of_neither_training_nor_tests() -> None:
    rows = plan_tune()
    assert {row["voice"] for row in rows} <= set(TUNE_VOICES)
    assert not {voice.partition("+")[2] for voice in (*TUNE_VOICES, *HELD_OUT_VOICES)} & set(VARIANTS) - {""}
    assert not set(TUNE_VOICES) & set(HELD_OUT_VOICES)
    assert rows == plan_tune() and len(rows) == 480
    assert all((row["split"] == "tune") == bool(row["answer"]) for row in rows)


@pytest.mark.parametrize(("weight", "best"), [(0.0, "four"), (1.0, "five")])
def test_the_weight_decides_between_words_and_phones(weight: float, best: str) -> None:
    readings = [Reading((1,), -0.5, -0.1, -2.0, 3), Reading((2,), -0.6, -0.2, -0.1, 3)]
    found = Heard("five", readings, ["four", "five"]).best(weight)
    assert found is not None and found[0] == best
    assert Heard("five", [], []).best(weight) is None


def test_weighing_is_the_products(monkeypatch: pytest.MonkeyPatch) -> None:
    reading = Reading((1, 2), -0.5, -0.1, -2.0, 5)
    tried = {weight: Heard("", [reading], [""]).total(reading, weight) for weight in (0.0, 0.25, 0.7)}
    for weight, total in tried.items():
        monkeypatch.setattr(joint, "PHONES_WEIGHT", weight)
        assert total == pytest.approx(reading.total)
