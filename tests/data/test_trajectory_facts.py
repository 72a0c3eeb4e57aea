"""What is counted is what is there, and every kind of problem is found and none besides."""

from __future__ import annotations

import json

import pytest
from tests.data.dialogue_cases import EN, ZH, as_lines, as_numbered, as_turns, record, some, write_lines

from vivavoce.data.trajectories import read_trajectories
from vivavoce.data.trajectory_facts import spoken_s


def read(path, rows, seconds=6.0):
    """Read rows whose recordings are as long as their texts deserve."""
    for row in rows:
        record(path, row, seconds, rate=1000)
    return read_trajectories(write_lines(path / "x.jsonl", rows))


def test_everything_is_counted(tmp_path) -> None:
    rows = [as_turns("a", some(ZH, 3)), as_lines("b", some(EN, 3)), as_numbered("c", some(ZH, 4))]
    rows[1]["target_text"] = "x" * 10
    found = read(tmp_path, [*rows[:2], rows[2] | {"audio_files": [f"c{i}.wav" for i in range(4)]}])
    (tmp_path / "c2.wav").write_bytes(b"no sound")
    (tmp_path / "c3.wav").unlink()
    facts = found.describe()
    assert (facts.dialogues, facts.faults, facts.turns) == (3, 0, {3: 2, 4: 1})
    assert facts.languages == {"zh": 2, "en": 1} and facts.tasks == {"trajectory": 3}
    assert facts.emotions == {
        1: {"happy": 1, "sad": 1, "none": 1},
        2: {"fear": 1, "surprise": 1, "none": 1},
        3: {"neutral": 2, "none": 1},
        4: {"none": 1},
    }
    assert facts.sequences == {"happy -> fear -> neutral": 1, "sad -> surprise -> neutral": 1}
    assert facts.target_characters.least == 10 and facts.target_characters.most == len(ZH[-1][2])
    assert facts.sound_marks == {"笑声": 2, "sigh": 1, "laughter": 1, "叹息声": 1}
    audio = facts.audio
    assert (audio.present, audio.missing, audio.unreadable) == (8, 1, 1)
    assert audio.sample_rates == {1000: 8}
    assert audio.hours == pytest.approx((8 * 6 + 16 * (0 + 1 + 2 + 0 + 1 + 2 + 0 + 1) / 1000) / 3600)
    assert audio.turn_s.least == 6.0
    text = str(facts)
    for words in ("3: 2, 4: 1", "8 present, 1 missing, 1 unreadable", "emotions 4  none: 1", "6 to 6.032"):
        assert words in text
    assert json.loads(json.dumps(facts.as_dict()))["audio"]["present"] == 8
    assert [d["id"] for d in found.rows(present_only=True)] == ["a", "b"]


def test_good_data_has_no_problems(tmp_path) -> None:
    found = read(tmp_path, [as_turns("a", some(ZH, 3)), as_lines("b", some(ZH, 4))])
    assert found.check() == [] and "problems    none" in str(found)


def _turn(row, i, **change):
    row["turns"][i] |= change
    return row


@pytest.mark.parametrize(
    ("kind", "change", "example"),
    [
        ("empty text", lambda r: _turn(r, 1, text=" "), "a turn 2"),
        ("empty reply", lambda r: _turn(r, 0, response_txt=None), "a turn 1"),
        ("no answer", lambda r: _turn(r, 2, response_txt=""), "a"),
        ("unknown emotion", lambda r: _turn(r, 0, emotion="Excited"), "a turn 1 'Excited'"),
        ("no emotion", lambda r: _turn(r, 0, emotion=None), "a turn 1"),
        ("turn numbers", lambda r: _turn(r, 2, turn_id=4), "a has turns 1, 2, 4"),
        ("no audio named", lambda r: _turn(r, 0, split_audio_file=""), "a turn 1"),
        ("missing audio", lambda r: _turn(r, 0, split_audio_file="no.wav"), "no.wav"),
        ("unreadable audio", lambda r: _turn(r, 0, split_audio_file="x.jsonl"), "cannot be read"),
        ("wrong encoding", lambda r: _turn(r, 0, text="å¼\u0080å¿\u0083" + "a" * 30), "a turn 1"),
        ("wrong encoding", lambda r: _turn(r, 1, response_txt="caf\ufffd"), "a turn 2 'caf"),
        (
            "audio too short for its text",
            lambda r: _turn(r, 0, text="好" * 70),
            "a turn 1 6.00 s, 7.0 s or more",
        ),
        (
            "audio too long for its text",
            lambda r: _turn(r, 0, text="[咳嗽声]嗯"),
            "turn 1 6.0 s, at most 4.0 s",
        ),
        ("no id", lambda r: r | {"dialogue_id": None}, "line 1"),
    ],
)
def test_each_problem_is_found(tmp_path, kind, change, example) -> None:
    row = as_turns("a", some(ZH, 3))
    record(tmp_path, row, 6.0, rate=1000)
    found = read_trajectories(write_lines(tmp_path / "x.jsonl", [change(row)]))
    (problem,) = found.check()
    assert (problem.kind, problem.count) == (kind, 1) and example in problem.examples[0]


def test_problems_over_rows_are_counted_with_examples(tmp_path) -> None:
    rows = [as_turns("same", some(ZH, 3)) for _ in range(4)]
    twins = [as_turns("twin", some(ZH, 3)) for _ in range(2)]
    found = read(tmp_path, [*rows, *twins, as_lines("long", ZH)], seconds=6.0)
    problems = {p.kind: p for p in found.check()}
    assert set(problems) == {"duplicate id", "longer than 30 s when joined"}
    assert problems["duplicate id"].count == 6
    assert problems["duplicate id"].examples == ("same, line 1", "same, line 2", "same, line 3")
    assert problems["longer than 30 s when joined"].examples == ("long 30.7 s",)
    assert str(problems["duplicate id"]).startswith("duplicate id: 6, such as same, line 1; ")


def test_bounds_of_speech() -> None:
    assert spoken_s("好" * 20 + "[笑声]") == (2.0, 23.0)
    assert spoken_s("a" * 60) == (2.0, 23.0)
    assert spoken_s("[laughter]") == (0.3, float("inf")) == spoken_s("")
    assert spoken_s("好")[0] == 0.3
