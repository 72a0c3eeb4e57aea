"""New ears for a language model: published parts side by side, with a connector that is still to be trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vivavoce.base.errors import ConfigError
from vivavoce.models import CONNECTORS, ENCODERS
from vivavoce.models.config import EmbeddingsIn, Lora, SpeechLMConfig, build_part
from vivavoce.models.encoders.references import encoder_record, feature_settings
from vivavoce.models.processor import SpeechProcessor
from vivavoce.models.speech_lm import SpeechLM
from vivavoce.models.weights import load_text_model

AUDIO_TOKEN = "<|audio|>"


def with_ears(
    llm: str | Path,
    encoder: str | Path | Mapping[str, Any],
    connector: Mapping[str, Any] | None = None,
    lora: Mapping[str, Lora | dict[str, Any]] | None = None,
    audio_token: str = AUDIO_TOKEN,
    seed: int = 0,
    **weights: Any,
) -> tuple[SpeechLM, SpeechProcessor]:
    """Give a language model ears.

    Language model and encoder are frozen and stay where they are: saving the model writes the connector, adapters
    and the names of the two.

    Args:
        llm: Folder or hub id of any causal language model with a chat template.
        encoder: Folder or hub id of a speech encoder, or a record for the table ENCODERS (two encoders:
            ``{"type": "dual", "first": ..., "second": ...}``).
        connector: ``{"type": name in CONNECTORS, ...}``; sizes that are not given follow from encoder and language
            model. Default: the stack projector as in Ultravox v0.5.
        lora: Adapters, as in ``SpeechLMConfig.lora``.
        audio_token: The placeholder; added to the tokenizer if it is not there, the language model's rows stay as
            they are.
        seed: Of the connector's and adapters' first values.
        weights: Arguments of ``from_pretrained`` for the language model (dtype, device_map, quantization_config).

    Returns:
        ``(model, processor)``, in evaluation mode; only connector and adapters require gradients.

    Raises:
        ConfigError: A connector or encoder that does not fit.
        ModelError: A part that is not there.
        CheckpointError: Weights that do not fit their config.
    """
    from transformers import AutoTokenizer

    record = dict(encoder) if isinstance(encoder, Mapping) else encoder_record(encoder)
    text_model = load_text_model(llm, **weights)
    tokenizer = AutoTokenizer.from_pretrained(llm)
    if not getattr(tokenizer, "chat_template", None):
        raise ConfigError(
            f"the tokenizer of {llm} has no chat template; set one and save it, or take a chat model."
        )
    if audio_token not in tokenizer.get_vocab():
        tokenizer.add_tokens([audio_token], special_tokens=True)
    config = SpeechLMConfig(
        text_config=text_model.config,
        audio_in=EmbeddingsIn(
            encoder=record,
            connector=_sized(dict(connector or {"type": "stack"}), record, text_model.config),
            audio_token_id=tokenizer.get_vocab()[audio_token],
            features=feature_settings(record),
            shortest_samples=320,
            text_apart=True,
        ),
        text_model_ref=str(llm),
        lora=dict(lora or {}),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SpeechLM(config, text_model=text_model)
    for prefix in model.audio_encoder.references():
        model.audio_encoder.load_reference(prefix)
    model.audio_encoder.to(model.device)
    model.connector.to(model.device)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("connector.") or ".lora_" in name)
    return model.eval(), SpeechProcessor.for_config(tokenizer, config)


def _sized(connector: dict[str, Any], encoder: dict[str, Any], text_config: Any) -> dict[str, Any]:
    """A connector's record with the widths of its neighbours."""
    inner = getattr(text_config, "text_config", text_config)
    with torch.device("meta"):
        built = build_part(ENCODERS, encoder, "encoder")
    connector.setdefault("type", "stack")
    connector.setdefault("text_size", inner.hidden_size)
    if connector["type"] == "qformer":
        connector.setdefault("streams", list(getattr(built, "streams", [built.hidden_size])))
    else:
        connector.setdefault("encoder_size", built.hidden_size)
    with torch.device("meta"):
        build_part(CONNECTORS, connector, "connector")  # says now what does not fit
    return connector
