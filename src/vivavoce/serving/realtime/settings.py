"""What a client sets about its session: shapes, defaults, and what the model cannot do said by field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vivavoce.serving.engine import Engine
from vivavoce.serving.limits import Limits
from vivavoce.serving.realtime.formats import RATES
from vivavoce.serving.realtime.outbox import Fault


class Part(BaseModel):
    """A part of an event: unknown fields are refused, so that nothing is taken for done that is not."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Format(Part):
    """Of samples; pcm is 16 bit, mono."""

    type: Literal["audio/pcm", "audio/pcmu", "audio/pcma"] = "audio/pcm"
    rate: int | None = None

    def fields(self) -> dict[str, Any]:
        return {"type": self.type, "rate": 24000} if self.type == "audio/pcm" else {"type": self.type}


class ServerVad(Part):
    """The server finds where the user begins and ends to speak."""

    type: Literal["server_vad"]
    threshold: float = Field(default=0.5, ge=0.0, le=1.0)
    prefix_padding_ms: int = Field(default=300, ge=0, le=5000)
    silence_duration_ms: int = Field(default=500, ge=50, le=10_000)
    create_response: bool = True
    interrupt_response: bool = True
    idle_timeout_ms: int | None = Field(default=None, ge=5000, le=30_000)


class Transcription(Part):
    """Asks for transcripts of what the user says."""

    model: str | None = None
    language: str | None = None
    prompt: str | None = None


class AudioIn(Part):
    """What comes from the user."""

    format: Format = Format()
    turn_detection: ServerVad | None = ServerVad(type="server_vad")
    transcription: Transcription | None = None
    noise_reduction: None = None


class AudioOut(Part):
    """What goes to the user."""

    format: Format = Format()
    voice: str | dict[str, str] = "default"
    speed: float = 1.0


class Audio(Part):
    """Both ways."""

    input: AudioIn = AudioIn()
    output: AudioOut = AudioOut()


class Truncation(Part):
    """How much of a conversation is kept when it grows too long."""

    type: Literal["retention_ratio"]
    retention_ratio: float = Field(ge=0.0, le=1.0)


class Settings(Part):
    """A session as the client set it."""

    type: Literal["realtime"] = "realtime"
    model: str | None = None
    instructions: str = ""
    output_modalities: list[Literal["text", "audio"]] = ["audio"]
    max_output_tokens: int | Literal["inf"] = "inf"
    audio: Audio = Audio()
    tools: list[dict[str, Any]] = []
    tool_choice: str | dict[str, Any] = "auto"
    truncation: Literal["auto", "disabled"] | Truncation = "auto"
    include: list[str] | None = None
    tracing: None = None
    prompt: None = None

    @property
    def speaks(self) -> bool:
        return "audio" in self.output_modalities

    @property
    def voice(self) -> str:
        return voice_name(self.audio.output.voice)

    def fields(self, engine: Engine, session_id: str, expires_at: int) -> dict[str, Any]:
        """The ``session`` object of events."""
        given, output = self.audio.input, self.audio.output
        detection, transcription = given.turn_detection, given.transcription
        return {
            "type": "realtime",
            "object": "realtime.session",
            "id": session_id,
            "model": engine.name,
            "expires_at": expires_at,
            "output_modalities": self.output_modalities,
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "tools": [],
            "tool_choice": self.tool_choice,
            "truncation": self.truncation
            if isinstance(self.truncation, str)
            else self.truncation.model_dump(),
            "include": None,
            "tracing": None,
            "prompt": None,
            "audio": {
                "input": {
                    "format": given.format.fields(),
                    "transcription": transcription and {"model": engine.name, **_given(transcription)},
                    "noise_reduction": None,
                    "turn_detection": detection and detection.model_dump(),
                },
                "output": {"format": output.format.fields(), "voice": self.voice, "speed": output.speed},
            },
        }


def voice_name(voice: str | Mapping[str, str]) -> str:
    """Voices come as a name or as ``{"id": name}``."""
    return voice if isinstance(voice, str) else str(voice.get("id", ""))


def first(engine: Engine) -> Settings:
    """How a session begins: spoken both ways, as far as the model can."""
    return Settings(output_modalities=["audio"] if engine.speaks else ["text"])


def updated(settings: Settings, given: Any, engine: Engine, limits: Limits) -> Settings:
    """Settings with what ``session.update`` names changed; the rest stays.

    Raises:
        Fault: A value that is not known, or that the model cannot do, with its field.
    """
    if not isinstance(given, dict):
        raise Fault("session is missing; wanted an object.", "missing_required_parameter", "session")
    if given.get("type") != "realtime":
        raise Fault(
            f"session.type is {given.get('type')!r}; wanted 'realtime'.", "invalid_value", "session.type"
        )
    new = checked(Settings, _merged(settings.model_dump(), given), "session")
    check(new, engine, limits, "session")
    return new


def check(new: Settings, engine: Engine, limits: Limits, at: str) -> None:
    """Refuse what the model or this server cannot do.

    Args:
        new: Of a session, or of one response.
        engine: The model.
        limits: Of tokens and text.
        at: Where the settings stand in the event.

    Raises:
        Fault: With the field.
    """

    def refuse(true: bool, field: str, says: str, code: str = "unsupported_value") -> None:
        if true:
            raise Fault(f"{at}.{field}: {says}", code, f"{at}.{field}")

    refuse(new.model not in (None, engine.name), "model", f"wanted {engine.name!r} or nothing.")
    refuse(len(new.output_modalities) != 1, "output_modalities", "wanted ['audio'] or ['text'].")
    refuse(new.speaks and not engine.speaks, "output_modalities", f"{engine.name} answers in text only.")
    refuse(bool(new.tools), "tools", f"{engine.name} calls no tools; leave them out.")
    refuse(new.tool_choice not in ("auto", "none"), "tool_choice", "without tools, wanted 'auto' or 'none'.")
    refuse(bool(new.include), "include", "no log probabilities of transcripts here; leave it out.")
    refuse(len(new.instructions) > limits.max_text_chars, "instructions", "too long.", "text_too_long")
    if new.instructions:
        refuse(True, "instructions", why) if (why := engine.refuses_instructions()) else None
    most = new.max_output_tokens
    refuse(most != "inf" and not 1 <= int(most) <= limits.max_tokens, "max_output_tokens",
           f"wanted 1 to {limits.max_tokens}, or 'inf'.", "invalid_value")  # fmt: skip
    for side, part in (("input", new.audio.input.format), ("output", new.audio.output.format)):
        rate = RATES[part.type]
        refuse(part.rate not in (None, rate), f"audio.{side}.format.rate", f"{part.type} has {rate}.")
    if engine.speaks:
        voices = ", ".join(engine.voices)
        refuse(new.voice not in engine.voices, "audio.output.voice",
               f"no voice {new.voice!r}; wanted one of {voices}.", "unknown_voice")  # fmt: skip
    refuse(new.audio.output.speed != 1, "audio.output.speed", "wanted 1; change the pace where it is played.")
    asked = new.audio.input.transcription
    if asked is not None:
        name = "audio.input.transcription"
        refuse(not engine.transcribes, name, f"{engine.name} does not transcribe; set it to null.")
        refuse(asked.model not in (None, engine.name), f"{name}.model", f"wanted {engine.name!r} or nothing.")
        refuse(bool(asked.prompt), f"{name}.prompt", "no model here takes one; leave it out.")


_BRANCHES = ("int", "str", "literal['inf']", "literal['auto','disabled']", "Truncation", "dict[str,str]")
P = TypeVar("P", bound="Part")


def checked(kind: type[P], given: Any, at: str) -> P:
    """Read JSON as a part of an event.

    Raises:
        Fault: With the first field at fault.
    """
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        found = error.errors()[0]
        steps = [str(step) for step in found["loc"] if str(step) not in _BRANCHES]
        where = ".".join([at, *steps]) if at else ".".join(steps)
        codes = {"missing": "missing_required_parameter", "extra_forbidden": "unknown_parameter"}
        code = codes.get(found["type"], "invalid_value")
        raise Fault(f"{where}: {found['msg']}.", code, where) from None


_WHOLE = ("format", "turn_detection", "transcription", "truncation", "tools", "tool_choice")


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(old)
    for name, value in new.items():
        deeper = isinstance(value, dict) and isinstance(result.get(name), dict) and name not in _WHOLE
        result[name] = _merged(result[name], value) if deeper else value
    return result


def _given(part: Part) -> dict[str, Any]:
    return part.model_dump(exclude_none=True)
