"""``vivavoce data plan``: the table, JSON, and what it refuses."""

from __future__ import annotations

import pytest
from tests.cli.running import listing

from vivavoce.cli.data_plan import size

RECIPE = """
name: talks
source: {type: recordings, folder: nowhere}
stages: [{type: mine, vad: energy}, {type: tokenize, codec: snac_24khz}]
"""
RATES = """
rates:
  - {stage: mine, match: {transcripts: none}, basis: measured, cpu_s: 36, keeps: 0.5, rows_per_hour: 100,
     date: 2026-01-01, hardware: a core, command: c}
  - {stage: tokenize, basis: assumed, device: cuda, cpu_s: 7.2, gpu_s: 3.6, source: a guess}
"""
WHISPER = "transformers:openai/whisper-small"


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "r.yaml").write_text(RECIPE)
    (tmp_path / "rates.yaml").write_text(RATES)
    return ["data", "plan", "r.yaml", "--rates", "rates.yaml", "--gpus", "2", "--cores", "4"]


def test_a_plan_is_shown(run, recipe):
    done = run(*recipe, "--hours", "1000", "--core-hour-price", "0.1", "--gpu-hour-price", "2")
    assert done.code == 0, done.err
    assert done.text.startswith("talks: 1,000 h of audio, 4 cores, 2 GPUs\n")
    rows = {line.split()[0]: line.split() for line in done.text.splitlines() if line.strip()}
    #                    on     h in     h out  rows out  core-h GPU-h wall h cost
    assert rows["mine"][1:9] == ["cpu", "1,000", "500", "50,000", "10", "0", "2.5", "1"]
    assert rows["tokenize"][1:9] == ["cuda", "500", "500", "50,000", "1", "0.5", "0.25", "1.1"]
    assert rows["made"][1:] == ["snac_24khz", "orpheus", "82.03", "147,656,250"]
    assert "tokenize: assumed: a guess" in done.text and "mine: measured 2026-01-01 on a core: c" in done.text
    assert "cost" not in run(*recipe, "--hours", "1000").text


def test_a_plan_is_json_and_takes_settings(run, recipe, tmp_path):
    before = listing(tmp_path)
    made = run(*recipe, "stages.1.codec=mimi", "out=DIR", "--hours", "10", "--rows", "7", "--json").json
    assert (made["hours"], made["resources"]["gpus"], made["stages"][0]["rows_out"]) == (10.0, 2, 7.0)
    assert made["tokens"] == [
        {"codec": "mimi", "layout": "orpheus", "tokens_per_s": 100.0, "tokens": 100 * 3600 * 5.0}
    ]
    assert {s["basis"].partition(",")[0] for s in made["stages"]} == {"measured", "assumed"}
    assert listing(tmp_path) == before


def test_rates_are_measured_and_kept(run, tmp_path, monkeypatch):
    from tests.data.build.stand_ins import Humming

    monkeypatch.setattr("vivavoce.inference.services.SERVICES", {"tts": Humming})
    (tmp_path / "s.yaml").write_text(
        "source: {type: text, texts: [one two, three four]}\nstages: [{type: speak, voices: [service:hum]}]\n"
    )
    wanted = ["data", "plan", "s.yaml", "--hours", "10"]
    assert run(*wanted).is_one_error("no rate for the stage 'speak'", "--measure")
    done = run(*wanted, "--measure", "--measure-rows", "2", "--save", "own.yaml")
    assert done.code == 0, done.err
    assert "speak: measured 20" in done.text and "rates kept in own.yaml" in done.err
    again = run(*wanted, "--rates", "own.yaml")
    assert again.code == 0 and again.text == done.text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["--hours is missing"]),
        (["--hours", "0"], ["hours is 0", "more than 0"]),
        (["--hours", "-3"], ["hours is -3"]),
        (["--hours", "1", "--cores", "0"], ["cores is 0"]),
        (
            ["--hours", "1", "--gpus", "0", "stages.0.vad=silero", f"stages.0.transcripts={WHISPER}"],
            ["no rate for the stage 'mine'", f"transcripts={WHISPER}", "--measure", "--gpus N"],
        ),
        (["--hours", "1", "--save", "x.yaml"], ["--save", "--measure"]),
        (["--hours", "1", "--measure"], ["nowhere is no folder"]),
        (["--hours", "1", "stages.1.codec=none"], ["codec 'none' is not known"]),
        (["--hours", "1", "stages.0.vat=x"], ["vat is unknown", "'vad'"]),
        (["--hours", "1", "--rates", "no.yaml"], ["no.yaml cannot be read"]),
    ],
)
def test_plans_that_cannot_be(run, recipe, arguments, words):
    assert run(*recipe, *arguments).is_one_error(*words)


def test_sizes():
    assert [size(n) for n in (12, 1500, 2.5e9, 3.21e15)] == ["12 B", "1.5 kB", "2.5 GB", "3.21 PB"]
