"""``vivavoce data``: build, run, convert, formats, info and overrides."""

from __future__ import annotations

import json

import pytest
from tests.cli.running import listing

from vivavoce.base.errors import ConfigError
from vivavoce.cli.data_convert import nested
from vivavoce.cli.overrides import read_overrides
from vivavoce.data.manifest import read_set

RECIPE = """
source: {type: text, texts: [what is one, what is two, "!!!", what is four]}
stages: [{type: speak, voices: [service:hum], sample_rate: 16000}]
block_rows: 2
license: cc0-1.0
"""


@pytest.fixture
def hum(monkeypatch):
    """The service "tts" is a hum."""
    from tests.data.build.stand_ins import Humming

    monkeypatch.setattr("vivavoce.inference.services.SERVICES", {"tts": Humming})


def test_a_pipeline_is_built_shown_and_checked(run, tmp_path, hum):
    (tmp_path / "r.yaml").write_text(RECIPE)
    done = run("data", "build", "r.yaml", "out=set", "rows=3", "stages.0.level_db=-20", "--workers", "0")
    assert done.code == 0, done.err
    lines = done.text.splitlines()
    assert lines[0].startswith("set  2 rows, 0.00 h, 1 shards")
    assert lines[1:3] == ["from 3 rows of the source; 1 put aside", "       1  speak: empty"]
    assert "set/put_aside.jsonl" in done.err
    again = run("data", "build", "r.yaml", "out=set", "rows=3", "stages.0.level_db=-20", "--json")
    assert (again.json["made_now"], again.json["rows"]) == (0, 2)
    shown = run("data", "info", "set")
    found = {" ".join(line.split()[:1]): line for line in shown.text.splitlines()}
    assert "speak: empty 1" in found["put"] and "cc0-1.0 2" in found["licences"]
    assert run("data", "info", "set", "--json").json["source_rows"] == 3
    assert run("data", "check", "set").code == 2  # questions without answers teach nothing


def test_one_stage_is_run(run, tmp_path, hum):
    (tmp_path / "q.txt").write_text("what is one\nwhat is two\n")
    done = run(
        "data", "run", "speak", "q.txt", "set", "voices=[service:hum]", "--rows", "1", "--workers", "0"
    )
    assert done.code == 0, done.err
    assert [row.messages[0].words for row in read_set(tmp_path / "set")] == ["what is one"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["r.yaml"], ["out is missing"]),
        (["none.yaml", "out=x"], ["none.yaml cannot be read"]),
        (["r.yaml", "out=x", "rows=0"], ["rows is 0"]),
        (["r.yaml", "out=x", "stages.0.voice=a"], ["voice is unknown", "'voices'"]),
        (["r.yaml", "out=x", "stages.3.speed=1"], ["stages.3.speed", "there are 1 of these"]),
        (["r.yaml", "out=x", "stages.x.speed=1"], ["stages.x.speed", "numbered from 0"]),
        (["r.yaml", "out=x", "seed.a=1"], ["seed.a"]),
        (["r.yaml", "out=x", "rows"], ["'rows' is no setting"]),
        (["r.yaml", "out=x", "--engine", "spark"], ["engine is 'spark'", "'ray'"]),
        (["r.yaml", "out=x", "--workers", "-1"], ["workers is -1"]),
    ],
)
def test_wrong_settings_are_one_line_and_make_nothing(run, tmp_path, hum, arguments, words):
    (tmp_path / "r.yaml").write_text(RECIPE + "seed: 0\n")
    assert run("data", "build", *arguments).is_one_error(*words)
    assert listing(tmp_path) == ["r.yaml"]


def test_overrides():
    found = read_overrides(["rows=20", "a.b=[1, x]", "text=a=b", "none=", "on=true", "half=0.5"])
    assert found == {"rows": 20, "a.b": [1, "x"], "text": "a=b", "none": None, "on": True, "half": 0.5}
    for wrong, words in (
        (["rows"], "no setting"),
        (["=3"], "no setting"),
        (["a=1", "a=2"], "twice"),
        (["a=1", " a=2"], "twice"),
        (["a={"], "not YAML"),
    ):
        with pytest.raises(ConfigError, match=words):
            read_overrides(wrong)


def test_nested_settings():
    assert nested({"a": 1, "b.c": 2, "b.d": 3}) == {"a": 1, "b": {"c": 2, "d": 3}}
    for wrong in ({"a": 1, "a.b": 2}, {"a.b": 1, "a": 2}):
        with pytest.raises(ConfigError, match="a"):
            nested(wrong)


OPENAI = [
    {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]},
    {"messages": 7},
]


def test_convert_there_and_back(run, tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in OPENAI))
    done = run("data", "convert", "a.jsonl", "set", "license=cc0-1.0", "--from", "openai")
    assert done.code == 0, done.err
    assert "read        1 rows of openai, 1 could not be read" in done.text
    assert "line 2" in done.err
    [row] = read_set(tmp_path / "set")
    assert (row.license, row.messages[1].text) == ("cc0-1.0", "hello")
    back = run("data", "convert", "set", "b.jsonl", "--to", "openai", "--json")
    assert (back.json["source_format"], back.json["written"]["rows"]) == ("vivavoce", 1)
    assert json.loads((tmp_path / "b.jsonl").read_text())["messages"] == OPENAI[0]["messages"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.jsonl", "set"], ["none.jsonl does not exist"]),
        (["a.jsonl", "set", "--from", "openia"], ["openia", "openai"]),
        (["a.jsonl", "set", "--from", "openai", "licence=x"], ["licence", "license"]),
        (["a.jsonl", "set.csv", "--from", "openai"], ["set.csv"]),
        (["a.jsonl", "a.jsonl", "--from", "openai", "--to", "openai"], ["a.jsonl"]),
    ],
)
def test_conversions_that_cannot_be(run, tmp_path, arguments, words):
    (tmp_path / "a.jsonl").write_text(json.dumps(OPENAI[0]) + "\n")
    assert run("data", "convert", *arguments).is_one_error(*words)
    assert listing(tmp_path) == ["a.jsonl"]


def test_formats_are_listed(run):
    found = {f["name"]: f for f in run("data", "formats", "--json").json}
    assert found["nemo"]["can_write"] and "ultravox" in found
    assert [name for name in found if name not in run("data", "formats").text] == []


def test_info_of_what_is_no_set(run):
    assert run("data", "info", "none").is_one_error("none is not a finished set")
