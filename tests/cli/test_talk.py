"""demo, chat, transcribe and say, with a stand-in for the model."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from vivavoce.audio.files import audio_info, read_audio, write_audio
from vivavoce.base.errors import ModelError


@pytest.fixture
def bundle(monkeypatch, tmp_path, tone):
    """A package that has a recorded question."""
    folder = tmp_path / "package" / "nano"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    shutil.copy(tone, folder / "question.wav")
    monkeypatch.setattr("vivavoce.models.loading.BUNDLE", folder.parent)
    return folder


def test_demo_answers_aloud_and_says_what_to_try(run, stand_in, bundle, tmp_path):
    outcome = run("demo", "--out", "heard/here")
    assert (outcome.code, outcome.err) == (0, "")
    folder = tmp_path / "heard" / "here"
    assert (folder / "question.wav").read_bytes() == (bundle / "question.wav").read_bytes()
    assert audio_info(folder / "answer.wav").duration_s == 0.5
    for words in ("0.7 seconds", "you asked aloud", "heard/here/answer.wav", "first token", "first audio"):
        assert words in outcome.text
    assert "real-time factor" in outcome.text
    assert len([line for line in outcome.text.splitlines() if line.startswith("  vivavoce ")]) == 3
    assert stand_in.loaded == [("nano", None, "cpu")]


def test_demo_for_programs(run, stand_in, bundle, tmp_path):
    row = run("demo", "--json").json
    assert row["transcript"] == "0.7 seconds"
    assert row["text"] == "you asked aloud"
    assert row["audio"] == "viva-out/answer.wav"
    assert (tmp_path / row["question"]).is_file()
    assert {"ttft_s", "first_audio_s", "total_s", "audio_s", "rtf"} <= set(row["timings"])
    assert row["words"] == [["you", 0.0, 0.25]]


def test_demo_without_its_question_says_so(run, stand_in, bundle):
    (bundle / "question.wav").unlink()
    assert run("demo").is_one_error("question.wav", "install")


def test_chat_by_text_and_voice(run, stand_in, tone, tmp_path):
    text = run("chat", "--text", "hello")
    assert (text.code, text.text, text.err) == (0, "answer> you asked hello\n", "")
    [(messages, audio, _, options)] = stand_in.asked
    assert messages == [{"role": "user", "content": "hello"}]
    assert audio is False
    assert set(options.values()) == {None}
    spoken = run(
        "chat", "some/model", "-a", tone, "-a", tone, "-t", "both?", "-s", "Be kind.", "-o", "out/a.wav"
    )
    assert spoken.text == ("heard> 0.7 seconds0.7 seconds\nanswer> you asked aloud\nout/a.wav  0.50 s\n")
    messages, audio, *_ = stand_in.asked[1]
    assert messages[0] == {"role": "system", "content": "Be kind."}
    assert [part["type"] for part in messages[1]["content"]] == ["text", "audio", "audio"]
    assert audio is True
    assert np.abs(read_audio(tmp_path / "out" / "a.wav")[0]).max() == 0.25
    assert stand_in.loaded[1] == ("some/model", None, None)


def test_chat_passes_its_options_on(run, stand_in):
    given = {
        "temperature": 0.7, "top_p": 0.9, "top_k": 5, "min_p": 0.1,
        "repetition_penalty": 1.2, "seed": 3, "max_new_tokens": 64,
    }  # fmt: skip
    flags = [
        word
        for name, value in given.items()
        for word in ("--" + name.replace("max_new_tokens", "max_tokens").replace("_", "-"), value)
    ]
    row = run("chat", "-t", "hi", *flags, "--quantize", "nf4", "--device", "cuda:0", "--json").json
    assert stand_in.asked[0][3] == given
    assert stand_in.loaded == [("nano", "nf4", "cuda:0")]
    assert row["text"] == "you asked hi"
    assert row["transcript"] is row["audio"] is row["seconds"] is None


def test_chat_errors_while_answering_write_nothing(run, stand_in, tmp_path):
    stand_in.error = ModelError("this model answers in text only.")
    assert run("chat", "-t", "hi", "-o", "a.wav", "--json").is_one_error("text only")
    assert list(tmp_path.iterdir()) == []
    stand_in.error = KeyboardInterrupt()
    outcome = run("chat", "-t", "hi", "-o", "a.wav", "--json")
    assert (outcome.code, outcome.out, outcome.err) == (130, b"", "interrupted.\n")
    assert list(tmp_path.iterdir()) == []


def test_transcribe_prints_rows_and_goes_on_after_bad_files(run, stand_in, tone, tmp_path):
    silence = write_audio(tmp_path / "silence.wav", np.zeros(8000, np.float32), 8000)
    (tmp_path / "note.wav").write_text("hello")
    outcome = run("transcribe", tone, "note.wav", silence)
    assert outcome.code == 2
    assert outcome.text.splitlines() == [f"{tone}\t0.70\ta tone", f"{silence}\t1.00\t(not understood)"]
    assert outcome.err.startswith("error: note.wav")
    rows = run("transcribe", silence, "note.wav", tone, "--json")
    assert rows.code == 2
    assert [set(row) for row in rows.json] == [{"file", "text", "seconds", "understood"}] * 2
    assert rows.json[0] == {"file": str(silence), "text": "", "seconds": 1.0, "understood": False}
    alone = run("transcribe", silence, "--json")
    assert (alone.code, alone.err) == (0, "")
    assert run("transcribe", "note.wav", "--json").json == []


def test_transcribe_reads_a_stream(run, stand_in, tone):
    assert run("transcribe", "-", stdin=tone.read_bytes()).text == "-\t0.70\ta tone\n"


def test_transcribe_with_a_deaf_model_says_so_once(run, stand_in, tone, monkeypatch):
    def deaf(source):
        raise ModelError("this model does not hear.")

    stand_in.hears = False
    monkeypatch.setattr(stand_in, "transcribe", deaf)
    assert run("transcribe", tone, tone).is_one_error("does not hear")


def test_say_from_the_command_line_and_a_pipe(run, stand_in, tmp_path):
    outcome = run("say", "hello there", "--out", "new/a.flac", "--voice", "low", "--seed", 4)
    assert (outcome.code, outcome.text, outcome.err) == (0, "new/a.flac  1.00 s\n", "made the folder new\n")
    assert audio_info(tmp_path / "new" / "a.flac").num_samples == 24_000
    row = run("say", "-", "--out", "b.wav", "--json", stdin=b"from a pipe\n").json
    assert (row["text"], row["seconds"], row["audio"]) == ("from a pipe", 1.0, "b.wav")
    assert [(m[0]["content"].strip(), voice, o["seed"]) for m, _, voice, o in stand_in.asked] == [
        ("hello there", "low", 4), ("from a pipe", None, None),
    ]  # fmt: skip
    wav = run("say", "hello", "--out", "-")
    assert audio_info(wav.out).duration_s == 1.0
    assert run("say", "hello", "--out", "-", "--json").is_one_error("not both")
    assert run("say", "hello", "--out", "c.wav", "--voice", "high").is_one_error("'high'", "low")
