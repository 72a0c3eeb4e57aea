"""What becomes of the audio parts of a row: places in the sequence, tokens, what the encoder reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from vivavoce.audio.files import read_audio
from vivavoce.audio.resample import Method, resample
from vivavoce.base.errors import ModelError
from vivavoce.codecs.contract import Codec, Codes
from vivavoce.data.check.codes import read_ids
from vivavoce.data.conversation import Audio, Conversation, Text
from vivavoce.data.recordings import read_bytes, source_of
from vivavoce.models.clips import ClipInputs
from vivavoce.models.config import EmbeddingsIn, TokensIn
from vivavoce.tokens.record import AudioVocabulary

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


class RowClips:
    """The clips of one row for a model.

    Args:
        conversation, processor, root, encode, waveforms: See ``rendering.render_row``.

    Attributes:
        messages: As JSON without their recordings.
        clips: What becomes of each audio part.
        entries: For each clip that has a place: ids, or a number of positions.
        heard: What the encoder reads of clips that become embeddings; all at once, as at inference.

    Raises:
        AudioError, ModelError: Why the model cannot take a clip.
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
