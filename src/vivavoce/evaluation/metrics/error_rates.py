"""Word and character error rates over a corpus, by jiwer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vivavoce.base.errors import ConfigError
from vivavoce.evaluation.items import Item, base_language, checked
from vivavoce.evaluation.metrics.normalisers import UNSPACED, Normaliser
from vivavoce.evaluation.resampling import Bootstrap
from vivavoce.evaluation.scores import Score, make_score, missing, versions

SILENCE = "<silence>"
_KINDS = {"substitute": "substitutions", "delete": "deletions", "insert": "insertions"}


@dataclass(frozen=True)
class WordErrorRate:
    """Edits per word of the references, all items together; characters in languages without spaces.

    A text that is empty in its compared form is one word, ``<silence>``: what is heard in silence counts as an
    error. An answer of None is an empty text ("no_answer").

    Attributes:
        normaliser: As in `Normaliser`.
        spellings: As in `Normaliser`.
        language: Of items that name none.
        most_letters: Answers are cut to so many characters in their compared form, so that endless repetition of
            one does not rule the corpus; None for no cut. Cut ones are counted.
        bootstrap: How the interval is drawn.

    Source: evaluation of Ultravox (normalisation, silence, cut); jiwer counts.
    """

    normaliser: str = "whisper"
    spellings: str | Path = "package"
    language: str | None = None
    most_letters: int | None = None
    bootstrap: Bootstrap = field(default_factory=Bootstrap)

    name = "wer"

    def __post_init__(self) -> None:
        if self.most_letters is not None and self.most_letters < 1:
            raise ConfigError(f"most_letters is {self.most_letters}, wanted 1 or more, or None.")

    def score(self, items: Sequence[Item]) -> Score:
        """Score items by their one reference.

        Raises:
            DataError: No items, not one reference, or no language.
            MissingExtraError: jiwer, or the list of spellings, is absent.
        """
        items = checked(items, self.name)
        normaliser = Normaliser(self.normaliser, self.spellings)
        counts: Counter[str] = Counter()
        pairs = [self._forms(item, normaliser, counts) for item in items]
        rows = self._edits(pairs, counts)
        values = [float(edits / length) for edits, length in rows]
        settings: dict[str, Any] = {
            **normaliser.record(),
            "most_letters": self.most_letters,
            "versions": versions("jiwer"),
        }
        return make_score(
            self.name, items, rows, values, counts, settings, better="lower", bootstrap=self.bootstrap
        )

    def _forms(self, item: Item, normaliser: Normaliser, counts: Counter[str]) -> tuple[str, str]:
        """(reference, answer) as they are compared."""
        language = base_language(item, self.language, self.name)
        reference = normaliser(item.references[0], language)
        answer = normaliser(item.hypothesis or "", language)
        if self.most_letters is not None and len(answer) > self.most_letters:
            answer = answer[: self.most_letters].strip()
            counts["cut_answers"] += 1
        counts["no_answer"] += item.hypothesis is None
        counts["silent_references"] += not reference
        counts["marks_lost"] += normaliser.cuts_words(item.references[0], language)
        if language in UNSPACED:
            counts["items_by_character"] += 1
        return self._unit(reference, language) or SILENCE, self._unit(answer, language) or SILENCE

    def _unit(self, text: str, language: str) -> str:
        return text

    def _edits(self, pairs: Sequence[tuple[str, str]], counts: Counter[str]) -> np.ndarray:
        """float64 [N, 2]: edits and length of the reference."""
        found = self._counter()([pair[0] for pair in pairs], [pair[1] for pair in pairs])
        rows = np.zeros((len(pairs), 2))
        for row, reference, chunks in zip(rows, found.references, found.alignments, strict=True):
            row[1] = len(reference)
            for chunk in chunks:
                if chunk.type in _KINDS:
                    spans = (
                        chunk.ref_end_idx - chunk.ref_start_idx,
                        chunk.hyp_end_idx - chunk.hyp_start_idx,
                    )
                    row[0] += max(spans)
                    counts[_KINDS[chunk.type]] += max(spans)
        return rows

    def _counter(self) -> Callable[[list[str], list[str]], Any]:
        try:
            import jiwer
        except ImportError as error:
            raise missing("jiwer", self.name) from error
        return jiwer.process_words


@dataclass(frozen=True)
class CharacterErrorRate(WordErrorRate):
    """Edits per character of the references; spaces between words count, in languages without spaces there are none.

    For attributes see `WordErrorRate`. An empty text is one character.
    """

    name = "cer"

    def _unit(self, text: str, language: str) -> str:
        text = text.replace(" ", "") if language in UNSPACED else text
        return text or "\u2400"  # one sign that no compared form has

    def _counter(self) -> Callable[[list[str], list[str]], Any]:
        try:
            import jiwer
        except ImportError as error:
            raise missing("jiwer", self.name) from error
        return jiwer.process_characters
