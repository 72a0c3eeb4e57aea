"""Pipelines: YAML with all its faults at once, overrides, keys, and stages that run row by row where they must."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.data.build.engine import CONTEXT, speaking

from vivavoce.base.errors import ConfigError, ModelError
from vivavoce.data.build.contract import Context, Fault
from vivavoce.data.build.engines.quarantine import is_disk_full, put_aside
from vivavoce.data.build.engines.ray_engine import share_out
from vivavoce.data.build.pipeline import Chain, Pipeline, changes, load_pipeline, start
from vivavoce.data.conversation import Audio, Conversation, Message, Text

YAML = """
source: {type: text, texts: [one, two]}
seed: 3
stages:
  - {type: speak, voices: [espeak], speed: [0.9, 1.1]}
  - {type: tokenize, codec: nano}
"""


def load(tmp_path: Path, text: str, **overrides: Any) -> Pipeline:
    (tmp_path / "p.yaml").write_text(text)
    return load_pipeline(tmp_path / "p.yaml", {k.replace("__", "."): v for k, v in overrides.items()})


def test_overrides_reach_into_stages(tmp_path: Path) -> None:
    found = load(
        tmp_path, YAML, rows=1, stages__0__speed=[1.0, 1.2], stages__1__options__a=2, source__repeat=2
    )
    assert (found.rows, found.seed, found.stages[0]["speed"]) == (1, 3, [1.0, 1.2])
    assert found.stages[1]["options"] == {"a": 2} and found.source["repeat"] == 2


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    wrong = (
        YAML.replace("texts", "text").replace("voices", "voice").replace("codec", "layout")
        + "block_rows: 0\n"
    )
    with pytest.raises(ConfigError) as told:
        load(tmp_path, wrong)
    for words in ("did you mean 'texts'", "did you mean 'voices'", "layout is 'nano'", "block_rows is 0"):
        assert words in str(told.value)
    for text, words in (
        ("- 1", "holds no settings"),
        ("a: [", "cannot be read"),
        ("seed: 1", "source is missing"),
    ):
        with pytest.raises(ConfigError, match=words):
            load(tmp_path, text)
    with pytest.raises(ConfigError, match=r"'speek'.*'speak'"):
        load(tmp_path, YAML.replace("type: speak", "type: speek"))


def test_the_key_names_what_is_made_and_nothing_else() -> None:
    same = [speaking(), speaking(name="x", description="y", shard_rows=1, block_rows=9)]
    other = [speaking(seed=1), speaking(rows=2), speaking(license="mit"), speaking(stages=())]
    assert len({p.key("s") for p in same}) == 1
    assert len({p.key("s") for p in [*same, *other]} | {speaking().key("t")}) == 6


def test_changes_in_words() -> None:
    one, two = {"a": 1, "s": [{"x": 1}, {"y": 2}]}, {"a": 1, "s": [{"x": 3}]}
    assert changes(one, two) == "s.0.x 1 there, 3 here; s.1.y 2 there, 'absent' here"
    assert changes(one, dict(one)) == "the source or a builder's version changed"
    assert changes(None, one) == "its settings are not known"
    assert changes(dict.fromkeys("abcde", 1), dict.fromkeys("abcde", 2)).endswith("; ...")


def row(name: str) -> Conversation:
    return Conversation(name, [Message("user", [Text(name)])])


class Splitting:
    """A stage: "aab" becomes rows for its letters, "" becomes nothing, "!" fails with all of its batch."""

    batch_rows = 3

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, rows: Sequence[Conversation]) -> list[Any]:
        self.sizes.append(len(rows))
        if any("!" in r.id for r in rows):
            raise KeyError("no such thing")
        return [
            Fault("bad", "is bad", filtered=True)
            if "?" in r.id
            else [row(letter) for letter in r.id.strip("-")]
            for r in rows
        ]


def chain_of(*builders: Any) -> Chain:
    chain = Chain(speaking(stages=speaking().stages * len(builders), license="mit"), CONTEXT)
    chain._builders = list(builders)
    return chain


def test_a_failing_batch_is_tried_row_by_row() -> None:
    builder = Splitting()
    made = chain_of(builder).run([row(n) for n in ("ab", "!", "c", "?", "-")], 10)
    assert [(n, r.id, r.license) for n, r in made.kept] == [
        (10, "a", "mit"),
        (10, "b", "mit"),
        (12, "c", "mit"),
    ]
    told = [(line["number"], line["kind"], line["filtered"]) for line in made.aside]
    assert told == [(11, "KeyError", False), (13, "bad", True), (14, "nothing_made", True)]
    assert builder.sizes == [3, 1, 1, 1, 2]


def test_stages_follow_each_other_and_keep_the_number_of_the_source() -> None:
    made = chain_of(Splitting(), Splitting()).run([Fault("unreadable", "x"), row("a-"), row("bc")], 5)
    assert [(n, r.id) for n, r in made.kept] == [(6, "a"), (7, "b"), (7, "c")]
    assert [(line["number"], line["stage"]) for line in made.aside] == [(5, "source")]


def test_a_part_of_a_row_that_is_put_aside_has_its_number_too() -> None:
    def refuse_b(rows: Any) -> Any:
        return [Fault("bad", "is b") if r.id == "b" else [r] for r in rows]

    refuse_b.batch_rows = 1  # type: ignore[attr-defined]
    made = chain_of(Splitting(), refuse_b).run([row("abc"), row("b")])
    assert [(n, r.id) for n, r in made.kept] == [(0, "a"), (0, "c")]
    assert [line["number"] for line in made.aside] == [0, 1]


@pytest.mark.parametrize("error", [ConfigError("a"), ModelError("b"), OSError(28, "No space left on device")])
def test_what_is_no_rows_fault_stops_the_run(error: Exception) -> None:
    def fail(rows: Any) -> Any:
        raise error

    fail.batch_rows = 2  # type: ignore[attr-defined]
    with pytest.raises(type(error)):
        chain_of(fail).run([row("a")])


def test_lines_of_the_quarantine_have_no_bytes_and_can_be_written() -> None:
    audios = [{"bytes": b"123", "path": "a.wav"}, "data:audio/wav;base64," + "A" * 500]
    given = Conversation("r", [Message("user", [Audio(0), Audio(1), Text("\ud800")])], audios=audios)
    line = put_aside("speak", Fault("k", "why \udcff"), given)
    assert line["row"]["audios"][0] == {"path": "a.wav", "num_bytes": 3}
    assert len(line["row"]["audios"][1]) < 100 and "522 characters" in line["row"]["audios"][1]
    assert (line["reason"], line["row"]["messages"][0]["content"][2]["text"]) == ("why \\udcff", "\\ud800")
    assert start([Fault("k", "why")], 4).aside[0]["number"] == 4


def test_a_full_disk_is_seen_through_other_errors() -> None:
    try:
        try:
            raise OSError(28, "No space left on device")
        except OSError as inner:
            raise ModelError("could not write") from inner
    except ModelError as error:
        assert is_disk_full(error)
    assert not is_disk_full(OSError(13, "Permission denied")) and not is_disk_full(None)


def test_shares_of_a_small_cluster_leave_room_for_every_stage() -> None:
    """More workers with models than cores: each gets less, or the last would wait for ever."""
    from vivavoce.data.build.contract import Needs

    three = [Needs(model=True), Needs(gpus=1.0, model=True), Needs(gpus=1.0, model=True)]
    for there in ({"CPU": 1.0}, {"CPU": 2.0}, {"CPU": 16.0}):
        shares = share_out(three, "cpu", there)
        assert sum(c for c, _ in shares) <= there["CPU"] - 0.2 or there["CPU"] == 16
        assert all(c > 0 and g == 0 for c, g in shares)
    assert share_out(three, "cpu", {"CPU": 16.0}) == [(1.0, 0.0)] * 3
    assert [g for _, g in share_out(three, "cuda", {"CPU": 16.0, "GPU": 1.0})] == [0.0, 0.5, 0.5]
    assert [g for _, g in share_out(three, "cuda", {"CPU": 16.0, "GPU": 8.0})] == [0.0, 1.0, 1.0]
    with pytest.raises(ConfigError, match="finds no GPU"):
        share_out(three, "cuda", {"CPU": 16.0})


def test_services_are_named_where_they_lack() -> None:
    with pytest.raises(ConfigError, match="needs the service 'tts'"):
        Chain(speaking(), Context()).run([row("say")])
