"""SNAC against reference numbers: keys, lengths, codes, decoded audio, streams and noise, for every stored model."""

from __future__ import annotations

import functools
import json
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile
import torch
from tests.codecs.any_codec import (
    assert_close,
    assert_same_codes,
    frames_of,
    num_frames,
    stream_codes,
    stream_pieces,
    stream_waveform,
)
from tests.goldens.discovery import golden_folders, label
from torch import Tensor
from torch.nn import functional as F

from vivavoce.codecs.contract import Codes
from vivavoce.codecs.loading import load_codec
from vivavoce.codecs.snac import GivenNoise, SNACCodec

DECODE_TOLERANCE, STREAM_TOLERANCE = 1e-5, 1e-6  # absolute, as the README of the data states
MODEL_FILES = {"config.json", "model.safetensors", "pytorch_model.bin", "keys.json", "lengths.json"}
CLIP_FILES = re.compile(
    r"\.wav|\.json|_decode_zero_noise\.npy|_stream_\w+\.npy|_orpheus_window\.npy|_noise_feed\.npz"
)
CUTS = {"hop 1": None, "one piece": [], "uneven": [0.02, 0.3, 0.31, 0.77]}


class Clip(NamedTuple):
    """A golden clip: where it lies, its name and its fields."""

    model: Path
    name: str
    fields: dict[str, Any]

    def array(self, ending: str) -> Tensor:
        """A stored signal as float32 [1, 1, S]."""
        return torch.from_numpy(np.load(self.model / f"{self.name}{ending}")).view(1, 1, -1)


def clips_of(model: Path) -> list[Clip]:
    tables = {
        p.stem: json.loads(p.read_text()) for p in sorted(model.glob("*.json")) if p.name not in MODEL_FILES
    }
    return [Clip(model, name, table) for name, table in tables.items() if "codes" in table]


MODELS = [
    inside
    for folder in golden_folders("snac")
    for inside in [folder, *sorted(p for p in folder.iterdir() if p.is_dir())]
    if (inside / "config.json").is_file()
]
CLIPS = [clip for model in MODELS for clip in clips_of(model)]
every_model = pytest.mark.parametrize("model", MODELS, ids=[f"{label(m.parent)}-{m.name}" for m in MODELS])
every_clip = pytest.mark.parametrize(
    "clip", CLIPS, ids=[f"{label(c.model.parent)}-{c.model.name}-{c.name}" for c in CLIPS]
)


def having(pattern: str) -> pytest.MarkDecorator:
    """Parametrise over the stored files of this kind, as (clip, what follows the clip's name)."""
    found = [
        (c, p.name.removeprefix(c.name)) for c in CLIPS for p in sorted(c.model.glob(f"{c.name}{pattern}"))
    ]
    return pytest.mark.parametrize(
        ("clip", "ending"),
        found,
        ids=[f"{label(c.model.parent)}-{c.model.name}-{c.name}{e}" for c, e in found],
    )


@functools.cache
def codec_of(model: Path) -> SNACCodec:
    codec = load_codec(model)
    assert isinstance(codec, SNACCodec)
    return codec


@functools.cache
def waveform_of(path: Path, sample_rate: int) -> Tensor:
    waveform, rate = soundfile.read(path, dtype="float32")
    assert rate == sample_rate
    return torch.from_numpy(waveform).view(1, 1, -1)


def waveform(clip: Clip) -> Tensor:
    return waveform_of(clip.model / clip.fields["wav"], codec_of(clip.model).spec.sample_rate)


def stored_codes(clip: Clip, whole_frames: bool = True) -> Codes:
    """Codes of the clip; decoded either in full frames or cropped to the clip."""
    codes = Codes([torch.tensor(level)[None] for level in clip.fields["codes"]], [clip.fields["samples"]])
    spec = codec_of(clip.model).spec
    return (
        frames_of(Codes(codes.levels, [10**9]), spec, 0, num_frames(codes, spec)) if whole_frames else codes
    )


def hop_1(clip: Clip) -> list[float]:
    frames = num_frames(stored_codes(clip), codec_of(clip.model).spec)
    return [k / frames for k in range(1, frames)]


@every_model
def test_every_file_is_read_by_a_check(model: Path) -> None:
    names = {p.name for p in model.iterdir() if not p.name.startswith(".")} - MODEL_FILES
    for clip in clips_of(model):
        names -= {
            n for n in names if n.startswith(clip.name) and CLIP_FILES.fullmatch(n.removeprefix(clip.name))
        }
    assert not names, f"no check reads {', '.join(sorted(names))} of {model}; extend {Path(__file__).name}"


@every_model
def test_keys_and_shapes_are_the_published_ones(model: Path) -> None:
    found = {k: list(v.shape) for k, v in SNACCodec.from_folder(model, weight_norm=True).state_dict().items()}
    assert found == json.loads((model / "keys.json").read_text())


@every_model
def test_each_form_of_the_weights_loads_and_is_the_same(model: Path, tmp_path: Path) -> None:
    spec, weights = codec_of(model).spec, codec_of(model).state_dict()
    forms = [p for p in model.iterdir() if p.name in {"model.safetensors", "pytorch_model.bin"}]
    for path in forms:
        alone = tmp_path / path.stem
        alone.mkdir()
        for name in ("config.json", path.name):
            shutil.copyfile(model / name, alone / name)
        again = SNACCodec.from_folder(alone)
        assert again.spec.weights == spec.weights
        assert all(torch.equal(v, weights[k]) for k, v in again.state_dict().items())
    assert forms


@every_model
def test_lengths(model: Path) -> None:
    table, codec = json.loads((model / "lengths.json").read_text()), codec_of(model)
    spec = codec.spec
    assert (table["hop"], table["frame"]) == (codec.config.hop_samples, spec.frame_samples)
    assert table["pad_to"] == spec.frame_samples * spec.pad_to_frames
    for row in table["rows"]:
        frames = spec.num_frames(row["samples"])
        assert frames * spec.frame_samples == row["padded"]
        assert [frames * n for n in spec.codes_per_level] == row["codes"]
    for row in table["rows"][:3] + table["rows"][-1:]:
        codes = codec.encode(torch.zeros(1, 1, row["samples"]))
        assert [level.shape[1] for level in codes.levels] == row["codes"]
        assert codec.decode(codes).shape[-1] == row["samples"]
        assert codec.decode(Codes(codes.levels, [row["padded"]])).shape[-1] == row["decoded"]


@every_clip
def test_codes(clip: Clip) -> None:
    assert waveform(clip).shape[-1] == clip.fields["samples"]
    assert_same_codes(codec_of(clip.model).encode(waveform(clip)), stored_codes(clip, whole_frames=False))
    unique = [len(set(level)) for level in clip.fields["codes"]]
    assert clip.fields.get("unique_codes", unique) == unique


@every_clip
def test_distance_to_the_runner_up(clip: Clip) -> None:
    """The gap between the best codeword and the next is that of the reference, so no code was right by luck."""
    if "margins" not in clip.fields:
        pytest.skip("no margins stored")
    codec, spec = codec_of(clip.model), codec_of(clip.model).spec
    padding = num_frames(stored_codes(clip), spec) * spec.frame_samples - clip.fields["samples"]
    smallest = []
    with torch.no_grad():
        rows = codec.encoder(F.pad(waveform(clip), (0, padding))).transpose(1, 2)
        for level, stride, margins in zip(
            codec.quantizer.quantizers, spec.strides, clip.fields["margins"], strict=True
        ):
            pooled = rows.unflatten(1, (-1, stride)).mean(2)
            projected = F.linear(pooled, level.in_proj.weight[:, :, 0], level.in_proj.bias).double()
            angles = F.normalize(projected, dim=-1) @ F.normalize(level.codebook.weight.double(), dim=-1).t()
            best = angles.topk(2, dim=-1).values[0]
            gap = 2 * (best[:, 0] - best[:, 1])
            assert_close(gap, torch.tensor(margins, dtype=torch.float64), 2e-5)
            rows = rows - level.embed(level.nearest(pooled)).repeat_interleave(stride, dim=1)
            smallest.append(float(gap.min()))
    assert min(smallest) == pytest.approx(clip.fields["min_margin"], abs=2e-5)


@every_model
def test_a_batch_equals_each_clip_alone(model: Path) -> None:
    codec, clips = codec_of(model), clips_of(model)
    if not clips:
        pytest.skip("no clips stored")
    longest = max(clip.fields["samples"] for clip in clips)
    batch = torch.cat([F.pad(waveform(c), (0, longest - c.fields["samples"]), value=0.5) for c in clips])
    codes = codec.encode(batch, [clip.fields["samples"] for clip in clips])
    for i, clip in enumerate(clips):
        assert_same_codes(codes.item(i, codec.spec), stored_codes(clip, whole_frames=False))


@every_clip
@pytest.mark.parametrize("how", CUTS)
def test_codes_from_a_stream(clip: Clip, how: str) -> None:
    cuts = CUTS[how] if CUTS[how] is not None else hop_1(clip)
    found = stream_codes(codec_of(clip.model), waveform(clip), cuts)
    assert_same_codes(found, stored_codes(clip, whole_frames=False))


@having("_decode_zero_noise.npy")
def test_decode(clip: Clip, ending: str) -> None:
    codec, wanted = codec_of(clip.model), clip.array(ending)
    found = codec.decode(stored_codes(clip))
    assert_close(found, wanted, DECODE_TOLERANCE)
    facts = clip.fields
    assert found.shape[-1] == facts.get("decode_len", found.shape[-1])
    measured = {"decode_peak": found.abs().max(), "decode_rms": found.square().mean().sqrt()}
    for name, value in measured.items():
        assert float(value) == pytest.approx(facts.get(name, float(value)), abs=DECODE_TOLERANCE)
    cropped = codec.decode(stored_codes(clip, whole_frames=False))
    assert cropped.shape[-1] == facts.get("forward_len", facts["samples"])
    assert torch.equal(cropped, found[..., : cropped.shape[-1]])


@having("_decode_zero_noise.npy")
@pytest.mark.parametrize("how", CUTS)
def test_decode_from_a_stream(clip: Clip, ending: str, how: str) -> None:
    codec, codes = codec_of(clip.model), stored_codes(clip)
    found = stream_waveform(codec, codes, CUTS[how] if CUTS[how] is not None else hop_1(clip))
    assert_close(found, clip.array(ending), DECODE_TOLERANCE)
    assert_close(found, codec.decode(codes), STREAM_TOLERANCE)


@having("_stream_*.npy")
def test_streams_of_the_reference_are_ours(clip: Clip, ending: str) -> None:
    found = stream_waveform(codec_of(clip.model), stored_codes(clip), hop_1(clip))
    assert_close(found, clip.array(ending), DECODE_TOLERANCE)


@every_clip
def test_the_stream_is_never_later_than_a_stored_schedule(clip: Clip) -> None:
    """After so many frames at least so many samples are out; for networks without attention not one more."""
    column = "schedule_[frames_available,window_start,emit_from,emit_to]"
    schedules = [s[column] for s in clip.fields.get("streaming", {}).values() if column in s]
    codec, spec = codec_of(clip.model), codec_of(clip.model).spec
    out = np.cumsum([p.shape[-1] for p in stream_pieces(codec, stored_codes(clip), hop_1(clip))])
    for schedule in schedules:
        for frames, _, _, emitted in schedule[:-1]:
            assert out[frames - 1] >= emitted
        assert out[-1] == schedule[-1][3]
    if spec.pad_to_frames == 1:
        waiting = [max(0, k * spec.frame_samples - spec.lookahead_samples) for k in range(1, len(out))]
        assert out[:-1].tolist() == waiting


@having("_orpheus_window.npy")
def test_windows_of_four_frames(clip: Clip, ending: str) -> None:
    codec, codes, spec = codec_of(clip.model), stored_codes(clip), codec_of(clip.model).spec
    starts, size = range(num_frames(codes, spec) - 3), spec.frame_samples
    kept = [codec.decode(frames_of(codes, spec, k, k + 4))[..., size : 2 * size] for k in starts]
    found = torch.cat(kept, dim=-1)
    assert_close(found, clip.array(ending), DECODE_TOLERANCE)
    facts = clip.fields.get("streaming", {}).get("orpheus_4frame")
    if facts:
        error = (found - codec.decode(codes)[..., size : size + found.shape[-1]]).abs().max()
        assert float(error) == pytest.approx(facts["max_abs_err_vs_full"], abs=DECODE_TOLERANCE)


@having("_noise_feed.npz")
def test_given_noise(clip: Clip, ending: str) -> None:
    with np.load(clip.model / f"{clip.name}{ending}") as stored:
        wanted = torch.from_numpy(stored["decoded"]).view(1, 1, -1)
        noise = GivenNoise([torch.from_numpy(stored[f"block{i}"]) for i in range(len(stored.files) - 1)])
    codec, spec = codec_of(clip.model), codec_of(clip.model).spec
    frames = clip.fields.get("noise_feed_frames", wanted.shape[-1] // spec.frame_samples)
    codes = frames_of(stored_codes(clip), spec, 0, frames)
    assert_close(codec.decode(codes, noise), wanted, DECODE_TOLERANCE)
    stream = codec.stream_decoder(noise)
    parts = [stream.push(frames_of(codes, spec, k, k + 1)) for k in range(frames)]
    assert_close(torch.cat([*parts, stream.flush()], dim=-1), wanted, DECODE_TOLERANCE)
