"""Bad input: one clear line, exit code 2, nothing written."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from tests.cli.running import listing

from vivavoce.audio.files import write_audio

MAKERS = {}


def maker(words):
    def keep(make):
        MAKERS[make.__name__] = (make, words)
        return make

    return keep


@maker("does not exist")
def missing(path):
    pass


@maker("is empty (0 bytes)")
def empty(path):
    path.write_bytes(b"")


@maker("cannot be read as a recording")
def corrupt(path):
    path.write_bytes(b"RIFF\x24\x00\x00\x00WAVEjunk" + bytes(range(200)))


@maker("is cut off")
def truncated(path):
    write_audio(path, np.zeros(24_000, np.float32), 24_000)
    path.write_bytes(path.read_bytes()[:20_000])


@maker("has no samples")
def without_samples(path):
    header = (
        b"RIFF"
        + struct.pack("<I", 36)
        + b"WAVEfmt "
        + struct.pack("<IHHIIHH", 16, 1, 1, 24_000, 48_000, 2, 16)
    )
    path.write_bytes(header + b"data" + struct.pack("<I", 0))


@maker("is too long")
def huge(path):
    samples = 2 * 3600 * 8000  # two hours at 8 bits, as a hole in the disk
    fields = struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8)
    header = b"RIFF" + struct.pack("<I", 36 + samples) + b"WAVEfmt " + fields
    with path.open("wb") as file:
        file.write(header + b"data" + struct.pack("<I", samples))
        file.truncate(44 + samples)


@maker("cannot be read as a recording")
def text(path):
    path.write_text("This is a note about audio, not audio.\n")


@maker("is a folder")
def folder(path):
    path.mkdir()


@pytest.fixture
def bad(request, tmp_path):
    make, words = MAKERS[request.param]
    make(tmp_path / "clip.wav")
    return "clip.wav", words, listing(tmp_path)


COMMANDS = [
    ("encode", "{file}", "--codec", "{codec}", "--layout", "interleaved", "--out", "out.txt"),
    ("transcribe", "{file}"),
    ("chat", "--audio", "{file}", "--out", "answer.wav"),
    ("chat", "--audio", "{file}", "--text", "what is this", "--json"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: " ".join(c[:2]) if c[0] != "chat" else c[-1])
@pytest.mark.parametrize("bad", sorted(MAKERS), indirect=True)
def test_bad_recordings(run, stand_in, codec_folder, tmp_path, command, bad):
    file, words, before = bad
    outcome = run(*(part.format(file=file, codec=codec_folder) for part in command))
    assert outcome.is_one_error(words, file)
    assert listing(tmp_path) == before
    assert stand_in.loaded == []  # headers are read before a model is loaded


@pytest.mark.parametrize("bad", ["missing", "empty", "corrupt", "text"], indirect=True)
def test_bad_files_have_no_facts(run, bad):
    assert run("info", bad[0]).is_one_error(bad[1])


TOKENS = "<|sound_start|><|sound_1|><|sound_2|><|sound_3|><|sound_4|><|sound_end|>"


@pytest.mark.parametrize(
    ("tokens", "options", "words"),
    [
        ("", (), ["empty"]),
        ("Read me first.", (), ["'Read me first.' at character 0", "text where audio belongs"]),
        (TOKENS.replace("<|sound_3|>", ""), (), ["ends inside coarse frame 1", "cut off"]),
        (TOKENS[:-20], (), ["at character"]),
        (TOKENS.replace("_3", "_1024"), (), ["at position 3", "no audio code"]),
        (TOKENS, ("--layout", "orpheus"), ["at character 0", "custom_token"]),
        ("128258 128259 128260", (), ["ends inside coarse frame 1"]),
        ("128258 5", (), ["token 5 at position 1"]),
        (TOKENS, ("--num-samples", "5000"), ["321 to 640", "5000"]),
        (TOKENS, ("--out", "out.xyz"), ["out.xyz", ".wav"]),
        (TOKENS + TOKENS, (), ["one audio span at a time"]),
    ],
)
def test_bad_tokens(run, codec_folder, tmp_path, tokens, options, words):
    (tmp_path / "tokens.txt").write_text(tokens)
    which = ("--codec", codec_folder, "--layout", "interleaved", "--out", "out.wav")
    assert run("decode", "tokens.txt", *which, *options).is_one_error(*words)
    assert listing(tmp_path) == ["tokens.txt"]


def test_missing_and_binary_token_files(run, codec_folder, tone, tmp_path):
    which = ("--codec", codec_folder, "--out", "out.wav")
    assert run("decode", "none.txt", *which).is_one_error("none.txt cannot be read")
    assert run("decode", tone, *which).is_one_error("holds no tokens")
    assert listing(tmp_path) == ["tone.wav"]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("nanoo", ["unknown model 'nanoo'", "'nano'"]),
        ("nobody/nothing", ["config.json", "nobody/nothing", "hf download", "HF_HUB_OFFLINE"]),
        ("empty", ["no config.json"]),
        ("tone.wav", ["is a file"]),
    ],
)
@pytest.mark.parametrize("verb", ["chat", "transcribe", "say"])
def test_unknown_models(run, tone, tmp_path, monkeypatch, model, words, verb):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "empty").mkdir()
    before = listing(tmp_path)
    commands = {
        "chat": ("chat", model, "--text", "hello", "--out", "out.wav"),
        "transcribe": ("transcribe", "tone.wav", "--model", model),
        "say": ("say", "hello", "--model", model, "--out", "out.wav"),
    }
    assert run(*commands[verb]).is_one_error(*words)
    assert listing(tmp_path) == before


def test_bad_outputs_are_refused_before_a_model_is_loaded(run, stand_in, tone, tmp_path):
    (tmp_path / "dir.wav").mkdir()
    for command in (("say", "hello"), ("chat", "--text", "hello")):
        assert run(*command, "--out", "a.xyz").is_one_error("a.xyz", ".wav")
        assert run(*command, "--out", "dir.wav").is_one_error("is a folder")
    assert run("say", "  ", "--out", "a.wav").is_one_error("nothing to say")
    assert run("say", "-", "--out", "a.wav", stdin=b"\n").is_one_error("nothing to say")
    assert run("chat", "--text", " ").is_one_error("--text is empty")
    assert run("demo", "--out", tone).is_one_error("is a file")
    assert stand_in.loaded == []
    assert listing(tmp_path) == ["dir.wav", "tone.wav"]
