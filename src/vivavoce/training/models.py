"""The model that a recipe asks for, built from what it names; nothing of it is trained yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vivavoce.base.errors import ConfigError
from vivavoce.base.records import read_record, write_record
from vivavoce.codecs.folders import quiet_transformers
from vivavoce.models.compose import CodecSide, compose
from vivavoce.models.config import EmbeddingsIn, TokensOut
from vivavoce.models.loading import load_speech_lm, weight_arguments
from vivavoce.models.processor import SpeechProcessor
from vivavoce.training.config import ModelSettings
from vivavoce.training.tiny_llm import TinyLLM, write_tiny_llm
from vivavoce.training.tiny_teaching import teach
from vivavoce.training.world import World


def build_model(settings: ModelSettings, folder: Path, seed: int, world: World) -> tuple[Any, Any]:
    """Build the model of a run.

    Args:
        settings: What it is made of.
        folder: Of the run; random language models are written to ``folder/llm``.
        seed: Of all first values.
        world: Each process builds the model on its device; the first writes what is written.

    Returns:
        ``(SpeechLM, SpeechProcessor)``; float32 or bfloat16 weights.

    Raises:
        ConfigError: Parts that do not fit.
        ModelError: A part that is not there.
    """
    with quiet_transformers():
        return _built(settings, folder, seed, world)


def _built(settings: ModelSettings, folder: Path, seed: int, world: World) -> tuple[Any, Any]:
    device = str(world.device)
    dtype = getattr(torch, settings.dtype)
    if settings.start is not None:
        model, processor = load_speech_lm(settings.start, settings.quantize, device, dtype)
        return _with_speakers(model, processor, settings.speakers)
    hears, speaks = dict(settings.hears or {}), dict(settings.speaks or {})
    faults = [
        f"hears.{key} is unknown beside encoder" for key in hears if "encoder" in hears and key not in _EARS
    ]
    if faults:
        raise ConfigError("; ".join(faults) + f"; known: {', '.join(_EARS)}.")
    weights = weight_arguments(settings.quantize, device, dtype)
    model, processor = compose(
        _llm(settings, folder, world),
        hears.get("encoder"),
        hears.get("connector"),
        hears=read_record(CodecSide, hears, "model.hears") if "codec" in hears else None,
        speaks=read_record(CodecSide, speaks, "model.speaks") if speaks else None,
        template=settings.template,
        init=settings.init,
        pad_rows_to=settings.pad_rows_to,
        seed=seed,
        random_weights=settings.random_weights,
        **weights,
    )
    if isinstance(settings.llm, Mapping):
        model.config.text_model_ref = None  # a random one is nowhere else
    ears = {key: value for key, value in hears.items() if key in _ASKED}
    if ears and "encoder" in hears:
        record = write_record(model.config.audio_in) | ears
        model.config.audio_in = read_record(EmbeddingsIn, record, "model.hears")
        processor = SpeechProcessor.for_config(processor.tokenizer, model.config)
    return model, processor


_ASKED = ("clip_before", "clip_after", "shortest_samples", "prompts", "transcribe_prompt")
_EARS = ("encoder", "connector", *_ASKED)


def _llm(settings: ModelSettings, folder: Path, world: World) -> str | Path:
    """Folder or hub id of the language model; a random one is written first."""
    if isinstance(settings.llm, str):
        return settings.llm
    tiny = read_record(TinyLLM, settings.llm or {}, "model.llm")
    if world.is_first:
        write_tiny_llm(folder / "llm", tiny)
        if tiny.knows is not None:
            teach(folder / "llm", tiny.knows)
    world.barrier()
    return folder / "llm"


def _with_speakers(model: Any, processor: Any, names: Sequence[str]) -> tuple[Any, Any]:
    """The same model, which knows more voices by name.

    Raises:
        ConfigError: It does not speak by codec tokens.
    """
    if not names:
        return model, processor
    mouth = model.config.audio_out
    if not isinstance(mouth, TokensOut) or mouth.alignment != "none":
        raise ConfigError(f"speakers are {', '.join(names)}, but the model does not speak by codec tokens.")
    known = (*names, *(name for name in mouth.speakers if name not in names))
    model.config.audio_out = replace(mouth, speakers=known)
    return model, SpeechProcessor.for_config(processor.tokenizer, model.config, processor.folder)
