"""Our models in Ultravox's own files: config.json, and what its processor and vLLM read beside it.

Their code is not written: ``auto_map`` names the published repository that has it. A model that was read from an
Ultravox checkpoint gets its config.json back, with only those fields changed that say something else by now.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedConfig, WhisperFeatureExtractor

from vivavoce.base.errors import ModelError
from vivavoce.models.config import EmbeddingsIn, NoAudio, SpeechLMConfig
from vivavoce.models.encoders.references import whisper_fields
from vivavoce.models.presets.ultravox.fields import (
    AUDIO_TOKEN,
    DEFAULTS,
    LORA_DEFAULTS,
    LORA_FIELDS,
    MODEL_TYPE,
    encoder_from_config,
    lora_fields,
)
from vivavoce.models.presets.ultravox.sizes import WHISPERS

CODE = "fixie-ai/ultravox-v0_6-llama-3_1-8b"
CODE_WITH_LAYERS = "fixie-ai/ultravox-v0_7-glm-4_6"  # the only release whose projector has transformer layers
_CLASSES = {
    "AutoConfig": "ultravox_config.UltravoxConfig",
    "AutoModel": "ultravox_model.UltravoxModel",
    "AutoProcessor": "ultravox_processing.UltravoxProcessor",
}
# what a config says about its file and not about the model
_ABOUT_THE_FILE = ("_name_or_path", "architectures", "transformers_version", "dtype", "torch_dtype")


def refuse_what_does_not_fit(config: SpeechLMConfig) -> EmbeddingsIn:
    """The way the model hears, if Ultravox's form can say it and all else that the model is.

    Raises:
        ModelError: All that it cannot say.
    """
    ears = config.audio_in
    if not isinstance(ears, EmbeddingsIn):
        raise ModelError(
            f'audio_in is "{ears.type}"; Ultravox\'s form is for models that hear by embeddings.'
        )
    encoder, connector = ears.encoder, ears.connector
    faults = []
    if not isinstance(config.audio_out, NoAudio):
        faults.append("audio output")
    if encoder["type"] not in ("whisper", "huggingface") or encoder.get("pad_to_longest"):
        faults.append(
            f"the encoder {encoder['type']!r}" + " with pad_to_longest" * bool(encoder.get("pad_to_longest"))
        )
    if connector["type"] not in ("stack", "transformer") or connector.get("ctc_words"):
        faults.append(
            f"the connector {connector['type']!r}" + " with ctc_words" * bool(connector.get("ctc_words"))
        )
    if encoder["type"] == "whisper" and ears.features.get("ending", "reflect") != "hop":
        faults.append(f"features {ears.features} (wanted ending 'hop')")
    for name in ("transcript_first", "clip_before", "clip_after"):
        if getattr(ears, name):
            faults.append(f"audio_in.{name}")
    if config.text_form != "plain":
        faults.append(f"text_form {config.text_form!r}")
    if faults:
        raise ModelError(
            f"Ultravox's form has no place for {', '.join(faults)}; save the model with save_pretrained."
        )
    return ears


def config_fields(config: SpeechLMConfig, tokenizer: Any, dtype: torch.dtype) -> dict[str, Any]:
    """The config.json of a model.

    Args:
        config: As it is stored: with references for parts that are not written.
        tokenizer: Of the processor.
        dtype: Of the weights.
    """
    ears, text = refuse_what_does_not_fit(config), config.text_config
    inner, connector = text.get_text_config(), ears.connector
    published = config.published if config.published.get("preset") == MODEL_TYPE else {}
    fresh: dict[str, Any] = {
        "architectures": ["UltravoxModel"],
        "model_type": MODEL_TYPE,
        **_encoder_fields(ears.encoder, published),
        **_text_fields(config, published),
        **_projector_fields(connector),
        "audio_token_index": ears.audio_token_id,
        "ignore_index": DEFAULTS["ignore_index"],
        "initializer_range": getattr(inner, "initializer_range", 0.02),
        "pad_token_id": tokenizer.eos_token_id,
        "torch_dtype": str(dtype).removeprefix("torch."),
        "vocab_size": inner.vocab_size,
    }
    for part in LORA_FIELDS:
        fresh |= lora_fields(part, config.lora.get(part))
    fresh |= code_fields(CODE_WITH_LAYERS if connector["type"] == "transformer" else CODE)
    held = published.get("held", ())
    now = {"audio_encoder": not ears.encoder.get("ref"), "language_model": not config.text_model_ref}
    merged = bool(published) and any(now[part] and part not in held for part in now)
    return _as_published(fresh, published.get("config", {}), merged)


def code_fields(repository: str) -> dict[str, Any]:
    """Where transformers finds the code, with ``trust_remote_code=True``."""
    impl = f"{repository}--ultravox_pipeline.UltravoxPipeline"
    return {
        "auto_map": {name: f"{repository}--{place}" for name, place in _CLASSES.items()},
        "custom_pipelines": {
            "ultravox-pipeline": {"impl": impl, "pt": ["AutoModel"], "tf": [], "type": "multimodal"}
        },
    }


def write_processor(folder: Path, ears: EmbeddingsIn, fields: Mapping[str, Any]) -> list[Path]:
    """Write the settings of their processor and of the feature extractor under it."""
    written = []
    if ears.encoder["type"] == "whisper":
        mels = ears.encoder["model"].get("num_mel_bins", 80)
        extractor = WhisperFeatureExtractor(feature_size=mels).to_dict()
        extractor["processor_class"] = "UltravoxProcessor"
        written.append(write_json(folder / "preprocessor_config.json", extractor))
    context = 2 * ears.encoder["model"].get("max_source_positions", 1500)
    settings = {
        "audio_context_size": context if ears.encoder["type"] == "whisper" else None,
        "audio_padding": "longest",
        "audio_placeholder": AUDIO_TOKEN,
        "auto_map": {"AutoProcessor": fields["auto_map"]["AutoProcessor"]},
        "encoder_ds_factor": 2,
        "processor_class": "UltravoxProcessor",
        "stack_factor": ears.connector.get("stack_factor", DEFAULTS["stack_factor"]),
    }
    return [*written, write_json(folder / "processor_config.json", settings)]


def write_json(path: Path, value: Mapping[str, Any]) -> Path:
    """Write a JSON object with sorted keys."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return path


def _projector_fields(connector: Mapping[str, Any]) -> dict[str, Any]:
    named = (
        {"hidden_size": "hidden_size", "activation": "projector_act"} if connector["type"] == "stack" else {}
    )
    named |= {"stack_factor": "stack_factor", "norm_init": "norm_init", "num_layers": "num_projector_layers"}
    found = {theirs: connector.get(ours, DEFAULTS[theirs]) for ours, theirs in named.items()}
    return {
        **found,
        "projector_ln_mid": connector["type"] == "stack" and connector.get("norm", "mid") == "mid",
    }


def _encoder_fields(encoder: Mapping[str, Any], published: Mapping[str, Any]) -> dict[str, Any]:
    blocks = {"audio_latency_block_size": encoder.get("block_frames")}
    if encoder.get("ref"):
        return {**blocks, "audio_model_id": _published_id("audio_model_id", encoder["ref"], published)}
    theirs = published.get("config", {})
    if theirs.get("audio_model_id") and "audio_encoder" in published.get("held", ()):
        return {**blocks, "audio_model_id": theirs["audio_model_id"]}
    model = {k: v for k, v in encoder["model"].items() if k not in _ABOUT_THE_FILE}
    if encoder["type"] == "huggingface":
        return {**blocks, "audio_model_id": None, "audio_config": model}
    made = whisper_fields(
        AutoConfig.for_model("whisper", **{k: v for k, v in model.items() if k != "model_type"})
    )
    name = theirs.get("audio_model_id") or (theirs.get("audio_config") or {}).get("_name_or_path")
    named = {**made, "model_type": "whisper", "_name_or_path": name or _whisper_name(made)}
    return {**blocks, "audio_model_id": None, "audio_config": named}


def _whisper_name(model: Mapping[str, Any]) -> str:
    """A Whisper whose feature extractor fits; their code also knows by the name that it is a Whisper."""
    alike = [n for n, fields in WHISPERS.items() if all(model[k] == v for k, v in fields.items())]
    bins = [n for n, fields in WHISPERS.items() if model["num_mel_bins"] == fields["num_mel_bins"]]
    return next(iter(alike + bins), "whisper")


def _text_fields(config: SpeechLMConfig, published: Mapping[str, Any]) -> dict[str, Any]:
    if config.text_model_ref:
        return {"text_model_id": _published_id("text_model_id", config.text_model_ref, published)}
    theirs = published.get("config", {})
    if theirs.get("text_model_id") and "language_model" in published.get("held", ()):
        return {"text_model_id": theirs["text_model_id"]}
    record = config.text_config.to_diff_dict()
    record = {k: v for k, v in record.items() if k not in _ABOUT_THE_FILE}
    rope = record.get("rope_parameters")
    if isinstance(rope, Mapping) and "rope_theta" in rope:  # as transformers 4 reads it, and 5 too
        scaling = {k: v for k, v in rope.items() if k != "rope_theta"}
        record["rope_theta"] = rope["rope_theta"]
        record["rope_scaling"] = None if scaling.get("rope_type", "default") == "default" else scaling
        del record["rope_parameters"]
    return {"text_model_id": None, "text_config": {**record, "model_type": config.text_config.model_type}}


def _published_id(name: str, reference: str, published: Mapping[str, Any]) -> str:
    """What the checkpoint called a part, if our reference is still the place where it was found."""
    theirs = published.get("config", {}).get(name)
    place = published.get("places", {}).get(name, theirs)
    return theirs if theirs and reference == place else reference


def _as_published(fresh: dict[str, Any], theirs: Mapping[str, Any], merged: bool) -> dict[str, Any]:
    """Their fields, as they were where they still say the same, and ours where not.

    Once a part is ``merged`` (named before, held now), their form has no fields of adapters any more.
    """
    made = {k: v for k, v in theirs.items() if k not in fresh and k not in ("audio_config", "text_config")}
    adapted = [name for name in LORA_FIELDS.values() if (theirs.get(name) or {}).get("r", 0)]
    if merged or any(name not in fresh for name in adapted):
        made = {k: v for k, v in made.items() if k not in LORA_FIELDS.values()}
    named = {k: v for k, v in (theirs.get("auto_map") or {}).items() if "--" in str(v)}
    fresh["auto_map"] = {**fresh["auto_map"], **named}
    for name, value in fresh.items():
        if name in theirs and _same(name, value, theirs[name]):
            made[name] = theirs[name]
        elif name in theirs or not theirs or name not in DEFAULTS or value != DEFAULTS[name]:
            made[name] = value
    for name, id_name in (("audio_config", "audio_model_id"), ("text_config", "text_model_id")):
        if name not in fresh and name in theirs and made.get(id_name) == theirs.get(id_name):
            made[name] = theirs[name]
    return made


def _same(name: str, ours: Any, theirs: Any) -> bool:
    """Whether a field of theirs says what ours says."""
    if name in LORA_FIELDS.values() and isinstance(theirs, Mapping):
        full = {**LORA_DEFAULTS, **theirs}
        kept = all(full[k] == v for k, v in ours.items() if k != "target_modules" and k in full)
        return kept and set(ours["target_modules"]) <= set(full["target_modules"])
    if name == "audio_config" and isinstance(theirs, Mapping):
        return encoder_from_config({"audio_config": theirs}) == encoder_from_config({"audio_config": ours})
    if name == "text_config" and isinstance(theirs, Mapping):
        return _plain(theirs) == _plain(ours)
    if name == "custom_pipelines":
        return "--" in json.dumps(theirs)  # code in a repository; what was beside the checkpoint stayed there
    if name == "pad_token_id":
        return theirs is not None
    return bool(ours == theirs)


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """A language model's config without what is about its file."""
    fields = dict(record)
    config: PreTrainedConfig = AutoConfig.for_model(fields.pop("model_type", "llama"), **fields)
    return {k: v for k, v in config.to_diff_dict().items() if k not in _ABOUT_THE_FILE}
