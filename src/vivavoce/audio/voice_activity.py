"""Find where somebody speaks: segments of a recording in seconds, or events while audio arrives.

Two detectors in one table, ``DETECTORS``. ``energy`` compares short-time level with a running noise floor: no
weights, no dependency, 1/1000 of real time, fooled by loud noise that is not speech. ``silero`` is a small
neural network from the ``vad`` extra. Both score short frames and share the rules that turn scores into
segments.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np

from vivavoce.audio.resample import StreamResampler
from vivavoce.base.errors import AudioError, ConfigError, MissingExtraError, SessionError
from vivavoce.base.registry import Registry

DETECTORS = Registry(
    "voice activity detector",
    {
        "energy": "vivavoce.audio.voice_activity:EnergyDetector",
        "silero": "vivavoce.audio.voice_activity:SileroDetector",
    },
    group="vivavoce.voice_activity",
)


class Segment(NamedTuple):
    """A stretch of speech, seconds from the beginning of the recording."""

    start_s: float
    end_s: float


class SpeechEvent(NamedTuple):
    """Speech began or ended.

    Attributes:
        kind: "start" or "end"; they alternate, "start" first.
        time_s: Where it happened, seconds of audio pushed; it lies before the moment the event was noticed.
    """

    kind: Literal["start", "end"]
    time_s: float


@dataclass(frozen=True)
class SegmentRules:
    """How frame scores become segments.

    Attributes:
        min_speech_s: Shorter bursts are not speech; also how late a "start" is noticed.
        min_silence_s: A pause this long ends a segment; also how late an "end" is noticed.
        padding_s: Added before and after each segment, at most half of ``min_silence_s``.
    """

    min_speech_s: float = 0.1
    min_silence_s: float = 0.4
    padding_s: float = 0.1

    def __post_init__(self) -> None:
        if (
            self.min_speech_s < 0
            or self.min_silence_s <= 0
            or not 0 <= 2 * self.padding_s <= self.min_silence_s
        ):
            raise ConfigError(
                f"min_speech_s={self.min_speech_s}, min_silence_s={self.min_silence_s}, "
                f"padding_s={self.padding_s}; wanted min_speech_s >= 0, min_silence_s > 0 and "
                "0 <= padding_s <= min_silence_s / 2."
            )


class Detector(ABC):
    """Streaming detection: push chunks, get events. A subclass scores frames.

    The events do not depend on how the audio is cut into chunks.

    Args:
        sample_rate: Rate of the chunks, Hz.
        rules: How scores become segments.
    """

    frame_samples: int
    on: float
    off: float

    def __init__(self, sample_rate: int, rules: SegmentRules | None = None) -> None:
        self.sample_rate, self.rules = sample_rate, rules or SegmentRules()
        self._held = np.zeros(0, dtype=np.float32)
        self._num_frames = self._num_samples = 0
        self._speaking = self._ended = False
        self._run_start = self._run_end = (
            0  # frames: where the present run of speech began and last scored as speech
        )
        self._in_run = False

    @property
    def speaking(self) -> bool:
        """True between a "start" and its "end"."""
        return self._speaking

    @abstractmethod
    def score(self, frames: np.ndarray) -> Iterable[float]:
        """Score consecutive frames, float32 ``[T, frame_samples]``; state may carry over to the next call."""

    def frame_rate_hz(self) -> float:
        """Frames per second of pushed audio."""
        return self.sample_rate / self.frame_samples

    def push(self, chunk: np.ndarray) -> list[SpeechEvent]:
        """Take float32 ``[S]`` within -1 and 1 and return what it settled.

        Raises:
            AudioError: The chunk is not a one-dimensional float array of finite values.
            SessionError: The detector was flushed.
        """
        if self._ended:
            raise SessionError("the detector was flushed; make a new one for the next recording.")
        chunk = np.asarray(chunk)
        if chunk.ndim != 1 or chunk.dtype.kind != "f" or not np.isfinite(chunk).all():
            raise AudioError(
                f"cannot listen to shape {chunk.shape}, {chunk.dtype}; wanted finite float samples [S]."
            )
        self._num_samples += chunk.size
        return self._consume(chunk.astype(np.float32, copy=False))

    def flush(self) -> list[SpeechEvent]:
        """End the recording; speech that was going on ends here. Less than one frame of audio is left
        unscored.

        Raises:
            SessionError: The detector was flushed before.
        """
        if self._ended:
            raise SessionError("the detector was flushed already.")
        self._ended = True
        return self._end() if self._speaking else []

    def _consume(self, samples: np.ndarray) -> list[SpeechEvent]:
        held = np.concatenate([self._held, samples])
        count = held.size // self.frame_samples
        frames, self._held = held[: count * self.frame_samples], held[count * self.frame_samples :]
        events: list[SpeechEvent] = []
        for score in self.score(frames.reshape(count, self.frame_samples)):
            events += self._advance(score)
        return events

    def _advance(self, score: float) -> list[SpeechEvent]:
        now, self._num_frames = self._num_frames, self._num_frames + 1
        if score >= (self.off if self._in_run else self.on):
            if not self._in_run:
                self._run_start = now
            self._in_run, self._run_end = True, now + 1
            return self._confirm()
        self._in_run = False
        if (
            self._speaking
            and self._num_frames - self._run_end >= self.rules.min_silence_s * self.frame_rate_hz()
        ):
            return self._end()
        return []

    def _confirm(self) -> list[SpeechEvent]:
        long_enough = self._run_end - self._run_start >= self.rules.min_speech_s * self.frame_rate_hz()
        if self._speaking or not long_enough:
            return []
        self._speaking = True
        return [SpeechEvent("start", max(0.0, self._run_start / self.frame_rate_hz() - self.rules.padding_s))]

    def _end(self) -> list[SpeechEvent]:
        self._speaking = False
        end_s = self._run_end / self.frame_rate_hz() + self.rules.padding_s
        return [SpeechEvent("end", min(end_s, self._num_samples / self.sample_rate))]


class EnergyDetector(Detector):
    """Detect speech where the level rises above the quietest moments of the last seconds.

    Args:
        sample_rate: Rate of the chunks, Hz.
        rules: How scores become segments.
        margin_db: How far above the noise floor speech must rise, dB; it lasts until it falls below half of
            that.
        quietest_db: Level below which nothing is speech, dB of full scale.
        loudest_noise_db: The noise floor is never taken to be louder.
        memory_s: How long a quiet moment is remembered as the floor, seconds, at least 1.
        assumed_db: Floor assumed for the first second, so that a clip may begin in mid-word; louder steady
            noise gives one false segment there.
    """

    def __init__(
        self,
        sample_rate: int,
        rules: SegmentRules | None = None,
        *,
        margin_db: float = 10.0,
        quietest_db: float = -60.0,
        loudest_noise_db: float = -25.0,
        memory_s: float = 3.0,
        assumed_db: float = -45.0,
    ) -> None:
        super().__init__(sample_rate, rules)
        self.frame_samples = max(1, round(0.01 * sample_rate))
        self.on, self.off = margin_db, margin_db / 2
        self._quietest, self._loudest = quietest_db, loudest_noise_db
        self._memory = max(1, round(memory_s * self.frame_rate_hz()))
        self._time = 0
        # (frame, level), both rising: frames that are or may become the quietest. The first one is made
        # up, and is forgotten one second into the recording.
        made_up = (round(self.frame_rate_hz()) - self._memory, assumed_db)
        self._minima: deque[tuple[int, float]] = deque([made_up])

    def score(self, frames: np.ndarray) -> Iterable[float]:
        """Return dB above the noise floor."""
        centred = frames - frames.mean(axis=1, keepdims=True)
        levels = 10.0 * np.log10((centred.astype(np.float64) ** 2).mean(axis=1) + 1e-10)
        for level in levels.tolist():
            while self._minima and self._minima[-1][1] >= level:
                self._minima.pop()
            self._minima.append((self._time, level))
            if self._minima[0][0] <= self._time - self._memory:
                self._minima.popleft()
            self._time += 1
            floor = min(max(self._minima[0][1], self._quietest - self.on), self._loudest)
            yield level - floor


class SileroDetector(Detector):
    """Detect speech with the Silero network (MIT licence; ``pip install 'vivavoce[vad]'``).

    Audio at other rates is resampled to 16 kHz on the way, which adds about 10 ms of delay. Frames are 32 ms.

    Args:
        sample_rate: Rate of the chunks, Hz.
        rules: How scores become segments.
        threshold: Probability at which speech begins, 0 to 1; it lasts until it falls 0.15 below.

    Raises:
        MissingExtraError: The silero-vad package is not installed.
    """

    MODEL_RATE = 16000
    CONTEXT = 64  # samples before a frame that the network sees again

    def __init__(
        self, sample_rate: int, rules: SegmentRules | None = None, *, threshold: float = 0.5
    ) -> None:
        super().__init__(sample_rate, rules)
        if not 0.0 < threshold < 1.0:
            raise ConfigError(f"threshold is {threshold}; wanted a probability between 0 and 1.")
        self._network = _silero_network()
        self._state: Any = None
        self._context = np.zeros(self.CONTEXT, np.float32)
        self._resampler = StreamResampler(sample_rate, self.MODEL_RATE)
        self.frame_samples = 512
        self.on, self.off = threshold, max(threshold - 0.15, 0.01)

    def frame_rate_hz(self) -> float:
        return self.MODEL_RATE / self.frame_samples

    def _consume(self, samples: np.ndarray) -> list[SpeechEvent]:
        return super()._consume(self._resampler.push(samples))

    def flush(self) -> list[SpeechEvent]:
        events = [] if self._ended else super()._consume(self._resampler.flush())
        return events + super().flush()

    def score(self, frames: np.ndarray) -> Iterable[float]:
        """Return the network's probability of speech for each frame."""
        import torch

        for frame in frames:
            seen = torch.from_numpy(np.concatenate([self._context, frame]))[None]
            self._context = frame[-self.CONTEXT :].copy()
            with torch.no_grad():
                given = () if self._state is None else (self._state,)
                probability, self._state = self._network(seen, *given)
            yield float(probability)


def speech_segments(
    waveform: np.ndarray, sample_rate: int, detector: str = "energy", rules: SegmentRules | None = None
) -> list[Segment]:
    """Find the stretches of speech in a recording.

    Args:
        waveform: float32 ``[S]``, mono, within -1 and 1.
        sample_rate: Hz.
        detector: Row of ``DETECTORS``.
        rules: How scores become segments.

    Returns:
        Segments in order, not overlapping, inside the recording; empty for silence.

    Raises:
        AudioError: Not a one-dimensional float array of finite values.
        ConfigError: Unknown detector.
        MissingExtraError: The detector's package is not installed.
    """
    listener: Detector = DETECTORS.get(detector)(sample_rate, rules)
    events = listener.push(waveform) + listener.flush()
    return [Segment(a.time_s, b.time_s) for a, b in zip(events[::2], events[1::2], strict=True)]


@cache
def _silero_network() -> Callable[..., Any]:
    """Loaded once: the package keeps one conversation's state in each copy, of 8 MB; here the detectors keep it.

    Source: silero-vad 5 and 6, ``_model`` of its scripted module: ([1, 64 + 512] samples, state) -> probability, state.
    """
    import torch

    threads = torch.get_num_threads()
    try:
        import silero_vad
    except ImportError:
        raise MissingExtraError("silero-vad is not installed; run: pip install 'vivavoce[vad]'.") from None
    finally:
        torch.set_num_threads(threads)  # importing silero_vad sets one thread for the whole process
    network: Callable[..., Any] = silero_vad.load_silero_vad()._model
    return network
