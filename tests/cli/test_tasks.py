"""chat --task: prompts that a model was trained on, and emotional trajectories, with a tiny model that hears."""

from __future__ import annotations

import numpy as np
import pytest
from tests.inference import tiny

from vivavoce.audio.files import write_audio
from vivavoce.cli.recordings import spread_audio
from vivavoce.inference.trajectory import TrajectoryReply


@pytest.fixture
def hearing(monkeypatch):
    """Every model that is loaded is a tiny one with two prompts; ``asked`` keeps what it was asked."""
    import vivavoce.inference.assistant as room

    assistant = tiny.embeddings_to_text()
    assistant.model.config.audio_in.prompts.update(asr="Write it down.", question="Tell {} now.")
    asked = []
    stream = assistant.stream

    def remember(messages, **options):
        asked.append(messages)
        return stream(
            messages, **{k: v for k, v in options.items() if k != "max_new_tokens"}, max_new_tokens=3
        )

    monkeypatch.setattr(assistant, "stream", remember)
    monkeypatch.setattr(room, "load", lambda *a, **k: assistant)
    return asked


@pytest.fixture
def clips(tmp_path):
    """Three recordings in the current folder."""
    names = ["a.wav", "b.wav", "c.wav"]
    for i, name in enumerate(names):
        write_audio(tmp_path / name, np.full(4000 + 800 * i, 0.1, np.float32), 16_000)
    (tmp_path / "list.txt").write_text("# a dialogue\na.wav\nc.wav\n")
    return names


def texts(messages):
    return [
        p["text"] for m in messages if isinstance(m["content"], list) for p in m["content"] if "text" in p
    ]


def test_a_prompt_of_the_model(run, hearing, clips):
    assert run("chat", "--audio", "a.wav", "--task", "asr").code == 0
    assert texts(hearing[-1]) == ["Write it down."]
    assert run("chat", "--audio", "a.wav", "--task", "question", "--text", "who").code == 0
    assert texts(hearing[-1]) == ["Tell who now."]


def test_tasks_that_do_not_fit(run, hearing, clips):
    assert run("chat", "--audio", "a.wav", "--task", "asl").is_one_error(
        "'asl'", "Did you mean 'asr'", "trajectory"
    )
    assert run("chat", "--audio", "a.wav", "--task", "question").is_one_error("--text")
    assert run("chat", "--audio", "a.wav", "--task", "asr", "--text", "x").is_one_error("no place")
    assert run("chat", "--task", "asr").is_one_error("--audio")
    assert run("chat", "--audio", "a.wav", "--joined").is_one_error("--task trajectory")
    assert run("chat", "--audio", "a.wav", "--task", "trajectory", "--out", "x.wav").is_one_error("--out")
    assert run("chat", "--audio", "a.wav,z.wav", "--task", "trajectory").is_one_error("z.wav")


def test_trajectory_hears_every_turn(run, hearing, clips):
    row = run("chat", "--audio", *clips, "--task", "trajectory", "--json").json
    assert row["files"] == clips and row["num_turns"] == 3
    assert set(row) >= {"description", "emotions", "text"}
    heard = [p["audio"] for m in hearing[-1] for p in m["content"] if p["type"] == "audio"]
    assert heard == clips


def test_trajectory_in_one_clip(run, hearing, clips):
    assert run("chat", "--audio", "@list.txt", "--task", "trajectory", "--joined").code == 0
    [clip] = [p for m in hearing[-1] for p in m["content"] if p["type"] == "audio"]
    assert len(clip["audio"]) == 4000 + 5600 + 2 * 1600


def test_trajectory_as_text(run, hearing, clips, monkeypatch):
    reply = TrajectoryReply("Joy fades.", ("happy", "sad"), "Joy fades.\nEmotion sequence: happy -> sad", 2)
    monkeypatch.setattr("vivavoce.inference.trajectory.ask_trajectory", lambda *a, **k: reply)
    assert (
        run("chat", "-a", "a.wav", "b.wav", "--task", "trajectory").text
        == "Joy fades.\nemotions  happy -> sad\n"
    )


def test_dialogues_line_by_line(run, hearing, clips):
    outcome = run(
        "chat", "--task", "trajectory", "--json", stdin=b"a.wav,b.wav\n\n@list.txt\nnothing.wav\n/quit\nx\n"
    )
    assert outcome.code == 2 and "nothing.wav" in outcome.err
    assert len(hearing) == 2


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["chat", "--audio", "a.wav", "b.flac"], ["chat", "--audio", "a.wav", "--audio", "b.flac"]),
        (["chat", "--audio", "a.wav", "nano"], ["chat", "--audio", "a.wav", "nano"]),
        (
            ["chat", "-a", "x", "@l.txt", "--json", "b.wav"],
            ["chat", "-a", "x", "--audio", "@l.txt", "--json", "b.wav"],
        ),
        (["chat", "m.wav", "--audio", "a.wav"], ["chat", "m.wav", "--audio", "a.wav"]),
    ],
)
def test_several_files_after_one_option(given, wanted):
    assert spread_audio(given) == wanted
