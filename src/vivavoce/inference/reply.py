"""What the assistant gives back: deltas while it works, replies and transcripts at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vivavoce.base.errors import SessionError
from vivavoce.inference.finish import Finish, TokenLogprob

Word = tuple[str, float, float]


@dataclass(frozen=True)
class Delta:
    """One piece of an answer as it arrives; only the fields that changed are set.

    Attributes:
        text: New text of the answer.
        audio: New samples, float32 [s] at ``sample_rate``; None if none.
        word: (spoken word, start, end) in seconds of the answer's audio, with the audio of that word.
        transcript: New text of what was heard.
        understood: False once it is clear that the question was not understood.
        sample_rate: Hz of ``audio``.
        logprobs: Of the text tokens drawn since the last delta, if ``logprobs`` was asked for.
        finish: On the last delta of an answer, and on that alone.
    """

    text: str = ""
    audio: np.ndarray | None = None
    word: Word | None = None
    transcript: str = ""
    understood: bool = True
    sample_rate: int | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    finish: Finish | None = None


@dataclass
class Reply:
    """A whole answer.

    Attributes:
        text: The answer.
        transcript: What was heard, for models that write it; else "".
        understood: False if the answer is only the refusal.
        audio: float32 [S] in [-1, 1], None without speech.
        sample_rate: Hz of ``audio``, None without speech.
        words: (spoken word, start, end) in seconds; empty for models without word times.
        timings: Seconds since the call, where they apply: ``transcript_s`` the transcript was complete,
            ``ttft_s`` first text of the answer, ``first_audio_s`` first samples, ``total_s`` end. ``audio_s``
            is the length of the spoken answer and ``rtf`` is ``total_s / audio_s`` (below 1 is faster than
            real time).
        finish: How it ended, with token counts.
    """

    text: str = ""
    transcript: str = ""
    understood: bool = True
    audio: np.ndarray | None = None
    sample_rate: int | None = None
    words: list[Word] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    finish: Finish | None = None

    def save(self, path: str | Path) -> Path:
        """Write the spoken answer as an audio file; the suffix chooses the format.

        Raises:
            SessionError: The reply has no audio.
        """
        from vivavoce.audio.files import write_audio

        if self.audio is None or self.sample_rate is None:
            raise SessionError("this reply has no audio to save; ask with audio=True.")
        write_audio(path, self.audio, self.sample_rate)
        return Path(path)


@dataclass(frozen=True)
class Transcript:
    """What was heard in a recording.

    Attributes:
        text: The transcript; what was heard even if it was not understood, "" for nothing.
        understood: False if the model does not trust it.
        seconds: Length of the recording.
        timings: ``total_s`` and ``rtf`` (``total_s / seconds``).
        finish: Token counts, as of an answer.
    """

    text: str
    understood: bool
    seconds: float
    timings: dict[str, float] = field(default_factory=dict)
    finish: Finish | None = None
