"""What a speech LM is made of: its text model, how it hears and how it speaks."""

from __future__ import annotations

import copy
import inspect
import typing
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from transformers import AutoConfig, PreTrainedConfig

from vivavoce.base.errors import ConfigError
from vivavoce.base.records import read_record, write_record


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adapters that are added to a part; their scale is ``alpha / rank``.

    Attributes:
        rank: Width of the adapters.
        targets: Endings of the names of the linear layers that get one.
        dropout: In training.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.targets:
            raise ConfigError(
                f"rank is {self.rank} and targets are {list(self.targets)}; wanted rank 1 or more and a target"
            )


@dataclass(frozen=True, kw_only=True)
class NoAudio:
    """The model has no audio on this side."""

    type: Literal["none"] = "none"


@dataclass(frozen=True, kw_only=True)
class TokensIn:
    """Hear by codec tokens that are part of the vocabulary.

    Attributes:
        codec: Registry name, folder (relative to the model's own folder) or hub id.
        vocabulary: Record of a ``tokens.vocabulary.AudioVocabulary``.
        transcribe_prompt: What is asked beside a clip to have it transcribed; a token or a sentence, "" if
            none works.
    """

    type: Literal["tokens"] = "tokens"
    codec: str
    vocabulary: dict[str, Any]
    transcribe_prompt: str = ""


@dataclass(frozen=True, kw_only=True)
class EmbeddingsIn:
    """Hear by an encoder and a connector whose output stands in for placeholder tokens.

    Attributes:
        encoder: ``{"type": name in ENCODERS, ...fields of its config}``.
        connector: ``{"type": name in CONNECTORS, ...fields of its config}``.
        audio_token_id: The placeholder; one per embedding.
        features: Arguments of ``audio.features.LogMel``, for encoders that take log-mel features.
        silence_s: Silence put before and after every clip, seconds: clips that are cut tightly are heard better so.
        shortest_samples: Clips that are shorter, with that silence, get more of it at their end, up to this, at 16 kHz.
        reference_padding: Batches behave as in the reference implementation, where padding leaks into what it
            stands beside; by default each clip of a batch gives what it gives alone.
        text_apart: Text before and after a clip is tokenized as if each piece stood alone, as Ultravox and
            SALMONN do; it matters for tokenizers that mark the beginning of a text.
        clip_before, clip_after: Text around each clip, such as ``<Speech>`` and ``</Speech>``. Words that
            follow get a space before them.
        prompts: Task -> instruction that was trained for it, with ``{}`` where a question goes.
        transcript_first: The model writes what it heard before it answers.
        gate: "ctc": the transcript counts as understood only if the encoder's own greedy CTC reading is the
            same. "joint": language model and CTC head choose the transcript together, and it counts if neither
            gives it less than ``gate_floor``.
        gate_floor: Least log probability per token, for gate "joint".
        gate_floors: The same for what is read in another language, by the name of the voice that speaks it.
        beams: Transcripts that the language model proposes, for gate "joint".
        answer_token: What the model writes between transcript and answer, with ``transcript_first``.
        answer_from: "transcript": once a recording is read it counts as typed, for its answer and all later turns, with
            ``transcript_first``.
        unclear_token: What the model writes as transcript of something it could not understand.
        transcribe_prompt: As in ``TokensIn``, for models without ``transcript_first``.
    """

    type: Literal["embeddings"] = "embeddings"
    encoder: dict[str, Any]
    connector: dict[str, Any]
    audio_token_id: int
    features: dict[str, Any] = field(default_factory=dict)
    silence_s: float = 0.0
    shortest_samples: int = 800
    reference_padding: bool = False
    text_apart: bool = False
    clip_before: str = ""
    clip_after: str = ""
    prompts: dict[str, str] = field(default_factory=dict)
    transcript_first: bool = False
    gate: Literal["ctc", "joint"] | None = None
    gate_floor: float = -1.0
    gate_floors: dict[str, float] = field(default_factory=dict)
    beams: int = 4
    answer_token: str = "<|assistant|>"
    answer_from: Literal["audio", "transcript"] = "audio"
    unclear_token: str = "<|unclear|>"
    transcribe_prompt: str = ""

    def __post_init__(self) -> None:
        faults = [
            f"{name}.type is missing"
            for name in ("encoder", "connector")
            if "type" not in getattr(self, name)
        ]
        if self.audio_token_id < 0:
            faults.append(f"audio_token_id is {self.audio_token_id}, wanted 0 or more")
        if self.shortest_samples < 1:
            faults.append(f"shortest_samples is {self.shortest_samples}, wanted 1 or more")
        if not 0 <= self.silence_s <= 10:
            faults.append(f"silence_s is {self.silence_s:g}, wanted 0 to 10 seconds")
        if self.gate and not self.transcript_first:
            faults.append("gate needs transcript_first: true, as it compares two transcripts")
        if self.answer_from not in ("audio", "transcript"):
            faults.append(f"answer_from is {self.answer_from!r}, wanted 'audio' or 'transcript'")
        if self.answer_from == "transcript" and not self.transcript_first:
            faults.append("answer_from: transcript needs transcript_first: true")
        floors = {"gate_floor": self.gate_floor, **self.gate_floors}
        faults += [
            f"the gate's floor {name!r} is {floor!r}, wanted a log probability"
            for name, floor in floors.items()
            if isinstance(floor, bool) or not isinstance(floor, int | float)
        ]
        if faults:
            raise ConfigError("; ".join(faults))


@dataclass(frozen=True, kw_only=True)
class TokensOut:
    """Speak by codec tokens.

    Attributes:
        alignment: "none": flattened tokens in the main sequence. "word", "phone": the aligned voice speaks
            word by word, which gives word times.
        codec: Registry name, folder (relative to the model's own folder) or hub id.
        vocabulary: Record of an ``AudioVocabulary``; needed for alignment "none".
        voice: ``{"type": name in VOICES, ...fields of its config}``; needed for "word" and "phone".
        speakers: Names that ``say(voice=...)`` takes; empty if the model has one voice.
        prompt: Chat style of speech-only models: "chat" (the tokenizer's template) or "orpheus".
    """

    type: Literal["tokens"] = "tokens"
    codec: str
    alignment: Literal["none", "word", "phone"] = "none"
    vocabulary: dict[str, Any] | None = None
    voice: dict[str, Any] | None = None
    speakers: tuple[str, ...] = ()
    prompt: Literal["chat", "orpheus"] = "chat"

    def __post_init__(self) -> None:
        faults = []
        if self.alignment == "none" and self.vocabulary is None:
            faults.append('vocabulary is missing; alignment "none" speaks by tokens of the vocabulary')
        if self.alignment != "none" and self.voice is None:
            faults.append(f'voice is missing; alignment "{self.alignment}" speaks by an aligned voice')
        if self.voice is not None and "type" not in self.voice:
            faults.append("voice.type is missing")
        if faults:
            raise ConfigError("; ".join(faults))


AudioIn: TypeAlias = NoAudio | TokensIn | EmbeddingsIn
AudioOut: TypeAlias = NoAudio | TokensOut

ADAPTED_PARTS = ("language_model", "audio_encoder")

_AUDIO_IN = {"none": NoAudio, "tokens": TokensIn, "embeddings": EmbeddingsIn}
_AUDIO_OUT = {"none": NoAudio, "tokens": TokensOut}


def _read_side(table: dict[str, Any], record: Any, where: str) -> Any:
    """Read ``audio_in`` or ``audio_out``: the ``type`` key chooses the dataclass."""
    if record is None:
        return NoAudio()
    if isinstance(record, tuple(table.values())):
        return record
    kind = record.get("type") if isinstance(record, dict) else record
    if kind not in table:
        raise ConfigError(f"{where}.type is {kind!r}, wanted one of {', '.join(map(repr, table))}.")
    return read_record(table[kind], record, where)


def read_sides(audio_in: Any, audio_out: Any) -> tuple[AudioIn, AudioOut]:
    """Read both audio sides of a config.

    Raises:
        ConfigError: All faults of both at once.
    """
    sides: list[Any] = []
    faults = []
    for table, record, where in ((_AUDIO_IN, audio_in, "audio_in"), (_AUDIO_OUT, audio_out, "audio_out")):
        try:
            sides.append(_read_side(table, record, where))
        except ConfigError as error:
            faults.append(str(error).rstrip("."))
    if faults:
        raise ConfigError("; ".join(faults) + ".")
    return sides[0], sides[1]


class SpeechLMConfig(PreTrainedConfig):
    """Configuration of a ``SpeechLM``; all of it is JSON.

    Args:
        text_config: Config of any causal LM, as an object or a dict with ``model_type``.
        audio_in: ``{"type": "none" | "tokens" | "embeddings", ...}``, see ``TokensIn`` and ``EmbeddingsIn``.
        audio_out: ``{"type": "none" | "tokens", ...}``, see ``TokensOut``.
        text_model_ref: Hub id or folder (relative to this model's folder) of the text model's weights, when
            they are not stored here.
        lora: Adapters of ``language_model`` and ``audio_encoder``: ``{part: {rank, alpha, targets, dropout}}``.
        fingerprints: Part -> ``fingerprint.fingerprint`` of its weights, a space, and their name, for parts that
            are stored by reference; loading other weights is an error.
        text_form: "spoken": typed text is spelled out as spoken words before the model reads it.
        refusal_text: Answer to what was not understood.
        sampling: Default fields of ``inference.sampling.SamplingOptions``.
        description: One line for lists of models.
        published: What the published checkpoint that this was read from said, for its preset to write again.
        kwargs: Fields of ``PreTrainedConfig``.

    Raises:
        ConfigError: All faults of ``audio_in``, ``audio_out`` and the other fields at once.
    """

    model_type = "vivavoce_speech_lm"
    sub_configs = {"text_config": AutoConfig}  # noqa: RUF012  (transformers wants a plain class attribute)

    def __init__(
        self,
        text_config: PreTrainedConfig | dict[str, Any] | None = None,
        audio_in: AudioIn | dict[str, Any] | None = None,
        audio_out: AudioOut | dict[str, Any] | None = None,
        text_model_ref: str | None = None,
        lora: dict[str, Lora | dict[str, Any]] | None = None,
        fingerprints: dict[str, str] | None = None,
        text_form: str = "plain",
        refusal_text: str = "Sorry, I did not understand.",
        sampling: dict[str, Any] | None = None,
        description: str = "",
        published: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        faults = []
        if text_form not in ("plain", "spoken"):
            faults.append(f"text_form is {text_form!r}, wanted 'plain' or 'spoken'")
        try:
            self.audio_in, self.audio_out = read_sides(audio_in, audio_out)
        except ConfigError as error:
            faults.append(str(error).rstrip("."))
        try:
            self.lora = _read_lora(lora or {})
        except ConfigError as error:
            faults.append(str(error).rstrip("."))
        if faults:
            raise ConfigError("; ".join(faults) + ".")
        self.text_config = _read_text_config(text_config)
        self.text_model_ref, self.text_form = text_model_ref, text_form
        self.fingerprints, self.published = dict(fingerprints or {}), dict(published or {})
        self.refusal_text, self.sampling, self.description = refusal_text, dict(sampling or {}), description
        kwargs.setdefault("tie_word_embeddings", getattr(self.text_config, "tie_word_embeddings", False))
        super().__init__(**kwargs)

    @property
    def vocab_size(self) -> int:
        return self.text_config.get_text_config().vocab_size

    @property
    def hidden_size(self) -> int:
        return self.text_config.get_text_config().hidden_size

    @property
    def audio_token_id(self) -> int | None:
        """The placeholder for audio embeddings; None if the model does not hear by embeddings."""
        return getattr(self.audio_in, "audio_token_id", None)

    def to_dict(self) -> dict[str, Any]:
        output = super().to_dict()
        output["text_config"] = self.text_config.to_diff_dict()
        for name in ("audio_in", "audio_out", "lora"):
            output[name] = write_record(getattr(self, name))
        return output


def _read_lora(records: dict[str, Lora | dict[str, Any]]) -> dict[str, Lora]:
    unknown = sorted(set(records) - set(ADAPTED_PARTS))
    if unknown:
        raise ConfigError(f"lora names {', '.join(unknown)}; wanted {' or '.join(ADAPTED_PARTS)}.")
    return {part: read_record(Lora, record, f"lora.{part}") for part, record in records.items()}


def _read_text_config(value: PreTrainedConfig | dict[str, Any] | None) -> PreTrainedConfig:
    if isinstance(value, PreTrainedConfig):
        return copy.deepcopy(
            value
        )  # transformers sets things in a part's config that a living model needs as they are
    record = dict(value or {})
    return AutoConfig.for_model(record.pop("model_type", "llama"), **record)


def build_part(table: Any, record: dict[str, Any], where: str) -> Any:
    """Build the part that ``record["type"]`` names from the other keys of ``record``.

    Args:
        table: ENCODERS, CONNECTORS or VOICES.
        record: ``{"type": name, ...fields of the part's config}``.
        where: For messages ("audio_in.encoder").

    Raises:
        ConfigError: Unknown name, or fields that the part's config does not take.
    """
    cls = table.get(record["type"])
    return cls(read_record(part_config_class(cls), {k: v for k, v in record.items() if k != "type"}, where))


def part_config_class(cls: type) -> type:
    """The dataclass that a part takes: its ``config_class``, or the annotation of its first argument."""
    declared = getattr(cls, "config_class", None)
    if declared is not None:
        return declared
    hints = {
        k: v
        for k, v in typing.get_type_hints(inspect.getattr_static(cls, "__init__")).items()
        if k != "return"
    }
    if not hints:
        raise ConfigError(
            f"{cls.__name__} does not say which config it takes; give it a config_class attribute."
        )
    return next(iter(hints.values()))


AutoConfig.register(SpeechLMConfig.model_type, SpeechLMConfig, exist_ok=True)
