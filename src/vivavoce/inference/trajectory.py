"""Ask a model how a user's emotions changed over the turns of a dialogue."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from vivavoce.audio.joining import CROP_S, join_turns, joined_samples
from vivavoce.base.errors import ConfigError, ModelError
from vivavoce.inference.assistant import Assistant
from vivavoce.models.audio_parts import is_audio, read_part
from vivavoce.models.config import TokensIn
from vivavoce.models.processor import SpeechProcessor
from vivavoce.tokens.templates import find_template, render_aligned
from vivavoce.tokens.trajectory import LANGUAGES, QUESTIONS, language_of, parse_trajectory
from vivavoce.tokens.trajectory_messages import dialogue_text, merge_turns, one_message, turn_messages

PROMPT_NAMES = (
    "trajectory",
    "task1_emotional_trajectory",
)  # keys of ``audio_in.prompts``; ours, the published


@dataclass(frozen=True)
class TrajectoryReply:
    """What a model says about a user's emotions.

    Attributes:
        description: The answer without its line of labels.
        emotions: Its labels in order; words that are none of the seven stand as they were written.
        text: The whole answer.
        num_turns: Clips that were asked about.
        understood: False if the answer is only the model's refusal.
        cut_s: Seconds at the end that the model never heard, for one joined clip; else 0.
        timings: As in ``Reply``.
    """

    description: str
    emotions: tuple[str, ...]
    text: str
    num_turns: int
    understood: bool = True
    cut_s: float = 0.0
    timings: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "emotions": list(self.emotions)}


def ask_trajectory(
    assistant: Assistant,
    clips: Sequence[Any],
    history: Sequence[str | None] = (),
    transcripts: Sequence[str | None] = (),
    question: str | None = None,
    language: str | None = None,
    prompt: str | None = None,
    joined: bool = False,
    guess: bool = False,
    **options: Any,
) -> TrajectoryReply:
    """Ask how the emotions of a user changed from turn to turn.

    Args:
        assistant: A model that hears.
        clips: One recording per user turn, in order: paths, bytes, ``(array, sampling_rate)`` or audio parts.
        history: What the assistant answered after each turn but the last, None or "" for nothing.
        transcripts: What is said in each clip, None or "" for unknown; the model then reads it too.
        question: Asked in text with the last clip. None for the model's own prompt for this task
            (``audio_in.prompts["trajectory"]``) or ours; "" for none, where the last clip asks.
        language: Of our question and of turn numbers, "zh" or "en"; by default that of the texts given, and
            English without any.
        prompt: Instead of the model's own prompt; ``{}`` in it is where the question goes.
        joined: Give all turns as one clip with 0.1 s of silence after each, cut at 30 s, and what was said as
            plain lines of text: the form of models with one clip per prompt that were fine-tuned so.
        guess: If the answer has no line of labels, read them from its words.
        options: Sampling, as in ``Assistant.chat``.

    Raises:
        ModelError: The model does not hear or does not chat.
        ConfigError: Lengths that do not fit together, an unknown language, or malformed options.
        AudioError: A recording that cannot be used.
    """
    messages, cut_s = trajectory_request(
        assistant, clips, history, transcripts, question, language, prompt, joined
    )
    reply = assistant.chat(messages, **options)
    description, emotions = parse_trajectory(reply.text, guess)
    if not reply.understood:
        emotions = ()
    return TrajectoryReply(
        description=description.strip(),
        emotions=emotions,
        text=reply.text,
        num_turns=len(_sources(clips)),
        understood=reply.understood,
        cut_s=cut_s,
        timings=dict(reply.timings),
    )


def trajectory_request(
    assistant: Assistant,
    clips: Sequence[Any],
    history: Sequence[str | None] = (),
    transcripts: Sequence[str | None] = (),
    question: str | None = None,
    language: str | None = None,
    prompt: str | None = None,
    joined: bool = False,
) -> tuple[list[dict[str, Any]], float]:
    """Build the messages that ``ask_trajectory`` sends; arguments and errors as there.

    Turns without answers between them stay messages of their own where the chat template allows it; where
    roles must alternate they become one message with numbered clips.

    Returns:
        The messages, and the seconds cut off the joined clip.
    """
    if not assistant.hears:
        raise ModelError(f"{assistant.name} does not hear; take a model that does, see `vivavoce models`.")
    parts = [_part(source) for source in _sources(clips)]
    replies, texts = _fit(history, len(parts) - 1, "history"), _fit(transcripts, len(parts), "transcripts")
    if language not in (None, *LANGUAGES):
        raise ConfigError(f"language is {language!r}; wanted one of {', '.join(LANGUAGES)}, or None.")
    language = language or language_of(" ".join([*texts, *replies, question or ""])) or "en"
    prompts = getattr(assistant.model.config.audio_in, "prompts", None) or {}
    trained = next((prompts[name] for name in PROMPT_NAMES if prompts.get(name)), None)
    if joined:
        part, cut_s = _joined(parts, assistant)
        said = dialogue_text(texts, replies, "")
        return [one_message([part], _asked(question, prompt, trained, language, said))], cut_s
    for part, text in zip(parts, texts, strict=False):
        if text:
            part["transcript"] = text
    asked = _asked(question, prompt, trained, language)
    if getattr(assistant.model.config.audio_in, "transcript_first", False):
        messages = turn_messages(parts, replies, question=asked, question_apart=True)
    else:
        messages = turn_messages(parts, replies, texts, asked)
    if _neighbours(messages) and _must_alternate(assistant.processor):
        messages = merge_turns(messages, language)
    return messages, 0.0


def _asked(
    question: str | None, prompt: str | None, trained: str | None, language: str, said: str = ""
) -> str:
    """The text beside the clip: what was said, the question, and the instruction around them."""
    if question == "" and prompt is None:
        return said
    form = (trained or "{}") if prompt is None else prompt
    if "{}" not in form and question:
        if prompt is not None:
            raise ConfigError(f"the prompt {prompt!r} has no {{}} for the question; give one of the two.")
        form = "{}"
    if "{}" not in form:
        return "\n".join(text for text in (said, form) if text)
    if question is None:
        question = "" if said and form != "{}" else QUESTIONS[language]
    return form.replace("{}", "\n".join(text for text in (said, question) if text))


def _joined(parts: Sequence[Mapping[str, Any]], assistant: Assistant) -> tuple[dict[str, Any], float]:
    """All turns in one clip; a single turn stays as it is but for the cut."""
    rate = assistant.processor.sample_rate
    sinc = isinstance(assistant.model.config.audio_in, TokensIn)
    waves = [read_part(part, rate, "sinc" if sinc else "soxr") for part in parts]
    gap = len(waves) > 1
    wave = join_turns(waves, rate, trailing_gap=gap, crop_s=CROP_S)
    whole = joined_samples([len(w) for w in waves], rate, trailing_gap=gap)
    return {"type": "audio", "audio": wave, "sampling_rate": rate}, (whole - len(wave)) / rate


def _sources(clips: Any) -> list[Any]:
    single = isinstance(clips, str | bytes | os.PathLike | Mapping)
    sources = [clips] if single else list(clips)
    if not sources:
        raise ConfigError("no clips; wanted one recording per turn of the user.")
    return sources


def _part(source: Any) -> dict[str, Any]:
    return dict(source) if is_audio(source) else {"type": "audio", "audio": source}


def _fit(texts: Sequence[str | None], wanted: int, what: str) -> list[str]:
    if isinstance(texts, str) or len(texts) not in (0, wanted):
        number = "a single text" if isinstance(texts, str) else f"{len(texts)} entries"
        raise ConfigError(f"{what} has {number} for {wanted} places; wanted one for each, or none at all.")
    return [text or "" for text in texts]


def _neighbours(messages: Sequence[Mapping[str, Any]]) -> bool:
    roles = [message["role"] for message in messages]
    return any(a == b for a, b in itertools.pairwise(roles))


def _must_alternate(processor: SpeechProcessor) -> bool:
    """Whether the chat template refuses two user messages in a row, or takes one of them away."""
    template = find_template(processor.tokenizer, processor.template)
    two = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    try:
        render_aligned(processor.tokenizer, two, template=template, add_generation_prompt=True)
    except ModelError:
        return True
    return False
