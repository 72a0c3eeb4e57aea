"""A run's model by its shapes alone, on the meta device: what it would take, before anything of it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from vivavoce.base.records import read_record
from vivavoce.codecs.folders import quiet_transformers
from vivavoce.models.compose import CodecSide, compose
from vivavoce.models.loading import MODEL_TYPE, model_kind, read_plain
from vivavoce.models.presets.preset import find_ears_preset
from vivavoce.training.config import ModelSettings, TrainConfig
from vivavoce.training.processors import find_small
from vivavoce.training.tiny_llm import TinyLLM, write_tiny_llm
from vivavoce.training.trainable import Trainable, choose


def shape_of(config: TrainConfig) -> Any | None:
    """Build the model of a run without its values, with what is trained chosen.

    Configs and tokenizers are read, from the hub where they are nowhere else; weights are not.

    Args:
        config: Of the run.

    Returns:
        A ``SpeechLM`` on the meta device; None for published forms of ears, whose shapes their weights tell.

    Raises:
        ConfigError: Parts that do not fit, or nothing to train.
        ModelError: A part that is not there.
    """
    with quiet_transformers():
        model = _shape(config.model)
        if model is not None:
            with torch.device("meta"):
                choose(model, read_record(Trainable, config.train, "train"))
    return model


def _shape(settings: ModelSettings) -> Any | None:
    dtype = torch.bfloat16 if settings.quantize else getattr(torch, settings.dtype)
    if settings.start is not None:
        return _of_start(settings.start, dtype)
    hears, speaks = dict(settings.hears or {}), dict(settings.speaks or {})
    with TemporaryDirectory() as name:
        llm: Any = settings.llm
        if isinstance(llm, Mapping):
            llm = write_tiny_llm(Path(name), read_record(TinyLLM, llm, "model.llm"), weights=False)
        model, _ = compose(
            llm,
            hears.get("encoder"),
            hears.get("connector"),
            hears=read_record(CodecSide, hears, "model.hears") if "codec" in hears else None,
            speaks=read_record(CodecSide, speaks, "model.speaks") if speaks else None,
            template=settings.template,
            pad_rows_to=settings.pad_rows_to,
            shapes_only=True,
            dtype=dtype,
        )
    return model


def _of_start(name: str, dtype: torch.dtype) -> Any | None:
    from vivavoce.models.config import SpeechLMConfig
    from vivavoce.models.speech_lm import SpeechLM

    place = find_small(name)
    kind = model_kind(place)
    if kind == MODEL_TYPE:
        config = SpeechLMConfig.from_pretrained(place)
    elif find_ears_preset(place) is not None:
        return None
    else:
        config = read_plain(place, kind)[0]
    with torch.device("meta"):
        model: Any = SpeechLM(config)
    return model.to(dtype)
