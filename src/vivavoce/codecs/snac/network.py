"""Encoder and decoder of SNAC in plain form."""

from __future__ import annotations

from torch import Tensor, nn

from vivavoce.codecs.snac.config import SNACConfig
from vivavoce.codecs.snac.layers import (
    DecoderBlock,
    EncoderBlock,
    LocalAttention,
    Snake,
    normed_conv,
    same_conv,
)
from vivavoce.codecs.snac.noise import NoiseSource


class Encoder(nn.Module):
    """Waveform [B, 1, S] to latents [B, D, S / hop]; S is a legal length."""

    def __init__(self, config: SNACConfig) -> None:
        super().__init__()
        width = config.encoder_dim
        parts: list[nn.Module] = [same_conv(1, width, causal=config.causal)]
        for rate in config.encoder_rates:
            parts.append(EncoderBlock(width, rate, config.depthwise, config.causal))
            width *= 2
        if config.attn_window_size is not None:
            parts.append(LocalAttention(width, config.attn_window_size))
        groups = width if config.depthwise else 1
        parts.append(same_conv(width, width, groups=groups, causal=config.causal))
        self.block = nn.Sequential(*parts)

    def forward(self, waveform: Tensor) -> Tensor:
        return self.block(waveform)


class Decoder(nn.Module):
    """Latents [B, D, T] to waveform [B, 1, T * hop]; T is a legal length."""

    def __init__(self, config: SNACConfig) -> None:
        super().__init__()
        latent, width, causal = config.encoder_width, config.decoder_dim, config.causal
        parts: list[nn.Module] = []
        if config.depthwise:
            parts += [
                same_conv(latent, latent, groups=latent, causal=causal),
                normed_conv(latent, width, 1, causal=causal),
            ]
        else:
            parts += [same_conv(latent, width, causal=causal)]
        if config.attn_window_size is not None:
            parts.append(LocalAttention(width, config.attn_window_size))
        for rate in config.decoder_rates:
            parts.append(DecoderBlock(width, rate, config.noise, config.depthwise, causal))
            width //= 2
        self.model = nn.Sequential(*parts, Snake(width), same_conv(width, 1, causal=causal), nn.Tanh())

    def forward(self, latents: Tensor, noise: NoiseSource | None = None) -> Tensor:
        index = 0
        for part in self.model:
            if isinstance(part, DecoderBlock):
                latents = part(latents, noise, index)
                index += 1
            else:
                latents = part(latents)
        return latents
