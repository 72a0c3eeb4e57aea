"""`trajectory` and moods: drawn moods are in the sound and the labels, and the answer names them in order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.data.build.stand_ins import assert_pure, check_settings, needs, run

from vivavoce.audio.pitch import track_pitch
from vivavoce.audio.resample import resample
from vivavoce.base.errors import ConfigError
from vivavoce.data.build.contract import Context, Fault
from vivavoce.data.build.speech.loudness import speech_level_db
from vivavoce.data.build.speech.moods import MOODS
from vivavoce.data.check.sets import check_set
from vivavoce.data.conversation import Conversation, Message, Text
from vivavoce.data.recordings import read_waveform
from vivavoce.tokens.trajectory import EMOTIONS, QUESTIONS, parse_trajectory

CONTEXT = Context(seed=3)
SPEAK: dict[str, Any] = {"voices": ["espeak:en-us"], "moods": "drawn"}


def dialogue(number: int, emotions: tuple[str, ...] = ()) -> Conversation:
    texts = (
        "The letter arrived.",
        "Go on.",
        "She left the door open.",
        "I see.",
        "It was raining.",
        "Goodbye.",
    )
    messages = [Message(("user", "assistant")[i % 2], [Text(text)]) for i, text in enumerate(texts)]
    for message, emotion in zip(messages[::2], emotions, strict=False):
        message.more["emotion"] = emotion
    return Conversation(f"d{number}", messages, source="made up", license="cc0-1.0")


def spoken(rows: list[Conversation], **settings: Any) -> list[Conversation]:
    return [made[0] for made in run("speak", SPEAK | settings, CONTEXT, rows)]


def test_drawn_moods_are_asked_for_in_order() -> None:
    needs("espeak")
    rows = spoken([dialogue(i) for i in range(40)])
    seen = {part.labels["emotion"] for row in rows for part in row.audio_parts()}
    assert seen == set(EMOTIONS) == set(MOODS)
    for settings in ({}, {"language": "zh"}, {"question": False}):
        for made in assert_pure("trajectory", settings, CONTEXT, rows[:4], elsewhere=False):
            (row,) = made
            labels = [part.labels["emotion"] for part in row.audio_parts()]
            assert parse_trajectory(row.messages[-1].text)[1] == tuple(labels) and len(labels) == 3
            assert [m.role for m in row.messages] == ["user", "assistant"] * 3
            assert [m.loss for m in row.messages] == [None, 0.0, None, 0.0, None, None]
            asked = row.messages[4].text
            assert asked == (
                "" if settings.get("question") is False else QUESTIONS[settings.get("language", "en")]
            )
    made = run("trajectory", {}, CONTEXT, rows)
    assert check_set([row for found in made for row in found]).ok


def test_moods_change_the_sound_as_the_table_says() -> None:
    needs("espeak")
    rows = spoken([dialogue(0, ("neutral", "sad", "anger"))], moods="given")
    waves = [read_waveform(part, rows[0]) for part in rows[0].audio_parts()]
    plain = spoken([dialogue(0)], moods=None)[0]
    for (wave, rate), part in zip(waves, plain.audio_parts(), strict=True):
        assert rate == 24_000 and part.labels == {}
        assert (rows[0].messages[0].more, rows[0].messages[1].more) == ({}, {})
    base = [read_waveform(part, plain)[0].size for part in plain.audio_parts()]
    ratio = [wave.size / size for (wave, _), size in zip(waves, base, strict=True)]
    assert ratio[0] == 1.0 and ratio[1] > 1.15 and ratio[2] < 0.9
    levels = [speech_level_db(*wave) for wave in waves]
    np.testing.assert_allclose(np.array(levels) - levels[0], [0.0, -5.0, 6.0], atol=0.3)


def test_moods_change_melody_and_pauses() -> None:
    """Surprise swings wider than sadness in the same words, and sadness has gaps that its speed does not explain."""
    needs("espeak")
    moods = ("neutral", "surprise", "sad")
    rows = spoken([dialogue(0, (mood,) * 3) for mood in moods], moods="given")
    swing, silence = {}, {}
    for mood, row in zip(moods, rows, strict=True):
        wave, rate = read_waveform(list(row.audio_parts())[1], row)
        wave = resample(wave, rate, 16_000)
        hz = track_pitch(wave, 16_000).hz
        swing[mood] = float(np.log2(hz[hz > 0]).std())
        level = np.abs(wave[: wave.size // 160 * 160]).reshape(-1, 160).max(1)
        silence[mood] = float((level < 0.01 * level.max()).mean() * len(wave) / 16_000)
    assert swing["surprise"] > 1.15 * swing["neutral"] > 1.3 * swing["sad"]
    assert silence["sad"] > silence["neutral"] + 0.25


def test_a_dialogue_is_louder_or_softer_as_a_whole() -> None:
    needs("espeak")
    rows = spoken(
        [dialogue(i, ("neutral",) * 3) for i in range(4)], moods="given", level_db=-30.0, level_spread_db=6.0
    )
    levels = np.array([[speech_level_db(*read_waveform(p, r)) for p in r.audio_parts()] for r in rows])
    assert np.abs(levels - levels[:, :1]).max() < 0.3 and levels[:, 0].std() > 1.0
    assert np.abs(levels + 30).max() <= 6.3


def test_rows_without_moods_are_put_aside() -> None:
    needs("espeak")
    plain, odd = spoken([dialogue(0)], moods=None)[0], spoken([dialogue(1)])[0]
    next(odd.audio_parts()).labels["emotion"] = "hungry"
    found = run("trajectory", {}, CONTEXT, [dialogue(2), plain, odd])
    assert [f.kind for f in found if isinstance(f, Fault)] == ["no_dialogue", "no_emotion", "no_emotion"]
    assert "hungry" in found[2].reason


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("trajectory", {"language": "fr"}, "language is 'fr'"),
        ("speak", {"moods": "some"}, "moods is 'some'"),
        ("speak", {"level_spread_db": 3.0, "level_db": None}, "a level_db to spread"),
        ("speak", {"moods": "drawn", "speed": [0.5, 1.0]}, "within 0.75 and 1.2"),
    ],
)
def test_wrong_settings(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_settings(name, settings)
