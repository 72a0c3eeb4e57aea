"""``/v1/audio/transcriptions`` and ``/v1/audio/translations``: write down what is said in an upload."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, File, Form, Request, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse

from vivavoce.inference.finish import Finish
from vivavoce.serving.refusals import Refusal
from vivavoce.serving.service import Results, Service, Streamed, collected, service_of

FORMATS = ("json", "text", "verbose_json", "srt", "vtt")

WORDS = ("segment", "word")
PAUSE_S = 1.5  # from one word's beginning to the next one's, where a segment ends

TAKEN = frozenset(
    (
        "file", "model", "response_format", "language", "prompt", "temperature", "timestamp_granularities[]", "stream",
        "chunking_strategy", "user",
    )
)  # fmt: skip

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
    wanted = set(timestamp_granularities or ())
    if wanted - set(WORDS) or (wanted and response_format != "verbose_json"):
        raise _unsupported(
            "timestamp_granularities", "wanted 'segment' and 'word', with response_format 'verbose_json'."
        )
    if "word" in wanted and not service.engine.times_words:
        raise _unsupported(
            "timestamp_granularities", f"{service.engine.name} cannot tell when words are said."
        )
    if stream and response_format not in ("json", "text"):
        raise _unsupported(
            "response_format", f"stream=true gives text; response_format is {response_format!r}."
        )
    await _check_fields(request)
    work = _Work(service, request.scope["began"], response_format, temperature, language, "word" in wanted)
    return await work.answer(request, await _waveform(service, file, response_format, prompt), stream)


@router.post("/v1/audio/translations")
async def translations(
    request: Request,
    file: Annotated[UploadFile, File()],
    model: Annotated[str, Form()],
    response_format: Annotated[str, Form()] = "json",
    prompt: Annotated[str | None, Form()] = None,
    temperature: Annotated[float | None, Form(ge=0, le=1)] = None,
) -> Any:
    """Write down in English what is said in any language, by models with a prompt for that."""
    service = service_of(request)
    service.check_model(model)
    if not service.engine.translates or service.decoder is None:
        raise Refusal(
            501,
            f"{service.engine.name} was not made to translate recordings into English; "
            "transcribe it, or ask for a translation in /v1/chat/completions if the model was trained for that.",
            "no_translation",
            "model",
        )
    await _check_fields(request)
    work = _Work(service, request.scope["began"], response_format, temperature, "english", translate=True)
    return await work.answer(request, await _waveform(service, file, response_format, prompt))


async def _check_fields(request: Request) -> None:
    """Refuse what we would not do, such as ``include[]``; the two last ones of those taken change nothing here.

    Raises:
        Refusal: 400.
    """
    for name in await request.form():
        if name not in TAKEN:
            raise Refusal(400, f"unknown field {name!r}; leave it out.", "unknown_parameter", name)


async def _waveform(service: Service, file: UploadFile, form: str, prompt: str | None) -> np.ndarray:
    """Check what both routes share and decode the upload."""
    if form not in FORMATS:
        wanted = ", ".join(FORMATS)
        raise Refusal(
            400, f"unknown format {form!r}; wanted one of {wanted}.", "unsupported_format", "response_format"
        )
    if prompt:
        raise _unsupported("prompt", "prompt is not supported here; leave it out.")
    assert service.decoder is not None
    return await service.decoder.read(await file.read())


@dataclass
class _Work:
    """One upload.

    Attributes:
        service: See there.
        began: When the request came.
        form: Of the answer.
        temperature: Of the draws.
        language: Is named again.
        words: Tell when they are said.
        translate: Into English.
    """

    service: Service
    began: float
    form: str
    temperature: float | None
    language: str | None
    words: bool = False
    translate: bool = False

    async def answer(self, request: Request, waveform: np.ndarray, stream: bool = False) -> Any:
        if stream:
            results = await Results.of(request, lambda: self._run(waveform))
            return Streamed(results, results.events(_rows), "text/event-stream")
        _, heard = (await collected(request, lambda: self._run(waveform)))[-1]
        return self._response(heard, len(waveform) / self.service.engine.hearing_hz)

    def _run(self, waveform: np.ndarray) -> Iterator[tuple[str, _Heard | None]]:
        """Pieces of text as the model writes them, then the whole; runs in the worker, which may stop between."""
        engine, metrics, started = self.service.engine, self.service.metrics, time.monotonic()
        options = {"temperature": self.temperature, "logprobs": self.form == "verbose_json" or None}
        heard, space = _Heard(), ""
        for delta in engine.transcribe(waveform, self.translate, options):
            piece = space + delta.transcript if heard.text else delta.transcript.lstrip()
            kept = piece.rstrip()
            if kept and not heard.text:
                metrics.ttft.add(time.monotonic() - self.began)
            space, heard.text = piece[len(kept) :], heard.text + kept
            heard.understood &= delta.understood
            heard.finish = delta.finish or heard.finish
            if delta.finish is None:
                yield kept, None
        if self.form in ("srt", "vtt", "verbose_json") and not self.translate:
            times = engine.word_times(waveform, heard.text)
            if times is None and self.words and heard.text:
                raise Refusal(
                    400, "the recording is too short for its words, or their times cannot be told.",
                    "no_word_times", "timestamp_granularities",
                )  # fmt: skip
            heard.words = times or []
        metrics.rtf.add((time.monotonic() - started) * engine.hearing_hz / len(waveform))
        yield "", heard

    def _response(self, heard: _Heard, seconds: float) -> Any:
        text, form = heard.text, self.form
        if form == "text":
            return PlainTextResponse(text + "\n")
        parts = segments(text, heard.words, seconds)
        if form in ("srt", "vtt"):
            return PlainTextResponse(subtitles(parts, form))
        usage = {"type": "duration", "seconds": round(seconds, 3)}
        if form == "json":
            return JSONResponse({"text": text} if self.translate else {"text": text, "usage": usage})
        made = {
            "task": "translate" if self.translate else "transcribe",
            "language": self.language or "unknown",
            "duration": round(seconds, 3),
            "text": text,
            "segments": [self._segment(i, part, heard) for i, part in enumerate(parts)],
            "understood": heard.understood,
        }
        if self.words:
            made["words"] = [
                {"word": word, "start": round(a, 3), "end": round(b, 3)} for word, a, b in heard.words
            ]
        return JSONResponse(made if self.translate else {**made, "usage": usage})

    def _segment(self, number: int, part: tuple[str, float, float], heard: _Heard) -> dict[str, Any]:
        text, start, end = part
        raw, drawn = text.encode(), heard.finish.logprobs
        return {
            "id": number,
            "seek": 0,
            "start": round(start, 3),
            "end": round(end, 3),
            "text": text,
            "tokens": self.service.engine.text_ids(text),
            "temperature": self.temperature or 0.0,
            "avg_logprob": sum(e.logprob for e in drawn) / len(drawn) if drawn else 0.0,  # of the whole
            "compression_ratio": round(len(raw) / len(zlib.compress(raw)), 3),
            "no_speech_prob": 0.0 if heard.understood else 1.0,
        }


@dataclass
class _Heard:
    """What was made of an upload."""

    text: str = ""
    understood: bool = True
    finish: Finish = field(default_factory=lambda: Finish("stop"))
    words: list[tuple[str, float, float]] = field(default_factory=list)


def _rows(result: tuple[str, _Heard | None]) -> Iterator[dict[str, Any]]:
    piece, heard = result
    if piece:
        yield {"type": "transcript.text.delta", "delta": piece}
    if heard is None:
        return
    text, audio = heard.finish.prompt_text_tokens, heard.finish.prompt_audio_tokens
    usage = {
        "type": "tokens",
        "input_tokens": text + audio,
        "input_token_details": {"text_tokens": text, "audio_tokens": audio},
        "output_tokens": heard.finish.text_tokens,
        "total_tokens": text + audio + heard.finish.text_tokens,
    }
    yield {"type": "transcript.text.done", "text": heard.text, "usage": usage}


def segments(
    text: str, words: Sequence[tuple[str, float, float]], seconds: float
) -> list[tuple[str, float, float]]:
    """Text with its times, cut at pauses where word times tell of them; else in one."""
    if not words or " ".join(word for word, _, _ in words) != " ".join(text.split()):
        return [(text, 0.0, seconds)] if text else []
    made, before = [words[0]], words[0][1]
    for word, start, end in words[1:]:
        said, since, _ = made[-1]
        if start - before >= PAUSE_S:
            made.append((word, start, end))
        else:
            made[-1] = (f"{said} {word}", since, end)
        before = start
    return made


def subtitles(parts: Sequence[tuple[str, float, float]], form: str) -> str:
    """A cue for each segment, as srt or vtt."""
    mark = "," if form == "srt" else "."
    cues = [f"{_clock(start, mark)} --> {_clock(end, mark)}\n{text}\n" for text, start, end in parts]
    if form == "vtt":
        return "\n".join(["WEBVTT\n", *cues])
    return "\n".join(f"{number}\n{cue}" for number, cue in enumerate(cues, 1))


def _clock(seconds: float, mark: str) -> str:
    ms = round(1000 * seconds)
    return f"{ms // 3600000:02d}:{ms // 60000 % 60:02d}:{ms // 1000 % 60:02d}{mark}{ms % 1000:03d}"


def _unsupported(param: str, message: str) -> Refusal:
    return Refusal(400, message, "unsupported_value", param)
