"""Mimi: 24 kHz, 12.5 frames per second, one semantic and up to 31 acoustic codebooks, streamed exactly.

Convolutions are padded with zeros (the last downsampling by repetition), so a frame needs no future from the
first
on: 80 ms in, one frame out. Two transformers at 25 Hz look back over a sliding window of 250 positions (10
s); their key-value caches, the convolutions' left contexts and the tails of the transposed convolutions are
the state of a stream. The last, partial frame of a clip depends on its true end.

Letters: B batch, S samples, T frames, K levels, D width, P positions of a transformer.

Source: Défossez et al. 2024, "Moshi: a speech-text foundation model", section 3.3; layers and weights are
those of transformers' MimiModel. Differences: the decoder streams too, and codes keep the true length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.models.mimi.configuration_mimi import MimiConfig
from transformers.models.mimi.modeling_mimi import (
    MimiConv1d,
    MimiConvTranspose1d,
    MimiEuclideanCodebook,
    MimiModel,
    MimiResnetBlock,
)

from vivavoce.base.errors import CodecError, ConfigError
from vivavoce.codecs.causal_codec import CausalCodec, spread_codewords
from vivavoce.codecs.causal_layers import (
    Chain,
    Convolution,
    Pointwise,
    Residual,
    Stage,
    TransposedConvolution,
)
from vivavoce.codecs.contract import CodecSpec
from vivavoce.codecs.folders import build_config, load_pretrained, read_config, save_pretrained, seeded
from vivavoce.codecs.published import MIMI_LICENCE

DEFAULT_QUANTIZERS = 8


class Parts(NamedTuple):
    """The six parts of a MimiModel in the order a signal meets them; no resampling where rates are equal."""

    encoder: Any
    encoder_transformer: Any
    downsample: Any | None
    upsample: Any | None
    decoder_transformer: Any
    decoder: Any


def parts_of(model: Any) -> Parts:
    """Find the parts; releases of transformers differ in whether each half is a model of its own."""
    if hasattr(model.encoder, "encoder_seanet"):
        first, second = model.encoder, model.decoder
        encoder, decoder = first.encoder_seanet, second.decoder_seanet
    else:
        first = second = model
        encoder, decoder = model.encoder, model.decoder
    return Parts(
        encoder,
        first.encoder_transformer,
        first.downsample,
        second.upsample,
        second.decoder_transformer,
        decoder,
    )


class Attention(Stage):
    """A transformer over positions with a sliding window. Streaming state: keys and values of one window."""

    def __init__(self, transformer: nn.Module) -> None:
        self.transformer = transformer
        self._cache: Any = None

    def step(self, piece: Tensor, last: bool) -> Tensor:
        if not piece.shape[-1]:
            return piece
        out = self.transformer(piece.transpose(1, 2), past_key_values=self._cache, use_cache=True)
        self._cache = out.past_key_values
        return out.last_hidden_state.transpose(1, 2)


class MimiCodec(CausalCodec):
    """Mimi in float32. Streaming: exact; one frame of 1920 samples at a time, no look-ahead.

    Args:
        model: A MimiModel with both halves.
        num_quantizers: Levels, counted from the semantic one; 1.1 kbit/s at 8. Codes of fewer levels are the
            first levels of more.
        weights: Hash of the weights for ``spec``.

    Raises:
        CodecError: A model without one of its halves, stereo, or not causal.
        ConfigError: More levels than the model has, or fewer than its semantic ones.
    """

    def __init__(self, model: MimiModel, num_quantizers: int = DEFAULT_QUANTIZERS, weights: str = "") -> None:
        super().__init__()
        config = model.config
        refuse_unsupported(config)
        least, most = config.num_semantic_quantizers, config.num_quantizers
        if not least <= num_quantizers <= most:
            raise ConfigError(f"num_quantizers is {num_quantizers}, wanted {least} to {most} for this Mimi.")
        self.num_quantizers = num_quantizers
        self.model = model.eval().requires_grad_(False)
        down = parts_of(model).downsample
        hop = math.prod(config.upsampling_ratios or ()) * (1 if down is None else down.conv.stride[0])
        self.spec = CodecSpec(
            name="mimi",
            sample_rate=config.sampling_rate,
            frame_samples=hop,
            strides=(1,) * num_quantizers,
            codebook_size=config.codebook_size,
            lookahead_samples=0,
            causal=True,
            licence=MIMI_LICENCE,
            weights=weights,
        )

    @classmethod
    def from_folder(cls, folder: str | Path, num_quantizers: int = DEFAULT_QUANTIZERS) -> MimiCodec:
        """Load a folder in transformers' form: config.json and model.safetensors (or pytorch_model.bin).

        Raises:
            CheckpointError: A file is missing or damaged, or tensors do not fit the config.
            CodecError, ConfigError: as the constructor.
        """
        config = build_config(MimiConfig, read_config(folder, "mimi"), folder)
        refuse_unsupported(config)
        model, weights = load_pretrained(MimiModel, config, folder)
        return cls(model, num_quantizers, weights)

    @classmethod
    def from_config(
        cls, config: MimiConfig | dict[str, Any], num_quantizers: int = DEFAULT_QUANTIZERS, seed: int = 0
    ) -> MimiCodec:
        """Make a codec with seeded random weights, codewords included."""
        config = MimiConfig(**config) if isinstance(config, dict) else config
        refuse_unsupported(config)
        with seeded(seed):
            codec = cls(MimiModel(config), num_quantizers)
            with torch.no_grad():
                latents = codec.whole_latents(0.1 * torch.randn(1, 1, 64 * codec.spec.frame_samples))
                both = codec.model.quantizer
                for part in (
                    both.semantic_residual_vector_quantizer,
                    both.acoustic_residual_vector_quantizer,
                ):
                    seen = latents if part.input_proj is None else part.input_proj(latents)
                    spread_codewords(seen, [layer.codebook.embed_sum for layer in part.layers])
        return codec

    def save(self, folder: str | Path) -> None:
        """Write a folder in transformers' form; it loads to the same codec."""
        save_pretrained(self.model, folder)

    def whole_latents(self, waveform: Tensor) -> Tensor:
        parts = parts_of(self.model)
        states = parts.encoder(waveform).transpose(1, 2)
        states = parts.encoder_transformer(states, use_cache=False).last_hidden_state.transpose(1, 2)
        return states if parts.downsample is None else parts.downsample(states)

    def whole_waveform(self, latents: Tensor) -> Tensor:
        parts = parts_of(self.model)
        states = latents if parts.upsample is None else parts.upsample(latents)
        states = parts.decoder_transformer(states.transpose(1, 2), use_cache=False).last_hidden_state
        return parts.decoder(states.transpose(1, 2))

    def quantize(self, latents: Tensor) -> Tensor:
        return self.model.quantizer.encode(latents, self.num_quantizers)

    def dequantize(self, codes: Tensor) -> Tensor:
        return self.model.quantizer.decode(codes.transpose(0, 1))

    def encoder_stages(self) -> Stage:
        parts = parts_of(self.model)
        stages = [*stages_of(parts.encoder.layers), Attention(parts.encoder_transformer)]
        return Chain(stages if parts.downsample is None else [*stages, stage_of(parts.downsample)])

    def decoder_stages(self) -> Stage:
        parts = parts_of(self.model)
        first = [] if parts.upsample is None else [stage_of(parts.upsample)]
        return Chain([*first, Attention(parts.decoder_transformer), *stages_of(parts.decoder.layers)])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> MimiCodec:
        """Move or cast; codewords that the model keeps outside its buffers are computed anew."""
        for module in self.modules():
            if isinstance(module, MimiEuclideanCodebook):
                module._embed = None
        return super()._apply(fn, recurse)


def refuse_unsupported(config: MimiConfig) -> None:
    """Refuse a Mimi that does not both encode and decode one causal stream.

    Raises:
        CodecError: names what the config has and what is wanted.
    """
    faults = {
        f"{config.audio_channels} channels": config.audio_channels != 1,
        "non-causal convolutions": not config.use_causal_conv or config.trim_right_ratio != 1.0,
        "no encoder": getattr(config, "encoder_config", config) is None,
        "no decoder": getattr(config, "decoder_config", config) is None,
    }
    found = [name for name, wrong in faults.items() if wrong]
    if found:
        raise CodecError(
            f"this Mimi has {', '.join(found)}; wanted a mono, causal one with both halves. Use kyutai/mimi."
        )


def stage_of(layer: nn.Module) -> Stage:
    """The stateful form of one layer of transformers' Mimi."""
    if isinstance(layer, MimiConv1d):
        return Convolution(layer.conv, layer.pad_mode)
    if isinstance(layer, MimiConvTranspose1d):
        return TransposedConvolution(layer.conv)
    if isinstance(layer, MimiResnetBlock):
        return Residual(Chain(stages_of(layer.block)), stage_of(layer.shortcut))
    return Pointwise(layer)


def stages_of(layers: Iterable[nn.Module]) -> list[Stage]:
    """The stateful form of layers one after the other."""
    return [stage_of(layer) for layer in layers]
