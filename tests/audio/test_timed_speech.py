"""When synthesizers say what: as long as their speech, words where there is sound, pauses where there is none."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from vivavoce.audio.synthesis import has_synthesizer, synthesize
from vivavoce.audio.timed_speech import time_speech
from vivavoce.base.errors import AudioError

TEXT = "Hello there, my café friend. It is 33 degrees."


def loudness(voice: str, start_s: float, end_s: float, **manner: float) -> float:
    waveform, rate = synthesize(TEXT, voice, **manner)
    return float(np.sqrt(np.mean(np.square(waveform[round(start_s * rate) : round(end_s * rate)]))))


@pytest.mark.parametrize(("voice", "speed"), [("espeak:en-us", 1.0), ("espeak:en-gb+f3", 1.4)])
def test_words_of_espeak(voice: str, speed: float) -> None:
    if not has_synthesizer("espeak"):
        pytest.skip("espeak is not installed")
    said = time_speech(TEXT, voice, speed=speed, pitch=1.2)
    waveform, rate = synthesize(TEXT, voice, speed=speed, pitch=1.2)
    assert said.duration_s == len(waveform) / rate
    assert [TEXT[first : first + 3] for first, _, _ in said.words] == [
        "Hel", "the", "my ", "caf", "fri", "It ", "is ", "33 ", "3 d", "deg",
    ]  # fmt: skip
    assert all(a < b for _, a, b in said.words)
    assert all(end <= start for (_, _, end), (_, start, _) in pairwise(said.words))
    assert said.words[-1][2] <= said.duration_s
    times = {TEXT[first : first + 3]: (start, end) for first, start, end in said.words}
    comma, stop = (times["the"][1], times["my "][0]), (times["fri"][1], times["It "][0])
    assert stop[1] - stop[0] > 0.1
    quiet = loudness(voice, stop[0] + 0.03, stop[1], speed=speed, pitch=1.2)
    loud = loudness(voice, *times["caf"], speed=speed, pitch=1.2)
    assert quiet < 0.1 * loud and comma[1] >= comma[0]


@pytest.mark.parametrize("voice", ["flite:slt", "flite:rms", "flite:awb"])
def test_sounds_of_flite(voice: str) -> None:
    if not has_synthesizer("flite"):
        pytest.skip("flite is not installed")
    text = "Hello there, my friend."
    said = time_speech(text, voice, speed=0.8)
    waveform, rate = synthesize(text, voice, speed=0.8)
    assert said.duration_s == len(waveform) / rate and not said.words
    assert " ".join(name for name, _, _ in said.sounds) == "hh ax l ow dh eh r m ay f r eh n d"
    assert all(a < b for _, a, b in said.sounds)
    gaps = [start - end for (_, _, end), (_, start, _) in pairwise(said.sounds)]
    assert max(gaps) == gaps[6] > 0.05 and sum(gap > 1e-9 for gap in gaps) == 1


def test_what_does_not_tell() -> None:
    if has_synthesizer("flite"):
        with pytest.raises(AudioError, match="does not tell"):
            time_speech("Hello there, my friend. It is late.", "flite:kal16", speed=1.2)
    with pytest.raises(AudioError, match="unknown synthesizer"):
        time_speech("Hello", "festival:kal")
    if has_synthesizer("espeak"):
        with pytest.raises(AudioError, match="at least one letter"):
            time_speech("...", "espeak:en-us")
