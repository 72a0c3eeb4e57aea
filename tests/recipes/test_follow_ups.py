"""Questions about what was said before, answers in full sentences, and vocabularies that grow."""

from __future__ import annotations

import random
import re

import pytest
import torch
from domain import DAYS, MONTHS, all_items, held_out_facts, number, vocabulary
from follow_ups import (
    LARGEST,
    UNKNOWN,
    VALUES,
    Turn,
    added_words,
    draw_told,
    follow_up_questions,
    held_out_follow_ups,
    held_out_steps,
    needs_before,
    opening,
    reply,
)
from full_sentences import held_out_sentence_questions, sentence_items
from growing import BIAS, HEAD, NOISE, TABLES, grow_phones, grow_tokens
from make_tokenizer import build
from reading import TURNS, Conversations
from torch import nn

TALKS = [
    (["what is seven plus five", "and times two", "and minus four"], ["twelve", "twenty four", "twenty"]),
    (["tell me seven plus five", "times two"], ["seven plus five is twelve", "twenty four"]),
    (["how many days are in may", "what about june", "and february"], ["thirty one", "thirty", "twenty eight"]),
    (["tell me the capital of cuba", "and italy"], ["the capital of cuba is havana", "the capital of italy is rome"]),
    (["what color is milk in a sentence", "what about grass"], ["milk is white", "grass is green"]),
    (["what is the opposite of hot", "and the opposite"], ["cold", "hot"]),
    (["what color is grass", "how do you spell that"], ["green", "g r e e n"]),
    (["what day comes after monday", "and after that", "and before that"], ["tuesday", "wednesday", "tuesday"]),
    (["what month comes after december", "and before that"], ["january", "december"]),
    (["hello", "thank you", "what was my first question"], ["hello", "you are welcome", "hello"]),
    (["my name is anna", "what is four plus four", "what is my name"], ["hello anna", "eight", "your name is anna"]),
    (["remember the number six", "what was the number"], ["i will remember six", "the number was six"]),
    (["what is six plus six", "thank you", "and half of that"], ["twelve", "you are welcome", "six"]),
    (["how many legs does a dog have", "in a sentence"], ["four", "a dog has four legs"]),
    (["what is nine plus one", "say that again"], ["ten", "ten"]),
]  # fmt: skip


@pytest.mark.parametrize(("questions", "answers"), TALKS)
def test_conversations_by_hand(questions: list[str], answers: list[str]) -> None:
    turns: list[Turn] = []
    for question in questions:
        turn = reply(turns, question) if needs_before(question) else opening(question)
        assert turn is not None, question
        turns.append(turn)
    assert [turn.answer for turn in turns] == answers


def test_what_does_not_follow_is_not_answered() -> None:
    assert reply([], "and times two") is None
    hello = [opening("hello")]
    assert reply(hello, "and times two") is None and reply(hello, "what about june") is None
    assert reply([opening("what is ten times ten")], "and plus one") is None  # more than it says
    assert reply([opening("what is one plus one")], "and minus three") is None
    assert reply([opening("what is one plus two")], "and half of that") is None
    assert reply(hello, "what is my name") is None


@pytest.fixture(scope="module")
def reading() -> Conversations:
    return Conversations(build(added_words()))


def test_drawn_conversations_are_right_and_hold_nothing_out_of_sight(reading: Conversations) -> None:
    unseen = held_out_facts(all_items())
    rng, lengths, steps = random.Random(0), set(), 0
    for _ in range(1500):
        turns = reading.conversation(rng, rng.choice(TURNS))
        lengths.add(len(turns))
        assert not {t.fact for t in turns} & (unseen | held_out_steps())
        for i, turn in enumerate(turns):
            assert turn.answer and reading.tokenizer.unk_token_id not in reading.ids(
                f"{turn.question} {turn.answer}"
            )
            found = re.fullmatch(r"(?:and )?(plus|minus|times) (.+)", turn.question)
            if not found or turn.answer == UNKNOWN:
                continue
            values = [VALUES[w] for t in turns[:i] if (w := t.answer.split(" is ")[-1]) in VALUES]
            if values and turns[i - 1].value is not None:
                a, b = turns[i - 1].value, VALUES[found[2]]
                wanted = {"plus": a + b, "minus": a - b, "times": a * b}[found[1]]
                assert turn.answer == number(wanted) and 0 <= wanted <= LARGEST
                steps += 1
    assert lengths == {1, 2, 3, 4, 5, 6} and steps > 100


def test_every_follow_up_finds_a_conversation_before_it(reading: Conversations) -> None:
    rng, alone = random.Random(1), 0
    questions = follow_up_questions()
    for question in questions:
        turns = reading.before(rng, question)
        assert turns[-1].question == question and len(turns) <= 6
        alone += turns[-1].answer == UNKNOWN
    assert alone <= len(questions) // 100


def test_what_comes_before_a_recording_gives_a_follow_up_its_ground(reading: Conversations) -> None:
    rng, end = random.Random(2), reading.end
    for _ in range(300):
        ids = reading.history(rng, "and times two")
        assert ids and ids[0] == reading.user and ids[-1] == end
        assert ids.count(reading.user) == ids.count(reading.heard) == ids.count(end)
    assert any(not reading.history(rng, "what is two plus three") for _ in range(20))
    assert reading.history(random.Random(5), "") == reading.history(random.Random(5), "")


def test_short_answers_stay_short_and_sentences_hold_them() -> None:
    short = {item.question: item.answer for item in all_items()}
    for item in sentence_items():
        assert item.question not in short and len(item.answer.split()) >= 3
        base = short.get(item.question.removesuffix(" in a sentence"))
        assert base is None or set(base.split()) <= set(item.answer.split())
    by_fact = {item.question: item.fact for item in sentence_items()}
    assert (
        by_fact["tell me seven plus five"]
        == by_fact["what is seven plus five in a sentence"]
        == "seven plus five"
    )
    full = {item.question: item.answer for item in sentence_items()}
    assert full["tell me how many days are in june"] == "june has thirty days"
    assert full["tell me which is bigger two or five"] == "five is bigger than two"
    assert full["tell me how to spell cat"] == "cat is spelled c a t"


def test_held_out_follow_ups_use_words_that_are_heard_elsewhere() -> None:
    kept = held_out_follow_ups()
    heard = {word for q in follow_up_questions() if q not in kept for word in q.split()}
    heard |= {word for item in sentence_items() if item.question not in held_out_sentence_questions()
              for word in item.question.split()}  # fmt: skip
    heard |= set(vocabulary())
    assert len(kept) > 20 and not {w for q in kept for w in q.split()} - heard


@pytest.mark.parametrize("name", ["plan_more", "plan_wide"])
def test_the_new_speech_has_no_held_out_text(name: str) -> None:
    pytest.importorskip("pocketsphinx")
    import speech_plans
    from speech_plans import HELD_OUT_VOICES

    jobs = getattr(speech_plans, name)(0.3)
    unseen = held_out_facts(all_items())
    withheld = held_out_follow_ups() | held_out_sentence_questions()
    withheld |= {i.question for i in (*sentence_items(), *all_items()) if i.fact in unseen}
    train = [job for job in jobs if job["split"] == "train"]
    assert not {job["text"] for job in train} & withheld and not {job["voice"] for job in train} & set(
        HELD_OUT_VOICES
    )
    assert train and {job["kind"] for job in train if not job["answer"]} == {"follow"}
    assert {job["split"] for job in jobs if job.get("wide")} == (
        {"train", "unknown"} if name == "plan_wide" else set()
    )
    assert {word for job in jobs for word in job["text"].split()} > set(MONTHS) | set(DAYS) | {"anna", "that"}


def test_the_tokenizer_only_grows() -> None:
    first, second = build(), build(added_words())
    assert len(first) == 423 and {k: second.get_vocab()[k] for k in first.get_vocab()} == first.get_vocab()
    assert second.chat_template == first.chat_template
    assert second.convert_tokens_to_ids("<|unclear|>") == first.convert_tokens_to_ids("<|unclear|>")
    more = build([*added_words(), "<|ph_ue|>", "drei"])
    assert more.tokenize("<|ph_ue|> Drei!") == ["<|ph_ue|>", "drei"]


def test_grown_weights_keep_what_they_had_and_say_nothing_new_at_first() -> None:
    torch.manual_seed(0)
    weights = {name: torch.randn(12, 8) for name in TABLES} | {BIAS: torch.randn(12)}
    weights[HEAD] = weights[TABLES[0]]
    grown = grow_tokens(weights, 15, [[3], [], [4, 5]])
    for name in (*TABLES, HEAD, BIAS):
        assert torch.equal(grown[name][:12], weights[name]) and len(grown[name]) == 15
    assert torch.equal(grown[HEAD], grown[TABLES[0]]) and (grown[BIAS][12:] < weights[BIAS][1:].mean()).all()
    table = weights[TABLES[0]]
    spread = 4 * NOISE * table.std(0)
    assert ((grown[TABLES[0]][12] - table[3]).abs() < spread).all()
    assert ((grown[TABLES[0]][14] - table[4:6].mean(0)).abs() < spread).all()
    assert torch.equal(grow_tokens(weights, 12)[TABLES[1]], weights[TABLES[1]])
    with pytest.raises(ValueError, match="12 tokens, the tokenizer 3"):
        grow_tokens(weights, 3)
    voice = {f"voice.phone_embeddings.{i}.weight": nn.Embedding(6, 4).weight.detach() for i in range(3)}
    voice["voice.durations.phone.weight"] = torch.randn(6, 4)
    more = grow_phones(voice, 7, [[1], [2, 3]])
    assert all(torch.equal(more[k][:6], voice[k]) and len(more[k]) == 8 for k in voice)


def test_told_things_are_drawn_evenly_enough() -> None:
    rng = random.Random(0)
    assert {draw_told(rng).question.split()[1] for _ in range(60)} == {"name", "favorite", "the"}
