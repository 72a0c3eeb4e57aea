"""Voices that speak training data, behind one small interface: ``ENGINE:NAME`` names a voice and is its speaker id.

| voice | speaks |
|---|---|
| ``espeak:LANGUAGE[+VARIANT]``, ``flite:NAME`` | classical synthesizers on this machine, the same bytes every time |
| ``transformers:MODEL[#SPEAKER]`` | a text-to-speech model of transformers (VITS, SpeechT5, Bark, ...) |
| ``service:NAME[#VOICE]`` | what the service "tts" of the context gives: our own speech LMs |
| ``endpoint:MODEL#VOICE`` | an OpenAI-compatible server |

``espeak`` or ``flite`` alone stand for all good voices of that synthesizer.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vivavoce.audio.files import read_audio
from vivavoce.audio.synthesis import can_change_melody, list_voices, synthesize
from vivavoce.base.errors import AudioError, ConfigError, DataError
from vivavoce.base.registry import Registry
from vivavoce.data.build.contract import Context
from vivavoce.data.build.speech.languages import primary
from vivavoce.data.build.speech.moods import Mood
from vivavoce.data.build.texts.answer_cache import AnswerCache
from vivavoce.data.build.texts.endpoints import Endpoint, read_endpoint

VOICE_ENGINES = Registry(
    "voice engine",
    {
        "espeak": "vivavoce.data.build.speech.voices:EspeakVoice",
        "flite": "vivavoce.data.build.speech.voices:FliteVoice",
        "transformers": "vivavoce.data.build.speech.voice_models:ModelVoice",
        "service": "vivavoce.data.build.speech.voices:ServiceVoice",
        "endpoint": "vivavoce.data.build.speech.voices:EndpointVoice",
    },
    group="vivavoce.voices",
)

FLITE_VOICES = ("slt", "awb", "rms", "kal16")  # not awb_time, which can only tell the time
ESPEAK_ACCENTS = {"en": ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-029"), "zh": ("cmn",)}
ESPEAK_VARIANTS = (
    "m1 m2 m3 m4 m5 m6 m7 m8 f1 f2 f3 f4 f5 Alex Andy Annie Diogo Gene Lee Michael Marco adam anika antonio belinda ed "
    "john linda max michel pablo rob robert shelby steph zac"
).split()
"""Variants of espeak-ng that sound like people, and are understood."""


@dataclass
class Setup:
    """What voices of one builder share.

    Attributes:
        context: For services, cache and device.
        language: Of the texts; None if only the voices know.
        endpoint: Settings of the server, if there is one.
        loaded: Models and clients, by name, so that voices of one model share it.
    """

    context: Context
    language: str | None = None
    endpoint: Mapping[str, Any] | None = None
    loaded: dict[str, Any] = field(default_factory=dict)


class Voice(ABC):
    """One speaker.

    Args:
        engine: As it is named in the table.
        name: What follows the engine.
        setup: Shared with the other voices.

    Attributes:
        speaker: ``ENGINE:NAME``.
        language: Code of what it speaks.
        tunes: Which of "speed" and "pitch" it can change.
        server: To be asked for many texts at a time; None for what works here.
    """

    tunes: frozenset[str] = frozenset()

    def __init__(self, engine: str, name: str, setup: Setup) -> None:
        self.speaker, self.name, self.setup = f"{engine}:{name}", name, setup
        self.language = setup.language
        self.server: Endpoint | None = None

    @classmethod
    def names(cls, language: str) -> Sequence[str]:
        """The voices that the engine alone stands for."""
        return ()

    @abstractmethod
    def say(self, text: str, seed: int, speed: float = 1.0, pitch: float = 1.0) -> tuple[np.ndarray, int]:
        """Speak.

        Args:
            text: With at least one letter or digit.
            seed: Of all that is random in it; the same arguments give the same samples.
            speed, pitch: Factors; other than 1 only if it ``tunes`` them.

        Returns:
            float32 [S] and the sample rate in Hz.

        Raises:
            AudioError: It cannot say this.
            DataError: The server fails.
        """

    def express(self, text: str, seed: int, speed: float, pitch: float, mood: Mood) -> tuple[np.ndarray, int]:
        """Speak with what a mood adds beyond speed and pitch; voices that can do no more leave it out.

        Args:
            text, seed, speed, pitch: As ``say``; the mood's factors are in them already.
            mood: Its pitch range and gaps between words.

        Raises:
            AudioError, DataError: As ``say``.
        """
        return self.say(text, seed, speed, pitch)


def make_voices(names: Sequence[str], setup: Setup) -> list[list[Voice]]:
    """Make voices, and load their models.

    Args:
        names: ``ENGINE:NAME``, or an engine for all of its voices.
        setup: Shared by them.

    Returns:
        For each name the voices it stands for.

    Raises:
        ConfigError: Unknown engine or voice.
        ModelError: A model cannot be loaded.
        MissingExtraError: The synthesizer is not installed.
    """
    made = []
    for given in names:
        engine, colon, name = given.partition(":")
        cls = VOICE_ENGINES.get(engine)
        found = [name] if name else [] if colon else list(cls.names(primary(setup.language or "en")))
        if not found:
            raise ConfigError(f"voice is {given!r}; wanted {engine}:NAME.")
        made.append([cls(engine, one, setup) for one in found])
    return made


def _agree(voice: Voice, language: str) -> str:
    wanted = voice.setup.language
    if wanted is not None and primary(wanted) != primary(language):
        raise ConfigError(f"voice {voice.speaker!r} speaks {language!r}, but language is {wanted!r}.")
    return primary(language)


class EspeakVoice(Voice):
    """A voice of espeak-ng."""

    tunes = frozenset({"speed", "pitch"})

    def __init__(self, engine: str, name: str, setup: Setup) -> None:
        super().__init__(engine, name, setup)
        code, _, variant = name.partition("+")
        known = setup.loaded.setdefault("espeak names", frozenset(list_voices("espeak")))
        if code not in known or (variant and f"+{variant}" not in known):
            raise ConfigError(
                f"espeak-ng has no voice {name!r}; see vivavoce.audio.synthesis.list_voices('espeak')."
            )
        self.language = _agree(self, code)

    @classmethod
    def names(cls, language: str) -> Sequence[str]:
        known = list_voices("espeak")
        accents = [a for a in ESPEAK_ACCENTS.get(language, (language,)) if a in known]
        return [
            f"{a}{v}" for a in accents for v in ("", *(f"+{x}" for x in ESPEAK_VARIANTS if f"+{x}" in known))
        ]

    def say(self, text: str, seed: int, speed: float = 1.0, pitch: float = 1.0) -> tuple[np.ndarray, int]:
        return synthesize(text, self.speaker, speed=speed, pitch=pitch)

    def express(self, text: str, seed: int, speed: float, pitch: float, mood: Mood) -> tuple[np.ndarray, int]:
        if not can_change_melody("espeak"):
            return self.say(text, seed, speed, pitch)
        return synthesize(
            text,
            self.speaker,
            speed=speed,
            pitch=pitch,
            pitch_range=mood.pitch_range,
            word_gap_s=mood.word_gap_s,
        )


class FliteVoice(Voice):
    """A voice of flite, English."""

    tunes = frozenset({"speed", "pitch"})

    def __init__(self, engine: str, name: str, setup: Setup) -> None:
        super().__init__(engine, name, setup)
        known = setup.loaded.setdefault("flite names", frozenset(list_voices("flite")))
        if name not in known:
            raise ConfigError(f"flite has no voice {name!r}; it has {', '.join(sorted(known))}.")
        self.language = _agree(self, "en")

    @classmethod
    def names(cls, language: str) -> Sequence[str]:
        return FLITE_VOICES if language == "en" else ()

    def say(self, text: str, seed: int, speed: float = 1.0, pitch: float = 1.0) -> tuple[np.ndarray, int]:
        return synthesize(text, self.speaker, speed=speed, pitch=pitch)


class ServiceVoice(Voice):
    """A voice of a model that the context's service "tts" makes; its ``say(text, seed)`` speaks."""

    def __init__(self, engine: str, name: str, setup: Setup) -> None:
        super().__init__(engine, name, setup)
        if self.speaker not in setup.loaded:
            model, _, voice = name.partition("#")
            setup.loaded[self.speaker] = setup.context.service("tts", model, voice or None)

    def say(self, text: str, seed: int, speed: float = 1.0, pitch: float = 1.0) -> tuple[np.ndarray, int]:
        waveform, rate = self.setup.loaded[self.speaker].say(text, seed)
        return np.asarray(waveform, np.float32), int(rate)


class EndpointVoice(Voice):
    """A voice of an OpenAI-compatible server, ``POST /v1/audio/speech``; what it answered is kept in the cache.

    A server need not say the same twice. With a cache, what it said first is what counts.
    """

    tunes = frozenset({"speed"})

    def __init__(self, engine: str, name: str, setup: Setup) -> None:
        super().__init__(engine, name, setup)
        if "#" not in name:
            raise ConfigError(f"voice is {self.speaker!r}; wanted endpoint:MODEL#VOICE.")
        if "endpoint" not in setup.loaded:
            setup.loaded["endpoint"] = Endpoint(read_endpoint(setup.endpoint, f"voice {self.speaker!r}"))
            setup.loaded["speech cache"] = AnswerCache(setup.context.cache, "speech")
        self.server = setup.loaded["endpoint"]

    def say(self, text: str, seed: int, speed: float = 1.0, pitch: float = 1.0) -> tuple[np.ndarray, int]:
        assert self.server is not None
        model, _, voice = self.name.partition("#")
        body: dict[str, Any] = {"model": model, "input": text, "voice": voice, "response_format": "wav"}
        if speed != 1.0:
            body["speed"] = round(speed, 4)
        cache = self.setup.loaded["speech cache"]
        key = cache.key(self.server.config.url, body, dict(self.server.config.extra))
        kept = cache.get(key)
        if kept is not None:
            return _heard(kept)
        data = self.server.post("audio/speech", body)
        _heard(data)  # what is no recording must not be kept
        return _heard(cache.put(key, data))


def _heard(data: bytes) -> tuple[np.ndarray, int]:
    try:
        return read_audio(io.BytesIO(data))
    except AudioError as error:
        raise DataError(f"the server sent {len(data)} bytes that are no recording: {data[:60]!r}") from error
