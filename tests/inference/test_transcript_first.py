"""Models that write what they heard before they answer: gate, refusal, history, aligned speech."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.inference import tiny

from vivavoce.base.errors import ConfigError
from vivavoce.inference import turn as turn_module
from vivavoce.inference.collect import collect
from vivavoce.inference.session import Session
from vivavoce.models.config import EmbeddingsIn

REFUSAL = "Sorry, I did not understand."


class Scripted:
    """A sampler that draws given words one after the other."""

    words: tuple[str, ...] = ()

    def __init__(self, options):
        self.options, self.left = options, list(type(self).words)

    def __call__(self, logits, seen, allowed=None):
        token = TOKENIZER.convert_tokens_to_ids(self.left.pop(0) if self.left else "<|end|>")
        assert allowed is None or allowed[token]
        return token


TOKENIZER = tiny.word_tokenizer()


def scripted(monkeypatch, words, second=None, **options):
    """An assistant that writes ``words``, and whose recogniser reads ``second``."""
    monkeypatch.setattr(Scripted, "words", tuple(words.split()))
    monkeypatch.setattr(turn_module, "Sampler", Scripted)
    assistant = tiny.transcript_first(**options)
    if second is not None:
        ids = [TOKENIZER.convert_tokens_to_ids(w) for w in second.split()]
        monkeypatch.setattr(
            assistant.model.audio_encoder, "greedy_tokens", lambda states, frames: [ids] * len(frames)
        )
    return assistant


SAID = "what is one plus two <|assistant|> three <|end|>"


def test_transcript_then_answer(monkeypatch):
    assistant = scripted(monkeypatch, SAID, "what is one plus two")
    reply = assistant.chat([tiny.user(tiny.clip())])
    assert (reply.transcript, reply.text, reply.understood) == ("what is one plus two", "three", True)
    deltas = list(assistant.stream([tiny.user(tiny.clip())]))
    assert "".join(d.transcript for d in deltas).split() == "what is one plus two".split()
    assert "".join(d.text for d in deltas).strip() == "three"
    assert not any(d.transcript for d in deltas[deltas.index(next(d for d in deltas if d.text)) :])
    heard = assistant.transcribe(tiny.clip())
    assert (heard.text, heard.understood, heard.seconds) == ("what is one plus two", True, 0.5)


@pytest.mark.parametrize(
    ("words", "second", "gate", "understood"),
    [
        (SAID, "what is one plus two", "ctc", True),
        (SAID, "what is one plus three", "ctc", False),
        (SAID, "what is one plus", "ctc", False),
        (SAID, "", "ctc", False),
        (SAID, "what is one plus three", None, True),
        ("<|unclear|> <|end|>", "<|unclear|>", "ctc", False),
        ("<|unclear|> <|assistant|> three <|end|>", None, None, False),
        ("<|assistant|> three <|end|>", "", "ctc", False),
        ("what is one <|end|>", "what is one", "ctc", False),
    ],
)
def test_only_what_both_heard_is_answered(monkeypatch, words, second, gate, understood):
    assistant = scripted(monkeypatch, words, second, gate=gate)
    reply = assistant.chat([tiny.user(tiny.clip())])
    assert reply.understood == understood
    assert reply.text == ("three" if understood else REFUSAL)
    assert "unclear" not in reply.transcript
    assert assistant.transcribe(tiny.clip()).understood == understood


def test_the_gate_reads_the_last_clip(monkeypatch):
    assistant = scripted(monkeypatch, SAID)
    ids = [TOKENIZER.convert_tokens_to_ids(w) for w in "what is one plus two".split()]
    monkeypatch.setattr(
        assistant.model.audio_encoder, "greedy_tokens", lambda s, frames: [[1]] * (len(frames) - 1) + [ids]
    )
    earlier = tiny.user({**tiny.clip(seed=1), "transcript": "yes"})
    reply = assistant.chat([earlier, {"role": "assistant", "content": "no"}, tiny.user(tiny.clip())])
    assert reply.understood and reply.text == "three"


def test_prompts_have_the_trained_form(monkeypatch):
    assistant = tiny.transcript_first()
    prepare = assistant.processor.prepare

    def prompt(messages):
        made = prepare(messages)
        text = TOKENIZER.decode(made["input_ids"], skip_special_tokens=False)
        placeholders = text.count("<|audio|>")
        return " ".join(text.replace("<|audio|>", "").split()), placeholders, made

    typed, count, _ = prompt([tiny.user("What is 1 plus 2?")])
    assert typed == "<|user|> <|heard|> what is one plus two <|assistant|>" and count == 0
    spoken, count, made = prompt([tiny.user(tiny.clip(0.5))])
    assert spoken == "<|user|> <|heard|>"
    assert count == assistant.processor.clip_reader.num_embeddings(made["feature_lengths"])[0] == 7
    history = [
        tiny.user({**tiny.clip(0.5), "transcript": "one plus two"}),
        {"role": "assistant", "content": "3"},
        tiny.user(tiny.clip(0.25)),
    ]
    text, count, _ = prompt(history)
    assert text == "<|user|> <|heard|> one plus two <|assistant|> three <|end|> <|user|> <|heard|>"
    assert count == 7 + 4


def test_history_without_transcripts_is_listened_to_again(monkeypatch):
    assistant = scripted(monkeypatch, SAID, "what is one plus two")
    seen = []
    prepare = assistant.processor.prepare
    monkeypatch.setattr(
        assistant.processor, "prepare", lambda m, **more: seen.append(m) or prepare(m, **more)
    )
    history = [
        tiny.user(tiny.clip(seed=1)),
        {"role": "assistant", "content": "three"},
        tiny.user(tiny.clip()),
    ]
    assistant.chat(history)
    assert seen[-1][0]["content"][0]["transcript"] == "what is one plus two"
    assert "transcript" not in history[0]["content"][0]
    # what was not understood is left out, with its answer
    assistant = scripted(monkeypatch, "<|unclear|> <|end|>", "")
    monkeypatch.setattr(
        assistant.processor, "prepare", lambda m, **more: seen.append(m) or prepare(m, **more)
    )
    assistant.chat(history)
    assert [m["role"] for m in seen[-1]] == ["user"]
    # a transcript beside the last clip is not peeked at
    assistant.chat([tiny.user({**tiny.clip(), "transcript": "one"})])
    assert "transcript" not in seen[-1][0]["content"][0]


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("answer_from", ["transcript", "audio"])
def test_an_answer_from_the_transcript_is_that_of_the_typed_question(monkeypatch, earlier, answer_from):
    question, ids = "what is two plus two", TOKENIZER("what is two plus two")["input_ids"]

    def read(turn):
        turn.transcript_ids, turn._ended_by = list(ids), turn._answer_id
        turn._logits = turn._decoding.feed(ids)
        yield question

    monkeypatch.setattr(turn_module.Turn, "transcript", read)
    assistant, same = tiny.transcript_first(gate=None, answer_from=answer_from), []
    for seed in range(4):
        draw = {"temperature": 1.0, "seed": seed, "max_new_tokens": 30}
        said = [{**tiny.clip(seed=seed), "transcript": "one plus two"}]
        before = [tiny.user(*said), {"role": "assistant", "content": "three"}] if earlier else []
        typed_before = [tiny.user("one plus two"), *before[1:]] if earlier else []
        spoken = assistant.chat([*before, tiny.user(tiny.clip(seed=9))], **draw)
        typed = assistant.chat([*typed_before, tiny.user(question)], **draw)
        assert spoken.transcript == question
        same.append(spoken.text == typed.text)
    assert all(same) is (answer_from == "transcript")


def test_a_session_answers_from_transcripts_as_chat_does(monkeypatch):
    said = iter(["what is two plus two", "what is one", "yes", "no"] * 2)

    def read(turn):
        text = next(said)
        ids = TOKENIZER(text)["input_ids"]
        turn.transcript_ids, turn._ended_by = list(ids), turn._answer_id
        turn._logits = turn._decoding.feed(ids)
        yield text

    monkeypatch.setattr(turn_module.Turn, "transcript", read)
    assistant = tiny.transcript_first(gate=None, answer_from="transcript")
    draw = {"temperature": 1.0, "seed": 3, "max_new_tokens": 12}
    session, answers = Session(assistant, **draw), []
    for seed in range(4):
        part = tiny.clip(seed=seed)
        session.feed_audio(part["audio"], part["sampling_rate"])
        answers.append(collect(session.respond()))
    assert [m["role"] for m in session.messages] == ["user", "assistant"] * 4
    for turn, answer in enumerate(answers):
        wanted = assistant.chat(session.messages[: 2 * turn + 1], **draw)
        assert (wanted.text, wanted.transcript) == (answer.text, answer.transcript)
    assert len({answer.text for answer in answers}) > 1


def test_answers_from_transcripts_need_transcripts():
    side = {"encoder": {"type": "x"}, "connector": {"type": "y"}, "audio_token_id": 1}
    with pytest.raises(ConfigError, match="needs transcript_first"):
        EmbeddingsIn(**side, answer_from="transcript")
    with pytest.raises(ConfigError, match="wanted 'audio' or 'transcript'"):
        EmbeddingsIn(**side, transcript_first=True, answer_from="words")


@pytest.mark.parametrize("text", ["what is a banana", "xyzzy", "...", ""])
def test_typed_words_outside_the_vocabulary_are_refused(text):
    assistant = tiny.transcript_first()
    reply = assistant.chat(text)
    assert (reply.text, reply.understood, reply.transcript) == (REFUSAL, False, "")


def test_a_recording_and_typed_words_in_one_turn_are_refused():
    assistant = tiny.transcript_first()
    with pytest.raises(ConfigError, match="not both"):
        assistant.chat([tiny.user("what is", tiny.clip())])
    assert assistant.chat([tiny.user("", tiny.clip())], max_new_tokens=5).text


def test_typed_questions_are_answered(monkeypatch):
    assistant = scripted(monkeypatch, "three <|end|>")
    reply = assistant.chat("What is ONE plus two?")
    assert (reply.text, reply.understood, reply.transcript) == ("three", True, "")


@pytest.mark.parametrize("text", ["what is one", "hi", ""])
def test_a_system_message_that_the_template_drops_is_refused(text):
    from vivavoce.base.errors import ModelError

    assistant = tiny.transcript_first()
    with pytest.raises(ModelError, match=r"no place for message 0 \(system\)"):
        assistant.chat([{"role": "system", "content": "be nice"}, tiny.user(text)])


@pytest.mark.parametrize("alignment", ["phone", "word"])
def test_answers_are_spoken_word_by_word(monkeypatch, alignment):
    answer = "yes one two three"
    assistant = scripted(monkeypatch, f"{answer} <|end|>", alignment=alignment)
    reply = assistant.chat("what is one", audio=True)
    assert reply.text == answer
    assert [w for w, _, _ in reply.words] == answer.split()
    assert reply.words[0][1] == 0 and all(
        a[2] == b[1] for a, b in zip(reply.words, reply.words[1:], strict=False)
    )
    assert len(reply.audio) == round(reply.words[-1][2] * reply.sample_rate)
    same = assistant.say(answer)
    assert np.array_equal(same.audio, reply.audio) and same.words == reply.words
    streamed = collect(assistant.stream("what is one", audio=True), reply.sample_rate)
    assert np.array_equal(streamed.audio, reply.audio) and streamed.words == reply.words


def test_speech_starts_before_the_text_ends(monkeypatch):
    monkeypatch.setattr(Scripted, "__call__", Scripted.__call__)
    assistant = scripted(monkeypatch, " ".join(["yes one two three"] * 6) + " <|end|>")
    kinds = []
    for delta in assistant.stream("what is one", audio=True):
        kinds += ["text"] * bool(delta.text.strip()) + ["word"] * bool(delta.word)
    first = kinds.index("word")
    assert first <= 4  # two words and the beginning of a third are enough
    assert "text" in kinds[first:]
    assert kinds.count("text") == kinds.count("word") == 24


def test_refusals_are_spoken_too():
    assistant = tiny.transcript_first()
    reply = assistant.chat("xyzzy", audio=True)
    assert [w for w, _, _ in reply.words] == "sorry i did not understand".split()
    assert len(reply.audio) > 0 and not reply.understood
    with pytest.raises(ConfigError, match="unknown voice"):
        assistant.say("yes", voice="tara")
    assert len(assistant.say("yes", voice="default").audio) > 0


def test_real_draws_are_deterministic_and_hear_the_clip():
    assistant = tiny.transcript_first(gate=None)
    first = assistant.transcribe(tiny.clip(seed=1), max_new_tokens=12)
    assert first.text == assistant.transcribe(tiny.clip(seed=1), max_new_tokens=12).text
    others = {assistant.transcribe(tiny.clip(seed=s), max_new_tokens=12).text for s in range(2, 8)}
    assert others != {first.text}
    with torch.no_grad():
        assistant.model.connector.linear_2.weight.zero_()
    deaf = {assistant.transcribe(tiny.clip(seed=s), max_new_tokens=12).text for s in range(2, 8)}
    assert len(deaf) == 1
