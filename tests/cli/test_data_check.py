"""``vivavoce data check``: reports, rows and pages, and their exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.cli.running import Outcome
from tests.data.check.bad_rows import asked, clip, good_row, sound
from tests.inference import tiny
from tests.training.row_cases import row as row_of_text

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.cli.data_check import check
from vivavoce.cli.row_view import preview_lines
from vivavoce.data.check.reading import plan
from vivavoce.data.conversation import read_conversation
from vivavoce.data.manifest import write_set
from vivavoce.training.preview import preview_row


@pytest.fixture
def run(capsysbinary, monkeypatch, tmp_path) -> Callable[..., Outcome]:
    """Run the command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(check)

    def call(*arguments: Any) -> Outcome:
        capsysbinary.readouterr()
        code = app(args=[str(a) for a in arguments], standalone_mode=False)
        out, err = capsysbinary.readouterr()
        return Outcome(code, out, err.decode())

    return call


def rows(count: int = 3) -> list[dict[str, Any]]:
    made = []
    for i in range(count):
        row = good_row(f"r{i}", seed=i)
        asked(row)["transcript"] = f"What is the weather in Hanoi, {i}?"
        asked(row).pop("words")
        row["messages"][2] = {"role": "assistant", "content": f"Rain is likely {i}."}
        row["audios"].pop()
        made.append(row)
    return made


def lines(path: Path, made: list[dict[str, Any]]) -> Path:
    """JSON lines with recordings as files."""
    text = ""
    for row in made:
        names = []
        for n, audio in enumerate(row["audios"]):
            (path.parent / f"{row['id']}-{n}.wav").write_bytes(audio["bytes"])
            names.append(f"{row['id']}-{n}.wav")
        text += json.dumps({**row, "audios": names}) + "\n"
    path.write_text(text)
    return path


def test_a_good_set(run, tmp_path) -> None:
    folder = tmp_path / "set"
    write_set(folder, [read_conversation(row) for row in rows()], name="toy")
    done = run(folder)
    assert (done.code, done.text.splitlines()[-1]) == (0, "no errors: nothing found")
    record = run(folder, "--json")
    assert (record.code, record.json["ok"], record.json["facts"]["rows"]) == (0, True, 3)


def test_warnings_do_not_fail_and_errors_do(run, tmp_path) -> None:
    made = rows()
    made[1].pop("license")
    done = run(lines(tmp_path / "a.jsonl", made))
    assert (done.code, done.text.splitlines()[-1]) == (0, "no errors: 1 warning")
    made[2]["messages"].pop()
    done = run(lines(tmp_path / "a.jsonl", made), "--examples", "1")
    assert done.code == 2
    assert "error nothing_to_learn  1 in 1 row: no position of the row has a loss" in done.text
    assert (
        "  row 'r2': no assistant turn; wanted an assistant turn with text or audio and a loss" in done.text
    )
    assert done.text.splitlines()[-1] == "not ready: 1 error, 1 warning"
    assert run("a.jsonl", "--json").json["errors"] == 1


def test_options_reach_the_check(run, tmp_path) -> None:
    lines(tmp_path / "a.jsonl", rows())

    def kinds(*options: str) -> set[str]:
        return {f["kind"] for f in run("a.jsonl", "--json", *options).json["findings"]}

    assert kinds() == set()
    assert kinds("--sample-rate", "24000") == {"low_rate"}
    assert kinds("--against", "a.jsonl") == {"overlap_row", "overlap_audio", "overlap_text"}
    made = rows()
    asked(made[0])["transcript"] = " "
    made[1]["audios"][0] = clip(0 * sound())
    made[2]["messages"][1]["content"][1]["tokens"] = {
        "codec": "nano", "codec_hash": "f", "layout": "orpheus", "num_samples": 1, "ids": [1],
    }  # fmt: skip
    lines(tmp_path / "a.jsonl", made)
    assert kinds() == {"silent", "bad_tokens"}
    assert kinds("--recordings", "none", "--codec", "nano") == {"codec_differs"}
    assert kinds("--task", "distill") == {"silent", "bad_tokens", "no_teacher_text"}


def test_a_models_doctor(run, tmp_path) -> None:
    lines(tmp_path / "a.jsonl", rows(1))
    done = run("a.jsonl", "--model", "nano", "--max-tokens", "10", "--json")
    found = {f["kind"]: f["examples"][0]["seen"] for f in done.json["findings"]}
    assert set(found) == {"cannot_render"}  # its template has no place for a system message
    made = rows(1)
    made[0]["messages"] = [{"role": "user", "content": [asked(made[0])]}, made[0]["messages"][2]]
    lines(tmp_path / "a.jsonl", made)
    done = run("a.jsonl", "--model", "nano", "--max-tokens", "10", "--json")
    found = {f["kind"]: f["examples"][0]["seen"] for f in done.json["findings"]}
    assert set(found) == {"too_long", "unknown_words"}
    assert "28 of them audio" in found["too_long"]


def test_a_tokenizer_alone(run, tmp_path) -> None:
    tiny.byte_tokenizer().save_pretrained(tmp_path / "tokenizer")
    lines(tmp_path / "a.jsonl", rows(1))
    found = run("a.jsonl", "--tokenizer", "tokenizer", "--max-tokens", "20", "--json").json["findings"]
    assert [f["kind"] for f in found] == ["too_long"]


def test_rows_are_shown_by_place_and_by_id(run, tmp_path) -> None:
    made = rows()
    made[2]["id"] = "0000001"
    lines(tmp_path / "a.jsonl", made)
    done = run("a.jsonl", "--show", "1", "--show", "r0", "-s", "0000001")
    assert (done.code, done.err) == (0, "")
    assert [line.split()[1] for line in done.text.splitlines() if line.startswith("row ")] == [
        "r1",
        "r0",
        "0000001",
    ]
    assert (
        '  user      Listen. \n            clip 0  2.00 s at 16000 Hz\n            "What is the weather'
        in done.text
    )
    with pytest.raises(DataError, match="no row 'nobody'; it has 3 rows, numbered from 0"):
        run("a.jsonl", "--show", "nobody")


def test_a_number_that_is_also_an_id_is_said(run, tmp_path) -> None:
    made = rows()
    for i, row in enumerate(made):
        row["id"] = str(2 - i)
    lines(tmp_path / "a.jsonl", made)
    assert "row 0 from 0 on has the id '2'" in run("a.jsonl", "--show", "0").err
    assert not run("a.jsonl", "--show", "1").err


def test_what_is_learned_is_marked_in_a_pipe(run, tmp_path) -> None:
    made = rows(1)
    made[0]["messages"] = [
        {"role": "user", "content": [asked(made[0])]},
        {"role": "assistant", "content": "four"},
    ]
    asked_part = made[0]["messages"][0]["content"][0]
    asked_part["transcript"] = "what is two plus two"
    lines(tmp_path / "a.jsonl", made)
    done = run("a.jsonl", "--show", "0", "--model", "nano")
    assert (
        "<|user|>[clip 0: 28 embeddings]<|heard|>« what| is| two| plus| two| <|assistant|>| four| <|end|>»"
        in done.text
    )
    assert "38 positions, 28 of them audio, 8 learned, objective sft" in done.text
    assert done.code == 0
    [record] = run("a.jsonl", "--show", "0", "--model", "nano", "--json").json
    assert (record["positions"], record["learned"]) == (38, 8)
    assert sum(w > 0 for w in record["loss_weights"]) == 8


def test_control_characters_of_rows_are_shown_and_not_obeyed(run, tmp_path) -> None:
    made = rows(1)
    made[0]["id"] = "a\x1b[31mb"
    made[0]["messages"][1]["content"][0]["text"] = "[bold]\x1b]0;title\x07"
    asked(made[0])["transcript"] = "what\x1b[2J"
    (tmp_path / "a.jsonl").write_text(json.dumps({**made[0], "audios": ["absent\x1b.wav"]}) + "\n")
    for arguments in (("a.jsonl",), ("a.jsonl", "--show", "0"), ("a.jsonl", "--show", "0", "-m", "nano")):
        done = run(*arguments)
        assert done.code == 2
        assert "\x1b" not in done.text and "\x07" not in done.text
    assert "[bold]\\x1b]0;title\\x07" in run("a.jsonl", "--show", "0").text


@pytest.mark.parametrize("colours", [False, True])
def test_control_characters_among_tokens_are_shown_too(colours: bool) -> None:
    processor = tiny.tokens_to_text().processor
    shown = preview_lines(preview_row(row_of_text("a\x1b[31mb\x07"), 0, processor), colours)
    text = "\n".join(line.text.plain for line in shown)
    assert "\\x1b|[|3|1|m|b|\\x07" in text
    assert "\x1b" not in text and "\x07" not in text


def test_pages(run, tmp_path) -> None:
    made = rows(6)
    made[5].pop("license")
    made[4]["messages"][2]["content"] = ""
    path = lines(tmp_path / "a.jsonl", made)
    with path.open("a") as file:
        file.write("{broken\n")
    done = run("a.jsonl", "--html", "pages/check.html")
    assert (done.code, done.err) == (2, "page: pages/check.html\n")
    html = (tmp_path / "pages" / "check.html").read_text()
    assert "not ready: 2 errors, 1 warning" in html
    assert [n for n in range(7) if f'<section id="row-{n}">' in html] == [0, 1, 2, 4, 5]
    assert html.count("data:audio/flac") == 5
    done = run("a.jsonl", "--show", "1", "--html", "one.html")
    assert done.code == 0
    assert (tmp_path / "one.html").read_text().count("<section") == 1
    with pytest.raises(ConfigError, match="cannot write"):
        run("a.jsonl", "--show", "1", "--html", tmp_path)


def test_bad_input_is_an_error_before_any_work(run, tmp_path) -> None:
    lines(tmp_path / "a.jsonl", rows(1))
    for words, arguments in (
        ("absent does not exist", ("absent",)),
        ("recordings is 'some'", ("a.jsonl", "--recordings", "some")),
        ("--max-tokens counts tokens", ("a.jsonl", "--max-tokens", "9")),
        ("unknown model", ("a.jsonl", "--model", "nanoo")),
        ("has no tokenizer", ("a.jsonl", "--tokenizer", "absent")),
        ("no codec 'absent'", ("a.jsonl", "--codec", "absent")),
    ):
        with pytest.raises(Exception, match=words):
            run(*arguments)


def test_on_a_terminal_in_colours(run, tmp_path, monkeypatch) -> None:
    """Learned text is green, audio is blue, and lines are folded between words."""
    made = rows(1)
    made[0]["messages"] = [
        {"role": "user", "content": [asked(made[0])]},
        {"role": "assistant", "content": "four"},
    ]
    lines(tmp_path / "a.jsonl", made)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as screen:
        monkeypatch.setattr(sys, "stdout", screen)
        run("a.jsonl", "--show", "0", "--model", "nano")
        monkeypatch.undo()
    shown = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while part := os.read(master, 4096):
            shown += part
    os.close(master)
    shown = shown.decode().replace("\r", "")
    assert "\x1b[34m[clip 0: 28 embeddings]\x1b[0m" in shown
    assert "\x1b[32m <|end|>\x1b[0m" in shown
    assert "«" not in shown
    assert max(len(line) for line in re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()) <= 60


def test_plans_say_how_many_rows_there_are(tmp_path) -> None:
    assert plan(lines(tmp_path / "a.jsonl", rows(3))).rows == 3
