"""A model behind an OpenAI-compatible address as an answerer: chat with ``input_audio``, transcriptions, speech.

Chats are streamed, so that the first text and the first sound are timed; what the network takes is in the times.
"""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from vivavoce.audio.files import read_audio
from vivavoce.base.errors import ConfigError, MissingExtraError, ModelError
from vivavoce.evaluation.items import Sound
from vivavoce.evaluation.run.answerers import Answer, Messages

STREAM_HZ = 24_000
"""Streamed sound is 16-bit at this rate in OpenAI's form."""


class Remote:
    """An address and a model's name there.

    Args:
        spec: ``openai:URL[#MODEL]``, URL up to and with ``/v1``; without a name the first model the server lists.
        max_new_tokens: Of an answer.
        key_env: Environment variable with the key; None for OPENAI_API_KEY, and servers that need none.

    Raises:
        ConfigError: A malformed address.
        MissingExtraError: The package openai is absent.
        ModelError: The server lists no models.
    """

    parallel = 8
    clips_first = False
    hears = True
    speaks = True

    def __init__(self, spec: str, max_new_tokens: int = 512, key_env: str | None = None) -> None:
        import os

        url, _, model = spec.removeprefix("openai:").partition("#")
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"the endpoint is {spec!r}; wanted openai:http://HOST:PORT/v1[#MODEL].")
        try:
            import openai
        except ImportError as error:
            raise MissingExtraError("endpoints need the package openai; run: pip install openai") from error
        if key_env and not os.environ.get(key_env):
            raise ConfigError(f"the environment variable {key_env} with the key is not set.")
        key = os.environ.get(key_env or "OPENAI_API_KEY") or "none"
        self._faults, self.max_new_tokens = openai.OpenAIError, max_new_tokens
        self._client = openai.OpenAI(base_url=url, api_key=key, max_retries=3, timeout=120)
        self.model = model or self._first_model()
        self.name = f"{self.model} at an OpenAI-compatible address"

    def chat(self, messages: Messages, aloud: bool = False) -> Answer:
        spoken: dict[str, Any] = {}
        if aloud:
            spoken = {"modalities": ["text", "audio"], "audio": {"voice": "default", "format": "pcm16"}}
        began = time.perf_counter()
        first_text = first_audio = None
        text, said, pieces = "", "", []
        try:
            stream = self._client.chat.completions.create(
                model=self.model, messages=[_message(m) for m in messages], temperature=0.0,
                max_tokens=self.max_new_tokens, stream=True, **spoken,
            )  # fmt: skip
            for chunk in stream:
                delta = chunk.choices[0].delta if chunk.choices else None
                if delta is None:
                    continue
                data, transcript = _sound(delta)
                if (delta.content or transcript) and first_text is None:
                    first_text = time.perf_counter() - began
                text, said = text + (delta.content or ""), said + transcript
                if data:
                    first_audio = first_audio or time.perf_counter() - began
                    pieces.append(base64.b64decode(data))
        except self._faults as error:
            raise ModelError(f"the endpoint gave no answer: {error}") from error
        total = time.perf_counter() - began
        samples = np.frombuffer(b"".join(pieces), "<i2").astype(np.float32) / 32768
        heard = Sound(samples, STREAM_HZ) if len(samples) else None
        return Answer(text or said, None, True, heard, first_text, first_audio, total)

    def transcribe(self, sound: Sound) -> Answer:
        began = time.perf_counter()
        try:
            found = self._client.audio.transcriptions.create(
                model=self.model, file=("speech.wav", _wav(sound))
            )
        except self._faults as error:
            raise ModelError(f"the endpoint gave no transcript: {error}") from error
        return Answer(found.text, found.text, total_s=time.perf_counter() - began)

    def say(self, text: str) -> Answer:
        began = time.perf_counter()
        try:
            found = self._client.audio.speech.create(
                model=self.model, input=text, voice="default", response_format="wav"
            )
            data = found.read()
        except self._faults as error:
            raise ModelError(f"the endpoint did not speak: {error}") from error
        sound = Sound(*read_audio(io.BytesIO(data)))
        return Answer(text, None, True, sound, None, None, time.perf_counter() - began)

    def choose(self, messages: Messages, letters: str) -> Answer:
        """Ask for the letter in words; an address gives no likelihoods of what it did not say."""
        return self.chat(messages)

    def _first_model(self) -> str:
        try:
            listed = self._client.models.list().data
        except self._faults as error:
            raise ModelError(f"the endpoint does not list its models: {error}") from error
        if not listed:
            raise ModelError("the endpoint lists no models; name one: openai:URL#MODEL.")
        return str(listed[0].id)


def _sound(delta: Any) -> tuple[str, str]:
    """(base64 of samples, words) of a piece; a dict in older versions of the client, an object in newer."""
    found = getattr(delta, "audio", None)
    fields = found if isinstance(found, Mapping) else vars(found) if found is not None else {}
    return fields.get("data") or "", fields.get("transcript") or ""


def _message(message: Any) -> Any:
    """A message with recordings as OpenAI's ``input_audio``."""
    content = message["content"]
    if isinstance(content, str):
        return dict(message)
    parts = []
    for part in content:
        if part["type"] != "audio":
            parts.append(part)
            continue
        data = base64.b64encode(_wav(Sound(part["audio"], part["sampling_rate"]))).decode()
        parts.append({"type": "input_audio", "input_audio": {"data": data, "format": "wav"}})
    return {"role": message["role"], "content": parts}


def _wav(sound: Sound) -> bytes:
    import soundfile

    file = io.BytesIO()
    samples = np.clip(np.rint(sound.waveform * 32768.0), -32768, 32767).astype(np.int16)
    soundfile.write(file, samples, sound.sample_rate, format="WAV", subtype="PCM_16")
    return file.getvalue()
