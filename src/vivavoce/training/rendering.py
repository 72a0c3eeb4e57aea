"""What a model reads of a row, and what it learns of that: token ids, loss weights, places of audio, teacher.

Rows become ids by the functions that training and inference use, so what is shown here is what is trained. Letters:
L positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from vivavoce.audio.files import read_audio
from vivavoce.audio.resample import Method, resample
from vivavoce.base.errors import ConfigError, ModelError
from vivavoce.codecs.contract import Codec, Codes
from vivavoce.data.check.codes import read_ids
from vivavoce.data.conversation import Audio, Conversation, Text
from vivavoce.data.recordings import read_bytes, source_of
from vivavoce.models.clips import ClipInputs
from vivavoce.models.config import EmbeddingsIn, TokensIn, TokensOut
from vivavoce.models.conversation import (
    places_audio,
    plain_messages,
    refuse_placeholder,
    render_with_placeholders,
)
from vivavoce.tokens.chat import AudioSpan, Rendered, orpheus_prompt, render_chat
from vivavoce.tokens.messages import loss_weights
from vivavoce.tokens.record import AudioVocabulary
from vivavoce.training.distillation_rows import distillation_row

OBJECTIVES = ("sft", "distill", "next_token")
ASSISTANT = "assistant"
Waveforms = Sequence[tuple[np.ndarray, int] | None]


@dataclass(frozen=True)
class Clip:
    """What becomes of an audio part.

    Attributes:
        index: Which audio part of the row, from 0.
        message: Which message it is in.
        role: Of that message.
        how: "embeddings", "tokens", or "unused" where the model has no place for it.
        positions: In the sequence; 0 if unused.
        seconds: Of the part that counts; None if nothing tells.
        known: False if its tokens would have to be made by a codec that was not run; their number is right then, and
            the ids are not.
    """

    index: int
    message: int
    role: str
    how: str
    positions: int = 0
    seconds: float | None = None
    known: bool = True


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
    """Renders one row.

    Attributes:
        clips: What becomes of each audio part.
        entries: For each clip that has a place: ids, or a number of positions.
        heard: What the encoder reads of clips that become embeddings; all at once, as at inference.
    """

    def __init__(
        self,
        conversation: Conversation,
        processor: Any,
        root: Path | None,
        encode: bool,
        waveforms: Waveforms = (),
    ) -> None:
        self.row, self.processor, self.root, self.encode = conversation, processor, root, encode
        self.ears, self.mouth = processor.ears, processor.mouth
        self.clips: list[Clip] = []
        self.entries: list[Any] = []
        self.heard: ClipInputs | None = None
        self._given = waveforms
        self._waves: list[np.ndarray] = []
        self.messages = [self._message(i) for i in range(len(conversation.messages))]
        self._hear()

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

    # the clips

    def used(self) -> list[Clip]:
        """Clips that have a place, in order."""
        return [clip for clip in self.clips if clip.how != "unused"]

    def _message(self, number: int) -> dict[str, Any]:
        """A message as JSON without its recordings; its clips are counted on the way."""
        message = self.row.messages[number]
        content: list[dict[str, Any]] = []
        for part in message.parts:
            if isinstance(part, Text):
                content.append(part.row())
                continue
            clip, entry = self._clip(part, number, message.role)
            self.clips.append(clip)
            if clip.how != "unused":
                self.entries.append(entry)
                content.append({"type": "audio", "audio": clip.index, "transcript": part.transcript})
        loss = {} if message.loss is None else {"loss": message.loss}
        return {"role": message.role, "content": content, **loss, **message.more}

    def _clip(self, part: Audio, message: int, role: str) -> tuple[Clip, Any]:
        index = len(self.clips)
        if role == ASSISTANT:
            vocabulary = self.processor.vocabulary_out
            if vocabulary is None:
                return Clip(index, message, role, "unused"), None
            return self._tokens(part, vocabulary, self.mouth, Clip(index, message, role, "tokens"))
        if isinstance(self.ears, TokensIn):
            vocabulary = self.processor.vocabulary_in
            return self._tokens(part, vocabulary, self.ears, Clip(index, message, role, "tokens"))
        if not isinstance(self.ears, EmbeddingsIn):
            raise ModelError(f"this model does not hear, and message {message} has a clip; give it text.")
        wave = self._waveform(index, part, self.processor.sample_rate, "soxr")
        self._waves.append(wave)
        seconds = wave.size / self.processor.sample_rate
        return Clip(index, message, role, "embeddings", seconds=seconds), None  # _hear counts its positions

    def _hear(self) -> None:
        """Make inputs of the encoder, and count the positions of every clip."""
        if not self._waves:
            return
        self.heard = self.processor.clip_reader.read(self._waves)
        counts = iter(self.heard.positions)
        for at, clip in enumerate(self.used()):
            if clip.how == "embeddings":
                self.entries[at] = count = next(counts)
                self.clips[clip.index] = replace(clip, positions=count)

    def _tokens(
        self, part: Audio, vocabulary: AudioVocabulary, side: Any, clip: Clip
    ) -> tuple[Clip, list[int]]:
        """The tokens of a clip: those of the row if they are of the model's codec and layout, else by the codec."""
        rate, frame = vocabulary.sample_rate, vocabulary.frame_samples
        known, period = True, vocabulary.flattening.period
        tokens = part.tokens
        if tokens and tokens.get("layout") == vocabulary.layout:
            _same_codec(tokens, vocabulary)
            inner = read_ids(tokens, self.root or Path())
            samples = int(tokens.get("num_samples") or len(inner) // period * frame)
        else:
            wave = self._waveform(clip.index, part, rate, "sinc")
            samples = wave.size
            if self.encode:
                inner = vocabulary.flattening.flatten(_encode(self.processor, side, wave))
            else:
                known = False
                inner = [vocabulary.flattening.allowed(i).start for i in range(-(-samples // frame) * period)]
        ids = [vocabulary.start_id, *(vocabulary.first_code_id + i for i in inner), vocabulary.end_id]
        made = Clip(clip.index, clip.message, clip.role, "tokens", len(ids), samples / rate, known)
        return made, ids

    def _waveform(self, index: int, part: Audio, rate: int, resampler: Method) -> np.ndarray:
        given = self._given[index] if self._given else None
        if given is not None:
            return resample(given[0], given[1], rate, resampler)
        data = read_bytes(source_of(part, self.row), self.root)
        return read_audio(BytesIO(data), rate, part.start_s, part.end_s, resampler=resampler)[0]


def _same_codec(tokens: Mapping[str, Any], vocabulary: AudioVocabulary) -> None:
    theirs, ours = str(tokens.get("codec_hash") or ""), vocabulary.codec_weights
    if theirs and ours and theirs != ours:
        raise ModelError(
            f"the row's codes are of codec {tokens.get('codec')!r} {theirs}, the model's of {vocabulary.codec!r} "
            f"{ours}; tokenize the set with the model's codec."
        )


def _encode(processor: Any, side: Any, wave: np.ndarray) -> Codes:
    """Codes of a waveform, float32 [S], by the codec of one side of the model."""
    import torch

    codec: Codec = processor.codec_in if side is processor.ears else processor.codec_out
    with torch.inference_mode():
        return codec.encode(torch.from_numpy(np.ascontiguousarray(wave))[None, None])
