"""Parts whose weights are stored elsewhere: which they are, by the names of their parameters."""

from __future__ import annotations

import copy
import dataclasses
import re
from typing import TYPE_CHECKING, Any

from vivavoce.models.config import EmbeddingsIn, SpeechLMConfig

if TYPE_CHECKING:
    from vivavoce.models.speech_lm import SpeechLM

TEXT = "language_model."
ENCODER = "audio_encoder."


def references(model: SpeechLM) -> dict[str, str]:
    """Prefix of parameters -> hub id, folder or file of the weights, for parts that are stored by reference.

    Prefixes are such as "language_model.", "audio_encoder." or, for one of two encoders, "audio_encoder.first.".
    """
    found = {TEXT: model.config.text_model_ref} if model.config.text_model_ref else {}
    if model.audio_encoder is not None and encoder_refs(model.config):
        named: dict[str, str] = getattr(model.audio_encoder, "references", dict)()
        found |= {ENCODER + prefix: reference for prefix, reference in named.items()}
    return found


def encoder_refs(config: SpeechLMConfig) -> dict[str, str]:
    """Path of a record within ``audio_in.encoder`` ("" for itself, "first") -> its reference."""
    return _refs(config.audio_in.encoder) if isinstance(config.audio_in, EmbeddingsIn) else {}


def _refs(record: dict[str, Any], where: str = "") -> dict[str, str]:
    found = {where: record["ref"]} if record.get("ref") else {}
    for name, value in record.items():
        if isinstance(value, dict) and "type" in value:
            found |= _refs(value, f"{where}.{name}".lstrip("."))
    return found


def without_references(ears: EmbeddingsIn) -> EmbeddingsIn:
    """How the model hears, with an encoder that is stored with it."""
    return dataclasses.replace(ears, encoder=_unref(ears.encoder))


def _unref(record: dict[str, Any]) -> dict[str, Any]:
    kept = {name: _unref(v) if isinstance(v, dict) and "type" in v else v for name, v in record.items()}
    return {name: v for name, v in kept.items() if name != "ref"}


def expect_elsewhere(model: SpeechLM, prefix: str) -> None:
    """Tell transformers' loader that a part's weights come later: none are missing, and none need random values."""
    model._keys_to_ignore_on_load_missing.add("^" + re.escape(prefix))  # type: ignore[union-attr]
    for module in model.get_submodule(part_of(prefix)).modules():
        weights = module._parameters
        if "masked_spec_embed" not in weights and any(p is not None and p.is_meta for p in weights.values()):
            module._is_hf_initialized = True  # type: ignore[assignment]


def bundled(config: SpeechLMConfig) -> SpeechLMConfig:
    """A copy of a config that refers to nothing."""
    made = copy.deepcopy(config)
    made.text_model_ref, made.fingerprints = None, {}
    if isinstance(made.audio_in, EmbeddingsIn):
        made.audio_in = without_references(made.audio_in)
    return made


def part_of(prefix: str) -> str:
    """A prefix as the name of a part, as in ``config.fingerprints``: without its last dot."""
    return prefix.rstrip(".")
