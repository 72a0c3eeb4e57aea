"""Causal layers that take a signal piece by piece and give what the whole signal would give.

A convolutional codec is causal once its left padding is known: from then on every layer needs only a few of
its last inputs. A `Stage` keeps those inputs. Fed in any pieces, the joined outputs of a stage equal the
layer's output for the whole signal up to float rounding; at the end of the signal the last piece adds the
layer's right padding.

Letters: B batch, C channels, t positions of a piece.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """Compute in true float32: no autocast, no TF32, deterministic convolutions.

    A code is the nearest of a thousand codewords, so the 10-bit mantissa of TF32 and bfloat16 changes codes.
    """
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with (
            torch.autocast(device.type, enabled=False),
            torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


class Stage(ABC):
    """One layer with its memory of one stream."""

    @abstractmethod
    def step(self, piece: Tensor, last: bool) -> Tensor:
        """Take the next inputs and return the outputs that are now final.

        Args:
            piece: [B, C, t], t >= 0.
            last: No more inputs follow; pad on the right and return everything.

        Returns:
            [B, C', t'], t' >= 0.
        """

    def inputs_for(self, outputs: int) -> int:
        """The least inputs after which ``outputs`` >= 1 outputs are final, without the end of the signal."""
        return outputs


class Pointwise(Stage):
    """A function of each position alone."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function

    def step(self, piece: Tensor, last: bool) -> Tensor:
        return self.function(piece)


class Convolution(Stage):
    """A strided convolution, padded left by ``span - stride`` and right by what completes the last stride.

    Streaming state: the last ``span - stride`` inputs and the inputs of an incomplete stride. Reflected left
    padding needs ``span - stride + 1`` inputs before the first output.

    Args:
        conv: Weights, stride, dilation, groups; its own padding is 0. ``span`` is the dilated kernel, and at
            least ``2 * stride - 1`` with reflected padding.
        pad: "reflect", "constant" (zeros) or "replicate", both sides alike.
    """

    def __init__(self, conv: nn.Conv1d, pad: str) -> None:
        self.weight, self.bias = conv.weight.detach(), None if conv.bias is None else conv.bias.detach()
        self.stride, self.dilation, self.groups = conv.stride[0], conv.dilation[0], conv.groups
        self.span = (conv.kernel_size[0] - 1) * self.dilation + 1
        self.left, self.pad = self.span - self.stride, pad
        assert pad != "reflect" or self.stride == 1 or self.left >= self.stride - 1
        self._kept: Tensor | None = None
        self._started = False

    def inputs_for(self, outputs: int) -> int:
        return max(outputs * self.stride, self.left + 1 if self.pad == "reflect" else 1)

    def step(self, piece: Tensor, last: bool) -> Tensor:
        kept = piece if self._kept is None else torch.cat([self._kept, piece], dim=-1)
        inputs = kept.shape[-1] - (self.left if self._started else 0)
        right = -inputs % self.stride if last else 0
        if not self._started and (last or inputs >= self.inputs_for(1)) and inputs:
            kept, self._started = self._padded(kept, self.left, right), True
        elif right:
            kept = self._padded(kept, 0, right)
        count = max(0, (kept.shape[-1] - self.span) // self.stride + 1) if self._started else 0
        self._kept = kept[..., count * self.stride :]
        if not count:
            return piece.new_zeros(piece.shape[0], self.weight.shape[0], 0)
        window = kept[..., : (count - 1) * self.stride + self.span]
        return F.conv1d(window, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)

    def _padded(self, x: Tensor, left: int, right: int) -> Tensor:
        """Pad; where a signal is too short to be reflected, zeros are thought after its end."""
        if self.pad != "reflect":
            return F.pad(x, (left, right), mode=self.pad)
        zeros = max(0, max(left, right) + 1 - x.shape[-1])
        padded = F.pad(F.pad(x, (0, zeros)), (left, right), mode="reflect")
        return padded[..., : padded.shape[-1] - zeros]


class TransposedConvolution(Stage):
    """A transposed convolution cut on the right to ``inputs * stride`` outputs, so that it looks only back.

    Streaming state: the ``kernel - stride`` outputs that the next inputs still add to.
    """

    def __init__(self, conv: nn.ConvTranspose1d) -> None:
        self.weight, self.bias = conv.weight.detach(), None if conv.bias is None else conv.bias.detach()
        self.stride, self.groups = conv.stride[0], conv.groups
        self.channels, self.overlap = conv.out_channels, conv.kernel_size[0] - self.stride
        self._tail: Tensor | None = None

    def inputs_for(self, outputs: int) -> int:
        return -(-outputs // self.stride)

    def step(self, piece: Tensor, last: bool) -> Tensor:
        final = piece.shape[-1] * self.stride
        if not final:
            return piece.new_zeros(piece.shape[0], self.channels, 0)
        out = F.conv_transpose1d(piece, self.weight, None, self.stride, groups=self.groups)
        if self._tail is not None:
            out[..., : self.overlap] += self._tail
        self._tail = out[..., final:]
        out = out[..., :final]
        return out if self.bias is None else out + self.bias[:, None]


class Recurrence(Stage):
    """An LSTM over positions, added to its input. Streaming state: hidden and cell values of every layer.

    Short pieces run cell by cell: a call of the whole LSTM first repacks its weights, 7 ms at 512 channels on a
    CPU, which is half the time that one frame lasts.
    """

    short = 8  # positions

    def __init__(self, lstm: nn.LSTM) -> None:
        assert lstm.proj_size == 0 and not lstm.bidirectional and not lstm.batch_first and lstm.bias
        self.lstm = lstm
        self._state: tuple[Tensor, Tensor] | None = None

    def step(self, piece: Tensor, last: bool) -> Tensor:
        if not piece.shape[-1]:
            return piece
        x = piece.permute(2, 0, 1)
        if self._state is None:
            first = x.new_zeros(self.lstm.num_layers, x.shape[1], self.lstm.hidden_size)
            self._state = (first, first)
        y = self._cells(x) if len(x) <= self.short else self._whole(x)
        return (y + x).permute(1, 2, 0)

    def _whole(self, x: Tensor) -> Tensor:
        y, self._state = self.lstm(x, self._state)
        return y

    def _cells(self, x: Tensor) -> Tensor:
        assert self._state is not None
        hidden, cell = (list(part.unbind(0)) for part in self._state)
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weights = [[getattr(self.lstm, f"{n}_l{k}") for n in names] for k in range(self.lstm.num_layers)]
        out = []
        for value in x.unbind(0):
            for k, layer in enumerate(weights):
                hidden[k], cell[k] = torch.lstm_cell(value, (hidden[k], cell[k]), *layer)
                value = hidden[k]
            out.append(value)
        self._state = (torch.stack(hidden), torch.stack(cell))
        return torch.stack(out)


class Chain(Stage):
    """Stages one after the other."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = list(stages)

    def inputs_for(self, outputs: int) -> int:
        for stage in reversed(self.stages):
            outputs = stage.inputs_for(outputs)
        return outputs

    def step(self, piece: Tensor, last: bool) -> Tensor:
        for stage in self.stages:
            piece = stage.step(piece, last)
        return piece


class Residual(Stage):
    """The sum of two paths of equal rate. Streaming state: what the faster path is ahead."""

    def __init__(self, branch: Stage, shortcut: Stage) -> None:
        self.paths = (branch, shortcut)
        self._ahead: list[Tensor | None] = [None, None]

    def inputs_for(self, outputs: int) -> int:
        return max(path.inputs_for(outputs) for path in self.paths)

    def step(self, piece: Tensor, last: bool) -> Tensor:
        ready = []
        for path, ahead in zip(self.paths, self._ahead, strict=True):
            out = path.step(piece, last)
            ready.append(out if ahead is None else torch.cat([ahead, out], dim=-1))
        count = min(r.shape[-1] for r in ready)
        self._ahead = [r[..., count:] for r in ready]
        return ready[0][..., :count] + ready[1][..., :count]
