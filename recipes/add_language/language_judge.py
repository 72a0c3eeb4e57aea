"""An independent reader of an added language: pocketsphinx's English model, closed grammar, nearest English sounds.

It knows nothing of the bundle or of its training. Where a language's sounds have no near English one it reads worse, so
its error on the synthesizer's own recordings is the floor beside which the voice's is read.
"""

from __future__ import annotations

import numpy as np
from judge import Judge
from language import Language
from make_language_speech import lexicon

from vivavoce.tokens.phones import ADDED_PHONES

NEAREST = {
    "ax": "AH",
    "ue": "UW",
    "oe": "ER",
    "ee": "EY",
    "oo": "OW",
    "ich": "SH",
    "ach": "HH",
    "rr": "R",
    "ar": "ER",
}
"""Phones of the voice -> sounds of the recogniser; all others bear the same name in capitals."""
MARK = "g"
"""Before every word of the grammar, so that none is an English word of the same spelling."""


def grammar(language: Language) -> str:
    """All questions of the language in JSGF, with any number where a number stands."""
    numbers = {word for n in range(100) if " " not in (word := language.words_of(language.number(n)))}
    questions = (language.words_of(item.question).split() for item in language.items())
    forms = {" ".join("<number>" if w in numbers else MARK + w for w in words) for words in questions}
    number = " | ".join(MARK + name for name in sorted(numbers))
    spoken = " | ".join(sorted(forms))
    return f"#JSGF V1.0;\ngrammar {language.name};\n<number> = {number};\npublic <spoken> = {spoken};\n"


class LanguageJudge:
    """Reads questions of a language.

    Args:
        language: Whose questions are read.

    Raises:
        MissingExtraError: pocketsphinx is not installed.
    """

    def __init__(self, language: Language) -> None:
        assert set(ADDED_PHONES) <= set(NEAREST)
        self._judge, self._name = Judge(), language.name
        rows = (line.split() for line in lexicon(language).splitlines())
        said = {MARK + word: " ".join(NEAREST.get(p, p.upper()) for p in phones) for word, *phones in rows}
        self._judge.learn(self._name, grammar(language), said)

    def read(self, waveform: np.ndarray, sample_rate: int) -> str:
        """The words heard in float32 [S] at ``sample_rate`` Hz; "" for none."""
        words = self._judge.read(waveform, sample_rate, self._name).split()
        return " ".join(word.removeprefix(MARK) for word in words)
