"""Plans: arithmetic by hand, linear in hours, sums of their stages, honest about what was not measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.base.records import write_record
from vivavoce.data.build.contract import Context
from vivavoce.data.build.pipeline import Pipeline, load_pipeline
from vivavoce.data.plan import Plan, Resources, codec_spec, make_plan
from vivavoce.data.plan_measure import measure_rates
from vivavoce.data.plan_rates import Form, Rate, Rates, load_rates, own_rates

RECIPES = Path(__file__).parents[2] / "recipes" / "data"
PROVED: dict[str, Any] = {"basis": "measured", "date": "2026-01-01", "hardware": "a core", "command": "c"}
GUESSED: dict[str, Any] = {"basis": "assumed", "source": "a guess"}
PIPELINE = Pipeline(
    {"type": "recordings", "folder": "nowhere"},
    ({"type": "mine", "vad": "energy"}, {"type": "tokenize", "codec": "snac_24khz", "keep_audio": False}),
)
TABLE = Rates(
    (
        Rate("source", cpu_s=1.0, rows_per_hour=2.0, **PROVED),
        Rate("mine", match={"vad": "energy"}, cpu_s=360.0, keeps=0.25, rows_per_hour=400.0, audio_bytes=90e6,
             other_bytes=1e3, assumed=("keeps",), source="a guess", **PROVED),
        Rate("tokenize", cpu_s=720.0, token_bytes=2.0, **PROVED),
        Rate("tokenize", device="cuda", cpu_s=36.0, gpu_s=18.0, token_bytes=2.0, **GUESSED),
        Rate("store", cpu_s=4.0, **PROVED),
    ),
    (Form("opus", 30e6, **GUESSED), Form("flac", 90e6, **PROVED)),
)  # fmt: skip


def planned(hours: float = 1000.0, pipeline: Pipeline = PIPELINE, **resources: Any) -> Plan:
    return make_plan(pipeline, hours, Resources(**resources), [TABLE])


def test_a_small_case_by_hand():
    made = planned(cores=10, core_hour_price=0.5, gpu_hour_price=3.0)
    source, mine, tokenize, store = made.stages
    assert (source.cpu_hours, mine.cpu_hours) == (pytest.approx(1000 / 3600), 100.0)
    assert (mine.hours_in, mine.hours_out, mine.rows_out) == (1000.0, 250.0, 100_000.0)
    assert (tokenize.cpu_hours, tokenize.wall_hours, tokenize.cost) == (50.0, 5.0, 25.0)
    assert store.cpu_hours == pytest.approx(250 * 4 / 3600)
    [coded] = made.tokens
    assert coded.tokens == 24_000 / 2048 * 7 * 3600 * 250 == pytest.approx(73.828e6, rel=1e-4)
    sizes = {s.what: s.num_bytes for s in made.storage}
    assert (sizes["source: opus"], sizes["source: flac"]) == (30e9, 90e9)
    assert sizes["shards"] == pytest.approx(250 * 1e3 + 2 * coded.tokens)  # codes without recordings


def test_kept_recordings_are_stored_too():
    stage = {"type": "tokenize", "codec": "snac_24khz", "keep_audio": True}
    made = planned(pipeline=replace(PIPELINE, stages=(PIPELINE.stages[0], stage)))
    assert made.storage[-1].num_bytes == pytest.approx(250 * (90e6 + 1e3) + 2 * made.tokens[0].tokens)


def test_plans_are_linear_in_hours_and_stages_add_up():
    one, many = planned(7.0, core_hour_price=2.0), planned(7.0 * 1234, core_hour_price=2.0)

    def figures(plan: Plan) -> list[float]:
        found = [plan.cpu_hours, plan.wall_hours, plan.cost, *(s.num_bytes for s in plan.storage)]
        found += [c.tokens for c in (*plan.tokens, *plan.layouts)]
        found += [
            f for s in plan.stages for f in (s.hours_out, s.rows_out, s.cpu_hours, s.wall_hours, s.cost)
        ]
        return found  # type: ignore[return-value]

    assert figures(many) == pytest.approx([1234 * f for f in figures(one)])
    for plan in (one, many):
        assert plan.cpu_hours == pytest.approx(sum(s.cpu_hours for s in plan.stages))
        assert plan.cost == pytest.approx(sum(s.cost or 0.0 for s in plan.stages))


def test_gpus_are_used_where_a_rate_is_known():
    made = planned(cores=10, gpus=1, gpu_hour_price=2.0)
    tokenize = made.stages[2]
    assert (tokenize.device, tokenize.cpu_hours, tokenize.gpu_hours, tokenize.cost) == (
        "cuda",
        2.5,
        1.25,
        2.5,
    )
    assert tokenize.wall_hours == 1.25 and made.stages[1].device == "cpu"
    assert made.gpu_hours == 1.25 and made.wall_hours == pytest.approx(made.cpu_hours / 10)
    assert planned().cost is None


def test_what_is_assumed_says_so():
    made = planned(gpus=1)
    assert [s.basis for s in made.stages] == ["measured", "measured, assumed keeps", "assumed", "measured"]
    assert made.stages[2].told == "assumed: a guess"
    assert made.stages[0].told == "measured 2026-01-01 on a core: c"
    assert made.stages[1].told.endswith("assumed: keeps: a guess")


def test_every_rate_of_the_package_says_where_it_is_from():
    """That alone: what makes an entry honest is checked when it is read."""
    assert own_rates().forms and {rate.stage for rate in own_rates().rates} >= {"source", "store", "tokenize"}
    for rate in own_rates().rates:
        assert not (rate.gpu_s and rate.basis == "measured"), "no GPU was measured"


def test_the_rate_with_the_most_settings_counts_and_earlier_tables_first():
    table = Rates(
        (
            Rate("mine", match={"transcripts": "none"}, cpu_s=1.0, **PROVED),
            Rate("mine", match={"transcripts": ["none", "given"], "vad": "energy"}, cpu_s=2.0, **PROVED),
            Rate("mine", match={"transcripts": "transformers:*"}, cpu_s=3.0, **PROVED),
            Rate("speak", match={"voices": ["espeak*", "flite*"]}, cpu_s=4.0, **PROVED),
        )
    )

    def found(stage: str, **settings: Any) -> float | None:
        rate = table.find(stage, settings, "cpu")
        return rate and rate.cpu_s

    assert found("mine", transcripts="none", vad="energy") == 2.0
    assert found("mine", transcripts="none", vad="silero") == 1.0
    assert found("mine", transcripts="transformers:a/b", vad="energy") == 3.0
    assert found("mine", transcripts="pocketsphinx", vad="energy") is None
    assert found("speak", voices=("espeak:en-us", "flite")) == 4.0
    assert found("speak", voices=["espeak", "endpoint:x"]) is None and found("speak", voices=[]) is None
    mine = Rates((Rate("mine", cpu_s=36.0, **GUESSED),))
    assert make_plan(PIPELINE, 100.0, rates=[mine, TABLE]).stages[1].cpu_hours == 1.0


def test_plans_that_cannot_be_made():
    for hours in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="hours is"):
            planned(hours)
    with pytest.raises(ConfigError, match="rows is 0"):
        make_plan(PIPELINE, 1.0, rates=[TABLE], rows=0)
    for wrong in ({"cores": 0}, {"gpus": -1}, {"core_hour_price": -1.0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            Resources(**wrong)
    judge = replace(PIPELINE, stages=({"type": "judge", "model": "transformers:none/none"},))
    with pytest.raises(ConfigError, match=r"'judge' with model=transformers:none/none.*--measure"):
        make_plan(judge, 1.0)
    with pytest.raises(ConfigError, match="codec 'none' is not known"):
        codec_spec("none", {})


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"stage": "tokenise", "basis": "assumed", "source": "x"}, "stage is 'tokenise'"),
        ({"stage": "mine", "basis": "measured", "date": "2026-01-01"}, "hardware, command"),
        ({"stage": "mine", "basis": "assumed"}, "wants source"),
        ({"stage": "mine", "basis": "guessed", "source": "x"}, "basis"),
        ({"stage": "mine", "basis": "assumed", "source": "x", "cpu_s": -1}, "cpu_s is -1"),
        ({"stage": "mine", "basis": "assumed", "source": "x", "cpus": 1}, "cpus is unknown"),
        ({"stage": "mine", "basis": "assumed", "source": "x", "assumed": ["speed"]}, "assumed has"),
    ],
)
def test_rates_of_ones_own_are_checked(tmp_path, entry, words):
    path = tmp_path / "rates.yaml"
    path.write_text(yaml.safe_dump({"rates": [entry]}))
    with pytest.raises(ConfigError, match=words):
        load_rates(path)
    path.write_text("rate: []")
    with pytest.raises(ConfigError, match="holds no rates"):
        load_rates(path)


def test_tokens_follow_the_settings_of_a_codec():
    wanted = {"snac": 82.03, "nano": 82.03, "snac_32khz": 156.25, "snac_44khz": 215.33, "mimi": 100.0}
    assert {name: round(codec_spec(name, {}).tokens_per_second, 2) for name in wanted} == wanted
    assert codec_spec("encodec", {"bandwidth": 6.0}).tokens_per_second == 8 * 75
    assert codec_spec("kyutai/mimi", {"num_quantizers": 4}).tokens_per_second == 50


def test_the_recipe_of_podcasts_can_be_planned():
    recipe = load_pipeline(RECIPES / "podcasts.yaml")
    made = make_plan(recipe, 1.0, Resources(gpus=1))
    assert [s.name for s in made.stages] == ["source", "mine", "tokenize", "store"]
    assert "assumed" in made.stages[1].basis
    plain = load_pipeline(RECIPES / "podcasts.yaml", {"stages.0.transcripts": "none"})
    assert make_plan(plain, 1.0).gpu_hours == 0.0


def test_what_is_measured_is_what_a_run_makes(tmp_path):
    """Rates of a pipeline of texts, from its own run, give its rows, hours, bytes and tokens again."""
    from tests.data.build.stand_ins import Humming

    pipeline = Pipeline(
        {
            "type": "text",
            "texts": ["one two three " * 40, "four five " * 30, "six " * 50, "seven eight " * 9],
        },
        (
            {"type": "speak", "voices": ["service:hum"], "sample_rate": 24000},
            {"type": "tokenize", "codec": "nano"},
        ),
    )
    context = Context(services={"tts": Humming})
    found = measure_rates(pipeline, context, 4, "vivavoce data plan")
    assert [rate.stage for rate in found.rates] == ["source", "speak", "tokenize", "store"]
    assert not found.forms and all(rate.basis == "measured" and rate.hardware for rate in found.rates)
    from vivavoce.data.build.run import build

    manifest = build(pipeline, tmp_path / "set", context, workers=0).manifest
    made = make_plan(pipeline, manifest.hours, rates=[found])
    assert made.stages[-1].rows_out == pytest.approx(manifest.rows, rel=1e-3)
    assert made.tokens[0].tokens == pytest.approx(manifest.audio_tokens, rel=0.1)  # whole frames only
    assert made.storage[-1].num_bytes == pytest.approx(manifest.shards[0].num_bytes, rel=0.02)
    assert not [s for s in made.storage if s.what.startswith("source")]
    kept = tmp_path / "rates.yaml"
    kept.write_text(yaml.safe_dump(write_record(found)))
    assert make_plan(pipeline, 5.0, rates=[load_rates(kept)]) == make_plan(pipeline, 5.0, rates=[found])


def test_measurements_that_cannot_be_made():
    texts = Pipeline({"type": "text", "texts": ["one"]})
    with pytest.raises(ConfigError, match="wanted 1 or more"):
        measure_rates(texts, Context(), 0, "c")
    with pytest.raises(DataError, match="no row has audio"):
        measure_rates(texts, Context(), 1, "c")
    nothing = replace(texts, stages=({"type": "mine", "vad": "energy"},))
    with pytest.raises(
        DataError, match=r"nothing is left after mine \(mine: no_recording 1; the first: the row"
    ):
        measure_rates(nothing, Context(), 1, "c")


def test_commands_of_measured_rates_are_of_pipelines_that_are_here():
    own = [rate.command for rate in own_rates().rates if rate.basis == "measured"]
    for command in own:
        recipe = RECIPES.parents[1] / command.split()[3]
        pipeline = load_pipeline(recipe)
        assert recipe.is_file() and pipeline.name == recipe.stem
        named = pipeline.source.get("file") or pipeline.source.get("path")
        assert (recipe.parent / str(named)).is_file()
