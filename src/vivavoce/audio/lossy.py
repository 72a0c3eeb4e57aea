"""What lossy codecs, cheap converters and lost packets leave of a waveform; always of the same length.

mp3, ogg (Vorbis) and opus are the real encoders of libsndfile.
"""

from __future__ import annotations

import io
from types import MappingProxyType

import numpy as np

from vivavoce.audio.augment import Waveform
from vivavoce.audio.resample import LOWEST_HZ, resample
from vivavoce.base.errors import AudioError, MissingExtraError

# name -> libsndfile's format and subtype, and the rates it holds in Hz (none: any)
FORMATS = MappingProxyType(
    {
        "mp3": ("MP3", "MPEG_LAYER_III", (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)),
        "ogg": ("OGG", "VORBIS", ()),
        "opus": ("OGG", "OPUS", (8000, 12000, 16000, 24000, 48000)),
    }
)
MU = 255
TELEPHONE_HZ = 8000
ROOM = 0.9  # peaks are brought below it on the way through an encoder, and back
FADE_S = 0.002


def has_format(name: str) -> bool:
    """Whether libsndfile can write mp3, ogg or opus here, at a quality of one's choice."""
    import inspect

    import soundfile

    container, encoding, _ = FORMATS[name]
    told = "compression_level" in inspect.signature(soundfile.SoundFile.__init__).parameters
    return told and bool(soundfile.check_format(container, encoding))


def through_format(waveform: Waveform, sample_rate: int, name: str, compression: float) -> Waveform:
    """Encode and decode.

    Args:
        waveform: float32 [S].
        sample_rate: Hz; where the format has no such rate, the next higher one is used in between.
        name: "mp3", "ogg" or "opus".
        compression: 0 for the best quality to 1 for the smallest file.

    Returns:
        float32 [S], not moved in time.

    Raises:
        AudioError: No such format, or libsndfile fails.
        MissingExtraError: The libsndfile or soundfile here cannot write it.
    """
    if name not in FORMATS:
        raise AudioError(f"there is no lossy format {name!r}; wanted one of {', '.join(FORMATS)}.")
    if not has_format(name):
        raise MissingExtraError(
            f"{name} cannot be written here; install soundfile 0.13 or later with libsndfile 1.2."
        )
    import soundfile

    container, encoding, rates = FORMATS[name]
    rate = min((r for r in rates if r >= sample_rate), default=max(rates)) if rates else sample_rate
    gain = min(1.0, ROOM / max(1e-9, float(np.abs(waveform).max())))
    sent = resample((waveform * gain).astype(np.float32), sample_rate, rate)
    file = io.BytesIO()
    try:
        with soundfile.SoundFile(
            file, "w", rate, 1, format=container, subtype=encoding, compression_level=compression
        ) as writer:
            writer.write(sent)
        file.seek(0)
        heard, _ = soundfile.read(file, dtype="float32")
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{name} at {rate} Hz: {error}") from error
    return _fit(resample((heard / gain).astype(np.float32), rate, sample_rate), len(waveform))


def through_mu_law(waveform: Waveform, sample_rate: int) -> Waveform:
    """A digital telephone: 8 kHz and 8-bit mu-law steps; silence stays silence.

    Args:
        waveform: float32 [S]; what is past -1 and 1 is cut off.
        sample_rate: Hz; below 8 kHz it is kept.

    Returns:
        float32 [S].

    Source: the mu-law of ITU-T G.711, by its formula and not by its segments.
    """
    rate = min(sample_rate, TELEPHONE_HZ)
    sent = np.clip(resample(waveform, sample_rate, rate), -1, 1)
    steps = np.rint(np.log1p(MU * np.abs(sent)) / np.log1p(MU) * 127) / 127
    heard = np.sign(sent) * np.expm1(steps * np.log1p(MU)) / MU
    return _fit(resample(heard.astype(np.float32), rate, sample_rate), len(waveform))


def through_low_rate(waveform: Waveform, sample_rate: int, rate: int, bits: int) -> Waveform:
    """A cheap recorder: a low sample rate and few bits.

    Args:
        waveform: float32 [S]; what is past -1 and 1 is cut off.
        sample_rate: Hz.
        rate: Hz in between, at least 1000; a higher one than ``sample_rate`` does nothing.
        bits: 2 to 16; steps are equal.

    Returns:
        float32 [S].
    """
    if rate < LOWEST_HZ or not 2 <= bits <= 16:
        raise AudioError(f"{rate} Hz and {bits} bits; wanted {LOWEST_HZ} Hz or more and 2 to 16 bits.")
    rate, top = min(rate, sample_rate), 2 ** (bits - 1) - 1
    sent = np.rint(np.clip(resample(waveform, sample_rate, rate), -1, 1) * top) / top
    return _fit(resample(sent.astype(np.float32), rate, sample_rate), len(waveform))


def drop_out(waveform: Waveform, sample_rate: int, starts_s: np.ndarray, lengths_s: np.ndarray) -> Waveform:
    """Silence stretches, as lost packets do; 2 ms on each side of a stretch fade.

    Args:
        waveform: float32 [S].
        sample_rate: Hz.
        starts_s, lengths_s: [N], seconds.

    Returns:
        float32 [S].
    """
    open_ = np.ones(len(waveform), np.float32)
    for start, length in zip(starts_s, lengths_s, strict=True):
        first = round(start * sample_rate)
        open_[first : first + round(length * sample_rate)] = 0
    fade = max(1, round(FADE_S * sample_rate))
    kernel = np.ones(2 * fade + 1, np.float32) / (2 * fade + 1)
    smooth = np.convolve(np.pad(open_, fade, mode="edge"), kernel, "valid")
    return waveform * np.clip(2 * smooth - 1, 0, 1)


def _fit(waveform: Waveform, samples: int) -> Waveform:
    """Cut, or fill with zeros, the few samples by which resampling and decoding may differ."""
    out = np.zeros(samples, np.float32)
    out[: len(waveform)] = waveform[:samples]
    return out
