"""Whole runs of tiny codecs: killed = never stopped, the loss falls, folders load, frozen parts stay."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.training.codec.codec_cases import (
    NANO,
    RATE,
    SNAC,
    assert_same_weights,
    codec_config,
    tones,
    weights,
)

from vivavoce.audio.files import read_audio
from vivavoce.base.errors import ConfigError, DataError
from vivavoce.codecs.loading import load_codec
from vivavoce.training.codec.run import train_codec
from vivavoce.training.metrics_log import read_metrics

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("codecs")
    tones(made / "tones")
    return made


@pytest.fixture(scope="module", autouse=True)
def one_thread():  # type: ignore[no-untyped-def]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole(folder: Path) -> dict[str, Path]:
    """Runs that nothing stops."""
    for kind in ("snac", "nano"):
        train_codec(codec_config(folder / "tones", kind), folder / kind)
    return {kind: folder / kind for kind in ("snac", "nano")}


def without_time(run: Path) -> list[dict[str, object]]:
    return [{k: v for k, v in line.items() if k != "seconds"} for line in read_metrics(run)]


@pytest.mark.parametrize(
    ("kind", "place"), [("snac", "update-3"), ("snac", "writing-4"), ("nano", "update-5")]
)
def test_killed_is_never_stopped(folder: Path, whole: dict[str, Path], kind: str, place: str) -> None:
    """kill -9 in an update or while a checkpoint is written; the same command ends with the same bits."""
    out = folder / f"{kind}-{place}"
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    command = [sys.executable, "-m", "tests.training.codec.codec_process", str(out), kind, place]
    process = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": paths}, capture_output=True)
    assert process.returncode == -9, process.stderr.decode()[-2000:]
    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONWARNINGS", "ignore")
        found = train_codec(codec_config(folder / "tones", kind), out, echo=told.append)
    assert any("going on after update" in line for line in told) and found["step"] == 6
    assert_same_weights(out, whole[kind])
    assert without_time(out) == without_time(whole[kind])


def test_codebooks_that_start_later(folder: Path) -> None:
    """A run that is stopped just before its codebooks start, or after, ends as one that was not; the mean of the
    weights begins anew there."""
    late = {"start_batches": 2, "decay": 0.5, "restart_every": 2, "from_step": 2}
    config = codec_config(folder / "tones", "snac", codebooks=late)
    config = replace(config, keep=replace(config.keep, save_every=1, keep_last=6, log_every=1))
    whole = folder / "late"
    train_codec(config, whole)
    lines = read_metrics(whole)
    assert "commitment" not in lines[1] and lines[1]["used/level_0"] == 0.0
    assert lines[2]["commitment"] > 0 and lines[2]["entropy_bits/level_2"] > 1.0
    for done in (2, 3):
        part = folder / f"late-{done}"
        shutil.copytree(whole / "checkpoints" / f"step-{done:06d}", part / "checkpoints" / f"step-{done:06d}")
        assert train_codec(config, part)["step"] == 6
        assert_same_weights(part, whole)


@pytest.mark.parametrize("kind", ["snac", "nano"])
def test_a_run_leaves_a_codec(whole: dict[str, Path], folder: Path, kind: str) -> None:
    """The folder loads, and codes by streams are those of the whole."""
    codec = load_codec(whole[kind] / "model")
    waveform = torch.from_numpy(read_audio(folder / "tones" / "tone-0.wav", RATE)[0])[None, None]
    codes = codec.encode(waveform)
    stream = codec.stream_encoder()
    parts = [stream.push(piece) for piece in waveform.split(700, dim=-1)] + [stream.flush()]
    for level in range(3):
        assert torch.equal(torch.cat([p.levels[level] for p in parts], 1), codes.levels[level])
    assert codec.decode(codes).shape == waveform.shape
    last = read_metrics(whole[kind])[-1]
    assert {
        "discriminator",
        "adversarial",
        "feature_matching",
        "balance/mel",
        "used/level_2",
        "learned/mel",
    } <= last.keys()
    assert sum(v for k, v in last.items() if k.startswith("balance/")) == pytest.approx(1.0)
    assert read_metrics(whole[kind])[0]["crop_s"] < last["crop_s"]


@pytest.mark.parametrize("kind", ["snac", "causal", "nano"])
def test_the_loss_falls(folder: Path, kind: str) -> None:
    changes = {"steps": 60, "discriminators": None, "crops": {"batch": 4, "seconds": [[0, 0.1]]}}
    config = codec_config(folder / "tones", "nano" if kind == "nano" else "snac", **changes)
    if kind == "causal":
        config = replace(config, model=replace(config.model, settings={**SNAC, "causal": True}))
    config = replace(config, keep=replace(config.keep, save_every=0, log_every=10))
    train_codec(config, folder / f"falls-{kind}")
    lines = read_metrics(folder / f"falls-{kind}")
    assert lines[-1]["mel"] < 0.75 * lines[0]["mel"]
    assert load_codec(folder / f"falls-{kind}" / "model").spec.causal == (kind == "causal")


@pytest.mark.parametrize("kind", ["snac", "nano"])
def test_decoder_alone(whole: dict[str, Path], folder: Path, kind: str) -> None:
    """Encoder and codebooks stay bit for bit, so codes stay; codes are stored, and the decoder gets nearer."""
    start = whole[kind] / "model"
    config = codec_config(folder / "tones", kind, steps=30, discriminators=None)
    model = replace(config.model, type=None, settings={}, start=str(start), train="decoder", average=None)
    config = replace(config, model=model, keep=replace(config.keep, save_every=0, log_every=5))
    out = folder / f"decoder-{kind}"
    train_codec(config, out)
    before, after = weights(whole[kind]), weights(out)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    decoders = ("decoder", "up.", "head.")
    assert changed and all(name.startswith(decoders) for name in changed)
    assert {name for name in before if name.startswith(decoders) and "noise" not in name} >= changed
    lines = read_metrics(out)
    assert lines[-1]["mel"] < lines[0]["mel"] and "commitment" not in lines[0]
    assert len(list((out / "data" / "codes").iterdir())) == 4
    waveform = torch.from_numpy(read_audio(folder / "tones" / "tone-1.wav", RATE)[0])[None, None]
    ours, theirs = load_codec(out / "model").encode(waveform), load_codec(start).encode(waveform)
    assert all(torch.equal(a, b) for a, b in zip(ours.levels, theirs.levels, strict=True))


def test_going_on_from_a_folder_of_ours(whole: dict[str, Path], folder: Path) -> None:
    config = codec_config(folder / "tones", "snac", steps=1)
    model = replace(config.model, type=None, settings={}, start=str(whole["snac"] / "model"), average=None)
    config = replace(
        config, model=model, optimizer=replace(config.optimizer, lr=1e-9), schedule={"type": "constant"}
    )
    train_codec(config, folder / "on")
    before, after = weights(whole["snac"]), weights(folder / "on")
    assert all(torch.allclose(before[n], after[n], atol=1e-6) for n in before), "codebooks do not start again"


def test_samples_and_pictures(folder: Path) -> None:
    config = codec_config(folder / "tones", "nano", steps=2, discriminators=None)
    train_codec(replace(config, keep=replace(config.keep, sample_every=1, sample_rows=1)), folder / "samples")
    for step in (1, 2):
        names = sorted(p.name for p in (folder / "samples" / "samples" / f"step-{step:06d}").iterdir())
        assert [n for n in names if n.endswith(".wav")] == ["00-tone-0-codec.wav", "00-tone-0-original.wav"]
    pytest.importorskip("matplotlib")
    assert "00-tone-0.png" in names


def test_another_recipe_in_the_same_folder(whole: dict[str, Path], folder: Path) -> None:
    with pytest.raises(ConfigError, match="another recipe: optimizer"):
        config = codec_config(folder / "tones", "snac", optimizer={"lr": 1e-5})
        train_codec(config, whole["snac"])


def test_rows_with_codes(whole: dict[str, Path], folder: Path) -> None:
    """The decoder learns from the codes that rows hold; those of other weights are refused."""
    import json

    from vivavoce.tokens.layouts import build_layout

    start = whole["snac"] / "model"
    codec = load_codec(start)
    waveform = torch.from_numpy(read_audio(folder / "tones" / "tone-2.wav", RATE)[0])[None, None]
    codes = codec.encode(waveform)
    ids = build_layout("orpheus", codec.spec).flatten(codes)
    tokens = {"codec": codec.spec.name, "codec_hash": codec.spec.weights, "layout": "orpheus", "ids": ids}
    tokens["num_samples"] = codes.num_samples[0]
    part = {"type": "audio", "audio": str(folder / "tones" / "tone-2.wav"), "tokens": tokens}
    row = {"id": "r", "messages": [{"role": "user", "content": [part]}]}
    (folder / "rows.jsonl").write_text(json.dumps(row) + "\n")
    config = codec_config(folder / "tones", "snac", steps=2, discriminators=None)
    model = replace(config.model, type=None, settings={}, start=str(start), train="decoder")
    data = replace(config.data, recordings=(), rows=(str(folder / "rows.jsonl"),))
    train_codec(replace(config, model=model, data=data), folder / "rows")
    assert not list((folder / "rows" / "data" / "codes").iterdir()), "no codes had to be made"
    tokens["codec_hash"] = "0" * 16
    (folder / "other.jsonl").write_text(json.dumps(row) + "\n")
    data = replace(data, rows=(str(folder / "other.jsonl"),))
    with pytest.raises(DataError, match="with weights 0000"):
        train_codec(replace(config, model=model, data=data), folder / "other")


def test_nano_shape_is_checked(folder: Path) -> None:
    config = codec_config(folder / "tones", "nano")
    with pytest.raises(ConfigError, match="hop_sample"):
        wrong = replace(config.model, settings={**NANO, "hop_sample": 3})
        train_codec(replace(config, model=wrong), folder / "wrong")
