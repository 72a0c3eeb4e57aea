"""A conversation through a pipe: several turns, commands, and errors that do not end it."""

from __future__ import annotations

import json
import os
import pty
import signal
import sys
import threading
import time
import types

import numpy as np

from vivavoce.audio.files import audio_info, read_audio
from vivavoce.base.errors import ModelError
from vivavoce.cli.conversation import latency_line
from vivavoce.inference.reply import Delta


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
    [part] = asked[1][3]["content"]
    assert part["sampling_rate"] == 24_000 and np.array_equal(part["audio"], read_audio(tone)[0])
    assert len(stand_in.sessions) == 1
    assert asked[3] == [system, {"role": "user", "content": "two"}]
    assert all(audio for _, audio, *_ in stand_in.asked)


def test_the_last_answer_is_saved(run, stand_in, tmp_path):
    outcome = run("chat", stdin=b"/save a.wav\none\n/save a.wav\n/save 'my answers/b.flac'\n/quit\nlost\n")
    assert outcome.code == 2  # the first /save had nothing to save
    assert outcome.err.splitlines() == [
        "error: there is no spoken answer to save yet.",
        "saved a.wav",
        "made the folder my answers",
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
    assert run("chat", "--out", "a.wav", stdin=b"one\n").is_one_error("--out-dir")
    assert stand_in.loaded == []


def test_speech_is_switched_and_a_voice_chosen(run, stand_in):
    outcome = run(
        "chat", stdin=b"/say off\none\n/say on\n/voice low\ntwo\n/voice high\n/say maybe\n/voice\n/mic\n"
    )
    assert [(audio, voice) for _, audio, voice, _ in stand_in.asked] == [(False, None), (True, "low")]
    assert outcome.err.splitlines() == [
        "answers are written.",
        "answers are spoken.",
        "voice: low; there are: low.",
        "error: unknown voice 'high'. this model has: low.",
        "error: /say maybe: wanted on or off.",
        "voice: low; there are: low.",
        "error: /mic needs a terminal, where Enter ends what you say; use /audio FILE.",
    ]
    assert run("chat", "--voice", "high", stdin=b"one\n").is_one_error("unknown voice")
    stand_in.speaks = False
    assert "text only" in run("chat", stdin=b"/say on\n").err


def test_every_spoken_answer_is_kept(run, stand_in, tmp_path):
    outcome = run("chat", "--out-dir", "said", stdin=b"one\n/say off\ntwo\n/say on\nthree\n")
    assert "saved said/answer-001.wav" in outcome.err
    assert sorted(p.name for p in (tmp_path / "said").iterdir()) == ["answer-001.wav", "answer-002.wav"]
    assert audio_info(tmp_path / "said" / "answer-002.wav").duration_s == 0.5
    rows = run("chat", "--out-dir", "more", "--json", stdin=b"one\n").text.splitlines()
    assert json.loads(rows[0])["audio"] == "more/answer-001.wav"
    assert run("chat", "--out-dir", "x", "--text", "hi").is_one_error("--out FILE")


def test_latency_is_told_in_a_line():
    timings = {
        "transcript_s": 0.12,
        "ttft_s": 0.2,
        "first_audio_s": 0.345,
        "total_s": 1.0,
        "audio_s": 2.0,
        "rtf": 0.5,
    }
    assert latency_line(timings) == (
        "[heard 120 · first word 200 · first sound 345 · all 1000 ms · 2.0 s of speech, RTF 0.50]"
    )
    assert latency_line({"ttft_s": 0.2, "total_s": 0.3}) == "[first word 200 · all 300 ms]"


class FakeSound(types.ModuleType):
    """sounddevice with a microphone that hears a tone and a loudspeaker that takes what it is given."""

    class PortAudioError(Exception):
        pass

    def __init__(self):
        super().__init__("sounddevice")
        self.played: list[np.ndarray] = []

    def query_devices(self, kind):
        return {"default_samplerate": 16_000.0}

    def InputStream(self, *, callback, samplerate, **_):  # noqa: N802  (its name there)
        return _Stream(lambda: callback(np.full((1600, 1), 0.1, np.float32), 1600, None, None))

    def OutputStream(self, *, callback, samplerate, **_):  # noqa: N802
        def give():
            out = np.empty((2400, 1), np.float32)
            callback(out, 2400, None, None)
            self.played.append(out[:, 0].copy())

        return _Stream(give)


class _Stream:
    """Calls back every 10 ms until it is closed."""

    def __init__(self, call):
        self._call, self._ended = call, threading.Event()

    def start(self):
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while not self._ended.wait(0.01):
            self._call()

    def abort(self):
        self._ended.set()

    close = abort

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._ended.set()


class Typist:
    """Types into the terminal that is stdin."""

    def __init__(self, monkeypatch):
        self._keys, end = pty.openpty()
        monkeypatch.setattr(sys, "stdin", os.fdopen(end, "r"))

    def type(self, text, after_s=0.0):
        def later():
            time.sleep(after_s)
            os.write(self._keys, text.encode())

        threading.Thread(target=later, daemon=True).start()


def on_a_terminal(monkeypatch, stand_in, sound=None, **more):
    from vivavoce.cli.conversation import Conversation

    typist = Typist(monkeypatch)
    monkeypatch.setitem(sys.modules, "sounddevice", sound)
    return typist, Conversation(stand_in, "stand-in", {}, **more)


def test_the_microphone_is_heard_until_enter(stand_in, monkeypatch, capsys):
    sound = FakeSound()
    typist, talk = on_a_terminal(monkeypatch, stand_in, sound)
    typist.type("/mic\n")
    typist.type("\n", after_s=0.6)
    typist.type("/quit\n", after_s=1.8)
    assert talk.interactive()
    [(messages, audio, _, _)] = stand_in.asked
    [part] = messages[-1]["content"]
    assert part["sampling_rate"] == 16_000 and len(part["audio"]) >= 1600 * 5 and audio
    assert "listening; Enter ends it" in capsys.readouterr().err
    heard = np.concatenate(sound.played)
    assert np.count_nonzero(heard) == 12_000  # the whole answer went to the loudspeaker


def test_without_sounddevice_the_microphone_says_what_to_install(stand_in, monkeypatch, capsys):
    typist, talk = on_a_terminal(monkeypatch, stand_in)  # None in sys.modules: the import fails
    typist.type("/mic\none\n/quit\n")
    assert talk.interactive()
    out, err = capsys.readouterr()
    assert "pip install 'vivavoce[mic]'" in err and "No loudspeaker" in err
    assert "answer> you asked one" in out


def test_ctrl_c_breaks_an_answer_off_and_the_history_keeps_what_was_given(stand_in, monkeypatch, capsys):
    def slow(content, audio):
        yield Delta(text="first words")
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        yield Delta(text=" and more")
        raise AssertionError("it went on")

    monkeypatch.setattr(stand_in, "_answer", slow)
    typist, talk = on_a_terminal(monkeypatch, stand_in)
    before = signal.getsignal(signal.SIGINT)
    typist.type("one\n/quit\n")
    assert talk.interactive()
    [session] = stand_in.sessions
    assert session.interrupted == [None]
    assert session.messages[-1] == {"role": "assistant", "content": "first words and more"}
    assert "stopped." in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_while_it_plays_keeps_what_was_played(stand_in, monkeypatch):
    sound = FakeSound()
    typist, talk = on_a_terminal(monkeypatch, stand_in, sound)

    def long(content, audio):
        yield Delta(text="a long answer", audio=np.full(240_000, 0.5, np.float32), sample_rate=24_000)

    monkeypatch.setattr(stand_in, "_answer", long)
    typist.type("one\n/quit\n")
    threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGINT)).start()
    assert talk.interactive()
    [played_s] = stand_in.sessions[0].interrupted
    assert 0 < played_s < 9
