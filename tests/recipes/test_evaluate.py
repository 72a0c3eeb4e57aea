"""The evaluation of the embedded model: its intervals, its judge, its trials, and that it counts rightly."""

from __future__ import annotations

import argparse
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import reading_back
from domain import DIGITS, all_items, held_out_facts
from evaluate import Evaluation, plain
from figures import Figure, share, wilson, word_edits, word_error
from judge import KINDS, Judge, grammar, kind_of, number_slots, prepare
from make_speech import write_shards
from sounds import NOISES, make_noise
from speech_data import SPEAKERS
from tests.recipes.tones import tone
from trials import People, Speech, Trial, spoken_answers, spread, typed_facts

from vivavoce.audio.files import write_audio
from vivavoce.audio.synthesis import synthesize
from vivavoce.base.errors import AudioError, ConfigError
from vivavoce.inference.reply import Reply, Transcript

RATE = 24_000
VOICES = ("held:a", "held:b", "held:c")


# figures


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),  # Wilson 1927, z = 1.959964; the values of statsmodels' proportion_confint
    [(0, 10, 0.0, 0.27753), (10, 10, 0.72247, 1.0), (8, 10, 0.49016, 0.94332), (50, 100, 0.40383, 0.59617)],
)
def test_wilson_interval_known_values(hits: int, n: int, low: float, high: float) -> None:
    assert wilson(hits, n) == pytest.approx((low, high), abs=2e-5)


def test_wilson_covers_the_truth_about_95_times_in_100(rng: np.random.Generator) -> None:
    hits = rng.binomial(60, 0.9, 4000)
    covered = np.mean([low <= 0.9 <= high for low, high in (wilson(int(k), 60) for k in hits)])
    assert 0.93 < covered < 0.975


def test_word_edits_equal_jiwer(rng: np.random.Generator) -> None:
    jiwer = pytest.importorskip("jiwer")
    for _ in range(60):
        a, b = (" ".join(rng.choice(list("abcd"), rng.integers(1, 9))) for _ in range(2))
        edits, words = word_edits(a, b)
        assert edits / words == pytest.approx(jiwer.wer(a, b))


def test_word_error_pools_words_and_bootstraps_sentences() -> None:
    pairs = [("one two three four", "one two three four")] * 90 + [("nine", "five")] * 10
    figure = word_error("t", "n", pairs)
    assert (figure.value, figure.n) == (pytest.approx(10 / 370), 100)
    assert figure.low < figure.value < figure.high
    # a sentence's share of errors varies with sd sqrt(.1 * .9 / 100); 1.96 of it over 3.7 words a sentence
    assert figure.high - figure.low == pytest.approx(2 * 1.96 * 0.03 / 3.7, rel=0.2)
    assert (figure.low, figure.high) == (word_error("t", "n", pairs).low, word_error("t", "n", pairs).high)
    certain = word_error("t", "n", [("a b", "a c")] * 20)
    assert (certain.low, certain.value, certain.high) == (0.5, 0.5, 0.5)


def test_figures_are_plain_json() -> None:
    rows = [word_error("t", "n", [("a b c", "a c")], "<= 0.08"), share("t", "n", [True], ">= 0.5")]
    read = json.loads(json.dumps([f.as_json() for f in rows]))
    assert [(r["value"], r["n"], r["passed"]) for r in read] == [(0.333333, 1, False), (1.0, 1, True)]


def test_a_figure_without_trials_never_passes() -> None:
    assert share("t", "n", [], ">= 0.5").passed is False
    assert word_error("t", "n", [], "<= 0.08").passed is False
    assert share("t", "n", [True]).passed is None


@pytest.mark.parametrize(("value", "aim", "passed"), [(0.95, ">= 0.95", True), (0.949, ">= 0.95", False)])
def test_aims(value: float, aim: str, passed: bool) -> None:
    assert Figure("t", "n", value, 9, 0, 1, aim).passed is passed
    assert Figure("t", "n", 1 - value, 9, 0, 1, "<= 0.0505").passed is passed


# the judge


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("please show me your window for our machine", "sentence"),
        ("it is four fifteen and the house is strange", "sentence"),
        ("which is smaller three or four", "question"),
        ("twenty plus seven", "question"),
        ("nine hundred nineteen", "numbers"),
        ("h o u s e", "answer"),
        ("seven eight", "numbers"),
        ("light seven", None),
        ("three white dogs", "answer"),
        ("overlooks invariant contours", None),
        ("please show me", None),
    ],
)
def test_kind_of(text: str, kind: str | None) -> None:
    assert kind_of(text) == kind


def test_every_text_of_the_domain_is_in_a_grammar() -> None:
    assert [i.question for i in all_items() if kind_of(i.question) != "question"] == []
    assert [i.answer for i in all_items() if kind_of(i.answer) is None] == []


def test_numbers_open_whole() -> None:
    wanted = "<number> plus <number> <number> is <number>"
    assert number_slots("two hundred twenty one plus six seven is ninety") == wanted
    assert number_slots("someone is alone") == "someone is alone"


@pytest.mark.parametrize("kind", KINDS)
def test_grammars_have_no_open_ends(kind: str) -> None:
    text = grammar(kind)
    used = set(
        text.replace("(", " ").replace(")", " ").replace("+", " ").replace("[", " ").replace("]", " ").split()
    )
    named = {word.rstrip(";") for word in used if word.startswith("<")}
    assert named == {line.split(" = ")[0].removeprefix("public ") for line in text.splitlines()[2:]}


@pytest.mark.skipif(shutil.which("flite") is None, reason="needs the flite program")
@pytest.mark.parametrize(
    "text", ["john wanted my famous market carefully", "how much is twelve minus four", "seventy three"]
)
def test_judge_reads_clear_speech(text: str) -> None:
    pytest.importorskip("pocketsphinx")
    judge, (wave, rate) = Judge(), synthesize(text, "flite:slt")
    kind = kind_of(text) or ""
    assert judge.read(wave, rate, kind) == text
    noise = np.random.default_rng(0).standard_normal(len(wave)).astype(np.float32)
    judge.read(0.1 * noise, rate, kind)  # what came before, and how loud it was, must not matter
    assert judge.read(0.01 * wave, rate, kind) == text
    assert judge.read(wave[::-1], rate, kind) != text


def test_prepare_pads_with_faint_noise_at_16_khz() -> None:
    samples = prepare(np.ones(24_000, np.float32) * 0.01, 24_000)
    assert samples.dtype == np.int16 and len(samples) == pytest.approx(1.6 * 16_000, abs=2)
    edge = samples[:4000]
    assert 0 < np.abs(edge).max() < 32 and len(np.unique(edge)) > 5
    assert np.array_equal(samples, prepare(np.ones(24_000, np.float32) * 0.01, 24_000))


# the trials


def test_spread_takes_groups_in_turn() -> None:
    rows = ["a1", "a2", "a3", "b1", "c1", "c2"]
    assert spread(rows, lambda r: r[0], 5) == ["a1", "b1", "c1", "a2", "c2"]
    assert sorted(spread(rows, lambda r: r[0], None)) == rows


@pytest.mark.parametrize("kind", NOISES)
def test_noises_repeat_differ_and_stay_in_range(kind: str) -> None:
    speech = [np.random.default_rng(i).standard_normal(9000).astype(np.float32) for i in range(6)]
    first, again, other = (make_noise(kind, i, speech) for i in (1, 1, 2))
    assert np.array_equal(first[0], again[0])
    assert len(first[0]) != len(other[0]) and 0.3 <= len(first[0]) / first[1] <= 3.0
    assert first[0].dtype == np.float32 and np.isfinite(first[0]).all() and np.abs(first[0]).max() <= 1
    level = 20 * np.log10(np.sqrt(np.mean(first[0] ** 2)) + 1e-9)
    assert level <= -79 if kind == "silence" else -51 < level < -11


def test_typed_facts_are_disjoint_and_balanced() -> None:
    trained, never = typed_facts()
    unseen = held_out_facts(all_items())
    assert not {i.fact for i in trained} & unseen
    assert {i.fact for i in never} == unseen
    assert len({i.fact for i in trained}) == len(trained) == 300
    counts = Counter(i.kind for i in typed_facts(48)[0])
    assert max(counts.values()) - min(counts.values()) <= 1
    assert typed_facts() == (trained, never)


def test_spoken_answers_are_all_different() -> None:
    answers = spoken_answers()
    assert len(set(answers)) == len(answers) == 200
    assert answers == spoken_answers()
    assert all(kind_of(a) for a in answers)


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """A folder of digits, each clip a constant of its own so that it can be told apart."""
    for speaker in SPEAKERS:
        for digit in range(10):
            for number in range(3):
                wave = np.full(800 + digit, (digit + 1) / 16, np.float32)
                write_audio(tmp_path / f"{digit}_{speaker}_{number}.wav", wave, 8000)
    return tmp_path


def test_real_digits_are_balanced(people: Path) -> None:
    trials = list(People(people).digits(20))
    assert Counter(t.group for t in trials) == dict.fromkeys(SPEAKERS, 20)
    assert Counter(t.text for t in trials) == dict.fromkeys(DIGITS, 8)
    assert {len(t.source[0]) - 800 == DIGITS.index(t.text) for t in trials} == {True}
    assert len(list(People(people, ["lucas"]).digits())) == 30


def test_digit_strings_say_what_their_text_says(people: Path) -> None:
    trials = list(People(people, ["george"]).strings(8))
    assert sorted(len(t.text.split()) for t in trials) == [2, 2, 3, 3, 4, 4, 5, 5]
    for trial in trials:
        levels = np.round(trial.source[0] * 16).astype(int)
        runs = [int(level) for i, level in enumerate(levels) if level and (i == 0 or not levels[i - 1])]
        assert " ".join(DIGITS[level - 1] for level in runs) == trial.text
    assert [t.text for t in People(people, ["george"]).strings(8)] == [t.text for t in trials]


def test_missing_digits_are_named(people: Path) -> None:
    for path in people.glob("4_nicolas_*.wav"):
        path.unlink()
    with pytest.raises(AudioError, match="nicolas"):
        People(people)


# counting


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A small folder as make_speech.py writes it; two of its test sentences are in training too."""
    folder = tmp_path / "speech"
    folder.mkdir()
    unseen = held_out_facts(all_items())
    new = min(item.question for item in all_items() if item.fact in unseen)
    rows = [("train", "known", "say", text, "x") for text in ("say two", "what color is grass nine")]
    rows += [("unknown", "known", "unknown", "large doctor", "")]
    rows += [("voice", "slt", "voice", "six", "")]
    rows += [("test_sentence", "known", "say", text, text.split()[-1]) for text in ("say two", "say nine")]
    rows += [("test_sentence", "known", "arithmetic", new, "x")]
    rows += [("test_voice", v, "color", "what color is grass", "green") for v in VOICES for _ in range(3)]
    rows += [("test_voice", v, "digit", "nine", "nine") for v in VOICES]
    rows += [("test_unknown", "held:a", "unknown", text, "") for text in ("large doctor", "fone kapral")]
    rows += [
        ("test_spoken", "slt", "voice", text, "") for text in ("six", "the river is golden", "fone kapral")
    ]
    lines, audio = [], []
    for place, (split, voice, kind, text, answer) in enumerate(rows):
        row = {"split": split, "voice": voice, "kind": kind, "text": text, "answer": answer}
        lines.append(json.dumps({**row, "offset": place * 9000, "samples": 9000}))
        audio.append(np.random.default_rng(place).integers(-3000, 3000, 9000).astype(np.int16))
    (folder / "000.jsonl").write_text("\n".join(lines) + "\n")
    np.concatenate(audio).tofile(folder / "000.i16")
    return folder


def test_texts_that_training_drew_too_are_left_out(shards: Path) -> None:
    speech = Speech(shards)
    sentences = list(speech.sentences())
    assert [t.text for t in sentences if not t.new_fact] == ["say nine"]
    assert [t.new_fact for t in sentences] == [False, True]
    assert [t.new_word for t in sentences] == [False, True] and not any(t.new_word for t in speech.voices())
    assert len(list(speech.outside())) == 1
    assert [row["text"] for row in speech.spoken()] == ["the river is golden"]


def test_what_was_recorded_is_not_tried_in_held_out_voices(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "0.txt").write_text("nine\n")
    figures = evaluation(Listener(Speech(shards)), shards, recorded=tmp_path).run("voices")
    assert figures[0].n == 9 and evaluation(Listener(Speech(shards)), shards).run("voices")[0].n == 12


def test_further_spoken_texts_are_tried_but_for_those_that_a_voice_learned(
    shards: Path, tmp_path: Path
) -> None:
    rows = [("voice", "four"), ("test_spoken", "four"), ("test_spoken", "nine")]
    row = {"voice": "flite:slt", "kind": "voice", "answer": "", "seed": 0}
    write_shards([{**row, "split": split, "text": text} for split, text in rows], tone, tmp_path, 1)
    speech = Speech(shards, [tmp_path])
    assert sorted(row["text"] for row in speech.spoken()) == ["nine", "the river is golden"]


def test_held_out_voices_are_balanced(shards: Path) -> None:
    speech = Speech(shards)
    assert Counter(t.group for t in speech.voices(6)) == dict.fromkeys(VOICES, 2)
    assert {t.group for t in speech.noises(2)} == set(NOISES)
    assert len(list(speech.reversed(4))) == 4


def test_a_folder_without_speech_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"make_speech\.py"):
        Speech(tmp_path)


class Listener:
    """Knows every recording of a folder by heart; or refuses everything."""

    def __init__(self, speech: Speech, deaf: bool = False) -> None:
        trials: list[Trial] = [*speech.sentences(), *speech.voices()]
        self.known = {t.source[0].tobytes(): t for t in trials}
        self.answers = {item.question: item.answer for item in all_items()}
        self.deaf = deaf

    def _find(self, wave: np.ndarray) -> Trial | None:
        return None if self.deaf else self.known.get(np.asarray(wave, np.float32).tobytes())

    def transcribe(self, source: tuple[np.ndarray, int]) -> Transcript:
        found = self._find(source[0])
        return Transcript(found.text if found else "mumble", found is not None, len(source[0]) / source[1])

    def chat(self, messages: list[dict] | str) -> Reply:
        if isinstance(messages, str):
            return Reply(text=self.answers[messages])
        found = self._find(messages[-1]["content"][0]["audio"])
        if found is None:
            return Reply(text="Sorry, I did not understand.", transcript="mumble", understood=False)
        return Reply(text=found.answer.capitalize() + ".", transcript=found.text)


def evaluation(model: object, folder: Path, **options: object) -> Evaluation:
    args = {
        "limit": None,
        "speaker": None,
        "speech": folder,
        "more_speech": [],
        "recorded": None,
        "digits": None,
        **options,
    }
    return Evaluation(model, argparse.Namespace(**args))


def test_a_perfect_listener_scores_full_marks(shards: Path) -> None:
    tried = evaluation(Listener(Speech(shards)), shards, limit=8)
    by_name = {f.name: f for test in ("hearing", "voices", "facts") for f in tried.run(test)}
    errors = ("word error of transcripts", "refused though in the domain")
    assert [n for n, f in by_name.items() if f.value != (0.0 if n in errors else 1.0)] == []
    assert by_name["answers right, facts never trained"].n == 1
    assert by_name["transcripts exact"].passed and not tried.misses
    assert all(f.seconds > 0 for f in by_name.values())
    refused = {f.name: f.value for f in tried.run("refusals")}
    assert set(refused.values()) == {1.0} and {*NOISES, "all together", "backward speech"} <= set(refused)


def test_a_deaf_listener_scores_none(shards: Path) -> None:
    tried = evaluation(Listener(Speech(shards), deaf=True), shards, limit=8)
    figures = {f.name: f for f in tried.run("voices")}
    assert figures["transcripts exact"].value == figures["answers right"].value == 0
    assert figures["refused though in the domain"].value == 1 and not figures["answers right"].passed
    assert len(tried.misses) == 8


def test_false_acceptance_is_counted(shards: Path) -> None:
    class Eager(Listener):
        def transcribe(self, source: tuple[np.ndarray, int]) -> Transcript:
            return Transcript("four", True, 1.0)

    figures = {f.name: f.value for f in evaluation(Eager(Speech(shards)), shards, limit=2).run("refusals")}
    assert set(figures.values()) == {0.0}


def test_digits_need_a_folder_and_know_who_was_left_out(people: Path, shards: Path) -> None:
    model = Listener(Speech(shards))
    with pytest.raises(ConfigError, match="--digits"):
        evaluation(model, shards).run("digits")
    model.known = {t.source[0].tobytes(): t for t in People(people).digits()}
    figures = evaluation(model, shards, digits=people, speaker="lucas").run("digits")
    assert [(f.name, f.n, f.value, f.passed) for f in figures] == [
        ("lucas, never heard in training", 30, 1.0, True)
    ]
    trained = evaluation(model, shards, digits=people).run("digits")
    assert len(trained) == 5 and {f.aim for f in trained} == {""}  # clips heard in training prove nothing


def test_the_voice_is_read_beside_its_floor(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in judge that knows each recording: the original right, ours with one word of four wrong."""
    said = {8000.0: "the river is golden", 7000.0: "the river is green"}

    class KnowingJudge:
        def read(self, wave: np.ndarray, sample_rate: int, kind: str) -> str:
            assert kind == "sentence" or float(wave[0]) not in said
            return said.get(float(wave[0]), "")

    class Model:
        class processor:  # noqa: N801
            codec_out = None

        voices = ("default", "awb")

        def say(self, text: str, voice: str | None = None) -> Reply:
            words = [(w, i / 9, (i + 1) / 9) for i, w in enumerate(text.split())]
            return Reply(text, audio=np.full(RATE, 7000, np.float32), sample_rate=RATE, words=words)

    speech, missed = Speech(shards), []
    monkeypatch.setattr(reading_back, "Judge", KnowingJudge)
    monkeypatch.setattr(reading_back, "spoken_answers", lambda limit: [])
    monkeypatch.setattr(reading_back, "synthesize", lambda text, voice: (np.full(9, 8000.0), RATE))
    monkeypatch.setattr(
        reading_back,
        "words_read_right",
        lambda say, words: [(w, "" if say(w)[0][0] == 7000 else w) for w in words],
    )
    monkeypatch.setattr(reading_back.shutil, "which", lambda name: name)
    monkeypatch.setattr(reading_back, "through", lambda codec, wave: (np.zeros(9, np.float32), RATE))
    monkeypatch.setattr(speech.shards, "samples", lambda row: np.full(RATE, 8000, np.float32))
    figures = reading_back.try_speaking(Model(), speech, None, lambda *miss: missed.append(miss))
    ours, floor, codec, _, _, outside, teacher, second, _, coded, _, _, times = figures
    assert (outside.value, outside.aim, teacher.value, second.value) == (0.0, ">= 0.8", 1.0, 0.25)
    assert (ours.value, floor.value, codec.value, times.value) == (0.25, 0.0, 1.0, 1.0)
    assert coded.value == 1.0
    assert (ours.aim, floor.aim) == ("<= 0.08", "")
    assert [heard for *_, heard in missed] == ["the river is green", "", "the river is green", ""]


def test_plain_words() -> None:
    assert plain(" Two O'clock,  sharp. ") == "two o'clock sharp"


@pytest.mark.parametrize(
    ("words", "sane"),
    [
        ([("a", 0.0, 0.4), ("b", 0.4, 1.0)], True),
        ([("a", 0.0, 0.4), ("b", 0.3, 1.0)], False),
        ([("a", 0.0, 0.4), ("b", 0.4, 1.1)], False),
        ([("a", 0.0, 0.4), ("b", 0.4, 0.4)], False),
        ([("a", 0.0, 1.0)], False),
    ],
)
def test_word_times(words: list[tuple[str, float, float]], sane: bool) -> None:
    reply = Reply(audio=np.zeros(RATE, np.float32), sample_rate=RATE, words=words)
    assert reading_back.times_are_sane(reply, "a b") is sane


def test_the_readmes_rows_are_named_as_they_are_measured() -> None:
    """Every row of the README's table is one that tables.py makes, and tables.py takes what it is given."""
    import tables

    figure = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 4}
    rows = tables.share_rows({key: figure for _, key, _ in tables.ROWS})
    labels = {row.split(" | ")[0] for row in rows[2:]}
    readme = (Path(tables.__file__).parent / "README.md").read_text(encoding="utf-8")
    reached = readme.split("## What it reaches")[1].split("### What it remembers")[0]
    written = {line.split(" | ")[0] for line in reached.splitlines() if line.startswith("| ")}
    assert written - {"| figure"} == labels
    assert rows[2].endswith("| 50.0 % | 25.0 to 75.0 | 4 | ≥ 95 % |")
    assert tables.memory_rows({"again, typed": figure})[2:] == [
        '| again: "say that again" | 50 (25 to 75, n 4) |  |  |'
    ]
    heard = {f"{test}: ada, {what}": figure for test, what in tables.PEOPLE.items()}
    assert tables.people_rows(heard)[2:] == ["| ada " + "| 50 (25 to 75, n 4) " * 4 + "|"]
