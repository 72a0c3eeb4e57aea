"""The models of a sweep: a recipe's language model at other widths and depths, and what they count."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from vivavoce.base.errors import ConfigError
from vivavoce.evaluation.scaling.sweep import SizeRule
from vivavoce.training.config import ModelSettings, TrainConfig
from vivavoce.training.shapes import shape_of
from vivavoce.training.speed import flops_per_token


@dataclass(frozen=True)
class Size:
    """One model of a sweep.

    Attributes:
        name: For folders.
        model: What a recipe says of it.
        width, layers: Of the language model.
        n: Parameters without token tables.
        n_total: With them, and with ears.
        fixed_flops, length_flops: A token costs ``fixed + length_flops * length`` in training.
    """

    name: str
    model: ModelSettings
    width: int
    layers: int
    n: int
    n_total: int
    fixed_flops: float
    length_flops: float

    def flops(self, tokens: float, length: float) -> float:
        """Training on so many tokens in documents of this mean length."""
        return tokens * (self.fixed_flops + self.length_flops * length)


def build_sizes(rule: SizeRule, config: TrainConfig, folder: Path) -> list[Size]:
    """Make the models of a sweep, and count them by their shapes alone.

    Args:
        rule: Widths, or models by name.
        config: The recipe.
        folder: Configs of language models that are no `TinyLLM` are written to its ``models/``.

    Raises:
        ConfigError: The recipe's model cannot be made in other sizes.
    """
    if rule.models:
        named = [(Path(name).name, _named(config.model, name)) for name in rule.models]
    else:
        named = [(f"w{width}", _wide(config.model, rule, width, folder)) for width in rule.widths]
    return [_counted(name, model, config) for name, model in named]


def _named(model: ModelSettings, name: str) -> ModelSettings:
    return replace(model, start=name) if model.start is not None else replace(model, llm=name)


def _wide(model: ModelSettings, rule: SizeRule, width: int, folder: Path) -> ModelSettings:
    heads = width // rule.head_size
    if isinstance(model.llm, Mapping):
        share = model.llm.get("num_heads", 4) // model.llm.get("num_key_value_heads", 2)
        sizes = {"hidden_size": width, "num_layers": rule.depth(width), "num_heads": heads}
        return replace(model, llm={**model.llm, **sizes, "num_key_value_heads": _part(heads, share)})
    if model.llm is None:
        raise ConfigError(
            f"the recipe goes on with {model.start}, whose width is what it is; give sizes.models, folders or hub ids "
            "of models of several sizes, or a recipe with model.llm."
        )
    return replace(
        model, llm=str(_config_folder(model.llm, rule, width, folder / "models")), random_weights=True
    )


def _part(heads: int, share: int) -> int:
    """Key-value heads: the share of the recipe, or the nearest that divides the heads."""
    return next(n for n in range(max(1, heads // max(1, share)), heads + 1) if heads % n == 0)


def _config_folder(llm: str, rule: SizeRule, width: int, folder: Path) -> Path:
    """Write the config of a language model at another width, with its tokenizer."""
    from transformers import AutoConfig, AutoTokenizer

    out = folder / f"w{width}"
    config = copy.deepcopy(AutoConfig.from_pretrained(llm))
    if config.get_text_config() is not config:
        raise ConfigError(f"{llm} has a config within its config; give sizes.models instead of sizes.widths.")
    heads, layers = width // rule.head_size, rule.depth(width)
    before = config.hidden_size, config.num_attention_heads
    config.intermediate_size = max(8, round(config.intermediate_size * width / before[0] / 8) * 8)
    share = before[1] // (getattr(config, "num_key_value_heads", None) or before[1])
    config.hidden_size, config.num_attention_heads, config.num_hidden_layers = width, heads, layers
    if getattr(config, "num_key_value_heads", None):
        config.num_key_value_heads = _part(heads, share)
    if getattr(config, "head_dim", None):
        config.head_dim = rule.head_size
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[i % len(config.layer_types)] for i in range(layers)]
    config.save_pretrained(out)
    AutoTokenizer.from_pretrained(llm).save_pretrained(out)
    return out


def _counted(name: str, model: ModelSettings, config: TrainConfig) -> Size:
    shape = shape_of(replace(config, model=model))
    if shape is None:
        raise ConfigError(
            f"{name} is a published form of ears, whose size only its weights tell; convert it."
        )
    language_model = shape.language_model
    tables = {
        id(layer.weight): layer.weight.numel()
        for layer in (language_model.get_input_embeddings(), language_model.get_output_embeddings())
    }
    text = language_model.config.get_text_config()
    fixed = flops_per_token(language_model, 0)
    return Size(
        name,
        model,
        text.hidden_size,
        text.num_hidden_layers,
        sum(p.numel() for p in language_model.parameters()) - sum(tables.values()),
        sum(p.numel() for p in shape.parameters()),
        fixed,
        flops_per_token(language_model, 1) - fixed,
    )
