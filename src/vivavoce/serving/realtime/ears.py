"""Where the user begins and ends to speak: from a stream of samples to turns, whatever the size of its pieces."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from vivavoce.audio.voice_activity import Detector, EnergyDetector, SegmentRules, SileroDetector
from vivavoce.base.errors import MissingExtraError
from vivavoce.serving.realtime.settings import ServerVad

BLOCK_S = 0.02
MIN_SPEECH_S = 0.1


@dataclass(frozen=True)
class Started:
    """The user began to speak, so many samples into all that was sent; the padding before it counts."""

    at: int


@dataclass(frozen=True)
class Stopped:
    """The user has ended, with so many samples sent."""

    at: int


@dataclass(frozen=True)
class Silent:
    """Nobody spoke for the time that was set; the samples of it."""

    begin: int
    end: int
    samples: np.ndarray


Heard = Started | Stopped | Silent | np.ndarray


class Ears:
    """Cuts a stream into turns. Not for the event loop: the detector may be a neural network.

    Samples are looked at in blocks of 20 ms on a fixed grid, so the turns do not depend on how the stream is cut.

    Args:
        rate: Of the samples, Hz.
        settings: How turns are found.
        begin: Samples that were sent before.
    """

    def __init__(self, rate: int, settings: ServerVad, begin: int = 0) -> None:
        self.rate, self.settings = rate, settings
        self.position = begin
        self._origin = self._floor = begin  # of the detector's clock; before it nothing belongs to a new turn
        self._block = round(BLOCK_S * rate)
        self._held = np.zeros(0, np.float32)
        self._recent: deque[np.ndarray] = deque()
        self._detector: Detector | None = None
        self._stale = False
        self.speaking = False
        self.silent_from: int | None = None

    def push(self, samples: np.ndarray) -> list[Heard]:
        """Take float32 [S]; gives what happened, with the samples that belong to a turn."""
        joined = np.concatenate([self._held, samples])
        whole = len(joined) - len(joined) % self._block
        self._held = joined[whole:]
        heard: list[Heard] = []
        for begin in range(0, whole, self._block):
            heard += self._take(joined[begin : begin + self._block])
        return heard

    def change(self, settings: ServerVad) -> None:
        """Take other settings; threshold and silence hold from the next turn on."""
        self.settings, self._stale = settings, True

    def end_turn(self) -> np.ndarray:
        """End the turn here, on the client's word; returns samples that wait for their block."""
        rest, self._held = self._held, np.zeros(0, np.float32)
        self.position += len(rest)
        self._begin_anew()
        return rest

    def _begin_anew(self) -> None:
        self._detector, self.speaking = None, False
        self._recent.clear()
        self._origin = self._floor = self.position

    def _take(self, block: np.ndarray) -> list[Heard]:
        if self._detector is None or (self._stale and not self.speaking):
            self._detector, self._stale = detector(self.rate, self.settings), False
            self._origin = self.position
        events = self._detector.push(block)
        self.position += len(block)
        heard: list[Heard] = [block] if self.speaking else []
        if not self.speaking:
            self._remember(block)
        for event in events:
            if event.kind == "start":
                self.speaking = True
                heard += self._start(self._origin + round(event.time_s * self.rate))
            else:
                self.speaking = False
                self._floor = self.position
                heard.append(Stopped(self.position))
        return heard or self._silence()

    def _start(self, at: int) -> list[Heard]:
        begin = max(self._floor, at - self.settings.prefix_padding_ms * self.rate // 1000)
        samples = np.concatenate([*self._recent, np.zeros(0, np.float32)])
        begin = max(begin, self.position - len(samples))
        self._recent.clear()
        self.silent_from = None
        return [Started(begin), samples[len(samples) - (self.position - begin) :]]

    def _remember(self, block: np.ndarray) -> None:
        keep_ms = self.settings.prefix_padding_ms + 1000 * MIN_SPEECH_S + 200  # the detector may be late
        keep_ms = max(keep_ms, self.settings.idle_timeout_ms or 0)
        self._recent.append(block)
        while len(self._recent) * self._block > keep_ms * self.rate / 1000:
            self._recent.popleft()

    def _silence(self) -> list[Heard]:
        timeout, begin = self.settings.idle_timeout_ms, self.silent_from
        if timeout is None or begin is None or self.position - begin < timeout * self.rate // 1000:
            return []
        samples = np.concatenate([*self._recent, np.zeros(0, np.float32)])[-(self.position - begin) :]
        self.silent_from, self._floor = None, self.position
        self._recent.clear()
        return [Silent(begin, self.position, samples)]


def detector(rate: int, settings: ServerVad) -> Detector:
    """The neural detector where it is installed, else the one by energy.

    Its threshold is a probability; by energy it is taken as a part of 20 dB above the noise.
    """
    rules = SegmentRules(MIN_SPEECH_S, settings.silence_duration_ms / 1000, padding_s=0.0)
    try:
        return SileroDetector(rate, rules, threshold=min(max(settings.threshold, 0.01), 0.99))
    except MissingExtraError:
        return EnergyDetector(rate, rules, margin_db=max(20.0 * settings.threshold, 1.0))
