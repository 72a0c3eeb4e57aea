"""Layers of BEATs: gated relative-position attention, deep-norm transformer layers, convolutional positions.

Module and parameter names are those of the published checkpoints.

Letters: N clips, L tokens, D width, H heads, d width of a head.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import ACT2FN


class PositionConv(nn.Module):
    """Grouped convolution over tokens whose weight is stored as norm and direction.

    The norm is one number per tap of the kernel (``weight_g`` [1, 1, K], ``weight_v`` [D, D / groups, K]).
    The two are kept as plain parameters, as published: torch's own weight norm renames them.

    Args:
        size: Width D.
        kernel: Taps; an even kernel looks one token less ahead than back.
        groups: Groups of channels.
    """

    def __init__(self, size: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.kernel, self.groups = kernel, groups
        self.weight_v = nn.Parameter(torch.empty(size, size // groups, kernel))
        self.weight_g = nn.Parameter(torch.empty(1, 1, kernel))
        self.bias = nn.Parameter(torch.zeros(size))
        nn.init.normal_(self.weight_v, std=math.sqrt(4 / (kernel * size)))
        with torch.no_grad():
            self.weight_g.copy_(torch.norm_except_dim(self.weight_v, 2, 2))

    def forward(self, x: Tensor) -> Tensor:
        """x [N, D, L], zero where padded -> [N, D, L]."""
        weight = self.weight_v * (self.weight_g / torch.norm_except_dim(self.weight_v, 2, 2))
        x = F.conv1d(x, weight, self.bias, padding=self.kernel // 2, groups=self.groups)
        return x[..., :-1] if self.kernel % 2 == 0 else x


class GatedAttention(nn.Module):
    """Self-attention whose relative-position bias is scaled, per query and head, by a gate of the query.

    All layers share one table of biases, which the first layer holds; the others get the bias as an argument.

    Args:
        size: Width D.
        num_heads: Heads H.
        dropout: Of the attention weights, in training.
        buckets: Rows of the table of biases; None for a layer without a table.
    """

    def __init__(self, size: int, num_heads: int, dropout: float, buckets: int | None) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.q_proj = nn.Linear(size, size)
        self.k_proj = nn.Linear(size, size)
        self.v_proj = nn.Linear(size, size)
        self.out_proj = nn.Linear(size, size)
        self.grep_linear = nn.Linear(size // num_heads, 8)
        self.grep_a = nn.Parameter(torch.ones(1, num_heads, 1, 1))
        if buckets is not None:
            self.relative_attention_bias = nn.Embedding(buckets, num_heads)

    def position_bias(self, size: int, max_distance: int) -> Tensor:
        """The bias between ``size`` positions, [H, L (query), L (key)]; only for a layer with a table."""
        table = self.relative_attention_bias.weight
        position = torch.arange(size, device=table.device)
        buckets = relative_buckets(position[None, :] - position[:, None], table.shape[0], max_distance)
        return self.relative_attention_bias(buckets).permute(2, 0, 1)

    def gate(self, query: Tensor) -> Tensor:
        """Queries [N, H, L, d], not scaled -> factors of the bias [N, H, L, 1], about 0 to 3."""
        parts = self.grep_linear(query).unflatten(-1, (2, 4)).sum(-1)
        a, b = torch.sigmoid(parts).chunk(2, dim=-1)
        return a * (b * self.grep_a - 1.0) + 2.0

    def forward(self, x: Tensor, bias: Tensor, hidden: Tensor | None) -> Tensor:
        """Mix tokens.

        Args:
            x: [N, L, D].
            bias: What ``position_bias`` of the first layer gives, [H, L, L].
            hidden: bool [N, L], True where a token must not be attended to; None if all may.

        Returns:
            [N, L, D].
        """
        q, k, v = (
            linear(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for linear in (self.q_proj, self.k_proj, self.v_proj)
        )
        scores = (self.gate(q) * bias).to(q.dtype)
        if hidden is not None:
            scores = scores.masked_fill(hidden[:, None, None, :], -torch.inf)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=scores, dropout_p=dropout)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class DeepNormLayer(nn.Module):
    """Post-norm transformer layer that weighs its residual branch by ``alpha``.

    Args:
        size: Width D.
        intermediate_size: Width of the feed-forward network.
        num_heads: Heads.
        alpha: Factor on the residual; 1 is a plain post-norm layer.
        activation: "gelu" or "relu".
        dropouts: Of the branches' outputs, of attention weights and after the activation.
        buckets: As in ``GatedAttention``.
    """

    def __init__(
        self,
        size: int,
        intermediate_size: int,
        num_heads: int,
        alpha: float,
        activation: str,
        dropouts: tuple[float, float, float],
        buckets: int | None,
    ) -> None:
        super().__init__()
        self.alpha, self.activation = alpha, ACT2FN[activation]
        self.dropout, self.activation_dropout = nn.Dropout(dropouts[0]), nn.Dropout(dropouts[2])
        self.self_attn = GatedAttention(size, num_heads, dropouts[1], buckets)
        self.self_attn_layer_norm = nn.LayerNorm(size)
        self.fc1 = nn.Linear(size, intermediate_size)
        self.fc2 = nn.Linear(intermediate_size, size)
        self.final_layer_norm = nn.LayerNorm(size)

    def forward(self, x: Tensor, bias: Tensor, hidden: Tensor | None) -> Tensor:
        """As ``GatedAttention.forward``."""
        mixed = self.dropout(self.self_attn(x, bias, hidden))
        x = self.self_attn_layer_norm(self.alpha * x + mixed)
        wide = self.activation_dropout(self.activation(self.fc1(x)))
        return self.final_layer_norm(self.alpha * x + self.dropout(self.fc2(wide)))


def relative_buckets(distance: Tensor, num_buckets: int, max_distance: int) -> Tensor:
    """Number the distances between positions as T5 does.

    Half of the buckets is for keys after the query. Of each half, one half counts single steps and the other
    grows with the logarithm up to ``max_distance``.

    Args:
        distance: Key position less query position, int64, any shape.
        num_buckets: Buckets, a multiple of 4.
        max_distance: Distances from here on share the last bucket.

    Returns:
        int64 of the same shape, 0 to ``num_buckets - 1``.
    """
    half = num_buckets // 2
    single = half // 2
    steps = distance.abs()
    far = torch.log(steps.clamp(min=1).float() / single) / math.log(max_distance / single) * (half - single)
    bucket = torch.where(steps < single, steps, (single + far.long()).clamp(max=half - 1))
    return bucket + (distance > 0).long() * half
