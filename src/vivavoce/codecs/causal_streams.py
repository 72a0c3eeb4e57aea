"""Stream encoder and decoder of a causal codec: a chain of stateful layers on one side of its quantizer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vivavoce.base.errors import CodecError, SessionError
from vivavoce.codecs.causal_layers import Stage, exact_float32
from vivavoce.codecs.contract import CodecSpec, Codes, StreamDecoder, StreamEncoder


class CausalStreamEncoder(StreamEncoder):
    """Waveform pieces -> codes; each coarse frame comes as soon as its last sample is in.

    Streaming state: that of ``encoder``; memory does not grow with the stream. A frame's codes are final
    after the codec's start (``encoder.inputs_for(1)`` samples), then every ``spec.frame_samples``; the last,
    partial frame comes with flush.

    Args:
        spec: The codec's numbers.
        encoder: Waveform [1, 1, s] -> latents [1, D, t]; fresh, this stream's own.
        quantize: Latents [1, D, t] -> int64 [K, t].
        device: Where ``encoder`` computes; pieces are moved there.
    """

    def __init__(
        self, spec: CodecSpec, encoder: Stage, quantize: Callable[[Tensor], Tensor], device: torch.device
    ) -> None:
        self.spec, self.device = spec, device
        self._encoder, self._quantize = encoder, quantize
        self._seen_samples = self._final_frames = 0
        self._closed = False

    def push(self, waveform: Tensor) -> Codes:
        if self._closed:
            raise SessionError("this stream encoder was flushed; make a new one with stream_encoder().")
        if waveform.dim() != 3 or waveform.shape[:2] != (1, 1):
            raise CodecError(f"a stream takes a waveform [1, 1, s], got shape {list(waveform.shape)}.")
        if not waveform.isfinite().all():
            raise CodecError(
                "the stream holds values that are not finite; check how it was recorded or read."
            )
        self._seen_samples += waveform.shape[-1]
        return self._advance(waveform, last=False)

    def flush(self) -> Codes:
        if self._closed:
            raise SessionError(
                "this stream encoder was flushed already; make a new one with stream_encoder()."
            )
        self._closed = True
        return self._advance(torch.zeros(1, 1, 0), last=True)

    @torch.no_grad()
    def _advance(self, waveform: Tensor, last: bool) -> Codes:
        with exact_float32(self.device):
            latents = self._encoder.step(waveform.to(self.device, torch.float32), last)
            count = latents.shape[-1]
            codes = (
                self._quantize(latents) if count else torch.zeros(self.spec.num_levels, 0, dtype=torch.long)
            )
        start = self._final_frames * self.spec.frame_samples
        self._final_frames += count
        samples = self._seen_samples - start if last else count * self.spec.frame_samples
        return Codes([level[None] for level in codes.to(self.device)], [samples])


class CausalStreamDecoder(StreamDecoder):
    """Coarse frames -> samples; each frame's samples come with the frame, after the codec's start.

    Streaming state: that of ``decoder``; memory does not grow with the stream. Samples beyond the true
    lengths that the pushed codes state are held back until flush names another length.

    Args:
        spec: The codec's numbers.
        dequantize: Codes [K, t] -> latents [1, D, t].
        decoder: Latents -> waveform [1, 1, s]; fresh, this stream's own.
        device: Where ``decoder`` computes; codes are moved there.
    """

    def __init__(
        self, spec: CodecSpec, dequantize: Callable[[Tensor], Tensor], decoder: Stage, device: torch.device
    ) -> None:
        self.spec, self.device = spec, device
        self._dequantize, self._decoder = dequantize, decoder
        self._waiting = torch.zeros(1, 1, 0)
        self._given_samples = self._stated_samples = 0
        self._closed = False

    def push(self, codes: Codes) -> Tensor:
        if self._closed:
            raise SessionError("this stream decoder was flushed; make a new one with stream_decoder().")
        codes.check(self.spec)
        if codes.batch_size != 1:
            raise CodecError(f"a stream takes one item, got a batch of {codes.batch_size}; use Codes.item.")
        self._stated_samples += codes.num_samples[0]
        if codes.levels[0].shape[1]:
            self._advance(torch.cat(codes.levels), last=False)
        return self._give(self._stated_samples)

    def flush(self, num_samples: int | None = None) -> Tensor:
        if self._closed:
            raise SessionError(
                "this stream decoder was flushed already; make a new one with stream_decoder()."
            )
        if num_samples is not None and num_samples < self._given_samples:
            raise CodecError(
                f"{self._given_samples} samples were given already, the stream cannot end at {num_samples}; "
                f"state the true length in the Codes of the last push."
            )
        self._closed = True
        self._advance(torch.zeros(self.spec.num_levels, 0, dtype=torch.long), last=True)
        return self._give(self._stated_samples if num_samples is None else num_samples)

    @torch.no_grad()
    def _advance(self, codes: Tensor, last: bool) -> None:
        count = codes.shape[-1]
        codes = codes if count else torch.zeros(self.spec.num_levels, 1, dtype=torch.long)
        with exact_float32(self.device):
            latents = self._dequantize(codes.to(self.device))[..., :count]
            samples = self._decoder.step(latents, last)
        self._waiting = torch.cat([self._waiting.to(self.device), samples], dim=-1)

    def _give(self, until: int) -> Tensor:
        """Return waiting samples up to position ``until`` of the stream."""
        count = max(0, min(until - self._given_samples, self._waiting.shape[-1]))
        ready, self._waiting = self._waiting[..., :count], self._waiting[..., count:]
        self._given_samples += count
        return ready
