"""``/v1/audio/transcriptions`` and ``/v1/audio/translations``: write down what is said in an upload."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, File, Form, Request, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from vivavoce.inference.finish import Finish
from vivavoce.inference.reply import Transcript
from vivavoce.serving.refusals import Refusal
from vivavoce.serving.service import Results, Service, collected, service_of

FORMATS = ("json", "text", "verbose_json", "srt", "vtt")

router = APIRouter()


@router.post("/v1/audio/transcriptions")
async def transcriptions(
    request: Request,
    file: Annotated[UploadFile, File()],
    model: Annotated[str, Form()],
    response_format: Annotated[str, Form()] = "json",
    language: Annotated[str | None, Form(max_length=32)] = None,
    prompt: Annotated[str | None, Form()] = None,
    temperature: Annotated[float | None, Form(ge=0, le=1)] = None,
    timestamp_granularities: Annotated[list[str] | None, Form(alias="timestamp_granularities[]")] = None,
    stream: Annotated[bool, Form()] = False,
) -> Any:
    """Write down what is said.

    ``language`` is accepted and only named again in ``verbose_json``: the model hears what it was made for.
    """
    service = service_of(request)
    service.check_model(model)
    if not service.engine.transcribes or service.decoder is None:
        raise Refusal(400, f"{service.engine.name} was not made to transcribe.", "no_transcription", "model")
    if response_format not in FORMATS:
        wanted = ", ".join(FORMATS)
        raise Refusal(
            400, f"unknown format {response_format!r}; wanted one of {wanted}.", "unsupported_format",
            "response_format",
        )  # fmt: skip
    if prompt:
        raise Refusal(400, "prompt is not supported here; leave it out.", "unsupported_value", "prompt")
    if set(timestamp_granularities or ()) - {"segment"}:
        raise Refusal(
            400, "the model gives no word times; wanted timestamp_granularities ['segment'].",
            "unsupported_value", "timestamp_granularities",
        )  # fmt: skip
    if stream and response_format not in ("json", "text"):
        raise Refusal(
            400, f"stream=true gives text; response_format is {response_format!r}.", "unsupported_format",
            "response_format",
        )  # fmt: skip
    waveform = await service.decoder.read(await file.read())
    options = {"temperature": temperature}

    def work() -> Iterator[Transcript]:
        return _heard(service, waveform, options, request.scope["began"])

    if stream:
        results = await Results.of(request, work)
        return StreamingResponse(results.events(_rows), media_type="text/event-stream")
    (transcript,) = await collected(request, work)
    return _response(service, transcript, response_format, language, temperature or 0.0)


@router.post("/v1/audio/translations")
async def translations(
    request: Request, file: Annotated[UploadFile, File()], model: Annotated[str, Form()]
) -> Any:
    """Say clearly that the model does not translate."""
    service = service_of(request)
    service.check_model(model)
    raise Refusal(
        501,
        f"{service.engine.name} was not made to translate recordings into English; "
        "transcribe it, or ask for a translation in /v1/chat/completions if the model was trained for that.",
        "no_translation",
        "model",
    )


def _heard(
    service: Service, waveform: np.ndarray, options: dict[str, Any], began: float
) -> Iterator[Transcript]:
    """The transcript; runs in the worker."""
    engine, started = service.engine, time.monotonic()
    transcript = engine.transcribe(waveform, options)
    service.metrics.ttft.add(time.monotonic() - began)
    service.metrics.rtf.add((time.monotonic() - started) / transcript.seconds)
    yield transcript


def _rows(transcript: Transcript) -> Iterator[dict[str, Any]]:
    finish = transcript.finish or Finish("stop")
    text, audio = finish.prompt_text_tokens, finish.prompt_audio_tokens
    if transcript.text:
        yield {"type": "transcript.text.delta", "delta": transcript.text}
    usage = {
        "type": "tokens",
        "input_tokens": text + audio,
        "input_token_details": {"text_tokens": text, "audio_tokens": audio},
        "output_tokens": finish.text_tokens,
        "total_tokens": text + audio + finish.text_tokens,
    }
    yield {"type": "transcript.text.done", "text": transcript.text, "usage": usage}


def _response(
    service: Service, transcript: Transcript, form: str, language: str | None, temperature: float
) -> Any:
    text, seconds = transcript.text, transcript.seconds
    if form == "text":
        return PlainTextResponse(text + "\n")
    if form in ("srt", "vtt"):
        return PlainTextResponse(subtitles(text, seconds, form))
    usage = {"type": "duration", "seconds": round(seconds, 3)}
    if form == "json":
        return JSONResponse({"text": text, "usage": usage})
    raw = text.encode()
    segment = {
        "id": 0,
        "seek": 0,
        "start": 0.0,
        "end": round(seconds, 3),
        "text": text,
        "tokens": service.engine.text_ids(text),
        "temperature": temperature,
        "avg_logprob": 0.0,  # the model's calls do not give it
        "compression_ratio": round(len(raw) / len(zlib.compress(raw)), 3) if raw else 0.0,
        "no_speech_prob": 0.0 if transcript.understood else 1.0,
    }
    return JSONResponse(
        {
            "task": "transcribe",
            "language": language or "unknown",
            "duration": round(seconds, 3),
            "text": text,
            "segments": [segment] if text else [],
            "usage": usage,
            "understood": transcript.understood,
        }
    )


def subtitles(text: str, seconds: float, form: str) -> str:
    """One cue over the whole recording, as srt or vtt."""
    mark = "," if form == "srt" else "."
    cue = f"{_clock(0.0, mark)} --> {_clock(seconds, mark)}\n{text}\n"
    if form == "vtt":
        return f"WEBVTT\n\n{cue}" if text else "WEBVTT\n"
    return f"1\n{cue}" if text else ""


def _clock(seconds: float, mark: str) -> str:
    ms = round(1000 * seconds)
    return f"{ms // 3600000:02d}:{ms // 60000 % 60:02d}:{ms // 1000 % 60:02d}{mark}{ms % 1000:03d}"
