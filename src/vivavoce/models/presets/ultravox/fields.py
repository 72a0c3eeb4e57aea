"""Ultravox's config.json: what it says of encoder, projector, language model and adapters, in our records.

Source: config fields and their defaults as in the published code up to v0.6; ``num_projector_layers`` as vLLM reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from vivavoce.base.errors import CheckpointError, ConfigError, ModelError
from vivavoce.models.config import Lora
from vivavoce.models.encoders.references import encoder_fields, feature_settings, whisper_fields

MODEL_TYPE = "ultravox"
AUDIO_TOKEN = "<|audio|>"
SHORTEST_SAMPLES = 320

# what a field is when config.json does not have it
DEFAULTS: dict[str, Any] = {
    "hidden_size": 4096,
    "stack_factor": 8,
    "norm_init": 0.4,
    "projector_act": "swiglu",
    "projector_ln_mid": False,
    "num_projector_layers": 0,
    "audio_latency_block_size": None,
    "audio_model_id": None,
    "text_model_id": None,
    "ignore_index": -100,
}
LORA_DEFAULTS: dict[str, Any] = {
    "r": 0,
    "lora_alpha": 8,
    "target_modules": ["k_proj", "q_proj", "linear_k", "linear_q"],
    "unfreeze_layers": None,
}
# our part -> their field of its adapters
LORA_FIELDS = {"language_model": "text_model_lora_config", "audio_encoder": "audio_model_lora_config"}
_LORA_KNOWN = {*LORA_DEFAULTS, "lora_dropout", "bias", "task_type", "peft_type", "inference_mode"}


def config_file(path: Path) -> Path:
    """The config.json of a folder, or beside a file."""
    return (path if path.is_dir() else path.parent) / "config.json"


def is_ultravox(path: Path) -> bool:
    """Whether a folder, or the folder of a file, has a config.json of this kind."""
    try:
        found = json.loads(config_file(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("model_type") == MODEL_TYPE


def read_fields(path: Path) -> dict[str, Any]:
    """Read a config.json as it stands.

    Raises:
        CheckpointError: It cannot be read, or is of another model.
        ModelError: A model that was trained without ears.
    """
    file = config_file(path)
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read: {str(error).splitlines()[0]}.") from error
    if not isinstance(found, dict) or found.get("model_type") != MODEL_TYPE:
        kind = found.get("model_type") if isinstance(found, dict) else type(found).__name__
        raise CheckpointError(f"{file} is of model type {kind!r}, wanted {MODEL_TYPE!r}.")
    if found.get("llm_only_training"):
        raise ModelError(
            f"{file} says llm_only_training: this checkpoint has no ears; load its language model."
        )
    return found


def field(theirs: Mapping[str, Any], name: str) -> Any:
    """A field, or what it is when absent."""
    return theirs.get(name, DEFAULTS[name])


def encoder_from_config(theirs: Mapping[str, Any]) -> dict[str, Any]:
    """The encoder's record from ``audio_config``, without a reference.

    Raises:
        ConfigError: An encoder that this package cannot build.
    """
    record = dict(theirs.get("audio_config") or {})
    kind = record.pop("model_type", "whisper")
    if kind == "whisper":
        return {"type": "whisper", "model": whisper_fields(AutoConfig.for_model("whisper", **record))}
    if kind == "wav2vec2-bert":
        raise ConfigError(
            "audio_config is of model type 'wav2vec2-bert', of which Ultravox keeps only the inside."
        )
    return {"type": "huggingface", "model": {"model_type": kind, **encoder_fields(record)}}


def with_blocks(encoder: dict[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """The encoder's record with ``audio_latency_block_size``, which counts encoder frames.

    Raises:
        ConfigError: Blocks that the encoder does not know, or that do not divide its context.
    """
    block = field(theirs, "audio_latency_block_size") or None
    if block is None:
        return encoder
    if encoder["type"] != "whisper":
        raise ConfigError(
            f"audio_latency_block_size is {block}; only Whisper encoders know blocks, not {encoder['type']}."
        )
    context = 2 * encoder["model"].get("max_source_positions", 1500)
    if context % block:
        raise ConfigError(f"audio_latency_block_size is {block}, wanted a divisor of {context}.")
    return {**encoder, "block_frames": block}


def connector_record(
    theirs: Mapping[str, Any], encoder: Mapping[str, Any], encoder_size: int, text_size: int
) -> dict[str, Any]:
    """The projector's record.

    Args:
        theirs: config.json.
        encoder: Record of the encoder; v0.7's projector has layers like its.
        encoder_size: Width of the encoder.
        text_size: Width of the language model.

    Raises:
        ConfigError: Transformer layers beside an encoder that is no Whisper.
    """
    sizes = {
        "encoder_size": encoder_size,
        "text_size": text_size,
        "stack_factor": field(theirs, "stack_factor"),
    }
    sizes["norm_init"] = field(theirs, "norm_init")
    layers = field(theirs, "num_projector_layers") or 0
    if not layers:
        return {
            "type": "stack",
            **sizes,
            "hidden_size": field(theirs, "hidden_size"),
            "activation": field(theirs, "projector_act"),
            "norm": "mid" if field(theirs, "projector_ln_mid") else "post",
        }
    if encoder["type"] != "whisper":
        raise ConfigError(
            f"num_projector_layers is {layers}, which wants a Whisper encoder, not {encoder['type']}."
        )
    model = encoder["model"]
    return {
        "type": "transformer",
        **sizes,
        "num_layers": layers,
        "num_heads": model["encoder_attention_heads"],
        "intermediate_size": model["encoder_ffn_dim"],
        "activation": model.get("activation_function", "gelu"),
        "max_positions": model.get("max_source_positions", 1500),
    }


def features_of(encoder: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of ``LogMel``: Ultravox pads a clip to a whole hop and no further."""
    return feature_settings(encoder)


def lora_records(theirs: Mapping[str, Any]) -> dict[str, Lora]:
    """Adapters of both parts; a rank of 0 means none.

    Raises:
        ConfigError: Settings of adapters that change what they compute, beside rank, scale, targets and dropout.
    """
    found = {}
    for part, name in LORA_FIELDS.items():
        record = theirs.get(name) or {}
        if not record.get("r", 0):
            continue
        odd = {k: v for k, v in record.items() if k not in _LORA_KNOWN and v not in (None, False, {}, [])}
        if record.get("bias", "none") != "none":
            odd["bias"] = record["bias"]
        if odd:
            raise ConfigError(
                f"{name} has {odd}; this package knows adapters by rank, alpha, targets and dropout only."
            )
        targets = record.get("target_modules") or LORA_DEFAULTS["target_modules"]
        found[part] = Lora(
            rank=record["r"],
            alpha=float(record.get("lora_alpha", LORA_DEFAULTS["lora_alpha"])),
            targets=(targets,) if isinstance(targets, str) else tuple(targets),
            dropout=float(record.get("lora_dropout", 0.0)),
        )
    return found


def lora_fields(part: str, lora: Lora | None) -> dict[str, Any]:
    """Adapters of a part in their words; nothing for none, as in a merged release."""
    if lora is None:
        return {}
    record = {**LORA_DEFAULTS, "r": lora.rank, "lora_alpha": lora.alpha, "target_modules": list(lora.targets)}
    if lora.alpha == int(lora.alpha):
        record["lora_alpha"] = int(lora.alpha)
    if lora.dropout:
        record["lora_dropout"] = lora.dropout
    return {LORA_FIELDS[part]: record}


def text_config_of(theirs: Mapping[str, Any]) -> PreTrainedConfig:
    """The language model's config that config.json holds."""
    record = dict(theirs.get("text_config") or {})
    kind = record.pop("model_type", "llama")
    try:
        config: PreTrainedConfig = AutoConfig.for_model(kind, **record)
    except ValueError as error:
        raise ConfigError(
            f"text_config is of model type {kind!r}, which transformers does not know."
        ) from error
    return config
