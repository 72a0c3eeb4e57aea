"""Spoken forms, the shipped lexicon and the letter-to-sound fallback."""

# ruff: noqa: RUF001 - the look-alikes are the point
from __future__ import annotations

import gzip
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.base.errors import VivavoceError, VocabularyError
from vivavoce.tokens import phones as phones_module
from vivavoce.tokens.letter_to_sound import LetterToSound
from vivavoce.tokens.phones import (
    LETTER_TO_SOUND_PATH,
    LEXICON_PATH,
    PHONES,
    Lexicon,
    SpokenStream,
    letter_name_phones,
    letter_word,
    load_lexicon,
    phone_ids,
    possessive,
    split_phrases,
    spoken_form,
    spoken_words,
    words_to_phones,
)

SAMPLE = Path(__file__).with_name("letter_to_sound_sample.txt")

NORMALISED = {
    # integers, decimals, ordinals
    "12 cats": "twelve cats",
    "0": "zero",
    "115": "one hundred fifteen",
    "1,234,567": "one million two hundred thirty four thousand five hundred sixty seven",
    "-1000000000": "minus one billion",
    "It is -7 outside": "it is minus seven outside",
    "3.14": "three point one four",
    ".5": "point five",
    "007": "zero zero seven",
    "1st 2nd 3rd 12th 20th 101st": "first second third twelfth twentieth one hundred first",
    "v1.2.3": "v one point two point three",
    "1/2 cup, 4 1/2": "one half cup four and one half",
    "12345678901234567": "one two three four five six seven eight nine zero one two three four five six seven",
    # times, dates, years
    "3:30": "three thirty",
    "5:00": "five o'clock",
    "at 3:05 a.m. we": "at three oh five ay m we",
    "9am to 5 pm": "nine ay m to five p m",
    "in 1999": "in nineteen ninety nine",
    "in 1905 and 2005": "in nineteen oh five and two thousand five",
    "May 5, 2024": "may fifth twenty twenty four",
    "you may 5 times": "you may five times",
    "Nov. 20": "november twentieth",
    "2026-11-20": "november twentieth twenty twenty six",
    "the 1990s": "the nineteen nineties",
    "1500 people": "one thousand five hundred people",
    # money, percent, units
    "$5": "five dollars",
    "$1.01": "one dollar and one cent",
    "£0.50": "fifty pence",
    "$2.5 million": "two point five million dollars",
    "50%": "fifty percent",
    "20 km, 1 kg": "twenty kilometers one kilogram",
    "20°C": "twenty degrees celsius",
    # arithmetic
    "2+2": "two plus two",
    "2 + 2 = 4": "two plus two equals four",
    "3 x 4": "three times four",
    "3×4": "three times four",
    "what is 7-2?": "what is seven minus two",
    "7 - 2": "seven minus two",
    "pages 5-7": "pages five to seven",
    "8 / 2": "eight divided by two",
    "8 ÷ 2": "eight divided by two",
    "2^3": "two to the power of three",
    # abbreviations, acronyms, letters
    "Mr. Smith met Dr. Jones": "mister smith met doctor jones",
    "Mrs. Brown, Ms. Gray, Prof. White": "misses brown miz gray professor white",
    "St. Mary on Main St. is": "saint mary on main street is",
    "e.g. pears, apples, etc.": "for example pears apples et cetera",
    "No. 5": "number five",
    "FBI": "f b i",
    "USA": "u s ay",
    "the US and U.K. law": "the u s and u k law",
    "NASA": "nasa",
    "I did NOT": "i did not",
    "HELLO WORLD": "hello world",
    "TVs": "t v's",
    "c a t": "c ay t",
    "C-A-T": "c ay t",
    "vitamin A": "vitamin ay",
    "A cat is a cat": "a cat is a cat",
    "Am I a fool": "am i a fool",
    "is there a b in cab": "is there a b in cab",
    "World War II": "world war two",
    "Henry VIII was": "henry the eighth was",
    # punctuation, quotes, accents, markup
    "“Don’t,” she said—quietly": "don't she said quietly",
    "well-known naïve café": "well known naive cafe",
    "**bold** _it_ `code` <b>hi</b>": "bold it code hi",
    "hello 😀 world": "hello world",
    "write to me@example.com": "write to me at example dot com",
    "https://www.example.com/a?b": "example dot com",
    "AT&T": "ay t and t",
    "cats' 'quoted' words": "cats quoted words",
    "": "",
    "?!": "",
}

STREAMED = (
    "This is a cat. It is a very good cat, and a dog! The word is spelled c a t. I paid $2.5 million on "
    "May 5, 2024 at 5 p.m. It is 7 - 2. Dr. Smith said: a, b and c.\n\n- one\n- two a\n- three"
)


@pytest.mark.parametrize("text", NORMALISED)
def test_text_becomes_spoken_words(text: str) -> None:
    assert " ".join(spoken_form(text)) == NORMALISED[text]


@pytest.mark.parametrize("spoken", sorted(set(NORMALISED.values()) - {""}))
def test_spoken_form_of_spoken_form_is_itself(spoken: str) -> None:
    assert " ".join(spoken_form(spoken)) == spoken


def test_punctuation_makes_phrases_and_abbreviations_do_not() -> None:
    text = "Dr. Who came at 5 p.m. He left. Why, Mr. Fox?\n- one\n- two"
    assert [" ".join(phrase) for phrase in split_phrases(text)] == [
        "doctor who came at five p m", "he left", "why", "mister fox", "one", "two",
    ]  # fmt: skip


def test_marks_and_places_point_into_the_original_text() -> None:
    text = "It’s 3:30—café… OK?"
    items = [(item.word, text[item.start : item.end], item.mark) for item in spoken_words(text)]
    assert items == [
        ("it's", "It’s", ""), ("three", "3:30", ""), ("thirty", "3:30", ","), ("cafe", "café", "."),
        ("okay", "OK", "?"),
    ]  # fmt: skip


@pytest.mark.parametrize("text", [*NORMALISED, STREAMED])
def test_a_stream_gives_what_the_whole_text_gives(text: str) -> None:
    for size in (1, 3, 7):
        stream, words = SpokenStream(), []
        for start in range(0, len(text), size):
            words += stream.push(text[start : start + size])
        assert words + stream.flush() == spoken_words(text)


def test_a_stream_gives_a_word_when_the_next_is_complete() -> None:
    stream = SpokenStream()
    given = [[item.word for item in stream.push(piece)] for piece in ("this is", " a", " cat", ".", " It")]
    assert given == [[], ["this"], ["is"], [], ["a"]]
    assert [item.word for item in stream.flush()] == ["cat", "it"]


def test_letters_keep_their_own_places_and_may_stay_plain() -> None:
    assert [(item.word, item.start, item.end) for item in spoken_words("c a t")] == [
        ("c", 0, 1), ("ay", 2, 3), ("t", 4, 5),
    ]  # fmt: skip
    assert spoken_form("the USA at 5 a.m., vitamin A", name_letters=False) == (
        "the u s a at five a m vitamin a".split()
    )


@given(st.text(st.characters(codec="ascii"), max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_ascii_text_becomes_words_that_can_be_pronounced(text: str) -> None:
    last = 0
    for item in spoken_words(text):
        assert re.fullmatch("[a-z']*[a-z][a-z']*", item.word)
        assert last <= item.start < item.end <= len(text)
        assert phone_ids(words_to_phones([item.word])[0])
        last = item.start


def test_letters_of_other_scripts_are_refused_by_name() -> None:
    with pytest.raises(VivavoceError, match=r"'Ж' \(CYRILLIC CAPITAL LETTER ZHE\) at position 3"):
        spoken_form("ok Ж")


def test_phone_set_is_fixed_and_ids_follow_it() -> None:
    assert len(PHONES) == 41 == len(set(PHONES))
    assert PHONES[0] == "pau" and PHONES[-1] == "zh"
    assert phone_ids(["pau", "aa", "zh"]) == [0, 1, 40]
    with pytest.raises(VocabularyError, match="'xx' at position 1"):
        phone_ids(["aa", "xx"])


def test_every_lexicon_entry_uses_known_phones_and_is_found() -> None:
    lexicon = Lexicon()
    words = lexicon.words()
    assert len(words) > 110_000
    table = {
        line.split(" ")[0]: line.split(" ")[1:]
        for line in gzip.decompress(LEXICON_PATH.read_bytes()).decode().splitlines()
    }
    assert list(table) == words == sorted(words)
    known = set(PHONES) - {"pau"}
    assert all(phones and known.issuperset(phones) for phones in table.values())
    assert all(lexicon.phones(word) == table[word] for word in [*words[::50], words[-1]])
    assert words[0] in lexicon and words[-1] in lexicon
    assert "zzzz" not in lexicon and "'" + words[0] not in lexicon


@pytest.mark.parametrize(
    ("word", "phones", "source"),
    [
        ("the", "dh ax", "lexicon"),
        ("a", "ax", "lexicon"),
        ("ay", "ey", "lexicon"),
        ("brother", "b r ah dh er", "lexicon"),  # "ah", which some voices merge with "aa"
        ("mnemonic", "n ih m aa n ih k", "lexicon"),  # flite alone would spell it
        ("cat's", "k ae t s", "lexicon"),
        ("judges'", "jh ah jh ih z", "lexicon"),
        ("gpt", "jh iy p iy t iy", "letter-to-sound"),
        ("blicked", "b l ih k t", "letter-to-sound"),
        ("zorple's", "z ao r p ax l z", "letter-to-sound"),
    ],
)
def test_known_pronunciations(word: str, phones: str, source: str) -> None:
    lexicon = Lexicon()
    assert lexicon.phones(word) == phones.split()
    assert lexicon.source(word) == source


def test_letter_names_are_said_as_letters() -> None:
    names = {letter: " ".join(letter_name_phones(letter)) for letter in "abhqwz"}
    assert names == {
        "a": "ey", "b": "b iy", "h": "ey ch", "q": "k y uw", "w": "d ah b ax l y uw", "z": "z iy",
    }  # fmt: skip
    assert [letter_word(letter) for letter in "aBc"] == ["ay", "b", "c"]
    with pytest.raises(VocabularyError):
        letter_name_phones("ab")


def test_possessives_agree_with_their_last_phone() -> None:
    assert possessive("cat's", ["t"]) == ["t", "s"]
    assert possessive("dog's", ["g"]) == ["g", "z"]
    assert possessive("bus's", ["s"]) == ["s", "ax", "z"]
    assert possessive("dogs'", ["g", "z"]) == ["g", "z"]


def test_additions_come_first_and_are_checked() -> None:
    lexicon = Lexicon(extra={"cat": ["k"], "blorf": ["b", "ih"]})
    assert lexicon.phones("cat") == ["k"]
    assert lexicon.source("cat") == "extra" == lexicon.source("blorf's")
    assert lexicon.phones("blorf's") == ["b", "ih", "z"]
    assert Lexicon().phones("cat") == ["k", "ae", "t"]
    for word, phones in {"Cat": ["k"], "cat": ["pau"], "dog": [], "cow": ["xx"]}.items():
        with pytest.raises(VocabularyError):
            Lexicon(extra={word: phones})


@pytest.mark.parametrize("word", ["Cat", "c4t", "", "'", "two words", "café"])
def test_words_not_in_spoken_form_are_refused(word: str) -> None:
    with pytest.raises(VocabularyError, match="spoken_form"):
        Lexicon().phones(word)


def test_letter_to_sound_keeps_its_accuracy_on_words_it_never_saw() -> None:
    model, lexicon = LetterToSound.from_file(LETTER_TO_SOUND_PATH), Lexicon()
    words = SAMPLE.read_text(encoding="ascii").split()
    right = sum(model.phones(word) == lexicon.phones(word) for word in words)
    assert len(words) == 400
    assert right >= 0.64 * len(words)  # 68.5 % of all 5,885 held-out words


@given(st.from_regex("[a-z']*[a-z][a-z']*", fullmatch=True))
@settings(max_examples=100, deadline=None)
def test_letter_to_sound_never_fails(word: str) -> None:
    phones = Lexicon().phones(word)
    assert phones and "pau" not in phones
    assert phone_ids(phones)
    assert phones == Lexicon().phones(word)


def test_a_missing_model_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match=r"none\.npz"):
        LetterToSound.from_file(tmp_path / "none.npz")


def test_tables_are_small() -> None:
    assert LEXICON_PATH.stat().st_size + LETTER_TO_SOUND_PATH.stat().st_size <= 1_200_000


def test_lexicon_opens_quickly() -> None:
    """CPU time of this thread, so that a busy machine does not fail it; the best of three."""
    code = (
        "import time; from vivavoce.tokens import phones as p\n"
        "spent = []\n"
        "for _ in range(3):\n"
        "    p._table.cache_clear(); start = time.process_time(); p.Lexicon().phones('cat')\n"
        "    spent.append(time.process_time() - start)\n"
        "print(min(spent))"
    )
    source = str(Path(phones_module.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": source}
    )
    assert float(done.stdout) < 0.15


def test_a_voices_pronunciations_are_read_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "lexicon_german.txt"
    path.write_text("funf f ue n f\nhat hh aa t\n", encoding="utf-8")
    lexicon = load_lexicon(path)
    assert lexicon.phones("funf") == ["f", "ue", "n", "f"] and lexicon.phones("hat") == ["hh", "aa", "t"]
    assert lexicon.phones("cat") == Lexicon().phones("cat")
    for text, wanted in (("funf\n", "line 1.*no phones"), ("funf f qq\n", "lexicon_german.txt.*'qq'")):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(VocabularyError, match=wanted):
            load_lexicon(path)
