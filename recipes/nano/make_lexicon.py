"""Make the pronunciation table of the embedded voice: CMUdict's words, said by flite.

The voice is trained on flite's speech, so its lexicon holds flite's own pronunciations. Every word is given to flite
as an utterance of its own (a blank line ends an utterance), because in a running batch the neighbours decide between
homographs ("use" as a noun or a verb). Voice ``kal16`` is used: it prints the same phones as ``slt``, much faster.
(``kal`` does not: it turns every "ah" into "aa".)

Flite spells or swallows some words that it does not know ("mnemonic" letter by letter, "perseveres" without a vowel).
A pronunciation whose number of vowels disagrees with every CMUdict variant of the word is therefore replaced by
CMUdict's first variant, written in flite's phones. Possessives that follow from their base word are left out.

    python recipes/nano/make_lexicon.py                 # about 2 minutes of one CPU core
    python recipes/nano/make_lexicon.py --check 2000    # compare a sample of the written table with voice slt

Then ``python recipes/nano/train_letter_to_sound.py`` for the words that are not in it.
"""

from __future__ import annotations

import argparse
import gzip
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from vivavoce.tokens.phones import LEXICON_PATH, PHONES, Lexicon, possessive

VOWELS = frozenset("aa ae ah ao aw ax ay eh er ey ih iy ow oy uh uw".split())
OURS = {
    "a": "ax",  # the article; the letter's name is the word "ay"
    "the": "dh ax",
    "'em": "ax m",
    "'s": "z",
    "'d": "d",
    "'ll": "ax l",
    "'m": "m",
    "'re": "er",
    "'ve": "v",
    "brr": "b er",
    "hm": "hh m",
    "hmm": "hh m",
    "hmmm": "hh m",
    "mm": "m",
    "mmm": "m",
    "nth": "eh n th",
    "psst": "p s t",
    "sh": "sh",
    "shh": "sh",
    "vivavoce": "v iy v ax v ow ch ey",
    "voce": "v ow ch ey",
    "zzz": "z",
}
"""Words that flite cannot know or would expand; ours, by hand."""

Pronunciations = dict[str, list[str]]


def read_cmudict(path: Path) -> dict[str, list[list[str]]]:
    """Read a CMUdict-style file (``word PH PH``, variants as ``word(2)``) and keep words of [a-z']."""
    words: dict[str, list[list[str]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        head, *phones = line.split()
        word = re.sub(r"\(\d+\)$", "", head)
        if re.fullmatch(r"[a-z']*[a-z][a-z']*", word):
            words.setdefault(word, []).append([phone.lower() for phone in phones])
    return dict(sorted(words.items()))


def flite_phones(words: list[str], voice: str = "kal16", batch_words: int = 4000) -> list[list[str]]:
    """Ask flite for the phones of each word, one utterance per word."""
    answers: list[list[str]] = []
    for start in range(0, len(words), batch_words):
        batch = words[start : start + batch_words]
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="ascii") as file:
            file.write("\n\n".join(batch) + "\n")
            file.flush()
            command = ["flite", "-voice", voice, "-ps", "-o", "none", "-f", file.name]
            lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        lines = [line for line in lines if line.startswith("pau")]
        if len(lines) != len(batch):
            raise SystemExit(f"flite answered {len(lines)} of {len(batch)} words from {batch[0]!r} on")
        answers += [[phone for phone in line.split() if phone != "pau"] for line in lines]
        print(f"\r{voice}: {len(answers)}/{len(words)} words", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return answers


def num_vowels(phones: list[str]) -> int:
    """Count the syllables of a pronunciation."""
    return sum(phone in VOWELS for phone in phones)


def from_cmudict(word: str, phones: list[str]) -> list[str]:
    """Write a CMUdict pronunciation without stress in flite's phones: unstressed "ah" is "ax" there.

    The stress is guessed: "ah" is stressed in a word of one syllable and in the prefix "un". Of 58,000 "ah" in the
    words where both sources agree otherwise, flite has "ax" in 88 %.
    """
    if num_vowels(phones) == 1:
        return list(phones)
    prefix = 1 if word.startswith("un") else 0
    return list(phones[:prefix]) + ["ax" if phone == "ah" else phone for phone in phones[prefix:]]


def corrected(word: str, phones: list[str], variants: list[list[str]]) -> list[str]:
    """Flite's phones, or CMUdict's where flite has another number of syllables than every variant."""
    if num_vowels(phones) in {num_vowels(variant) for variant in variants}:
        return phones
    return from_cmudict(word, variants[0])


def drop_possessives(table: Pronunciations) -> Pronunciations:
    """Leave out the possessives that Lexicon derives from their base word."""
    kept = {}
    for word, phones in table.items():
        base = re.sub(r"'s?$", "", word)
        if base == word or base not in table or possessive(word, table[base]) != phones:
            kept[word] = phones
    return kept


def write_table(table: Pronunciations, path: Path) -> None:
    """Write ``word ph ph`` lines in byte order, compressed without a time stamp so that the bytes are reproducible."""
    unknown = {phone for phones in table.values() for phone in phones} - set(PHONES[1:])
    if unknown:
        raise SystemExit(f"flite used phones outside the fixed set: {sorted(unknown)}")
    text = "".join(f"{word} {' '.join(phones)}\n" for word, phones in sorted(table.items()))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode("ascii"), 9, mtime=0))


def check_table(num_words: int, seed: int) -> None:
    """Compare a sample of the shipped table with voice slt and print every difference."""
    words = random.Random(seed).sample(Lexicon().words(), num_words)
    answers = flite_phones(words, "slt", batch_words=200)
    lexicon = Lexicon()
    different = [
        (word, answer) for word, answer in zip(words, answers, strict=True) if lexicon.phones(word) != answer
    ]
    for word, answer in different:
        print(f"{word}: table {' '.join(lexicon.phones(word))} | slt {' '.join(answer)}")
    print(f"{len(different)} of {num_words} words differ from slt (corrections and our own words included)")


def main() -> None:
    """Write the table, or check the one that is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cmudict", type=Path, help="CMUdict file; default: the one pocketsphinx carries")
    parser.add_argument("--out", type=Path, default=LEXICON_PATH)
    parser.add_argument(
        "--check", type=int, metavar="WORDS", help="only compare the written table with voice slt"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if shutil.which("flite") is None:
        raise SystemExit("the program flite is not installed (Debian and Ubuntu: apt-get install flite)")
    if args.check:
        return check_table(args.check, args.seed)
    if args.cmudict is None:
        import pocketsphinx

        args.cmudict = Path(pocketsphinx.get_model_path()) / "en-us" / "cmudict-en-us.dict"
    words = read_cmudict(args.cmudict)
    raw = dict(zip(words, flite_phones(list(words)), strict=True))
    table = {word: corrected(word, phones, words[word]) for word, phones in raw.items()}
    num_corrected = sum(table[word] != raw[word] for word in table)
    table |= {word: phones.split() for word, phones in OURS.items()}
    kept = drop_possessives(table)
    write_table(kept, args.out)
    print(f"{len(words)} words; {num_corrected} corrected from CMUdict; {len(OURS)} ours")
    print(
        f"{len(table) - len(kept)} possessives left out; {len(kept)} written; {args.out.stat().st_size} bytes"
    )


if __name__ == "__main__":
    main()
