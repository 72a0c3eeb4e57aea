"""``/v1/audio/speech``: read a text aloud; the sound is sent while it is made."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from vivavoce.audio.tempo import change_tempo
from vivavoce.inference.finish import Finish
from vivavoce.serving.encoding import MEDIA_TYPES, StreamEncoder, check_format
from vivavoce.serving.refusals import Refusal
from vivavoce.serving.requests import SpeechRequest, check_voice, voice_name
from vivavoce.serving.service import Results, Service, Streamed, service_of

FORMATS = ("mp3", "opus", "ogg", "flac", "wav", "pcm")
SPEEDS = (0.5, 2.0)

router = APIRouter()


@router.post("/v1/audio/speech", response_class=StreamingResponse)
async def speech(body: SpeechRequest, request: Request) -> StreamingResponse:
    """Read a text aloud."""
    service = service_of(request)
    engine, limits = service.engine, service.limits
    service.check_model(body.model)
    if not engine.speaks:
        raise Refusal(400, f"{engine.name} does not speak.", "no_speech", "model")
    form = check_format(body.response_format, FORMATS, "response_format")
    check_voice(voice_name(body.voice), engine.voices)
    if len(body.input) > limits.max_speech_chars:
        raise Refusal(
            413, f"input has more than {limits.max_speech_chars} characters.", "text_too_long", "input"
        )
    if body.instructions:
        raise Refusal(
            400, "instructions are not supported here; leave them out.", "unsupported_value", "instructions"
        )
    if not SPEEDS[0] <= body.speed <= SPEEDS[1]:
        raise Refusal(
            400, f"speed is {body.speed:g}; wanted {SPEEDS[0]} to {SPEEDS[1]}.", "unsupported_value", "speed"
        )
    began = request.scope["began"]
    results = await Results.of(request, lambda: _spoken(service, body, form, began))
    if body.stream_format == "sse":
        return Streamed(results, results.events(_rows), "text/event-stream")
    return Streamed(results, _bytes(results), MEDIA_TYPES[form])


def _spoken(service: Service, body: SpeechRequest, form: str, began: float) -> Iterator[tuple[bytes, Any]]:
    """Encoded pieces, and the usage with the last one; runs in the worker."""
    engine, started = service.engine, time.monotonic()
    encoder = StreamEncoder(form, engine.speaking_hz)
    num_samples, finish = 0, Finish("stop")
    for wave, ended in _waves(service, body):
        finish = ended or finish
        if not num_samples and len(wave):
            service.metrics.first_audio.add(time.monotonic() - began)
        num_samples += len(wave)
        yield encoder.push(wave), None
    if not num_samples:
        raise Refusal(400, "the model said nothing for this input.", "no_speech", "input")
    service.metrics.rtf.add((time.monotonic() - started) * engine.speaking_hz / num_samples)
    read, made = finish.prompt_text_tokens, finish.audio_tokens
    yield encoder.close(), {"input_tokens": read, "output_tokens": made, "total_tokens": read + made}


def _waves(service: Service, body: SpeechRequest) -> Iterator[tuple[np.ndarray, Finish | None]]:
    nothing, whole = np.zeros(0, np.float32), []
    for delta in service.engine.say(body.input, voice_name(body.voice)):
        piece = nothing if delta.audio is None else delta.audio
        if body.speed != 1:  # the tempo is changed over the whole
            whole.append(piece)
            piece = nothing
        yield piece, delta.finish
    if sum(map(len, whole)):
        hz = service.engine.speaking_hz
        yield change_tempo(np.concatenate(whole), hz, body.speed, keep_pitch=True), None


async def _bytes(results: Results) -> AsyncIterator[bytes]:
    async for data, _ in results:
        if data:
            yield data


def _rows(result: tuple[bytes, Any]) -> Iterator[dict[str, Any]]:
    data, usage = result
    if data:
        yield {"type": "speech.audio.delta", "audio": base64.b64encode(data).decode()}
    if usage is not None:
        yield {"type": "speech.audio.done", "usage": usage}
