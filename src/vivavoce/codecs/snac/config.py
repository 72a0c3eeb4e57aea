"""The settings of a SNAC codec and what follows from them: rates, legal lengths, look-ahead.

Key names are those of a published ``config.json``, so a published folder needs no translation.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from vivavoce.base.errors import ConfigError
from vivavoce.codecs.contract import CodecSpec

LICENCE = "Apache-2.0 (code), MIT (published weights)"
# Keys other tools write into a config.json; they say nothing about the network.
_FOREIGN_KEYS = frozenset({"model_type", "architectures", "torch_dtype", "dtype", "transformers_version"})
_RESIDUAL_CONTEXT = 3 * (1 + 3 + 9)  # samples each side of three kernel-7 convolutions, dilation 1, 3, 9
_EDGE_CONTEXT = 3  # samples each side of the first and last kernel-7 convolution
_HEAD_WIDTH = 64


@dataclass(frozen=True)
class SNACConfig:
    """Shape of the network.

    Attributes:
        sampling_rate: Hz.
        encoder_dim: Channels after the encoder's first convolution; doubled by every stage.
        encoder_rates: Downsampling factor of each encoder stage.
        latent_dim: Channels between encoder and decoder; default what the encoder stages give.
        decoder_dim: Channels before the decoder's first stage; halved by every stage.
        decoder_rates: Upsampling factor of each decoder stage; same product as ``encoder_rates``.
        attn_window_size: Finest steps in one window of local attention; None for no attention.
        codebook_size: Codewords per level.
        codebook_dim: Width of a codeword.
        vq_strides: Finest steps per code at each level, coarse to fine.
        noise: The decoder has noise blocks.
        depthwise: Kernel-7 convolutions work on each channel alone.
        causal: Convolutions look only back (our own variant; no published weights): codes of a coarse frame need
            no sample after it, and its samples no later codes. Not with attention windows.
    """

    sampling_rate: int = 44100
    encoder_dim: int = 64
    encoder_rates: tuple[int, ...] = (3, 3, 7, 7)
    latent_dim: int | None = None
    decoder_dim: int = 1536
    decoder_rates: tuple[int, ...] = (7, 7, 3, 3)
    attn_window_size: int | None = 32
    codebook_size: int = 4096
    codebook_dim: int = 8
    vq_strides: tuple[int, ...] = (8, 4, 2, 1)
    noise: bool = True
    depthwise: bool = True
    causal: bool = False

    def __post_init__(self) -> None:
        faults = list(self._faults())
        if faults:
            raise ConfigError("SNAC config: " + "; ".join(faults) + ".")

    def _faults(self) -> list[str]:
        faults = []
        for name in ("sampling_rate", "encoder_dim", "decoder_dim", "codebook_size", "codebook_dim"):
            if getattr(self, name) < 1:
                faults.append(f"{name} is {getattr(self, name)}, wanted 1 or more")
        for name in ("encoder_rates", "decoder_rates", "vq_strides"):
            if not getattr(self, name) or min(getattr(self, name)) < 1:
                faults.append(f"{name} is {list(getattr(self, name))}, wanted one or more factors >= 1")
        if faults:
            return faults
        if math.prod(self.encoder_rates) != math.prod(self.decoder_rates):
            faults.append(
                f"encoder_rates give {math.prod(self.encoder_rates)} samples per step, decoder_rates "
                f"{math.prod(self.decoder_rates)}; they must agree"
            )
        if any(max(self.vq_strides) % s for s in self.vq_strides):
            faults.append(f"each of vq_strides {list(self.vq_strides)} must divide the largest")
        if self.decoder_dim % 2 ** len(self.decoder_rates):
            faults.append(f"decoder_dim {self.decoder_dim} cannot be halved {len(self.decoder_rates)} times")
        if self.causal and self.attn_window_size is not None:
            faults.append(
                f"attn_window_size is {self.attn_window_size}, but a window looks ahead; wanted null with causal"
            )
        if self.attn_window_size is not None:
            if self.attn_window_size < 1:
                faults.append(f"attn_window_size is {self.attn_window_size}, wanted null or 1 or more")
            for name, width in (("encoder", self.encoder_width), ("decoder_dim", self.decoder_dim)):
                if width % _HEAD_WIDTH:
                    faults.append(f"{name} width {width} is not a multiple of the head width {_HEAD_WIDTH}")
        if self.latent_dim is not None and self.latent_dim != self.encoder_width:
            faults.append(f"latent_dim is {self.latent_dim}, the encoder stages give {self.encoder_width}")
        return faults

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SNACConfig:
        """Read a published ``config.json``.

        Raises:
            ConfigError: An unknown key, or a value that cannot be.
        """
        known = {f.name for f in fields(cls)}
        unknown = [k for k in values if k not in known | _FOREIGN_KEYS]
        if unknown:
            near = difflib.get_close_matches(unknown[0], sorted(known), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"SNAC config has unknown keys {', '.join(map(repr, unknown))}.{hint}")
        kept: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in known
        }
        try:
            return cls(**kept)
        except TypeError as error:
            raise ConfigError(f"SNAC config has a value of the wrong type: {error}.") from error

    def to_dict(self) -> dict[str, Any]:
        """The form of a published ``config.json``."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        if values["latent_dim"] is None:
            del values["latent_dim"]
        if not self.causal:  # a key that the published package does not know
            del values["causal"]
        return values

    @property
    def encoder_width(self) -> int:
        """Channels the encoder stages end with."""
        return self.encoder_dim * 2 ** len(self.encoder_rates)

    @property
    def hop_samples(self) -> int:
        """Samples per finest step."""
        return math.prod(self.encoder_rates)

    @property
    def frame_steps(self) -> int:
        """Finest steps per coarse frame."""
        return max(self.vq_strides)

    @property
    def frame_samples(self) -> int:
        return self.hop_samples * self.frame_steps

    @property
    def pad_to_frames(self) -> int:
        """Legal lengths in coarse frames: whole attention windows."""
        window = self.attn_window_size or 1
        return math.lcm(self.frame_steps, window) // self.frame_steps

    @property
    def _central_steps(self) -> int:
        """Finest steps of future at the narrow end: one kernel-7 convolution and the rest of a window."""
        return _EDGE_CONTEXT + (self.attn_window_size or 1) - 1

    @property
    def decoder_lookahead_samples(self) -> int:
        """Samples of codes beyond a sample that its final value needs, at most; 4757 for 24 kHz."""
        if self.causal:
            return 0
        future = self._central_steps
        for rate in self.decoder_rates:
            future = future * rate + (rate + 1) // 2 + _RESIDUAL_CONTEXT
        return future + _EDGE_CONTEXT

    @property
    def encoder_lookahead_samples(self) -> int:
        """Samples beyond the end of a coarse frame that its final codes need, at most; 4757 for 24 kHz."""
        if self.causal:
            return 0
        future = self._central_steps
        for rate in reversed(self.encoder_rates):
            future = future * rate + rate // 2 + _RESIDUAL_CONTEXT
        return future + _EDGE_CONTEXT

    def spec(self, name: str = "snac", weights: str = "") -> CodecSpec:
        """The numbers every codec states."""
        return CodecSpec(
            name=name,
            sample_rate=self.sampling_rate,
            frame_samples=self.frame_samples,
            strides=tuple(self.vq_strides),
            codebook_size=self.codebook_size,
            lookahead_samples=self.decoder_lookahead_samples,
            causal=self.causal,
            pad_to_frames=self.pad_to_frames,
            licence=LICENCE,
            weights=weights,
        )


def _four_level(sampling_rate: int) -> SNACConfig:
    return SNACConfig(sampling_rate, 64, (2, 3, 8, 8), None, 1536, (8, 8, 3, 2), 32, 4096, 8, (8, 4, 2, 1))


# Full-size published configurations, by the last part of the hub id hubertsiuzdak/<name>.
PUBLISHED: dict[str, SNACConfig] = {
    "snac_24khz": SNACConfig(24000, 48, (2, 4, 8, 8), None, 1024, (8, 8, 4, 2), None, 4096, 8, (4, 2, 1)),
    "snac_32khz": _four_level(32000),
    "snac_44khz": _four_level(44100),
}
