"""Constrained sampling: masks on the logits so that only decodable audio can be drawn.

A language model that writes audio tokens now and then writes a code of the wrong slot, ends inside a frame or
writes a stray code into text. Masking costs one comparison per step and makes every draw decodable. Letters:
B batch, L tokens so far, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LogitsProcessor

from vivavoce.base.errors import ConfigError
from vivavoce.tokens.record import AudioVocabulary


@dataclass(frozen=True)
class AudioLimits:
    """What the audio spans of one generation may be.

    Attributes:
        min_frames: Coarse frames before the end is legal; at least 1, since a codec cannot decode 0 frames.
        max_frames: Coarse frames after which only the end is legal; None for no limit.
        frame_multiple: The end is legal only at multiples of this many frames (``CodecSpec.pad_to_frames``
            for codecs whose clips must be so long; otherwise their decoder pads the last frames).
        allow_start: Whether new spans may begin; False for answers in text only.
        max_length: Tokens in all, prompt included, that generation will stop at; no span begins, and no frame
            is started, that could not be ended before it. None for no limit.
    """

    min_frames: int = 1
    max_frames: int | None = None
    frame_multiple: int = 1
    allow_start: bool = True
    max_length: int | None = None

    def __post_init__(self) -> None:
        if self.min_frames < 1 or self.frame_multiple < 1:
            raise ConfigError(
                f"min_frames is {self.min_frames}, frame_multiple {self.frame_multiple}; wanted 1 or more."
            )
        if self.max_frames is not None and self.shortest > self.max_frames:
            raise ConfigError(
                f"max_frames is {self.max_frames}, but the shortest audio has {self.shortest} frames "
                f"(min_frames {self.min_frames}, in multiples of {self.frame_multiple}); raise max_frames."
            )

    @property
    def shortest(self) -> int:
        """Frames of the shortest span that may be ended."""
        return -(-self.min_frames // self.frame_multiple) * self.frame_multiple

    def may_end(self, frames: int) -> bool:
        """Whether a span of this many whole frames may end."""
        return frames >= self.min_frames and frames % self.frame_multiple == 0

    def may_go_on(self, frames: int, length: int, period: int) -> bool:
        """Whether a span that may end after ``frames`` frames may take up the next stretch of frames instead.

        Args:
            frames: Whole frames so far.
            length: Tokens so far, prompt included.
            period: Tokens per frame.
        """
        ahead = max(self.shortest, (frames // self.frame_multiple + 1) * self.frame_multiple)
        if self.max_frames is not None and ahead > self.max_frames:
            return False
        return self.max_length is None or length + (ahead - frames) * period + 1 <= self.max_length


class AudioConstraints(LogitsProcessor):
    """Masks logits so that every audio span is whole frames of legal codes; for
    ``generate(logits_processor=[...])``.

    Inside a span only the ids of the coming slot are legal, and the end at frame borders. Outside, codes and
    the end are illegal, and the start if new spans are. Rows of padding (ids the tokenizer does not have) are
    illegal everywhere. Where a row stands is read from its tokens at every call, so batches, beams and
    reordering need no care. A span that the prompt left open goes on.

    Args:
        vocabulary: Of the model.
        limits: See there.
        starts_inside: The tokens seen begin inside a span, as in ``generate(inputs_embeds=...)`` after a
            prompt that ended with the start of audio (that start is not among ``input_ids`` then).
    """

    def __init__(
        self, vocabulary: AudioVocabulary, limits: AudioLimits | None = None, *, starts_inside: bool = False
    ) -> None:
        self.vocabulary = vocabulary
        self.limits = limits or AudioLimits()
        self.starts_inside = starts_inside

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Mask ``scores`` float [B, V] for the token after ``input_ids`` int64 [B, L]; returns a new "
        "tensor."""
        legal = torch.zeros_like(scores, dtype=torch.bool)
        for row, step in zip(legal, self.steps(input_ids), strict=True):
            self.allow(row, step, input_ids.shape[1])
        return scores.masked_fill(~legal, float("-inf"))

    def steps(self, input_ids: Tensor) -> list[int | None]:
        """For each row of int64 [B, L]: code tokens since the start of the open span, or None outside of "
        "audio."""
        length = input_ids.shape[1]
        order = torch.arange(1, length + 1, device=input_ids.device)
        if length == 0:
            return [0 if self.starts_inside else None] * input_ids.shape[0]
        starts = ((input_ids == self.vocabulary.start_id) * order).amax(1).tolist()
        ends = ((input_ids == self.vocabulary.end_id) * order).amax(1).tolist()
        default = length if self.starts_inside else None
        return [
            length - s if s > e else (default if s == e else None) for s, e in zip(starts, ends, strict=True)
        ]

    def allow(self, row: Tensor, step: int | None, length: int) -> None:
        """Set the legal ids of one row, bool [V] that is all False.

        Args:
            row: Changed in place.
            step: Code tokens since the start of audio; None outside.
            length: Tokens so far, prompt included.
        """
        vocabulary, limits = self.vocabulary, self.limits
        layout = vocabulary.flattening
        if step is None:
            row[: vocabulary.num_tokens or len(row)] = True
            row[vocabulary.first_code_id : vocabulary.code_ids.stop] = False
            row[vocabulary.end_id] = False
            # the start itself is one more token
            row[vocabulary.start_id] = limits.allow_start and limits.may_go_on(0, length + 1, layout.period)
            return
        frames, inside = divmod(step, layout.period)
        at_border = inside == 0 and limits.may_end(frames)
        if at_border:
            row[vocabulary.end_id] = True
        if not at_border or limits.may_go_on(frames, length, layout.period):
            codes = layout.allowed(step)
            first = vocabulary.first_code_id
            row[first + codes.start : first + codes.stop : codes.step] = True


def mask_logits(vocabulary: AudioVocabulary, scores: Tensor, step: int | None) -> Tensor:
    """Mask float [..., V] for one known step, for own sampling loops.

    Args:
        vocabulary: Of the model.
        scores: Logits.
        step: Code tokens since the start of audio; None outside of audio.

    Returns:
        A new tensor, illegal ids at -inf.
    """
    legal = torch.zeros(scores.shape[-1], dtype=torch.bool, device=scores.device)
    AudioConstraints(vocabulary).allow(legal, step, 0)
    return scores.masked_fill(~legal, float("-inf"))
