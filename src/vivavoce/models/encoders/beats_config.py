"""Sizes of BEATs, and how they are read from an official checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vivavoce.base.errors import ConfigError
from vivavoce.base.records import read_record

MELS = 128  # mel bins of the filter bank

# what the official code assumes where a checkpoint's cfg is silent
_SILENT = {
    "deep_norm": False,
    "max_distance": 1280,
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "predictor_dropout": 0.1,
    "finetuned_model": False,
}
# what every published checkpoint says, and the only form built here; where a cfg is silent, its tensors tell
_FIXED = {"layer_norm_first": False, "relative_position_embedding": True, "gru_rel_pos": True}


@dataclass(frozen=True)
class BeatsConfig:
    """Sizes of BEATs, under the names of the official cfg; defaults are the published iter3+ AS2M model's.

    Attributes:
        input_patch_size: Frames, and mel bins, of a patch.
        embed_dim: Width of a patch's embedding, before ``post_extract_proj``.
        conv_pos: Taps of the convolution that gives positions.
        num_buckets: Rows of the table of relative positions.
        max_distance: Tokens; distances from here on share a bucket.
        deep_norm: Weigh residuals by ``(2 * encoder_layers) ** 0.25``.
        finetuned_model: There is a head that tells ``predictor_class`` kinds of sound.
        dropout: This and the other dropouts act in training only; published models were trained with some, a
            frozen encoder should have none.
        ref: Hub id, folder or file of published weights, when they are not stored with the model. A hub id
            may name a file: "owner/name/file.pt".
    """

    input_patch_size: int = 16
    embed_dim: int = 512
    conv_bias: bool = False
    encoder_layers: int = 12
    encoder_embed_dim: int = 768
    encoder_ffn_embed_dim: int = 3072
    encoder_attention_heads: int = 12
    activation_fn: Literal["gelu", "relu"] = "gelu"
    conv_pos: int = 128
    conv_pos_groups: int = 16
    num_buckets: int = 320
    max_distance: int = 800
    deep_norm: bool = True
    finetuned_model: bool = True
    predictor_class: int = 527
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    encoder_layerdrop: float = 0.0
    dropout_input: float = 0.0
    predictor_dropout: float = 0.0
    ref: str | None = None

    def __post_init__(self) -> None:
        sizes = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.type == "int"}
        faults = [f"{name} is {size}, wanted 1 or more" for name, size in sizes.items() if size < 1]
        if not faults:
            whole = {
                "encoder_attention_heads": (self.encoder_embed_dim, self.encoder_attention_heads),
                "conv_pos_groups": (self.encoder_embed_dim, self.conv_pos_groups),
                "input_patch_size": (MELS, self.input_patch_size),
                "num_buckets": (self.num_buckets, 4),
            }
            faults = [f"{name}: {a} is no multiple of {b}" for name, (a, b) in whole.items() if a % b]
            if self.max_distance <= self.num_buckets // 4:
                faults.append(f"max_distance is {self.max_distance}, wanted over {self.num_buckets // 4}")
        if self.activation_fn not in ("gelu", "relu"):
            faults.append(f"activation_fn is {self.activation_fn!r}, wanted 'gelu' or 'relu'")
        if faults:
            raise ConfigError("; ".join(faults) + ".")

    @classmethod
    def from_official(cls, cfg: Mapping[str, Any]) -> BeatsConfig:
        """Read the ``cfg`` of an official checkpoint; settings that change nothing here are dropped.

        Raises:
            ConfigError: A form that no published BEATs has (norms first, no gated relative positions), or
                values of a wrong type or range.
        """
        values = {**_SILENT, **cfg}
        faults = [
            f"{name} is {values[name]!r}, and this BEATs is built for {wanted!r} only, as every published one is"
            for name, wanted in _FIXED.items()
            if name in values and bool(values[name]) != wanted
        ]
        if faults:
            raise ConfigError("; ".join(faults) + ".")
        names = {f.name for f in dataclasses.fields(cls)}
        return read_record(cls, {k: v for k, v in values.items() if k in names}, "BEATs cfg")
