"""Conversations to token ids: the tokenizer's own chat template, audio in its place, and what the loss
counts.

What an audio part becomes is the caller's to say: token ids of a codec (tokens in), or a number of positions
that embeddings will fill (embeddings in). Letters: L positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vivavoce.base.errors import ConfigError, ModelError, VocabularyError
from vivavoce.codecs.contract import Codes
from vivavoce.tokens.messages import Message, Part, loss_weights, message_parts
from vivavoce.tokens.record import AudioVocabulary
from vivavoce.tokens.templates import find_template, marker_salt, render_aligned
from vivavoce.tokens.text_pieces import Pieces, refuse_audio, turn_ends

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

AudioEntry = Sequence[int] | int
AudioSource = Callable[[Mapping[str, Any], int], AudioEntry] | Sequence[AudioEntry] | Mapping[int, AudioEntry]

IGNORED = -100


@dataclass(frozen=True)
class AudioSpan:
    """Where one audio part lies.

    Attributes:
        start: First position.
        length: Positions.
        index: Which audio part of the conversation, from 0.
        message: Which message it is in.
        embedded: True if the positions are placeholders for embeddings.
    """

    start: int
    length: int
    index: int
    message: int
    embedded: bool


@dataclass
class Rendered:
    """A conversation as token ids.

    Attributes:
        input_ids: L ids.
        spans: Its audio, in order.
        loss_weights: L weights, 0 where nothing is learned; a position's weight is for predicting its own id.
    """

    input_ids: list[int] = field(default_factory=list)
    spans: list[AudioSpan] = field(default_factory=list)
    loss_weights: list[float] = field(default_factory=list)

    def labels(self) -> list[int]:
        """``input_ids`` where the loss counts, -100 elsewhere; not shifted, as transformers' models want "
        "them."""
        pairs = zip(self.input_ids, self.loss_weights, strict=True)
        return [token if weight > 0 else IGNORED for token, weight in pairs]


def render_chat(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    audio: AudioSource = (),
    *,
    vocabulary: AudioVocabulary | None = None,
    placeholder_id: int | None = None,
    loss_on: str = "assistant",
    end_of_turn: str | None = None,
    add_generation_prompt: bool = False,
    continue_last: bool = False,
    template: str | None = None,
    tools: Sequence[Any] | None = None,
    template_options: Mapping[str, Any] | None = None,
    apart: bool = False,
) -> Rendered:
    """Render a conversation with the tokenizer's chat template.

    Text never merges with audio: it is split at the audio and tokenized apart. The token that ends an
    assistant turn is learned with the turn, at the larger of its weights for text and audio.

    Args:
        tokenizer: A fast tokenizer with a chat template.
        messages: In order; see `messages.py` for their shape and their ``"loss"``.
        audio: What each audio part becomes: a function of the part and its index, or one entry per part. An
            entry is a list of token ids, start and end included (tokens in), or a number of positions
            (embeddings in).
        vocabulary: Checks the ids of tokens-in audio, and refuses audio tokens written as text.
        placeholder_id: Id at the positions of embeddings; needed when there are any. It may be a token that
            the template uses, as some published models do; the spans tell the positions.
        loss_on: Messages that are learned if they do not say so themselves. "assistant": all assistant turns.
            "last_assistant": the last of them. "everything": every position but placeholders. "nothing".
        end_of_turn: The token that ends a turn, when it is not a special token of the tokenizer.
        add_generation_prompt: End with the opening of an assistant turn, for inference.
        continue_last: End right after the last message's content, for an answer that is begun already.
        template: None for the tokenizer's own, "plain" for tokenizers that have none, or Jinja source.
        tools: For templates that describe tools.
        template_options: Further variables of the template, such as ``{"enable_thinking": False}``.
        apart: Tokenize text after a clip as if a new text began there, for models that were trained so.

    Raises:
        ConfigError: malformed messages, unknown part types, text where audio belongs, or audio entries that
            do not match the audio parts.
        LayoutError: ids of a tokens-in entry that are no whole frames of ``vocabulary``.
        ModelError: no template, one that cannot be aligned, or one whose turns have no end that can be
            learned.
        VocabularyError: a tokens-in entry without start and end, or a message's text that holds audio tokens
            or the placeholder.
    """
    if not messages:
        raise ConfigError("no messages; wanted at least one.")
    if continue_last and add_generation_prompt:
        raise ConfigError("continue_last and add_generation_prompt exclude each other; choose one.")
    if not tokenizer.is_fast:
        raise ModelError(
            f"{type(tokenizer).__name__} does not tell which characters a token covers, masks need that; "
            f"load the fast tokenizer (tokenizer.json)."
        )
    source = find_template(tokenizer, template)
    contents, slots = _with_marks([message_parts(i, message) for i, message in enumerate(messages)])
    weights = loss_weights(messages, loss_on)
    entries = _entries(audio, [slot.part for slot in slots], vocabulary, placeholder_id)
    aligned = render_aligned(
        tokenizer,
        [
            {**{k: v for k, v in m.items() if k != "loss"}, "content": content}
            for m, content in zip(messages, contents, strict=True)
        ],
        template=source,
        add_generation_prompt=add_generation_prompt,
        tools=tools,
        options=template_options,
    )
    text = aligned.text[: aligned.contents[-1][1]] if continue_last else aligned.text
    must_end = loss_on != "everything" and not (add_generation_prompt or continue_last)
    gap = _space_of_answers(tokenizer, source, [text[:begin] for begin, _ in aligned.contents])
    learned = [
        (begin - gap if text[:begin].endswith(" ") and weight[0] > 0 else begin, end, weight[0])
        for (begin, end), weight in zip(aligned.contents, weights, strict=True)
    ]
    learned += turn_ends(tokenizer, text, aligned.contents, weights, end_of_turn, must_end)
    refused = [vocabulary.audio_ids] if vocabulary else []
    if placeholder_id is not None:
        refused.append(frozenset({placeholder_id}))
    pieces = Pieces(
        tokenizer,
        text,
        contents=aligned.contents,
        learned=learned,
        base=1.0 if loss_on == "everything" else 0.0,
        refused=refused,
        vocabulary=vocabulary,
        apart=apart,
    )
    rendered, at = Rendered(), 0
    for slot, entry in zip(slots, entries, strict=True):
        if text.count(slot.mark) != 1:
            raise ModelError(
                f"the chat template shows audio part {slot.index} {text.count(slot.mark)} times, wanted "
                f"once; use another template."
            )
        place = text.index(slot.mark)
        pieces.append_to(rendered, at, place)
        embedded = isinstance(entry, int)
        ids = [placeholder_id or 0] * entry if isinstance(entry, int) else [int(token) for token in entry]
        span = AudioSpan(len(rendered.input_ids), len(ids), slot.index, slot.message, embedded)
        rendered.spans.append(span)
        rendered.input_ids += ids
        rendered.loss_weights += [0.0 if embedded else weights[slot.message][1]] * len(ids)
        at = place + len(slot.mark)
    pieces.append_to(rendered, at, len(text))
    return rendered


def orpheus_prompt(
    tokenizer: PreTrainedTokenizerBase,
    vocabulary: AudioVocabulary,
    text: str,
    *,
    voice: str | None = None,
    examples: Sequence[tuple[str, Codes]] = (),
    end_of_text: str = "<|eot_id|>",
) -> list[int]:
    """The prompt after which an Orpheus model speaks ``text``, ending with the start of audio.

    ``[start of human] BOS text [end of text] [end of human] [start of AI] [start of audio]``; the answer is
    codes, end of audio, end of AI.

    Args:
        tokenizer: With the Orpheus tokens.
        vocabulary: Of that tokenizer, with the Orpheus roles.
        text: What to say.
        voice: Speaker the model knows; written before the text, ``tara: Hello``.
        examples: (text, codes) of earlier turns in the wanted voice, each written as a whole turn before.
        end_of_text: Token after the text, 128009 in Llama 3.

    Raises:
        VocabularyError: the vocabulary or the tokenizer lacks a token of the prompt, or ``text`` holds audio
            tokens.
        LayoutError: the codes of an example do not fit.

    Source: prompt form of Orpheus-TTS 0.1 and its pretraining data.
    """
    roles = vocabulary.roles
    needed = ("start_of_human", "end_of_human", "start_of_ai", "end_of_ai")
    missing = [role for role in needed if role not in roles]
    closing = tokenizer.get_vocab().get(end_of_text)
    if missing or closing is None:
        raise VocabularyError(
            f"the tokenizer lacks {', '.join(missing) or repr(end_of_text)} for the Orpheus prompt; "
            f"extend it with style='orpheus', or say end_of_text=... ."
        )
    bos = [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]

    def human(words: str) -> list[int]:
        ids = tokenizer(words, add_special_tokens=False, verbose=False)["input_ids"]
        refuse_audio(tokenizer, ids, vocabulary.audio_ids)
        closed = [closing, roles["end_of_human"], roles["start_of_ai"]]
        return [roles["start_of_human"], *bos, *ids, *closed]

    prompt: list[int] = []
    for words, codes in examples:
        prompt += [
            *human(f"{voice}: {words}" if voice else words),
            *vocabulary.to_ids(codes),
            roles["end_of_ai"],
        ]
    return [*prompt, *human(f"{voice}: {text}" if voice else text), vocabulary.start_id]


def _space_of_answers(tokenizer: Any, template: str | None, befores: Sequence[str]) -> int:
    """1 if the space before an answer is not in the generation prompt: a model must then write it, and where it is
    a token of its own it must be learned with the answer.

    Args:
        tokenizer: Its template renders.
        template: As ``find_template`` returns it.
        befores: What stands before each message.
    """
    if not any(text.endswith(" ") for text in befores):
        return 0
    try:
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": "a"}],
            chat_template=template,
            add_generation_prompt=True,
            tokenize=False,
        )
    except Exception:  # noqa: BLE001  (a template may want other roles first; it then tells nothing)
        return 0
    return int(not prompt.endswith(" "))


@dataclass(frozen=True)
class _Slot:
    """An audio part, the marker that stands for it in text, and the message it is in."""

    part: Mapping[str, Any]
    mark: str
    index: int
    message: int


def _with_marks(conversation: list[list[Part]]) -> tuple[list[str], list[_Slot]]:
    """Contents as strings with a marker for each audio part."""
    salt = marker_salt("".join(part for parts in conversation for part in parts if isinstance(part, str)))
    contents: list[str] = []
    slots: list[_Slot] = []
    for i, parts in enumerate(conversation):
        content = ""
        for part in parts:
            if not isinstance(part, str):
                slots.append(_Slot(part, f"vvAudio{salt}n{len(slots)}x", len(slots), i))
                part = slots[-1].mark
            content += part
        contents.append(content)
    return contents, slots


def _entries(
    audio: AudioSource,
    parts: list[Mapping[str, Any]],
    vocabulary: AudioVocabulary | None,
    placeholder_id: int | None,
) -> list[AudioEntry]:
    """One checked entry per audio part."""
    if callable(audio):
        entries = [audio(part, i) for i, part in enumerate(parts)]
    else:
        keys = sorted(audio) if isinstance(audio, Mapping) else list(range(len(audio)))
        if keys != list(range(len(parts))):
            raise ConfigError(
                f"the messages have {len(parts)} audio parts, the audio given has {len(keys)} entries; "
                f"wanted one entry for each part, in order."
            )
        entries = [audio[i] for i in keys]
    for i, entry in enumerate(entries):
        if isinstance(entry, int) and not isinstance(entry, bool):
            if entry < 1:
                raise ConfigError(f"audio part {i} gets {entry} positions, wanted 1 or more.")
            if placeholder_id is None:
                raise ConfigError(
                    f"audio part {i} gets {entry} positions; say their id, placeholder_id=... ."
                )
        elif isinstance(entry, str | bool) or not isinstance(entry, Sequence) or len(entry) == 0:
            raise ConfigError(f"audio part {i} gets {entry!r}; wanted token ids or a number of positions.")
        elif vocabulary is not None:
            if entry[0] != vocabulary.start_id or entry[-1] != vocabulary.end_id:
                raise VocabularyError(
                    f"audio part {i} goes from id {entry[0]} to {entry[-1]}, wanted start "
                    f"{vocabulary.start_id} to end {vocabulary.end_id}; make the ids with "
                    "vocabulary.to_ids(codes)."
                )
            vocabulary.from_ids(entry)
    return entries
