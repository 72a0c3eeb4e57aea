"""What a model reads of a row, and what it learns of that: token ids, loss weights, places of audio, teacher.

Rows become ids by the functions that training and inference use, so what is shown here is what is trained. Letters:
L positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vivavoce.base.errors import ConfigError, ModelError
from vivavoce.data.conversation import Conversation
from vivavoce.models.clips import ClipInputs
from vivavoce.models.config import EmbeddingsIn, TokensOut
from vivavoce.models.conversation import (
    places_audio,
    plain_messages,
    refuse_placeholder,
    render_with_placeholders,
)
from vivavoce.tokens.chat import AudioSpan, Rendered, orpheus_prompt, render_chat
from vivavoce.tokens.messages import loss_weights
from vivavoce.training.distillation_rows import distillation_row
from vivavoce.training.row_clips import ASSISTANT, Clip, RowClips, Waveforms

OBJECTIVES = ("sft", "distill", "next_token")


@dataclass
class Rendering:
    """A row as a model reads it.

    Attributes:
        objective: One of ``OBJECTIVES``.
        input_ids: L ids; of the student for "distill".
        weights: L loss weights, 0 where nothing is learned.
        spans: Where audio is.
        clips: All audio parts of the row, in order.
        asked_ids: What the model would be asked at inference to get the last answer; None if there is none.
        teacher_ids, teacher_weights: What the teacher reads, for "distill".
        heard: What the encoder reads of the clips that become embeddings; None without any.
    """

    objective: str
    input_ids: list[int]
    weights: list[float]
    spans: list[AudioSpan]
    clips: list[Clip]
    asked_ids: list[int] | None = None
    teacher_ids: list[int] | None = None
    teacher_weights: list[float] = field(default_factory=list)
    heard: ClipInputs | None = None

    def learned(self, side: str = "student") -> list[int]:
        """Ids that are learned, of "student" or "teacher"."""
        ids, weights = self.input_ids, self.weights
        if side == "teacher":
            ids, weights = self.teacher_ids or [], self.teacher_weights
        return [token for token, weight in zip(ids, weights, strict=True) if weight > 0]


def render_row(
    conversation: Conversation,
    processor: Any,
    objective: str = "sft",
    *,
    root: Path | None = None,
    encode: bool = False,
    waveforms: Waveforms = (),
) -> Rendering:
    """Render a row for a model.

    Args:
        conversation: The row; not changed.
        processor: Of the model, a ``SpeechProcessor``.
        objective: "sft" learns assistant turns, "distill" pairs them with a teacher that reads transcripts,
            "next_token" learns everything but embeddings.
        root: Where relative paths of recordings start.
        encode: Run the codec for clips whose tokens the row does not hold; otherwise only their number is told.
        waveforms: Of each audio part, float32 [S] and rate in Hz, where they are decoded already; None for parts that
            are to be read.

    Raises:
        ConfigError, AudioError, ModelError, VocabularyError, LayoutError: Why the model cannot read the row.
    """
    if objective not in OBJECTIVES:
        raise ConfigError(f"objective is {objective!r}, wanted one of {', '.join(map(repr, OBJECTIVES))}.")
    maker = _Maker(conversation, processor, root, encode, waveforms)
    if isinstance(processor.mouth, TokensOut) and processor.mouth.prompt == "orpheus":
        return maker.read_aloud(objective)
    made = maker.distil() if objective == "distill" else maker.chat(objective)
    # a template counts the clips it is given, and those without a place are not
    made.spans = [replace(s, index=c.index) for s, c in zip(made.spans, maker.used(), strict=True)]
    made.heard = maker.heard
    return made


class _Maker:
    """Renders one row."""

    def __init__(
        self,
        conversation: Conversation,
        processor: Any,
        root: Path | None,
        encode: bool,
        waveforms: Waveforms = (),
    ) -> None:
        self.row, self.processor = conversation, processor
        self.ears, self.mouth = processor.ears, processor.mouth
        found = RowClips(conversation, processor, root, encode, waveforms)
        self.messages, self.clips, self.entries = found.messages, found.clips, found.entries
        self.used, self.heard = found.used, found.heard

    # the forms

    def chat(self, objective: str) -> Rendering:
        """A conversation by the model's chat template."""
        tokenizer, template = self.processor.tokenizer, self.processor.template
        plain = self._plain(self.messages)
        loss_on = "everything" if objective == "next_token" else ASSISTANT
        if places_audio(template or tokenizer.chat_template, self.processor.audio_token):
            rendered = self._by_prefix(plain, loss_on)
        else:
            rendered = self._render(plain, self.entries, loss_on=loss_on)
        return Rendering(
            objective,
            rendered.input_ids,
            rendered.loss_weights,
            rendered.spans,
            self.clips,
            self._asked(plain),
        )

    def distil(self) -> Rendering:
        """A conversation for student and teacher."""
        if not isinstance(self.ears, EmbeddingsIn):
            raise ModelError("distillation wants a model that hears by embeddings; this one hears otherwise.")
        plain = self._plain(self.messages)
        row = distillation_row(
            self.processor.tokenizer,
            plain,
            self.entries,
            self.ears.audio_token_id,
            apart=self.ears.text_apart,
            template=self.processor.template,
        )
        rendered = self._render(plain, self.entries, loss_on="nothing")
        return Rendering(
            "distill",
            row.input_ids,
            [float(label >= 0) for label in row.labels],
            rendered.spans,
            self.clips,
            self._asked(plain),
            row.teacher_ids,
            [float(label >= 0) for label in row.teacher_labels],
        )

    def read_aloud(self, objective: str) -> Rendering:
        """The last spoken answer in the form of models that only read aloud."""
        vocabulary = self.processor.vocabulary_out
        spoken = [c for c in self.clips if c.role == ASSISTANT and c.how == "tokens"]
        if not spoken:
            raise ModelError("this model only reads aloud; the row has no assistant turn with audio.")
        message = self.row.messages[spoken[-1].message]
        part = list(self.row.audio_parts())[spoken[-1].index]
        before = [m.words for m in self.row.messages[: spoken[-1].message] if m.role == "user"]
        text = part.transcript or message.text or "".join(before[-1:])
        voice = part.speaker if part.speaker in self.mouth.speakers else None
        asked = orpheus_prompt(self.processor.tokenizer, vocabulary, text, voice=voice)
        codes = self.entries[-1]
        ids = [*asked[:-1], *codes, vocabulary.roles["end_of_ai"]]
        weight = loss_weights([m.row() for m in self.row.messages], ASSISTANT)[spoken[-1].message][1]
        weights = [float(objective == "next_token")] * len(asked) + [weight] * (len(ids) - len(asked))
        span = AudioSpan(len(asked) - 1, len(codes), spoken[-1].index, spoken[-1].message, False)
        return Rendering(objective, ids, weights, [span], self.clips, asked)

    def _render(self, plain: Sequence[Mapping[str, Any]], entries: Sequence[Any], **options: Any) -> Rendered:
        processor = self.processor
        return render_chat(
            processor.tokenizer,
            plain,
            entries,
            vocabulary=processor.vocabulary_in or processor.vocabulary_out,
            placeholder_id=processor.audio_token_id,
            template=processor.template,
            tools=self.row.tools or None,
            apart=isinstance(self.ears, EmbeddingsIn) and self.ears.text_apart,
            **options,
        )

    def _by_prefix(self, plain: list[dict[str, Any]], loss_on: str) -> Rendered:
        """Ids by a template that places audio itself; what is learned is what follows each question.

        Raises:
            ModelError: The template writes a question otherwise once it is answered.
        """
        ids, spans = self._placed(plain, False)
        learned = [1.0 if loss_on == "everything" else 0.0] * len(ids)
        weights = loss_weights(plain, loss_on)
        for i, message in enumerate(plain):
            if message["role"] != ASSISTANT or max(weights[i]) == 0 or loss_on == "everything":
                continue
            asked, (until, _) = self._asked(plain[: i + 1]) or [], self._placed(plain[: i + 1], False)
            if ids[: len(asked)] != asked or ids[: len(until)] != until:
                raise ModelError(
                    f"the chat template writes what is asked before message {i} otherwise once it is answered; what "
                    "is learned cannot be told. Use another template."
                )
            learned[len(asked) : len(until)] = [weights[i][0]] * (len(until) - len(asked))
        for span in spans:
            weight = 0.0 if span.embedded else weights[span.message][1]
            learned[span.start : span.start + span.length] = [weight] * span.length
        return Rendered(ids, spans, learned)

    def _placed(self, plain: Sequence[Mapping[str, Any]], prompt: bool) -> tuple[list[int], list[AudioSpan]]:
        """Ids by a template that writes one placeholder per clip, each replaced by what the clip becomes."""
        placeholder = self.processor.audio_token_id
        clips = [clip for clip in self.used() if clip.message < len(plain)]
        ids: list[int] = []
        spans: list[AudioSpan] = []
        for token in render_with_placeholders(
            self.processor.tokenizer, plain, [1] * len(clips), placeholder, prompt, self.processor.template
        ):
            if token != placeholder:
                ids.append(token)
                continue
            clip, entry = clips[len(spans)], self.entries[len(spans)]
            embedded = isinstance(entry, int)
            spans.append(AudioSpan(len(ids), clip.positions, clip.index, clip.message, embedded))
            ids += [placeholder] * entry if isinstance(entry, int) else entry
        return ids, spans

    def _asked(self, plain: Sequence[Mapping[str, Any]]) -> list[int] | None:
        """What the model is asked to get the last answer."""
        last = next((i for i in reversed(range(len(plain))) if plain[i]["role"] == ASSISTANT), 0)
        if not last:
            return None
        tokenizer, template = self.processor.tokenizer, self.processor.template
        if places_audio(template or tokenizer.chat_template, self.processor.audio_token):
            if not self.ears.transcript_first:
                return self._placed(plain[:last], True)[0]
            # the model writes the transcript of the last turn itself
            return self._placed(self._plain(self.messages[:last], forget=last - 1), True)[0]
        count = sum(1 for c in self.used() if c.message < last)
        return self._render(
            plain[:last], self.entries[:count], loss_on="nothing", add_generation_prompt=True
        ).input_ids

    def _plain(self, messages: Sequence[Mapping[str, Any]], forget: int = -1) -> list[dict[str, Any]]:
        """Messages in the one form that templates take, as the processor makes it."""
        ears = self.ears
        by_embeddings = isinstance(ears, EmbeddingsIn)
        given = [
            {**m, "content": [{**p, "transcript": None} for p in m["content"]]} if i == forget else m
            for i, m in enumerate(messages)
        ]
        plain = plain_messages(
            given,
            self.processor.spoken if self.processor.text_form == "spoken" else None,
            transcripts=by_embeddings and ears.transcript_first,
            around=(ears.clip_before, ears.clip_after) if by_embeddings else ("", ""),
        )
        if self.processor.audio_token is not None:
            refuse_placeholder(plain, self.processor.audio_token)
        return plain
