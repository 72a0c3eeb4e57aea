"""Chat through OpenAI's client gives what the assistant gives."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import openai
import pytest
import soundfile
from tests.serving.live import Live

from vivavoce.inference.assistant import Assistant
from vivavoce.serving.encoding import pcm16

ASKED = [{"role": "user", "content": "what is nine plus four"}]
SPOKEN = {"modalities": ["text", "audio"], "audio": {"voice": "default", "format": "wav"}}


def recorded(data: bytes) -> list[Any]:
    clip = {"data": base64.b64encode(data).decode(), "format": "wav"}
    return [{"role": "user", "content": [{"type": "input_audio", "input_audio": clip}]}]


def test_text(client: openai.OpenAI, nano: Assistant) -> None:
    made = client.chat.completions.create(model="nano", messages=ASKED)
    assert made.object == "chat.completion" and made.model == "nano"
    (choice,) = made.choices
    assert choice.message.content == nano.chat(ASKED).text == "thirteen"
    assert (choice.message.role, choice.finish_reason, choice.message.audio) == ("assistant", "stop", None)
    assert made.usage.completion_tokens == 1
    assert made.usage.prompt_tokens == len(nano.processor.prepare(ASKED)["input_ids"])
    assert made.usage.total_tokens == made.usage.prompt_tokens + 1


def test_parts_of_text_and_old_and_new_names(client: openai.OpenAI) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "what is nine plus four"}]}]
    for name in ("max_tokens", "max_completion_tokens"):
        made = client.chat.completions.create(
            model="nano", messages=parts, temperature=0.0, top_p=0.9, user="me", **{name: 20}
        )
        assert made.choices[0].message.content == "thirteen"


def test_the_limit_of_tokens_is_told(client: openai.OpenAI) -> None:
    cut = client.chat.completions.create(
        model="nano", messages=[{"role": "user", "content": "what is nine plus thirteen"}], max_tokens=1
    )
    assert cut.choices[0].finish_reason == "length"
    assert cut.usage.completion_tokens == 1


def test_log_probabilities(client: openai.OpenAI, nano: Assistant) -> None:
    asked = {"model": "nano", "messages": ASKED, "logprobs": True, "top_logprobs": 3, "max_tokens": 9}
    (choice,) = client.chat.completions.create(**asked).choices
    own = nano.chat(ASKED, logprobs=True, top_logprobs=3, max_new_tokens=9).finish.logprobs
    (entry,) = choice.logprobs.content
    assert (entry.token, bytes(entry.bytes)) == ("thirteen", b"thirteen")
    assert entry.logprob == own[0].logprob and len(entry.top_logprobs) == 3
    assert entry.top_logprobs[0].logprob == max(top.logprob for top in entry.top_logprobs) >= entry.logprob
    chunks = [c.choices[0].logprobs for c in client.chat.completions.create(**asked, stream=True)]
    assert [c.content for c in chunks if c] == [choice.logprobs.content]
    plain = client.chat.completions.create(model="nano", messages=ASKED).choices[0]
    assert plain.logprobs is None and plain.message.content == choice.message.content


def test_usage_of_a_refusal_is_what_was_read_and_drawn(client: openai.OpenAI, nano: Assistant) -> None:
    asked = [{"role": "user", "content": "what is a xylophone"}]
    made = client.chat.completions.create(model="nano", messages=asked)
    assert made.choices[0].message.content == nano.model.config.refusal_text
    assert (made.usage.prompt_tokens, made.usage.completion_tokens) == (0, 0)
    assert made.choices[0].finish_reason == "stop"


def test_several_answers_and_seeds(client: openai.OpenAI) -> None:
    def texts(seed: int) -> list[str]:
        made = client.chat.completions.create(
            model="nano", messages=ASKED, n=3, seed=seed, temperature=2.0, extra_body={"top_k": 0}
        )
        assert [c.index for c in made.choices] == [0, 1, 2]
        assert made.usage.completion_tokens >= 3
        return [c.message.content for c in made.choices]

    assert texts(5) == texts(5)
    assert len({*texts(5), *texts(50), *texts(500)}) > 1


def test_stop(client: openai.OpenAI) -> None:
    made = client.chat.completions.create(model="nano", messages=ASKED, stop=["teen", "zzz"])
    assert made.choices[0].message.content == "thir"


def test_audio_in_and_out(client: openai.OpenAI, nano: Assistant, question: bytes) -> None:
    made = client.chat.completions.create(model="nano", messages=recorded(question), seed=3, **SPOKEN)
    message = made.choices[0].message
    own = nano.chat([{"role": "user", "content": [{"type": "audio", "audio": question}]}], audio=True, seed=3)
    assert message.content is None
    assert message.audio.transcript == own.text == "twelve"
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(message.audio.data)), dtype="float32")
    assert rate == 24000 and np.abs(samples - own.audio).max() < 1e-4
    details = made.usage.completion_tokens_details
    assert details.audio_tokens == 7 * len(own.audio) // 2048
    heard = made.usage.prompt_tokens_details
    assert heard.audio_tokens > 10 and heard.text_tokens > 0

    follow = [
        *recorded(question),
        {"role": "assistant", "audio": {"id": message.audio.id}},
        {"role": "user", "content": "what is nine plus four"},
    ]
    assert (
        client.chat.completions.create(model="nano", messages=follow).choices[0].message.content == "thirteen"
    )


def test_a_spoken_answer_belongs_to_its_caller(live: Live, client: openai.OpenAI) -> None:
    made = client.chat.completions.create(model="nano", messages=ASKED, **SPOKEN)
    follow = [*ASKED, {"role": "assistant", "audio": {"id": made.choices[0].message.audio.id}}, *ASKED]
    with pytest.raises(openai.BadRequestError, match="no spoken answer"):
        live.client(api_key="another key").chat.completions.create(model="nano", messages=follow)


def test_streamed_text_is_the_whole_text(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="nano", messages=ASKED, stream=True, n=2, stream_options={"include_usage": True}
        )
    )
    assert {c.object for c in chunks} == {"chat.completion.chunk"} and len({c.id for c in chunks}) == 1
    for index in (0, 1):
        mine = [c.choices[0] for c in chunks if c.choices and c.choices[0].index == index]
        assert mine[0].delta.role == "assistant"
        assert "".join(c.delta.content or "" for c in mine) == "thirteen"
        assert [c.finish_reason for c in mine] == [None] * (len(mine) - 1) + ["stop"]
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 2
    assert all(c.usage is None for c in chunks[:-1])


def test_streamed_audio_is_the_whole_audio(client: openai.OpenAI, nano: Assistant, question: bytes) -> None:
    chunks = client.chat.completions.create(
        model="nano",
        messages=recorded(question),
        seed=3,
        stream=True,
        modalities=["text", "audio"],
        audio={"voice": {"id": "default"}, "format": "pcm16"},
    )
    audios = [c.choices[0].delta.audio for c in chunks if c.choices and c.choices[0].delta.audio]
    audios = [a if isinstance(a, dict) else a.to_dict() for a in audios]
    own = nano.chat([{"role": "user", "content": [{"type": "audio", "audio": question}]}], audio=True, seed=3)
    assert "".join(a.get("transcript", "") for a in audios) == own.text
    assert b"".join(base64.b64decode(a.get("data", "")) for a in audios) == pcm16(own.audio)
    assert audios[0]["id"].startswith("audio_") and audios[-1]["expires_at"] > 1_700_000_000
    assert sum("data" in a for a in audios) > 1


@pytest.mark.parametrize("form", ["mp3", "flac", "opus", "pcm16"])
def test_formats_of_spoken_answers(client: openai.OpenAI, form: str) -> None:
    from vivavoce.audio.files import read_audio

    made = client.chat.completions.create(
        model="nano", messages=ASKED, modalities=["text", "audio"], audio={"voice": "default", "format": form}
    )
    data = base64.b64decode(made.choices[0].message.audio.data)
    seconds = made.usage.completion_tokens_details.audio_tokens / 7 * 2048 / 24000
    if form == "pcm16":
        assert len(data) == round(seconds * 24000) * 2
    else:
        samples, rate = read_audio(data)
        assert abs(len(samples) / rate - seconds) < 0.1
