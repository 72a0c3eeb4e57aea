"""Sweeps of a few updates over rows of letters and made-up codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from vivavoce.codecs.loading import load_codec
from vivavoce.data.conversation import read_conversation
from vivavoce.data.manifest import write_set

FRAMES = 5


def rows(folder: Path, count: int, seed: int) -> Path:
    """A set whose answers are codes of the embedded codec, without recordings."""
    spec = load_codec("nano").spec
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        tokens = {
            "codec": spec.name, "codec_hash": spec.weights, "layout": "interleaved",
            "num_samples": FRAMES * spec.frame_samples, "ids": rng.integers(0, 40, 7 * FRAMES).tolist(),
        }  # fmt: skip
        answer = [{"type": "audio", "audio": None, "tokens": tokens}]
        messages = [{"role": "user", "content": f"say {i % 3}"}, {"role": "assistant", "content": answer}]
        made.append(read_conversation({"id": f"r{i}", "messages": messages, "license": "cc0-1.0"}, i))
    write_set(folder, made)
    return folder


def recipe(folder: Path, **changes: Any) -> dict[str, Any]:
    """A training recipe over such rows."""
    side = {"codec": "nano", "layout": "interleaved"}
    return {
        "steps": 1,
        "model": {"llm": {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "num_key_value_heads": 1},
                  "hears": side, "speaks": side},
        "train": {"language_model": "full"},
        "objective": {"type": "next_token"},
        "data": {
            "sets": [{"path": str(folder / "learned"), "name": "learned"}],
            "held_out": [{"path": str(folder / "held_out"), "name": "held_out"}],
            "workers": 1,
        },
        "batch": {"rows": 2, "max_tokens": 1024},
        "optimizer": {"lr": 0.01},
        "schedule": {"type": "cosine"},
        "keep": {"save_every": 2, "log_every": 2, "measure_rows": 4},
    } | changes  # fmt: skip


def write_sweep(folder: Path, **changes: Any) -> Path:
    """Rows, and a sweep file over them: two widths, two budgets."""
    if not (folder / "learned").exists():
        rows(folder / "learned", 24, 0)
        rows(folder / "held_out", 4, 1)
    record = {
        "recipe": recipe(folder),
        "sizes": {"widths": [16, 32], "head_size": 8, "aspect": 16, "least_layers": 1},
        "tokens": [1200, 2400],
        "rates": {"lr": 0.01, "power": 0.5},
    } | changes
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(record), encoding="utf-8")
    return path
