"""Emotions as text: writing and reading are inverse, and many ways of writing are read."""

# ruff: noqa: RUF001  (Chinese punctuation is meant)

from __future__ import annotations

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from vivavoce.base.errors import ConfigError
from vivavoce.tokens.trajectory import (
    EMOTION_WORDS,
    EMOTIONS,
    format_trajectory,
    language_of,
    parse_trajectory,
    read_emotion,
    sound_marks,
    without_sound_marks,
)

TEXTS = st.one_of(
    st.text(),
    st.lists(
        st.sampled_from(
            [
                "情绪序列",
                "Emotion sequence",
                ":",
                "：",
                "\n",
                "\r",
                " ",
                "*",
                " -> ",
                "→",
                "，",
                "。",
                *EMOTIONS,
                "开心",
            ]
        ),
        max_size=12,
    ).map("".join),
)
LABELS = st.lists(st.sampled_from(EMOTIONS), max_size=6).map(tuple)


@given(description=TEXTS, emotions=LABELS, language=st.sampled_from(["zh", "en"]))
@example("先开心。\n情绪序列: happy -> sad", ("fear",), "zh")
@example("", ("fear",), "en")
@example("ends in space \n ", ("fear", "fear"), "zh")
def test_reading_is_the_inverse_of_writing(
    description: str, emotions: tuple[str, ...], language: str
) -> None:
    assume(emotions or not parse_trajectory(description)[1])
    written = format_trajectory(description, emotions, language)
    assert parse_trajectory(written) == (description, emotions)


def test_the_published_line() -> None:
    written = format_trajectory("你先惊讶，后来平静。", ("surprise", "Disgust", "平静"))
    assert written == "你先惊讶，后来平静。\n情绪序列: surprise -> disgust -> neutral"
    assert format_trajectory("Calm.", ["neutral"], "en") == "Calm.\nEmotion sequence: neutral"
    assert format_trajectory("Calm.", ()) == "Calm."


@pytest.mark.parametrize(
    ("text", "description", "emotions"),
    [
        ("好。\n情绪序列：开心→难过→平静", "好。", "happy sad neutral"),
        ("好。\n情绪序列: 开心 —> 难过 => 平静。", "好。", "happy sad neutral"),
        ("ok\n**Emotion sequence:** Happy --> SAD", "ok", "happy sad"),
        ("ok\n**Emotional sequence**: [happy] → [sad]", "ok", "happy sad"),
        ("ok emotion sequence: happy > sad", "ok", "happy sad"),
        ("ok\nEmotion sequence: happy, sad, neutral.", "ok", "happy sad neutral"),
        ("好。\n情绪序列：愤怒、惊讶", "好。", "anger surprise"),
        ("情绪序列: fear", "", "fear"),
        ("好。\n情绪序列: happy -> sad (at the end)", "好。", "happy sad"),
        ("a\n情绪序列: happy\nb\n情绪序列: sad\nc", "a\n情绪序列: happy\nb\nc", "sad"),
        ("ok\nEmotion sequence: happy\n> quoted", "ok\n> quoted", "happy"),
        ("ok\nEmotion sequence: happy -> Wistful -> neutral", "ok", "happy wistful neutral"),
    ],
)
def test_many_ways_of_writing_are_read(text: str, description: str, emotions: str) -> None:
    assert parse_trajectory(text) == (description, tuple(emotions.split()))


@pytest.mark.parametrize(
    "text",
    ["", "开心，后来难过。", "情绪序列: 用户的情绪一直在变化", "情绪序列:", "emotion sequence: ups -> downs"],
)
def test_without_labels_nothing_is_made_up(text: str) -> None:
    assert parse_trajectory(text) == (text, ())


def test_guessing_reads_words_in_order_when_asked() -> None:
    said = "你先是惊喜，非常惊讶，然后很不开心，最后恢复平静。"
    assert parse_trajectory(said, guess=True) == (said, ("surprise", "sad", "neutral"))
    english = "Angry first; unhappy and afraid later. An angrygram is no word."
    assert parse_trajectory(english, guess=True)[1] == ("anger", "sad", "fear")
    assert parse_trajectory(f"{said}\n情绪序列: fear", guess=True)[1] == ("fear",)


def test_every_word_has_one_label() -> None:
    words = [word for group in EMOTION_WORDS.values() for word in group]
    assert len(words) == len(set(words)) and set(EMOTION_WORDS) == set(EMOTIONS)
    assert all(
        read_emotion(f" {word.upper()} ") == label for label, ws in EMOTION_WORDS.items() for word in ws
    )
    assert read_emotion("excited") is None and read_emotion("") is None


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: format_trajectory("x", ["happy", "bored", "meh"]), "bored, meh; known: happy, sad"),
        (lambda: format_trajectory("x", ["happy"], "fr"), "'fr'"),
        (lambda: format_trajectory("x\n情绪序列: sad", ()), "already"),
    ],
)
def test_refusals_name_what_is_wrong(call, words) -> None:
    with pytest.raises(ConfigError, match=words):
        call()


def test_sound_marks_and_languages() -> None:
    said = "我[笑声] 中了！ 【叹息声】唉"
    assert sound_marks(said) == ["笑声", "叹息声"]
    assert without_sound_marks(said) == "我 中了！ 唉"
    assert without_sound_marks("So [clears throat] yes") == "So yes"
    assert [language_of(t) for t in ("我用 Python 写的", "Say 好 in Chinese", "12 …")] == ["zh", "en", None]
