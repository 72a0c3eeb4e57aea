"""Low-rank adapters inside the language model or the encoder: put in, scaled, merged, told from base weights.

The layers are peft's, put in place of the linear layers they adapt, so that PEFT, trainers and quantised bases
work as people expect. In a model an adapted layer ``q_proj`` has ``q_proj.base_layer.weight`` and
``q_proj.lora_A.default.weight``; stored, the base keeps its plain name ``q_proj.weight``, so that it fits whether
adapters are there or not.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from vivavoce.base.errors import ConfigError, MissingExtraError, ModelError
from vivavoce.models.config import ADAPTED_PARTS, EmbeddingsIn, Lora
from vivavoce.models.references import without_references

if TYPE_CHECKING:
    from vivavoce.models.speech_lm import SpeechLM

ADAPTER = "default"
_MARK = re.compile(r"\.lora_[A-Za-z_]+\.")


def is_adapter(name: str) -> bool:
    """Whether a parameter's name is of an adapter."""
    return _MARK.search(name) is not None


def plain_name(name: str) -> str:
    """The name that a base weight has where no adapter is around it."""
    return name.replace(".base_layer.", ".")


def add_lora(model: SpeechLM, part: str, lora: Lora) -> None:
    """Put fresh adapters into a part; its outputs stay as they are until the adapters are trained.

    The part's own weights stop asking for gradients, the adapters' ask for them. They have the dtype and device of
    the layers they adapt.

    Args:
        model: Its ``config.lora`` records the adapters.
        part: "language_model" or "audio_encoder".
        lora: Rank, scale and targets; every target must match a layer.

    Raises:
        ConfigError: Unknown part, targets that match nothing, or layers that cannot be adapted.
        ModelError: The model has no such part, or the part is adapted already.
        MissingExtraError: peft is not installed.
    """
    module = _part(model, part)
    if _layers(module):
        raise ModelError(f"{part} has adapters already; merge_lora them first, or set_lora_scale.")
    inject(module, part, lora)
    model.config.lora = {**model.config.lora, part: lora}


def inject(module: nn.Module, part: str, lora: Lora) -> None:
    """Put adapters into a module; ``part`` is its name for messages. See ``add_lora``."""
    _check_targets(module, part, lora.targets)
    if find_spec("peft") is None:
        raise MissingExtraError(f"adapters of {part} need peft: pip install 'vivavoce[lora]'.")
    from peft import LoraConfig, inject_adapter_in_model

    wanted = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        target_modules=list(lora.targets),
        lora_dropout=lora.dropout,
    )
    try:
        inject_adapter_in_model(wanted, module, ADAPTER)
    except ValueError as error:
        raise ConfigError(f"{part} cannot be adapted at {', '.join(lora.targets)}: {error}") from error


def set_lora_scale(model: SpeechLM, part: str, alpha: float) -> None:
    """Weigh a part's adapters by ``alpha / rank`` from now on; 0 turns them off.

    A run-time setting: ``config.lora``, and what is saved, keep the alpha they were trained with.

    Raises:
        ModelError: The part has no adapters.
    """
    for _, layer in _adapted(model, part):
        layer.scaling[ADAPTER] = alpha / layer.r[ADAPTER]


@contextmanager
def adapters_off(module: nn.Module) -> Iterator[None]:
    """Let a module, a part or a layer, compute as if it had no adapters; nothing else about them changes."""
    layers: list[Any] = [layer for _, layer in _layers(module)]
    before = [layer._disable_adapters for layer in layers]
    try:
        for layer in layers:
            layer._disable_adapters = True
        yield
    finally:
        for layer, was in zip(layers, before, strict=True):
            layer._disable_adapters = was


def lora_parameters(model: SpeechLM, part: str) -> list[nn.Parameter]:
    """The parameters of a part's adapters.

    Raises:
        ModelError: The part has no adapters.
    """
    _adapted(model, part)
    return [p for name, p in _part(model, part).named_parameters() if is_adapter(name)]


def merge_lora(model: SpeechLM, part: str | None = None) -> None:
    """Add adapters, at their present scale, to the weights they adapt and take them out.

    A merged part is no longer what its reference names, so the reference is taken out of the config as well: the
    part is then stored with the model.

    Args:
        model: Changed in place.
        part: "language_model" or "audio_encoder"; None for all that have adapters.

    Raises:
        ModelError: No adapters, a quantised or absent base, or adapters with NaN; names the layer.
    """
    for name in [part] if part is not None else list(model.config.lora):
        _merge(model, name)


def _merge(model: SpeechLM, part: str) -> None:
    module, layers = _part(model, part), _adapted(model, part)
    for name, layer in layers:
        weight = layer.get_base_layer().weight
        if weight.is_meta:
            raise ModelError(
                f"{part} was read without its weights, so nothing can be merged; load it with them."
            )
        if not weight.is_floating_point():
            raise ModelError(
                f"{name} of {part} is quantised; adapters are merged into plain weights: load the model without "
                "quantize."
            )
    for name, layer in layers:
        try:
            layer.merge(safe_merge=True)
        except ValueError as error:
            raise ModelError(f"{part} cannot be merged at {name}: {error}") from error
        owner, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(owner), leaf, layer.get_base_layer())
    if hasattr(module, "peft_config"):
        del module.peft_config
    config = model.config
    config.lora = {k: v for k, v in config.lora.items() if k != part}
    config.fingerprints = {k: v for k, v in config.fingerprints.items() if k.split(".")[0] != part}
    if part == "language_model":
        config.text_model_ref = None
    elif isinstance(config.audio_in, EmbeddingsIn):
        config.audio_in = without_references(config.audio_in)


def _part(model: SpeechLM, part: str) -> nn.Module:
    if part not in ADAPTED_PARTS:
        raise ConfigError(f"adapters of {part!r}: wanted {' or '.join(map(repr, ADAPTED_PARTS))}.")
    module = getattr(model, part)
    if module is None:
        raise ModelError(f"the model has no {part}, or it is not attached yet.")
    found: nn.Module = module
    return found


def _layers(module: nn.Module) -> list[tuple[str, Any]]:
    return [(name, layer) for name, layer in module.named_modules() if hasattr(layer, "lora_A")]


def _adapted(model: SpeechLM, part: str) -> list[tuple[str, Any]]:
    """Names and layers of a part that have adapters."""
    found = _layers(_part(model, part))
    if not found:
        raise ModelError(
            f"{part} has no adapters; config.lora names {', '.join(model.config.lora) or 'none'}."
        )
    return found


def _check_targets(module: nn.Module, part: str, targets: tuple[str, ...]) -> None:
    """Refuse targets that match nothing, instead of adapting less than was asked for."""
    names = [name for name, _ in module.named_modules() if name]
    leaves = sorted(set(_leaves(module)))
    faults = []
    for target in targets:
        if any(name == target or name.endswith("." + target) for name in names):
            continue
        near = difflib.get_close_matches(target, leaves, n=3, cutoff=0.4)
        hint = f"nearest: {', '.join(near)}" if near else f"there are {', '.join(leaves[:12])}"
        faults.append(f"{target!r} ({hint})")
    if faults:
        raise ConfigError(f"lora.{part}.targets match no layer of it: {'; '.join(faults)}.")


def _leaves(module: nn.Module) -> Iterator[str]:
    """Last words of the names of layers that have a weight matrix."""
    for name, layer in module.named_modules():
        weight = getattr(layer, "weight", None)
        if name and isinstance(weight, Tensor) and weight.dim() >= 2:
            yield name.rpartition(".")[2]
