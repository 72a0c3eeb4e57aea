"""What callers send: the fields we serve, the ones that change nothing here, and refusals of the rest."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from vivavoce.serving.limits import Limits
from vivavoce.serving.refusals import Refusal
from vivavoce.serving.tool_calls import check_tools

# Fields of OpenAI's API that do not change an answer here; anything else that we do not know is refused.
_WITHOUT_EFFECT = (
    "metadata", "prompt_cache_key", "prompt_cache_retention", "safety_identifier",
    "service_tier", "store", "user", "verbosity", "reasoning_effort",
)  # fmt: skip


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Voice(_Fields):
    id: str


class AudioOptions(_Fields):
    voice: str | Voice = "default"
    format: str = "wav"


class StreamOptions(_Fields):
    include_usage: bool = False
    include_obfuscation: bool = False


class ChatRequest(BaseModel):
    """Body of ``/v1/chat/completions``; ``top_k``, ``min_p`` and ``repetition_penalty`` are additions."""

    model_config = ConfigDict(extra="allow", strict=True)

    model: str
    messages: list[dict[str, Any]] = Field(min_length=1)
    modalities: list[Literal["text", "audio"]] | None = None
    audio: AudioOptions | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = Field(None, ge=1)
    stop: str | list[str] | None = None
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=10)
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: dict[str, Any] | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None

    @property
    def speaks(self) -> bool:
        return "audio" in (self.modalities or ())

    @property
    def voice(self) -> str:
        return voice_name(self.audio.voice) if self.audio else "default"

    def check(self, limits: Limits) -> None:
        """Refuse what would not be done as asked.

        Raises:
            Refusal: 400.
        """
        unknown = sorted(set(self.model_extra or ()) - set(_WITHOUT_EFFECT))
        if unknown:
            raise _unsupported(unknown[0], f"unknown field {unknown[0]!r}; leave it out.")
        for name in (
            "frequency_penalty",
            "presence_penalty",
            "logit_bias",
        ):
            if getattr(self, name):
                hint = "; use repetition_penalty" if name.endswith("ty") else ""
                raise _unsupported(name, f"{name} is not supported here{hint or '; leave it out'}.")
        if self.tools and self.speaks:
            raise _unsupported("tools", "tools belong to answers in text; leave out the modality 'audio'.")
        self.offered_tools()
        if self.response_format is not None and self.response_format.get("type") != "text":
            raise _unsupported("response_format", "only response_format {'type': 'text'} is supported.")
        if self.modalities is not None and "text" not in self.modalities:
            raise _unsupported("modalities", "wanted modalities ['text'] or ['text', 'audio'].")
        if self.audio is not None and not self.speaks:
            raise _unsupported("audio", "audio is given without modalities ['text', 'audio'].")
        if (self.n or 1) > limits.max_answers:
            raise _unsupported("n", f"n is {self.n}, at most {limits.max_answers}.")
        if self.top_logprobs is not None and not self.logprobs:
            raise _unsupported("top_logprobs", "top_logprobs belongs to logprobs=true.")
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(stops) > 16 or not all(0 < len(stop) <= 256 for stop in stops):
            raise _unsupported("stop", "wanted at most 16 stop strings of 1 to 256 characters.")
        if self.stream_options is not None and not self.stream:
            raise _unsupported("stream_options", "stream_options belongs to stream=true.")
        self.sampling(limits)

    def offered_tools(self) -> list[dict[str, Any]]:
        """The tools the model is to be told of."""
        return check_tools(self.tools, self.tool_choice)

    def sampling(self, limits: Limits, answer: int = 0) -> dict[str, Any]:
        """Options of the model's calls for one of the answers.

        Raises:
            Refusal: 400, more tokens than allowed.
        """
        tokens = self.max_completion_tokens or self.max_tokens
        if tokens is not None and tokens > limits.max_tokens:
            raise _unsupported("max_completion_tokens", f"{tokens} tokens, at most {limits.max_tokens}.")
        seed = None if self.seed is None else (self.seed + answer) % 2**63
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return {
            "temperature": None if self.temperature is None else float(self.temperature),
            "top_p": self.top_p,
            "top_k": self.top_k,
            "min_p": self.min_p,
            "repetition_penalty": self.repetition_penalty,
            "max_new_tokens": tokens,
            "seed": seed,
            "stop": stop or None,
            "logprobs": self.logprobs,
            "top_logprobs": self.top_logprobs,
        }


class SpeechRequest(_Fields):
    """Body of ``/v1/audio/speech``."""

    model: str
    input: str = Field(min_length=1)
    voice: str | Voice = "default"
    instructions: str | None = None
    response_format: str = "mp3"
    speed: float = 1.0
    stream_format: Literal["audio", "sse"] = "audio"


def voice_name(voice: str | Voice) -> str:
    """The name in either form of the field."""
    return voice if isinstance(voice, str) else voice.id


def check_voice(voice: str, voices: tuple[str, ...], param: str = "voice") -> None:
    """Refuse a voice the model lacks.

    Raises:
        Refusal: 400, with the voices there are.
    """
    if voice not in voices:
        raise Refusal(
            400, f"unknown voice {voice!r}; there are: {', '.join(voices)}.", "unknown_voice", param
        )


def _unsupported(param: str, message: str) -> Refusal:
    return Refusal(400, message, "unsupported_value", param)
