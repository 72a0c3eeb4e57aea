"""Runs of tiny codecs on tones, for the tests of their training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from vivavoce.audio.files import write_audio
from vivavoce.base.records import read_record
from vivavoce.training.codec.config import CodecTrainConfig

RATE = 8000
SNAC = {
    "sampling_rate": RATE, "encoder_dim": 4, "encoder_rates": [2, 4], "decoder_dim": 16, "decoder_rates": [4, 2],
    "attn_window_size": None, "codebook_size": 32, "codebook_dim": 4, "vq_strides": [4, 2, 1],
}  # fmt: skip
NANO = {"sample_rate": RATE, "hop_samples": 32, "fft_samples": 128, "num_mels": 12, "encoder_dim": 8,
        "decoder_dim": 8, "codebook_size": 16}  # fmt: skip


def tones(folder: Path, count: int = 4, seconds: float = 0.6) -> Path:
    """Write recordings of gliding tones."""
    time = np.arange(round(seconds * RATE)) / RATE
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        wave = 0.4 * np.sin(2 * np.pi * (200 + 150 * number) * time * (1 + 0.3 * time))
        write_audio(folder / f"tone-{number}.wav", wave.astype(np.float32), RATE)
    return folder


def codec_record(recordings: Path, kind: str = "snac", **changes: Any) -> dict[str, Any]:
    """A recipe of a few updates that has everything: discriminators, restarts, two lengths of crops."""
    record: dict[str, Any] = {
        "kind": "codec",
        "steps": 6,
        "model": {"type": kind, "settings": SNAC if kind == "snac" else NANO, "average": 0.8},
        "losses": {"mel_windows": [32, 128], "mel_bands": [5, 20], "stft": 1.0, "stft_windows": [64]},
        "discriminators": {
            "from_step": 2,
            "periods": [2],
            "windows": [64],
            "period_channels": 2,
            "band_channels": 2,
        },
        "codebooks": {"start_batches": 2, "decay": 0.5, "restart_every": 2},
        "data": {"recordings": [str(recordings)]},
        "crops": {"batch": 2, "seconds": [[0, 0.06], [4, 0.1]], "gain": [0.7, 1.3], "noise_share": 0.5},
        "optimizer": {"lr": 2e-3, "betas": [0.8, 0.99]},
        "schedule": {"type": "cosine", "warmup_steps": 1},
        "keep": {"save_every": 2, "log_every": 3, "sample_every": -1, "measure_rows": 2},
    }
    return record | changes


def codec_config(recordings: Path, kind: str = "snac", **changes: Any) -> CodecTrainConfig:
    return read_record(CodecTrainConfig, codec_record(recordings, kind, **changes), "recipe")


def weights(run: Path) -> dict[str, torch.Tensor]:
    """The tensors of a run's codec."""
    return load_file(run / "model" / "model.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
