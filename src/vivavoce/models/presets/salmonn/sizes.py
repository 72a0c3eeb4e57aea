"""The config of a SALMONN: from a checkpoint's shapes and settings, or of a published size."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from transformers import LlamaConfig, PreTrainedConfig

from vivavoce.base.errors import ConfigError
from vivavoce.models.config import EmbeddingsIn, Lora, SpeechLMConfig
from vivavoce.models.connectors.qformer import QFormerConfig
from vivavoce.models.encoders.beats_config import BeatsConfig
from vivavoce.models.encoders.references import feature_settings
from vivavoce.models.presets.salmonn.checkpoint import Shapes
from vivavoce.models.presets.salmonn.match import (
    BEATS,
    FULL_SOUND,
    FULL_SPEECH,
    PUBLISHED,
    VOCABULARY,
    WHISPER,
    WHISPER_SIZES,
)
from vivavoce.models.presets.salmonn.prompts import AFTER, BEFORE, INSTRUCTIONS

DESCRIPTION = "Vicuna that hears speech, sounds and music by Whisper and BEATs (SALMONN)"
SHORTEST = 16_000  # samples; shorter clips get silence, as in training
SAMPLING = {"temperature": 0.0, "max_new_tokens": 200}
BEAMS = 4  # of the published decoding; ``generate`` of transformers searches with them
HEAD_SIZE = 64  # of the Q-Former, as in BERT; no tensor tells it

_ADAPTERS = {"lora_alpha": 32.0, "lora_dropout": 0.1}
_WINDOWS = {"window_level_Qformer": True, "second_per_window": 0.333333, "second_stride": 0.333333}


def whisper_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """A Whisper's record as SALMONN uses it: clips go on with silence to the full 30 s."""
    return {**record, "pad_to_longest": True}


def beats_record(config: BeatsConfig, reference: str | None) -> dict[str, Any]:
    """A BEATs' record without dropout, as it is frozen."""
    fields = dataclasses.asdict(config)
    still = {name: 0.0 for name, value in fields.items() if name.endswith(("dropout", "layerdrop"))}
    return {"type": "beats", **fields, **still, "dropout_input": 0.0, "ref": reference}


def connector_record(shapes: Shapes, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The Q-Former's record from a checkpoint's shapes and settings."""
    bert = settings.get("bert") or {}
    chosen = {**_WINDOWS, **settings}
    sound = (shapes.sound_size,) if shapes.sound_size else ()
    config = QFormerConfig(
        text_size=shapes.text_size,
        streams=(shapes.speech_size, *sound),
        hidden_size=shapes.query_size,
        num_layers=shapes.layers,
        num_heads=bert.get("num_attention_heads", max(1, shapes.query_size // HEAD_SIZE)),
        intermediate_size=shapes.intermediate_size,
        num_queries=shapes.queries,
        windowed=bool(chosen["window_level_Qformer"]),
        window_s=float(chosen["second_per_window"]),
        stride_s=float(chosen["second_stride"]),
        layer_norm_eps=bert.get("layer_norm_eps", 1e-12),
    )
    return {"type": "qformer", **dataclasses.asdict(config)}


def make_config(
    shapes: Shapes,
    settings: Mapping[str, Any],
    text_config: PreTrainedConfig,
    encoder: dict[str, Any],
    *,
    placeholder: int,
    text_model_ref: str | None,
    prompts: Mapping[str, str] = INSTRUCTIONS,
) -> SpeechLMConfig:
    """Put a SALMONN's config together.

    Args:
        shapes: Of its tensors.
        settings: Of the model in the published config, where there are any.
        text_config: Of the language model.
        encoder: Record of the encoder.
        placeholder: Id of ``<SpeechHere>``.
        text_model_ref: Where the language model is.
        prompts: Task -> instruction.

    Raises:
        ConfigError: Settings of a wrong type or range.
    """
    lora = {}
    if shapes.rank:
        chosen = {**_ADAPTERS, **settings}
        adapters = Lora(
            rank=shapes.rank,
            alpha=float(chosen["lora_alpha"]),
            targets=shapes.targets,
            dropout=float(chosen["lora_dropout"]),
        )
        lora = {"language_model": adapters}
    ears = EmbeddingsIn(
        encoder=encoder,
        connector=connector_record(shapes, settings),
        audio_token_id=placeholder,
        features=feature_settings(encoder),
        shortest_samples=SHORTEST,
        text_apart=True,
        clip_before=BEFORE,
        clip_after=AFTER,
        prompts=dict(prompts),
        transcribe_prompt=prompts.get("asr", ""),
    )
    return SpeechLMConfig(
        text_config=text_config,
        audio_in=ears,
        text_model_ref=text_model_ref,
        lora=lora,  # type: ignore[arg-type]
        sampling=SAMPLING,
        description=DESCRIPTION,
    )


def full_size(variant: str) -> SpeechLMConfig:
    """The config of a published size, "13b" or "7b".

    Raises:
        ConfigError: Another variant.
    """
    known = {p.variant: p for p in PUBLISHED.values()}
    if variant not in known:
        raise ConfigError(f"variant is {variant!r}, wanted {' or '.join(map(repr, known))}.")
    published = known[variant]
    shapes = Shapes(
        text_size=published.text["hidden_size"],
        speech_size=FULL_SPEECH,
        sound_size=FULL_SOUND,
        query_size=768,
        queries=1,
        layers=2,
        intermediate_size=3072,
        adapted_layers=published.text["num_hidden_layers"],
        rank=8,
        targets=("q_proj", "v_proj"),
    )
    whisper = {"type": "whisper", "model": dict(WHISPER_SIZES), "ref": WHISPER}
    encoder = {
        "type": "dual",
        "first": whisper_record(whisper),
        "second": beats_record(BeatsConfig(), BEATS),
    }
    text_config = LlamaConfig(
        vocab_size=VOCABULARY[0],
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=False,
        **published.text,
    )
    return make_config(
        shapes,
        {},
        text_config,
        encoder,
        placeholder=VOCABULARY[0],
        text_model_ref=published.text_model,
    )
