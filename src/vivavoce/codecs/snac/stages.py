"""Streaming stages: the network cut into parts that take rows as they come and give what is final.

A stage holds packed weights, shared by all streams, and the state of one stream; :meth:`Stage.fresh` starts
another. Rows are time steps, [n, C] with channels last: 1x1, strided and transposed convolutions are then matrix
products without copies, and depthwise convolutions run in their fastest layout. Every stage gives exactly the rows
the plain module would give, as soon as its inputs are there, however the input is cut.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vivavoce.codecs.snac.layers import (
    SNAKE_EPSILON,
    CausalConv1d,
    LocalAttention,
    NoiseBlock,
    ResidualUnit,
    Snake,
)
from vivavoce.codecs.snac.noise import NoiseSource


class Stage(ABC):
    """Rows in, final rows out."""

    def fresh(self) -> Stage:
        """The same stage at the start of a stream; weights are shared."""
        return copy.copy(self)

    @abstractmethod
    def push(self, rows: Tensor, end: bool) -> Tensor:
        """Take rows [n, C], n >= 0, and return the output rows that are now final.

        Args:
            rows: The next rows; the stage may overwrite them.
            end: No more rows will come; return all that is left.
        """


class Product:
    """Rows times a fixed matrix plus a fixed bias.

    A matrix larger than the cache is cut into column tiles: a product with few rows then reads it once instead of
    repacking it in memory, which is what one streaming step of the wide layers would otherwise spend its time on.
    """

    TILE_COLUMNS, WIDE_ELEMENTS = 32, 1 << 19

    def __init__(self, matrix: Tensor, bias: Tensor | None) -> None:
        self.columns, self.bias = matrix.shape[1], bias
        self.tiled = matrix.numel() >= self.WIDE_ELEMENTS and self.columns % self.TILE_COLUMNS == 0
        if self.tiled:
            matrix = matrix.view(len(matrix), -1, self.TILE_COLUMNS).transpose(0, 1)
        self.matrix = matrix.contiguous()

    def __call__(self, rows: Tensor) -> Tensor:
        """[n, inputs] to [n, columns]."""
        if not self.tiled:
            return rows @ self.matrix if self.bias is None else torch.addmm(self.bias, rows, self.matrix)
        out = torch.bmm(rows.expand(len(self.matrix), -1, -1), self.matrix)
        out = out.transpose(0, 1).reshape(len(rows), self.columns)
        return out if self.bias is None else out.add_(self.bias)


class SnakeRows:
    """Snake on rows [n, C]; writes where it is told, so that no copy is needed before a convolution."""

    def __init__(self, snake: Snake) -> None:
        alpha = snake.alpha.detach().view(1, -1)
        self.alpha, self.scale = alpha, 1.0 / (alpha + SNAKE_EPSILON)

    def __call__(self, rows: Tensor, out: Tensor) -> Tensor:
        wave = torch.mul(rows, self.alpha).sin_()
        wave.mul_(wave)
        return torch.addcmul(rows, wave, self.scale, out=out)


class Convolution(Stage):
    """A length-keeping convolution of stride 1, after an optional snake.

    State: the last ``(kernel - 1) * dilation`` input rows. Look-ahead: half of that, none if causal.
    """

    def __init__(self, conv: nn.Conv1d, snake: Snake | None = None) -> None:
        self.weight = conv.weight.detach().unsqueeze(2).contiguous(memory_format=torch.channels_last)
        self.bias = None if conv.bias is None else conv.bias.detach()
        self.dilation, self.groups = conv.dilation[0], conv.groups
        self.snake = SnakeRows(snake) if snake is not None else None
        self.span = (conv.kernel_size[0] - 1) * self.dilation
        self.edge = 0 if isinstance(conv, CausalConv1d) else self.span // 2
        self.kept = self.weight.new_zeros(self.span - self.edge, conv.in_channels)

    def push(self, rows: Tensor, end: bool) -> Tensor:
        held, width = self.kept.shape
        total = held + len(rows) + (self.edge if end else 0)
        window = rows.new_empty(total, width)
        window[:held] = self.kept
        middle = window[held : held + len(rows)]
        if self.snake is not None:
            self.snake(rows, middle)
        else:
            middle.copy_(rows)
        if end:
            window[held + len(rows) :] = 0
        self.kept = window[max(0, total - self.span) :].clone()
        if total <= self.span:
            return rows.new_empty(0, self.weight.shape[0])
        image = window.view(1, 1, total, width).permute(0, 3, 1, 2)
        out = F.conv2d(image, self.weight, self.bias, 1, 0, (1, self.dilation), self.groups)
        return out.permute(0, 2, 3, 1).reshape(-1, self.weight.shape[0])


class Pointwise(Stage):
    """A 1x1 convolution. No state, no look-ahead."""

    def __init__(self, conv: nn.Conv1d) -> None:
        bias = None if conv.bias is None else conv.bias.detach()
        self.product = Product(conv.weight.detach()[:, :, 0].t(), bias)

    def push(self, rows: Tensor, end: bool) -> Tensor:
        return self.product(rows)


class Residual(Stage):
    """A residual unit. State: that of its convolution, and the input rows its branch has not caught up with."""

    def __init__(self, unit: ResidualUnit) -> None:
        first, conv, second, pointwise = unit.block
        assert isinstance(first, Snake) and isinstance(second, Snake)
        assert isinstance(conv, nn.Conv1d) and isinstance(pointwise, nn.Conv1d)
        self.conv, self.snake = Convolution(conv, first), SnakeRows(second)
        self.pointwise = Pointwise(pointwise)
        self.waiting = self.conv.kept[:0]

    def fresh(self) -> Residual:
        clone = copy.copy(self)
        clone.conv = copy.copy(self.conv)
        return clone

    def push(self, rows: Tensor, end: bool) -> Tensor:
        branch = self.conv.push(rows, end)
        branch = self.pointwise.push(self.snake(branch, branch), end)
        ready, waiting = len(branch), len(self.waiting)
        if ready < waiting:
            branch += self.waiting[:ready]
            self.waiting = torch.cat([self.waiting[ready:], rows])
        else:
            branch[:waiting] += self.waiting
            branch[waiting:] += rows[: ready - waiting]
            self.waiting = rows[ready - waiting :].clone()
        return branch


class Downsample(Stage):
    """A snake and a strided convolution with kernel twice the stride, as two matrix products.

    Output ``j`` reads ``stride`` rows starting at ``j * stride - padding`` and the ``stride`` rows after those.
    State: fewer than ``2 * stride`` rows. Look-ahead: ``stride - padding`` rows beyond the block.
    """

    def __init__(self, conv: nn.Conv1d, snake: Snake) -> None:
        self.rate = conv.stride[0]
        self.padding = conv.left if isinstance(conv, CausalConv1d) else int(conv.padding[0])
        taps = conv.weight.detach().permute(2, 1, 0)  # [2 * rate, C, C']
        near, far = taps[: self.rate], taps[self.rate :]
        self.near, self.far = (half.reshape(-1, taps.shape[-1]).contiguous() for half in (near, far))
        assert conv.bias is not None
        self.bias, self.snake = conv.bias.detach(), SnakeRows(snake)
        self.kept = self.near.new_zeros(self.padding, conv.in_channels)

    def push(self, rows: Tensor, end: bool) -> Tensor:
        held, width = self.kept.shape
        tail = self.rate - self.padding if end else 0
        window = rows.new_zeros(held + len(rows) + tail, width)
        window[:held] = self.kept
        self.snake(rows, window[held : held + len(rows)])
        blocks = len(window) // self.rate
        count = max(0, blocks - 1)
        self.kept = window[count * self.rate :].clone()
        if not count:
            return rows.new_empty(0, self.near.shape[-1])
        grid = window[: blocks * self.rate].view(blocks, -1)
        return torch.addmm(self.bias, grid[:-1], self.near).addmm_(grid[1:], self.far)


class Upsample(Stage):
    """A snake and a transposed convolution with kernel twice the stride, as two matrix products.

    Input row ``t`` touches output rows ``t * rate`` to ``(t + 2) * rate`` before ``padding`` rows are cut from the
    start. State: one row. Look-ahead: ``padding`` output rows.
    """

    def __init__(self, conv: nn.ConvTranspose1d, snake: Snake) -> None:
        self.rate, self.padding = conv.stride[0], int(conv.padding[0])
        self.cut = self.padding
        taps = conv.weight.detach().permute(0, 2, 1)  # [C, 2 * rate, C']
        self.width = taps.shape[-1]
        now, before = taps[:, : self.rate], taps[:, self.rate :]
        assert conv.bias is not None
        self.product = Product(
            torch.cat([now, before]).reshape(2 * len(taps), -1), conv.bias.detach().repeat(self.rate)
        )
        self.snake = SnakeRows(snake)
        self.kept = taps.new_zeros(1, conv.in_channels)

    def push(self, rows: Tensor, end: bool) -> Tensor:
        window = rows.new_zeros(1 + len(rows) + (1 if end else 0), rows.shape[-1])
        window[:1] = self.kept
        self.snake(rows, window[1 : 1 + len(rows)])
        self.kept = window[-1:].clone()
        if len(window) == 1:
            return rows.new_empty(0, self.width)
        out = self.product(torch.cat([window[1:], window[:-1]], dim=1))
        out = out.view(-1, self.width)
        start = min(self.cut, len(out))
        self.cut -= start
        stop = len(out) - (self.rate - self.padding) if end else len(out)
        return out[start : max(start, stop)]


class Noise(Stage):
    """A noise block; without a source it passes rows on. State: the index of the next row."""

    source: NoiseSource | None = None

    def __init__(self, block: NoiseBlock, index: int) -> None:
        assert isinstance(block.linear, nn.Conv1d)
        self.linear, self.index, self.position = Pointwise(block.linear), index, 0

    def push(self, rows: Tensor, end: bool) -> Tensor:
        if self.source is None or not len(rows):
            return rows
        noise = self.source(self.index, self.position, len(rows)).to(rows).view(-1, 1)
        self.position += len(rows)
        return torch.addcmul(rows, self.linear.push(rows, end), noise)


class WindowedAttention(Stage):
    """Local attention, one whole window at a time. State and look-ahead: the open window."""

    def __init__(self, attention: LocalAttention) -> None:
        self.attention = attention
        self.kept = attention.norm.weight.detach().new_empty(0, attention.norm.weight.numel())

    def push(self, rows: Tensor, end: bool) -> Tensor:
        rows = torch.cat([self.kept, rows])
        size = self.attention.window
        whole = len(rows) // size * size
        assert not end or whole == len(rows), "the stream was not padded to whole attention windows"
        self.kept = rows[whole:].clone()
        return self.attention.windows(rows[:whole].view(-1, size, rows.shape[-1])).view(-1, rows.shape[-1])


class Tanh(Stage):
    """The output bound."""

    def push(self, rows: Tensor, end: bool) -> Tensor:
        return rows.tanh_()
