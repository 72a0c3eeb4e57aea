"""Window-level Q-Former: a few learned queries read each third of a second of one or two encoders' states.

Source: SALMONN (Tang et al. 2024, bytedance, Apache-2.0) on the Q-Former of BLIP-2 (salesforce, BSD-3), with
SALMONN's published parameter names, so that ``connector.<name>`` is ``<name>`` there.

Letters: N clips, F encoder frames, K streams, W windows of a clip, R all windows of a batch, Q queries, S frames
of a window, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivavoce.base.errors import ConfigError, ModelError
from vivavoce.models.layers import length_mask

CONTEXT_S = 30.0  # windows are rounded to frames as shares of Whisper's context


@dataclass(frozen=True)
class QFormerConfig:
    """Sizes of the Q-Former; defaults are those of SALMONN.

    Attributes:
        text_size: Width of the language model's embeddings.
        streams: Widths of the encoders' states, which come side by side: one (speech) or two (speech, audio).
        num_queries: Embeddings per window.
        windowed: False: the whole clip is one window.
        window_s: Length of a window in seconds; 0.333333 is 17 frames.
        stride_s: From one window to the next in seconds.
        frame_rate: Encoder frames per second.
        tail: "drop": frames that fill no window are left out, as in SALMONN. "pad": they get a window that
            silence (zeros) fills up.
        dropout: In training; of attention weights and of every branch's output.
        init_std: Of the linear layers' first weights, but for the last one. 0.02 suits the published width of 768;
            where the width is 64 all windows then give nearly the same embedding, and training may never tell them
            apart: about ``0.02 * sqrt(768 / hidden_size)`` keeps what a layer makes of its input as large as there.
    """

    text_size: int
    streams: tuple[int, ...] = (1280, 768)
    hidden_size: int = 768
    num_layers: int = 2
    num_heads: int = 12
    intermediate_size: int = 3072
    num_queries: int = 1
    windowed: bool = True
    window_s: float = 0.333333
    stride_s: float = 0.333333
    frame_rate: float = 50.0
    tail: Literal["drop", "pad"] = "drop"
    layer_norm_eps: float = 1e-12
    dropout: float = 0.1
    init_std: float = 0.02

    @property
    def kernel(self) -> int:
        """Frames of a window; halves round to the even number."""
        return round(CONTEXT_S * self.frame_rate * self.window_s / CONTEXT_S)

    @property
    def stride(self) -> int:
        """Frames from one window to the next."""
        return round(CONTEXT_S * self.frame_rate * self.stride_s / CONTEXT_S)

    def __post_init__(self) -> None:
        faults = []
        if len(self.streams) not in (1, 2):
            faults.append(f"streams are {list(self.streams)}, wanted the widths of one or two encoders")
        if self.hidden_size % self.num_heads:
            faults.append(f"hidden_size {self.hidden_size} is no multiple of num_heads {self.num_heads}")
        if self.num_queries < 1:
            faults.append(f"num_queries is {self.num_queries}, wanted 1 or more")
        for name, frames in (("window_s", self.kernel), ("stride_s", self.stride)):
            if self.windowed and frames < 1:
                seconds = getattr(self, name)
                faults.append(f"{name} is {seconds} s, less than a frame of {1 / self.frame_rate:g} s")
        if not self.init_std > 0:
            faults.append(f"init_std is {self.init_std}, wanted above 0")
        if self.tail not in ("drop", "pad"):
            faults.append(f"tail is {self.tail!r}, wanted 'drop' or 'pad'")
        if faults:
            raise ConfigError("; ".join(faults) + ".")


class _Projections(nn.Module):
    """Queries, keys and values of an attention, and the attention itself."""

    def __init__(self, size: int, memory_size: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.query = nn.Linear(size, size)
        self.key = nn.Linear(memory_size, size)
        self.value = nn.Linear(memory_size, size)

    def forward(self, x: Tensor, memory: Tensor, heard: Tensor | None = None) -> Tensor:
        q, k, v = (
            y.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for y in (self.query(x), self.key(memory), self.value(memory))
        )
        mask = None if heard is None else heard[:, None, None]
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return mixed.transpose(1, 2).flatten(2)


class _Output(nn.Module):
    """Project a branch, add what it started from, norm."""

    def __init__(self, branch_size: int, config: QFormerConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(branch_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, branch: Tensor, x: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(branch)) + x)


class _Attention(nn.Module):
    def __init__(self, memory_size: int, config: QFormerConfig) -> None:
        super().__init__()
        self.self = _Projections(config.hidden_size, memory_size, config.num_heads, config.dropout)
        self.output = _Output(config.hidden_size, config)

    def forward(self, x: Tensor, memory: Tensor, heard: Tensor | None = None) -> Tensor:
        return self.output(self.self(x, memory, heard), x)


class _Layer(nn.Module):
    """Queries look at each other, then at the window, then go through a network; a norm after each."""

    def __init__(self, config: QFormerConfig) -> None:
        super().__init__()
        d, inner = config.hidden_size, config.intermediate_size
        self.attention = _Attention(d, config)
        self.crossattention = _Attention(sum(config.streams), config)
        self.intermediate_query = nn.ModuleDict({"dense": nn.Linear(d, inner)})
        self.output_query = _Output(inner, config)

    def forward(self, x: Tensor, window: Tensor, heard: Tensor | None) -> Tensor:
        x = self.crossattention(self.attention(x, x), window, heard)
        return self.output_query(F.gelu(self.intermediate_query["dense"](x)), x)


class QueryTransformer(nn.Module):
    """The transformer over queries, one window at a time: [R, Q, D] and [R, S, sum(streams)] -> [R, Q, D]."""

    def __init__(self, config: QFormerConfig) -> None:
        super().__init__()
        norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.embeddings = nn.ModuleDict({"LayerNorm": norm})
        layers = nn.ModuleList(_Layer(config) for _ in range(config.num_layers))
        self.encoder = nn.ModuleDict({"layer": layers})
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, queries: Tensor, windows: Tensor, heard: Tensor | None = None) -> Tensor:
        """Read windows.

        Args:
            queries: [R or 1, Q, D].
            windows: [R, S, sum(streams)].
            heard: bool [R, S], True where a frame may be read; None if all may.
        """
        layers: Any = self.encoder["layer"]
        x = self.dropout(self.embeddings["LayerNorm"](queries).expand(len(windows), -1, -1))
        for layer in layers:
            x = layer(x, windows, heard)
        return x


class WindowQFormer(nn.Module):
    """Encoder states [N, F, sum(streams)] -> embeddings [N, W * Q, D_text].

    Each stream is normed and then zeroed past its own frames; windows are cut from the streams side by side, and
    zeros are read like anything else. A clip has the windows that its longest stream gives, so a batch gives each
    clip what it gets alone. With ``reference_padding`` every clip counts as long as the longest, as in SALMONN,
    which has no masks here.
    """

    reference_padding = False

    def __init__(self, config: QFormerConfig) -> None:
        super().__init__()
        self.config = config
        self.speech_query_tokens = nn.Parameter(torch.empty(1, config.num_queries, config.hidden_size))
        self.ln_speech = nn.LayerNorm(config.streams[0])
        if len(config.streams) == 2:
            self.ln_audio = nn.LayerNorm(config.streams[1])
        self.speech_Qformer = nn.ModuleDict({"bert": QueryTransformer(config)})
        self.speech_llama_proj = nn.Linear(config.hidden_size, config.text_size)
        nn.init.normal_(self.speech_query_tokens, std=0.02)
        for module in self.speech_Qformer.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=config.init_std)
                nn.init.zeros_(module.bias)

    def num_tokens(self, frames: Tensor) -> Tensor:
        """Embeddings of each clip from its encoder frames, int64 [N] or [N, K] -> int64 [N].

        Raises:
            ModelError: A clip is shorter than a window, and the tail is dropped.
        """
        config, longest = self.config, self._own(frames).amax(-1)
        if not config.windowed:
            return torch.full_like(longest, config.num_queries)
        beyond = longest - config.kernel
        if config.tail == "pad":
            filled = 1 - -beyond.clamp(min=0) // config.stride
            started = -(-longest // config.stride)  # fewer if windows leave gaps
            return config.num_queries * torch.minimum(filled, started).clamp(min=1)
        if bool((beyond < 0).any()):
            raise ModelError(
                f"a clip has {int(longest.min())} encoder frames, fewer than the {config.kernel} of a window "
                f'({config.window_s} s), and the tail is dropped. Set tail: "pad" in the connector\'s config, '
                "or pad clips with silence (audio_in.shortest_samples)."
            )
        return config.num_queries * (beyond // config.stride + 1)

    def forward(self, states: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Turn states into embeddings.

        Args:
            states: [N, F, sum(streams)], the streams side by side.
            frames: True frames, int64 [N] (of every stream) or [N, K].

        Returns:
            Embeddings [N, W * Q, D_text], those of one window next to each other, and counts int64 [N].

        Raises:
            ModelError: Widths that do not fit, or a clip shorter than a window.
        """
        config = self.config
        if states.shape[-1] != sum(config.streams):
            raise ModelError(
                f"states are {states.shape[-1]} wide, and the connector's streams {list(config.streams)} make "
                f"{sum(config.streams)}. Set streams to the widths of the encoder's states."
            )
        own = self._own(frames).to(states.device)
        counts = self.num_tokens(frames)
        x = self.normed(states.to(self.speech_llama_proj.weight.dtype), own)
        if config.windowed:
            size = int(counts.max()) // config.num_queries
            reach = config.kernel + (size - 1) * config.stride
            x = F.pad(x, (0, 0, 0, max(0, reach - x.shape[1])))[:, :reach]
            windows = x.unfold(1, config.kernel, config.stride).transpose(2, 3).flatten(0, 1)
            heard = None
        else:
            windows = x
            heard = None if self.reference_padding else length_mask(own.amax(-1), x.shape[1])
        read = self.speech_Qformer["bert"](self.speech_query_tokens, windows, heard)
        return self.speech_llama_proj(read).reshape(len(states), -1, config.text_size), counts

    def normed(self, states: Tensor, frames: Tensor) -> Tensor:
        """Norm each stream and zero it past its frames: [N, F, sum(streams)], int64 [N, K] -> the same."""
        norms = [self.ln_speech, *([self.ln_audio] if len(self.config.streams) == 2 else [])]
        streams = states.split(list(self.config.streams), dim=-1)
        frames = frames.expand(-1, len(streams))
        return torch.cat(
            [
                norm(stream).masked_fill(~length_mask(own, stream.shape[1])[..., None], 0.0)
                for norm, stream, own in zip(norms, streams, frames.unbind(-1), strict=True)
            ],
            dim=-1,
        )

    def _own(self, frames: Tensor) -> Tensor:
        """Frames of each stream, [N, 1 or K]; with ``reference_padding`` the longest clip's for all."""
        frames = frames[:, None] if frames.dim() == 1 else frames
        return frames.amax(0, keepdim=True).expand_as(frames) if self.reference_padding else frames
