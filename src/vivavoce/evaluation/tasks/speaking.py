"""Recordings made offline by small synthesizers, for twins and the bundle's own suite."""

from __future__ import annotations

from functools import lru_cache

from vivavoce.audio.files import flac_bytes
from vivavoce.audio.synthesis import has_synthesizer, list_voices, synthesize
from vivavoce.base.errors import MissingExtraError


@lru_cache(maxsize=512)
def _flac(text: str, voice: str, speed: float) -> bytes:
    return flac_bytes(*synthesize(text, voice, speed=speed))


def speak(text: str, voice: str, speed: float = 1.0) -> dict[str, bytes]:
    """A recording in the form of rows, ``{"bytes"}``, a 16-bit FLAC file.

    Raises:
        AudioError, MissingExtraError: As ``synthesize``.
    """
    return {"bytes": _flac(text, voice, speed)}


def voice_of(language: str, number: int = 0) -> str:
    """A voice for a language by ISO 639-1, numbered so that speakers differ.

    Raises:
        MissingExtraError: espeak-ng is not installed.
    """
    if not has_synthesizer("espeak"):
        raise MissingExtraError("twins are spoken by espeak-ng; run: pip install 'vivavoce[tts]'")
    code = {"en": "en-us", "zh": "cmn", "no": "nb"}.get(language, language)
    if code not in list_voices("espeak"):
        code = "en-us"
    return f"espeak:{code}+{('m1', 'f2', 'm3', 'f4')[number % 4]}"
