"""What the logits processors of transformers see of a prompt: its words, but no placeholders and no padding.

Letters: B rows, L positions, V vocabulary.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from transformers import (
    EncoderNoRepeatNGramLogitsProcessor,
    EncoderRepetitionPenaltyLogitsProcessor,
    LogitsProcessor,
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensLogitsProcessor,
)

# they change the scores of the ids that they see
_LOOK_UP_IDS = (
    RepetitionPenaltyLogitsProcessor,
    EncoderRepetitionPenaltyLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    EncoderNoRepeatNGramLogitsProcessor,
)


def hide(ids: Tensor, placeholder: int, vocabulary: int, mask: Tensor | None = None) -> Tensor:
    """Put the first id that is none, ``vocabulary``, for placeholders and left padding.

    Args:
        ids: int64 [B, L].
        placeholder: Id of the placeholder.
        vocabulary: Ids that there are.
        mask: int [B', L'], 0 on padding of the first L' positions; None without padding. B' may be B divided by
            the number of beams, or the other way round.
    """
    hidden = ids == placeholder
    if mask is not None:
        padding = (mask == 0).to(ids.device)
        if len(padding) > len(ids):
            padding = padding[:: len(padding) // max(len(ids), 1)]
        elif len(padding) < len(ids):
            padding = padding.repeat_interleave(len(ids) // len(padding), dim=0)
        length = min(padding.shape[1], ids.shape[1])
        hidden[:, :length] |= padding[:, :length]
    return ids.masked_fill(hidden, vocabulary)


class WordsOnly(LogitsProcessor):
    """Run a processor that looks up ids as if placeholders and left padding were a token past the vocabulary.

    A placeholder may be an id that the logits do not have, which such processors cannot index; and a penalty on
    placeholders or padding would make an answer depend on how its prompt was padded.

    Args:
        processor: The one to run.
        placeholder: Id of the placeholder.
        mask: Of the prompt, as in ``hide``.
    """

    def __init__(self, processor: LogitsProcessor, placeholder: int, mask: Tensor | None = None) -> None:
        self.processor, self.placeholder, self.mask = processor, placeholder, mask

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """ids int64 [B, L], scores float [B, V] -> float [B, V]."""
        vocabulary = scores.shape[-1]
        ids = hide(input_ids, self.placeholder, vocabulary, self.mask)
        processed: Tensor = self.processor(ids, F.pad(scores, (0, 1)))
        return processed[:, :vocabulary]


def without_placeholders(
    processors: LogitsProcessorList, placeholder: int, vocabulary: int, mask: Tensor | None
) -> LogitsProcessorList:
    """Wrap the processors that look up ids, and keep the placeholder itself from being drawn.

    Args:
        processors: As transformers made them.
        placeholder: Id of the placeholder.
        vocabulary: Width of the logits.
        mask: Of the prompt, as in ``hide``.
    """
    own = [SuppressTokensLogitsProcessor([placeholder])] if placeholder < vocabulary else []
    return LogitsProcessorList(
        [*own, *(WordsOnly(p, placeholder, mask) if isinstance(p, _LOOK_UP_IDS) else p for p in processors)]
    )
