"""The embedded diariser tells voices apart, always in the same way, and never needs the whole recording at once."""

from __future__ import annotations

import sys
import types
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from vivavoce.audio import diarisation
from vivavoce.audio.diarisation import (
    DIARISERS,
    EmbeddedDiariser,
    SpeakerCount,
    agreeing,
    stretches,
    turns_of,
)
from vivavoce.audio.files import flac_bytes, write_audio
from vivavoce.audio.resample import resample
from vivavoce.audio.speaker_features import speaker_frames
from vivavoce.audio.speaker_models import best_path
from vivavoce.audio.speaker_turns import SpeakerTurn, diarisation_error
from vivavoce.audio.synthesis import has_synthesizer, synthesize
from vivavoce.audio.voice_activity import Segment, speech_segments
from vivavoce.base.errors import AudioError, ConfigError, MissingExtraError

RATE = 16_000
TEXTS = (
    "The river was quiet in the early morning light.", "Nobody had seen the old boat for several weeks.",
    "We walked along the shore until the rain began.", "Then somebody called us from the other side.",
    "It was my neighbour with a basket full of apples.", "She asked whether we would like to cross over.",
)  # fmt: skip
VOICES = ("flite:slt", "flite:rms")


class Talk(NamedTuple):
    """A recording at 16 kHz and who speaks when."""

    waveform: np.ndarray
    turns: list[SpeakerTurn]

    @property
    def speech(self) -> list[Segment]:
        return [Segment(*turn[:2]) for turn in self.turns]


@cache
def talk(voices: tuple[str, ...] = VOICES) -> Talk:
    """Voices that take turns, with pauses of 0.4 s."""
    for engine in {voice.partition(":")[0] for voice in voices}:
        if not has_synthesizer(engine):
            pytest.skip(f"{engine} is not installed")
    pieces, turns, at = [np.zeros(RATE // 2)], [], 0.5
    for number, text in enumerate(TEXTS):
        voice = voices[number % len(voices)]
        wave, rate = synthesize(text, voice)
        wave = resample(wave, rate, RATE)
        loud = np.flatnonzero(np.abs(wave) > 0.01 * np.abs(wave).max())
        wave = wave[loud[0] : loud[-1] + 1]
        turns.append(SpeakerTurn(at, at + wave.size / RATE, voice))
        pieces += [wave, np.zeros(round(0.4 * RATE))]
        at += wave.size / RATE + 0.4
    sound = np.concatenate(pieces)
    sound += 3e-4 * np.random.default_rng(0).standard_normal(sound.size)
    return Talk(sound.astype(np.float32), turns)


def diarise(given: Talk, speech: list[Segment], **count: Any) -> list[SpeakerTurn]:
    return EmbeddedDiariser().diarise(flac_bytes(given.waveform, RATE), speech, SpeakerCount(**count))


@pytest.mark.parametrize(
    ("voices", "count"),
    [(VOICES, {"exactly": 2}), (VOICES, {}), (("espeak:en-us", "flite:slt"), {})],
    ids=["known", "unknown", "two engines"],
)
def test_two_voices(voices: tuple[str, ...], count: dict[str, int]) -> None:
    given = talk(voices)
    found = diarise(given, given.speech, **count)
    assert diarisation_error(given.turns, found).rate < 0.05
    assert {turn.speaker for turn in found} == {"1", "2"} and found[0].speaker == "1"
    heard = speech_segments(given.waveform, RATE)  # by energy, with its padding of 0.1 s
    error = diarisation_error(given.turns, diarise(given, heard, **count))
    assert error.rate < 0.2 and error.confusion_s < 0.02 * error.total_s


def test_one_voice_is_one_speaker() -> None:
    given = talk(("flite:slt",))
    for count in ({}, {"exactly": 1}):
        assert {turn.speaker for turn in diarise(given, given.speech, **count)} == {"1"}
    assert diarise(given, []) == []


def test_blocks_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = talk()
    path = write_audio(tmp_path / "a.wav", given.waveform, RATE)
    whole = EmbeddedDiariser().diarise(path, given.speech, SpeakerCount(2))
    monkeypatch.setattr(diarisation, "BLOCK_S", 0.37)
    assert EmbeddedDiariser().diarise(path, given.speech, SpeakerCount(2)) == whole
    sound = given.waveform[: 12 * RATE]
    wanted = speaker_frames([sound], [Segment(0.0, 12.0)])
    for size in (777, 16_000, 100_000):
        cut = [sound[i : i + size] for i in range(0, sound.size, size)]
        for one, other in zip(speaker_frames(cut, [Segment(0.0, 12.0)]), wanted, strict=True):
            assert np.array_equal(one, other)
    later = speaker_frames([sound[5 * RATE :]], [Segment(0.0, 7.0)])  # pieces end elsewhere
    own, same = wanted.number >= 510, later.number >= 10
    assert np.array_equal(wanted.number[own] - 500, later.number[same])
    assert np.allclose(wanted.cepstra[own], later.cepstra[same], atol=0.01)


def test_the_same_again_and_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    given, seen, labels = talk(), set(), diarisation.speaker_labels
    monkeypatch.setattr(
        diarisation, "speaker_labels", lambda *a: seen.add(torch.get_num_threads()) or labels(*a)
    )
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        first = diarise(given, given.speech)
        assert torch.get_num_threads() == 2 and seen == {1}
        torch.set_num_threads(1)
        assert diarise(given, given.speech) == first
    finally:
        torch.set_num_threads(before)


def test_frames_are_those_in_speech_and_pitch_is_found() -> None:
    wave = np.zeros(3 * RATE, np.float32)
    times = np.arange(RATE) / RATE
    wave[RATE : 2 * RATE] = sum(0.2 / k * np.sin(2 * np.pi * 125.0 * k * times) for k in range(1, 9))
    frames = speaker_frames([wave], [Segment(1.1, 1.9)])
    assert frames.number.size == 80 and frames.cepstra.shape == (80, 19) and frames.voiced.all()
    middles = frames.number * 0.01 + 0.0125
    assert middles.min() >= 1.1 and middles.max() < 1.9
    assert np.abs(2.0 ** frames.pitch.astype(float) - 125.0).max() < 1.0
    assert not speaker_frames([wave], [Segment(0.1, 0.9)]).voiced.any()
    with pytest.raises(AudioError, match="out of order"):
        speaker_frames([wave], [Segment(1.0, 2.0), Segment(1.5, 2.5)])
    with pytest.raises(AudioError, match="wanted float"):
        speaker_frames([np.zeros((2, 100), np.float32)], [])


def test_pieces_of_the_search() -> None:
    numbers = np.array([*range(10), *range(20, 45)])
    assert stretches(numbers, 10).tolist() == [0, 10, 22, 35]
    one, other = np.array([0, 0, 1, 1, 2]), np.array([1, 1, 0, 0, 0])
    assert agreeing(one, other) == pytest.approx(4 / 5) and agreeing(one, one) == 1.0
    labels = np.array([5] * 10 + [2] * 25)
    assert [turn.speaker for turn in turns_of(numbers, labels)] == ["1", "2"]
    split = turns_of(numbers, np.array([0] * 10 + [0] * 5 + [1] * 20))
    assert [(round(t.start_s, 4), round(t.end_s, 4), t.speaker) for t in split] == [
        (0.0075, 0.1075, "1"), (0.2075, 0.2575, "1"), (0.2575, 0.4575, "2"),
    ]  # fmt: skip


def test_a_path_changes_voice_where_it_pays() -> None:
    scores = np.zeros((30, 2))
    scores[:12, 0] = scores[12:, 1] = 20.0
    scores[5, 1] = 60.0  # one odd block is no change of speaker
    assert best_path(scores).tolist() == [0] * 12 + [1] * 18
    scores[12:15, :] = scores[12:15, ::-1]
    scores[15:, :] = scores[15:, ::-1]
    assert set(best_path(scores).tolist()) == {0}
    better = np.zeros((30, 2))
    better[:10, 0] = better[18:, 0] = 25.0
    better[10:18, 1] = 15.0  # 8 blocks that are better by 15 do not pay for two changes, by 25 they do
    assert not best_path(better).any()
    better[10:18, 1] = 25.0
    assert best_path(better).tolist() == [0] * 10 + [1] * 8 + [0] * 12
    short = np.zeros((20, 2))
    short[:, 0], short[8:11, 1] = (
        50.0,
        1000.0,
    )  # three blocks that pay for any change: the shortest turn has five
    path = best_path(short)
    assert path[8:11].all() and path.sum() == 5


def test_counts_and_names_that_make_no_sense() -> None:
    for wrong in ({"exactly": 0}, {"most": 0}):
        with pytest.raises(ConfigError, match="wanted 1 or more"):
            SpeakerCount(**wrong)
    with pytest.raises(ConfigError, match="no models to choose from"):
        EmbeddedDiariser("large")
    with pytest.raises(ConfigError, match="Did you mean 'embedded'"):
        DIARISERS.get("embeded")


def test_pyannote_is_asked_as_its_package_wants(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A stand-in for the package: what it is given, and how its turns come back."""
    asked: list[tuple[Any, dict[str, int]]] = []

    class Annotation:
        def itertracks(self, yield_label: bool) -> Any:
            assert yield_label
            spans = ((3.0, 5.0, "B"), (0.0, 3.2, "A"), (5.0, 6.0, "A"))
            return ((types.SimpleNamespace(start=a, end=b), None, name) for a, b, name in spans)

    class Pipeline:
        @staticmethod
        def from_pretrained(name: str) -> Any:
            if name == "refused":
                return None
            return lambda given, **limits: asked.append((given, limits)) or Annotation()

    monkeypatch.setitem(sys.modules, "pyannote", types.ModuleType("pyannote"))
    monkeypatch.setitem(sys.modules, "pyannote.audio", types.SimpleNamespace(Pipeline=Pipeline))
    machine = DIARISERS.get("pyannote")()
    found = machine.diarise(tmp_path / "a.wav", [], SpeakerCount(2))
    assert found == [SpeakerTurn(0.0, 3.2, "1"), SpeakerTurn(3.0, 5.0, "2"), SpeakerTurn(5.0, 6.0, "1")]
    machine.diarise(b"RIFF", [], SpeakerCount(most=4))
    assert asked[0] == (str(tmp_path / "a.wav"), {"num_speakers": 2})
    assert asked[1][0].read() == b"RIFF" and asked[1][1] == {"max_speakers": 4}
    assert machine.hears_overlap and not EmbeddedDiariser.hears_overlap
    with pytest.raises(ConfigError, match="accept its terms"):
        DIARISERS.get("pyannote")("refused")
    monkeypatch.setitem(sys.modules, "pyannote.audio", None)
    with pytest.raises(MissingExtraError, match="or take 'embedded'"):
        DIARISERS.get("pyannote")()
