"""Models from disk, or from tensors that an importer renamed: stored parts, named parts and adapters together."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vivavoce.base.errors import CheckpointError
from vivavoce.models.config import SpeechLMConfig
from vivavoce.models.fingerprint import check_weights
from vivavoce.models.lora import inject, is_adapter, plain_name
from vivavoce.models.references import ENCODER, encoder_refs, part_of, references
from vivavoce.models.saving import remember_weights
from vivavoce.models.weights import (
    HUB_ARGUMENTS,
    load_adapters,
    load_reference,
    raise_on_faults,
    restore_buffers,
    stored_tensors,
)

if TYPE_CHECKING:
    from vivavoce.models.speech_lm import SpeechLM

_OF_THE_FOLDER = (*HUB_ARGUMENTS, "force_download", "revision", "subfolder")


def assemble(
    config: SpeechLMConfig,
    tensors: Mapping[str, Tensor],
    where: str,
    *,
    with_parts: bool = True,
    folder: Path | None = None,
    accept_other: bool = False,
    **weights: Any,
) -> SpeechLM:
    """Make a model of tensors under our names; importers of published forms end here.

    Parts that the config names (``text_model_ref``, ``ref`` of an encoder) are loaded from there and must not be among
    the tensors; adapters (``config.lora``) must be, for all parts.

    Args:
        config: What to build.
        tensors: Name -> value. Base weights have plain names (``q_proj.weight``, or with ``.base_layer.``).
        where: The checkpoint, for messages.
        with_parts: False leaves named parts out, without loading anything: their weights are on the meta device.
            Such a model can be saved by reference and exported, and not run.
        folder: Where relative references are looked for first.
        accept_other: As in ``SpeechLM.from_pretrained``.
        weights: ``dtype``, ``device_map``, ``quantization_config`` and the like.

    Returns:
        The model, in ``eval`` mode.

    Raises:
        CheckpointError: Tensors are missing, unexpected or of another shape, or a named part is another than was
            recorded.
        ModelError: A named part cannot be had.
    """
    from vivavoce.models.speech_lm import SpeechLM

    plain = {plain_name(name): tensor for name, tensor in tensors.items()}
    if not with_parts:
        return _without_parts(config, plain, where)
    model: SpeechLM = SpeechLM.from_pretrained(
        None,
        config=config,
        state_dict=plain,
        where=where,
        folder=folder,
        accept_other=accept_other,
        **weights,
    )
    model.generation_config = model.language_model.generation_config
    return model


def _without_parts(config: SpeechLMConfig, tensors: dict[str, Tensor], where: str) -> SpeechLM:
    from vivavoce.models.speech_lm import SpeechLM

    with torch.device("meta"):
        model = SpeechLM(config)
    named = tuple(references(model))
    own = {plain_name(name): (name, tensor) for name, tensor in model.state_dict().items()}
    needed = {n for n in own if is_adapter(n) or not n.startswith(named)} if named else own.keys()
    tied = {plain_name(name) for name in model.all_tied_weights_keys}
    other = [n for n in needed & tensors.keys() if own[n][1].shape != tensors[n].shape]
    raise_on_faults(
        {
            "missing_keys": needed - tensors.keys() - tied,
            "unexpected_keys": tensors.keys() - needed,
            "mismatched_keys": other,
        },
        where,
    )
    model.load_state_dict({own[n][0]: t for n, t in tensors.items()}, strict=False, assign=True)
    model.tie_weights()
    restore_buffers(model)
    return model.eval()


def read_model(
    parent: Callable[..., Any],
    source: Any,
    config: SpeechLMConfig | None,
    positional: tuple[Any, ...],
    arguments: dict[str, Any],
) -> tuple[SpeechLM, dict[str, Any]]:
    """Do the work of ``SpeechLM.from_pretrained``.

    Args:
        parent: transformers' own ``from_pretrained``.
        source: Folder or hub id; None with ``state_dict``.
        config: Instead of the stored one.
        positional: Further positional arguments.
        arguments: Keyword arguments.

    Returns:
        The model and transformers' loading info.
    """
    state = arguments.get("state_dict")
    where, folder = arguments.pop("where", None) or str(source), arguments.pop("folder", None)
    accept_other = arguments.pop("accept_other", False)
    hub = {name: arguments[name] for name in _OF_THE_FOLDER if name in arguments}
    config = SpeechLMConfig.from_pretrained(source, **hub) if config is None else copy.deepcopy(config)
    stored: dict[str, Callable[[], Tensor]] = {}
    for_text = dict(arguments)
    if config.text_model_ref:
        arguments["defer_text_model"] = True
        arguments.pop("quantization_config", None)  # a matter of the text model alone
    if config.lora:
        arguments["defer_lora"] = True
    if accept_other:
        config.fingerprints = {}
    arguments["ignore_mismatched_sizes"] = True  # so that they reach raise_on_faults with their names
    try:
        model, info = parent(source, *positional, config=config, output_loading_info=True, **arguments)
    except RuntimeError as error:
        raise CheckpointError(f"{where}: {error}") from error
    raise_on_faults(info, where)
    if config.lora or encoder_refs(config):
        if state is not None:
            stored = {name: partial(state.__getitem__, name) for name in state}
        else:
            stored = stored_tensors(str(source), hub)
    beside = folder or Path(source or ".")
    _load_named_parts(model, stored, beside, where, for_text)
    restore_buffers(model)
    for part, lora in config.lora.items():
        if not (part == "language_model" and config.text_model_ref):  # that one came with its text model
            inject(getattr(model, part), part, lora)
    if config.lora or any(map(is_adapter, stored)):
        as_stored = arguments.get("dtype", arguments.get("torch_dtype")) in (None, "auto")
        load_adapters(model, stored, where, keep_dtype=as_stored)
    named = [part_of(prefix) for prefix in references(model)]
    remember_weights(model, *{"language_model", "audio_encoder", *named})
    return model.eval(), info


def _load_named_parts(
    model: SpeechLM, stored: Mapping[str, Any], folder: Path, where: str, arguments: dict[str, Any]
) -> None:
    """Load what the config names instead of storing."""
    for prefix, reference in references(model).items():
        part = part_of(prefix)
        twice = [n for n in stored if n.startswith(prefix) and not is_adapter(n)]
        if twice:
            raise CheckpointError(
                f"{where} names {reference!r} for the weights of {part} and stores {len(twice)} of them too "
                f"({twice[0]}); take the reference out of its config.json, or the tensors out of the file."
            )
        if not prefix.startswith(ENCODER):
            model.attach_text_model(load_reference(reference, folder, arguments))
            continue
        hub = {name: arguments[name] for name in HUB_ARGUMENTS if name in arguments}
        model.audio_encoder.load_reference(prefix.removeprefix(ENCODER), folder, **hub)
        recorded = model.config.fingerprints.get(part)
        check_weights(recorded, model.get_submodule(part), part, reference, where)
