"""Word errors: the library's values, one corpus of four kinds of text counted by hand, silence, cuts, marks."""

# ruff: noqa: RUF001  (Chinese punctuation is meant)

from __future__ import annotations

import importlib.util
import json
from importlib.metadata import version
from pathlib import Path

import pytest
from tests.evaluation.columns import make_items

from vivavoce.base.errors import ConfigError, DataError, MissingExtraError
from vivavoce.evaluation.metrics.error_rates import CharacterErrorRate, WordErrorRate
from vivavoce.evaluation.metrics.normalisers import Normaliser

jiwer = pytest.importorskip("jiwer")
PLAIN = WordErrorRate(normaliser="none", language="en")


def test_published_examples_of_the_library() -> None:
    items = make_items(["hello duck", "foo bar"], ["hello world", "foo bar baz"])
    assert WordErrorRate(normaliser="none", language="en").score(items[:1]).value == 0.5
    assert (
        PLAIN.score(items).value
        == jiwer.wer(["hello world", "foo bar baz"], ["hello duck", "foo bar"])
        == 0.4
    )
    cer = CharacterErrorRate(normaliser="none", language="en").score(items)
    assert cer.value == jiwer.cer(["hello world", "foo bar baz"], ["hello duck", "foo bar"])
    assert cer.values[0] == jiwer.cer("hello world", "hello duck")


def test_arabic_chinese_numbers_and_contractions_by_hand() -> None:
    rows = [
        # "i can not pay $21" against "i cannot pay $21": one word exchanged, one left out, of 5
        ("I cannot pay $21", "I can't pay twenty-one dollars.", "en-US", 2, 5),
        # vowel signs go; of 2 words one is other and one is put in
        ("مرحبا يا عالم", "مَرْحَبًا بِالعَالَمِ!", "ar", 2, 2),
        # 4 characters, one is other; signs do not count
        ("你好是界", "你好，世界。", "zh-CN", 1, 4),
        ("Ça va très bien", "ça va, très bien...", "fr", 0, 4),
        ("It is Doctor Smith's 3rd", "It's Dr. Smith's third", "en", 0, 6),  # smith is
    ]
    items = make_items([r[0] for r in rows], [r[1] for r in rows], language=[r[2] for r in rows])
    score = WordErrorRate(spellings="none").score(items)
    assert score.statistics.tolist() == [[r[3], r[4]] for r in rows]
    assert score.value == 5 / 21
    assert score.values == (2 / 5, 1.0, 1 / 4, 0.0, 0.0)
    assert score.counts == {"substitutions": 3, "deletions": 1, "insertions": 1, "items_by_character": 1}
    assert score.better == "lower" and score.settings["versions"]["jiwer"] == version("jiwer")
    assert score.settings["normaliser_versions"]["transformers"]


def test_spellings_come_from_the_package_or_a_file(tmp_path: Path) -> None:
    items = make_items(["the color"], ["the colour"], "en")
    path = tmp_path / "normalizer.json"
    path.write_text(json.dumps({"colour": "color"}))
    assert WordErrorRate(spellings=path).score(items).value == 0
    assert WordErrorRate(spellings="none").score(items).value == 0.5
    if importlib.util.find_spec("whisper_normalizer"):
        score = WordErrorRate().score(items)
        assert score.value == 0 and score.settings["normaliser_versions"]["whisper-normalizer"]
    with pytest.raises(ConfigError, match="cannot be read"):
        WordErrorRate(spellings=tmp_path / "absent.json").score(items)
    odd = tmp_path / "list.json"
    odd.write_text("[]")
    with pytest.raises(ConfigError, match="no JSON object"):
        Normaliser(spellings=odd)("colour", "en")


def test_an_absent_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from vivavoce.evaluation.metrics import normalisers

    normalisers._whisper_english.cache_clear()
    monkeypatch.setattr(normalisers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="whisper-normalizer"):
        WordErrorRate().score(make_items(["a"], ["a"], "en"))


def test_silence_is_one_word() -> None:
    items = make_items(["", "...", "two words", None, "x"], ["", "[noise]", "", "a b c", "..."], "fr")
    score = WordErrorRate().score(items)
    assert score.statistics.tolist() == [[0, 1], [0, 1], [2, 1], [3, 3], [1, 1]]
    assert score.counts["no_answer"] == 1 and score.counts["silent_references"] == 4
    assert CharacterErrorRate().score(items).statistics.tolist() == [[0, 1], [0, 1], [9, 1], [5, 5], [1, 1]]


def test_endless_answers_are_cut_when_asked() -> None:
    items = make_items(["go " * 500, "go"], ["go", "go"], "fr")
    assert WordErrorRate().score(items).value == 499 / 2
    score = WordErrorRate(most_letters=8).score(items)
    assert score.value == 2 / 2 and score.counts["cut_answers"] == 1
    with pytest.raises(ConfigError, match="most_letters"):
        WordErrorRate(most_letters=0)


def test_marks_that_are_letters_can_be_kept() -> None:
    right, heard = "हिन्दी भाषा", "हन्दी भाषा"
    assert Normaliser("whisper")(right, "hi") == "ह न द भ ष"  # as Whisper's own form does
    assert Normaliser("letters")(right, "hi") == right
    items = make_items([heard], [right], "hi")
    assert WordErrorRate().score(items).counts["marks_lost"] == 1
    assert WordErrorRate(normaliser="letters").score(items).value == 0.5
    assert "marks_lost" not in WordErrorRate().score(make_items(["مَر"], ["مَر"], "ar")).counts
    assert Normaliser("letters")("Don\u2019t 'stop', l'été!", "fr") == "don't stop l'été"
    assert Normaliser("letters")("สวัสดี", "th") == "ส วั ส ดี"


def test_character_errors_of_unspaced_languages_see_no_spaces() -> None:
    items = make_items(["你 好 世"], ["你好世界"], "zh")
    assert CharacterErrorRate().score(items).statistics.tolist() == [[1, 4]]


def test_a_language_is_needed() -> None:
    with pytest.raises(DataError, match="item '0' has no language"):
        WordErrorRate().score(make_items(["a"], ["a"]))
    with pytest.raises(ConfigError, match="normaliser is 'loud'"):
        WordErrorRate(normaliser="loud", language="en").score(make_items(["a"], ["a"]))
    with pytest.raises(DataError, match="first '0' with 2"):
        PLAIN.score(make_items(["a"], [["a", "b"]]))
