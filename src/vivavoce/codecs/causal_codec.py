"""What EnCodec and Mimi share: encoder, quantizer and decoder, causal, all levels at one code rate."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from vivavoce.base.errors import CodecError
from vivavoce.codecs.causal_layers import Stage, exact_float32
from vivavoce.codecs.causal_streams import CausalStreamDecoder, CausalStreamEncoder
from vivavoce.codecs.contract import Codec, Codes, StreamDecoder, StreamEncoder

WHOLE_CLIP_S = 30.0


def spread_codewords(latents: Tensor, codebooks: list[Tensor]) -> None:
    """Fill the codebooks of a residual quantizer with random codewords that latents like these all use.

    Args:
        latents: [1, D, T], what the first codebook quantizes.
        codebooks: [N, D] each, filled in place from torch's generator.
    """
    residual = latents[0].T
    for codebook in codebooks:
        codebook.normal_().mul_(residual.std(dim=0)).add_(residual.mean(dim=0))
        residual = residual - codebook[torch.cdist(residual, codebook).argmin(dim=1)]


class CausalCodec(Codec):
    """A codec with one code per level and coarse frame, whose layers never look ahead after a start.

    Items are encoded one by one, because right padding changes the last, partial frame and because a batch is
    not faster on a CPU. Clips longer than ``whole_clip_s`` run through the streams in pieces of that length,
    so memory is bounded and float32 lengths never overflow (above 2^24 samples the padding rule of
    transformers rounds).

    Attributes:
        group_equal_lengths: Encode items of equal length as one batch. Worth it on a GPU; a code may then
            differ from the item alone where two codewords tie within float32 rounding. Off by default.
        whole_clip_s: Longest clip that is computed in one piece, seconds.
    """

    group_equal_lengths: bool = False
    whole_clip_s: float = WHOLE_CLIP_S

    # ---- what a codec gives --------------------------------------------------------------------------
    @abstractmethod
    def whole_latents(self, waveform: Tensor) -> Tensor:
        """Waveform [B, 1, S] -> latents [B, D, T]."""

    @abstractmethod
    def whole_waveform(self, latents: Tensor) -> Tensor:
        """Latents [B, D, T] -> waveform [B, 1, T * frame_samples]."""

    @abstractmethod
    def quantize(self, latents: Tensor) -> Tensor:
        """Latents [B, D, T] -> codes int64 [K, B, T]."""

    @abstractmethod
    def dequantize(self, codes: Tensor) -> Tensor:
        """Codes int64 [K, B, T] -> latents [B, D, T]."""

    @abstractmethod
    def encoder_stages(self) -> Stage:
        """The encoder as a fresh stateful chain, waveform -> latents."""

    @abstractmethod
    def decoder_stages(self) -> Stage:
        """The decoder as a fresh stateful chain, latents -> waveform."""

    # ---- contract ------------------------------------------------------------------------------------
    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def start_frames(self) -> int:
        """Frames after which a prefix is encoded as in the whole clip; before it, padding looks ahead."""
        return -(-self.encoder_stages().inputs_for(1) // self.spec.frame_samples)

    @torch.no_grad()
    def encode(self, waveform: Tensor, lengths: list[int] | None = None) -> Codes:
        lengths = self.check_waveform(waveform, lengths)
        self._check_float32()
        shape = (self.spec.num_levels, len(lengths), max(self.spec.num_frames(n) for n in lengths))
        codes = torch.zeros(shape, dtype=torch.long, device=self.device)
        groups: dict[int, list[int]] = {}
        for i, n in enumerate(lengths):
            groups.setdefault(n if self.group_equal_lengths else i, []).append(i)
        for rows in groups.values():
            length = lengths[rows[0]]
            for part in [rows] if self._fits(length * len(rows)) else [[i] for i in rows]:
                found = self._encode_equal(waveform[part, :, :length])
                codes[:, part, : found.shape[-1]] = found
        return Codes(list(codes), lengths)

    def _encode_equal(self, waveform: Tensor) -> Tensor:
        """Waveforms of one length [B, 1, S] -> [K, B, T]; longer than a piece only if B is 1."""
        if self._fits(waveform.shape[-1]):
            with exact_float32(self.device):
                return self.quantize(self.whole_latents(waveform.to(self.device, torch.float32)))
        stream = self.stream_encoder()
        pieces = [stream.push(piece) for piece in waveform.split(self._piece_samples, dim=-1)]
        pieces.append(stream.flush())
        return torch.cat([torch.stack(piece.levels) for piece in pieces], dim=-1)

    @torch.no_grad()
    def decode(self, codes: Codes) -> Tensor:
        codes.check(self.spec)
        self._check_float32()
        stacked = torch.stack(codes.levels).to(self.device)
        out = torch.zeros(codes.batch_size, 1, max(codes.num_samples, default=0), device=self.device)
        for i, length in enumerate(codes.num_samples):
            frames = self.spec.num_frames(length) if length else 0
            if frames > stacked.shape[-1]:
                raise CodecError(
                    f"item {i} states {length} samples, {frames} frames of {self.spec.name}, but has only "
                    f"{stacked.shape[-1]}; keep the true length that encode gave."
                )
            if frames:
                out[i, :, :length] = self._decode_one(stacked[:, i : i + 1, :frames])[0, :, :length]
        return out

    def _decode_one(self, codes: Tensor) -> Tensor:
        """Codes of one item [K, 1, T] -> waveform [1, 1, T * frame_samples]."""
        with exact_float32(self.device):
            if self._fits(codes.shape[-1] * self.spec.frame_samples):
                return self.whole_waveform(self.dequantize(codes))
            decoder = self.decoder_stages()
            pieces = codes.split(self._piece_samples // self.spec.frame_samples, dim=-1)
            done = [
                decoder.step(self.dequantize(piece), last=k == len(pieces) - 1)
                for k, piece in enumerate(pieces)
            ]
            return torch.cat(done, dim=-1)

    def stream_encoder(self) -> StreamEncoder:
        self._check_float32()
        return CausalStreamEncoder(
            self.spec, self.encoder_stages(), lambda latents: self.quantize(latents)[:, 0], self.device
        )

    def stream_decoder(self) -> StreamDecoder:
        self._check_float32()
        return CausalStreamDecoder(
            self.spec, lambda codes: self.dequantize(codes[:, None]), self.decoder_stages(), self.device
        )

    @property
    def _piece_samples(self) -> int:
        frames = int(self.whole_clip_s * self.spec.sample_rate) // self.spec.frame_samples
        return max(1, frames) * self.spec.frame_samples

    def _fits(self, num_samples: int) -> bool:
        return num_samples <= self._piece_samples

    def _check_float32(self) -> None:
        found = next(self.parameters()).dtype
        if found != torch.float32:
            raise CodecError(
                f"{self.spec.name} has {found} weights; codes change under reduced precision. "
                f"Keep the codec in float32 with codec.float()."
            )
