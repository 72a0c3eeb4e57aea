"""Teach a speech LM to answer speech as its own text model answers the transcript.

The text model reads the transcript (the teacher), the speech LM hears the clip (the student), and at every
token of the same answer the student's next-token distribution is pulled towards the teacher's. No label is
needed but the answer that both read; ``distillation_rows`` makes the two rows.

Letters: B rows, L and L' positions of student and teacher, V vocabulary, N prediction positions of the batch.

Source: the loss of Ultravox v0.3 to v0.6 (github.com/fixie-ai/ultravox).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vivavoce.base.errors import ConfigError
from vivavoce.tokens.chat import IGNORED


class DistillationTerms(NamedTuple):
    """The parts of the loss, scalars without their weights.

    Attributes:
        divergence: KL(teacher || student), mean over prediction positions, nats.
        end_divergence: The same, mean over the last prediction position of each row.
        cross_entropy: Of the student on its labels, mean over prediction positions, nats; None if not asked for.
    """

    divergence: Tensor
    end_divergence: Tensor
    cross_entropy: Tensor | None


def prediction_mask(labels: Tensor) -> Tensor:
    """Mark the positions whose logits predict a label.

    Args:
        labels: int64 [B, L], -100 where nothing is learned, not shifted.

    Returns:
        bool [B, L]: True at p if ``labels[:, p + 1]`` is learned; False at the last position.
    """
    mask = torch.zeros_like(labels, dtype=torch.bool)
    mask[:, :-1] = labels[:, 1:] != IGNORED
    return mask


def last_prediction_mask(labels: Tensor) -> Tensor:
    """Mark the last prediction position of each row that has one, bool [B, L].

    It predicts the end of the turn, unless the row was cut before it.
    """
    mask = prediction_mask(labels)
    after = mask.flip(-1).long().cumsum(-1).flip(-1)  # prediction positions from here on
    return mask & (after == 1)


def count_predictions(labels: Tensor) -> tuple[int, int]:
    """Count prediction positions and the rows that have one, to be summed over the batches of one update."""
    mask = prediction_mask(labels)
    return int(mask.sum()), int(mask.any(dim=-1).sum())


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    teacher_labels: Tensor,
    *,
    temperature: float = 2.0,
    eot_weight: float = 1.0,
    ce_weight: float = 0.0,
    t_squared: bool = False,
    num_positions: int | None = None,
    num_rows: int | None = None,
) -> Tensor:
    """Compare student and teacher at every token of the answer, and once more at its end.

    ``mean over positions of KL(teacher || student) + eot_weight * mean over rows of the same at the row's last
    position + ce_weight * cross entropy on the labels``. The last position counts in both means, so that a
    model learns to stop although an answer has only one end.

    Losses of several batches (gradient accumulation, data parallelism) add up to the loss of one big batch if
    each is given the totals of all of them; ``count_predictions`` counts. Where processes average their
    gradients, multiply the loss by their number.

    Args:
        student_logits: float [B, L, V], or [N, V] at the prediction positions, row by row, for a head that ran
            only there. Any float dtype; what is picked is computed in float32.
        teacher_logits: float [B, L', V] or [N, V]; no gradient goes there.
        labels: int64 [B, L] of the student, -100 where nothing is learned, not shifted.
        teacher_labels: int64 [B, L'] of the teacher; each row learns as many positions as the student's.
        temperature: Divides both sides' logits in the divergences, above 0.
        eot_weight: Weight of the last position's term; 0 before Ultravox v0.6.
        ce_weight: Weight of the cross entropy.
        t_squared: Multiply the divergences by ``temperature ** 2``, which keeps the size of their gradients
            when the temperature changes; Ultravox does not.
        num_positions: Prediction positions to divide by; the batch's own by default.
        num_rows: Rows to divide by; the batch's own by default.

    Returns:
        Scalar, float32.

    Raises:
        ConfigError: student and teacher do not fit together, nothing is learned, or a setting is out of range.

    Source: Ultravox v0.6; its defaults are temperature 2 and eot_weight 1.
    """
    terms = distillation_terms(
        student_logits,
        teacher_logits,
        labels,
        teacher_labels,
        temperature=temperature,
        with_cross_entropy=ce_weight != 0,
        num_positions=num_positions,
        num_rows=num_rows,
    )
    loss = terms.divergence + eot_weight * terms.end_divergence
    if t_squared:
        loss = loss * temperature**2
    return loss if terms.cross_entropy is None else loss + ce_weight * terms.cross_entropy


def distillation_terms(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    teacher_labels: Tensor,
    *,
    temperature: float = 2.0,
    with_cross_entropy: bool = False,
    num_positions: int | None = None,
    num_rows: int | None = None,
) -> DistillationTerms:
    """Compute the parts of ``distillation_loss`` apart, for logs; arguments and errors as there."""
    if temperature <= 0:
        raise ConfigError(f"temperature is {temperature}, wanted above 0; Ultravox takes 2.")
    device = student_logits.device  # parts of a large model, and the labels, may be elsewhere
    labels, teacher_labels = labels.to(device), teacher_labels.to(device)
    mask, teacher_mask = prediction_mask(labels), prediction_mask(teacher_labels)
    _check_pairs(mask, teacher_mask)
    rows = mask.any(dim=-1)
    positions = int(mask.sum()) if num_positions is None else num_positions
    sequences = int(rows.sum()) if num_rows is None else num_rows
    if positions < 1 or sequences < 1:
        raise ConfigError(
            f"{positions} prediction positions in {sequences} rows; wanted at least one. Leave rows without an "
            "answer out, or give the totals of all batches as num_positions and num_rows."
        )
    student = _pick(student_logits, mask, "student")
    teacher = _pick(teacher_logits.detach(), teacher_mask, "teacher").to(device)
    if student.shape != teacher.shape:
        raise ConfigError(
            f"the student's vocabulary has {student.shape[-1]} entries, the teacher's {teacher.shape[-1]}; wanted "
            "the same text model on both sides."
        )
    divergence = divergences(student, teacher, temperature)
    ends = last_prediction_mask(labels)[mask]
    cross_entropy = None
    if with_cross_entropy:
        targets = labels[:, 1:][mask[:, :-1]]
        cross_entropy = F.cross_entropy(student, targets, reduction="sum") / positions
    return DistillationTerms(divergence.sum() / positions, divergence[ends].sum() / sequences, cross_entropy)


def divergences(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 2.0) -> Tensor:
    """KL(teacher || student) at each position, nats, [N]; logits float [N, V], divided by ``temperature``."""
    return F.kl_div(
        F.log_softmax(student_logits / temperature, dim=-1),
        F.log_softmax(teacher_logits / temperature, dim=-1),
        reduction="none",
        log_target=True,
    ).sum(dim=-1)


def _check_pairs(mask: Tensor, teacher_mask: Tensor) -> None:
    """Raise ConfigError unless both sides have as many prediction positions in every row."""
    counts, teacher_counts = mask.sum(dim=-1), teacher_mask.sum(dim=-1)
    if counts.shape != teacher_counts.shape:
        raise ConfigError(
            f"the student has {len(counts)} rows, the teacher {len(teacher_counts)}; wanted the same conversations."
        )
    wrong = (counts != teacher_counts).nonzero().flatten().tolist()
    if wrong:
        row = wrong[0]
        raise ConfigError(
            f"row {row}: the student predicts {int(counts[row])} labels, the teacher {int(teacher_counts[row])}; "
            "wanted as many, one pair for each token of the answer. Make both rows with "
            "distillation_rows.distillation_row, and learn the last answer only where a chat has several clips."
        )


def _pick(logits: Tensor, mask: Tensor, side: str) -> Tensor:
    """The logits at the prediction positions, row by row, [N, V] in float32 (float64 stays)."""
    picked = int(mask.sum())
    if logits.dim() == 3 and logits.shape[:2] == mask.shape:
        logits = logits[mask.to(logits.device)]
    elif logits.dim() != 2 or logits.shape[0] != picked:
        raise ConfigError(
            f"the {side}'s logits are {list(logits.shape)}; wanted {[*mask.shape, 'V']} like its labels, or "
            f"{[picked, 'V']} picked at the prediction positions."
        )
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
