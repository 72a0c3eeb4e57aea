"""SNAC: a multi-scale neural codec, compatible with published checkpoints, with exact streaming."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from vivavoce.base.errors import CodecError, ConfigError
from vivavoce.codecs.contract import Codec, Codes
from vivavoce.codecs.snac.config import PUBLISHED, SNACConfig
from vivavoce.codecs.snac.layers import fold_weight_norm
from vivavoce.codecs.snac.network import Decoder, Encoder
from vivavoce.codecs.snac.noise import KeyedNoise, NoiseSource
from vivavoce.codecs.snac.quantizer import ResidualQuantizer
from vivavoce.codecs.snac.stages import Stage
from vivavoce.codecs.snac.streaming import SNACStreamDecoder, SNACStreamEncoder, stages_of
from vivavoce.codecs.snac.weights import load_weights, read_config, write_folder

NoiseMode = Literal["off", "keyed"]


class SNACCodec(Codec):
    """Waveform <-> 3 or 4 levels of codes at falling rates; 24, 32 and 44.1 kHz and any other configuration.

    Decoding is deterministic. Noise blocks are skipped by default (each gives its mean); ``noise="keyed"`` adds
    noise that depends on (seed, block, sample index) alone, the same whole or streamed. Items of a batch run one by
    one, so a batch equals its items exactly. Frame counts that attention windows do not allow are decoded by
    repeating the last frame, then cropped.

    Args:
        config: Shape of the network; weights are random.
        name: For ``spec.name``.
        noise: ``"off"`` or ``"keyed"``.
        noise_seed: Seed of keyed noise.
        weight_norm: Keep weight norm, as training wants; default folds it, which is exact and cheaper.

    Raises:
        ConfigError: ``noise`` is neither.

    Source: SNAC (Siuzdak et al. 2024, arXiv 2410.14411) and the published package; differs in drawing no free
    noise, in keeping true lengths, and in refusing empty input.
    """

    # Coarse frames per step of a whole clip, on a CPU and elsewhere. Whole and streamed encoding take the same
    # steps on a CPU, so that not one rounding differs; decoding takes what stays in the cache.
    encode_block_frames: ClassVar[tuple[int, int]] = (1, 64)
    decode_block_frames: ClassVar[tuple[int, int]] = (8, 64)

    def __init__(
        self,
        config: SNACConfig,
        name: str = "snac",
        noise: NoiseMode = "off",
        noise_seed: int = 0,
        weight_norm: bool = False,
    ) -> None:
        super().__init__()
        if noise not in ("off", "keyed"):
            raise ConfigError(f"noise is {noise!r}, wanted 'off' or 'keyed'.")
        self.config = config
        self.spec = config.spec(name)
        self.encoder = Encoder(config)
        self.quantizer = ResidualQuantizer(config)
        self.decoder = Decoder(config)
        self.noise: NoiseSource | None = KeyedNoise(noise_seed) if noise == "keyed" else None
        self._packed: dict[str, tuple[object, list[Stage]]] = {}
        if not weight_norm:
            fold_weight_norm(self)
        self.eval()

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any] | SNACConfig,
        name: str = "snac",
        noise: NoiseMode = "off",
        noise_seed: int = 0,
        weight_norm: bool = False,
    ) -> SNACCodec:
        """Build with random weights from settings in published key names; arguments as for the class."""
        if not isinstance(config, SNACConfig):
            config = SNACConfig.from_dict(config)
        return cls(config, name, noise, noise_seed, weight_norm)

    @classmethod
    def from_folder(
        cls,
        path: str | Path,
        noise: NoiseMode = "off",
        noise_seed: int = 0,
        weight_norm: bool = False,
    ) -> SNACCodec:
        """Load a published folder: ``config.json`` with ``model.safetensors`` or ``pytorch_model.bin``.

        Args:
            path: The folder.
            noise: ``"off"`` or ``"keyed"``.
            noise_seed: Seed of keyed noise.
            weight_norm: Keep weight norm, for training.

        Raises:
            CheckpointError: A file is missing or cannot be read, the settings are wrong, or tensors do not fit.
            ConfigError: ``noise`` is neither.
        """
        folder = Path(path)
        config = read_config(folder)
        name = next((n for n, c in PUBLISHED.items() if c == config), folder.resolve().name)
        codec = cls(config, name, noise, noise_seed, weight_norm=True)
        codec.spec = dataclasses.replace(codec.spec, weights=load_weights(codec, folder))
        if not weight_norm:
            fold_weight_norm(codec)
        return codec

    def save(self, path: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors`` under published key names; reads back exactly."""
        write_folder(Path(path), self.config, self)

    def encode(self, waveform: Tensor, lengths: list[int] | None = None) -> Codes:
        lengths = self.check_waveform(waveform, lengths)
        items = []
        for wave, length in zip(waveform, lengths, strict=True):
            stream = self._stream_encoder(self.encode_block_frames[not self._on_cpu])
            first = stream.push(wave[None, :, :length])
            last = stream.flush()
            items.append([torch.cat(pair, dim=1) for pair in zip(first.levels, last.levels, strict=True)])
        levels = []
        for k in range(self.spec.num_levels):
            longest = max(item[k].shape[1] for item in items)
            levels.append(torch.cat([F.pad(item[k], (0, longest - item[k].shape[1])) for item in items]))
        return Codes(levels, lengths)

    def decode(self, codes: Codes, noise: NoiseSource | None = None) -> Tensor:
        """Turn codes into a waveform, block by block, in memory that does not grow with the length.

        Args:
            codes: Of this codec; item lengths may be any.
            noise: Overrides what the codec was made with.

        Returns:
            float [B, 1, max(num_samples)]; items shorter than the longest are zero after their end.

        Raises:
            CodecError: The codes do not fit this codec, or claim more samples than their frames hold.
        """
        codes.check(self.spec)
        items = []
        for index, claimed in enumerate(codes.num_samples):
            item = codes.item(index, self.spec)
            held = item.levels[0].shape[1] // self.spec.codes_per_level[0] * self.spec.frame_samples
            if not 0 <= claimed <= held:
                raise CodecError(f"item {index} claims {claimed} samples, its frames hold {held}.")
            stream = self.stream_decoder(noise)
            parts = [stream.push(piece) for piece in self._blocks(item)]
            items.append(torch.cat([*parts, stream.flush(claimed)], dim=-1))
        longest = max(wave.shape[-1] for wave in items)
        return torch.cat([F.pad(wave, (0, longest - wave.shape[-1])) for wave in items])

    def stream_encoder(self) -> SNACStreamEncoder:
        """A fresh encoder for one stream; on a CPU its codes are those of ``encode`` bit for bit."""
        return self._stream_encoder(block_frames=1)

    def _stream_encoder(self, block_frames: int) -> SNACStreamEncoder:
        return SNACStreamEncoder(self.spec, self._stages("encoder"), self.quantizer, block_frames)

    def stream_decoder(self, noise: NoiseSource | None = None) -> SNACStreamDecoder:
        """A fresh decoder for one stream; ``noise`` overrides what the codec was made with."""
        return SNACStreamDecoder(self.spec, self._stages("decoder"), self.quantizer, noise or self.noise)

    @property
    def _on_cpu(self) -> bool:
        return next(self.parameters()).device.type == "cpu"

    def _blocks(self, item: Codes) -> list[Codes]:
        """Cut one item into pieces of a few coarse frames, each with its share of the true length."""
        size = self.decode_block_frames[not self._on_cpu]
        counts, samples = self.spec.codes_per_level, self.spec.frame_samples
        frames = item.levels[0].shape[1] // counts[0]
        return [
            Codes(
                [level[:, at * n : (at + size) * n] for level, n in zip(item.levels, counts, strict=True)],
                [min(size * samples, max(0, item.num_samples[0] - at * samples))],
            )
            for at in range(0, frames, size)
        ]

    def _stages(self, part: Literal["encoder", "decoder"]) -> list[Stage]:
        """Packed stages, made once and again whenever a weight has changed or moved."""
        network = self.encoder if part == "encoder" else self.decoder
        dtypes = {p.dtype for p in self.parameters()}
        if not dtypes <= {torch.float32, torch.float64} or len(dtypes) > 1:
            names = ", ".join(sorted(str(d) for d in dtypes))
            raise CodecError(
                f"{self.spec.name} has weights in {names}; codes need float32, call codec.float()."
            )
        state = [(p.data_ptr(), p._version, p.dtype) for p in network.parameters()]
        if part not in self._packed or self._packed[part][0] != state:
            with torch.no_grad():
                self._packed[part] = (state, stages_of(network))
        return self._packed[part][1]
