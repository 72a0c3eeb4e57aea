"""Microphone and loudspeaker through ``sounddevice``, where it is installed and the machine has them."""

from __future__ import annotations

import queue
import select
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from vivavoce.base.errors import AudioError, MissingExtraError

if TYPE_CHECKING:
    import numpy as np

LONGEST_S = 300.0  # of one recording
PIECE_S = 0.05  # between looks at the keyboard


def devices() -> Any:
    """The module ``sounddevice``.

    Raises:
        MissingExtraError: It is not installed, or its library is not.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        raise MissingExtraError(
            "microphone and playback need the package sounddevice and PortAudio; install them: "
            f"pip install 'vivavoce[mic]', on Linux also apt-get install libportaudio2 ({error})."
        ) from error
    return sounddevice


def can_play() -> bool:
    """Whether there is a loudspeaker."""
    try:
        sounddevice = devices()
        sounddevice.query_devices(kind="output")
    except MissingExtraError:
        return False
    except Exception as error:  # its own class of errors, which only it has
        if type(error).__name__ not in ("PortAudioError", "ValueError"):
            raise
        return False
    return True


def listen() -> Iterator[tuple[np.ndarray, int]]:
    """Record from the microphone until Enter is pressed; (float32 [s], Hz) as it comes.

    Raises:
        MissingExtraError: No sounddevice.
        AudioError: No microphone.
    """
    sounddevice = devices()
    pieces: queue.Queue[np.ndarray] = queue.Queue()

    def take(samples: np.ndarray, *_: Any) -> None:
        pieces.put(samples[:, 0].copy())

    try:
        rate = round(sounddevice.query_devices(kind="input")["default_samplerate"])
        stream = sounddevice.InputStream(samplerate=rate, channels=1, dtype="float32", callback=take)
    except (sounddevice.PortAudioError, ValueError) as error:
        raise AudioError(f"no microphone can be opened ({error}); ask with /audio FILE.") from error
    end = time.monotonic() + LONGEST_S
    with stream:
        while time.monotonic() < end and not _enter_pressed(PIECE_S):
            while not pieces.empty():
                yield pieces.get(), rate
    while not pieces.empty():
        yield pieces.get(), rate


def _enter_pressed(wait_s: float) -> bool:
    ready, _, _ = select.select([sys.stdin], [], [], wait_s)
    if ready:
        sys.stdin.readline()
    return bool(ready)


class Loudspeaker:
    """Plays samples as they come.

    Args:
        sample_rate: Hz.

    Raises:
        AudioError: No loudspeaker.
    """

    def __init__(self, sample_rate: int) -> None:
        import numpy as np  # not while `--help` is read

        sounddevice = devices()
        self._rate, self._lock = sample_rate, threading.Lock()
        self._waiting = np.zeros(0, np.float32)
        self._num_played = 0
        try:
            self._stream = sounddevice.OutputStream(
                samplerate=sample_rate, channels=1, dtype="float32", callback=self._give
            )
            self._stream.start()
        except (sounddevice.PortAudioError, ValueError) as error:
            raise AudioError(f"no loudspeaker can be opened ({error}); /say off is quiet.") from error

    @property
    def played_s(self) -> float:
        """Seconds that went out."""
        return self._num_played / self._rate

    @property
    def left_s(self) -> float:
        """Seconds that wait."""
        return len(self._waiting) / self._rate

    def push(self, samples: np.ndarray) -> None:
        """Add float32 [s] to what is played."""
        import numpy as np

        with self._lock:
            self._waiting = np.concatenate([self._waiting, samples])

    def close(self) -> None:
        """Fall silent at once."""
        self._stream.abort()
        self._stream.close()

    def _give(self, out: np.ndarray, frames: int, *_: Any) -> None:
        with self._lock:
            piece, self._waiting = self._waiting[:frames], self._waiting[frames:]
            self._num_played += len(piece)
        out[:, 0] = 0
        out[: len(piece), 0] = piece
