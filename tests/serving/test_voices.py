"""A model with two voices: each door speaks with the one that is named, and names those there are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import openai
import pytest
import torch
from tests.serving.live import KEY, Live, serving
from tests.serving.realtime.talking import talk

from vivavoce.inference.assistant import Assistant
from vivavoce.inference.session import Session
from vivavoce.models.config import TokensOut
from vivavoce.models.loading import load_speech_lm
from vivavoce.models.voice.tables import with_voice
from vivavoce.serving.encoding import pcm16
from vivavoce.serving.engine import Engine
from vivavoce.serving.limits import Limits

SAID = "good morning"


@pytest.fixture(scope="module")
def both() -> Assistant:
    """The embedded model with a second voice, "slow", of another sound and pace."""
    torch.manual_seed(0)
    model, processor = load_speech_lm("nano", device="cpu")
    voice = with_voice(model.voice, "slow")
    with torch.no_grad():
        slower = voice.durations.out.weight[0]  # what makes phones longer, seen from the last layer
        voice.durations.voice.weight[-1] += slower / slower.norm()
        voice.voice_embedding.weight[-1] += 0.1 * torch.randn(voice.config.text_size)
    mouth = model.config.audio_out
    assert isinstance(mouth, TokensOut)
    model.voice = voice.eval()
    model.config.audio_out = replace(mouth, speakers=voice.config.voices)
    return Assistant(model, processor, "nano")


@pytest.fixture(scope="module")
def live(both: Assistant) -> Iterator[Live]:
    with serving(Engine(both, "nano"), [KEY], Limits(max_realtime=2)) as server:
        yield server


def test_speech_is_in_the_voice_that_is_named(live: Live, both: Assistant) -> None:
    client = live.client()

    def made(voice: str) -> bytes:
        return client.audio.speech.create(
            model="nano", voice=voice, input=SAID, response_format="pcm"
        ).content

    for voice in ("default", "slow"):
        assert made(voice) == pcm16(both.say(SAID, voice=voice).audio)
    assert made("default") == pcm16(both.say(SAID).audio) != made("slow")
    with pytest.raises(openai.BadRequestError, match="default, awb, german, slow"):
        made("fast")


def test_answers_are_in_the_voice_that_is_named(both: Assistant) -> None:
    question = [{"role": "user", "content": "what is two plus three"}]
    first, second = (both.chat(question, audio=True, voice=voice) for voice in ("default", "slow"))
    assert first.text == second.text == "five"
    assert first.audio.tolist() != second.audio.tolist()
    session = Session(both)
    session.feed_text("what is two plus three")
    parts = [d.audio for d in session.respond(audio=True, voice="slow") if d.audio is not None]
    assert sum(map(len, parts)) == len(second.audio)


def test_realtime_sessions_take_a_voice_by_name(live: Live, both: Assistant) -> None:
    async def run() -> None:
        async with talk(live) as t:
            session = await t.update(audio={"output": {"voice": "slow"}})
            assert session["audio"]["output"]["voice"] == "slow"
            await t.ask("what is two plus three")
            await t.answer()
            wanted = both.chat(
                [{"role": "user", "content": "what is two plus three"}], audio=True, voice="slow"
            )
            assert len(t.audio()) == 2 * len(wanted.audio)
            await t.send(
                "session.update", session={"type": "realtime", "audio": {"output": {"voice": "fast"}}}
            )
            assert "default, awb, german, slow" in (await t.error())["message"]

    asyncio.run(run())
