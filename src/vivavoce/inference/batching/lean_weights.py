"""The weights of a Llama-like model as a few fused matrices, and the checks that it is one.

Letters: D width, H query heads, G key-value heads, d head width, P positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM

FAMILY = (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM)
ROPES = ("default", "linear", "llama3", "yarn")  # angles that hang on the position alone
_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
_NETWORK = ("gate_proj", "up_proj", "down_proj")


def why_not(model: Any) -> str:
    """What about a causal LM is not as the lean step has it; "" if nothing is."""
    if type(model) not in FAMILY:
        return f"{type(model).__name__} is not of the Llama family"
    config, inner = model.config, model.model
    if config.hidden_act not in ("silu", "swish"):
        return f"activation {config.hidden_act}"
    if getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True):
        return "a sliding window"
    if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ()):
        return "layers of several kinds"
    if getattr(inner.rotary_emb, "rope_type", None) not in ROPES:
        return f"positions of type {getattr(inner.rotary_emb, 'rope_type', None)}"
    if inner.rotary_emb.inv_freq.shape[0] * 2 != inner.layers[0].self_attn.head_dim:
        return "rotary positions of a part of each head"
    if model.training and config.attention_dropout:
        return "dropout"
    for name, module in model.named_modules():
        if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
            return f"a hook on {name or 'the model'}"
    for i, layer in enumerate(inner.layers):
        parts = [getattr(layer.self_attn, n) for n in _PROJECTIONS] + [
            getattr(layer.mlp, n) for n in _NETWORK
        ]
        if any(type(part) is not nn.Linear or type(part.weight) is not nn.Parameter for part in parts):
            return f"linear layers of another kind in layer {i} (adapters, quantised)"
    if type(model.lm_head) is not nn.Linear or type(inner.embed_tokens) is not nn.Embedding:
        return "an embedding or head of another kind"
    places = {(p.device, p.dtype) for p in model.parameters()}
    return "" if len(places) == 1 and next(iter(places))[1].is_floating_point else "weights in several places"


@dataclass(frozen=True, eq=False, slots=True)
class LeanLayer:
    """One layer; ``qkv`` is [(H + 2 G) d, D], ``gate_up`` [2 I, D]."""

    norm_in: Tensor
    qkv: Tensor
    qkv_bias: Tensor | None
    norm_q: Tensor | None
    norm_k: Tensor | None
    out: Tensor
    out_bias: Tensor | None
    norm_out: Tensor
    gate_up: Tensor
    gate_up_bias: Tensor | None
    down: Tensor
    down_bias: Tensor | None


class LeanWeights:
    """Fused weights of a model, which become the storage of its own parameters.

    The parameters are made views of the fused matrices: nothing is held twice, and what changes them in place
    (training, loading a state) changes both. Moving the model elsewhere parts them, which ``current`` sees.

    Args:
        model: ``why_not`` found nothing against it.
    """

    def __init__(self, model: Any) -> None:
        inner, config = model.model, model.config
        attention = inner.layers[0].self_attn
        self.head_dim: int = attention.head_dim
        self.num_heads: int = config.num_attention_heads
        self.num_key_heads: int = config.num_key_value_heads
        self.scale: float = attention.scaling
        self.eps: float = inner.norm.variance_epsilon
        self.width, self.head_width = (config.hidden_size,), (self.head_dim,)
        with torch.inference_mode(False), torch.no_grad():
            self.layers = [_layer(layer) for layer in inner.layers]
        self.num_layers = len(self.layers)
        self.table, self.norm = inner.embed_tokens.weight.detach(), inner.norm.weight.detach()
        self.head = model.lm_head.weight.detach()
        self.head_bias = None if model.lm_head.bias is None else model.lm_head.bias.detach()
        self._rotary = inner.rotary_emb
        self._places = _places(model)
        self._cos = self._sin = self.norm.new_empty(0, self.head_dim)

    def current(self, model: Any) -> bool:
        """Whether the model still computes with these weights and nothing else."""
        return _places(model) == self._places and not why_not(model)

    def angles(self, starts: list[int], counts: list[int]) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines [N, 1, d] of the new positions of each row."""
        most = max(start + count for start, count in zip(starts, counts, strict=True))
        if most > len(self._cos):
            self._grow(1 << max(9, (most - 1).bit_length()))
        if len(starts) == 1:
            at: Any = slice(starts[0], starts[0] + counts[0])
        else:
            at = torch.tensor([s + i for s, c in zip(starts, counts, strict=True) for i in range(c)])
        return self._cos[at, None], self._sin[at, None]

    def _grow(self, size: int) -> None:
        positions = torch.arange(size, device=self.norm.device)[None]
        cos, sin = self._rotary(self.norm, positions)
        self._cos = cos[0]
        half = self.head_dim // 2  # a half turned by "roll" takes the sign that "rotate half" gives it
        self._sin = torch.cat([-sin[0, :, :half], sin[0, :, half:]], dim=-1)


def _layer(layer: Any) -> LeanLayer:
    attention, network = layer.self_attn, layer.mlp
    norm_q, norm_k = getattr(attention, "q_norm", None), getattr(attention, "k_norm", None)
    qkv, qkv_bias = _fuse(attention.q_proj, attention.k_proj, attention.v_proj)
    gate_up, gate_up_bias = _fuse(network.gate_proj, network.up_proj)
    out, down = attention.o_proj, network.down_proj
    return LeanLayer(
        layer.input_layernorm.weight.detach(),
        qkv,
        qkv_bias,
        None if norm_q is None else norm_q.weight.detach(),
        None if norm_k is None else norm_k.weight.detach(),
        out.weight.detach(),
        None if out.bias is None else out.bias.detach(),
        layer.post_attention_layernorm.weight.detach(),
        gate_up,
        gate_up_bias,
        down.weight.detach(),
        None if down.bias is None else down.bias.detach(),
    )


def _fuse(*linears: nn.Linear) -> tuple[Tensor, Tensor | None]:
    """One weight and bias for several linears of one input, which go on with parts of them."""
    made: list[Tensor | None] = []
    for name in ("weight", "bias"):
        parts = [getattr(linear, name) for linear in linears]
        if parts[0] is None:
            made.append(None)
            continue
        fused = torch.cat([part.data for part in parts])
        for part, piece in zip(parts, fused.split([len(part) for part in parts]), strict=True):
            part.data = piece
        made.append(fused)
    assert made[0] is not None
    return made[0], made[1]


def _places(model: Any) -> tuple[int, ...]:
    return tuple(parameter.data_ptr() for parameter in model.parameters())
