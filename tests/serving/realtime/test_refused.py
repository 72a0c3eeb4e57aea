"""What cannot be done is an error event that names the field, and the connection lives on."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import numpy as np
import pytest
from tests.serving.live import Live
from tests.serving.realtime.talking import HERTZ, talk

INPUT = "session.audio.input"


def nested(path: str, value: Any) -> dict[str, Any]:
    for name in reversed(path.split(".")):
        value = {name: value}
    found: dict[str, Any] = value
    return found


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        ("instructions", "Be kind.", "unsupported_value"),
        ("model", "another", "unsupported_value"),
        ("output_modalities", ["text", "audio"], "unsupported_value"),
        ("output_modalities", ["video"], "invalid_value"),
        ("output_modalities", [], "unsupported_value"),
        ("max_output_tokens", 0, "invalid_value"),
        ("max_output_tokens", 513, "invalid_value"),
        ("max_output_tokens", "many", "invalid_value"),
        ("max_output_tokens", True, "invalid_value"),
        ("tools", [{"type": "function", "name": "f"}], "unsupported_value"),
        ("tool_choice", "required", "unsupported_value"),
        ("temperature", 0.8, "unknown_parameter"),
        ("tracing", "auto", "invalid_value"),
        ("include", ["item.input_audio_transcription.logprobs"], "unsupported_value"),
        ("truncation", "never", "invalid_value"),
        ("audio.output.voice", "alloy", "unknown_voice"),
        ("audio.output.speed", 1.5, "unsupported_value"),
        ("audio.output.format", {"type": "audio/mp3"}, "invalid_value"),
        ("audio.input.format", {"type": "audio/pcm", "rate": 16000}, "unsupported_value"),
        ("audio.input.noise_reduction", {"type": "near_field"}, "invalid_value"),
        ("audio.input.turn_detection", {"type": "semantic_vad"}, "invalid_value"),
        ("audio.input.turn_detection", {"type": "server_vad", "threshold": 2.0}, "invalid_value"),
        ("audio.input.turn_detection", {"type": "server_vad", "silence_duration_ms": 1}, "invalid_value"),
        ("audio.input.turn_detection", {"type": "server_vad", "idle_timeout_ms": 1}, "invalid_value"),
        ("audio.input.turn_detection", {"type": "server_vad", "eagerness": "low"}, "unknown_parameter"),
        ("audio.input.transcription", {"model": "whisper-1"}, "unsupported_value"),
        ("audio.input.transcription", {"prompt": "numbers"}, "unsupported_value"),
        ("audio.input.noise", 1, "unknown_parameter"),
        ("audio", 5, "invalid_value"),
    ],
)
def test_settings(talking: Live, path: str, value: Any, code: str) -> None:
    async def run() -> None:
        async with talk(talking) as t:
            before = await t.update()
            await t.send(
                "session.update", event_id="mine", session={"type": "realtime", **nested(path, value)}
            )
            error = await t.error()
            assert error["code"] == code and error["event_id"] == "mine"
            assert error["param"].startswith(f"session.{path}"), error["param"]
            assert await t.update() == before, "a refused update changed something"

    asyncio.run(run())


@pytest.mark.parametrize(
    ("sent", "code", "param"),
    [
        ("{", "invalid_json", None),
        ("[" * 100_000, "invalid_json", None),
        ("[]", "missing_required_parameter", "type"),
        ("{}", "missing_required_parameter", "type"),
        ('{"type": 5}', "missing_required_parameter", "type"),
        ('{"type": "response.sing"}', "unknown_event", "type"),
        ('{"type": "session.update"}', "missing_required_parameter", "session"),
        ('{"type": "session.update", "session": {}}', "invalid_value", "session.type"),
        ('{"type": "session.update", "session": {"type": "transcription"}}', "invalid_value", "session.type"),
        ('{"type": "input_audio_buffer.append"}', "missing_required_parameter", "audio"),
        ('{"type": "input_audio_buffer.append", "audio": "*"}', "invalid_base64", "audio"),
        ('{"type": "input_audio_buffer.append", "audio": "AAAA"}', "invalid_audio", "audio"),
        ('{"type": "input_audio_buffer.append", "audio": 7}', "invalid_value", "audio"),
        ('{"type": "input_audio_buffer.append", "audio": "", "x": 1}', "unknown_parameter", "x"),
        ('{"type": "input_audio_buffer.commit"}', "input_audio_buffer_commit_empty", None),
        ('{"type": "output_audio_buffer.clear"}', "unsupported_event", "type"),
        ('{"type": "conversation.item.retrieve", "item_id": "x"}', "item_not_found", "item_id"),
        ('{"type": "conversation.item.delete", "item_id": "x"}', "item_not_found", "item_id"),
        ('{"type": "conversation.item.truncate", "item_id": "x"}', "missing_required_parameter", "content_index"),
        ('{"type": "response.create"}', "nothing_to_answer", None),
        ('{"type": "response.create", "response": {"conversation": "x"}}', "invalid_value", "response.conversation"),
        (
            '{"type": "response.create", "response": {"instructions": "x"}}',
            "unsupported_value",
            "response.instructions",
        ),
        ('{"type": "response.create", "response": {"input": []}}', "nothing_to_answer", "response.input"),
        ('{"type": "response.cancel", "response_id": "x"}', "response_cancel_not_active", "response_id"),
        (b"\x00", "invalid_json", None),
    ],
)  # fmt: skip
def test_events(talking: Live, sent: str | bytes, code: str, param: str | None) -> None:
    async def run() -> None:
        async with talk(talking) as t:
            await t.connection.send_raw(sent)
            error = await t.error()
            assert (error["code"], error["param"]) == (code, param)
            assert error["message"] and error["type"] == "invalid_request_error"
            await t.update()

    asyncio.run(run())


def text(words: str, kind: str = "input_text") -> list[dict[str, Any]]:
    return [{"type": kind, "text": words}]


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"type": "function_call_output", "call_id": "c", "output": "1"}, "item.type"),
        ({"type": "message", "content": text("x")}, "item.role"),
        ({"type": "message", "role": "robot", "content": text("x")}, "item.role"),
        ({"type": "message", "role": "user", "content": []}, "item.content"),
        ({"type": "message", "role": "user", "content": [{"type": "input_text"}]}, "item.content.0.text"),
        ({"type": "message", "role": "user", "content": text("x", "output_text")}, "item.content.0.type"),
        ({"type": "message", "role": "user", "content": [{"type": "input_audio"}]}, "item.content.0.audio"),
        (
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_image", "image_url": "http://x"}],
            },
            "item.content.0.type",
        ),
        ({"type": "message", "role": "user", "content": text("x" * 3000)}, "item.content.0.text"),
        ({"type": "message", "role": "system", "content": text("Be kind.")}, "item.role"),
    ],
)
def test_items(talking: Live, item: dict[str, Any], param: str) -> None:
    async def run() -> None:
        async with talk(talking) as t:
            await t.send("conversation.item.create", item=item)
            assert (await t.error())["param"] == param

    asyncio.run(run())


def test_places_of_items(talking: Live) -> None:
    async def run() -> None:
        async with talk(talking) as t:
            item = {"id": "mine", "type": "message", "role": "user", "content": text("hello")}
            await t.send("conversation.item.create", item=item)
            await t.until("conversation.item.done")
            await t.send("conversation.item.create", item=item)
            assert (await t.error())["code"] == "item_id_taken"
            await t.send("conversation.item.create", item={**item, "id": "other"}, previous_item_id="nobody")
            assert (await t.error())["param"] == "previous_item_id"

    asyncio.run(run())


def test_one_recording_per_turn_is_the_models_own_limit(talking: Live, spoken: np.ndarray) -> None:
    """The model says so itself, as a response that failed; then it goes on."""

    async def run() -> None:
        async with talk(talking) as t:
            clip = {"type": "input_audio", "audio": base64.b64encode(bytes(9600)).decode()}
            item = {"type": "message", "role": "user", "content": [*text("listen"), clip]}
            await t.send("conversation.item.create", item=item)
            made = await t.answer()
            assert made["status"] == "failed"
            assert "not both" in made["status_details"]["error"]["message"]

    asyncio.run(run())


def test_too_long_a_recording(talking: Live, spoken: np.ndarray) -> None:
    async def run() -> None:
        async with talk(talking) as t:
            await t.listen(None)
            for _ in range(4):
                await t.say(np.zeros(2 * HERTZ, np.float32), 2 * HERTZ)
            await t.say(spoken[:2400])
            error = await t.error()
            assert error["code"] == "input_audio_buffer_full" and "8 s" in error["message"]
            await t.connection.input_audio_buffer.clear()
            await t.until("input_audio_buffer.cleared")
            await t.say(spoken)
            await t.connection.input_audio_buffer.commit()
            assert (await t.answer())["output"][0]["content"][0]["transcript"] == "twelve"

    asyncio.run(run())


def test_speech_without_end_is_a_turn_at_the_limit(talking: Live, spoken: np.ndarray) -> None:
    async def run() -> None:
        async with talk(talking) as t:
            await t.listen({"type": "server_vad", "silence_duration_ms": 1000}, output_modalities=["text"])
            await t.say(np.tile(spoken, 6))
            started = await t.until("input_audio_buffer.speech_started")
            stopped = await t.until("input_audio_buffer.speech_stopped")
            assert 7900 < stopped["audio_end_ms"] - started["audio_start_ms"] < 8200
            await t.until("response.done")

    asyncio.run(run())
