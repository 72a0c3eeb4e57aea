"""Audio tokens in, samples out, while the model is still speaking."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from vivavoce.base.errors import SessionError
from vivavoce.codecs.contract import Codec
from vivavoce.tokens.vocabulary import AudioVocabulary


class AudioTokenStream:
    """Decodes code tokens one by one.

    As soon as a coarse frame is complete it goes to the codec's stream decoder. The pieces joined equal the
    offline decode of all whole frames; tokens of a last frame that was cut off are dropped.

    Streaming: state is the codec's; look-ahead is ``codec.spec.lookahead_samples``.

    Args:
        vocabulary: Says which ids are codes and how they are laid out.
        codec: The codec that made them.
        do: Runs the decoder; default at once.

    Raises:
        VocabularyError: The codec is not the one of the vocabulary.
    """

    def __init__(
        self, vocabulary: AudioVocabulary, codec: Codec, do: Callable[[Callable[[], Any]], Any] | None = None
    ) -> None:
        vocabulary.check_codec(codec.spec)
        self._vocabulary, self._codec = vocabulary, codec
        self._decoder, self._do = codec.stream_decoder(), do or (lambda work: work())
        self._frame: list[int] = []
        self._closed = False
        self.num_frames = 0

    @property
    def num_samples(self) -> int:
        """Samples that the frames so far decode to."""
        return self.num_frames * self._codec.spec.frame_samples

    @torch.inference_mode()
    def push(self, token_id: int) -> np.ndarray:
        """Take one code token; float32 [s], the samples that are now final (maybe none).

        Raises:
            LayoutError: The token is not a code, or of another slot.
            SessionError: After ``flush``.
        """
        if self._closed:
            raise SessionError("the audio stream has ended; make a new one for the next answer.")
        self._frame.append(token_id)
        if len(self._frame) < self._vocabulary.flattening.period:
            return np.zeros(0, np.float32)
        codes = self._vocabulary.from_ids(self._frame)
        self._frame.clear()
        self.num_frames += 1
        device = next((p.device for p in self._codec.parameters()), torch.device("cpu"))
        codes.levels = [level.to(device) for level in codes.levels]
        return _samples(self._do(lambda: self._decoder.push(codes)))

    @torch.inference_mode()
    def flush(self) -> np.ndarray:
        """End of audio: the remaining samples, float32 [s]."""
        if self._closed:
            return np.zeros(0, np.float32)
        self._closed = True
        if not self.num_frames:
            return np.zeros(0, np.float32)
        return _samples(self._do(lambda: self._decoder.flush(self.num_samples)))


def _samples(waveform: torch.Tensor) -> np.ndarray:
    return waveform.reshape(-1).detach().to("cpu", torch.float32).numpy()
