"""Put audio embeddings where the placeholder tokens stand, and keep batches equal to single runs.

Letters: B batch, L positions, N audio clips, F embeddings per clip (padded), D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vivavoce.base.errors import ModelError


def merge_audio(
    input_ids: Tensor,
    token_embeddings: Tensor,
    audio_embeddings: Tensor,
    counts: Tensor,
    audio_token_id: int,
    audio_batch_index: Tensor | None = None,
) -> Tensor:
    """Replace the embeddings of placeholder tokens by those of the audio, in reading order.

    Works for any padding side and any number of clips per row.

    Args:
        input_ids: int64 [B, L].
        token_embeddings: float [B, L, D] of ``input_ids``.
        audio_embeddings: float [N, F, D]; clips in the order in which they are read, row by row.
        counts: int64 [N], true embeddings of each clip, 0 to F.
        audio_token_id: The placeholder.
        audio_batch_index: int64 [N], the row of each clip, not falling. With it every row is checked on its
            own.

    Returns:
        float [B, L, D], a new tensor.

    Raises:
        ModelError: Placeholders and embeddings differ in number; the message has both.
    """
    places = input_ids == audio_token_id
    if audio_batch_index is None:
        wanted, given = int(places.sum()), int(counts.sum())
        if wanted != given:
            raise ModelError(_mismatch("the batch", wanted, given, counts))
    else:
        index = audio_batch_index.to(counts.device)
        if index.shape != counts.shape:
            raise ModelError(
                f"audio_batch_index names rows for {index.numel()} clips, there are {counts.numel()}; give "
                "one row each."
            )
        if index.numel() and (bool((index[1:] < index[:-1]).any()) or not 0 <= int(index[-1]) < len(places)):
            raise ModelError(
                f"audio_batch_index is {index.tolist()}, wanted rows in [0, {len(places)}) in rising order."
            )
        per_row = torch.zeros(len(places), dtype=counts.dtype, device=counts.device).index_add(
            0, index, counts
        )
        placeholders = places.sum(dim=1).to(per_row.device)
        wrong = (per_row != placeholders).nonzero().flatten().tolist()
        if wrong:
            row = wrong[0]
            raise ModelError(
                _mismatch(f"row {row}", int(placeholders[row]), int(per_row[row]), counts[index == row])
            )
    valid = torch.arange(audio_embeddings.shape[1], device=counts.device) < counts[:, None]
    flat = audio_embeddings[valid.to(audio_embeddings.device)].to(token_embeddings)
    return token_embeddings.masked_scatter(places[..., None].to(token_embeddings.device), flat)


def _mismatch(what: str, wanted: int, given: int, counts: Tensor) -> str:
    return (
        f"{what} has {wanted} audio placeholders but its audio gives {given} embeddings "
        f"({counts.numel()} clips: {counts.tolist()}); make the inputs with the model's own processor."
    )


def positions_from_mask(attention_mask: Tensor, length: int) -> Tensor | None:
    """Position ids that do not count padding on the left; None when the plain 0, 1, 2, ... are right.

    Args:
        attention_mask: int or bool [B, L_past + length]; 0 marks padding.
        length: Positions of the current call.

    Returns:
        int64 [B, length]; 1 on padding, as transformers' own ``generate`` has it.
    """
    if attention_mask.dim() != 2 or bool((attention_mask[:, 0] != 0).all()):
        return None
    positions = attention_mask.long().cumsum(-1) - 1
    return positions.masked_fill(attention_mask == 0, 1)[:, -length:]


def expand_clips(audio_batch_index: Tensor, batch_size: int, expand_size: int) -> tuple[Tensor, Tensor]:
    """Which clips the rows need when every row is repeated ``expand_size`` times in a row (beams, several
    answers).

    Returns:
        ``(order, index)``: clip numbers int64 [N * expand_size] and the new row of each.
    """
    order, rows = [], []
    for row in range(batch_size):
        clips = (audio_batch_index == row).nonzero().flatten().tolist()
        for copy in range(expand_size):
            order += clips
            rows += [row * expand_size + copy] * len(clips)
    device = audio_batch_index.device
    return torch.tensor(order, device=device, dtype=torch.long), torch.tensor(
        rows, device=device, dtype=torch.long
    )
