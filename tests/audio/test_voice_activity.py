"""Speech is found, silence and steady noise are not, and events do not depend on how the audio is cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.speech import Speech

from vivavoce.audio.voice_activity import (
    DETECTORS,
    EnergyDetector,
    SegmentRules,
    SileroDetector,
    speech_segments,
)
from vivavoce.base.errors import AudioError, ConfigError, MissingExtraError, SessionError


def _bursts(seed: int, rate: int) -> np.ndarray:
    """Loud and quiet stretches of random length, 2 to 8 s in all."""
    rng = np.random.default_rng(seed)
    pieces = [
        rng.standard_normal(int(rng.uniform(0.02, 0.9) * rate)) * 10 ** rng.choice([-1.0, -2.5, -9.0])
        for _ in range(9)
    ]
    return np.concatenate(pieces).clip(-1, 1).astype(np.float32)


def _spoken_twice(speech: Speech, noise: float, rng: np.random.Generator) -> np.ndarray:
    gap = np.zeros(2 * speech.sample_rate, dtype=np.float32)
    wave = np.concatenate([gap, speech.waveform, gap, speech.waveform, gap])
    return wave + noise * rng.standard_normal(wave.size).astype(np.float32)


@given(
    seed=st.integers(0, 10**6),
    rate=st.sampled_from([8000, 16000, 22050]),
    cuts=st.lists(st.floats(0.0, 1.0), max_size=30),
)
def test_events_do_not_depend_on_chunks(seed: int, rate: int, cuts: list[float]) -> None:
    wave = _bursts(seed, rate)
    whole = speech_segments(wave, rate)
    detector, events, begin = EnergyDetector(rate), [], 0
    for position in [*sorted(int(c * wave.size) for c in cuts), wave.size]:
        new = detector.push(wave[begin:position])
        begin = position
        assert all(e.time_s <= position / rate for e in new)
        events += new
        assert detector.speaking == (len(events) % 2 == 1)
    events += detector.flush()
    assert [e.kind for e in events] == ["start", "end"] * len(whole)
    assert [e.time_s for e in events] == [t for segment in whole for t in segment]


@pytest.mark.parametrize("padding_s", [0.0, 0.1])
@given(seed=st.integers(0, 10**6))
def test_segments_are_ordered_inside_and_long_enough(padding_s: float, seed: int) -> None:
    wave, rules = _bursts(seed, 8000), SegmentRules(min_speech_s=0.15, min_silence_s=0.3, padding_s=padding_s)
    times = [t for segment in speech_segments(wave, 8000, rules=rules) for t in segment]
    assert times == sorted(times)
    assert all(0 <= t <= wave.size / 8000 for t in times)
    assert all(b - a >= 0.15 - 1e-9 for a, b in zip(times[::2], times[1::2], strict=True))
    pauses = zip(times[1::2], times[2::2], strict=False)
    assert all(b - a >= 0.3 - 2 * padding_s - 1e-9 for a, b in pauses)


@pytest.mark.parametrize("noise", [0.0, 0.001, 0.003])
def test_spoken_sentences_are_found(speech: Speech, rng: np.random.Generator, noise: float) -> None:
    found = speech_segments(_spoken_twice(speech, noise, rng), speech.sample_rate)
    length = speech.waveform.size / speech.sample_rate
    assert len(found) == 2
    for segment, begin in zip(found, (2.0, 4.0 + length), strict=True):
        assert segment.start_s == pytest.approx(begin, abs=0.25)
        assert segment.end_s == pytest.approx(begin + length, abs=0.25)


def test_loud_steady_noise_is_learned_within_a_second(speech: Speech, rng: np.random.Generator) -> None:
    found = speech_segments(_spoken_twice(speech, 0.02, rng), speech.sample_rate)
    assert len(found) == 3 and found[0].start_s == 0.0 and found[0].end_s < 1.3


def test_a_clip_without_any_quiet_moment_is_heard(rng: np.random.Generator) -> None:
    loud = (0.1 * rng.standard_normal(4800)).astype(np.float32)
    (segment,) = speech_segments(loud, 16000)
    assert segment == (0.0, 0.3)


@pytest.mark.parametrize("level", [0.0, 1e-4])
def test_silence_and_hiss_are_not_speech(rng: np.random.Generator, level: float) -> None:
    wave = (level * rng.standard_normal(5 * 16000)).astype(np.float32)
    assert speech_segments(wave, 16000) == []
    assert speech_segments(wave + 0.4, 16000) == []  # nor is a constant offset
    assert speech_segments(wave[:0], 16000) == []


def test_rustling_below_the_quietest_level_is_not_speech(rng: np.random.Generator) -> None:
    rustle = (3e-4 * rng.standard_normal(16000)).astype(np.float32)  # -70 dB after digital silence
    silence = np.zeros(4 * 16000, dtype=np.float32)
    assert speech_segments(np.concatenate([silence, rustle, silence]), 16000) == []
    assert len(speech_segments(np.concatenate([silence, 10 * rustle, silence]), 16000)) == 1


def test_an_end_is_noticed_after_the_pause_and_no_later(speech: Speech) -> None:
    rate = speech.sample_rate
    detector = EnergyDetector(rate, SegmentRules(min_silence_s=0.3, padding_s=0.0))
    detector.push(np.zeros(rate, dtype=np.float32))
    (start,) = detector.push(speech.waveform)
    assert start.kind == "start" and detector.speaking
    assert detector.push(np.zeros(rate // 5, dtype=np.float32)) == []
    (end,) = detector.push(np.zeros(rate // 5, dtype=np.float32))
    assert end.kind == "end" and not detector.speaking


def test_wrong_use_is_refused_in_words() -> None:
    with pytest.raises(ConfigError, match="padding_s <= min_silence_s / 2"):
        SegmentRules(padding_s=0.3)
    with pytest.raises(ConfigError, match="Did you mean 'energy'"):
        speech_segments(np.zeros(10, dtype=np.float32), 16000, "enerji")
    detector = EnergyDetector(16000)
    for bad in (np.zeros((2, 4), np.float32), np.zeros(4, np.int16), np.array([np.nan], np.float32)):
        with pytest.raises(AudioError, match="finite float samples"):
            detector.push(bad)
    detector.flush()
    with pytest.raises(SessionError, match="flushed"):
        detector.push(np.zeros(4, np.float32))
    with pytest.raises(SessionError, match="flushed"):
        detector.flush()


def test_silero_finds_the_same_sentences_or_says_what_to_install(
    speech: Speech, rng: np.random.Generator
) -> None:
    import torch

    threads = torch.get_num_threads()
    wave = _spoken_twice(speech, 0.001, rng)
    try:
        found = speech_segments(wave, speech.sample_rate, "silero")
    except MissingExtraError as error:
        assert "pip install 'vivavoce[vad]'" in str(error)
        return
    assert torch.get_num_threads() == threads
    assert len(found) == 2
    detector, events = DETECTORS.get("silero")(speech.sample_rate), []
    for begin in range(0, wave.size, 1000):
        events += detector.push(wave[begin : begin + 1000])
    events += detector.flush()
    assert [e.time_s for e in events] == pytest.approx([t for s in found for t in s], abs=1e-6)


def test_silero_detectors_share_a_network_and_not_its_state():
    silero_vad = pytest.importorskip("silero_vad")
    torch = pytest.importorskip("torch")
    frames = [
        0.1 * np.random.default_rng(seed).standard_normal((6, 512)).astype(np.float32) for seed in (1, 2)
    ]
    detectors = [SileroDetector(16_000), SileroDetector(16_000)]
    mixed: list[list[float]] = [[], []]
    for at in range(6):
        for detector, own, found in zip(detectors, frames, mixed, strict=True):
            found += detector.score(own[at : at + 1])
    threads = torch.get_num_threads()
    for own, found in zip(frames, mixed, strict=True):
        alone = silero_vad.load_silero_vad()
        wanted = [float(alone(torch.from_numpy(frame.copy()), 16_000)) for frame in own]
        assert found == pytest.approx(wanted, abs=1e-6)
    torch.set_num_threads(threads)
    assert detectors[0]._network is detectors[1]._network
