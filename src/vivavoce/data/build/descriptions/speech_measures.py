"""What can be measured of a recording of speech: pitch, rate, noise, level, bandwidth.

Everything is a number of this recording alone. Reverberation is not measured: there is no honest short way to it.

Letters: S samples, T frames.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

import numpy as np

from vivavoce.audio.pitch import track_pitch
from vivavoce.data.build.speech.languages import primary
from vivavoce.data.build.speech.loudness import PAUSE_DB, speech_level_db
from vivavoce.tokens.phones import spoken_form, words_to_phones

FRAME_S = 0.025
QUIETEST = 0.05  # share of the frames that are taken for pauses
FLOOR = 1e-10  # power of the rounding of 16-bit samples: less noise than that cannot be told
CLEARLY = 3.0  # the voice begins and ends where it has so many times the power of the noise, and is no click
WRONG_OCTAVE = 10.0  # semitones from the middle pitch; what is farther is an error of the tracker
BAND_HZ, BAND_DB = 200.0, 60.0  # a band counts if it is less than this below the strongest one
_SIGNS = ("CJK UNIFIED", "HANGUL", "HIRAGANA", "KATAKANA")


@dataclass(frozen=True)
class Units:
    """What the speaking rate counts.

    Attributes:
        kind: "phones" of English, else "signs" (Han, Hangul, kana) or "letters" and digits as written.
        count: How many a transcript has.
        phonemes: The phones, of the set of `tokens.phones`, separated by spaces; None where they are not known.
    """

    kind: str
    count: int
    phonemes: str | None = None


def count_units(text: str, language: str | None) -> Units:
    """Count what is said.

    Args:
        text: Transcript.
        language: Its code; phones are known of English only.

    Raises:
        VocabularyError: English text with letters that English readers do not know.
    """
    if language is not None and primary(language) == "en":
        phones = [p for word in words_to_phones(spoken_form(text)) for p in word]
        return Units("phones", len(phones), " ".join(phones))
    letters = [c for c in unicodedata.normalize("NFC", text) if c.isalnum()]
    signs = sum(unicodedata.name(c, "").startswith(_SIGNS) for c in letters)
    return Units("signs" if 2 * signs > len(letters) else "letters", len(letters))


@dataclass(frozen=True)
class Activity:
    """Where somebody speaks, and how far that stands out.

    Attributes:
        speech_s: From the first sound of the voice to the last, pauses between them included.
        snr_db: Level of the voice without its pauses above that of the quietest 5 % of frames. Speech without any
            pause has no frames to tell the noise by: the number is then too low, by much if there is little noise.
    """

    speech_s: float
    snr_db: float


def find_activity(waveform: np.ndarray, sample_rate: int) -> Activity:
    """Tell voice from pauses by their power.

    Args:
        waveform: float [S] within -1 and 1, not silent, at least as long as a frame of 25 ms.
        sample_rate: Hz.
    """
    size = round(FRAME_S * sample_rate)
    frames = np.lib.stride_tricks.sliding_window_view(waveform.astype(np.float64), size)[:: size // 2]
    power = frames.var(axis=1)  # without an offset or a slow drift
    quiet = np.sort(power)[: max(2, round(QUIETEST * len(power)))]
    noise = max(float(quiet.mean()), FLOOR)
    voice = np.maximum(power - noise, 0.0)
    least = voice.max() * 10 ** (-PAUSE_DB / 10)
    level = float(voice[voice >= least].mean())
    around = np.lib.stride_tricks.sliding_window_view(np.pad(voice, 2, mode="edge"), 5)
    heard = np.flatnonzero(np.minimum(np.median(around, axis=1), voice) >= max(least, CLEARLY * noise))
    first, last = (heard[0], heard[-1]) if heard.size else (0, len(power) - 1)
    speech_s = float((last - first) * (size // 2) + size) / sample_rate
    return Activity(speech_s, 10 * float(np.log10(max(level, FLOOR) / noise)))


def bandwidth_hz(waveform: np.ndarray, sample_rate: int) -> float:
    """The highest frequency with sound: the top of the last band of 200 Hz within 60 dB of the strongest.

    Args:
        waveform: float [S], not silent.
        sample_rate: Hz; the result is at most half of it.
    """
    size = 2 * round(sample_rate / BAND_HZ)  # two bins a band
    samples = np.pad(waveform.astype(np.float64), (0, max(0, size - len(waveform))))
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[:: size // 2]
    power = np.mean(np.abs(np.fft.rfft(frames * np.blackman(size))) ** 2, axis=0)
    last = int(np.flatnonzero(power >= power.max() * 10 ** (-BAND_DB / 10))[-1])
    return min((last + 1) * sample_rate / size, sample_rate / 2)


def measure_speech(waveform: np.ndarray, sample_rate: int, units: Units) -> dict[str, float | str]:
    """Measure a recording of one voice.

    Args:
        waveform: float32 [S] within -1 and 1, not silent, at least as long as a frame of 25 ms.
        sample_rate: Hz.
        units: What is said.

    Returns:
        Rounded numbers. Without ``utterance_pitch_mean``, ``utterance_pitch_std`` (Hz) and ``pitch_spread_semitones``
        if no frame is voiced.
    """
    activity = find_activity(waveform, sample_rate)
    found: dict[str, float | str] = {
        "duration_s": round(waveform.size / sample_rate, 2),
        f"{units.kind}_per_second": round(units.count / activity.speech_s, 2),
        "snr": round(activity.snr_db, 1),
        "level_db": round(speech_level_db(waveform, sample_rate), 1),
        "bandwidth_hz": float(round(bandwidth_hz(waveform, sample_rate))),
    }
    found |= {"phonemes": units.phonemes} if units.phonemes is not None else {}
    track = track_pitch(waveform, sample_rate)
    hz = track.hz[track.voiced]
    if hz.size:
        semitones = 12 * np.log2(hz / np.median(hz))
        right = np.abs(semitones) <= WRONG_OCTAVE
        found["utterance_pitch_mean"] = round(float(hz[right].mean()), 1)
        found["utterance_pitch_std"] = round(float(hz[right].std()), 1)
        found["pitch_spread_semitones"] = round(float(semitones[right].std()), 2)
    return found
