"""Recordings to tokens and back through files, folders and streams."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pytest
import torch

from vivavoce.audio.files import audio_info, read_audio
from vivavoce.codecs.loading import load_codec
from vivavoce.codecs.nano import NanoCodec, NanoCodecConfig


@pytest.fixture(scope="module")
def nano_folder(tmp_path_factory) -> str:
    """A narrow nano codec with random weights: 7 codes a frame."""
    torch.manual_seed(0)
    config = NanoCodecConfig(
        encoder_dim=16, encoder_blocks=1, decoder_dim=16, decoder_blocks=(1, 1), num_mels=20, codebook_size=64
    )
    folder = tmp_path_factory.mktemp("codecs") / "nano"
    NanoCodec(config).save(folder)
    return str(folder)


@pytest.mark.parametrize("form", ["text", "ids", "npy"])
@pytest.mark.parametrize(("kind", "layout"), [("encodec", "interleaved"), ("nano", "orpheus")])
def test_there_and_back_is_what_the_codec_does(run, tone, codec_folder, nano_folder, kind, layout, form):
    folder = codec_folder if kind == "encodec" else nano_folder
    which = ("--codec", folder, "--layout", layout)
    encoded = run("encode", tone, *which, "--format", form, "--json", "--out", "tokens/")
    [row] = encoded.json
    assert (encoded.code, encoded.err, row["num_samples"]) == (0, "", 16_800)
    decoded = run("decode", row["out"], *which, "--num-samples", 16_800, "--out", "back.wav")
    assert (decoded.code, decoded.err) == (0, "")
    codec = load_codec(folder)
    waveform = torch.from_numpy(read_audio(tone)[0])[None, None]
    wanted = codec.decode(codec.encode(waveform))[0, 0].numpy()
    back, rate = read_audio("back.wav")
    assert rate == 24_000
    np.testing.assert_allclose(back, np.clip(wanted, -1, 1), atol=1 / 32768)
    whole = run("decode", row["out"], *which, "--out", "whole.flac", "--json").json
    assert whole[0]["num_samples"] == row["frames"] * codec.spec.frame_samples
    assert audio_info("whole.flac").num_samples == whole[0]["num_samples"]


def test_streams_carry_audio_and_tokens(run, tone, codec_folder):
    which = ("--codec", codec_folder, "--layout", "interleaved")
    from_file = run("encode", tone, *which)
    from_stream = run("encode", "-", *which, stdin=tone.read_bytes())
    assert from_file.out == from_stream.out
    assert from_file.text.startswith("<|sound_start|><|sound_")
    wav = run("decode", *which, "--out", "-", stdin=from_file.out)
    assert (wav.code, wav.err) == (0, "")
    assert audio_info(wav.out).num_samples == 53 * 320
    array = np.load(io.BytesIO(run("encode", tone, *which, "--format", "npy").out))
    assert (array.dtype, array.shape) == (np.int32, (53, 2))
    rows = run("encode", tone, *which, "--json").json
    assert rows[0]["text"] + "\n" == from_file.text
    assert rows[0]["tokens"] == 2 + 2 * 53


def test_bare_and_base_shape_the_ids(run, tone, codec_folder):
    which = ("--codec", codec_folder, "--layout", "interleaved", "--format", "ids")
    usual = run("encode", tone, *which).text.split()
    plain = run("encode", tone, *which, "--base", 0, "--bare").text.split()
    assert usual[0] == "128256"
    assert usual[-1] == "128257"
    assert [int(n) - 128_258 for n in usual[1:-1]] == [int(n) for n in plain]
    moved = run("encode", tone, *which, "--base", 5000).text.split()
    assert [int(a) - int(b) for a, b in zip(usual, moved, strict=True)] == [128_258 - 5000] * len(usual)
    assert run("encode", tone, *which, "--base", 0).is_one_error("--bare")
    assert run("encode", tone, *which, "--base", "-3").is_one_error("--base is -3")


def test_one_line_per_clip_and_bad_ones_are_named(run, tone, codec_folder, tmp_path):
    (tmp_path / "empty.wav").write_bytes(b"")
    files = [tone, "missing.wav", "empty.wav", tone]
    outcome = run("encode", *files, "--codec", codec_folder, "--layout", "interleaved")
    assert outcome.code == 2
    lines = outcome.text.splitlines()
    assert len(lines) == 2
    assert lines[0] == lines[1]
    errors = outcome.err.splitlines()
    assert [e.split()[:2] for e in errors] == [["error:", "missing.wav"], ["error:", "empty.wav"]]


def test_results_that_would_overwrite_each_other_are_refused_before_work(run, tone, codec_folder, tmp_path):
    (tmp_path / "other").mkdir()
    shutil.copy(tone, tmp_path / "other" / "tone.wav")
    which = ("--codec", codec_folder, "--layout", "interleaved")
    outcome = run("encode", tone, "other/tone.wav", *which, "--out", "tokens")
    assert outcome.is_one_error("would both be written to tokens/tone.txt")
    assert not (tmp_path / "tokens").exists()
    assert run("encode", tone, "other/tone.wav", *which, "--out", tone).is_one_error("need a folder")
    assert run("encode", tone, tone, *which, "--format", "npy").is_one_error("--out")
    assert run("decode", "a.txt", "b.txt", *which, "--out", "-").is_one_error("--out")
    assert run("decode", "a.txt", "b.txt", *which, "--out", "d/", "--num-samples", 9).is_one_error("of 2")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--layout", "orpheos"), ["unknown layout 'orpheos'", "'orpheus'"]),
        (("--style", "loud"), ["loud", "sound_padded"]),
        (("--codec", "no_such_codec"), ["no_such_codec", "nano"]),
        (("--codec", "."), ["config.json"]),
    ],
)
def test_unknown_layouts_styles_and_codecs(run, tone, codec_folder, options, words):
    assert run("encode", tone, "--codec", codec_folder, *options).is_one_error(*words)
