"""Sound: mel distance of known changes by hand; STOI and PESQ are the libraries'; what is undefined is left out."""

from __future__ import annotations

import numpy as np
import pytest
from tests.speech import Speech

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.evaluation.items import Item, Sound
from vivavoce.evaluation.metrics.sound_quality import MelDistance, Pesq, Stoi, mel_distance

RATE = 24_000


def _item(name: str, reference: np.ndarray, output: np.ndarray | None, rate: int = RATE) -> Item:
    audio = None if output is None else Sound(output, rate)
    return Item(name, audio=audio, reference_audio=Sound(reference, rate))


def test_mel_distance_of_half_the_level_is_six_decibels(rng: np.random.Generator) -> None:
    noise = 0.3 * rng.standard_normal(RATE)
    assert mel_distance(noise, noise, RATE) == 0.0
    assert mel_distance(noise, noise / 2, RATE) == pytest.approx(20 * np.log10(2), abs=1e-6)
    assert mel_distance(noise, noise / 2, RATE) == pytest.approx(mel_distance(noise / 2, noise, RATE))
    assert mel_distance(np.zeros(RATE), np.full(RATE, 1e-9), RATE) == 0.0  # both are silence
    assert mel_distance(noise[:50], noise[:50], RATE) == 0.0  # shorter than a window


def test_a_full_sine_stands_at_0_db() -> None:
    from vivavoce.evaluation.metrics.sound_quality import _log_mel_db

    for rate in (8_000, 16_000, 24_000, 44_100):
        sine = np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)
        assert abs(_log_mel_db(sine, rate, 80)[5:-5].max()) < 6.0


def test_more_noise_is_farther(speech: Speech, rng: np.random.Generator) -> None:
    clean = speech.at(16_000)
    noise = rng.standard_normal(len(clean)).astype(np.float32)
    outputs = [clean + level * noise for level in (0.0, 0.003, 0.03)]
    items = [_item(str(i), clean, output, 16_000) for i, output in enumerate(outputs)]
    mel = MelDistance().score(items)
    assert mel.values[0] == 0.0 < mel.values[1] < mel.values[2]  # type: ignore[operator]
    assert mel.better == "lower" and mel.unit == "dB"


def test_stoi_is_the_library(speech: Speech, rng: np.random.Generator) -> None:
    pystoi = pytest.importorskip("pystoi")
    clean = speech.at(16_000)
    noisy = clean + 0.02 * rng.standard_normal(len(clean)).astype(np.float32)
    items = [
        _item("same", clean, clean, 16_000),
        _item("noisy", clean, noisy, 16_000),
        _item("silent", np.zeros(1600, np.float32), np.zeros(1600, np.float32), 16_000),
        _item("none", clean, None, 16_000),
        _item("short", clean[:200], clean[:200], 16_000),
        _item("mute", clean, np.zeros_like(clean), 16_000),
    ]
    score = Stoi().score(items)
    assert score.values[:2] == pytest.approx([1.0, pystoi.stoi(clean, noisy, 16_000)])
    assert score.values[2:] == (None, None, None, 0.0) and score.n == 3
    assert score.counts == {"undefined": 2, "no_answer": 1, "silent_outputs": 2}
    assert Stoi(extended=True).score(items).values[1] == pytest.approx(
        pystoi.stoi(clean, noisy, 16_000, extended=True)
    )


def test_pesq_is_the_library(speech: Speech, rng: np.random.Generator) -> None:
    pesq = pytest.importorskip("pesq")
    clean = speech.at(16_000)
    noisy = (clean + 0.01 * rng.standard_normal(len(clean))).astype(np.float32)
    silent = np.zeros(16_000, np.float32)
    items = [
        _item("noisy", clean, noisy, 16_000),
        _item("silent", silent, silent, 16_000),
        _item("mute", clean, np.zeros_like(clean), 16_000),
        _item("short", clean[8000:9000], noisy[8000:9000], 16_000),
    ]
    score = Pesq().score(items)
    assert score.values == (pytest.approx(pesq.pesq(16_000, clean, noisy, "wb")), None, 1.0, None)
    assert score.counts == {"undefined": 2, "silent_outputs": 2}
    narrow = Pesq(mode="nb").score(items[:1]).value
    assert narrow != score.values[0] and 1.0 <= narrow <= 4.6
    with pytest.raises(ConfigError, match="mode is 'hd'"):
        Pesq(mode="hd")  # type: ignore[arg-type]


def test_recordings_that_do_not_belong_together_are_refused() -> None:
    wave = np.ones(RATE, np.float32)
    with pytest.raises(DataError, match="24000 and an output of 12000"):
        MelDistance().score([_item("a", wave, wave[:12_000])])
    near = MelDistance().score([_item("a", wave, wave[:-100])])
    assert near.value == 0.0
    odd = Item("a", audio=Sound(wave, 16_000), reference_audio=Sound(wave, RATE))
    with pytest.raises(DataError, match="16000 Hz and 24000 Hz"):
        MelDistance().score([odd])
    with pytest.raises(DataError, match="reference_audio of item 'a' is none"):
        MelDistance().score([Item("a", audio=Sound(wave, RATE))])
    with pytest.raises(DataError, match=r"of shape \(1, 24000\)"):
        MelDistance().score([_item("a", wave, wave[None])])
    with pytest.raises(DataError, match="no items"):
        MelDistance().score([])
