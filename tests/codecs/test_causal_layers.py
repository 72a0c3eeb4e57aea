"""Layers with memory: any cutting of a signal gives what the whole gives, and the whole is the plain layer's."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from vivavoce.codecs.causal_layers import (
    Chain,
    Convolution,
    Pointwise,
    Recurrence,
    Residual,
    Stage,
    TransposedConvolution,
    exact_float32,
)

WIDTH = 3
lengths = st.integers(1, 60)
pieces = st.lists(st.integers(0, 12), max_size=20)
pads = st.sampled_from(["reflect", "constant", "replicate"])


def convolution(stride: int, extra: int, dilation: int, pad: str) -> Convolution:
    """A kernel of ``stride + extra`` taps, at least ``2 * stride`` where a stride is reflected."""
    kernel = max(2 * stride if stride > 1 else 1, stride + extra)
    return Convolution(nn.Conv1d(WIDTH, WIDTH, kernel, stride, dilation=dilation if stride == 1 else 1), pad)


@st.composite
def stages(draw: st.DrawFn) -> Stage:
    """A layer of random shape, or a sum of such."""
    torch.manual_seed(draw(st.integers(0, 99)))
    kind = draw(st.sampled_from(["conv", "stride", "transposed", "lstm", "pointwise", "residual"]))
    if kind == "conv":
        return convolution(1, draw(st.integers(0, 4)), draw(st.integers(1, 3)), draw(pads))
    if kind == "stride":
        return convolution(draw(st.integers(2, 4)), draw(st.integers(0, 6)), 1, draw(pads))
    if kind == "transposed":
        stride = draw(st.integers(1, 4))
        return TransposedConvolution(
            nn.ConvTranspose1d(WIDTH, WIDTH, stride + draw(st.integers(0, 5)), stride)
        )
    if kind == "lstm":
        return Recurrence(nn.LSTM(WIDTH, WIDTH, draw(st.integers(1, 2))))
    if kind == "pointwise":
        return Pointwise(torch.tanh)
    branch = Chain(
        [convolution(1, draw(st.integers(0, 4)), draw(st.integers(1, 2)), draw(pads)) for _ in range(2)]
    )
    return Residual(branch, convolution(1, draw(st.integers(0, 2)), 1, draw(pads)))


chains = st.lists(stages(), min_size=1, max_size=5).map(Chain)


def fresh(stage: Stage) -> Stage:
    """The same layers without memory."""
    if isinstance(stage, Chain):
        return Chain([fresh(s) for s in stage.stages])
    if isinstance(stage, Residual):
        return Residual(*(fresh(p) for p in stage.paths))
    clean = object.__new__(type(stage))
    clean.__dict__.update(stage.__dict__)
    for memory in ("_kept", "_tail", "_state"):
        if memory in clean.__dict__:
            setattr(clean, memory, None)
    clean.__dict__.update({"_started": False} if "_started" in clean.__dict__ else {})
    return clean


@torch.no_grad()
def run(stage: Stage, signal: Tensor, sizes: list[int]) -> list[Tensor]:
    """Outputs of each piece; the last one ends the signal."""
    stage, out = fresh(stage), []
    for size in sizes:
        out.append(stage.step(signal[..., :size], last=False))
        signal = signal[..., size:]
    return [*out, stage.step(signal, last=True)]


def signal_of(length: int) -> Tensor:
    return torch.randn(2, WIDTH, length, generator=torch.Generator().manual_seed(length))


@given(chains, lengths, pieces)
def test_pieces_give_what_the_whole_gives(chain: Chain, length: int, sizes: list[int]) -> None:
    signal = signal_of(length)
    [whole] = run(chain, signal, [])
    torch.testing.assert_close(torch.cat(run(chain, signal, sizes), dim=-1), whole, rtol=1e-4, atol=1e-5)


@given(chains, st.integers(1, 5))
def test_outputs_are_final_after_the_stated_inputs(chain: Chain, outputs: int) -> None:
    needed = chain.inputs_for(outputs)
    if needed > 400:
        return
    assert run(chain, signal_of(needed + 50), [needed])[0].shape[-1] >= outputs
    if needed > 1:
        assert run(chain, signal_of(needed + 50), [needed - 1])[0].shape[-1] < outputs


@pytest.mark.parametrize("pad", ["reflect", "constant", "replicate"])
@given(st.integers(1, 4), st.integers(0, 5), lengths)
def test_the_whole_is_the_padded_convolution(pad: str, stride: int, extra: int, length: int) -> None:
    stage = convolution(stride, extra, 1, pad)
    left, right = stage.span - stride, -length % stride
    signal = signal_of(length)
    if pad == "reflect" and length <= left:
        signal = F.pad(signal, (0, 60))  # what is thought after the end, and cut off again below
    padded = F.pad(signal, (left, right), mode=pad)[..., : left + length + right]
    wanted = F.conv1d(padded, stage.weight, stage.bias, stride).detach()
    if right == 0 or length > left:
        torch.testing.assert_close(run(stage, signal_of(length), [])[0], wanted)


@given(st.integers(1, 4), st.integers(0, 6), lengths)
def test_the_whole_is_the_trimmed_transposed_convolution(stride: int, extra: int, length: int) -> None:
    layer = nn.ConvTranspose1d(WIDTH, WIDTH, stride + extra, stride)
    wanted = layer(signal_of(length)).detach()[..., : length * stride]
    torch.testing.assert_close(run(TransposedConvolution(layer), signal_of(length), [])[0], wanted)


@given(lengths, st.integers(1, 3))
def test_cells_are_the_lstm(length: int, layers: int) -> None:
    lstm = nn.LSTM(WIDTH, WIDTH, layers)
    stage = Recurrence(lstm)
    stage.short = 10**6
    signal = signal_of(length)
    x = signal.permute(2, 0, 1)
    wanted = (lstm(x)[0] + x).permute(1, 2, 0).detach()
    torch.testing.assert_close(run(stage, signal, [])[0], wanted, rtol=1e-5, atol=1e-6)


def test_precision_is_restored_even_after_an_error() -> None:
    torch.set_float32_matmul_precision("medium")
    try:
        with pytest.raises(KeyError), exact_float32(torch.device("cpu")), torch.no_grad():
            assert torch.get_float32_matmul_precision() == "highest"
            raise KeyError
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
