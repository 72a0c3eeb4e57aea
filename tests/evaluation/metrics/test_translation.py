"""BLEU and chrF equal sacrebleu's, also by language; the fallback of Japanese is named."""

# ruff: noqa: RUF001  (Chinese punctuation is meant)

from __future__ import annotations

from importlib.util import find_spec

import pytest
from tests.evaluation.columns import make_items

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.evaluation.metrics.translation import Bleu, ChrF

sacrebleu = pytest.importorskip("sacrebleu")

# the example of sacrebleu's README
REFERENCES = [
    ["The dog bit the man.", "It was not unexpected.", "The man bit him first."],
    ["The dog had bit the man.", "No one was surprised.", "The man had bitten the dog."],
]
SYSTEM = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]


def test_the_published_example() -> None:
    items = make_items(SYSTEM, list(zip(*REFERENCES, strict=True)), "en")
    bleu, chrf = Bleu().score(items), ChrF().score(items)
    assert bleu.value == pytest.approx(48.530827009929865, abs=1e-9)
    assert chrf.value == pytest.approx(sacrebleu.corpus_chrf(SYSTEM, REFERENCES).score, abs=1e-9)
    assert round(chrf.value, 2) == 59.73
    plus = ChrF(word_order=2).score(items)
    library = sacrebleu.metrics.CHRF(word_order=2).corpus_score(SYSTEM, REFERENCES)
    assert plus.value == pytest.approx(library.score, abs=1e-9)
    assert bleu.values[0] == pytest.approx(100.0) and bleu.unit == "points"
    assert (
        bleu.settings["tokenize"] == "13a" and bleu.settings["versions"]["sacrebleu"] == sacrebleu.__version__
    )


def test_chinese_is_cut_into_characters() -> None:
    system, right = (
        ["今天天气很好，我们去公园。", "他在 Berlin 工作"],
        ["今天天气不错，我们去公园吧。", "他在 Berlin 上班"],
    )
    score = Bleu().score(make_items(system, right, "zh-TW"))
    assert score.value == pytest.approx(sacrebleu.corpus_bleu(system, [right], tokenize="zh").score)
    assert score.value != pytest.approx(sacrebleu.corpus_bleu(system, [right]).score)


def test_japanese_names_its_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    system, right = ["今日はとても良い天気です"], ["今日はすごく良い天気です"]
    score = Bleu().score(make_items(system, right, "ja"))
    there = bool(find_spec("MeCab") and find_spec("ipadic"))
    assert score.settings["tokenize"] == ("ja-mecab" if there else "char")
    monkeypatch.setattr("vivavoce.evaluation.metrics.translation.find_spec", lambda name: None)
    score = Bleu().score(make_items(system, right, "ja"))
    assert score.settings["tokenize"] == "char" and "ja-mecab" in score.settings["tokenize_fallback"]
    assert score.value == pytest.approx(sacrebleu.corpus_bleu(system, [right], tokenize="char").score)


def test_answers_that_are_missing_shorten_the_corpus() -> None:
    items = make_items([*SYSTEM[:2], None], REFERENCES[0], "en")
    wanted = sacrebleu.corpus_bleu([*SYSTEM[:2], ""], [REFERENCES[0]]).score
    assert Bleu().score(items).value == pytest.approx(wanted)
    assert Bleu().score(items).counts == {"no_answer": 1}
    assert ChrF().score(items).values[2] == 0.0


def test_mixed_languages_and_unknown_tokenizers_are_refused() -> None:
    with pytest.raises(DataError, match="items of de, zh"):
        Bleu().score(make_items(["a", "b"], ["a", "b"], language=["zh", "de"]))
    with pytest.raises(ConfigError, match="tokenize is 'words'"):
        Bleu(tokenize="words").score(make_items(["a"], ["a"]))
