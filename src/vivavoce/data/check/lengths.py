"""How many tokens a row has for a text model, without the model: text by its tokenizer, sound by arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from vivavoce.base.errors import VocabularyError
from vivavoce.data.check.findings import Finding, short
from vivavoce.data.conversation import Conversation

if TYPE_CHECKING:
    from vivavoce.tokens.record import AudioVocabulary


class Lengths:
    """Counts the tokens of rows.

    Args:
        tokenizer: Hugging Face tokenizer; its chat template is used if it has one. Its sound tokens, if any, tell
            how many tokens a second of audio has.
        most: Tokens of a row at most.
    """

    def __init__(self, tokenizer: Any, most: int | None) -> None:
        from vivavoce.tokens.vocabulary import detect_vocabulary

        self.tokenizer, self.most = tokenizer, most
        self.vocabulary: AudioVocabulary | None
        try:
            self.vocabulary = detect_vocabulary(tokenizer)
        except VocabularyError:
            self.vocabulary = None

    def check(self, conversation: Conversation, seconds: Sequence[float | None]) -> Iterator[Finding]:
        """Check that the template takes the row, and that it is short enough.

        Args:
            conversation: The row.
            seconds: Length of each audio part; None if it is not known.
        """
        try:
            text = self._text(conversation)
        except Exception as error:  # noqa: BLE001  (templates raise what they like)
            yield Finding("cannot_render", short(str(error), 120), "turns that the chat template takes")
            return
        if self.most is None:
            return
        sounds = [self._sounds(p.tokens, s) for p, s in zip(conversation.audio_parts(), seconds, strict=True)]
        total = text + sum(n or 0 for n in sounds)
        if total > self.most:
            without = f", {sounds.count(None)} clips not counted" if None in sounds else ""
            seen = f"{total} tokens, {text} of them text{without}"
            yield Finding("too_long", seen, f"at most {self.most}")

    def _text(self, conversation: Conversation) -> int:
        messages = [{**m.more, "role": m.role, "content": m.text} for m in conversation.messages]
        if not getattr(self.tokenizer, "chat_template", None):
            return sum(len(self._ids(m["content"])) for m in messages)
        rendered = self.tokenizer.apply_chat_template(
            messages, tools=conversation.tools or None, tokenize=False, add_generation_prompt=False
        )
        return len(self._ids(str(rendered)))

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _sounds(self, tokens: Any, seconds: float | None) -> int | None:
        """Sound tokens of a clip, start and end included; None if they cannot be told."""
        if tokens and isinstance(tokens.get("ids"), list):
            return len(tokens["ids"]) + 2
        if self.vocabulary is None or seconds is None:
            return None
        samples = seconds * self.vocabulary.sample_rate
        frames = -(-round(samples) // self.vocabulary.frame_samples)
        return frames * self.vocabulary.flattening.period + 2
