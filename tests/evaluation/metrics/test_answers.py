"""Answers to questions: SQuAD's form by hand, ROUGE-L beside the usual library, characters where there are no words."""

# ruff: noqa: RUF001  (Chinese punctuation is meant)

from __future__ import annotations

import random

import pytest
from tests.evaluation.columns import make_items

from vivavoce.base.errors import DataError
from vivavoce.evaluation.metrics.answers import ExactMatch, RougeL, TokenF1, squad_form, token_f1


def test_squad_form_by_hand() -> None:
    assert squad_form("The  Denver Broncos!") == "denver broncos"
    assert squad_form("An apple, a day (the best)") == "apple day best"
    assert squad_form("theatre") == "theatre"
    assert squad_form("¿Dónde está la casa?", "es") == "dónde está la casa"
    assert squad_form("北京，中国。", "zh") == "北 京 中 国"
    assert squad_form("a A", "fr") == "a a"  # no article in French


def test_exact_match_and_f1_take_the_best_reference() -> None:
    items = make_items(
        ["the Denver Broncos", "Santa Clara, California", None, "北京市"],
        [
            ["Denver Broncos", "Carolina Panthers"],
            ["Levi's Stadium", "Levi's Stadium in Santa Clara"],
            ["x"],
            ["北京"],
        ],
        language=["en", "en", "en", "zh"],
    )
    assert ExactMatch().score(items).values == (1.0, 0.0, 0.0, 0.0)
    f1 = TokenF1().score(items)
    # santa, clara of 3 and of 5 tokens: 2 * 2 / 8; of 3 and 2 characters 2: 4 / 5
    assert f1.values == (1.0, 0.5, 0.0, 0.8) and f1.value == pytest.approx(2.3 / 4)
    assert f1.counts == {"no_answer": 1} and f1.settings["normaliser"] == "squad"


def test_f1_counts_tokens_as_often_as_both_have_them() -> None:
    assert token_f1("to be to be", "to to do") == pytest.approx(2 * 2 / 7)
    assert token_f1("", "") == 1.0 and token_f1("a", "") == 0.0


def test_rouge_equals_the_usual_library() -> None:
    pytest.importorskip("rapidfuzz")
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"])
    rng, words = random.Random(0), "the quick brown fox isn't over 3 lazy dogs".split()
    pairs = [("The quick brown fox jumps over the lazy dog", "The quick brown dog jumps on the log.")]
    pairs += [(" ".join(rng.choices(words, k=9)), " ".join(rng.choices(words, k=12))) for _ in range(50)]
    score = RougeL().score(make_items([p[1] for p in pairs], [p[0] for p in pairs], "en"))
    wanted = [scorer.score(*pair)["rougeL"].fmeasure for pair in pairs]
    assert score.values == pytest.approx(wanted)


def test_rouge_by_hand() -> None:
    pytest.importorskip("rapidfuzz")
    # 5 of 8 and of 9 words in order: the quick brown jumps the
    items = make_items(
        ["The quick brown dog jumps on the log.", "我很高兴", ""],
        ["The quick brown fox jumps over the lazy dog", "我不高兴。", "..."],
        language=["en", "zh", "en"],
    )
    assert RougeL().score(items).values == pytest.approx([10 / 17, 6 / 8, 0.0])


def test_a_language_is_needed() -> None:
    with pytest.raises(DataError, match="no language"):
        TokenF1().score(make_items(["a"], ["a"]))
    assert TokenF1(language="en").score(make_items(["a b"], ["b"])).value == 1.0
