"""Speak one text through libespeak-ng and write the samples to standard output; run as a script, in its own
process.

The library is one state machine whose wave phase carries over from call to call, so a second call in the same
process gives other samples. A fresh process costs about 40 ms and makes every utterance repeatable, parallel
and safe in threads. Standard library only; ``synthesis`` starts it.

Usage: ``python -I -S espeak_process.py LIBRARY DATA VOICE WORDS_PER_MINUTE PITCH RANGE WORD_GAP [times] < text``.
Output: the sample rate as 4 bytes, then mono 16-bit samples, both little-endian. With ``times`` instead the lines
``word FIRST MS`` (its first character, counted from 0), ``pause MS`` and ``end SAMPLES RATE``. Exit status 3: the voice
cannot be loaded; 1: anything else.
"""

import ctypes
import struct
import sys
from pathlib import Path

SYNCHRONOUS, DO_NOT_EXIT, CHARACTERS, UTF8 = 2, 0x8000, 1, 1
RATE, PITCH, RANGE, WORD_GAP = 1, 3, 4, 7
PHONEME_EVENTS = 1  # option of espeak_Initialize
LIST_END, WORD, PHONEME = 0, 1, 7


class Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # characters, from 1
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # ms
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),  # of a phoneme
    )


def main(arguments: list[str]) -> int:
    """Speak standard input with the library, data folder, voice, rate and pitch given; return the exit
    status."""
    library_path, data, voice, words_per_minute, pitch, pitch_range, word_gap, *rest = arguments
    times = rest == ["times"]
    library = ctypes.CDLL(library_path)
    out = sys.stdout.buffer
    total = 0

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event))
    def collect(samples, count, events):  # type: ignore[no-untyped-def]
        nonlocal total
        if samples and count > 0:
            total += count
            if not times:
                out.write(ctypes.string_at(samples, 2 * count))
        if times:
            write_events(events)
        return 0

    def write_events(events):  # type: ignore[no-untyped-def]
        i = 0
        while events[i].type != LIST_END:
            event = events[i]
            if event.type == WORD:
                out.write(b"word %d %d\n" % (event.text_position - 1, event.audio_position))
            elif event.type == PHONEME and event.name.startswith(b"_"):
                out.write(b"pause %d\n" % event.audio_position)
            i += 1

    options = DO_NOT_EXIT | (PHONEME_EVENTS if times else 0)
    rate = library.espeak_Initialize(SYNCHRONOUS, 0, str(Path(data).parent).encode(), options)
    if rate <= 0:
        return 1
    library.espeak_SetSynthCallback(collect)
    if hasattr(library, "espeak_ng_SetRandSeed"):  # else its breath noise is seeded with the time of day
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        return 3
    library.espeak_SetParameter(RATE, int(words_per_minute), 0)
    library.espeak_SetParameter(PITCH, int(pitch), 0)
    library.espeak_SetParameter(RANGE, int(pitch_range), 0)
    library.espeak_SetParameter(WORD_GAP, int(word_gap), 0)
    text = sys.stdin.buffer.read()
    if not times:
        out.write(struct.pack("<I", rate))
    status = library.espeak_Synth(text, ctypes.c_size_t(len(text) + 1), 0, CHARACTERS, 0, UTF8, None, None)
    library.espeak_Synchronize()
    if times:
        out.write(b"end %d %d\n" % (total, rate))
    out.flush()
    return 1 if status else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
