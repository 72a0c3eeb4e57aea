"""A stream of encoded pieces holds what the whole file holds."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("fastapi")

from vivavoce.audio.files import read_audio
from vivavoce.serving.encoding import StreamEncoder, check_format, pcm16, whole
from vivavoce.serving.refusals import Refusal


def tone(samples: int = 48000, rate: int = 24000) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(samples) / rate)).astype(np.float32)


def streamed(samples: np.ndarray, rate: int, form: str, size: int) -> tuple[bytes, int]:
    encoder = StreamEncoder(form, rate)
    pieces = [encoder.push(samples[i : i + size]) for i in range(0, len(samples), size)]
    early = sum(map(len, pieces))
    return b"".join([*pieces, encoder.close()]), early


@pytest.mark.parametrize("size", [500, 8192, 100_000])
@pytest.mark.parametrize("form", ["wav", "flac", "mp3", "opus", "ogg"])
def test_streams_can_be_read(form: str, size: int) -> None:
    data, early = streamed(tone(), 24000, form, size)
    samples, rate = read_audio(data)
    own, own_rate = read_audio(whole(tone(), 24000, form))
    assert rate == own_rate == 24000
    if form in ("wav", "flac"):
        assert np.array_equal(samples, own) and np.abs(own - tone()).max() < 1e-4
    else:
        assert abs(len(samples) - 48000) < 2500  # mp3 has its delay at the front
        middle = slice(10000, 40000)
        assert abs(np.abs(samples[middle]).max() - 0.3) < 0.03
    assert early > 0 if form == "ogg" else early > len(data) / 2, "nothing came before the end"


@pytest.mark.parametrize("form", ["wav", "flac", "mp3", "opus", "ogg"])
@pytest.mark.parametrize("rate", [22050, 44100])
def test_rates_that_a_format_lacks_are_changed(form: str, rate: int) -> None:
    for data in (whole(tone(rate, rate), rate, form), streamed(tone(rate, rate), rate, form, 4096)[0]):
        samples, found = read_audio(data)
        assert abs(len(samples) / found - 1.0) < 0.12
        assert found == {("opus", 22050): 24000, ("opus", 44100): 48000}.get((form, rate), rate)


def test_plain_samples_are_24_khz() -> None:
    assert whole(tone(), 24000, "pcm") == pcm16(tone()) == streamed(tone(), 24000, "pcm16", 700)[0]
    data, _ = streamed(tone(16000, 16000), 16000, "pcm16", 700)
    assert len(data) == 2 * 24000
    found = np.frombuffer(data, "<i2") / 32768
    assert np.abs(found - tone(24000))[200:-200].max() < 2e-3


def test_loud_samples_are_clipped() -> None:
    assert np.frombuffer(pcm16(np.array([2.0, -2.0, 1.0, 0.0], np.float32)), "<i2").tolist() == [
        32767, -32768, 32767, 0,
    ]  # fmt: skip


def test_unknown_formats() -> None:
    with pytest.raises(Refusal, match="wanted one of wav, mp3"):
        check_format("aac", ("wav", "mp3"), "audio.format")
