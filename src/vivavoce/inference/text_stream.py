"""Token ids in, text deltas out: no half characters, no stop strings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class TextStream:
    """Decodes a growing answer piece by piece.

    The deltas joined equal the decoded whole (up to a stop string). Bytes of an unfinished character are held
    back, and so is text that may turn out to be the beginning of a stop string.

    Args:
        tokenizer: Any Hugging Face tokenizer.
        stop: Strings that end the text; they are left out.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str] = ()) -> None:
        self._tokenizer, self._stop = tokenizer, tuple(stop)
        self._ids: list[int] = []
        self._start = 0  # ids before this are decoded for good
        self._known = 0  # ids[start:known] give _shown characters of context
        self._held = ""
        self.stopped = False

    def _decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def push(self, token_id: int) -> str:
        """Take one id and return the text that is now final, maybe ""; always "" after a stop string."""
        if self.stopped:
            return ""
        self._ids.append(token_id)
        context = self._decode(self._ids[self._start : self._known])
        whole = self._decode(self._ids[self._start :])
        if len(whole) <= len(context) or whole.endswith("\ufffd"):
            return ""
        delta = whole[len(context) :]
        self._start, self._known = self._known, len(self._ids)
        return self._release(delta)

    def flush(self) -> str:
        """End of the answer: return what was held back."""
        if self.stopped:
            return ""
        context = self._decode(self._ids[self._start : self._known])
        delta = self._decode(self._ids[self._start :])[len(context) :]
        self._start = self._known = len(self._ids)
        text = self._release(delta)
        if not self.stopped:
            text, self._held = text + self._held, ""
        return text

    def _release(self, delta: str) -> str:
        text = self._held + delta
        found = [(text.find(s) + len(s), text.find(s)) for s in self._stop if s in text]
        if found:  # the stop string that is complete first ends the text
            self.stopped, self._held = True, ""
            return text[: min(found)[1]]
        keep = 0
        for stop in self._stop:
            for size in range(min(len(stop) - 1, len(text)), keep, -1):
                if text.endswith(stop[:size]):
                    keep = size
                    break
        cut = len(text) - keep
        text, self._held = text[:cut], text[cut:]
        return text
