"""EnCodec codes, their token strings and the decoded audio against reference numbers, for every stored clip."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from tests.codecs.any_codec import assert_same_codes, stream_codes, stream_waveform
from tests.goldens.discovery import golden_folders, label
from torch import Tensor

from vivavoce.audio.resample import resample
from vivavoce.codecs.contract import Codec, Codes
from vivavoce.codecs.loading import load_codec
from vivavoce.tokens.layouts import build_layout
from vivavoce.tokens.vocabulary import plan_vocabulary

START_FRAMES = 7  # codes of a prefix are those of the whole from here on


class Clip(NamedTuple):
    """One row of encodec_codes.json."""

    folder: Path
    row: dict[str, Any]


FOLDERS = golden_folders("jan_llama3")
CLIPS = [
    Clip(folder, row)
    for folder in FOLDERS
    if (folder / "encodec_codes.json").is_file()
    for row in json.loads((folder / "encodec_codes.json").read_text())["items"]
]
every_clip = pytest.mark.parametrize("clip", CLIPS, ids=[f"{label(c.folder)}-{c.row['name']}" for c in CLIPS])
every_folder = pytest.mark.parametrize("folder", FOLDERS, ids=label)


@functools.cache
def table(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "encodec_codes.json").read_text())


@functools.cache
def codec_of(folder: Path) -> Codec:
    facts = table(folder)
    return load_codec(folder / facts["model"], bandwidth=facts["bandwidth"])


@functools.cache
def tensors(path: Path) -> dict[str, Tensor]:
    return load_file(path)


def recording(clip: Clip) -> tuple[np.ndarray, int]:
    """The wav as float32 [S, C] and its rate."""
    return soundfile.read(clip.folder / clip.row["file"], dtype="float32", always_2d=True)


def waveform(clip: Clip) -> Tensor:
    """What the reference codec was given, float32 [1, 1, S]: the stored resampling where there is one."""
    if "resampled" in clip.row:
        file, key = clip.row["resampled"].split(":")
        return tensors(clip.folder / file)[key].reshape(1, 1, -1)
    samples, rate = recording(clip)
    assert rate == table(clip.folder)["sample_rate"]
    return torch.from_numpy(samples.mean(axis=1))[None, None]


def wanted(clip: Clip) -> Codes:
    return Codes([torch.tensor([level]) for level in clip.row["codes"]], [clip.row["samples"]])


@every_folder
def test_every_row_has_its_recording(folder: Path) -> None:
    rows = table(folder)["items"]
    assert rows, f"{folder / 'encodec_codes.json'} lists no clip"
    missing = [row["file"] for row in rows if not (folder / row["file"]).is_file()]
    assert not missing, f"{folder} lacks {missing}"


@every_folder
def test_recordings_without_a_row_stream_as_they_encode(folder: Path) -> None:
    listed = {row["file"] for row in table(folder)["items"]}
    codec = codec_of(folder)
    for path in sorted(folder.glob("wav/*.wav")):
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        if str(path.relative_to(folder)) not in listed and rate == codec.spec.sample_rate:
            clip = torch.from_numpy(samples.mean(axis=1))[None, None]
            assert_same_codes(stream_codes(codec, clip, [0.1, 0.35, 0.8]), codec.encode(clip))


@every_folder
def test_spec(folder: Path) -> None:
    facts, spec = table(folder), codec_of(folder).spec
    assert (spec.num_levels, spec.codebook_size) == (facts["codebooks"], facts["bins"])
    assert (spec.frame_samples, spec.sample_rate) == (facts["hop"], facts["sample_rate"])


@every_clip
def test_codes_are_equal(clip: Clip) -> None:
    codec, samples = codec_of(clip.folder), waveform(clip)
    assert samples.shape[-1] == clip.row["samples"]
    assert codec.spec.num_frames(clip.row["samples"]) == clip.row["frames"]
    assert_same_codes(codec.encode(samples), wanted(clip))


@every_clip
def test_codes_are_equal_in_a_batch(clip: Clip) -> None:
    codec, samples = codec_of(clip.folder), waveform(clip)
    batch = torch.full((2, 1, samples.shape[-1] + 500), 0.3)
    batch[1, :, : samples.shape[-1]] = samples[0]
    codes = codec.encode(batch, [batch.shape[-1], samples.shape[-1]])
    assert_same_codes(codes.item(1, codec.spec), wanted(clip))


@every_clip
@pytest.mark.parametrize("piece_samples", [320, 1000, 7919])
def test_stream_of_codes_is_equal(clip: Clip, piece_samples: int) -> None:
    codec, samples = codec_of(clip.folder), waveform(clip)
    total = samples.shape[-1]
    cuts = [at / total for at in range(piece_samples, total, piece_samples)]
    assert_same_codes(stream_codes(codec, samples, cuts), wanted(clip))


@every_clip
def test_stream_of_audio_is_equal(clip: Clip) -> None:
    codec, codes = codec_of(clip.folder), wanted(clip)
    cuts = [at / clip.row["frames"] for at in range(3, clip.row["frames"], 3)]
    torch.testing.assert_close(stream_waveform(codec, codes, cuts), codec.decode(codes), rtol=0, atol=1e-5)


@every_clip
def test_flat_order_text_and_hash(clip: Clip) -> None:
    spec, codes = codec_of(clip.folder).spec, wanted(clip)
    layout = build_layout("interleaved", spec)
    assert layout.flatten(codes) == clip.row["flat"]
    back = layout.unflatten(clip.row["flat"], spec.frame_samples)
    assert all(torch.equal(a, b) for a, b in zip(back.levels, codes.levels, strict=True))
    text = plan_vocabulary("interleaved", spec).to_text(codes)
    assert text == clip.row["text"]
    assert hashlib.sha256(text.encode()).hexdigest() == clip.row["text_sha256"]


@every_clip
def test_decoded_audio(clip: Clip) -> None:
    codec, codes = codec_of(clip.folder), wanted(clip)
    assert codec.decode(codes).shape == (1, 1, clip.row["samples"])
    codes.num_samples = [clip.row["decoded_samples"]]  # the reference does not crop to the clip
    audio = codec.decode(codes)[0, 0]
    assert audio.numel() == clip.row["decoded_samples"]
    first = torch.tensor(clip.row["decoded_first8"])
    torch.testing.assert_close(audio[: first.numel()], first, rtol=0, atol=1e-5)
    assert float(audio.abs().mean()) == pytest.approx(clip.row["decoded_abs_mean"], abs=1e-5)
    stored = tensors(clip.folder / "encodec_decoded.safetensors").get(clip.row["name"])
    if stored is not None:
        torch.testing.assert_close(audio, stored.flatten(), rtol=0, atol=1e-5)


@every_clip
def test_codes_of_prefixes(clip: Clip) -> None:
    codec, samples, frames = codec_of(clip.folder), waveform(clip), clip.row["frames"]
    for k in sorted({START_FRAMES, START_FRAMES + 1, frames // 2, frames - 1}):
        if START_FRAMES <= k < frames:
            codes = codec.encode(samples[..., : k * codec.spec.frame_samples])
            assert [level[0].tolist() for level in codes.levels] == [row[:k] for row in clip.row["codes"]]


@every_clip
def test_zeros_after_a_clip_change_its_last_frame_at_most(clip: Clip) -> None:
    if clip.row["frames"] <= START_FRAMES:
        return  # a shorter clip reflects what follows into its start
    codec, samples = codec_of(clip.folder), waveform(clip)
    codes = codec.encode(torch.nn.functional.pad(samples, (0, 3000)))
    last = clip.row["frames"] - 1
    assert [level[0, :last].tolist() for level in codes.levels] == [row[:last] for row in clip.row["codes"]]


@pytest.mark.parametrize(
    "clip",
    [c for c in CLIPS if "resampled" in c.row],
    ids=[f"{label(c.folder)}-{c.row['name']}" for c in CLIPS if "resampled" in c.row],
)
def test_resampling(clip: Clip) -> None:
    """Channels are averaged first; ``sinc`` gives the reference's waveform and codes, ``soxr`` comes close."""
    samples, rate = recording(clip)
    mono, reference = samples.mean(axis=1), waveform(clip)[0, 0].numpy()
    codec = codec_of(clip.folder)
    same = resample(mono, rate, codec.spec.sample_rate, method="sinc")
    np.testing.assert_allclose(same, reference, rtol=0, atol=2e-6)
    assert_same_codes(codec.encode(torch.from_numpy(same)[None, None]), wanted(clip))
    close = resample(mono, rate, codec.spec.sample_rate)
    assert close.shape == reference.shape
    error, power = float(np.mean((close - reference) ** 2)), float(np.mean(reference**2))
    assert 10 * np.log10(power / error) > 30
