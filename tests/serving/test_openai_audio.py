"""Transcriptions and speech through OpenAI's client."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from typing import Any

import openai
import pytest
from tests.inference import tiny
from tests.serving.live import Live, serving, until

from vivavoce.audio.files import read_audio
from vivavoce.inference.assistant import Assistant
from vivavoce.inference.sampling import Sampler
from vivavoce.serving.engine import Engine
from vivavoce.serving.transcription import segments, subtitles

HEARD = "what is seven plus five"
SAID = "nine plus four is thirteen"


def test_transcription_as_json(client: openai.OpenAI, question: bytes) -> None:
    made = client.audio.transcriptions.create(
        model="nano", file=("q.wav", question), language="en", temperature=0
    )
    assert made.text == HEARD
    assert made.usage.type == "duration" and made.usage.seconds == pytest.approx(1.78)


def test_transcription_as_text_and_subtitles(client: openai.OpenAI, question: bytes) -> None:
    def made(form: str) -> str:
        return client.audio.transcriptions.create(
            model="nano", file=("q.wav", question), response_format=form
        )

    assert made("text") == f"{HEARD}\n"
    cue = rf"00:00:00[,.]\d{{3}} --> 00:00:01[,.]\d{{3}}\n{HEARD}\n"
    assert re.fullmatch(f"1\n{cue}", made("srt")) and "," in made("srt")
    assert re.fullmatch(f"WEBVTT\n\n{cue}", made("vtt")) and "," not in made("vtt")


def test_transcription_in_detail(client: openai.OpenAI, question: bytes) -> None:
    made = client.audio.transcriptions.create(
        model="nano",
        file=("q.wav", question),
        response_format="verbose_json",
        timestamp_granularities=["segment", "word"],
    )
    assert (made.text, made.duration, made.language) == (HEARD, pytest.approx(1.78), "unknown")
    (segment,) = made.segments
    assert (segment.start, segment.end, segment.text) == (made.words[0].start, made.words[-1].end, HEARD)
    assert len(segment.tokens) == 5
    assert [w.word for w in made.words] == HEARD.split()
    times = [t for w in made.words for t in (w.start, w.end)]
    assert times == sorted(times) and times[0] >= 0 and times[-1] <= 1.78 and times[-1] - times[0] > 1
    plain = client.audio.transcriptions.create(
        model="nano", file=("q.wav", question), response_format="verbose_json"
    )
    assert plain.words is None


def test_what_a_transcription_cannot_have_is_refused(client: openai.OpenAI, question: bytes) -> None:
    with pytest.raises(openai.BadRequestError, match=r"unknown field 'include\[\]'"):
        client.audio.transcriptions.create(model="nano", file=("q.wav", question), include=["logprobs"])


def test_segments_end_at_pauses(client: openai.OpenAI, question: bytes) -> None:
    words = [("one", 0.1, 0.4), ("two", 0.4, 2.5), ("three", 2.5, 2.9)]
    assert segments("one two three", words, 3.0) == [("one two", 0.1, 2.5), ("three", 2.5, 2.9)]
    assert segments("one two", words, 3.0) == [("one two", 0.0, 3.0)]
    assert segments("", [], 3.0) == []
    assert subtitles(segments("one two three", words, 3.0), "srt").startswith(
        "1\n00:00:00,100 --> 00:00:02,500\none two\n\n2\n"
    )


def test_transcription_as_events(client: openai.OpenAI, question: bytes) -> None:
    events = list(client.audio.transcriptions.create(model="nano", file=("q.wav", question), stream=True))
    assert [e.type for e in events] == ["transcript.text.delta", "transcript.text.done"]
    assert events[0].delta == events[1].text == HEARD
    assert events[1].usage.total_tokens == events[1].usage.input_tokens + 5
    assert events[1].usage.input_token_details.audio_tokens > 10


def test_translation_is_refused_clearly(client: openai.OpenAI, question: bytes) -> None:
    with pytest.raises(openai.InternalServerError, match="not made to translate") as caught:
        client.audio.translations.create(model="nano", file=("q.wav", question))
    assert caught.value.status_code == 501


class Writes:
    """Ears with prompts for both tasks, and what the model is made to write."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.assistant = tiny.embeddings_to_text()
        prompts = {"translate": "Translate into {}: "}
        ears = replace(self.assistant.model.config.audio_in, transcribe_prompt="Write: ", prompts=prompts)
        self.assistant.model.config.audio_in = ears
        tokenizer = self.assistant.processor.tokenizer
        self.prompt, self.said, left = "", " it is raining ", []

        def draw(sampler: Sampler, logits: Any, seen: Any, allowed: Any = None) -> int:
            if not left:
                self.prompt = tokenizer.decode(list(seen))
                left.extend([*tokenizer(self.said, add_special_tokens=False)["input_ids"], -1])
            token = left.pop(0)
            return tokenizer.eos_token_id if token < 0 else token

        monkeypatch.setattr(Sampler, "__call__", draw)


def test_models_with_prompts_translate_and_write_as_they_read(
    monkeypatch: pytest.MonkeyPatch, question: bytes
) -> None:
    model = Writes(monkeypatch)
    with serving(Engine(model.assistant, "tiny")) as live:
        audio = live.client().audio
        asked: dict[str, Any] = {"model": "tiny", "file": ("q.wav", question)}
        assert audio.translations.create(**asked).text == "it is raining"
        assert "Translate into English: " in model.prompt
        made = audio.translations.create(**asked, response_format="verbose_json")
        assert (made.language, made.text, made.segments[0].text) == ("english", *["it is raining"] * 2)
        assert made.segments[0].avg_logprob < 0
        assert audio.translations.create(**asked, response_format="text") == "it is raining\n"
        assert audio.transcriptions.create(**asked).text == "it is raining"
        assert "Write: " in model.prompt
        events = list(audio.transcriptions.create(**asked, stream=True))
        deltas = [e.delta for e in events[:-1]]
        assert len(deltas) > 5 and "".join(deltas) == events[-1].text == "it is raining"
        assert events[-1].usage.output_tokens == len(model.said)
        with pytest.raises(openai.BadRequestError, match="cannot tell when"):
            audio.transcriptions.create(
                **asked, response_format="verbose_json", timestamp_granularities=["word"]
            )


def test_a_transcription_nobody_waits_for_ends_at_the_next_piece(
    monkeypatch: pytest.MonkeyPatch, question: bytes
) -> None:
    model = Writes(monkeypatch)
    model.said = "on and on " * 100
    with serving(Engine(model.assistant, "tiny")) as live:
        stream = live.client().audio.transcriptions.create(
            model="tiny", file=("q.wav", question), stream=True
        )
        next(iter(stream))
        stream.close()
        service = live.server.service
        until(lambda: service.worker.working == 0)
        assert service.metrics.disconnected.value() == 1


@pytest.mark.parametrize("form", ["wav", "flac", "mp3", "opus"])
def test_speech_in_every_format(client: openai.OpenAI, form: str) -> None:
    made = client.audio.speech.create(model="nano", voice="default", input=SAID, response_format=form)
    samples, rate = read_audio(made.content)
    assert rate == 24000 and 1.5 < len(samples) / rate < 4 and abs(samples).max() > 0.05
    assert made.response.headers["content-type"].startswith("audio/")


def test_speech_can_be_understood(client: openai.OpenAI, nano: Assistant) -> None:
    data = client.audio.speech.create(
        model="nano", voice="default", input=HEARD, response_format="wav"
    ).content
    assert nano.transcribe(data).text == HEARD


def test_speech_arrives_while_it_is_made(client: openai.OpenAI, live: Live) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="nano", voice="default", input=f"{SAID} and {SAID} and {SAID}", response_format="pcm"
    ) as response:
        pieces = []
        for piece in response.iter_bytes():
            pieces.append((len(piece), live.server.service.worker.working))
    assert pieces[0][1] == 1, "the first bytes came after the end"
    assert sum(size for size, _ in pieces) % 4096 == 0  # whole frames of 2048 samples


def test_speech_as_events(live: Live, client: openai.OpenAI) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="nano", voice="default", input=SAID, response_format="pcm", stream_format="sse"
    ) as response:
        events = [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: ")]
    assert {e["type"] for e in events[:-1]} == {"speech.audio.delta"}
    assert events[-1]["type"] == "speech.audio.done"
    num_bytes = sum(len(base64.b64decode(e["audio"])) for e in events[:-1])
    assert events[-1]["usage"]["output_tokens"] == num_bytes / 2 / 2048 * 7


def test_speed(client: openai.OpenAI) -> None:
    def seconds(speed: float) -> float:
        made = client.audio.speech.create(
            model="nano", voice="default", input=SAID, response_format="pcm", speed=speed
        )
        return len(made.content) / 48000

    assert seconds(1.0) / seconds(1.6) == pytest.approx(1.6, rel=0.25)


def test_models_and_voices(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert (model.id, model.object) == ("nano", "model")
    assert model.to_dict()["voices"][0] == "default"
    assert client.models.retrieve("nano").id == "nano"
