"""The user speaks while the model does: what was played stays, the rest is forgotten."""

from __future__ import annotations

import asyncio
import base64
import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.serving.live import KEY, Live, serving, until
from tests.serving.realtime.conftest import LIMITS
from tests.serving.realtime.talking import HERTZ, Gated, Talk, talk
from tests.serving.realtime.test_turns import SILENCE, VAD

from vivavoce.inference.assistant import Assistant
from vivavoce.inference.session import Session
from vivavoce.serving.encoding import pcm16
from vivavoce.serving.refusals import Refusal


@pytest.fixture
def gated(nano: Assistant) -> Gated:
    return Gated(nano)


@pytest.fixture
def live(gated: Gated) -> Iterator[Live]:
    with serving(gated, [KEY], LIMITS) as server:
        yield server
        gated.let(1000)


async def begun(t: Talk, gated: Gated) -> str:
    """Ask, and get the words and the first of two pieces of speech; the id of the item."""
    await t.ask("what is nine plus four")
    gated.let(2)
    await t.connection.response.create()
    return str((await t.until("response.output_audio.delta"))["item_id"])


async def text_of(t: Talk, item_id: str) -> str:
    await t.connection.conversation.item.retrieve(item_id=item_id)
    item = (await t.until("conversation.item.retrieved"))["item"]
    return str(item["content"][0].get("transcript", item["content"][0].get("text")))


def test_speech_ends_an_answer(live: Live, gated: Gated, nano: Assistant, spoken: np.ndarray) -> None:
    async def run() -> None:
        async with talk(live) as t:
            await t.listen(VAD)
            item_id = await begun(t, gated)
            await t.say(np.concatenate([SILENCE, spoken]))
            started = await t.until("input_audio_buffer.speech_started")
            made = await t.done()
            assert made["status"] == "cancelled"
            assert made["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
            assert made["output"][0]["status"] == "incomplete"
            assert made["output"][0]["content"][0]["transcript"] == "thirteen"
            assert t.kinds().index("input_audio_buffer.speech_started") < t.kinds().index("response.done")
            await t.connection.conversation.item.truncate(item_id=item_id, content_index=0, audio_end_ms=100)
            cut = await t.until("conversation.item.truncated")
            assert (cut["item_id"], cut["audio_end_ms"]) == (item_id, 100)
            assert await text_of(t, item_id) == ""
            gated.let(100)
            begin = len(t.audio())
            await t.say(SILENCE)
            answer = await t.done()
            assert answer["output"][0]["content"][0]["transcript"] == "twelve"
            asked = (await item(t, started["item_id"]))["content"][0]
            wave = np.frombuffer(base64.b64decode(asked["audio"]), "<i2").astype(np.float32) / 32768
            said = [
                {"role": "user", "content": "what is nine plus four"},
                {"role": "assistant", "content": ""},
                {"role": "user", "content": [{"type": "audio", "audio": wave, "sampling_rate": HERTZ}]},
            ]
            own = nano.chat(said, audio=True)
            assert t.audio()[begin:] == pcm16(own.audio)
            assert answer["usage"]["input_tokens"] == (
                own.finish.prompt_text_tokens + own.finish.prompt_audio_tokens
            )

    asyncio.run(run())


async def item(t: Talk, item_id: str) -> dict[str, Any]:
    await t.connection.conversation.item.retrieve(item_id=item_id)
    found: dict[str, Any] = (await t.until("conversation.item.retrieved"))["item"]
    return found


def test_what_was_played_whole_stays(live: Live, gated: Gated) -> None:
    async def run() -> None:
        async with talk(live) as t:
            gated.let(100)
            await t.ask("what is nine plus four")
            made = await t.answer()
            spoken_ms = len(t.audio()) * 1000 // (2 * HERTZ)
            item_id = made["output"][0]["id"]
            cut = t.connection.conversation.item.truncate
            await cut(item_id=item_id, content_index=0, audio_end_ms=spoken_ms)
            await t.until("conversation.item.truncated")
            assert await text_of(t, item_id) == "thirteen"
            for given, code in (
                ({"audio_end_ms": spoken_ms + 1000}, "audio_end_ms"),
                ({"content_index": 1}, "item_id"),
                ({"item_id": "item_nobody"}, "item_id"),
            ):
                await cut(**{"item_id": item_id, "content_index": 0, "audio_end_ms": 10, **given})
                assert (await t.error())["param"] == code

    asyncio.run(run())


def test_cancel(live: Live, gated: Gated) -> None:
    async def run() -> None:
        async with talk(live) as t:
            await t.connection.response.cancel()
            assert (await t.error())["code"] == "response_cancel_not_active"
            item_id = await begun(t, gated)
            await t.connection.response.create()
            assert (await t.error())["code"] == "conversation_already_has_active_response"
            await t.connection.conversation.item.delete(item_id=item_id)
            assert (await t.error())["code"] == "item_in_progress"
            await t.connection.response.cancel()
            made = await t.done()
            assert made["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
            gated.let(100)
            await t.ask("what is two plus three")
            made = await t.answer()
            assert made["status"] == "completed"
            assert made["output"][0]["content"][0]["transcript"] == "five"
            assert gated.num_sessions == 1

    asyncio.run(run())


def test_without_interruption_the_answer_follows(live: Live, gated: Gated, spoken: np.ndarray) -> None:
    async def run() -> None:
        async with talk(live) as t:
            await t.listen({**VAD, "interrupt_response": False})
            await begun(t, gated)
            await t.say(np.concatenate([SILENCE, spoken, SILENCE]))
            await t.until("input_audio_buffer.committed")
            gated.let(100)
            assert (await t.done())["status"] == "completed"
            made = await t.done()
            assert made["output"][0]["content"][0]["transcript"] == "twelve"

    asyncio.run(run())


def test_turns_without_an_answer_of_their_own(live: Live, gated: Gated, spoken: np.ndarray) -> None:
    async def run() -> None:
        gated.let(100)
        async with talk(live) as t:
            await t.listen({**VAD, "create_response": False})
            await t.say(np.concatenate([SILENCE, spoken, SILENCE]))
            heard = await t.until("conversation.item.input_audio_transcription.completed")
            assert heard["transcript"] == "what is seven plus five"
            assert "response.created" not in t.kinds()
            assert (await t.answer())["output"][0]["content"][0]["transcript"] == "twelve"

    asyncio.run(run())


def test_a_failure_is_told_and_the_connection_lives(live: Live, gated: Gated) -> None:
    async def run() -> None:
        async with talk(live) as t:
            for fault, code in (
                (Refusal(503, "too busy.", "overloaded"), "overloaded"),
                (RuntimeError("private words"), "internal_error"),
            ):
                gated.fault = fault
                gated.let(1)
                await t.ask("what is nine plus four")
                made = await t.answer()
                assert made["status"] == "failed"
                error = made["status_details"]["error"]
                assert error["code"] == code and "private" not in error["message"]
            gated.fault = None
            gated.let(100)
            await t.ask("what is two plus three")
            assert (await t.answer())["output"][0]["content"][0]["transcript"] == "five"

    asyncio.run(run())


def test_a_client_that_is_gone_leaves_nothing(live: Live, gated: Gated, spoken: np.ndarray) -> None:
    def left() -> tuple[int, int, int]:
        objects = gc.get_objects()  # without a collection: caches are to come back at once
        sessions = sum(issubclass(type(found), Session) for found in objects)
        tasks = sum(issubclass(type(found), asyncio.Task) and not found.done() for found in objects)
        worker = live.server.service.worker
        return sessions, tasks, worker.working + worker.queued + len(live.server.realtime.connections)

    async def run(speaks: bool) -> None:
        async with talk(live) as t:
            await t.listen(VAD)
            if speaks:
                await t.say(np.concatenate([SILENCE, spoken]))
                await t.until("input_audio_buffer.speech_started")
            else:
                await begun(t, gated)
            t.connection._connection.transport.abort()

    before = left()
    for speaks in (True, False):
        asyncio.run(run(speaks))
        until(lambda: not live.server.realtime.connections)
        gated.let(1)  # the model notices at its next delta
        # what tests before this one left may go meanwhile
        until(lambda: all(now <= then for now, then in zip(left(), before, strict=True)))
