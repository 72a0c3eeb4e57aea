"""The model that a recipe asks for, built from what it names; nothing of it is trained yet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vivavoce.base.errors import ConfigError
from vivavoce.base.records import read_record
from vivavoce.codecs.folders import quiet_transformers
from vivavoce.models.compose import CodecSide, compose
from vivavoce.models.loading import load_speech_lm, weight_arguments
from vivavoce.training.config import ModelSettings
from vivavoce.training.tiny_llm import TinyLLM, write_tiny_llm


def build_model(settings: ModelSettings, folder: Path, seed: int, device: str = "cpu") -> tuple[Any, Any]:
    """Build the model of a run.

    Args:
        settings: What it is made of.
        folder: Of the run; random language models are written to ``folder/llm``.
        seed: Of all first values.
        device: Where it goes.

    Returns:
        ``(SpeechLM, SpeechProcessor)``; float32 or bfloat16 weights.

    Raises:
        ConfigError: Parts that do not fit.
        ModelError: A part that is not there.
    """
    with quiet_transformers():
        return _built(settings, folder, seed, device)


def _built(settings: ModelSettings, folder: Path, seed: int, device: str) -> tuple[Any, Any]:
    dtype = getattr(torch, settings.dtype)
    if settings.start is not None:
        return load_speech_lm(settings.start, settings.quantize, device, dtype)
    hears, speaks = dict(settings.hears or {}), dict(settings.speaks or {})
    faults = [
        f"hears.{key} is unknown beside encoder" for key in hears if "encoder" in hears and key not in _EARS
    ]
    if faults:
        raise ConfigError("; ".join(faults) + f"; known: {', '.join(_EARS)}.")
    weights = weight_arguments(settings.quantize, device, dtype)
    model, processor = compose(
        _llm(settings, folder),
        hears.get("encoder"),
        hears.get("connector"),
        hears=read_record(CodecSide, hears, "model.hears") if "codec" in hears else None,
        speaks=read_record(CodecSide, speaks, "model.speaks") if speaks else None,
        init=settings.init,
        pad_rows_to=settings.pad_rows_to,
        seed=seed,
        random_weights=settings.random_weights,
        **weights,
    )
    if isinstance(settings.llm, Mapping):
        model.config.text_model_ref = None  # a random one is nowhere else
    return model, processor


_EARS = ("encoder", "connector")


def _llm(settings: ModelSettings, folder: Path) -> str | Path:
    """Folder or hub id of the language model; a random one is written first."""
    if isinstance(settings.llm, str):
        return settings.llm
    tiny = read_record(TinyLLM, settings.llm or {}, "model.llm")
    return write_tiny_llm(folder / "llm", tiny)
