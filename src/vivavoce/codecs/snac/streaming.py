"""SNAC streams: waveform chunks to codes, code frames to waveform, exactly as the whole would give.

The whole-clip calls of the codec run through these same streams block by block, so long clips take constant memory
and the whole and the stream share every number that does not depend on the block length.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vivavoce.base.errors import CodecError, SessionError
from vivavoce.codecs.causal_layers import exact_float32
from vivavoce.codecs.contract import CodecSpec, Codes, StreamDecoder, StreamEncoder
from vivavoce.codecs.snac.layers import (
    DecoderBlock,
    EncoderBlock,
    LocalAttention,
    NoiseBlock,
    ResidualUnit,
    Snake,
)
from vivavoce.codecs.snac.network import Decoder, Encoder
from vivavoce.codecs.snac.noise import NoiseSource
from vivavoce.codecs.snac.quantizer import ResidualQuantizer
from vivavoce.codecs.snac.stages import (
    Convolution,
    Downsample,
    Noise,
    Pointwise,
    Residual,
    Stage,
    Tanh,
    Upsample,
    WindowedAttention,
)


def stages_of(network: Encoder | Decoder) -> list[Stage]:
    """Pack a network into stages; weights are copied once into the layout the stages want."""
    parts: list[nn.Module] = []
    for part in network.block if isinstance(network, Encoder) else network.model:
        parts += part.block if isinstance(part, EncoderBlock | DecoderBlock) else [part]
    stages: list[Stage] = []
    snake: Snake | None = None  # waits for the convolution it is computed into
    noise_blocks = 0
    for part in parts:
        if isinstance(part, Snake):
            snake = part
            continue
        if isinstance(part, ResidualUnit):
            stages.append(Residual(part))
        elif isinstance(part, nn.ConvTranspose1d):
            assert snake is not None
            stages.append(Upsample(part, snake))
        elif isinstance(part, NoiseBlock):
            stages.append(Noise(part, noise_blocks))
            noise_blocks += 1
        elif isinstance(part, LocalAttention):
            stages.append(WindowedAttention(part))
        elif isinstance(part, nn.Tanh):
            stages.append(Tanh())
        elif isinstance(part, nn.Conv1d) and part.kernel_size[0] == 1:
            stages.append(Pointwise(part))
        elif isinstance(part, nn.Conv1d) and snake is not None and isinstance(network, Encoder):
            stages.append(Downsample(part, snake))
        elif isinstance(part, nn.Conv1d):
            stages.append(Convolution(part, snake))
        else:
            raise AssertionError(f"no streaming stage for {type(part).__name__}")
        snake = None
    return stages


def _run(stages: Sequence[Stage], rows: Tensor, end: bool = False) -> Tensor:
    for stage in stages:
        rows = stage.push(rows, end)
    return rows


class SNACStreamEncoder(StreamEncoder):
    """Waveform chunks to final codes, whole coarse frames at a time.

    Input is cut into blocks of ``block_frames`` coarse frames whatever the chunks were, so with equal blocks the
    codes are those of the whole bit for bit. The codes of a coarse frame come once ``encoder_lookahead_samples``
    beyond its end have arrived, rounded up to a block (24 kHz: 4757 samples, 198 ms, rounded up to 6144).

    Args:
        spec: Of the codec.
        stages: From :func:`stages_of` the encoder.
        quantizer: Turns final latents into codes.
        block_frames: Coarse frames per block.
    """

    def __init__(
        self, spec: CodecSpec, stages: list[Stage], quantizer: ResidualQuantizer, block_frames: int = 1
    ) -> None:
        self.spec, self.quantizer = spec, quantizer
        self.stages = [stage.fresh() for stage in stages]
        self.block_samples = block_frames * spec.frame_samples
        self.like = next(quantizer.parameters())
        self.pending = self.like.new_empty(0, 1)
        self.latents = self.like.new_empty(0, quantizer.width)
        self.num_samples = self.num_coded = 0
        self.ended = False

    @torch.no_grad()
    def push(self, waveform: Tensor) -> Codes:
        """Take float [1, 1, s], any s >= 0, and return the codes that are now final.

        Raises:
            SessionError: The stream has ended.
            CodecError: Another shape, or values that are not finite.
        """
        self._check_open()
        if waveform.dim() != 3 or waveform.shape[:2] != (1, 1):
            raise CodecError(f"a stream of {self.spec.name} takes [1, 1, s], got {list(waveform.shape)}.")
        if not waveform.isfinite().all():
            raise CodecError("the waveform holds values that are not finite; check how it was recorded.")
        self.num_samples += waveform.shape[-1]
        self.pending = torch.cat([self.pending, waveform[0].t().to(self.like)])
        whole = len(self.pending) // self.block_samples * self.block_samples
        ready, self.pending = self.pending[:whole], self.pending[whole:].clone()
        return self._encode(ready, end=False)

    @torch.no_grad()
    def flush(self) -> Codes:
        """End of stream: pad with zeros to a legal length and return the remaining codes.

        Raises:
            SessionError: The stream has ended before.
        """
        self._check_open()
        self.ended = True
        if not self.num_samples:
            return self._encode(self.pending, end=False)
        missing = self.spec.num_frames(self.num_samples) * self.spec.frame_samples - self.num_samples
        return self._encode(torch.cat([self.pending, self.pending.new_zeros(missing, 1)]), end=True)

    def _check_open(self) -> None:
        if self.ended:
            raise SessionError("this encoder stream has ended; ask the codec for a new one.")

    def _encode(self, rows: Tensor, end: bool) -> Codes:
        """Run whole blocks, and the end if it is there; every step has the same sizes however input was cut."""
        blocks = [b.clone() for b in rows.split(self.block_samples)] if len(rows) else []
        with exact_float32(rows.device):
            pieces = [self._quantize(_run(self.stages, block)) for block in blocks]
            if end:
                pieces.append(self._quantize(_run(self.stages, rows[:0], end=True)))
        empty = torch.zeros(0, dtype=torch.long, device=rows.device)
        levels = [torch.cat([empty, *(p[k] for p in pieces)])[None] for k in range(self.spec.num_levels)]
        frames = levels[0].shape[1] // self.spec.codes_per_level[0]
        total = self.num_samples if self.ended else self.num_coded + frames * self.spec.frame_samples
        codes = Codes(levels, [total - self.num_coded])
        self.num_coded = total
        return codes

    def _quantize(self, rows: Tensor) -> list[Tensor]:
        """Codes of the coarse frames that are whole now; keeps the steps of an open frame."""
        rows = torch.cat([self.latents, rows])
        whole = len(rows) // max(self.spec.strides) * max(self.spec.strides)
        self.latents = rows[whole:].clone()
        return self.quantizer.encode(rows[:whole])


class SNACStreamDecoder(StreamDecoder):
    """Code frames to final samples; state instead of windows, so nothing is computed twice.

    After K coarse frames ``K * frame_samples - lookahead_samples`` samples are out (24 kHz: 198 ms behind); with
    attention, whole windows of ``pad_to_frames`` coarse frames count. At the end of the stream the rest follows.
    A causal decoder is not behind; samples beyond what the codes state as true wait until flush names the length.

    Args:
        spec: Of the codec.
        stages: From :func:`stages_of` the decoder.
        quantizer: Turns codes into latents.
        noise: What noise blocks add; None skips them.
    """

    def __init__(
        self,
        spec: CodecSpec,
        stages: list[Stage],
        quantizer: ResidualQuantizer,
        noise: NoiseSource | None = None,
    ) -> None:
        self.spec, self.quantizer = spec, quantizer
        self.stages = [stage.fresh() for stage in stages]
        for stage in self.stages:
            if isinstance(stage, Noise):
                stage.source = noise
        self.like = next(quantizer.parameters())
        self.num_frames = self.num_samples = self.given_samples = 0
        self.last: list[Tensor] = []
        self.waiting = self.like.new_empty(0, 1)
        self.ended = False

    @torch.no_grad()
    def push(self, codes: Codes) -> Tensor:
        """Take whole coarse frames [1, ...] and return float [1, 1, s], the samples that are now final.

        Raises:
            SessionError: The stream has ended.
            CodecError: The codes do not fit this codec, or the batch is not 1.
        """
        if self.ended:
            raise SessionError("this decoder stream has ended; ask the codec for a new one.")
        codes.check(self.spec)
        if codes.batch_size != 1:
            raise CodecError(f"a stream takes one item, these codes hold {codes.batch_size}.")
        self.num_samples += codes.num_samples[0]
        rows = torch.cat([self.waiting, self._feed(codes.levels)])
        ready = max(0, self.num_samples - self.given_samples) if self.spec.causal else len(rows)
        self.waiting = rows[ready:].clone()
        return self._emit(rows[:ready])

    @torch.no_grad()
    def flush(self, num_samples: int | None = None) -> Tensor:
        """End of stream: return the rest.

        Args:
            num_samples: Length of the whole stream; default what the pushed codes said.

        Raises:
            SessionError: The stream has ended before.
            CodecError: ``num_samples`` is more than was pushed or less than was given already.
        """
        if self.ended:
            raise SessionError("this decoder stream has ended; ask the codec for a new one.")
        total = self.num_samples if num_samples is None else num_samples
        if not self.given_samples <= total <= self.num_frames * self.spec.frame_samples:
            raise CodecError(
                f"cannot end the stream at {total} samples: {self.given_samples} were given and "
                f"{self.num_frames} frames hold {self.num_frames * self.spec.frame_samples}."
            )
        self.ended = True
        if not self.num_frames:
            return self.like.new_empty(1, 1, 0)
        rest = [self.waiting]
        missing = -self.num_frames % self.spec.pad_to_frames
        if missing:  # repeat the last frame up to a legal length; what it adds is cropped
            rest.append(self._feed([level.repeat(1, missing) for level in self.last]))
        with exact_float32(self.like.device):
            rest.append(_run(self.stages, self.like.new_empty(0, self.quantizer.width), end=True))
        return self._emit(torch.cat(rest)[: total - self.given_samples])

    def _feed(self, levels: list[Tensor]) -> Tensor:
        frames = levels[0].shape[1] // self.spec.codes_per_level[0]
        self.num_frames += frames
        if frames:
            counts = self.spec.codes_per_level
            self.last = [level[:, -n:] for level, n in zip(levels, counts, strict=True)]
        with exact_float32(self.like.device):
            rows = self.quantizer.embed([level[0].to(self.like.device) for level in levels])
            return _run(self.stages, rows)

    def _emit(self, rows: Tensor) -> Tensor:
        self.given_samples += len(rows)
        return rows.view(1, 1, -1)
