"""An independent reader of speech: pocketsphinx with closed grammars of what the voice is asked to say.

There is one grammar each for sentences, questions, numbers and other answers, written from the tables that the texts
themselves come from (domain.py, sentences.py): any number where a number stands, any noun where a noun stands. A
closed grammar makes a small old recogniser a fair judge of clear speech. Its error on the synthesizer's own audio is
the floor beside which ours is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

import numpy as np
from domain import ANIMALS, ONES, SHADES, TENS, all_items
from sentences import TABLE, TEMPLATES

from vivavoce.audio.resample import resample
from vivavoce.base.errors import MissingExtraError

JUDGE_RATE = 16_000
PAD_S = 0.3
PAD_NOISE = 4.0 / 32768  # faint: frames of digital silence have no logarithm
PEAK = 0.6
PRONOUNCED = {"oink": "OY NG K"}  # words of the domain that the recogniser's dictionary lacks
KINDS = ("sentence", "question", "numbers", "answer")
CLASSES = {**TABLE, "shade": SHADES, "animal": ANIMALS, "many": ["birds", "cats", "dogs"]}

_DIGITS, _TEENS = ONES[1:10], ONES[10:]
_BELOW = rf"(?:(?:{'|'.join(TENS)})(?: (?:{'|'.join(_DIGITS)}))?|{'|'.join(_TEENS + _DIGITS)})"
_NUMBER = re.compile(rf"\b(?:(?:{'|'.join(_DIGITS)}) hundred(?: {_BELOW})?|{_BELOW}|zero)\b")
_NUMBER_RULES = f"""<digit> = {" | ".join(_DIGITS)};
<below> = <digit> | {" | ".join(_TEENS)} | ({" | ".join(TENS)}) [<digit>];
<number> = zero | <below> | <digit> hundred [<below>];
"""


def number_slots(text: str) -> str:
    """The text with every number replaced by ``<number>``."""
    return _NUMBER.sub("<number>", text)


@cache
def forms(kind: str) -> frozenset[str]:
    """All forms of a kind of text, numbers opened and word classes as ``<class>``."""
    if kind == "sentence":
        rows = [" ".join(f"<{w}>" if w in TABLE else w for w in t.split()) for t in TEMPLATES]
        return frozenset([*rows, "it is <number> <number> and the <noun> is <adj>"])
    if kind == "question":
        return frozenset(number_slots(item.question) for item in all_items())
    if kind == "numbers":  # one, or several when counting
        return frozenset(["<number>"])
    answers = {number_slots(item.answer) for item in all_items()}
    answers |= {"the <shade> <animal>", "<number> <shade> <many>"}  # what is asked to be said or repeated
    return frozenset(a for a in answers if set(a.split()) != {"<number>"})


@cache
def _pattern(kind: str) -> re.Pattern[str]:
    """What ``number_slots`` of a text of this kind looks like."""
    rows = [re.escape(form) for form in forms(kind)]
    for name, words in CLASSES.items():
        rows = [row.replace(f"<{name}>", f"(?:{'|'.join(words)})") for row in rows]
    one = f"(?:{'|'.join(rows)})"
    return re.compile(f"{one}(?: {one})*" if kind == "numbers" else one)


def kind_of(text: str) -> str | None:
    """Which grammar a text belongs to; None if no grammar has it."""
    slots = number_slots(text)
    return next((kind for kind in KINDS if _pattern(kind).fullmatch(slots)), None)


@cache
def grammar(kind: str) -> str:
    """The closed grammar of one kind of text, in JSGF."""
    form = " | ".join(sorted(forms(kind)))
    used = {name: words for name, words in CLASSES.items() if f"<{name}>" in form}
    rules = _NUMBER_RULES + "".join(f"<{name}> = {' | '.join(words)};\n" for name, words in used.items())
    rules += f"<form> = {form};\n"
    spoken = "<form>+" if kind == "numbers" else "<form>"
    return f"#JSGF V1.0;\ngrammar {kind};\n{rules}public <spoken> = {spoken};\n"


class Judge:
    """Reads one recording at a time; what it read before does not matter.

    Raises:
        MissingExtraError: pocketsphinx is not installed.
    """

    def __init__(self) -> None:
        try:
            import pocketsphinx
        except ImportError as error:
            raise MissingExtraError(
                "reading speech back needs pocketsphinx; install it with: pip install vivavoce[judge]"
            ) from error
        # "batch" normalises every recording by itself; the default drifts from one to the next
        self._decoder = pocketsphinx.Decoder(samprate=JUDGE_RATE, lm=None, cmn="batch", loglevel="FATAL")
        for word, phones in PRONOUNCED.items():
            self._decoder.add_word(word, phones, True)
        self._ready: set[str] = set()

    def learn(self, kind: str, rules: str, pronounced: Mapping[str, str]) -> None:
        """Add a grammar in JSGF under a name for ``read``, and how its unknown words are said."""
        for word, phones in pronounced.items():
            if self._decoder.lookup_word(word) is None:
                self._decoder.add_word(word, phones, True)
        self._decoder.add_jsgf_string(kind, rules.encode())
        self._ready.add(kind)

    def read(self, waveform: np.ndarray, sample_rate: int, kind: str) -> str:
        """The words heard in float32 [S] at ``sample_rate`` Hz by the grammar ``kind``; "" for none."""
        if kind not in self._ready:
            self._decoder.add_jsgf_string(kind, grammar(kind).encode())
            self._ready.add(kind)
        self._decoder.activate_search(kind)
        samples = prepare(waveform, sample_rate)
        self._decoder.start_utt()
        self._decoder.process_raw(samples.tobytes(), full_utt=True)
        self._decoder.end_utt()
        heard = self._decoder.hyp()
        return heard.hypstr if heard else ""


def prepare(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """16 kHz int16 [S'] at a fixed peak, padded on both sides, over faint noise from a fixed seed."""
    wave = np.pad(np.asarray(waveform, np.float32), round(PAD_S * sample_rate))
    wave = resample(wave, sample_rate, JUDGE_RATE)
    wave = wave * (PEAK / max(1e-3, float(np.abs(wave).max())))
    noise = np.random.default_rng(0).standard_normal(len(wave)) * PAD_NOISE
    return (np.clip(wave + noise, -1, 1) * 32767).astype(np.int16)
