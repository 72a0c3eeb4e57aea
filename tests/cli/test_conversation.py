"""A conversation through a pipe: several turns, commands, and errors that do not end it."""

from __future__ import annotations

import json

from vivavoce.audio.files import audio_info
from vivavoce.base.errors import ModelError


def test_turns_build_on_each_other(run, stand_in, tone):
    outcome = run("chat", "--system", "Be kind.", stdin=f"one\n\n/audio {tone}\nmore\n/reset\ntwo\n".encode())
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.text.splitlines() == [
        "answer> you asked one",
        "heard> 0.7 seconds",
        "answer> you asked aloud",
        "answer> you asked more",
        "answer> you asked two",
    ]
    asked = [messages for messages, *_ in stand_in.asked]
    system = {"role": "system", "content": "Be kind."}
    first = [system, {"role": "user", "content": "one"}]
    assert asked[0] == first
    assert asked[1][:3] == [*first, {"role": "assistant", "content": "you asked one"}]
    part = {"type": "audio", "audio": str(tone)}
    assert asked[1][3]["content"] == [part]
    assert asked[2][3]["content"] == [part | {"transcript": "0.7 seconds"}]  # kept for later turns
    assert asked[3] == [system, {"role": "user", "content": "two"}]
    assert all(audio for _, audio, *_ in stand_in.asked)


def test_the_last_answer_is_saved(run, stand_in, tmp_path):
    outcome = run("chat", stdin=b"/save a.wav\none\n/save a.wav\n/save 'my answers/b.flac'\n/quit\nlost\n")
    assert outcome.code == 2  # the first /save had nothing to save
    assert outcome.err.splitlines() == [
        "error: there is no spoken answer to save yet.",
        "saved a.wav",
        "saved my answers/b.flac",
    ]
    assert audio_info(tmp_path / "a.wav").duration_s == 0.5
    assert (tmp_path / "my answers" / "b.flac").is_file()
    assert len(stand_in.asked) == 1


def test_errors_do_not_end_it_and_are_forgotten(run, stand_in, tmp_path):
    stand_in.error = ModelError("the conversation is too long.")
    outcome = run("chat", stdin=b"one\n/audio none.wav\n/audio\n/audoi x\n/save a.xyz\ntwo\n")
    assert outcome.code == 2
    assert [line.partition(".")[0] for line in outcome.err.splitlines()] == [
        "error: the conversation is too long",
        "error: none",
        "error: /audio needs the name of a file",
        "error: unknown command /audoi",
        "error: cannot write 'a",
    ]
    assert "Did you mean /audio?" in outcome.err
    assert outcome.text == "answer> you asked two\n"
    assert stand_in.asked[-1][0] == [{"role": "user", "content": "two"}]
    assert list(tmp_path.iterdir()) == []


def test_help_and_a_model_that_does_not_speak(run, stand_in):
    stand_in.speaks = False
    outcome = run("chat", stdin=b"/help\none\n")
    assert outcome.code == 0
    assert "/save FILE" in outcome.err
    assert stand_in.asked[0][1] is False


def test_json_is_one_object_per_line(run, stand_in):
    outcome = run("chat", "--json", stdin=b"one\ntwo\n")
    rows = [json.loads(line) for line in outcome.text.splitlines()]
    assert [row["text"] for row in rows] == ["you asked one", "you asked two"]
    assert outcome.err == ""


def test_ctrl_c_in_a_pipe_ends_it(run, stand_in):
    stand_in.error = KeyboardInterrupt()
    outcome = run("chat", stdin=b"one\ntwo\n")
    assert (outcome.code, outcome.err) == (130, "interrupted.\n")
    assert len(stand_in.asked) == 1


def test_a_file_for_the_answer_needs_a_question(run, stand_in):
    assert run("chat", "--out", "a.wav", stdin=b"one\n").is_one_error("/save")
    assert stand_in.loaded == []
