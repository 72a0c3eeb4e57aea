"""A set as a whole: equal rows, overlaps, damaged files, and the same report however it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.data.check.bad_rows import SPEC, asked, clip, good_row, said, sound

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.data.check import sets
from vivavoce.data.check.config import CheckConfig
from vivavoce.data.check.kinds import KINDS
from vivavoce.data.check.report import Report
from vivavoce.data.check.sets import check_set
from vivavoce.data.conversation import read_conversation
from vivavoce.data.manifest import MANIFEST, write_set
from vivavoce.data.shards import write_shard

CONFIG = CheckConfig(codec=SPEC)


def rows(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Good rows that say different things."""
    made = []
    for i in range(first, first + count):
        row = good_row(f"r{i}", seed=i)
        asked(row)["transcript"] = f"What is the weather in Hanoi, {i}?"
        row["messages"][2]["content"][0]["text"] = said(row)["transcript"] = f"Rain is likely {i}."
        asked(row).pop("words")
        made.append(row)
    return made


def as_lines(path: Path, made: list[dict[str, Any]]) -> Path:
    """A file of JSON lines, recordings as files beside it."""
    with path.open("w") as file:
        for row in made:
            names = []
            for n, audio in enumerate(row["audios"]):
                name = f"{path.stem}-{row['id']}-{n}.wav"
                (path.parent / name).write_bytes(audio["bytes"])
                names.append(name)
            file.write(json.dumps({**row, "audios": names}) + "\n")
    return path


def as_set(folder: Path, made: list[dict[str, Any]], shard_rows: int = 3) -> Path:
    write_set(folder, [read_conversation(row) for row in made], name="toy", shard_rows=shard_rows)
    return folder


def kinds(report: Report) -> set[str]:
    return {kind for kind in report.tally.counts if KINDS[kind].severity != "info"}


def told(report: Report, kind: str) -> list[str]:
    return [str(f) for f in report.tally.examples[kind]]


def test_a_good_set_is_good_in_every_form(tmp_path) -> None:
    made = rows(5)
    forms = [made, as_lines(tmp_path / "a.jsonl", made), as_set(tmp_path / "set", made)]
    write_shard(tmp_path / "one.parquet", [read_conversation(row) for row in made])
    for form in [*forms, tmp_path / "one.parquet", [read_conversation(row) for row in made]]:
        report = check_set(form, CONFIG)
        assert report.ok and not kinds(report), str(report)
        assert (report.facts.rows, report.facts.clips, report.facts.learned_audio) == (5, 10, 5)
        assert report.facts.seconds == pytest.approx(15.0)


def test_processes_and_blocks_do_not_change_the_report(tmp_path, monkeypatch) -> None:
    made = rows(12)
    for i in (3, 7, 8, 11):
        made[i].pop("license")
    made[5]["messages"].pop()
    made[9] = {**made[2], "id": "again"}
    made[10]["messages"] = "none"
    path = as_lines(tmp_path / "a.jsonl", made[:10] + made[11:])
    with path.open("a") as file:
        file.write("{broken\n\n")
    config = CheckConfig(codec=SPEC, examples=2)
    alone = check_set(path, config, against=made[2:3], workers=0, root=tmp_path).as_dict()
    assert (
        alone["errors"] == 6
    )  # no answer, no JSON, and two rows that the other set has, by content and recording
    monkeypatch.setattr("vivavoce.data.check.reading.BLOCK_ROWS", 2)
    small = check_set(path, config, against=made[2:3], workers=0, root=tmp_path).as_dict()
    many = check_set(path, config, against=made[2:3], workers=2, root=tmp_path).as_dict()
    assert alone == small == many
    [licence] = [f for f in alone["findings"] if f["kind"] == "no_licence"]
    assert licence["count"] == 4
    assert [e["row"] for e in licence["examples"]] == ["r3", "r7"]


def test_rows_in_memory_are_checked_by_processes_too() -> None:
    made = rows(3)
    made[1].pop("license")
    assert check_set(made, CONFIG, workers=1).as_dict() == check_set(made, CONFIG, workers=0).as_dict()


def test_equal_rows_are_found_wherever_their_recordings_are(tmp_path) -> None:
    made = rows(3)
    names = []
    for n, audio in enumerate(made[0]["audios"]):
        (tmp_path / f"{n}.wav").write_bytes(audio["bytes"])
        names.append(f"{n}.wav")
    again = {**made[0], "id": "again", "audios": names, "source": "elsewhere", "weight": 3.0}
    report = check_set([*made, again], CONFIG, root=tmp_path)
    assert kinds(report) == {"duplicate_row", "duplicate_audio"}
    assert told(report, "duplicate_row") == ["row 'again': the same as row 'r0'; wanted each row once"]
    again["messages"] = json.loads(json.dumps(again["messages"]))
    again["messages"][0]["content"] = "Be very brief."
    assert "duplicate_row" not in kinds(check_set([*made, again], CONFIG, root=tmp_path))


def test_the_same_words_and_the_same_recording() -> None:
    made = rows(4)
    asked(made[1])["transcript"] = "what is  the WEATHER in Hanoi 0!"
    made[1]["messages"][2] = made[0]["messages"][2]
    made[1]["audios"][1] = clip(sound(1.0, seed=77))
    report = check_set(made, CONFIG)
    assert told(report, "duplicate_text") == ["row 'r1': the same as row 'r0'; wanted each text once"]
    made = rows(4)
    made[3]["audios"][0] = made[2]["audios"][0]
    report = check_set(made, CONFIG)
    assert kinds(report) == {"duplicate_audio", "conflicting_transcripts"}
    assert told(report, "conflicting_transcripts") == [
        "row 'r3': another transcript than row 'r2' has; wanted one transcript"
    ]
    asked(made[3])["start"], asked(made[3])["end"] = 0.0, 1.9  # another part of it is another recording
    assert kinds(check_set(made, CONFIG)) == set()


def test_a_row_that_plays_one_recording_twice_is_no_duplicate() -> None:
    made = rows(2)
    made[0]["messages"][1]["content"].append(asked(made[0]))
    assert kinds(check_set(made, CONFIG)) == set()


def test_the_same_id_twice() -> None:
    made = rows(3)
    made[2]["id"] = "r0"
    report = check_set(made, CONFIG)
    assert kinds(report) == {"duplicate_id"}
    assert told(report, "duplicate_id") == ["row 'r0': the same id as row number 0; wanted an id of its own"]


def test_overlap_with_another_set(tmp_path) -> None:
    train, test = rows(5), rows(4, first=5)
    assert check_set(train, CONFIG, against=test).ok
    test[1] = {**train[3], "id": "t"}
    test[2]["audios"][0] = train[1]["audios"][0]
    for other in (test, as_set(tmp_path / "test", test), as_lines(tmp_path / "test.jsonl", test)):
        report = check_set(train, CONFIG, against=other)
        assert kinds(report) == {"overlap_row", "overlap_audio", "overlap_text"}
        assert not report.ok
        assert told(report, "overlap_row") == [
            "row 'r3': the same as row 't' of the other set; wanted no row of the other set"
        ]
        assert [f.row for f in report.tally.examples["overlap_audio"]] == ["r1", "r3"]


def test_duplicates_of_the_other_set_are_its_own_affair() -> None:
    test = rows(1, first=5)
    assert check_set(rows(3), CONFIG, against=[*test, *test]).ok


def test_codecs_do_not_mix() -> None:
    made = rows(4)
    said(made[3])["tokens"]["codec_hash"] = "eeee"
    report = check_set(made)  # no codec is given, so the set must agree with itself
    assert "codecs_mixed" in kinds(report)
    assert told(report, "codecs_mixed") == [
        "in answers toy abcd: 3, toy eeee: 1; wanted one codec with one hash"
    ]
    asked(made[0])["tokens"] = {
        "codec": "ear",
        "codec_hash": "1",
        "layout": "orpheus",
        "num_samples": 9,
        "ids": [1],
    }
    said(made[3])["tokens"]["codec_hash"] = "abcd"
    assert "codecs_mixed" not in kinds(check_set(made))  # ears and voice may have a codec each


def test_one_voice_only(monkeypatch) -> None:
    monkeypatch.setattr(sets, "ONE_SPEAKER_CLIPS", 4)
    made = rows(2)
    assert "one_speaker" not in check_set(made, CONFIG).tally.counts
    for row in made:
        asked(row)["speaker"] = said(row)["speaker"] = "s1"
    assert told(check_set(made, CONFIG), "one_speaker") == ["4 clips of 's1'; wanted several"]


def test_an_empty_set() -> None:
    assert kinds(check_set([])) == {"empty_set"}


def test_shards_that_are_not_those_of_the_manifest(tmp_path) -> None:
    folder = as_set(tmp_path / "set", rows(5))
    assert check_set(folder, CONFIG).ok
    other = [read_conversation(row) for row in rows(3, first=20)]
    write_shard(folder / "data-00000.parquet", other)
    report = check_set(folder, CONFIG)
    assert kinds(report) == {"manifest_differs"}
    write_shard(folder / "data-00000.parquet", other[:2])
    report = check_set(folder, CONFIG)
    assert told(report, "unreadable_file") == [
        "data-00000.parquet: it has 2 rows, the manifest says 3; wanted a whole file"
    ]


def test_damaged_and_missing_shards_are_findings_and_the_others_are_checked(tmp_path) -> None:
    folder = as_set(tmp_path / "set", rows(9))
    names = sorted(p.name for p in folder.glob("*.parquet"))
    (folder / names[0]).unlink()
    data = bytearray((folder / names[1]).read_bytes())
    data[4:2000] = bytes(1996)  # the footer is whole, the rows are not
    (folder / names[1]).write_bytes(data)
    report = check_set(folder, CONFIG)
    assert kinds(report) == {"unreadable_file"}
    assert report.tally.counts["unreadable_file"] == 2
    assert report.facts.rows == 3


def test_a_broken_row_of_a_shard_does_not_hide_the_next(tmp_path) -> None:
    made = [read_conversation(row) for row in rows(4)]
    made[1].messages[1].role = "human"
    write_shard(tmp_path / "a.parquet", made)
    report = check_set(tmp_path / "a.parquet", CONFIG)
    assert report.facts.rows == 4
    assert report.tally.counts["invalid_row"] == 1
    assert "'human'" in told(report, "invalid_row")[0]


def test_blank_lines_are_no_rows(tmp_path) -> None:
    path = as_lines(tmp_path / "a.jsonl", rows(3))
    plain = check_set(path, CONFIG).as_dict()
    path.write_text("\n\n" + path.read_text().replace("\n", "\n \n"))
    assert check_set(path, CONFIG).as_dict() == plain


def test_what_is_no_set_is_said(tmp_path) -> None:
    (tmp_path / "list.json").write_text('[{"messages": []}]')
    (tmp_path / "notes.txt").write_text("hello")
    for name, words in (
        ("absent", "does not exist"),
        ("list.json", "one JSON list"),
        ("notes.txt", "no shards"),
    ):
        with pytest.raises(DataError, match=words):
            check_set(tmp_path / name)
    (tmp_path / MANIFEST).write_text("{}")
    with pytest.raises(DataError, match="not a finished set"):
        check_set(tmp_path)


def test_settings_are_checked_all_at_once() -> None:
    with pytest.raises(
        ConfigError, match=r"recordings is 'some'.*sample_rate is 0.*max_tokens is 0.*examples is -1"
    ):
        CheckConfig(recordings="some", sample_rate=0, max_tokens=0, examples=-1)


def test_the_report_for_people_and_programs(tmp_path) -> None:
    made = rows(3)
    made[1]["messages"].pop()
    report = check_set(as_lines(tmp_path / "a.jsonl", made), CheckConfig(codec=SPEC, examples=1))
    text = str(report)
    assert "error  nothing_to_learn  1 in 1 row: no position of the row has a loss" in text
    assert "    row 'r1': no assistant turn; wanted an assistant turn with text or audio and a loss" in text
    assert text.endswith("not ready: 1 error, 1 warning")
    record = json.loads(json.dumps(report.as_dict()))
    assert (record["ok"], record["errors"], record["warnings"], record["infos"]) == (False, 1, 1, 0)
    assert [f["kind"] for f in record["findings"]] == ["nothing_to_learn", "unused_recording"]
    assert record["findings"][0]["examples"][0]["row"] == "r1"
    assert str(check_set(rows(1), CONFIG)).endswith("no errors: nothing found")


def test_progress_is_told(tmp_path) -> None:
    told: list[tuple[int, int]] = []
    check_set(
        rows(3), CONFIG, against=rows(2, first=9), report=lambda done, total: told.append((done, total))
    )
    assert told == [(3, 5), (5, 5)]
