"""Dialogues of every form give the same conversations, and broken rows only cost themselves."""

# ruff: noqa: RUF001  (Chinese punctuation is meant)

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tests.data.dialogue_cases import (
    EN,
    FORMS,
    ORDER,
    ZH,
    as_lines,
    as_numbered,
    as_turns,
    some,
    write_lines,
    write_list,
)

from vivavoce.base.errors import DataError
from vivavoce.data.conversation import read_conversation
from vivavoce.data.trajectories import read_trajectories
from vivavoce.data.trajectory_forms import published_row
from vivavoce.tokens.messages import loss_weights
from vivavoce.tokens.trajectory import parse_trajectory

WRITERS = {
    "lines": write_lines,
    "list": write_list,
    "annotation": lambda path, rows: write_list(path, {"annotation": rows}),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("turns", [1, 2, 3, 4, 5, 7])
def test_all_forms_in_all_files_give_the_same_dialogues(tmp_path, writer: str, turns: int) -> None:
    read = {}
    for form, make in FORMS.items():
        rows = [make("zh_1", some(ZH, turns)), make("en_1", some(EN, turns))]
        found = read_trajectories(WRITERS[writer](tmp_path / f"{form}.txt", rows))
        assert not found.faults and [d.id for d in found] == ["zh_1", "en_1"]
        read[form] = found
        for dialogue, lines in zip(found, (some(ZH, turns), some(EN, turns)), strict=True):
            assert dialogue.texts == tuple(text for text, _, _ in lines)
            assert [*dialogue.replies, dialogue.target] == [reply for _, _, reply in lines]
            assert dialogue.emotions == (() if form == "numbered" else tuple(e for _, e, _ in lines))
            assert dialogue.order == ("" if form == "turns" else ORDER)
            assert dialogue.task == "trajectory"
        assert [d.language for d in found] == ["zh", "en"]
    first = [list(found.rows()) for found in (read["turns"], read["lines"])]
    assert [row["messages"] for row in first[0]] == [row["messages"] for row in first[1]]


def test_a_dialogue_is_one_conversation_with_a_clip_per_user_turn(tmp_path) -> None:
    file = write_lines(tmp_path / "task1_3.jsonl", [as_turns("zh_7", some(ZH, 3))])
    (row,) = read_trajectories(file, tmp_path / "wavs").rows()
    assert read_conversation(row).row() == row
    assert {k: row[k] for k in ("id", "task", "source")} == {
        "id": "zh_7",
        "task": "trajectory",
        "source": "task1_3.jsonl",
    }
    roles = [message["role"] for message in row["messages"]]
    assert roles == ["user", "assistant", "user", "assistant", "user", "assistant"]
    for i, message in enumerate(row["messages"][::2], 1):
        (part,) = message["content"]
        text, emotion, _ = some(ZH, 3)[i - 1]
        assert part["type"] == "audio" and part["transcript"] == text and part["language"] == "zh"
        assert part["audio"] == str(tmp_path / "wavs" / "task1_3" / f"zh_7_{i}.wav")
        assert part["labels"]["emotion"] == emotion
    assert row["messages"][0]["content"][0]["labels"]["sounds"] == ["笑声"]
    assert row["messages"][1]["content"] == ZH[0][2]
    target = row["messages"][-1]["content"]
    assert target == f"{ZH[-1][2]}\n情绪序列: happy -> fear -> neutral"
    assert parse_trajectory(target) == (ZH[-1][2], ("happy", "fear", "neutral"))
    assert [w for w, _ in loss_weights(row["messages"], "assistant")] == [0, 0, 0, 0, 0, 1]


def test_what_may_be_switched(tmp_path) -> None:
    rows = [as_lines("a", some(ZH, 2)), as_turns("b", some(EN, 2))]
    rows[1]["turns"][0]["response_audio"] = "out/b_1.wav"
    found = read_trajectories(write_list(tmp_path / "x.json", rows))
    plain = list(found.rows(suffix=False))
    assert [r["messages"][-1]["content"] for r in plain] == [ZH[-1][2], EN[-1][2]]
    asked = [r["messages"][-2]["content"][-1] for r in found.rows(typed_question=True)]
    assert asked[0] == {"type": "text", "text": ORDER} and asked[1]["text"].startswith("How did I feel")
    typed = [r["messages"][0]["content"][1]["text"] for r in found.rows(typed_transcripts=True)]
    assert typed == ["阳台上的番茄今天红了三个！", "My kite got stuck on the church roof, of all places."]
    spoken = [r["messages"][1]["content"] for r in found.rows(spoken_replies=True)]
    assert spoken[0] == ZH[0][2]
    assert spoken[1][1]["audio"] == str(tmp_path / "out/b_1.wav") and spoken[1][0]["text"] == EN[0][2]
    assert list(found.rows())[1]["messages"][-1]["content"].endswith("\nEmotion sequence: sad -> neutral")


@pytest.mark.parametrize(
    ("name", "task", "wanted"),
    [
        ("task2_3.jsonl", None, "reasoning"),
        ("dev.jsonl", None, "empathy"),
        ("task1_3.jsonl", "task3_empathy", "empathy"),
        ("task1_3.jsonl", "small talk", "small talk"),
    ],
)
def test_the_task_is_read_from_the_row_the_file_or_the_recordings(tmp_path, name, task, wanted) -> None:
    row = as_turns("a", some(EN, 2), folder="task3_2") | ({"task": task} if task else {})
    (dialogue,) = found = read_trajectories(write_lines(tmp_path / name, [row]))
    assert dialogue.task == wanted
    (conversation,) = found.rows()
    assert conversation["messages"][-1]["content"] == EN[-1][2], "only trajectories end with their labels"


def test_published_rows_survive_reading_and_writing(tmp_path) -> None:
    rows = [as_lines("zh_1", some(ZH, 3)), as_lines("zh_2", some(ZH, 5))]
    found = read_trajectories(write_list(tmp_path / "a.json", rows))
    assert [published_row(d) for d in found] == rows
    turns = read_trajectories(write_lines(tmp_path / "task1.jsonl", [as_turns("zh_3", some(ZH, 4))]))
    again = read_trajectories(write_list(tmp_path / "b.json", [published_row(d) for d in turns]))
    for one, other in zip(turns, again, strict=True):
        assert (one.turns, one.id, one.task) == (other.turns, other.id, other.task)


def test_labels_and_keys_are_read_in_the_ways_they_occur(tmp_path) -> None:
    row = as_turns("a", some(ZH, 3))
    for turn, label in zip(row["turns"], ("开心", " FEAR ", "平静"), strict=True):
        turn["emotion"] = label
        turn["response_text"] = turn.pop("response_txt")
    row["turns"].reverse()
    (dialogue,) = read_trajectories(write_lines(tmp_path / "x.jsonl", [row]))
    assert dialogue.emotions == ("happy", "fear", "neutral")
    assert dialogue.texts == tuple(text for text, _, _ in some(ZH, 3)) and dialogue.target == ZH[-1][2]


def test_an_unknown_label_is_no_label(tmp_path) -> None:
    row = as_turns("a", some(EN, 2))
    row["turns"][0]["emotion"] = "wistful"
    (conversation,) = read_trajectories(write_lines(tmp_path / "x.jsonl", [row])).rows()
    assert conversation["messages"][0]["content"][0]["labels"] == {"sounds": ["sigh"]}
    assert conversation["messages"][-1]["content"] == EN[-1][2]


def test_turns_without_recording_answer_or_text(tmp_path) -> None:
    row = as_turns("a", some(EN, 4))
    del row["turns"][0]["split_audio_file"]
    row["turns"][1]["text"] = ""
    row["turns"][1]["response_txt"] = None
    row["turns"][3]["response_txt"] = ""
    (conversation,) = read_trajectories(write_lines(tmp_path / "x.jsonl", [row])).rows()
    assert read_conversation(conversation).row() == conversation
    messages = conversation["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "user", "user", "assistant", "user"]
    assert messages[0]["content"] == EN[0][0] and "transcript" not in messages[2]["content"][0]


@pytest.mark.parametrize("name", ['他说"好"。', 'a "b" c\nd', "“引号”"])
def test_quotes_and_lines_inside_numbered_turns(tmp_path, name: str) -> None:
    lines = [(name, "happy", name), (name, "sad", name), (name, "neutral", "x")]
    (dialogue,) = read_trajectories(write_list(tmp_path / "x.json", [as_numbered("a", lines)]))
    assert dialogue.texts == (name,) * 3 and dialogue.replies == (name,) * 2 and dialogue.order == ORDER


def _without(row: dict, key: str) -> dict:
    return {k: v for k, v in row.items() if k != key}


GOOD = as_lines("good", some(ZH, 3))
BROKEN = {
    "broken JSON": ['{"dialogue_id": "x", ', '{"dialogue_id": "x"}}', "nothing"],
    "no dialogue": [
        5,
        [],
        {},
        {"dialogue_id": "x", "path": "a.wav", "text": "t"},
        {"dialogue_id": "x", "turns": []},
        {"dialogue_id": "x", "turns": ["a"]},
        {"dialogue_id": "x", "turns": [{"text": 5}]},
        GOOD | {"audio_files": "a.wav"},
        GOOD | {"emotion_sequence": [1, 2, 3]},
    ],
    "turn counts differ": [
        GOOD | {"audio_files": GOOD["audio_files"][:2]},
        GOOD | {"emotion_sequence": ["happy", "sad"]},
        GOOD | {"input_text": GOOD["input_text"].split("\n", 1)[1]},
        GOOD | {"input_text": "a\nb"},
        GOOD | {"input_text": "a\nb\nc\nd\ne", "audio_files": ["1", "2"], "emotion_sequence": None},
        _without(GOOD, "audio_files"),
        GOOD | {"input_text": '第1轮 用户说: "a"\n第1轮 模型回: "b"'},
    ],
    "turn numbers": [
        {"turns": [{"turn_id": 1, "text": "a"}, {"turn_id": 1, "text": "b"}]},
        {"turns": [{"turn_id": "one", "text": "a"}]},
        GOOD | {"input_text": '第2轮 用户说: "a"'},
        GOOD | {"input_text": '第1轮 用户说: "a"\n第2轮 用户说: "b"\n第3轮 用户说: "c"'},
    ],
}
ROWS = [(kind, row) for kind, rows in BROKEN.items() for row in rows]


@pytest.mark.parametrize(("kind", "row"), ROWS)
def test_a_broken_row_is_kept_apart_with_its_reason(tmp_path, kind: str, row) -> None:
    file = write_lines(tmp_path / "x.jsonl", [as_turns("one", some(ZH, 3)), row, "", as_turns("two", ZH)])
    found = read_trajectories(file)
    assert [d.id for d in found] == ["one", "two"] and found[1].place == "line 4"
    (fault,) = found.faults
    assert (fault.place, fault.kind) == ("line 2", kind) and len(fault.reason) > 10
    assert fault.id == (row.get("dialogue_id", "") if isinstance(row, dict) else "")
    assert [p.kind for p in found.check() if p.kind == kind] == [kind]


def test_a_list_with_a_broken_row_goes_on_after_it(tmp_path) -> None:
    rows = [as_lines(name, some(ZH, 3)) for name in ("a", "b", "c")]
    text = json.dumps(rows, ensure_ascii=False, indent=1)
    file = tmp_path / "x.json"
    file.write_text(text.replace('"dialogue_id": "b",', '"dialogue_id": "b"'), encoding="utf-8")
    found = read_trajectories(file)
    assert [d.id for d in found] == ["a", "c"]
    assert found.faults[0].kind == "broken JSON" and found.faults[0].place.startswith("item 2 (line ")
    file.write_text(text[: text.index('"b"')], encoding="utf-8")
    found = read_trajectories(file)
    assert [d.id for d in found] == ["a"] and "nothing after it" in found.faults[0].reason
    file.write_text(text.rstrip("] \n"), encoding="utf-8")
    assert [d.id for d in read_trajectories(file)] == ["a", "b"]
    file.write_text(f"{text} and more", encoding="utf-8")
    found = read_trajectories(file)
    assert len(found) == 3 and "after the end" in found.faults[0].reason
    file.write_text(text.replace("},", "}", 1) if "},\n {" in text else text, encoding="utf-8")
    found = read_trajectories(file)
    assert [d.id for d in found] == ["b", "c"] and "no comma" in found.faults[0].reason


def test_an_encoding_is_never_guessed(tmp_path) -> None:
    good, bad = as_turns("one", some(EN, 2)), as_turns("two", some(ZH, 2))
    lines = [json.dumps(row, ensure_ascii=False) for row in (good, bad)]
    file = tmp_path / "x.jsonl"
    file.write_bytes(b"\n".join([lines[0].encode(), lines[1].encode("gb18030")]))
    found = read_trajectories(file)
    assert [d.id for d in found] == ["one"]
    assert [(f.place, f.kind) for f in found.faults] == [("line 2", "wrong encoding")]
    assert "encoding='gb18030'" in found.faults[0].reason
    assert [d.id for d in read_trajectories(file, encoding="gb18030")] == ["one", "two"]
    file.write_bytes(b"\xef\xbb\xbf" + lines[1].encode())
    assert read_trajectories(file)[0].texts == tuple(text for text, _, _ in some(ZH, 2))
    file.write_bytes(lines[1].encode("utf-16"))
    assert read_trajectories(file, encoding="utf-16")[0].id == "two"
    with pytest.raises(DataError, match="say encoding='utf-16'"):
        read_trajectories(file)
    with pytest.raises(DataError, match="no encoding that Python knows"):
        read_trajectories(file, encoding="utf-88")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("[]", "no row of .* can be used: it has no rows"),
        ("{}", "can be used: line 1: no dialogue"),
        ("a,b\nc,d", "line 1: broken JSON.*line 2: broken JSON"),
        ("[" * 100_000, "broken JSON"),
    ],
)
def test_a_file_without_a_usable_row_is_refused(tmp_path, text: str, words: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=words):
        read_trajectories(file)
    with pytest.raises(DataError, match="cannot be read"):
        read_trajectories(tmp_path / "none.json")


def test_a_set_is_a_sequence_and_shows_itself_on_load(tmp_path) -> None:
    said: list[str] = []
    file = write_list(tmp_path / "x.json", [as_lines("a", some(ZH, 3)), as_lines("b", some(ZH, 4))])
    found = read_trajectories(file, echo=said.append)
    assert len(found) == 2 and found[-1].id == "b" and [d.id for d in found[:1]] == ["a"]
    assert said == [str(found)]
    assert "dialogues   2, and 0 rows left out" in said[0] and "missing audio: 7" in said[0]
    nameless = replace(found[0], id="")
    assert nameless.name == nameless.place == "item 1 (line 2)"
