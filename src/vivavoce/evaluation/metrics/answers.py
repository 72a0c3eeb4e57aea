"""Answers to questions: exact match and token F1 by SQuAD's rules, and ROUGE-L."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vivavoce.evaluation.items import Item, base_language, checked
from vivavoce.evaluation.metrics.normalisers import UNSPACED
from vivavoce.evaluation.resampling import Bootstrap
from vivavoce.evaluation.scores import Score, mean_score, missing, versions

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_ENGLISH_WORD = re.compile(r"[a-z0-9]+")


def squad_form(text: str, language: str = "en") -> str:
    """Write in lower case without punctuation; English without articles, unspaced languages with spaces put in.

    Source: evaluation of SQuAD 1.1. It drops ASCII punctuation only; here other languages lose all of Unicode's.
    """
    text = text.lower()
    if language == "en":
        text = "".join(c for c in text if c not in string.punctuation)
        return " ".join(_ARTICLES.sub(" ", text).split())
    text = unicodedata.normalize("NFKC", text)
    text = "".join(c for c in text if unicodedata.category(c)[0] not in "PS")
    return " ".join("".join(text.split())) if language in UNSPACED else " ".join(text.split())


def token_f1(answer: str, reference: str) -> float:
    """F1 of the tokens that two compared forms share, counted as often as they stand in both."""
    found, wanted = answer.split(), reference.split()
    if not found or not wanted:
        return float(found == wanted)
    same = sum((Counter(found) & Counter(wanted)).values())
    return 2 * same / (len(found) + len(wanted))


def rouge_tokens(text: str, language: str) -> list[str]:
    """Tokens for ROUGE: of English as rouge-score without stemming, characters of unspaced languages, else words."""
    if language == "en":
        return _ENGLISH_WORD.findall(text.lower())
    text = unicodedata.normalize("NFKC", text).casefold()
    text = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in text)
    return list("".join(text.split())) if language in UNSPACED else text.split()


@dataclass(frozen=True)
class _BestOfReferences:
    """Mean over items of the best value among an item's references; an answer of None is empty ("no_answer").

    Attributes:
        language: Of items that name none.
        bootstrap: How the interval is drawn.
    """

    language: str | None = None
    bootstrap: Bootstrap = field(default_factory=Bootstrap)

    name = ""
    rule = ""

    def score(self, items: Sequence[Item]) -> Score:
        """Score items by one or more references.

        Raises:
            DataError: No items, references or language.
            MissingExtraError: A library is absent.
        """
        items = checked(items, self.name, None)
        compare = self._comparer()
        values = []
        for item in items:
            language = base_language(item, self.language, self.name)
            values.append(max(compare(item.hypothesis or "", right, language) for right in item.references))
        counts = {"no_answer": sum(item.hypothesis is None for item in items)}
        settings = {"normaliser": self.rule, "versions": versions(*self._libraries())}
        return mean_score(self.name, items, values, counts, settings, bootstrap=self.bootstrap)

    def _comparer(self) -> Callable[[str, str, str], float]:
        raise NotImplementedError

    def _libraries(self) -> tuple[str, ...]:
        return ()


class ExactMatch(_BestOfReferences):
    """Share of answers equal to a reference in SQuAD's form."""

    name = "exact_match"
    rule = "squad"

    def _comparer(self) -> Callable[[str, str, str], float]:
        return lambda answer, right, language: float(
            squad_form(answer, language) == squad_form(right, language)
        )


class Contains(_BestOfReferences):
    """Share of answers that have a reference in them, as whole words of SQuAD's form; what spoken QA reports."""

    name = "contains"
    rule = "squad"

    def _comparer(self) -> Callable[[str, str, str], float]:
        def compare(answer: str, right: str, language: str) -> float:
            wanted = squad_form(right, language)
            return float(bool(wanted) and f" {wanted} " in f" {squad_form(answer, language)} ")

        return compare


class TokenF1(_BestOfReferences):
    """Mean token F1 in SQuAD's form; characters are the tokens of languages without spaces."""

    name = "token_f1"
    rule = "squad"

    def _comparer(self) -> Callable[[str, str, str], float]:
        return lambda answer, right, language: token_f1(
            squad_form(answer, language), squad_form(right, language)
        )


class RougeL(_BestOfReferences):
    """Mean ROUGE-L F1: the longest common subsequence of tokens (Lin 2004), no stemming.

    The usual library drops all but a-z and 0-9, which leaves nothing of Chinese; here other languages keep their
    letters.
    """

    name = "rouge_l"
    rule = "rouge-score without stemming; characters in languages without spaces"

    def _comparer(self) -> Callable[[str, str, str], float]:
        try:
            from rapidfuzz.distance import LCSseq
        except ImportError as error:
            raise missing("rapidfuzz", self.name) from error

        def compare(answer: str, right: str, language: str) -> float:
            found, wanted = rouge_tokens(answer, language), rouge_tokens(right, language)
            length = len(found) + len(wanted)
            return 2 * LCSseq.similarity(found, wanted) / length if length else 0.0

        return compare

    def _libraries(self) -> tuple[str, ...]:
        return ("rapidfuzz",)
