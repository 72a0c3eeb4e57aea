"""Transcriptions and speech through OpenAI's client."""

from __future__ import annotations

import base64
import json

import openai
import pytest
from tests.serving.live import Live

from vivavoce.audio.files import read_audio
from vivavoce.inference.assistant import Assistant

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
    assert made("srt") == f"1\n00:00:00,000 --> 00:00:01,780\n{HEARD}\n"
    assert made("vtt") == f"WEBVTT\n\n00:00:00.000 --> 00:00:01.780\n{HEARD}\n"


def test_transcription_in_detail(client: openai.OpenAI, question: bytes) -> None:
    made = client.audio.transcriptions.create(
        model="nano",
        file=("q.wav", question),
        response_format="verbose_json",
        timestamp_granularities=["segment"],
    )
    assert (made.text, made.duration, made.language) == (HEARD, pytest.approx(1.78), "unknown")
    (segment,) = made.segments
    assert (segment.start, segment.end, segment.text) == (0.0, pytest.approx(1.78), HEARD)
    assert len(segment.tokens) == 5


def test_transcription_as_events(client: openai.OpenAI, question: bytes) -> None:
    events = list(client.audio.transcriptions.create(model="nano", file=("q.wav", question), stream=True))
    assert [e.type for e in events] == ["transcript.text.delta", "transcript.text.done"]
    assert events[0].delta == events[1].text == HEARD
    assert events[1].usage.total_tokens == events[1].usage.input_tokens + 5


def test_translation_is_refused_clearly(client: openai.OpenAI, question: bytes) -> None:
    with pytest.raises(openai.InternalServerError, match="not made to translate") as caught:
        client.audio.translations.create(model="nano", file=("q.wav", question))
    assert caught.value.status_code == 501


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
