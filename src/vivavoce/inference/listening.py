"""Hearing a question while it is still being spoken: what of it is final already, for each kind of ears.

Letters: S samples, M mel bins, T mel frames.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vivavoce.audio.features import WHISPER_FFT, WHISPER_HOP, LogMel
from vivavoce.audio.resample import StreamResampler
from vivavoce.codecs.contract import Codes
from vivavoce.inference.kept import Chunk
from vivavoce.inference.sinc_stream import SincStream
from vivavoce.models.config import EmbeddingsIn, TokensIn
from vivavoce.models.connectors.stack import StackProjector
from vivavoce.models.processor import SpeechProcessor

Prefill = Literal["tokens", "blocks", "chunks", "none"]

STEP_FRAMES = 50  # new mel frames, 10 ms each, before blocks go through the encoder again
RANGE = 8.0 / 4.0  # Whisper's log-mel is cut so far below a clip's maximum


def prefill_of(processor: SpeechProcessor) -> Prefill:
    """How a model can read a question that has not ended, without a change of any number.

    "tokens": codes that the codec's streaming encoder calls final. "blocks": blocks of a block-causal Whisper.
    "chunks": pieces of a long clip that each fill one pass of the encoder. "none": the ears need the whole clip, or a
    gate reads the encoder's states of it, or clips are padded as their reference does, each to the longest.
    """
    ears = processor.ears
    if isinstance(ears, TokensIn):
        return "tokens"
    if not isinstance(ears, EmbeddingsIn) or ears.gate is not None or ears.reference_padding:
        return "none"
    if block_rule(processor) is not None:
        return "blocks"
    return "chunks" if getattr(processor.clip_reader.encoder, "longest", None) else "none"


def block_rule(processor: SpeechProcessor) -> Callable[[int], int] | None:
    """Mel frames of a chunk that are known -> embeddings that no later frame can change; None without blocks.

    The two convolutions let the last frame of a block see one mel frame of the next.
    """
    if not isinstance(processor.ears, EmbeddingsIn):
        return None
    encoder, connector = processor.clip_reader.encoder, processor.clip_reader.connector
    config = getattr(encoder, "config", None)
    size: int | None = getattr(config, "block_frames", None)
    if size is None or getattr(config, "pad_to_longest", False) or not isinstance(connector, StackProjector):
        return None
    block, stack = size, connector.config.stack_factor
    return lambda frames: max(0, (frames - 1) // (2 * block)) * block // stack


class Listener(ABC):
    """Takes one recording in pieces."""

    @abstractmethod
    def push(self, chunk: np.ndarray) -> None:
        """Take float32 [S] at the recording's own rate."""

    def ids(self) -> list[int]:
        """Sound tokens that are final, the start included; none for ears by embeddings."""
        return []

    def chunks(self) -> list[Chunk]:
        """Chunks, or beginnings of them, that are final unless the recording gets much louder."""
        return []

    def finish(self) -> list[int] | None:
        """End of the recording: all its sound tokens, start and end included; None for ears by embeddings."""
        return None


def listener(processor: SpeechProcessor, mode: Prefill, sample_rate: int) -> Listener:
    """A listener for one recording at ``sample_rate``, Hz.

    Raises:
        AudioError: A rate out of range.
    """
    if mode == "tokens":
        return TokenListener(processor, sample_rate)
    if mode == "none":
        StreamResampler(sample_rate, processor.sample_rate)  # refuses rates out of range
        return SilentListener()
    return ChunkListener(processor, mode, sample_rate)


class SilentListener(Listener):
    """For ears that need the whole recording."""

    def push(self, chunk: np.ndarray) -> None:
        pass


class TokenListener(Listener):
    """Sound tokens by the codec's exact streaming encoder; it holds back what the codec's look-ahead may change."""

    def __init__(self, processor: SpeechProcessor, sample_rate: int) -> None:
        assert processor.vocabulary_in is not None
        self._vocabulary, codec = processor.vocabulary_in, processor.codec_in
        self._resampler = SincStream(sample_rate, codec.spec.sample_rate)
        self._encoder = codec.stream_encoder()
        self._device = next((p.device for p in codec.parameters()), torch.device("cpu"))
        self._ids = [self._vocabulary.start_id]

    def push(self, chunk: np.ndarray) -> None:
        self._encode(self._resampler.push(chunk))

    def ids(self) -> list[int]:
        return list(self._ids)

    @torch.inference_mode()
    def finish(self) -> list[int]:
        self._encode(self._resampler.flush())
        self._take(self._encoder.flush())
        return [*self._ids, self._vocabulary.end_id]

    @torch.inference_mode()
    def _encode(self, wave: np.ndarray) -> None:
        if len(wave):
            samples = torch.from_numpy(np.ascontiguousarray(wave))
            self._take(self._encoder.push(samples[None, None].to(self._device)))

    def _take(self, codes: Codes) -> None:
        if codes.levels[0].shape[1]:  # a layout goes frame by frame, so pieces follow each other
            self._ids += self._vocabulary.to_ids(codes)[1:-1]


class ChunkListener(Listener):
    """Inputs of the encoder for all that is final: whole chunks and, by blocks, the beginning of the next.

    Log-mel features hang on a clip's maximum. They are made with the maximum so far; should it rise enough to
    change what was read, the session's check against the whole clip finds it and reads that again.
    """

    def __init__(self, processor: SpeechProcessor, mode: Prefill, sample_rate: int) -> None:
        reader, ears = processor.clip_reader, processor.ears
        assert isinstance(ears, EmbeddingsIn)
        self._reader = reader
        self._longest: int | None = getattr(reader.encoder, "longest", None)
        self._resampler = StreamResampler(sample_rate, processor.sample_rate)
        takes_mel = getattr(reader.encoder, "takes", "log_mel") == "log_mel"
        self._source = _MelPieces(int(ears.features.get("num_mels", 80))) if takes_mel else _WavePieces()
        self._final_count = block_rule(processor) if mode == "blocks" else None
        self._stepped = 0
        self._found: tuple[tuple[int, int], list[Chunk]] = ((0, 0), [])
        if reader.silence_samples:
            self._source.push(np.zeros(reader.silence_samples, np.float32))

    def push(self, chunk: np.ndarray) -> None:
        self._source.push(self._resampler.push(chunk))

    def chunks(self) -> list[Chunk]:
        known, longest = self._source.num_final, self._longest
        if self._final_count is not None and known - self._stepped >= STEP_FRAMES:
            self._stepped = known
        whole = known // longest if longest is not None else 0
        if self._found[0] == (whole, self._stepped):
            return self._found[1]
        begin, found = 0, []
        while longest is not None and begin + longest <= known:
            found.append(self._chunk(begin, longest))
            begin += longest
        if self._final_count is not None and self._stepped > begin:
            count = self._final_count(self._stepped - begin)
            if count:
                features = self._source.features(begin, self._stepped)
                found.append(Chunk(features, self._stepped - begin, count))
        self._found = (whole, self._stepped), found
        return found

    def _chunk(self, begin: int, size: int) -> Chunk:
        count = self._reader.num_embeddings(torch.tensor([size]))[0]
        return Chunk(self._source.features(begin, begin + size), size, count)


class _WavePieces:
    """The waveform itself; every sample is final."""

    def __init__(self) -> None:
        self._pieces: list[np.ndarray] = []
        self.num_final = 0

    def push(self, wave: np.ndarray) -> None:
        self._pieces.append(wave)
        self.num_final += len(wave)

    def features(self, begin: int, end: int) -> Tensor:
        self._pieces = [np.concatenate(self._pieces)]
        return torch.from_numpy(self._pieces[0][begin:end].copy())


class _MelPieces:
    """Log-mel frames that see no sample to come, cut below the maximum so far."""

    LEAST_NEW = 10  # frames before the spectrum goes on

    def __init__(self, num_mels: int) -> None:
        self._mel = LogMel(num_mels, ending="hop")
        self._wave = np.zeros(0, np.float32)
        self._begin = self.num_final = 0  # frame at the first kept sample; frames that are known
        self._pieces: list[Tensor] = []
        self._peak = -torch.inf

    def push(self, wave: np.ndarray) -> None:
        self._wave = np.concatenate([self._wave, wave])
        seen = self._begin * WHISPER_HOP + len(self._wave)
        known = (seen - WHISPER_FFT // 2) // WHISPER_HOP + 1
        if known - self.num_final < self.LEAST_NEW:
            return
        frames = self._mel(torch.from_numpy(self._wave)[None])[0][0]
        new = frames[:, self.num_final - self._begin : known - self._begin]
        self._pieces.append(new)
        self._peak = max(self._peak, float(new.max()))
        begin = max(0, known - 2)  # the first two frames of a window are mirrored and not used
        self._wave = self._wave[(begin - self._begin) * WHISPER_HOP :]
        self._begin, self.num_final = begin, known

    def features(self, begin: int, end: int) -> Tensor:
        self._pieces = [torch.cat(self._pieces, dim=1)]
        return self._pieces[0][:, begin:end].clamp(min=self._peak - RANGE)
