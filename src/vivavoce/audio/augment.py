"""Make clean speech sound like rooms, microphones, telephones and crowds; and sounds that are not speech at all.

Everything works on one mono numpy waveform and takes its own random generator, so a row of data is made the same
way wherever and whenever it is made. Filters and reverberation are applied together in one FFT.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vivavoce.audio.resample import resample
from vivavoce.base.errors import AudioError

Waveform = NDArray[np.float32]


@dataclass(frozen=True)
class AugmentOptions:
    """How often and how strongly; probabilities in [0, 1], ranges are (low, high).

    Attributes:
        speed: Resampling factor, which changes rate and pitch together.
        reverb_s: Reverberation time (60 dB decay), seconds.
        snr_db: Speech over noise.
        equalizer_db: Largest boost or cut of a random smooth curve.
        low_pass_hz: Cut-off of a random band limit.
        noise_in_band: The limit, of a random steepness, comes after the noise, as it does in a telephone, and
            not before.
        pad_s: Silence added on each side.
        gain_db: Level change.
    """

    speed_p: float = 0.6
    speed: tuple[float, float] = (0.88, 1.14)
    reverb_p: float = 0.35
    reverb_s: tuple[float, float] = (0.08, 0.6)
    noise_p: float = 0.7
    snr_db: tuple[float, float] = (3.0, 35.0)
    equalizer_p: float = 0.7
    equalizer_db: float = 9.0
    low_pass_p: float = 0.4
    low_pass_hz: tuple[float, float] = (3300.0, 7500.0)
    pad_s: tuple[float, float] = (0.0, 0.4)
    gain_db: tuple[float, float] = (-18.0, 6.0)
    noise_in_band: bool = False


def rms(waveform: Waveform) -> float:
    """Root mean square level, with a floor that keeps silence from dividing by zero."""
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64)) + 1e-12))


def quick_length(samples: int) -> int:
    """The next length of which a Fourier transform is quick: its only odd prime factors are below 64."""
    step = 1 << max(0, samples.bit_length() - 6)
    return -(-samples // step) * step


def colored_noise(samples: int, exponent: float, rng: np.random.Generator, empty_bins: int = 0) -> Waveform:
    """Noise with power 1 / f**exponent (0 white, 1 pink, 2 brown), RMS 1; nothing in the first ``empty_bins``."""
    spectrum = rng.standard_normal(samples // 2 + 1) + 1j * rng.standard_normal(samples // 2 + 1)
    spectrum *= np.maximum(np.arange(samples // 2 + 1), 1.0) ** (-exponent / 2)
    spectrum[:empty_bins] = 0
    noise = np.fft.irfft(spectrum, samples).astype(np.float32)
    return noise / rms(noise)


def hum(samples: int, sample_rate: int, rng: np.random.Generator) -> Waveform:
    """Mains hum with harmonics, RMS 1."""
    t = np.arange(samples) / sample_rate
    base = rng.choice([50.0, 60.0, float(rng.uniform(80, 400))])
    parts = [
        rng.uniform(0.2, 1) / k * np.sin(2 * np.pi * base * k * t + rng.uniform(0, 6)) for k in range(1, 8)
    ]
    out = np.sum(parts, axis=0).astype(np.float32)
    return out / rms(out)


def impulses(samples: int, sample_rate: int, rng: np.random.Generator) -> Waveform:
    """Rain, taps or typing: short decaying bursts at random times, RMS 1."""
    out = np.zeros(samples, np.float32)
    hits = rng.integers(0, samples, max(1, int(samples / sample_rate * rng.uniform(3, 90))))
    out[hits] = rng.standard_normal(len(hits))
    size = int(sample_rate * rng.uniform(0.003, 0.03))
    burst = rng.standard_normal(size) * np.exp(-np.arange(size) / (size / 6))
    out = np.convolve(out, burst)[:samples].astype(np.float32)
    return out / rms(out)


def chords(samples: int, sample_rate: int, rng: np.random.Generator) -> Waveform:
    """Music-like notes and chords with decays, RMS 1."""
    out, at = np.zeros(samples), 0
    while at < samples:
        size = min(samples - at, int(sample_rate * rng.uniform(0.08, 0.7)))
        t, base = np.arange(size) / sample_rate, 110 * 2 ** (rng.integers(0, 36) / 12)
        for ratio in ((1.0,), (1.0, 1.26, 1.5), (1.0, 1.19, 1.5))[rng.integers(3)]:
            for k in range(1, 7):
                tone = np.sin(2 * np.pi * base * ratio * k * t + rng.uniform(0, 6))
                out[at : at + size] += tone / k ** rng.uniform(1, 2) * np.exp(-t * rng.uniform(0.5, 8))
        at += size
    wave = out.astype(np.float32)
    return wave / rms(wave)


def babble(samples: int, voices: Sequence[Waveform], rng: np.random.Generator) -> Waveform:
    """Many talkers at once, RMS 1.

    Raises:
        AudioError: No voices were given.
    """
    if not voices:
        raise AudioError("babble needs at least one voice to mix; pass speech clips.")
    out = np.zeros(samples, np.float32)
    for voice in voices:
        out += np.roll(np.resize(voice / rms(voice), samples), int(rng.integers(samples))) * rng.uniform(
            0.5, 1
        )
    return out / rms(out)


def ambient_noise(samples: int, sample_rate: int, rng: np.random.Generator) -> Waveform:
    """One random kind of noise without speech, RMS 1."""
    kind = rng.random()
    if kind < 0.55:
        return colored_noise(samples, float(rng.uniform(-0.3, 2.2)), rng)
    if kind < 0.7:
        return hum(samples, sample_rate, rng)
    if kind < 0.85:
        return impulses(samples, sample_rate, rng)
    return chords(samples, sample_rate, rng)


def room_response(
    sample_rate: int, decay_s: float, rng: np.random.Generator, direct_db: float | None = None
) -> Waveform:
    """A synthetic room: the direct sound, then noise that decays 60 dB in ``decay_s`` seconds.

    Args:
        sample_rate: Hz.
        decay_s: Reverberation time.
        rng: Generator.
        direct_db: Energy of the direct sound over that of the tail; None draws it, 4.4 to 20 dB.
    """
    size = max(2, int(sample_rate * decay_s))
    tail = rng.standard_normal(size) * 10 ** (-3 * np.arange(size) / size)
    if direct_db is None:
        tail *= rng.uniform(0.1, 0.6) / np.sqrt(np.sum(tail**2))
    else:
        tail *= 10 ** (-direct_db / 20) / np.sqrt(np.sum(tail[1:] ** 2))
    tail[0] = 1.0
    return tail.astype(np.float32)


def _curve(bins: int, depth_db: float, rng: np.random.Generator) -> NDArray[np.float64]:
    knots = rng.uniform(-depth_db, depth_db, 6)
    return 10 ** (np.interp(np.linspace(0, 5, bins), np.arange(6), knots) / 20)


def _low_pass(bins: int, sample_rate: int, cut_hz: float, order: float = 16.0) -> NDArray[np.float64]:
    hz = np.linspace(0, sample_rate / 2, bins)
    return 1 / (1 + (hz / cut_hz) ** order)


def limit_band(waveform: Waveform, sample_rate: int, cut_hz: float, order: float) -> Waveform:
    """Low-pass with a gain of 1 / (1 + (f / cut_hz) ** order); keeps the length."""
    size = quick_length(len(waveform) + sample_rate // 40)
    spectrum = np.fft.rfft(waveform, size)
    spectrum *= _low_pass(len(spectrum), sample_rate, cut_hz, order)
    return np.fft.irfft(spectrum, size)[: len(waveform)].astype(np.float32)


def shape(
    waveform: Waveform, sample_rate: int, rng: np.random.Generator, options: AugmentOptions
) -> Waveform:
    """Room, equaliser and band limit in one pass; keeps length and level."""
    room = None
    if rng.random() < options.reverb_p:
        room = room_response(sample_rate, float(rng.uniform(*options.reverb_s)), rng)
    size = quick_length(len(waveform) + (len(room) if room is not None else 0))
    spectrum = np.fft.rfft(waveform, size)
    if room is not None:
        spectrum *= np.fft.rfft(room, size)
    if rng.random() < options.equalizer_p:
        spectrum *= _curve(len(spectrum), options.equalizer_db, rng)
    if not options.noise_in_band and rng.random() < options.low_pass_p:
        spectrum *= _low_pass(len(spectrum), sample_rate, rng.uniform(*options.low_pass_hz))
    out = np.fft.irfft(spectrum, size)[: len(waveform)].astype(np.float32)
    return out * (rms(waveform) / rms(out))


def augment(
    waveform: Waveform,
    sample_rate: int,
    rng: np.random.Generator,
    *,
    strength: float = 1.0,
    voices: Sequence[Waveform] = (),
    options: AugmentOptions | None = None,
) -> Waveform:
    """Change one utterance at random, the words staying what they are.

    Args:
        waveform: float32 [S] mono.
        sample_rate: Hz.
        rng: Its own generator; equal seeds give equal results.
        strength: 0 leaves all but padding and level alone, 1 is everything as in ``options``.
        voices: Speech to use as babble noise, now and then.

    Returns:
        float32 [S'], peak at most 0.99; the length changes with speed and padding.
    """
    o = options or AugmentOptions()
    out = waveform
    if rng.random() < o.speed_p * strength:
        factor = rng.uniform(*o.speed)
        out = resample(out, sample_rate, int(sample_rate / factor) // 100 * 100)
    if rng.random() < strength:
        out = shape(out, sample_rate, rng, o)
    pads = [int(rng.uniform(*o.pad_s) * sample_rate) for _ in range(2)]
    level = rms(out)
    out = np.pad(out, (pads[0], pads[1]))
    if rng.random() < o.noise_p * strength:
        low = o.snr_db[1] + (o.snr_db[0] - o.snr_db[1]) * strength
        snr = rng.uniform(low, o.snr_db[1])
        if voices and rng.random() < 0.25:
            noise = babble(len(out), voices, rng)
            snr = max(snr, 8.0)
        else:
            noise = ambient_noise(quick_length(len(out)), sample_rate, rng)[: len(out)]
        out = out + noise * (level * 10 ** (-snr / 20))
    if o.noise_in_band and rng.random() < o.low_pass_p * strength:
        out = limit_band(out, sample_rate, rng.uniform(*o.low_pass_hz), 16 * 20 ** rng.uniform(0, 1))
    out = out * (0.1 / rms(out)) * 10 ** (rng.uniform(*o.gain_db) / 20)
    return (out * min(1.0, 0.99 / max(1e-6, float(np.abs(out).max())))).astype(np.float32)


def warp_mel(features: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """Stretch the mel axis, as a longer (< 1) or shorter (> 1) vocal tract would.

    Args:
        features: Log-mel [M, T].
        factor: Mel bin m takes the value of bin m * factor; past the top the last bin repeats.

    Source: vocal tract length perturbation (Jaitly and Hinton 2013), here on the mel axis.
    """
    at = np.clip(np.arange(len(features)) * factor, 0, len(features) - 1)
    low = at.astype(int)
    high, share = np.minimum(low + 1, len(features) - 1), (at - low)[:, None]
    return (features[low] * (1 - share) + features[high] * share).astype(np.float32)


def mask_spectrogram(
    features: NDArray[np.float32], rng: np.random.Generator, bands: int = 8, frames: int = 12
) -> NDArray[np.float32]:
    """Hide one random band of mel bins and one random stretch of frames behind the clip's mean.

    Args:
        features: Log-mel [M, T].
        rng: Generator.
        bands: Most mel bins hidden.
        frames: Most frames hidden, and never more than an eighth of the clip.

    Source: SpecAugment (Park et al. 2019), one mask of each kind.
    """
    out, mean = features.copy(), float(features.mean())
    width, length = (
        int(rng.integers(0, bands + 1)),
        int(rng.integers(0, min(frames, features.shape[1] // 8) + 1)),
    )
    low, start = int(rng.integers(0, len(out) - width)), int(rng.integers(0, max(1, out.shape[1] - length)))
    out[low : low + width] = mean
    out[:, start : start + length] = mean
    return out
