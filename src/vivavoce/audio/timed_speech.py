"""When the synthesizers of ``synthesis`` say what: word times of espeak-ng, sound times of flite.

These are the times by which the speech was made, so they are as true as times get; a recogniser is judged by them.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from vivavoce.audio.files import audio_info
from vivavoce.audio.synthesis import EspeakLibrary, FliteProgram, Manner, find_synthesizer, run
from vivavoce.base.errors import AudioError

SAME_S = 0.01  # flite rounds its sounds to frames of 5 ms


@dataclass(frozen=True)
class TimedSpeech:
    """When a text is said.

    Attributes:
        duration_s: Of the speech, seconds.
        words: (first character, start, end) of each word, for synthesizers that tell; what is said as one ("of the")
            is one.
        sounds: (phone, start, end) of each sound but pauses, for those that tell this instead.
    """

    duration_s: float
    words: tuple[tuple[int, float, float], ...] = ()
    sounds: tuple[tuple[str, float, float], ...] = ()


def time_speech(
    text: str, voice: str = "espeak:en-us", *, speed: float = 1.0, pitch: float = 1.0
) -> TimedSpeech:
    """Tell when ``synthesize`` of the same arguments says what.

    Raises:
        AudioError: As ``synthesize``; or a voice that does not tell (flite's kal, and espeak-ng as a program).
        MissingExtraError: The synthesizer is not installed.
    """
    manner = Manner(speed, pitch)
    synthesizer, name = find_synthesizer(text, voice, manner)
    if isinstance(synthesizer, EspeakLibrary):
        return _espeak_words(run([*synthesizer.command(name, manner), "times"], text).decode())
    if isinstance(synthesizer, FliteProgram):
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "speech.wav"
            command = [*synthesizer.command(name, manner), "-psdur", "-t", text, "-o", str(target)]
            listing = run(command).decode()
            duration_s = audio_info(target).duration_s or 0.0
        made = _flite_sounds(listing, duration_s)
        if made.sounds and abs(float(listing.split()[-1].partition(":")[2]) - duration_s) <= SAME_S:
            return made
    raise AudioError(f"voice {voice!r} does not tell when it says what; flite's slt, awb and rms do.")


def _espeak_words(listing: str) -> TimedSpeech:
    """Words of the lines of ``espeak_process``: each lasts to the next pause, word, or the end."""
    words: list[tuple[int, float, float]] = []
    open_word: tuple[int, float] | None = None
    duration_s = 0.0
    for line in listing.splitlines():
        kind, *numbers = line.split()
        if kind == "end":
            now = duration_s = int(numbers[0]) / int(numbers[1])
        else:
            now = int(numbers[-1]) / 1000
        if open_word is not None:
            words.append((*open_word, now))
        open_word = (int(numbers[0]), now) if kind == "word" else None
    return TimedSpeech(duration_s, words=tuple(w for w in words if w[2] > w[1]))


def _flite_sounds(listing: str, duration_s: float) -> TimedSpeech:
    """Sounds of flite's line ``pau:0.164 hh:0.255 ...``, which has their ends."""
    sounds, start = [], 0.0
    for item in listing.split():
        name, _, end = item.rpartition(":")
        if name != "pau":
            sounds.append((name, start, float(end)))
        start = float(end)
    return TimedSpeech(duration_s, sounds=tuple(sounds))
