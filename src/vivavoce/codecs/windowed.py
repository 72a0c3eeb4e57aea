"""Exact streaming for codecs whose layers have a finite reach: each push recomputes a window around what is final.

Costs (2 x context + 1) times the whole pass at one frame per push, which only a very cheap codec should pay.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vivavoce.base.errors import CodecError, SessionError
from vivavoce.codecs.contract import Codec, Codes, StreamDecoder, StreamEncoder


class WindowedEncoder(StreamEncoder):
    """Encodes whole coarse frames with ``context`` frames on both sides.

    Args:
        codec: Gives the spec.
        encode: Waveform [1, S], S a multiple of the frame -> codes per level.
        context: Frames on each side a frame's codes depend on.
    """

    def __init__(self, codec: Codec, encode: Callable[[Tensor], list[Tensor]], context: int) -> None:
        self.spec, self._encode, self._context = codec.spec, encode, context
        self._kept = torch.zeros(1, 0)  # samples from frame max(0, final - context) on
        self._final = 0  # frames already returned
        self._seen = 0  # samples received
        self._closed = False

    @torch.inference_mode()
    def push(self, waveform: Tensor) -> Codes:
        if self._closed:
            raise SessionError("this stream encoder was flushed; make a new one with stream_encoder().")
        if waveform.dim() != 3 or waveform.shape[:2] != (1, 1):
            raise CodecError(f"a stream takes [1, 1, s] samples, got shape {list(waveform.shape)}.")
        self._kept = torch.cat([self._kept.to(waveform.device), waveform[0]], dim=1)
        self._seen += waveform.shape[-1]
        return self._take(self._seen // self.spec.frame_samples - self._context)

    @torch.inference_mode()
    def flush(self) -> Codes:
        if self._closed:
            raise SessionError("this stream encoder was flushed already.")
        self._closed = True
        total = self.spec.num_frames(self._seen) if self._seen else 0
        missing = total * self.spec.frame_samples - self._seen
        self._kept = torch.nn.functional.pad(self._kept, (0, missing))
        return self._take(total, last=True)

    def _take(self, until: int, last: bool = False) -> Codes:
        """Return frames [final, until); ``until`` may be negative while the context fills."""
        size, per_level = self.spec.frame_samples, self.spec.codes_per_level
        count = max(0, until - self._final)
        if not count:
            return Codes([torch.zeros(1, 0, dtype=torch.long) for _ in per_level], [0])
        left = min(self._final, self._context)
        window = self._kept[:, : (left + count + (0 if last else self._context)) * size]
        levels = [
            level[:, left * n : (left + count) * n]
            for level, n in zip(self._encode(window), per_level, strict=True)
        ]
        self._final += count
        self._kept = self._kept[:, (left + count - min(self._final, self._context)) * size :]
        samples = count * size if not last else self._seen - (self._final - count) * size
        return Codes(levels, [samples])


class WindowedDecoder(StreamDecoder):
    """Decodes whole coarse frames with ``context`` frames on both sides.

    Args:
        codec: Gives the spec.
        decode: Codes per level [1, T_l] -> waveform [1, S].
        context: Frames on each side a frame's samples depend on.
    """

    def __init__(self, codec: Codec, decode: Callable[[list[Tensor]], Tensor], context: int) -> None:
        self.spec, self._decode, self._context = codec.spec, decode, context
        self._kept = [torch.zeros(1, 0, dtype=torch.long) for _ in self.spec.strides]
        self._final = self._seen = 0
        self._emitted = 0
        self._claimed = 0
        self._closed = False

    @torch.inference_mode()
    def push(self, codes: Codes) -> Tensor:
        if self._closed:
            raise SessionError("this stream decoder was flushed; make a new one with stream_decoder().")
        codes.check(self.spec)
        self._kept = [
            torch.cat([k.to(c.device), c], dim=1) for k, c in zip(self._kept, codes.levels, strict=True)
        ]
        self._seen += codes.levels[0].shape[1] // self.spec.codes_per_level[0]
        self._claimed += codes.num_samples[0]
        return self._take(self._seen - self._context, last=False)

    @torch.inference_mode()
    def flush(self, num_samples: int | None = None) -> Tensor:
        if self._closed:
            raise SessionError("this stream decoder was flushed already.")
        self._closed = True
        tail = self._take(self._seen, last=True)
        before = self._emitted - tail.shape[-1]
        total = self._claimed if num_samples is None else num_samples
        return tail[..., : max(0, total - before)]

    def _take(self, until: int, last: bool) -> Tensor:
        size, per_level = self.spec.frame_samples, self.spec.codes_per_level
        count = max(0, until - self._final)
        if not count:
            return torch.zeros(1, 1, 0)
        left = min(self._final, self._context)
        frames = left + count + (0 if last else self._context)
        window = [k[:, : frames * n] for k, n in zip(self._kept, per_level, strict=True)]
        audio = self._decode(window)[:, left * size : (left + count) * size]
        self._final += count
        drop = left + count - min(self._final, self._context)
        self._kept = [k[:, drop * n :] for k, n in zip(self._kept, per_level, strict=True)]
        self._emitted += audio.shape[-1]
        return audio[:, None]
