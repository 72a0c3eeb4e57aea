"""How people of other first languages say English digits: phonemes for espeak-ng's English voices, and respellings
that make its voices of other languages say them.
"""

from __future__ import annotations

import random

# espeak-ng mnemonics of its English phoneme table: R is a trill, * a tap, 3 an r-coloured schwa, B a bilabial v
PHONEMES = {
    "zero": "z'i@roU z'IroU z'i:ro: s'i:ro: z'e*oU z'iRo dz'ero ts'i:Ro: z'3:roU zI@r'oU z'i:r0",
    "one": "w'Vn w'0n v'an v'Vn w'A:n gw'an w'an B'an w'Vn@ w'0N",
    "two": "t'u: d'u: t'uw t'U tS'u: t'u: t'oU t'3u:",
    "three": "Tr'i: tR'i: s*'i: fr'i: t*'i: sr'i: dR'i: Tr'iI T@r'i: t@r'i: f*'i: TR'i:",
    "four": "f'o@ f'O: f'Or f'o:R f'o:* f'oU f'O@r f'oU@ f'o:3 f'0R",
    "five": "f'aIv f'aIf f'a:v f'OIv f'aIB f'A:If f'aIb f'aIv@ f'a:Iv",
    "six": "s'Iks s'i:ks z'Iks s'iks s'Ik@s S'iks s'eks s'ikks s'Iks@ s'3ks",
    "seven": "s'Ev@n z'Ev@n s'Ef@n s'evEn s'Eb@n s'EvIn s'EBen s'Evn s'ev3n s'i:v@n s'aven",
    "eight": "'eIt 'e:t 'Et@ 'eIt@ 'aIt '3It 'e:t 'eItS '&It h'eIt 'eIt",
    "nine": "n'aIn n'OIn n'a:In n'AIn naIn@ n'a:n n'aIn n'aIN n'aIm n'Vin",
}
RESPELLED = {
    "de": "siero wann tuh sri/trih fohr/foor feif sicks/siks sewwen/säwen eht/äit nein",
    "fr-fr": "ziro/zirau ouane/ouanne tou sri/tri/fri fore faïve/faïfe sikse sévenne/sèvenne éïte/ète naïne",
    "fr-be": "ziro ouane tou sri/tri fore faïve sikse sévenne éïte naïne",
    "es": "siro/cero uan/guan tu tri/sri for faiv/faif six/sics seven eit/éit nain",
    "es-419": "siro uan tu tri for faiv/faif six seven eit nain",
    "it": "ziro/zero uan tu tri/fri for faiv sics/six seven eit nain",
    "nl": "ziero/siero wan toe srie/trie foor fajf/faaif siks sevven/zevven eet/eejt najn/nain",
    "pl": "ziro/zirou łan tu tri/fri/sri for fajw/fajf siks sewen/sewyn ejt najn",
    "pt": "zirou/ziro uan tu tri/fri fór faiv sics séven eit nain",
    "pt-br": "zirou/ziro uan tu tri/fri fór faiv sics séven eit nain",
    "ru": "зиро/зироу уан/ван ту сри/зри/три фор файв/файф сикс севен/сэвен эйт найн",
    "sv": "siro/siero vann/oann to tri/fri får/foor fajv siks sevven ejt najn",
    "hi": "ज़ीरो/जीरो वन टू थ्री/तीरी फोर/फ़ोर फाइव/फ़ाइव सिक्स सेवन एट/ऐट नाइन",
    "el": "ζίρο/ζίροου γουάν/ουάν του θρι/τρι φορ φάιβ/φάιφ σιξ σέβεν έιτ νάιν",
    "tr": "ziro van/uan tu tri/sri for fayv/fayf siks sevın/seven eyt nayn",  # noqa: RUF001
    "fi": "siro uan/van tuu trii foor faiv siks seven eit nain",
    "cs": "zirou/zíro uan tů srí/trí for fajv/fajf siks sevn/seven ejt najn",
    "ro": "ziro uan tu sri/tri for faiv sics seven eit nain",
    "hu": "ziró uan/van tú szrí/trí for fájv sziksz szeven ejt nájn",
    "id": "ziro wan tu tri for faiv/faif siks seven eit nain",
}
DIGITS = tuple(PHONEMES)


def accented(digit: str, rng: random.Random) -> tuple[str, str]:
    """A random accent's way to say a digit: (language of the espeak-ng voice, text for it).

    Args:
        digit: "zero" to "nine".
        rng: Generator.
    """
    if rng.random() < 0.55:
        language = rng.choice(("en-us", "en-us", "en-gb", "en-gb-x-rp", "en-029", "en-gb-scotland"))
        return language, f"[[{rng.choice(PHONEMES[digit].split())}]]"
    language = rng.choice(tuple(RESPELLED))
    return language, rng.choice(RESPELLED[language].split()[DIGITS.index(digit)].split("/"))
