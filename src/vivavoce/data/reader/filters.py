"""Rules that leave rows out of training: lengths, and rows with nothing to hear or to answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vivavoce.base.errors import ConfigError
from vivavoce.data.conversation import Conversation


@dataclass(frozen=True)
class Filters:
    """Which rows are used. Every row left out is counted with its reason.

    Attributes:
        min_audio_s, max_audio_s: Seconds of all recordings of a row together, as cut; None for no limit.
        max_clip_s: Seconds of any one recording.
        max_characters: Of typed words and transcripts together.
        max_audio_tokens: Ids in ``tokens`` of audio parts, in rows that have them.
        needs_audio: Leave out rows without any.
        needs_answer: Leave out rows whose last message is not an assistant's with words or audio.
        keep: Any other rule; False leaves a row out. Must not depend on anything but the row.

    Raises:
        ConfigError: A limit is below 0, or the least is more than the most.
    """

    min_audio_s: float = 0.0
    max_audio_s: float | None = None
    max_clip_s: float | None = None
    max_characters: int | None = None
    max_audio_tokens: int | None = None
    needs_audio: bool = False
    needs_answer: bool = False
    keep: Callable[[Conversation], bool] | None = None

    def __post_init__(self) -> None:
        names = ("min_audio_s", "max_audio_s", "max_clip_s", "max_characters", "max_audio_tokens")
        limits = {name: getattr(self, name) for name in names}
        faults = [f"{n} is {v}, wanted 0 or more" for n, v in limits.items() if v is not None and not v >= 0]
        if self.max_audio_s is not None and self.min_audio_s > self.max_audio_s:
            faults.append(f"min_audio_s is {self.min_audio_s}, more than max_audio_s {self.max_audio_s}")
        if faults:
            raise ConfigError("; ".join(faults) + ".")

    @property
    def by_seconds(self) -> bool:
        """Whether lengths of recordings matter."""
        return self.min_audio_s > 0 or self.max_audio_s is not None or self.max_clip_s is not None

    def against(self, row: Conversation) -> str | None:
        """Why a row is left out, seen from its words; None if it is not."""
        if self.needs_audio and next(row.audio_parts(), None) is None:
            return "no audio"
        if self.needs_answer and not _is_answered(row):
            return "no answer"
        if self.max_characters is not None and sum(len(m.words) for m in row.messages) > self.max_characters:
            return "too many characters"
        if self.max_audio_tokens is not None:
            ids = (part.tokens.get("ids") or () for part in row.audio_parts() if part.tokens)
            if sum(map(len, ids)) > self.max_audio_tokens:
                return "too many audio tokens"
        if self.keep is not None and not self.keep(row):
            return "left out by rule"
        return None

    def against_seconds(self, seconds: Sequence[float]) -> str | None:
        """Why a row is left out, seen from the lengths of its recordings; None if it is not."""
        if self.max_clip_s is not None and any(s > self.max_clip_s for s in seconds):
            return "recording too long"
        if self.max_audio_s is not None and sum(seconds) > self.max_audio_s:
            return "too much audio"
        if seconds and sum(seconds) < self.min_audio_s:
            return "too little audio"
        return None


def _is_answered(row: Conversation) -> bool:
    last = row.messages[-1]
    return last.role == "assistant" and bool(last.audios or last.words.strip())
