"""Texts brought to one form before words are compared, by language.

`whisper` is what Ultravox and the open ASR boards use: Whisper's English form for English, its basic form for all other
languages, characters for those written without spaces. The basic form cuts words at combining marks, which are letters
in Hindi or Thai; `letters` keeps them. Both take away the vowel signs of Arabic script.
"""

from __future__ import annotations

import importlib.util
import json
import re
import unicodedata
from collections.abc import Callable
from functools import cache
from pathlib import Path

from vivavoce.base.errors import ConfigError
from vivavoce.evaluation.scores import missing, versions

NORMALISERS = ("whisper", "letters", "none")
UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue", "km"})
"""Languages whose words are not separated: characters are compared."""
SPELLINGS_PACKAGE = "whisper-normalizer"
_ARABIC_SIGNS = re.compile("[\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed]")

Normalise = Callable[[str], str]


class Normaliser:
    """Brings texts of many languages to the form in which they are compared.

    Args:
        name: "whisper", "letters" (NFKC, lower case, letters, marks, digits and apostrophes within words), or
            "none" (only runs of spaces).
        spellings: British to American spellings of Whisper's English form: "package" for the list in
            whisper-normalizer, a path to a model's ``normalizer.json``, or "none". Published numbers have it.

    Raises:
        ConfigError: Unknown name, or a file that is no such list.
        MissingExtraError: The package is absent.
    """

    def __init__(self, name: str = "whisper", spellings: str | Path = "package") -> None:
        if name not in NORMALISERS:
            raise ConfigError(f"normaliser is {name!r}; wanted one of {', '.join(NORMALISERS)}.")
        self.name, self.spellings = name, str(spellings)

    def __call__(self, text: str, language: str) -> str:
        """The form of a text; words, or characters where the language has no spaces, are between spaces.

        Args:
            text: As written.
            language: ISO 639-1 without region.
        """
        text = _ARABIC_SIGNS.sub("", unicodedata.normalize("NFC", text)) if self.name != "none" else text
        if self.name == "whisper":
            text = _whisper_english(self.spellings)(text) if language == "en" else _whisper_basic()(text)
        elif self.name == "letters":
            text = _letters(text)
        if language in UNSPACED:
            return " ".join(_clusters(text)) if self.name == "letters" else " ".join("".join(text.split()))
        return " ".join(text.split())

    def cuts_words(self, text: str, language: str) -> bool:
        """Whether this form takes letters out of the text, as Whisper's does with marks of Hindi or Thai."""
        if self.name != "whisper" or language == "en":
            return False
        text = _ARABIC_SIGNS.sub("", unicodedata.normalize("NFKC", text))
        return any(unicodedata.category(c) in ("Mn", "Mc") for c in text)

    def record(self) -> dict[str, object]:
        """Settings and versions, for ``Score.settings``."""
        found: dict[str, object] = {"normaliser": self.name}
        if self.name == "whisper":
            found |= {"spellings": self.spellings if self.spellings in ("package", "none") else "file"}
            packages = ["transformers"] + [SPELLINGS_PACKAGE] * (self.spellings == "package")
            found |= {"normaliser_versions": versions(*packages)}
        return found


def _letters(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
    kept = "".join(c if c == "'" or unicodedata.category(c)[0] in "LMN" else " " for c in text)
    return re.sub(r"(?<!\w)'|'(?!\w)", " ", kept)


def _clusters(text: str) -> list[str]:
    """Letters with the marks that stand on them."""
    found: list[str] = []
    for char in "".join(text.split()):
        if found and unicodedata.category(char) in ("Mn", "Me"):
            found[-1] += char
        else:
            found.append(char)
    return found


@cache
def _whisper_basic() -> Normalise:
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer

    return BasicTextNormalizer()


@cache
def _whisper_english(spellings: str) -> Normalise:
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    return EnglishTextNormalizer(_spelling_list(spellings))


def _spelling_list(spellings: str) -> dict[str, str]:
    if spellings == "none":
        return {}
    path = Path(spellings)
    if spellings == "package":
        found = importlib.util.find_spec("whisper_normalizer")
        if found is None or not found.submodule_search_locations:
            raise missing(SPELLINGS_PACKAGE, "English word error with spellings='package'")
        path = Path(found.submodule_search_locations[0]) / "normalizers" / "english.json"
    try:
        pairs = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"spellings {spellings!r} cannot be read ({error}); wanted 'package', 'none' or a normalizer.json."
        ) from error
    if not isinstance(pairs, dict):
        raise ConfigError(f"spellings {spellings!r} is no JSON object of spelling to spelling.")
    return pairs
