"""`interleave`: words in their order, whole frames, honest times, shares, codes, and what is put aside."""

from __future__ import annotations

import copy
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from tests.data.build.stand_ins import ask, assert_pure, check_settings, needs, run
from tests.data.build.test_tokenize import one, sound

from vivavoce.audio.files import read_audio
from vivavoce.audio.forced_alignment import Heard
from vivavoce.audio.synthesis import synthesize
from vivavoce.audio.timed_speech import time_speech
from vivavoce.base.errors import ConfigError
from vivavoce.data.build.contract import Context, Fault
from vivavoce.data.conversation import Audio, Conversation, Message, Text
from vivavoce.data.recordings import encode_flac

FRAME_S = Fraction(2048, 24_000)
TALE = "The  tide goes out twice a day, and leaves small pools by the rocks. Crabs hide there, until the sea is back."
WORDS = TALE.split()


def told(
    number: int, rate: int = 24_000, word_s: float = 0.4, words: bool = True, **more: Any
) -> Conversation:
    """A row whose assistant says the tale, each word as long as the others; known times if wanted."""
    wave = sound(round(word_s * len(WORDS) * rate), number)
    times = [(w.strip(".,").lower(), word_s * i, word_s * (i + 0.9)) for i, w in enumerate(WORDS)]
    part = Audio(0, transcript=TALE, language="en", speaker="s1", words=times if words else None, **more)
    messages = [Message("user", [Text("Tell me.")]), Message("assistant", [part])]
    return Conversation(f"row/{number}", messages, [{"bytes": encode_flac(wave, rate)}], license="cc0-1.0")


def frames_of(time_s: float) -> Fraction:
    return Fraction(time_s).limit_denominator(24_000) / FRAME_S


@pytest.mark.parametrize("policy", ["poisson", "span", "random"])
def test_rows_are_made_alone(policy: str) -> None:
    rows = [told(i, words=i % 2 == 0) for i in range(6)]
    rows[3].messages[1].parts[0].transcript = None  # type: ignore[union-attr]
    settings = {"policy": policy, "share": 0.5, "words": 3, "spans": 2}
    found = assert_pure("interleave", settings, Context(seed=3), rows, elsewhere=policy == "poisson")
    assert isinstance(found[3], Fault) and found[3].kind == "no_transcript"
    other = run("interleave", settings, Context(seed=4), rows)
    assert one(found[0]).row() != one(other[0]).row()


@pytest.mark.parametrize("rate", [24_000, 16_000, 22_050])
@pytest.mark.parametrize("policy", ["poisson", "span", "random"])
def test_words_and_frames(policy: str, rate: int) -> None:
    rows = [told(i, rate) for i in range(8)]
    rows[1].messages[1].audios[0].start_s = 0.0
    settings = {"policy": policy, "share": 0.5, "words": 3, "spans": 3}
    changes = 0
    for row, result in zip(rows, run("interleave", settings, Context(), rows), strict=True):
        made = one(result)
        assert (
            made.task == "interleave"
            and made.id == row.id
            and made.messages[0].row() == row.messages[0].row()
        )
        message = made.messages[1]
        assert message.words == TALE
        changes += len(message.parts) - 1
        assert all(type(a) is not type(b) for a, b in pairwise(message.parts))
        before, total = 0, round(0.4 * len(WORDS) * rate)
        for part in message.audios:
            assert part.transcript == (part.transcript or "").strip() and part.labels == {"align": "given"}
            assert part.words is not None and len(part.words) == len((part.transcript or "").split())
            assert part.end_s is not None
            start, stop = round(part.start_s * rate), round(part.end_s * rate)
            assert before <= start < stop <= total
            before = stop
            first, end = Fraction(start, rate) / FRAME_S, Fraction(stop, rate) / FRAME_S
            slack = Fraction(1, rate) / FRAME_S if rate != 24_000 else 0
            assert -slack <= round(first) - first <= 0
            assert stop == total or 0 <= round(end) - end <= slack
            assert round(end) - round(first) >= 2 or stop == total
            wave, _ = read_audio(made.audios[0]["bytes"], 24_000, part.start_s, part.end_s)
            assert stop == total or -(-len(wave) // 2048) == round(end) - round(first)
            said = [(w, a + part.start_s) for w, a, _ in part.words]
            for word, at in said:
                near = [0.4 * i for i, w in enumerate(WORDS) if w == word]
                assert min(abs(at - t) for t in near) <= float(FRAME_S) / 2 + 1e-3
    assert changes > 8


def test_spans_tile() -> None:
    settings = {"policy": "random", "share": 0.5, "min_frames": 1}
    from vivavoce.data.build.spans.interleave import Interleave, InterleaveConfig
    from vivavoce.data.build.spans.word_units import Unit

    builder = Interleave(InterleaveConfig(**settings), Context())
    units = [Unit(f"w{i} ", 0.4 * i, 0.4 * i + 0.3) for i in range(10)]
    chosen = [i % 3 == 0 for i in range(10)]
    spans = builder._spans(units, chosen, 47)
    assert (spans[0].first, spans[-1].end) == (0, 47)
    assert all(a.end == b.first and a.is_speech != b.is_speech for a, b in pairwise(spans))
    assert [len(s.units) for s in spans] == [1, 2, 1, 2, 1, 2, 1]
    middles = [0.4 * i - 0.05 for i in (1, 3, 4, 6, 7, 9)]
    assert [s.first for s in spans[1:]] == [round(t / float(FRAME_S)) for t in middles]


def test_part_of_a_recording() -> None:
    row = told(0)
    part = row.messages[1].audios[0]
    part.start_s, part.end_s = 0.8, 0.4 * 9
    part.transcript, part.words = "goes out twice a day, and leaves", None
    [result] = run("interleave", {"policy": "random", "share": 0.5, "align": ["uniform"]}, Context(), [row])
    made = one(result).messages[1].audios
    assert made and all(0.8 - 1e-9 <= p.start_s < (p.end_s or 0) <= 3.6 + 1e-9 for p in made)
    places = [(p.start_s - 0.8) / float(FRAME_S) for p in made]
    assert places == pytest.approx([round(place) for place in places], abs=1e-6)


def test_guesses_are_marked_and_what_is_given_wins() -> None:
    needs("espeak")
    waveform, rate = synthesize(TALE, "espeak:en-us")
    spoken = Conversation("s", [Message("user", [Audio(0, transcript=TALE, speaker="espeak:en-us", language="en")])],
                          [{"bytes": encode_flac(waveform, rate)}])  # fmt: skip
    settings = {"policy": "random", "share": 0.6}

    def sources(row: Conversation, **more: Any) -> set[str]:
        made = one(run("interleave", {**settings, **more}, Context(), [row])[0])
        guessed = [p.words is None for p in made.audio_parts()]
        found = {p.labels["align"] for p in made.audio_parts()}
        assert guessed and all(g == (found == {"uniform"}) for g in guessed)
        return found

    assert sources(spoken) == {"synthesizer"}
    assert sources(spoken, align=["uniform", "synthesizer"]) == {"uniform"}
    given = copy.deepcopy(spoken)
    given.messages[0].audios[0].words = [(w, 0.1 * i, 0.1 * i + 0.1) for i, w in enumerate(WORDS)]
    assert sources(given) == {"given"}
    given.messages[0].audios[0].words = [("something", 0.0, 0.1), ("else", 0.1, 0.2)]
    assert sources(given) == {"synthesizer"}
    changed = copy.deepcopy(spoken)
    changed.audios = [{"bytes": encode_flac(waveform[:-rate], rate)}]
    assert sources(changed) == {"uniform"}
    changed.messages[0].audios[0].labels["spoken"] = "the tide"
    made = one(run("interleave", settings, Context(), [changed])[0])
    assert all(p.labels == {"align": "uniform"} for p in made.audio_parts())
    [fault] = run("interleave", {**settings, "align": ["given", "synthesizer"]}, Context(), [changed])
    assert isinstance(fault, Fault) and fault.kind == "unaligned"


def test_times_of_espeak_and_the_guess() -> None:
    """Cuts lie where espeak says the words end; the guess is near enough to be of use."""
    needs("espeak")
    said = time_speech(TALE, "espeak:en-gb", speed=1.1)
    waveform, rate = synthesize(TALE, "espeak:en-gb", speed=1.1)
    part = Audio(0, transcript=TALE, speaker="espeak:en-gb", language="en", labels={"speed": 1.1})
    row = Conversation("s", [Message("user", [part])], [{"bytes": encode_flac(waveform, rate)}])
    starts = {first: start for first, start, _ in said.words}
    errors: dict[str, list[float]] = {}
    for source in ("synthesizer", "uniform"):
        for seed in range(6):
            settings = {"policy": "span", "share": 0.4, "align": [source]}
            made = one(run("interleave", settings, Context(seed=seed), [row])[0])
            place = 0
            for piece in made.messages[0].parts:
                text = piece.text if isinstance(piece, Text) else piece.transcript or ""
                if isinstance(piece, Audio) and place:
                    errors.setdefault(source, []).append(abs(piece.start_s - starts[place]))
                place += len(text)
    assert max(errors["synthesizer"]) <= float(FRAME_S) / 2 + 0.08  # a pause is shared by both sides
    assert np.median(errors["synthesizer"]) <= 0.05
    assert np.median(errors["uniform"]) <= 0.2 and max(errors["uniform"]) <= 0.5


def test_codes_are_cut() -> None:
    row = one(run("tokenize", {"codec": "nano"}, Context(), [told(0)])[0])
    whole = row.messages[1].audios[0].tokens
    assert whole is not None
    settings = {"policy": "random", "share": 0.5}
    made = one(run("interleave", settings, Context(), [row])[0])
    dropped = one(run("tokenize", {"codec": "nano", "keep_audio": False}, Context(), [told(0)])[0])
    bare = one(run("interleave", settings, Context(), [dropped])[0])
    parts, without = made.messages[1].audios, bare.messages[1].audios
    assert len(parts) > 2 and [p.tokens for p in parts] == [p.tokens for p in without]
    assert not bare.audios and all(p.audio is None for p in without)
    for part in parts:
        assert part.tokens is not None and part.end_s is not None
        first, end = round(frames_of(part.start_s)), -int(-frames_of(part.end_s) // 1)
        ids, num_samples = whole["ids"][7 * first : 7 * end], round((part.end_s - part.start_s) * 24_000)
        assert part.tokens == {**whole, "num_samples": num_samples, "ids": ids}
    kinds = {}
    spoiling: dict[str, dict[str, Any]] = {
        "other": {"codec": "mimi"},
        "lost": {"ids": whole["ids"][:-1]},
        "short": {"ids": whole["ids"][:-7]},
        "longer": {"num_samples": 10**6},
        "no layout": {"layout": None},
    }
    for name, wrong in spoiling.items():
        spoiled = copy.deepcopy(row)
        spoiled.messages[1].audios[0].tokens = {**whole, **wrong}
        [fault] = run("interleave", settings, Context(), [spoiled])
        kinds[name] = fault.kind
    assert kinds.pop("other") == "other_codec" and set(kinds.values()) == {"bad_codes"}
    [fault] = run("interleave", {**settings, "frame_s": 0.08}, Context(), [row])
    assert isinstance(fault, Fault) and fault.kind == "other_codec"


def test_other_frames() -> None:
    for settings, length in (
        ({"codec": "mimi"}, 1920),
        ({"codec": "snac_24khz"}, 2048),
        ({"frame_s": 0.125}, 3000),
    ):
        made = one(run("interleave", {"policy": "random", "share": 0.5, **settings}, Context(), [told(1)])[0])
        starts = [round(p.start_s * 24_000) for p in made.audio_parts()]
        assert len(starts) > 2 and all(start % length == 0 for start in starts)


def test_roles_and_repeated_text() -> None:
    row = told(0)
    row.messages[1].parts = [Text(TALE), *row.messages[1].parts, Text("The end.")]
    row.messages[0].parts.append(Audio(0, transcript="whatever"))
    made = one(run("interleave", {"roles": ["assistant"], "share": 0.5, "words": 2}, Context(), [row])[0])
    assert made.messages[1].words == TALE + "The end."
    assert made.messages[0].row() == row.messages[0].row()


def test_what_is_put_aside() -> None:
    rows = [told(0), ask(1, "hello", "there"), told(2), told(3, words=False), told(4)]
    rows[2].messages[1].audios[0].audio = "not_there.wav"
    rows[4].messages[1].audios[0].transcript = " "
    settings = {"align": ["given"], "roles": ["assistant"]}
    found = assert_pure("interleave", settings, Context(), rows, elsewhere=False)
    kinds = [r.kind if isinstance(r, Fault) else "made" for r in found]
    assert kinds == ["made", "nothing_to_interleave", "unreadable", "unaligned", "no_transcript"]


class Pointing:
    """A service "aligner" over letters that hears the letters of the tale at equal distances."""

    blank, separator, whole_words = 0, 1, False

    def __init__(self, name: str) -> None:
        self.letters = [
            2 + ord(c) - 97 if c.isalpha() else 1 for c in " ".join(w.strip(".,").lower() for w in WORDS)
        ]

    def spell(self, word: str) -> list[int]:
        return [2 + ord(c) - 97 for c in word.lower() if c.isascii() and c.isalpha()]

    def hear(self, waveform: np.ndarray, sample_rate: int) -> Heard:
        log_probs = np.full((2 * len(self.letters), 30), -10.0)
        log_probs[::2, 0] = 0.0
        log_probs[np.arange(1, len(log_probs), 2), self.letters] = 0.0
        return Heard(log_probs, len(waveform) / sample_rate / len(log_probs))


def test_aligner_of_a_service() -> None:
    settings = {"align": ["aligner", "uniform"], "aligner": "service:any", "policy": "random", "share": 0.5}
    context = Context(services={"aligner": Pointing})
    rows = [told(0, words=False), told(1, words=False)]
    rows[1].messages[1].audios[0].transcript = TALE.replace(
        "Crabs", "\u039a\u03b1\u03b2\u03bf\u03cd\u03c1\u03b9\u03b1"
    )
    first, second = (
        one(r).messages[1].audios for r in assert_pure("interleave", settings, context, rows, elsewhere=False)
    )
    assert {p.labels["align"] for p in first} == {"aligner"} and {p.labels["align"] for p in second} == {
        "uniform"
    }
    letters, total = " ".join(w.strip(".,") for w in WORDS), 0.4 * len(WORDS)
    for part in first:
        words = [w.strip(".,") for w in (part.transcript or "").split()]
        at = letters.index(" ".join(words)) / len(letters) * total
        assert abs(part.start_s + (part.words or [("", 0, 0)])[0][1] - at) < 0.1
    with pytest.raises(ConfigError, match="service 'aligner'"):
        run("interleave", settings, Context(), rows)


@pytest.mark.parametrize(
    "wrong",
    [
        {"policy": "poison"}, {"share": 0.0}, {"share": 1.0}, {"words": 0.5}, {"spans": 0}, {"roles": ["users"]},
        {"roles": []}, {"align": []}, {"align": ["uniforn"]}, {"aligner": "nano", "align": ["aligner"]},
        {"frame_s": 0.0}, {"min_frames": 0}, {"shares": 0.5},
    ],
)  # fmt: skip
def test_wrong_settings(wrong: dict[str, Any]) -> None:
    check_settings("interleave", {"policy": "span", "codec": "snac_24khz"})
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        check_settings("interleave", wrong)
