"""Many clips through EnCodec's encoder at once: the codes of each clip alone, at less than half the cost on a CPU.

Two things make the plain encoder slow there. The LSTM reads all of its weights at every step, for one clip; here clips
of like length go through it together. And every layer passes over the whole clip, copying it to pad it; here the
convolutions run over half a second at a time, which stays in the cache, beginning with the few samples to its left
that they look back at. The convolutions' sums keep their order, so what they give is the same to the last digit.

An LSTM adds in another order for several clips than for one. That moves the last digits, and a code is the nearest of
a thousand codewords. So nearness is checked: where another codeword is so near that rounding could have decided, the
clip is encoded again by the plain encoder, alone. How far rounding moves latents is measured on the model at hand.

Letters: B clips, T positions, C channels, D width, N codewords, K levels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.encodec.modeling_encodec import EncodecConv1d, EncodecLSTM, EncodecResnetBlock

from vivavoce.codecs.causal_layers import exact_float32
from vivavoce.codecs.contract import Codes
from vivavoce.codecs.encodec import EncodecCodec

PIECE_S = 1.0
ROWS = 32  # clips that share a pass of the LSTM
FEWEST_FRAMES = 12  # shorter clips, in which left and right paddings meet, are encoded alone
SAFETY = 12.0  # how many times the measured move of a latent, in any one direction, counts as rounding
DISTANCE_ROUNDING = 3e-7  # of a squared distance, relative to the squares it is made of


class _Convolution:
    """A convolution over pieces [1, C, T]; the first one is padded on the left, the last one on the right.

    A later piece begins with the ``left`` inputs before its first stride.
    """

    def __init__(self, layer: EncodecConv1d) -> None:
        self.conv, self.pad = layer.conv, layer.pad_mode
        self.stride = self.conv.stride[0]
        self.left = (self.conv.kernel_size[0] - 1) * self.conv.dilation[0] + 1 - self.stride

    def begin(self, output: int) -> int:
        """The first input that an output hangs on."""
        return output * self.stride - self.left

    def __call__(self, x: Tensor, first: bool) -> Tensor:
        held = x.shape[-1] - (0 if first else self.left)
        x = self._padded(x, self.left if first else 0, -held % self.stride)
        bias = self.conv.bias
        if bias is not None and self.conv.kernel_size[0] == 1 and torch.get_num_threads() == 1:
            # what PyTorch does here with one thread, but without copying a cut tensor
            return torch.addmm(bias[:, None], self.conv.weight[:, :, 0], x[0])[None]
        return self.conv(x)

    def _padded(self, x: Tensor, left: int, right: int) -> Tensor:
        if not left and not right:
            return x
        if self.pad != "reflect":
            return F.pad(x, (left, right), mode=self.pad)
        end = x.shape[-1]  # F.pad does the same, at a third of the speed
        return torch.cat(
            [x[..., 1 : left + 1].flip(-1), x, x[..., end - right - 1 : end - 1].flip(-1)], dim=-1
        )


class _Residual:
    """Activations and convolutions, added to their input or to a convolution of it."""

    def __init__(self, block: EncodecResnetBlock) -> None:
        self.convolutions = [_Convolution(layer) for layer in block.block if isinstance(layer, EncodecConv1d)]
        self.left = sum(convolution.left for convolution in self.convolutions)
        self.shortcut = _Convolution(block.shortcut) if isinstance(block.shortcut, EncodecConv1d) else None

    def begin(self, output: int) -> int:
        return output - self.left

    def __call__(self, x: Tensor, first: bool) -> Tensor:
        behind = x if first else x[..., self.left :]
        kept = behind.clone() if self.shortcut is None else self.shortcut(behind, first)
        for convolution in self.convolutions:
            x = convolution(F.elu_(x), first)
        return kept.add_(x)


class _Activation:
    def begin(self, output: int) -> int:
        return output

    def __call__(self, x: Tensor, first: bool) -> Tensor:
        return F.elu_(x)


def _stage(layer: nn.Module) -> _Convolution | _Residual | _Activation:
    if isinstance(layer, EncodecConv1d):
        return _Convolution(layer)
    return _Residual(layer) if isinstance(layer, EncodecResnetBlock) else _Activation()


class EncodecBatches:
    """Encodes lists of clips.

    Args:
        codec: On the device where clips are encoded.
        piece_s: Length that convolutions run over at a time, seconds.
        rows: Clips that share a pass of the LSTM, 2 or more.

    Attributes:
        alone: How many clips of the last call were left to the plain encoder.
        reach: What may be rounding in a latent, in any one direction.
    """

    def __init__(self, codec: EncodecCodec, piece_s: float = PIECE_S, rows: int = ROWS) -> None:
        self.codec, self.rows, self.alone = codec, rows, 0
        self.frame = codec.spec.frame_samples
        self.piece_frames = max(FEWEST_FRAMES, round(piece_s * codec.spec.frame_rate_hz))
        layers = list(codec.model.encoder.layers)
        split = next(i for i, layer in enumerate(layers) if isinstance(layer, EncodecLSTM))
        self.before, self.last = (
            [_stage(layer) for layer in layers[: split - 1]],
            _Convolution(layers[split - 1]),
        )
        self.lstm, self.after = layers[split].lstm, nn.Sequential(*layers[split + 1 :])
        codebooks = [layer.codebook.embed for layer in codec.model.quantizer.layers]
        self.codebooks = codebooks[: codec.spec.num_levels]
        self.reach = self._measure_rounding()

    @torch.inference_mode()
    def _measure_rounding(self) -> float:
        """Compare both ways on three seconds of noise that rises from very soft to loud."""
        frames = max(FEWEST_FRAMES, round(3 * self.codec.spec.frame_rate_hz))
        noise = torch.randn(frames * self.frame, generator=torch.Generator().manual_seed(0))
        noise *= torch.logspace(-3, -0.5, len(noise))
        with exact_float32(self.codec.device):
            [found] = self._latents([noise])
            wanted = self.codec.whole_latents(noise[None, None].to(self.codec.device))
        moved = (found - wanted)[0].norm(dim=0).max()
        return SAFETY * float(moved) / found.shape[1] ** 0.5

    @torch.inference_mode()
    def encode(self, clips: Sequence[Tensor]) -> list[Codes]:
        """Encode clips.

        Args:
            clips: float32 [S] each, S >= 1, finite.

        Returns:
            Codes of batch 1 on the CPU, in order; each as ``codec.encode`` gives them for the clip alone.
        """
        longest = int(self.codec.whole_clip_s * self.codec.spec.sample_rate)
        together = [i for i, clip in enumerate(clips) if FEWEST_FRAMES * self.frame <= len(clip) <= longest]
        together.sort(key=lambda i: (len(clips[i]), i))
        found: dict[int, Tensor] = {}
        with exact_float32(self.codec.device):
            for start in range(0, len(together), self.rows):
                group = together[start : start + self.rows]
                for i, codes in zip(group, self._encode([clips[i] for i in group]), strict=True):
                    if codes is not None:
                        found[i] = codes
        self.alone = len(clips) - len(found)
        return [
            Codes(list(found[i]), [len(clip)]) if i in found else self._encode_alone(clip)
            for i, clip in enumerate(clips)
        ]

    def _encode_alone(self, clip: Tensor) -> Codes:
        codes = self.codec.encode(clip[None, None])
        return Codes([level.cpu() for level in codes.levels], codes.num_samples)

    def _encode(self, clips: Sequence[Tensor]) -> list[Tensor | None]:
        """Codes [K, 1, T] of each clip, or None where rounding may have decided one of them."""
        made: list[Tensor | None] = []
        for latents in self._latents(clips):
            codes = self.codec.quantize(latents)
            made.append(codes.cpu() if self._is_sure(latents[0].T, codes[:, 0]) else None)
        return made

    def _latents(self, clips: Sequence[Tensor]) -> list[Tensor]:
        """Latents [1, D, T] of each clip; clips in order of length."""
        features = [self._features(clip) for clip in clips]
        states = self._recur(features)
        return [self.after((y + x).T[None].contiguous()) for x, y in zip(features, states, strict=True)]

    def _recur(self, features: Sequence[Tensor]) -> list[Tensor]:
        """What the LSTM makes of each [T, D], shortest first; rows that have ended fall out at some of the steps."""
        rows = [*reversed(features), features[-1]] if len(features) == 1 else list(reversed(features))
        lengths = [len(row) for row in rows]
        # What follows a clip cannot change it. Silence would let the states decay to denormal numbers, which are slow.
        steps = torch.arange(lengths[0], device=self.codec.device)
        padded = torch.stack([row[steps % len(row)] for row in rows], dim=1)  # [T, B, D]
        ends = sorted({lengths[0], *lengths[:: max(2, len(lengths) // 4)]})
        made: list[list[Tensor]] = [[] for _ in rows]
        start, state = 0, None
        for end in ends:
            count = max(2, sum(length > start for length in lengths))  # one alone adds in another order
            if state is not None:
                state = (state[0][:, :count].contiguous(), state[1][:, :count].contiguous())
            out, state = self.lstm(padded[start:end, :count], state)
            for row in range(count):
                made[row].append(out[:, row])
            start = end
        joined = [torch.cat(pieces)[:length] for pieces, length in zip(made, lengths, strict=True)]
        return list(reversed(joined[: len(features)]))

    def _features(self, clip: Tensor) -> Tensor:
        """What the LSTM gets of a clip, [T, D]."""
        wave = clip.to(self.codec.device, torch.float32)[None, None]
        frames, pieces = -(-wave.shape[-1] // self.frame), []
        # the last piece is never so short that its end could not be mirrored
        starts = [0, *range(self.piece_frames, frames - FEWEST_FRAMES, self.piece_frames)]
        for start, stop in zip(starts, [*starts[1:], frames], strict=True):
            at = start * self.last.stride
            for stage in reversed(self.before):
                at = stage.begin(at)
            x = wave[..., max(0, at) : stop * self.frame]
            for stage in self.before:
                x = stage(x, start == 0)
            pieces.append(x)
        # the last convolution has so many weights, and so few positions, that pieces of them do not pay
        return self.last(torch.cat(pieces, dim=-1), True)[0].T.contiguous()

    def _is_sure(self, latents: Tensor, codes: Tensor) -> bool:
        """Whether latents [T, D] that differ by rounding would have these codes [K, T] too."""
        rest = latents
        for codebook, chosen in zip(self.codebooks, codes, strict=True):
            norms = codebook.pow(2).sum(1)
            distances = torch.addmm(
                norms, rest, codebook.T, alpha=-2
            )  # less the square of rest, the same for all
            nearest = distances.gather(1, chosen[:, None])[:, 0]
            distances.scatter_(1, chosen[:, None], torch.inf)
            second, other = distances.min(dim=1)
            apart = (codebook[chosen] - codebook[other]).norm(dim=1)
            # along the line between two codewords, a move by `reach` changes the difference by 2 * reach * apart
            doubt = 2 * self.reach * apart + DISTANCE_ROUNDING * (rest.pow(2).sum(1) + nearest.abs())
            if bool((second - nearest <= doubt).any()):
                return False
            rest = rest - codebook[chosen]
        return True
