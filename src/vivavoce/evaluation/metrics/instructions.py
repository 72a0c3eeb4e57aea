"""Instructions that a program can check: lengths, JSON, language, keywords, casing (in the manner of IFEval)."""

# ruff: noqa: RUF001  (Chinese punctuation is meant)

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vivavoce.base.errors import DataError
from vivavoce.evaluation.items import Item, checked
from vivavoce.evaluation.resampling import Bootstrap
from vivavoce.evaluation.scores import Score, make_score, missing, versions

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_]+(?:['’\-][^\W_]+)*")
_SENTENCE_END = re.compile(r"[.!?]+(?=\s|$)|[。！？]+")
_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL | re.IGNORECASE)
_SCRIPTS = {
    "zh": "CJK",
    "ja": "HIRAGANA",
    "ko": "HANGUL",
    "ru": "CYRILLIC",
    "ar": "ARABIC",
    "hi": "DEVANAGARI",
    "th": "THAI",
    "el": "GREEK",
    "he": "HEBREW",
}


def count_words(text: str) -> int:
    """Words; each Chinese character and Japanese sign is one."""
    return len(_WORD.findall(text))


def count_sentences(text: str) -> int:
    """Sentences by their end marks; a last one without a mark counts."""
    pieces = _SENTENCE_END.split(text)
    return sum(bool(_WORD.search(piece)) for piece in pieces)


def is_json(text: str, value: Any = None) -> bool:
    """Whether the text is one JSON object or list, bare or as one fenced block; with ``value``, has these keys."""
    fenced = _FENCE.fullmatch(text)
    try:
        found = json.loads(fenced[1] if fenced else text)
    except ValueError:
        return False
    if value:
        return isinstance(found, dict) and all(key in found for key in value)
    return isinstance(found, dict | list)


def is_language(text: str, value: str) -> bool:
    """Whether a text is in a language: by the script of most letters where that tells, else by langdetect.

    Raises:
        MissingExtraError: langdetect is needed and absent.
    """
    letters = [unicodedata.name(c, "?").split()[0] for c in text if c.isalpha()]
    if not letters:
        return False
    shares = {script: letters.count(script) / len(letters) for script in set(letters)}
    if value == "ja":
        kana = shares.get("HIRAGANA", 0.0) + shares.get("KATAKANA", 0.0)
        return kana > 0.1 and kana + shares.get("CJK", 0.0) > 0.5
    if value == "zh" and shares.get("HIRAGANA", 0.0) > 0.1:
        return False
    if value in _SCRIPTS and value not in ("ru", "ar", "hi"):  # those scripts are shared by other languages
        return shares.get(_SCRIPTS[value], 0.0) > 0.5
    try:
        from langdetect import DetectorFactory, LangDetectException, detect
    except ImportError as error:
        raise missing("langdetect", f"a check of language {value!r}") from error
    DetectorFactory.seed = 0
    try:
        return str(detect(text)).split("-")[0] == value
    except LangDetectException:
        return False


def _holds(text: str, word: str) -> int:
    """How often a keyword stands in a text, as a whole word where it is of letters with spaces between words."""
    pattern = re.escape(word)
    if re.search(r"[A-Za-z]", word):
        pattern = rf"(?<!\w){pattern}(?!\w)"
    return len(re.findall(pattern, text, re.IGNORECASE))


def _cased(text: str, upper: bool) -> bool:
    letters = [c for c in text if c.isalpha() and c.lower() != c.upper()]
    return bool(letters) and all(c.isupper() == upper for c in letters)


def _bullets(text: str) -> int:
    return len(re.findall(r"^\s*(?:[*•\-]|\d+[.)])\s+\S", text, re.MULTILINE))


CHECKS: dict[str, tuple[type | tuple[type, ...], Callable[[str, Any], bool]]] = {
    "min_words": (int, lambda text, value: count_words(text) >= value),
    "max_words": (int, lambda text, value: count_words(text) <= value),
    "min_sentences": (int, lambda text, value: count_sentences(text) >= value),
    "max_sentences": (int, lambda text, value: count_sentences(text) <= value),
    "bullets": (int, lambda text, value: _bullets(text) == value),
    "paragraphs": (
        int,
        lambda text, value: len([p for p in re.split(r"\n\s*\n", text) if p.strip()]) == value,
    ),
    "json": ((list, type(None)), is_json),
    "language": (str, is_language),
    "keywords": (list, lambda text, value: all(_holds(text, word) for word in value)),
    "forbidden": (list, lambda text, value: not any(_holds(text, word) for word in value)),
    "lower_case": (type(None), lambda text, value: _cased(text, upper=False)),
    "upper_case": (type(None), lambda text, value: _cased(text, upper=True)),
    "starts_with": (str, lambda text, value: text.lstrip().lower().startswith(value.lower())),
    "ends_with": (str, lambda text, value: text.rstrip().lower().endswith(value.lower())),
    "no_commas": (type(None), lambda text, value: not re.search("[,，、]", text)),
}
"""Kind of check -> (type of its "value", whether a text does it); None for kinds without a value."""


def follows(text: str, check: Mapping[str, Any]) -> bool:
    """Whether a text does what a check asks; an empty text does nothing that was asked.

    Raises:
        DataError: Unknown kind, or a value of a wrong type.
    """
    kind, value = check.get("kind"), check.get("value")
    if kind not in CHECKS or set(check) - {"kind", "value"}:
        raise DataError(
            f"check {dict(check)!r} is unknown; wanted {{kind, value}}, kind one of {', '.join(CHECKS)}."
        )
    wanted, test = CHECKS[kind]
    if not isinstance(value, wanted) or isinstance(value, bool):
        raise DataError(f"check {kind!r} has the value {value!r}, wanted {wanted}.")
    return bool(text.strip()) and test(text, value)


@dataclass(frozen=True)
class Instructions:
    """Share of answers that do all that was asked; with ``each``, share of instructions that were done.

    Answers are read as they are, without taking marks or first lines away (IFEval's "strict"). An answer of None
    does nothing ("no_answer").

    Attributes:
        each: Count instructions in place of answers; an item's instructions are drawn together.
        bootstrap: How the interval is drawn.
    """

    each: bool = False
    bootstrap: Bootstrap = field(default_factory=Bootstrap)

    name = "instructions"

    def score(self, items: Sequence[Item]) -> Score:
        """Score items by their checks.

        Raises:
            DataError: No items, an item without checks, or a check that is unknown.
            MissingExtraError: langdetect is needed and absent.
        """
        items = checked(items, self.name, 0)
        if bare := [item.id for item in items if not item.checks]:
            raise DataError(f"{self.name}: {len(bare)} items have no checks, first {bare[0]!r}.")
        rows: list[tuple[int, int]] = []
        done: dict[str, list[bool]] = {}
        for item in items:
            results = [follows(item.hypothesis or "", check) for check in item.checks]
            rows.append((sum(results), len(results)) if self.each else (all(results), 1))
            for check, result in zip(item.checks, results, strict=True):
                done.setdefault(str(check["kind"]), []).append(result)
        table = np.array(rows, np.float64)
        counts = {
            "no_answer": sum(i.hypothesis is None for i in items),
            "checks": sum(len(results) for results in done.values()),
        }
        details = {kind: sum(results) / len(results) for kind, results in sorted(done.items())}
        settings = {"strict": True, "each": self.each, "versions": versions("langdetect")}
        values = [float(part / whole) for part, whole in table]
        return make_score(
            self.name, items, table, values, counts, settings, bootstrap=self.bootstrap, details=details
        )
