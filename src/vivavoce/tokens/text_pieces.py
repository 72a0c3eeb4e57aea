"""Text of a rendered conversation: tokenized between the audio, weighed by the characters tokens cover."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from vivavoce.base.errors import ModelError, VocabularyError
from vivavoce.tokens.record import AudioVocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Sink(Protocol):
    """What pieces are appended to."""

    input_ids: list[int]
    loss_weights: list[float]


def turn_ends(
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    contents: Sequence[tuple[int, int]],
    weights: list[tuple[float, float]],
    end_of_turn: str | None,
    must_end: bool,
) -> list[tuple[int, int, float]]:
    """(begin, end, weight) from the end of each learned message to the end of the token that ends its turn.

    That token is ``end_of_turn``, or the first special token after the message.

    Raises:
        ModelError: ``must_end``, and a learned message has no such token after it.
    """
    found = []
    for i, ((_, begin), weight) in enumerate(zip(contents, weights, strict=True)):
        if max(weight) == 0:
            continue
        after = text[begin : contents[i + 1][0] if i + 1 < len(contents) else len(text)]
        if end_of_turn is None:
            length = _first_special(tokenizer, after)
        else:
            length = after.find(end_of_turn) + len(end_of_turn) if end_of_turn in after else 0
        if length:
            found.append((begin, begin + length, max(weight)))
        elif must_end:
            raise ModelError(
                f"after message {i} the chat template has no special token that ends the turn, so a model "
                f"would never learn to stop; say end_of_turn=..., or loss_on='nothing'."
            )
    return found


def _first_special(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    """Characters up to the end of the first special token in ``text``; 0 if there is none."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    for token, (begin, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
        if (
            end > begin
            and not tokenizer.decode([token], skip_special_tokens=True)
            and tokenizer.decode([token])
        ):
            return int(end)
    return 0


class Pieces:
    """Tokenizes pieces of one text and weighs their tokens by character ranges.

    Args:
        tokenizer: A fast one.
        text: The rendered conversation.
        contents: Characters [begin, end) that messages said; only there are tokens refused.
        learned: (begin, end, weight) of characters.
        base: Weight of all other characters.
        refused: Ids that text must not become, in sets.
        vocabulary: Whose end of audio stands before text that follows audio.
        apart: Tokenize each piece as if it were a whole text.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        text: str,
        *,
        contents: Sequence[tuple[int, int]],
        learned: Sequence[tuple[int, int, float]],
        base: float,
        refused: Sequence[frozenset[int]],
        vocabulary: AudioVocabulary | None,
        apart: bool = False,
    ) -> None:
        self.tokenizer, self.text, self.contents, self.learned = tokenizer, text, contents, learned
        self.base, self.refused = base, refused
        first = [vocabulary.end_token] if vocabulary else []
        anchors = () if apart else (*first, *tokenizer.all_special_tokens)
        self.anchor = next((t for t in anchors if self._holds(t)), "")

    def _holds(self, token: str) -> bool:
        """Whether ``token`` stays one token before text, and takes no spaces of that text with it."""
        ids = self.tokenizer(f"{token} a", add_special_tokens=False)["input_ids"]
        alone = self.tokenizer(token, add_special_tokens=False)["input_ids"]
        return len(alone) == 1 and ids[:1] == alone and str(self.tokenizer.decode(ids)).endswith(" a")

    def append_to(self, rendered: Sink, begin: int, end: int) -> None:
        """Tokenize the characters [begin, end) and append ids and weights.

        After audio, a special token goes in front and is taken away again, so that tokenizers which treat the
        first word of a text in their own way see that this is not the first.
        """
        if begin == end:
            return
        anchor = self.anchor if begin else ""
        encoded = self.tokenizer(
            anchor + self.text[begin:end],
            add_special_tokens=False,
            return_offsets_mapping=True,
            verbose=False,
        )
        ids, offsets = list(encoded["input_ids"]), list(encoded["offset_mapping"])
        if anchor:
            ids, offsets = ids[1:], offsets[1:]
        shift = begin - len(anchor)
        places = [(a + shift, b + shift) for a, b in offsets]
        said = [
            token
            for token, (a, b) in zip(ids, places, strict=True)
            if any(a < e and b > s for s, e in self.contents)
        ]
        refuse_audio(self.tokenizer, said, *self.refused)
        rendered.input_ids += ids
        rendered.loss_weights += [self._weight(a, b) for a, b in places]

    def _weight(self, begin: int, end: int) -> float:
        """The largest weight of the ranges that the characters [begin, end) touch."""
        return max((w for b, e, w in self.learned if begin < e and end > b), default=self.base)


def refuse_audio(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], *refused: frozenset[int]) -> None:
    """Raise VocabularyError if text became one of the ids in ``refused``."""
    bad = next((token for token in ids if any(token in some for some in refused)), None)
    if bad is not None:
        raise VocabularyError(
            f"text holds the audio token {tokenizer.convert_ids_to_tokens(bad)!r}; pass audio as a part of "
            f"type 'audio', or take the token out of the text."
        )
