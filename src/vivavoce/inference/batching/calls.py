"""What touches the model while it answers: run at once by whoever asks, or in one thread by ``Batcher``.

Letters: n new positions, D width, V vocabulary, K codes of a frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakSet

import torch
from torch import Tensor

from vivavoce.inference.batching.choose import backbone_of
from vivavoce.inference.batching.rows import CachedSequence, Row
from vivavoce.models.hearing import HeardAudio
from vivavoce.models.speech_lm import SpeechLM

Result = TypeVar("Result")


@dataclass(eq=False, slots=True)
class FrameDraw:
    """A frame of an aligned voice to be drawn.

    Attributes:
        voice: The voice.
        hidden: float [1, D], the state before the frame.
        temperature: 0 takes the likeliest codes.
        generator: For temperature > 0.
    """

    voice: Any
    hidden: Tensor
    temperature: float = 0.0
    generator: torch.Generator | None = None


class Calls:
    """Runs everything at once, in the thread that asks.

    Args:
        model: The speech LM.
    """

    def __init__(self, model: SpeechLM) -> None:
        self.model = model
        self._open: WeakSet[CachedSequence] = WeakSet()

    @property
    def open_sequences(self) -> int:
        """Sequences that hold memory; one counts no more when it is closed or nobody has it."""
        return sum(not sequence.closed for sequence in list(self._open))

    def open(self) -> CachedSequence:
        """An empty sequence of the text model."""
        return self._counted(backbone_of(self.model.language_model).open())

    def fork(self, sequence: CachedSequence) -> CachedSequence:
        """Another sequence that begins like this one."""
        return self._counted(self.do(sequence.fork))

    def feed(self, rows: list[Row]) -> list[Tensor]:
        """Read rows of different sequences; see ``Row`` for what comes back.

        Raises:
            SessionError: A sequence is closed.
        """
        with torch.inference_mode():
            return rows[0].sequence.backbone.forward(rows)

    def draw_frame(self, draw: FrameDraw) -> Tensor:
        """Codes int64 [1, K] of the next frame of an aligned voice."""
        return draw_frames([draw])[0]

    def hear(self, features: Tensor, lengths: Tensor, keep_states: bool = True) -> HeardAudio:
        """Run encoder and connector; arguments and errors as ``SpeechLM.hear``."""
        with torch.inference_mode():
            return self.model.hear(features, lengths, keep_states=keep_states)

    def do(self, work: Callable[[], Result]) -> Result:
        """Run anything else that needs the model."""
        with torch.inference_mode():
            return work()

    def _counted(self, sequence: CachedSequence) -> CachedSequence:
        self._open.add(sequence)
        return sequence


def draw_frames(draws: list[FrameDraw]) -> list[Tensor]:
    """Frames of one voice together; each as if alone."""
    hidden = draws[0].hidden if len(draws) == 1 else torch.cat([draw.hidden for draw in draws])
    codes = draws[0].voice.draw_frames(hidden, [d.temperature for d in draws], [d.generator for d in draws])
    return list(codes.split(1))
