"""A language added to a bundle: its domain, its sounds, what of it is learned, and how training stops and goes on."""

# ruff: noqa: RUF001 - IPA
from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import random
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "recipes" / "add_language"))
import add_language
import make_language_speech
from add_language import Lesson, StopRule
from domain import ONES, vocabulary
from german import GERMAN
from grow import LIKE_PHONES, grown, language_tokenizer
from growing import NOISE
from language import Language
from language_data import LanguageHearing, Reading, first_minutes, language_voice
from language_judge import MARK, grammar
from languages import LANGUAGES
from make_tokenizer import build
from measure_language import typed
from plot_language import read, table
from spanish import SPANISH
from torch import nn
from transformers import AutoTokenizer

from vivavoce.base.errors import ConfigError, DataError, MissingExtraError
from vivavoce.models.loading import load_speech_lm
from vivavoce.tokens.phones import ADDED_PHONES, ALL_PHONES, PHONES, spoken_form

EVERY = pytest.mark.parametrize("language", list(LANGUAGES.values()), ids=list(LANGUAGES))


def test_numbers_and_sums() -> None:
    assert [GERMAN.number(n) for n in (0, 12, 16, 17, 21, 36, 70, 99)] == [
        "null", "zwölf", "sechzehn", "siebzehn", "einundzwanzig", "sechsunddreißig", "siebzig", "neunundneunzig",
    ]  # fmt: skip
    values = {GERMAN.number(n): n for n in range(100)}
    assert len(values) == 100
    operations = {"plus": int.__add__, "minus": int.__sub__, "mal": int.__mul__}
    for item in GERMAN.items():
        if item.kind == "sum":
            a, op, b = item.fact.split()
            assert operations[op](values[a], values[b]) == values[item.answer]
        if item.kind == "neighbour":
            assert values[item.question.split()[-1]] + 1 == values[item.answer]


@EVERY
def test_a_question_has_one_answer_and_words_are_as_the_product_reads_them(language: Language) -> None:
    answers: dict[str, set[str]] = {}
    for item in language.items():
        answers.setdefault(item.question, set()).add(item.answer)
        for text in (item.question, item.answer):
            assert spoken_form(text, name_letters=False) == language.words_of(text).split()
    assert [q for q, a in answers.items() if len(a) > 1] == []
    assert all(re.fullmatch("[a-z]+", word) for word in language.vocabulary())


@EVERY
def test_every_held_out_question_has_words_that_are_heard(language: Language) -> None:
    kept, facts = language.held_out_questions(), language.held_out_facts()
    heard = {
        w
        for i in language.items()
        if i.question not in kept and i.fact not in facts
        for w in i.question.split()
    }
    assert len(kept) > 50 and {w for q in kept for w in q.split()} <= heard and len(facts) >= 25


@EVERY
def test_recordings_are_of_training_voices_and_hold_the_tests_out(language: Language) -> None:
    jobs = make_language_speech.plan(20, language)
    facts, kept = language.held_out_facts(), language.held_out_questions()
    withheld = {
        language.words_of(i.question) for i in language.items() if i.fact in facts or i.question in kept
    }
    train = [job for job in jobs if not job["split"].startswith("test")]
    assert not {job["text"] for job in train if job["kind"] != "answer"} & withheld
    assert not {job["voice"] for job in train} & set(language.new_voices)
    assert {job["text"] for job in jobs if job["split"] == "test_sentence"} <= withheld
    assert {job["voice"] for job in jobs if job["split"] == "test_voice"} == set(language.new_voices)
    longer = [job for job in make_language_speech.plan(40, language) if not job["split"].startswith("test")]
    assert longer[: len(train)] == train  # a smaller amount is the beginning of a larger one
    wide = make_language_speech.plan_wide(60, language)
    tried = {*(voice.split("+")[1] for voice in language.new_voices), *make_language_speech.TUNE_VARIANTS}
    assert not {job["text"] for job in wide} & withheld
    assert not {job["voice"].split("+")[1] for job in wide} & tried
    assert {job["split"] for job in wide} == {"train", "unknown"}


@EVERY
def test_how_a_language_is_written_down_is_whole(language: Language) -> None:
    assert set(itertools.chain(*(v.split() for v in language.phones_of.values()))) <= set(ALL_PHONES)
    words, known = set(language.vocabulary()), set(vocabulary())
    assert len({language.number(n) for n in range(100)}) == 100
    assert set(language.meanings()) <= words and set(language.meanings().values()) <= known
    rules = grammar(language)
    marked = set(re.findall(rf"\b{MARK}([a-z]+)\b", rules))
    asked = {w for item in language.items() for w in language.words_of(item.question).split()}
    assert asked <= marked


def test_a_grown_bundle_is_as_before_where_it_was() -> None:
    model, processor = load_speech_lm("nano", device="cpu")
    language = replace(LANGUAGES["spanish"], name="test")
    before = {name: value.float() for name, value in model.state_dict().items()}
    tokenizer, voice = (
        language_tokenizer(processor.tokenizer, language),
        language_voice(model.voice.config, language),
    )
    old = len(processor.tokenizer)
    after = grown(before, old, tokenizer, voice, language)
    assert voice.voices == (*model.voice.config.voices, "test") and len(tokenizer) > old
    for name, value in before.items():
        kept = after[name][: len(value)] if value.dim() else after[name]
        assert torch.equal(kept, value), name
    table = after["language_model.model.embed_tokens.weight"]
    three, tres = tokenizer.convert_tokens_to_ids(["three", "tres"])
    spread = table[:old].std(dim=0) * NOISE
    assert ((table[tres] - table[three]) / spread).std() < 1.5
    plain = grown(before, old, tokenizer, voice, language, meanings=False)
    assert ((plain["language_model.model.embed_tokens.weight"][tres] - table[three]) / spread).std() > 1.5
    with pytest.raises(ConfigError, match="speaks test already"):
        language_voice(voice, language)


def test_turns_of_both_languages_meet_in_a_conversation() -> None:
    class Other:
        def opening(self, rng: random.Random) -> argparse.Namespace:
            return argparse.Namespace(question="what is one plus one", answer="two")

    reading, rng = Reading(GERMAN, tokenizer(), Other()), random.Random(0)
    turns = [reading.turn(rng) for _ in range(1000)]
    assert 130 < sum(question != "two" and answer == "two" for question, answer in turns) < 230
    assert sum(question in ONES for question, _ in turns) > 80  # alone, and answered in their own language
    ids, _ = reading.batch(rng, 60)
    unk = reading.tokenizer.unk_token_id
    assert (ids != unk).all()


def test_fewer_minutes_are_the_beginning_of_more() -> None:
    rows = [{"split": split, "samples": 24_000 * 6} for split in ["test_voice", *["train", "unknown"] * 30]]
    assert len(first_minutes(rows, 1)) == 10 and first_minutes(rows, 3)[:10] == first_minutes(rows, 1)
    assert len(first_minutes(rows, 99)) == 60


def test_sounds_become_phones_with_ends() -> None:
    assert GERMAN.phones("tsvœlf") == ["t", "s", "v", "oe", "l", "f"]
    assert GERMAN.phones("ˈaɪ̯nʊnt") == ["ay", "n", "uh", "n", "t"]
    with pytest.raises(ValueError, match="'ʘ'"):
        GERMAN.phones("ʘ")
    sounds = [("ts", 0.1), ("v", 0.3), ("", 0.4), ("œ", 0.4), ("", 0.5), ("", 0.6)]
    items = make_language_speech.timed_phones(GERMAN, sounds, 0.6)
    assert items == ["pau:0.100", "t:0.200", "s:0.300", "v:0.400", "oe:0.500", "pau:0.600"]
    assert set(LIKE_PHONES) == set(ADDED_PHONES)
    assert {q for qs in LIKE_PHONES.values() for q in qs.split()} <= set(PHONES)


def test_the_synthesizer_gives_times_and_pronunciations() -> None:
    espeak_times = pytest.importorskip("espeak_times")
    try:
        samples, rate, sounds = espeak_times.speak("was ist fünf", "de")
    except MissingExtraError as error:
        pytest.skip(f"no libespeak-ng: {error}")
    starts = [start for _, start in sounds]
    assert len(samples) > rate / 2 and starts == sorted(starts) and starts[-1] <= len(samples) / rate + 0.02
    row, made = make_language_speech.record(
        {"language": "german", "voice": "de", "said": "elf", "seed": 1, "text": "elf"}
    )
    assert made is not None and [p.split(":")[0] for p in row["phones"] if not p.startswith("pau")] == [
        "eh",
        "l",
        "f",
    ]
    lines = dict(line.split(" ", 1) for line in make_language_speech.lexicon(GERMAN).splitlines())
    assert lines["funf"] == "f ue n f" and set(GERMAN.vocabulary()) <= set(lines)


@EVERY
def test_all_that_is_said_has_phones(language: Language) -> None:
    try:
        lines = dict(line.split(" ", 1) for line in make_language_speech.lexicon(language).splitlines())
    except MissingExtraError as error:
        pytest.skip(f"no libespeak-ng: {error}")
    assert set(language.vocabulary()) <= set(lines)
    for item in random.Random(0).sample(
        language.items(), 120
    ):  # whole questions have sounds that words alone do not
        job = {"language": language.name, "voice": language.speaker, "said": item.question, "seed": 1}
        assert make_language_speech.record(job)[0]["phones"]


def tokenizer():
    return language_tokenizer(build(), GERMAN)


def test_typed_questions_know_no_held_out_fact_and_no_unknown_word() -> None:
    reading = Reading(GERMAN, tokenizer())
    facts = GERMAN.held_out_facts()
    withheld = {GERMAN.words_of(i.question) for i in GERMAN.items() if i.fact in facts}
    rng = random.Random(0)
    assert not {reading.turn(rng)[0] for _ in range(3000)} & withheld
    ids, labels = reading.batch(rng, 40)
    assert (ids != reading.tokenizer.unk_token_id).all() and ids.shape == labels.shape
    assert ((labels == ids) | (labels == -100)).all() and (labels != -100).sum() > 40 * 4


def test_the_tokenizer_keeps_its_ids() -> None:
    first, more = build(), tokenizer()
    assert {k: more.get_vocab()[k] for k in first.get_vocab()} == first.get_vocab()
    assert more.tokenize("Fünf weiß <|ph_ue|>") == ["funf", "weiss", "<|ph_ue|>"]
    assert {w for w in GERMAN.vocabulary() if w in vocabulary()} >= {"plus", "minus", "hat"}


def test_text_is_written_with_accents_and_read_with_or_without(tmp_path: Path) -> None:
    both = language_tokenizer(tokenizer(), SPANISH)
    both.save_pretrained(tmp_path)
    both = AutoTokenizer.from_pretrained(tmp_path)
    for language in (GERMAN, SPANISH):
        for item in language.items():
            folded = language.words_of(item.question)
            ids = both(item.question)["input_ids"]
            assert ids == both(folded)["input_ids"] and both.unk_token_id not in ids
            if language is GERMAN:
                assert both.decode(ids) == item.question
    text = "was ist funf plus zwolf"
    ids = [both.convert_tokens_to_ids("<|user|>"), *both(text)["input_ids"]]
    assert both.decode(ids) == "<|user|> was ist fünf plus zwölf"
    assert both.decode(ids, skip_special_tokens=True) == "was ist fünf plus zwölf"
    assert both.decode(ids[:1], skip_special_tokens=True) == "" == both.decode([])
    assert build().decode(build()("what is a cat")["input_ids"]) == "what is a cat"


def test_the_stop_rule_cools_down_where_the_loss_no_longer_falls_or_time_is_up() -> None:
    rule = StopRule(100, 20, 0.02, 2)
    for step, loss in ((10, 5.0), (20, 4.0), (30, 4.5), (40, 3.95)):
        assert rule.end == 100 and rule.rate(step) == 1.0
        rule.check(step, loss)
    assert rule.end == 60 and [rule.rate(s) for s in (40, 50, 59)] == [1.0, 0.5, 0.05]
    rule.check(50, 1.0)  # too late: it is cooling
    half = StopRule(100, 20, 0.02, 2)
    half.load(rule.state())
    assert (half.end, half.best, half.bad) == (rule.end, rule.best, rule.bad) == (60, 1.0, 0)
    patient = StopRule(100, 20, 0.02, 2)
    for step in range(10, 100, 10):
        patient.check(step, 100.0 / step)
    assert patient.end == 100 and patient.rate(79) == 1.0 and patient.rate(90) == 0.5


class Tiny(Lesson):
    """A lesson of a small matrix, interrupted at step ``last``."""

    last = 0

    def __init__(self, args: argparse.Namespace) -> None:
        torch.manual_seed(0)
        self.args, self.model = args, nn.Linear(4, 4)  # type: ignore[assignment]
        self.hearing = argparse.Namespace(minutes=1.0)  # type: ignore[assignment]

    def step(self, step: int) -> dict[str, float]:
        if step == self.last:
            raise KeyboardInterrupt
        x = torch.randn(3, 4, generator=torch.Generator().manual_seed(step))
        return {"x": self._learn(((self.model(x) - 1) ** 2).mean())}

    def valid_loss(self) -> float:
        return float(self.model.weight.detach().norm())


def test_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(add_language, "WARM_STEPS", 2)

    def run(name: str, *steps: int) -> dict[str, torch.Tensor]:
        for count in steps:
            out = tmp_path / name
            out.mkdir(exist_ok=True)
            monkeypatch.setattr(Tiny, "last", count)
            lesson = Tiny(
                argparse.Namespace(out=out, steps=12, cool=4, check_every=2, seed=0, learning_rate=6e-4)
            )
            with contextlib.suppress(KeyboardInterrupt):
                lesson.run()
        assert json.loads((out / "training.json").read_text())["minutes"] == 1.0
        return lesson.model.state_dict()

    whole, parts = run("whole", 12), run("parts", 5, 9, 12)
    assert all(torch.equal(whole[k], parts[k]) for k in whole)


def test_measuring_counts_typed_answers() -> None:
    class Model:
        def chat(self, text: str):
            right = {i.question: i.answer for i in GERMAN.items()}
            return argparse.Namespace(text=GERMAN.words_of(right[text]).capitalize() + ".")

    assert [figure.value for figure in typed(Model(), GERMAN, 40)] == [1.0, 1.0]


def test_the_plot_reads_words_right_from_word_errors(tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text('{"minutes": 8.0}')
    name = "word error of the new voice, by the judge"
    (tmp_path / "german.json").write_text(
        json.dumps([{"name": name, "value": 0.25, "low": 0.125, "high": 1.5}])
    )
    assert read(tmp_path) == (8.0, {name: (0.75, 0.0, 0.875)})


def test_the_table_has_the_old_language_below_the_new(tmp_path: Path) -> None:
    figure = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 4}
    (tmp_path / "training.json").write_text('{"minutes": 8.01, "steps": 20}')
    (tmp_path / "german.json").write_text(json.dumps([{"name": "typed", **figure}]))
    old = {"figures": [{"test": "facts", "name": "typed, trained", **figure}]}
    (tmp_path / "english.json").write_text(json.dumps(old))
    lines = table([tmp_path], tmp_path / "english.json").splitlines()
    assert lines[0] == "| figure | before | 8 min, 20 steps |"
    assert lines[2] == "| typed |  | 50.0 (25.0 to 75.0), n 4 |"
    assert "| facts: typed, trained | 50.0 (25.0 to 75.0), n 4 | 50.0 (25.0 to 75.0), n 4 |" in lines


def test_a_folder_without_the_language_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"make_language_speech.py --language german --out"):
        LanguageHearing(tmp_path, 1.0, GERMAN, tokenizer())
