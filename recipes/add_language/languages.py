"""The languages that the recipe knows, by name."""

from __future__ import annotations

from german import GERMAN
from language import Language
from spanish import SPANISH

LANGUAGES: dict[str, Language] = {language.name: language for language in (GERMAN, SPANISH)}
