"""What of a model is written to disk, and what is only named there."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from vivavoce.base.errors import ModelError
from vivavoce.models import ENCODERS
from vivavoce.models.config import EmbeddingsIn, SpeechLMConfig, build_part
from vivavoce.models.fingerprint import UNKNOWN, fingerprint, same_weights
from vivavoce.models.lora import is_adapter, plain_name
from vivavoce.models.references import ENCODER, TEXT, bundled, part_of, references

if TYPE_CHECKING:
    from vivavoce.models.speech_lm import SpeechLM

BACKBONES = ("merged", "reference")


@dataclass
class AsLoaded:
    """What a part's weights were when they came into the model, to notice that they were trained since.

    Attributes:
        fingerprint: Of the weights.
        versions: Parameter's name -> (the object's id, how often it was written to).
    """

    fingerprint: str
    versions: dict[str, tuple[int, int]] = field(default_factory=dict)


def remember_weights(model: SpeechLM, *parts: str) -> None:
    """Note the weights of parts that have just been loaded; costs milliseconds."""
    for part in parts:
        module = model.get_submodule(part) if getattr(model, part.split(".")[0]) is not None else None
        if module is not None and not _is_absent(module):
            model.as_loaded[part] = _note(module)


def _note(part: nn.Module) -> AsLoaded:
    own = {plain_name(n): p for n, p in part.named_parameters() if not is_adapter(n) and not p.is_inference()}
    versions = {name: (id(p), p._version) for name, p in own.items()}
    return AsLoaded(fingerprint(part), versions)


def _is_absent(part: nn.Module) -> bool:
    """Whether a part was built without its weights, or some of them are offloaded."""
    own = [p for n, p in part.named_parameters() if not is_adapter(n)]
    return not own or any(p.is_meta for p in own)


@contextmanager
def stored_form(
    model: SpeechLM, backbone: str | None, state: Mapping[str, Tensor] | None
) -> Iterator[dict[str, Tensor]]:
    """Give the tensors to write, while ``model.config`` is the config to write.

    Args:
        model: What is saved.
        backbone: As in ``SpeechLM.save_pretrained``.
        state: Instead of the model's own state dict.

    Raises:
        ModelError: As in ``SpeechLM.save_pretrained``.
    """
    named = references(model)
    backbone = backbone or ("reference" if named else "merged")
    if backbone not in BACKBONES:
        raise ModelError(f"backbone is {backbone!r}, wanted 'merged' or 'reference'.")
    if backbone == "reference" and not named:
        raise ModelError(
            'backbone="reference" stores the names of parts instead of their weights; set '
            "config.text_model_ref, or ref of the encoder, to a hub id or a folder first."
        )
    tensors = dict(model.state_dict() if state is None else state)
    config, quantizer = model.config, getattr(model, "hf_quantizer", None)
    if backbone == "reference":
        stored = copy.deepcopy(config)
        stored.fingerprints = _fingerprints(model, named, tensors)
        left_out = tuple(named)
        tensors = {n: t for n, t in tensors.items() if is_adapter(n) or not n.startswith(left_out)}
        _drop_quantization(stored, TEXT in named)
    else:
        stored = bundled(config)
        _refuse_quantised(model, quantizer)
    absent = [n for n, t in tensors.items() if t.is_meta] if not hasattr(model, "hf_device_map") else []
    if absent:
        raise ModelError(
            f"{absent[0].split('.')[0]} was read without its weights, so they cannot be written; load the model "
            'with them, or save it with backbone="reference".'
        )
    model.config = stored
    # what is named has plain weights; how those in memory are quantised is not written
    model.hf_quantizer = None if backbone == "reference" and TEXT in named else quantizer  # type: ignore[assignment]
    try:
        yield {plain_name(name): tensor for name, tensor in tensors.items()}
    finally:
        model.config = config
        model.hf_quantizer = quantizer  # type: ignore[assignment]


def _fingerprints(model: SpeechLM, named: Mapping[str, str], tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Fingerprints of the parts that are left out, once it is sure that nothing trained is lost with them."""
    found = dict(model.config.fingerprints)
    for prefix, reference in named.items():
        part = part_of(prefix)
        own = {
            n.removeprefix(prefix): t
            for n, t in tensors.items()
            if n.startswith(prefix) and not is_adapter(n)
        }
        if not own or any(t.is_meta for t in own.values()):
            continue  # not loaded, so not changed
        now, module = fingerprint(own), model.get_submodule(part)
        before = model.as_loaded.get(part)
        trainable = any(p.requires_grad for n, p in module.named_parameters() if not is_adapter(n))
        if before is None and prefix.startswith(ENCODER) and trainable:
            before = AsLoaded(_published(model, prefix, reference))
        if before is not None and (not same_weights(now, before.fingerprint) or _was_trained(module, before)):
            raise ModelError(
                f"the weights of {part} were changed since they were loaded, and a reference to {reference!r} would "
                'lose that; save with backbone="merged" (or, for adapters, merge nothing and add_lora instead).'
            )
        recorded = found.get(part, "").partition(" ")[0]
        if not (
            now.endswith(UNKNOWN) and recorded and same_weights(now, recorded)
        ):  # 4-bit weights tell less
            found[part] = f"{now} {reference}"
    return {part: value for part, value in found.items() if part in map(part_of, named)}


def _published(model: SpeechLM, prefix: str, reference: str) -> str:
    """Fingerprint of an encoder as its reference has it, for one that was loaded by hand and may be trained."""
    assert isinstance(model.config.audio_in, EmbeddingsIn)
    encoder = build_part(ENCODERS, model.config.audio_in.encoder, "audio_in.encoder")
    try:
        encoder.load_reference(prefix.removeprefix(ENCODER), Path(model.name_or_path or "."))
    except ModelError as error:
        raise ModelError(
            f"whether the weights of {part_of(prefix)} are still those of {reference!r} cannot be checked: {error} "
            'Freeze them if they were not trained, or save with backbone="merged".'
        ) from error
    dtype = next(model.get_submodule(part_of(prefix)).parameters()).dtype
    return fingerprint(encoder.get_submodule(part_of(prefix).partition(".")[2]).to(dtype))


def _was_trained(module: nn.Module, before: AsLoaded) -> bool:
    """Whether an optimizer wrote to a weight, which a sample of values may miss (a few rows of a table)."""
    for name, parameter in module.named_parameters():
        identity, version = before.versions.get(plain_name(name), (0, 0))
        if parameter.requires_grad and identity == id(parameter) and version != parameter._version:
            return True
    return False


def _drop_quantization(config: SpeechLMConfig, text: bool) -> None:
    """4-bit weights are a choice of who loads; a reference names the plain ones."""
    for part in (config, config.text_config) if text else ():
        if hasattr(part, "quantization_config"):
            del part.quantization_config


def _refuse_quantised(model: SpeechLM, quantizer: Any) -> None:
    text = model.language_model
    inner = text is not None and getattr(text, "hf_quantizer", None) is not None
    if inner or (quantizer is not None and model.config.lora):
        raise ModelError(
            "the language model is quantised; everything together is written from plain weights: load the model "
            'without quantize, or save it with backbone="reference".'
        )
