"""Answers end with what they were made of: why they ended, token counts, log probabilities."""

from __future__ import annotations

import pytest
import torch
from tests.inference import tiny
from tests.inference.talks import feed, made, noise

from vivavoce.base.errors import ConfigError
from vivavoce.inference.session import Session
from vivavoce.inference.text_stream import TextStream

FREE = {"temperature": 1.5, "seed": 3, "max_new_tokens": 12}


def drawn_by(assistant, monkeypatch):
    """The ids that runs return, as they are drawn."""
    from vivavoce.inference.generate import TokenRun

    ids, plain = [], TokenRun.__iter__

    def noted(self):
        for token in plain(self):
            ids.append(token)
            yield token

    monkeypatch.setattr(TokenRun, "__iter__", noted)
    return ids


@pytest.mark.parametrize("name", ["tokens->text", "embeddings->text", "by blocks"])
def test_counts_are_those_of_prompt_and_draws(name, monkeypatch):
    assistant = made(name)
    ids = drawn_by(assistant, monkeypatch)
    messages = [tiny.user("Say ", {"type": "audio", "audio": noise(0.6, 16_000, 1), "sampling_rate": 16_000})]
    deltas = list(assistant.stream(messages, **FREE))
    assert [d.finish is None for d in deltas] == [True] * (len(deltas) - 1) + [False]
    finish, prompt = deltas[-1].finish, assistant.processor.prepare(messages)["input_ids"]
    assert finish.text_tokens == len(ids) > 0 and finish.audio_tokens == 0
    assert finish.prompt_text_tokens + finish.prompt_audio_tokens == len(prompt)
    assert finish.prompt_audio_tokens > 3
    assert finish.reason == ("length" if len(ids) == 12 else "stop")
    assert finish.logprobs == () and all(d.logprobs == () for d in deltas)
    assert assistant.chat(messages, **FREE).finish == finish


def end_text_at_once(assistant):
    end = assistant.processor.tokenizer.eos_token_id
    plain = assistant.model.language_model.lm_head.forward

    def ends(hidden):
        logits = plain(hidden)
        logits[..., end] += 1e4
        return logits

    assistant.model.language_model.lm_head.forward = ends


def test_why_it_ended():
    assistant = tiny.tokens_to_text()
    whole = assistant.chat("hi", **FREE)
    assert (whole.finish.reason, whole.finish.text_tokens) == ("length", 12)
    end_text_at_once(assistant)
    assert (assistant.chat("hi", **FREE).finish.reason, assistant.chat("hi", **FREE).text) == ("stop", "")
    del assistant.model.language_model.lm_head.forward
    letters = [c for c in whole.text if c.isascii() and c.isalnum()]
    stopped = assistant.chat("hi", stop=[letters[0]], **FREE)
    assert stopped.finish.reason == "stop" and stopped.finish.text_tokens < 12
    last = assistant.chat("hi", stop=[whole.text[-1]], **FREE)  # the stop string comes with the last token
    assert last.finish.reason == "stop" or last.text == whole.text


def test_audio_is_counted_and_a_full_limit_told():
    assistant = tiny.tokens_to_tokens()
    codec = assistant.processor.codec_out.spec
    end_text_at_once(assistant)
    cut = assistant.chat("hi", audio=True, **{**FREE, "max_new_tokens": 40})
    assert cut.finish.reason == "length"
    assert cut.finish.audio_tokens == len(cut.audio) // codec.frame_samples * codec.codes_per_frame > 0
    reader, reasons = tiny.text_to_tokens(), set()
    for seed in range(12):
        said = reader.say("hi", max_new_tokens=30, seed=seed).finish
        reasons.add(said.reason)
        assert said.reason == ("length" if said.audio_tokens == 28 else "stop")
        assert said.prompt_text_tokens > 4 and said.text_tokens == 0
    assert len(reasons) == 2


def test_a_refusal_is_told_and_its_speech_counted():
    assistant = tiny.transcript_first()
    refused = assistant.chat("xylophone", audio=True)
    codec = assistant.processor.codec_out.spec
    assert refused.finish.reason == "refusal"
    assert (
        refused.finish.audio_tokens == len(refused.audio) // codec.frame_samples * codec.codes_per_frame > 0
    )
    assert (refused.finish.text_tokens, refused.finish.prompt_text_tokens) == (0, 0)


def test_log_probabilities_are_the_models_own():
    assistant = tiny.tokens_to_text()
    options = {**FREE, "top_k": 5, "min_p": 0.01, "repetition_penalty": 1.3}
    plain = assistant.chat("hi", **options)
    deltas = list(assistant.stream("hi", logprobs=True, top_logprobs=3, **options))
    finish = deltas[-1].finish
    assert "".join(d.text for d in deltas).strip() == plain.text, "asking changes the answer"
    assert tuple(entry for d in deltas for entry in d.logprobs) == finish.logprobs
    drawn = [entry.token_id for entry in finish.logprobs]
    assert len(drawn) == finish.text_tokens
    prompt = assistant.processor.prepare([{"role": "user", "content": "hi"}])["input_ids"]
    with torch.inference_mode():
        logits = assistant.model.language_model(torch.tensor([prompt + drawn])).logits[
            0, len(prompt) - 1 : -1
        ]
    wanted = logits.float().log_softmax(-1)
    for entry, row in zip(finish.logprobs, wanted, strict=True):
        assert entry.logprob == pytest.approx(float(row[entry.token_id]), abs=1e-4)
        best = row.topk(3)
        assert [i for i, _ in entry.top] == best.indices.tolist()
        assert [p for _, p in entry.top] == pytest.approx(best.values.tolist(), abs=1e-4)
    text = TextStream(assistant.processor.tokenizer)
    for delta in deltas:  # each delta has the tokens its text ends with
        assert not delta.text or "".join(text.push(e.token_id) for e in delta.logprobs).endswith(
            delta.text[-1]
        )
    assert all(not e.top for e in assistant.chat("hi", logprobs=True, **options).finish.logprobs)
    for wrong in ({"top_logprobs": 3}, {"logprobs": True, "top_logprobs": 21}, {"logprobs": 1}):
        with pytest.raises(ConfigError, match="logprobs"):
            assistant.chat("hi", **wrong)


def test_a_session_tells_the_same_and_interruptions_too():
    assistant = made("tokens->text")
    session = Session(assistant, **FREE)
    assert session.finish is None
    feed(session, noise(0.5, 16_000, 2), 16_000, [0.4])
    deltas = list(session.respond(logprobs=True))
    assert session.finish == deltas[-1].finish and session.finish.logprobs
    whole = assistant.chat(session.messages[:-1], **FREE).finish
    assert session.finish.text_tokens == whole.text_tokens and session.finish.reason == whole.reason
    assert session.finish.prompt_audio_tokens == whole.prompt_audio_tokens
    session.feed_text("go on")
    answer = session.respond(max_new_tokens=100)
    next(answer)
    session.interrupt()
    assert session.finish.reason == "interrupted" and 0 < session.finish.text_tokens < 100
    assert session.finish.logprobs == (), "options of one answer do not stay"
    with pytest.raises(ConfigError, match="temprature"):
        session.respond(temprature=1)
