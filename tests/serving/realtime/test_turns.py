"""Conversations through OpenAI's client give what the assistant gives."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import numpy as np
import pytest
from tests.serving.live import Live
from tests.serving.realtime.talking import HERTZ, talk

from vivavoce.audio.resample import resample
from vivavoce.inference.assistant import Assistant
from vivavoce.serving.encoding import pcm16
from vivavoce.serving.realtime.formats import decoded, encoded

VAD = {"type": "server_vad", "silence_duration_ms": 400, "prefix_padding_ms": 200}
SILENCE = np.zeros(HERTZ, np.float32)


def heard(wave: np.ndarray, rate: int = HERTZ) -> list[dict[str, Any]]:
    part = {"type": "audio", "audio": wave, "sampling_rate": rate}
    return [{"role": "user", "content": [part]}]


def test_text(talking: Live, nano: Assistant) -> None:
    async def run() -> None:
        async with talk(talking) as t:
            session = await t.update(output_modalities=["text"], max_output_tokens=20)
            assert (session["output_modalities"], session["max_output_tokens"]) == (["text"], 20)
            await t.ask("what is nine plus four")
            made = await t.answer()
            assert made["status"] == "completed" and made["status_details"] is None
            (item,) = made["output"]
            assert item["content"] == [{"type": "output_text", "text": "thirteen"}]
            assert t.joined("response.output_text.delta") == "thirteen"
            question = [{"role": "user", "content": "what is nine plus four"}]
            finish = nano.chat(question).finish
            usage = made["usage"]
            assert usage["input_tokens"] == finish.prompt_text_tokens
            assert (
                usage["output_tokens"] == finish.text_tokens == usage["output_token_details"]["text_tokens"]
            )
            assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
            await t.ask("what is two plus three")
            assert (await t.answer())["output"][0]["content"][0]["text"] == "five"

    asyncio.run(run())


ORDER = [
    "response.created",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_audio_transcript.delta",
    "response.output_audio.delta",
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "conversation.item.done",
    "response.output_item.done",
    "response.done",
]


def test_the_order_and_the_names(talking: Live) -> None:
    async def run() -> None:
        async with talk(talking) as t:
            await t.ask("what is nine plus four")
            begin = len(t.events)
            made = await t.answer()
            events = t.events[begin:]
            assert list(dict.fromkeys(event["type"] for event in events)) == ORDER
            asked = next(e["item"]["id"] for e in t.events if e["type"] == "conversation.item.added")
            item = made["output"][0]
            for event in events:
                assert event.get("response_id", made["id"]) == made["id"]
                assert event.get("item_id", item["id"]) == item["id"]
                assert event.get("previous_item_id", asked) == asked
                assert (event.get("output_index", 0), event.get("content_index", 0)) == (0, 0)
            assert item["status"] == "completed" and item["role"] == "assistant"
            await t.connection.conversation.item.retrieve(item_id=item["id"])
            assert (await t.until("conversation.item.retrieved"))["item"] == item

    asyncio.run(run())


@pytest.mark.parametrize("piece", [480, 7777, 10**6])
def test_push_to_talk_equals_chat(talking: Live, nano: Assistant, spoken: np.ndarray, piece: int) -> None:
    async def run() -> None:
        async with talk(talking) as t:
            await t.listen(None)
            await t.say(spoken, piece)
            await t.connection.input_audio_buffer.commit()
            committed = await t.until("input_audio_buffer.committed")
            assert committed["previous_item_id"] is None
            made = await t.answer()
            own = nano.chat(heard(spoken), audio=True)
            assert made["output"][0]["content"] == [{"type": "output_audio", "transcript": own.text}]
            assert t.joined("response.output_audio_transcript.delta") == own.text == "twelve"
            assert t.audio() == pcm16(own.audio)
            whole = "conversation.item.input_audio_transcription.completed"
            (event,) = [e for e in t.events if e["type"] == whole]
            assert event["transcript"] == own.transcript and event["item_id"] == committed["item_id"]
            assert event["usage"]["seconds"] == len(spoken) / HERTZ
            usage = made["usage"]
            assert usage["input_token_details"]["audio_tokens"] == own.finish.prompt_audio_tokens > 0
            assert usage["output_token_details"]["audio_tokens"] == own.finish.audio_tokens
            await t.connection.conversation.item.retrieve(item_id=committed["item_id"])
            item = (await t.until("conversation.item.retrieved"))["item"]
            assert base64.b64decode(item["content"][0]["audio"]) == pcm16(spoken)

    asyncio.run(run())


def test_a_turn_is_found_and_answered(talking: Live, nano: Assistant, spoken: np.ndarray) -> None:
    async def run() -> None:
        async with talk(talking) as t:
            await t.listen(VAD)
            for turn in range(2):
                await t.say(np.concatenate([SILENCE, spoken, SILENCE]))
                made = await t.done()
                started, stopped = (
                    [e for e in t.events if e["type"] == f"input_audio_buffer.speech_{name}"][-1]
                    for name in ("started", "stopped")
                )
                offset = turn * (2000 + 1000 * len(spoken) // HERTZ)
                begin, end = started["audio_start_ms"], stopped["audio_end_ms"]
                assert 700 <= begin - offset <= 1100 and begin + 1000 < end <= offset + 4000
                committed = t.events[t.kinds().index("input_audio_buffer.committed")]
                if not turn:
                    assert started["item_id"] == stopped["item_id"] == committed["item_id"]
                await t.connection.conversation.item.retrieve(item_id=started["item_id"])
                item = (await t.until("conversation.item.retrieved"))["item"]
                wave = np.frombuffer(base64.b64decode(item["content"][0]["audio"]), "<i2") / 32768
                assert abs(len(wave) - (end - begin) * HERTZ // 1000) <= 24
                assert made["output"][0]["content"][0]["transcript"] == "twelve"
                if not turn:
                    own = nano.chat(heard(wave.astype(np.float32)), audio=True)
                    assert t.audio() == pcm16(own.audio)

    asyncio.run(run())


def test_spoken_and_typed_turns_in_one_conversation(talking: Live, spoken: np.ndarray) -> None:
    async def run() -> None:
        async with talk(talking) as t:
            await t.listen(None, output_modalities=["text"])
            await t.say(spoken)
            await t.connection.input_audio_buffer.commit()
            await t.answer()
            await t.ask("what is nine plus four")
            second = await t.answer()
            assert second["output"][0]["content"][0]["text"] == "thirteen"
            async with talk(talking) as other:
                await other.listen(None, output_modalities=["text"])
                await other.ask("what is nine plus four")
                alone = await other.answer()
            assert second["usage"]["input_tokens"] > alone["usage"]["input_tokens"]
            for event in [e for e in t.events if e["type"] == "conversation.item.added"][:2]:
                await t.connection.conversation.item.delete(item_id=event["item"]["id"])
                await t.until("conversation.item.deleted")
            await t.ask("what is nine plus four")
            third = await t.answer()
            assert third["output"][0]["content"][0]["text"] == "thirteen"
            assert third["usage"]["input_tokens"] < second["usage"]["input_tokens"] * 2

    asyncio.run(run())


def test_silence_gives_nothing_and_a_commit_of_it_is_refused(talking: Live) -> None:
    async def run() -> None:
        async with talk(talking) as t:
            await t.listen(VAD)
            await t.say(SILENCE)
            await t.connection.input_audio_buffer.commit()
            assert (await t.error())["code"] == "input_audio_buffer_commit_empty"
            await t.connection.input_audio_buffer.clear()
            assert (await t.next())["type"] == "input_audio_buffer.cleared"

    asyncio.run(run())


def test_cleared_audio_is_not_answered(talking: Live, spoken: np.ndarray) -> None:
    async def run() -> None:
        async with talk(talking) as t:
            await t.listen(None, output_modalities=["text"])
            await t.say(np.concatenate([spoken, spoken]))
            await t.connection.input_audio_buffer.clear()
            await t.until("input_audio_buffer.cleared")
            await t.say(spoken)
            await t.connection.input_audio_buffer.commit()
            made = await t.answer()
            assert made["output"][0]["content"][0]["text"] == "twelve"

    asyncio.run(run())


@pytest.mark.parametrize("form", ["audio/pcmu", "audio/pcma"])
def test_telephones(talking: Live, nano: Assistant, spoken: np.ndarray, form: str) -> None:
    async def run() -> None:
        async with talk(talking) as t:
            audio = {
                "input": {"format": {"type": form}, "turn_detection": None},
                "output": {"format": {"type": form}},
            }
            session = await t.update(audio=audio)
            assert session["audio"]["output"]["format"] == {"type": form}
            data = encoded(resample(spoken, HERTZ, 8000), form)
            for begin in range(0, len(data), 1000):
                piece = base64.b64encode(data[begin : begin + 1000]).decode()
                await t.connection.input_audio_buffer.append(audio=piece)
            await t.connection.input_audio_buffer.commit()
            await t.until("input_audio_buffer.committed")
            made = await t.answer()
            own = nano.chat(heard(decoded(base64.b64encode(data).decode(), form, ""), 8000), audio=True)
            assert made["output"][0]["content"][0]["transcript"] == own.text
            assert abs(len(t.audio()) - len(own.audio) / 3) <= 1

    asyncio.run(run())


def test_written_recordings_and_answers_as_items(talking: Live, spoken: np.ndarray) -> None:
    async def run() -> None:
        async with talk(talking) as t:
            await t.update(output_modalities=["text"])
            create = t.connection.conversation.item.create
            await create(
                item={
                    "id": "mine", "type": "message", "role": "assistant",
                    "content": [{"type": "output_text", "text": "thirteen"}],
                }
            )  # fmt: skip
            await t.until("conversation.item.done")
            asked = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}
            await create(item=asked, previous_item_id="root")
            assert (await t.until("conversation.item.done"))["previous_item_id"] is None
            clip = {"type": "input_audio", "audio": base64.b64encode(pcm16(spoken)).decode()}
            await create(item={"type": "message", "role": "user", "content": [clip]})
            assert (await t.until("conversation.item.done"))["previous_item_id"] == "mine"
            assert (await t.answer())["output"][0]["content"][0]["text"] == "twelve"

    asyncio.run(run())


def test_beside_the_conversation(talking: Live) -> None:
    async def run() -> None:
        async with talk(talking) as t:
            await t.ask("what is nine plus four")
            asked = {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "what is two plus three"}],
            }
            own = {
                "conversation": "none",
                "output_modalities": ["text"],
                "metadata": {"a": "b"},
                "input": [asked],
            }
            await t.connection.response.create(response=own)
            made = await t.done()
            assert made["output"][0]["content"] == [{"type": "output_text", "text": "five"}]
            assert made["metadata"] == {"a": "b"} and made["conversation_id"] is None
            assert t.kinds().count("conversation.item.added") == 1
            reference = {
                "type": "item_reference",
                "id": next(e["item"]["id"] for e in t.events if "item" in e),
            }
            await t.connection.response.create(response={**own, "input": [reference]})
            assert (await t.done())["output"][0]["content"][0]["text"] == "thirteen"
            assert (await t.answer())["output"][0]["content"][0]["transcript"] == "thirteen"

    asyncio.run(run())


def test_the_limit_of_tokens_is_told(talking: Live) -> None:
    async def run() -> None:
        async with talk(talking) as t:
            await t.ask("what is nine plus thirteen")
            await t.connection.response.create(
                response={"max_output_tokens": 1, "output_modalities": ["text"]}
            )
            made = await t.done()
            assert made["status"] == "incomplete"
            assert made["status_details"] == {"type": "incomplete", "reason": "max_output_tokens"}

    asyncio.run(run())


def test_two_at_once(talking: Live, spoken: np.ndarray) -> None:
    async def one(question: str, answer: str) -> None:
        async with talk(talking) as t:
            await t.update(output_modalities=["text"])
            for _ in range(3):
                await t.ask(question)
                assert (await t.answer())["output"][0]["content"][0]["text"] == answer

    async def run() -> None:
        await asyncio.gather(one("what is nine plus four", "thirteen"), one("what is two plus three", "five"))

    asyncio.run(run())


def test_long_silence_after_an_answer_is_a_turn(talking: Live) -> None:
    async def run() -> None:
        async with talk(talking) as t:
            await t.listen({**VAD, "idle_timeout_ms": 5000})
            await t.ask("what is nine plus four")
            await t.answer()
            played_ms = len(t.audio()) * 1000 // (2 * HERTZ)
            await t.say(np.zeros(7 * HERTZ, np.float32), 4800)
            event = await t.until("input_audio_buffer.timeout_triggered")
            assert abs(event["audio_start_ms"] - played_ms) <= 40
            assert event["audio_end_ms"] - event["audio_start_ms"] in range(5000, 5041)
            assert (await t.until("input_audio_buffer.committed"))["item_id"] == event["item_id"]
            assert (await t.done())["status"] == "completed"

    asyncio.run(run())


def test_a_conversation_too_long_for_the_model_goes_on(talking: Live, nano: Assistant) -> None:
    async def run() -> None:
        async with talk(talking) as t:
            await t.update(output_modalities=["text"])
            longest = nano.model.config.text_config.max_position_embeddings
            words = " ".join(["what is nine plus four"] * 40)
            read = []
            for _ in range(12):
                said = [{"type": "output_text", "text": words}]
                await t.send(
                    "conversation.item.create", item={"type": "message", "role": "assistant", "content": said}
                )
                await t.until("conversation.item.done")
                await t.ask("what is nine plus four")
                made = await t.answer()
                assert made["status"] == "completed", made["status_details"]
                read.append(made["usage"]["input_tokens"])
            assert max(read) < longest and read != sorted(read)

    asyncio.run(run())
