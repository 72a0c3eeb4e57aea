"""Languages by their codes: names, scripts, and how translation models spell them.

Rows have ISO 639 codes with an optional region ("en", "pt-BR"). NLLB says "eng_Latn", SeamlessM4T "eng", mBART "en_XX".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container
from functools import cache

from vivavoce.base.errors import ConfigError

# code, three-letter codes by preference, script, English name
_TABLE = """
af afr Latn Afrikaans | ar arb,ara Arab Arabic | az azj,aze Latn Azerbaijani | bg bul Cyrl Bulgarian
bn ben Beng Bengali | bs bos Latn Bosnian | ca cat Latn Catalan | cs ces Latn Czech | cy cym Latn Welsh
da dan Latn Danish | de deu Latn German | el ell Grek Greek | en eng Latn English | es spa Latn Spanish
et est Latn Estonian | eu eus Latn Basque | fa pes,fas Arab Persian | fi fin Latn Finnish | fr fra Latn French
ga gle Latn Irish | gl glg Latn Galician | gu guj Gujr Gujarati | he heb Hebr Hebrew | hi hin Deva Hindi
hr hrv Latn Croatian | hu hun Latn Hungarian | hy hye Armn Armenian | id ind Latn Indonesian
is isl Latn Icelandic | it ita Latn Italian | ja jpn Jpan Japanese | ka kat Geor Georgian | kk kaz Cyrl Kazakh
km khm Khmr Khmer | kn kan Knda Kannada | ko kor Hang,Kore Korean | lo lao Laoo Lao | lt lit Latn Lithuanian
lv lvs,lav Latn Latvian | mk mkd Cyrl Macedonian | ml mal Mlym Malayalam | mn khk,mon Cyrl Mongolian
mr mar Deva Marathi | ms zsm,zlm,msa Latn Malay | mt mlt Latn Maltese | my mya Mymr Burmese | ne npi,nep Deva Nepali
nl nld Latn Dutch | no nob,nor Latn Norwegian | pa pan Guru Punjabi | pl pol Latn Polish | pt por Latn Portuguese
ro ron Latn Romanian | ru rus Cyrl Russian | sk slk Latn Slovak | sl slv Latn Slovenian | sq als,sqi Latn Albanian
sr srp Cyrl Serbian | sv swe Latn Swedish | sw swh,swa Latn Swahili | ta tam Taml Tamil | te tel Telu Telugu
th tha Thai Thai | tl tgl,fil Latn Tagalog | tr tur Latn Turkish | uk ukr Cyrl Ukrainian | ur urd Arab Urdu
uz uzn,uzb Latn Uzbek | vi vie Latn Vietnamese | yue yue Hant Cantonese | zh zho,cmn Hans,Hant Chinese
"""
_CODE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_OTHER_NAMES = {"cmn": "zh", "nb": "no", "nn": "no", "fil": "tl"}


@cache
def _languages() -> dict[str, tuple[tuple[str, ...], tuple[str, ...], str]]:
    found = {}
    for entry in re.split(r"[|\n]", _TABLE.strip()):
        code, three, scripts, name = entry.split()
        found[code] = (tuple(three.split(",")), tuple(scripts.split(",")), name)
    return found


def primary(code: str) -> str:
    """The language of a code with region or script, two letters where there are two: "en" of "en-GB", "zh" of "cmn"."""
    found = code.replace("_", "-").partition("-")[0].lower()
    if found in _OTHER_NAMES:
        return _OTHER_NAMES[found]
    return next((two for two, (three, _, _) in _languages().items() if found in three), found)


def check_language(code: str, what: str) -> None:
    """Refuse what is no language code.

    Raises:
        ConfigError: It has another form.
    """
    if not _CODE.fullmatch(code):
        raise ConfigError(f"{what} is {code!r}, wanted a code such as 'en', 'vi' or 'pt-BR'")


def language_name(code: str) -> str:
    """English name, or the code itself for languages that are not in the table."""
    return _languages()[primary(code)][2] if primary(code) in _languages() else code


def spellings(code: str) -> list[str]:
    """All ways in which models may write a language, most exact first."""
    three, scripts, _ = _languages().get(primary(code), ((), (), ""))
    two = primary(code)
    found = [
        code,
        *(f"{t}_{s}" for t in three for s in scripts),
        *three,
        two,
        f"{two}_XX",
        f"{two}_{two.upper()}",
    ]
    return list(dict.fromkeys(found))


def find_spelling(code: str, known: Container[str], what: str) -> str:
    """How a model writes a language.

    Args:
        code: Language.
        known: What the model knows.
        what: Setting that ``code`` comes from, for the message.

    Raises:
        ConfigError: It knows none of the ways.
    """
    for spelling in spellings(code):
        if spelling in known:
            return spelling
    tried = ", ".join(spellings(code))
    raise ConfigError(
        f"the model does not know {what} {code!r} as any of {tried}; give its own code as {what}_code."
    )


def foreign_letter(text: str, language: str | None) -> str | None:
    """The first letter that a reader of a language in Latin script cannot read; None if all is well.

    Greek letters, which formulas have, count as readable. Languages in other scripts and unknown ones are not checked.
    """
    known = _languages().get(primary(language)) if language else None
    if known is None or known[1] != ("Latn",):
        return None
    for letter in text:
        if letter.isalpha() and ord(letter) > 127:
            plain = unicodedata.normalize("NFKC", letter)[0]  # of superscripts and other dress
            if (
                not unicodedata.name(plain, "").startswith(("LATIN", "GREEK", "MODIFIER"))
                and ord(plain) > 127
            ):
                return letter
    return None
