"""Exact lengths, streaming equal to whole, and the tone that went in comes out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.audio.resample import StreamResampler, resample, resampled_length
from vivavoce.base.errors import AudioError, ConfigError, SessionError

RATES = st.sampled_from([8000, 11025, 16000, 16001, 22050, 24000, 44100, 48000])


def _tone(samples: int, rate: int, hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(samples) / rate)).astype(np.float32)


@given(
    from_hz=RATES, to_hz=RATES, samples=st.integers(0, 6000), cuts=st.lists(st.integers(0, 6000), max_size=8)
)
def test_stream_equals_whole_and_lengths_are_exact(
    from_hz: int, to_hz: int, samples: int, cuts: list[int]
) -> None:
    wave = np.random.default_rng(samples).uniform(-0.5, 0.5, samples).astype(np.float32)
    whole = resample(wave, from_hz, to_hz)
    assert whole.dtype == np.float32
    assert len(whole) == resampled_length(samples, from_hz, to_hz) == -(-samples * to_hz // from_hz)
    stream = StreamResampler(from_hz, to_hz)
    edges = [0, *sorted(min(c, samples) for c in cuts), samples]
    pieces = [stream.push(wave[a:b]) for a, b in itertools.pairwise(edges)]
    joined = np.concatenate([*pieces, stream.flush()])
    assert len(joined) == len(whole)
    np.testing.assert_allclose(joined, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", ["soxr", "sinc"])
@pytest.mark.parametrize(
    ("from_hz", "to_hz"), [(8000, 16000), (48000, 16000), (22050, 24000), (16001, 24000)]
)
def test_a_tone_stays_itself_and_in_time(method: str, from_hz: int, to_hz: int) -> None:
    wave = _tone(from_hz, from_hz)
    out = resample(wave, from_hz, to_hz, method)  # type: ignore[arg-type]
    assert len(out) == to_hz
    inside = slice(to_hz // 10, -to_hz // 10)
    np.testing.assert_allclose(out[inside], _tone(to_hz, to_hz)[inside], atol=2e-3)


@pytest.mark.parametrize("method", ["soxr", "sinc"])
def test_what_the_new_rate_cannot_hold_is_gone(method: str) -> None:
    out = resample(_tone(48000, 48000, hz=11000.0), 48000, 16000, method)  # type: ignore[arg-type]
    assert np.abs(out[1000:-1000]).max() < 0.01


@pytest.mark.parametrize("method", ["soxr", "sinc"])
def test_channels_are_resampled_alone(method: str) -> None:
    pair = np.stack([_tone(900, 8000), _tone(900, 8000, hz=100.0)])
    out = resample(pair, 8000, 24000, method)  # type: ignore[arg-type]
    assert out.shape == (2, 2700)
    for row, channel in zip(out, pair, strict=True):
        np.testing.assert_allclose(row, resample(channel, 8000, 24000, method), atol=1e-6)  # type: ignore[arg-type]


def test_sinc_has_two_ways_to_the_same_numbers() -> None:
    from vivavoce.audio.resample import _sinc_dense, _sinc_sparse

    rows = np.random.default_rng(3).uniform(-1, 1, (2, 1000)).astype(np.float32)
    for stride, phases in ((147, 160), (3, 2), (2, 3), (6, 1)):
        length = resampled_length(1000, stride, phases)
        dense = _sinc_dense(rows, stride, phases)[:, :length]
        np.testing.assert_allclose(_sinc_sparse(rows, stride, phases, length), dense, atol=2e-5)


def test_equal_rates_change_nothing() -> None:
    wave = _tone(777, 16000)
    assert resample(wave, 16000, 16000) is wave
    stream = StreamResampler(16000, 16000)
    np.testing.assert_array_equal(np.concatenate([stream.push(wave), stream.flush()]), wave)


def test_output_comes_early_enough_for_a_conversation() -> None:
    stream = StreamResampler(16000, 24000)
    got = sum(stream.push(_tone(320, 16000)).size for _ in range(25))  # 0.5 s in 20 ms chunks
    assert got / 24000 > 0.45


def test_wrong_use_is_refused_in_words() -> None:
    with pytest.raises(AudioError, match="sample rate is 0 Hz"):
        resample(_tone(10, 8000), 8000, 0)
    with pytest.raises(AudioError, match="int16"):
        resample(np.zeros(4, dtype=np.int16), 8000, 16000)
    with pytest.raises(ConfigError, match="soxr, sinc"):
        resample(_tone(10, 8000), 8000, 16000, "linear")  # type: ignore[arg-type]
    stream = StreamResampler(8000, 16000)
    with pytest.raises(AudioError, match=r"wanted float \[S\]"):
        stream.push(np.zeros((1, 4), dtype=np.float32))
    stream.flush()
    for call in (lambda: stream.push(_tone(4, 8000)), stream.flush):
        with pytest.raises(SessionError, match="new StreamResampler"):
            call()
