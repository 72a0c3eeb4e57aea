"""Which tokens may be drawn next: text or decodable audio, never placeholders or stray codes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from vivavoce.base.errors import ConfigError
from vivavoce.tokens.constraints import AudioConstraints, AudioLimits
from vivavoce.tokens.record import AudioVocabulary


class LegalTokens:
    """A ``generate.Constraint`` that follows one answer in and out of audio.

    Args:
        num_rows: Logits of the model, V.
        vocabulary: The audio tokens of the model; None if it has none.
        limits: What audio may be; ``allow_start=False`` keeps the answer in text.
        forbidden: Ids that are never drawn, such as the placeholder for audio embeddings.
        inside: The prompt ended with the start of audio.
        length: Tokens of the prompt, for ``limits.max_length``.

    Attributes:
        step: Code tokens since the start of audio; None outside of it.
        cut: Whether audio had to end because there was no room for more of it.
        num_seen: Tokens that were taken note of.
    """

    def __init__(
        self,
        num_rows: int,
        vocabulary: AudioVocabulary | None = None,
        limits: AudioLimits | None = None,
        forbidden: Iterable[int] = (),
        inside: bool = False,
        length: int = 0,
    ) -> None:
        self._vocabulary, self._num_rows = vocabulary, num_rows
        self._limits, self.cut = limits or AudioLimits(), False
        self._constraints = AudioConstraints(vocabulary, self._limits) if vocabulary else None
        self._forbidden = [i for i in forbidden if 0 <= i < num_rows]
        self._length, self.num_seen = length, 0
        self.step: int | None = 0 if inside else None

    def to_dict(self) -> dict[str, Any]:
        """What may come from here on, as plain values for another process that has model and vocabulary."""
        limits = dataclasses.asdict(self._limits)
        return {"limits": limits, "forbidden": self._forbidden, "step": self.step, "length": self._length}

    @classmethod
    def from_dict(
        cls, num_rows: int, vocabulary: AudioVocabulary | None, fields: dict[str, Any]
    ) -> LegalTokens:
        """Invert ``to_dict``.

        Raises:
            ValueError: Other fields, or of other kinds.
        """
        try:
            limits = AudioLimits(**fields["limits"])
            made = cls(num_rows, vocabulary, limits, fields["forbidden"], length=int(fields["length"]))
            made.step = None if fields["step"] is None else int(fields["step"])
        except (KeyError, TypeError, ConfigError) as error:
            raise ValueError(f"not a record of legal tokens: {error}") from error
        return made

    def allowed(self) -> Tensor:
        """bool [V]."""
        if self._constraints is None:
            legal = torch.ones(self._num_rows, dtype=torch.bool)
        else:
            legal = torch.zeros(self._num_rows, dtype=torch.bool)
            self._constraints.allow(legal, self.step, self._length)
        legal[self._forbidden] = False
        return legal

    @property
    def must_end(self) -> bool:
        """Whether there is no room for more of the audio that is being made."""
        if self._vocabulary is None or self.step is None:
            return False
        period = self._vocabulary.flattening.period
        return not self._limits.may_go_on(self.step // period, self._length, period)

    def advance(self, token_id: int) -> None:
        """Take note of the token that was chosen."""
        self.cut |= self._vocabulary is not None and token_id == self._vocabulary.end_id and self.must_end
        self._length, self.num_seen = self._length + 1, self.num_seen + 1
        if self._vocabulary is None:
            return
        if token_id == self._vocabulary.start_id:
            self.step = 0
        elif token_id == self._vocabulary.end_id:
            self.step = None
        elif self.step is not None:
            self.step += 1
