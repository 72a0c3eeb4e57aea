"""The distillation loss: its value by hand, its gradient, and batches that add up."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vivavoce.base.errors import ConfigError
from vivavoce.training.distillation import (
    count_predictions,
    distillation_loss,
    distillation_terms,
    last_prediction_mask,
    prediction_mask,
)

VOCABULARY = 11
# learned positions of each row, student and teacher: the same numbers at other places; row 2 learns nothing
LEARNED = [(range(4, 9), range(6, 11)), (range(2, 4), range(1, 3)), ((), ()), ([3, 5, 8], [7, 9, 11])]


def labels_of(positions: list[Any], size: int, seed: int) -> Tensor:
    made = torch.full((len(positions), size), -100)
    words = torch.randint(0, VOCABULARY, made.shape, generator=torch.Generator().manual_seed(seed))
    for row, learned in zip(made, positions, strict=True):
        row[list(learned)] = words[0, list(learned)]
    return made


def batch(seed: int = 0, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return {
        "student_logits": (3 * torch.randn(4, 9, VOCABULARY)).to(dtype).requires_grad_(),
        "teacher_logits": (3 * torch.randn(4, 12, VOCABULARY)).to(dtype).requires_grad_(),
        "labels": labels_of([s for s, _ in LEARNED], 9, 1),
        "teacher_labels": labels_of([t for _, t in LEARNED], 12, 2),
    }


def kl(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    p, q = (torch.softmax(x.double() / temperature, -1) for x in (teacher, student))
    return (p * (p / q).log()).sum()


def by_hand(made: dict[str, Tensor], temperature: float, eot_weight: float) -> float:
    """Position by position, as the formula reads."""
    values, ends = [], []
    for row, (heard, read) in enumerate(LEARNED):
        pairs = list(zip(heard, read, strict=True))
        for at, teacher_at in pairs:
            student, teacher = (
                made["student_logits"][row, at - 1],
                made["teacher_logits"][row, teacher_at - 1],
            )
            values.append(float(kl(teacher.detach(), student.detach(), temperature)))
        ends += values[-1:] if pairs else []
    return sum(values) / len(values) + eot_weight * sum(ends) / len(ends)


@pytest.mark.parametrize(("temperature", "eot_weight"), [(2.0, 1.0), (1.0, 0.0), (0.7, 3.0)])
def test_value_is_the_formula(temperature: float, eot_weight: float) -> None:
    made = batch()
    loss = distillation_loss(**made, temperature=temperature, eot_weight=eot_weight)
    assert float(loss.detach()) == pytest.approx(by_hand(made, temperature, eot_weight), rel=1e-5)
    squared = distillation_loss(**made, temperature=temperature, eot_weight=eot_weight, t_squared=True)
    assert float(squared.detach()) == pytest.approx(float(loss.detach()) * temperature**2, rel=1e-6)


def test_defaults_are_those_of_ultravox() -> None:
    made = batch()
    assert float(distillation_loss(**made).detach()) == pytest.approx(by_hand(made, 2.0, 1.0), rel=1e-5)


def test_masks() -> None:
    labels = torch.tensor([[5, -100, 7, 8, -100, 9], [5, -100, -100, -100, -100, -100]])
    assert prediction_mask(labels).long().tolist() == [[0, 1, 1, 0, 1, 0], [0] * 6]
    assert last_prediction_mask(labels).long().tolist() == [[0, 0, 0, 0, 1, 0], [0] * 6]
    assert count_predictions(labels) == (3, 1)


def test_gradient_by_finite_differences() -> None:
    made = batch(dtype=torch.float64)
    student = made.pop("student_logits")

    def loss(logits: Tensor) -> Tensor:
        return distillation_loss(logits, **made, eot_weight=0.5, ce_weight=0.3, t_squared=True)

    assert torch.autograd.gradcheck(loss, student)


def test_gradient_goes_to_the_student_alone_and_to_picked_positions_alone() -> None:
    made = batch()
    distillation_loss(**made, ce_weight=0.2).backward()
    assert made["teacher_logits"].grad is None
    touched = made["student_logits"].grad.abs().sum(-1) > 0
    assert torch.equal(touched, prediction_mask(made["labels"]))


def test_equal_sides_lose_nothing() -> None:
    made = batch()
    same = {**made, "teacher_logits": made["student_logits"], "teacher_labels": made["labels"]}
    loss = distillation_loss(**same)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    assert float(made["student_logits"].grad.abs().max()) < 1e-6
    mixed = distillation_loss(**same, ce_weight=0.5)
    mask = prediction_mask(made["labels"])
    answer = F.cross_entropy(made["student_logits"][mask], made["labels"][:, 1:][mask[:, :-1]])
    assert float(mixed.detach()) == pytest.approx(0.5 * float(answer.detach()), rel=1e-5)


def test_unlearned_logits_do_not_matter() -> None:
    made = batch()
    wanted = distillation_loss(**made)
    for logits, labels in (("student_logits", "labels"), ("teacher_logits", "teacher_labels")):
        hidden = ~prediction_mask(made[labels])[..., None]
        made[logits] = made[logits].detach().masked_fill(hidden, float("nan"))
    assert torch.equal(distillation_loss(**made, ce_weight=0), wanted)


def test_picked_logits_are_the_same() -> None:
    made = batch()
    wanted = distillation_loss(**made, ce_weight=0.3)
    made["student_logits"] = made["student_logits"][prediction_mask(made["labels"])]
    made["teacher_logits"] = made["teacher_logits"][prediction_mask(made["teacher_labels"])]
    assert torch.equal(distillation_loss(**made, ce_weight=0.3), wanted)


class Sizes(TorchDispatchMode):
    """Remembers the largest tensor that an operation made; views cost nothing."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else [made]:
            if (
                isinstance(one, Tensor)
                and one.untyped_storage().data_ptr() != args[0].untyped_storage().data_ptr()
            ):
                self.largest = max(self.largest, one.untyped_storage().nbytes())
        return made


def test_memory_is_that_of_the_picked_positions() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 100, VOCABULARY, dtype=torch.bfloat16)
    labels = labels_of([range(90, 94), range(50, 53)], 100, 1)
    with Sizes() as sizes:
        distillation_loss(logits, logits, labels, labels, ce_weight=0.5)
    assert 0 < sizes.largest <= max(4 * 7 * VOCABULARY, 8 * labels.numel())


def test_low_precision_is_computed_in_float32() -> None:
    made = batch(dtype=torch.bfloat16)
    loss = distillation_loss(**made)
    assert loss.dtype == torch.float32
    rounded = {k: v.detach().float() if v.is_floating_point() else v for k, v in made.items()}
    assert torch.equal(loss, distillation_loss(**rounded))


@pytest.mark.parametrize("cuts", [[1, 3], [2, 2], [1, 1, 1, 1]])
def test_parts_add_up_to_the_whole(cuts: list[int]) -> None:
    whole, parts = batch(), batch()
    wanted = distillation_loss(**whole, ce_weight=0.3)
    wanted.backward()
    pieces = [
        dict(zip(parts, piece, strict=True))
        for piece in zip(*(v.split(cuts) for v in parts.values()), strict=True)
    ]
    counts = [count_predictions(piece["labels"]) for piece in pieces]
    assert (0, 0) in counts or len(cuts) < 4, "a part that learns nothing is among them"
    totals = {"num_positions": sum(n for n, _ in counts), "num_rows": sum(n for _, n in counts)}
    loss = 0.0
    for piece in pieces:
        part = distillation_loss(**piece, ce_weight=0.3, **totals)
        part.backward()
        loss += float(part.detach())
    assert loss == pytest.approx(float(wanted.detach()), rel=1e-6)
    torch.testing.assert_close(parts["student_logits"].grad, whole["student_logits"].grad, rtol=0, atol=1e-7)


def test_terms_are_the_parts_of_the_loss() -> None:
    made = batch()
    terms = distillation_terms(**made, with_cross_entropy=True)
    loss = distillation_loss(**made, eot_weight=3, ce_weight=0.5)
    assert terms.cross_entropy is not None
    torch.testing.assert_close(terms.divergence + 3 * terms.end_divergence + 0.5 * terms.cross_entropy, loss)
    assert distillation_terms(**made).cross_entropy is None


def test_sides_that_do_not_pair_up_are_refused() -> None:
    made = batch()
    fewer = made["teacher_labels"].clone()
    fewer[3, 7] = -100
    with pytest.raises(ConfigError, match="row 3: the student predicts 3 labels, the teacher 2"):
        distillation_loss(**{**made, "teacher_labels": fewer})
    moved = made["teacher_labels"].clone()  # as many in the batch, yet not in each row
    moved[3, 7], moved[1, 5] = -100, 4
    with pytest.raises(ConfigError, match="row 1: the student predicts 2 labels, the teacher 3"):
        distillation_loss(**{**made, "teacher_labels": moved})
    with pytest.raises(ConfigError, match="4 rows, the teacher 3"):
        distillation_loss(**{**made, "teacher_labels": made["teacher_labels"][:3]})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"num_positions": 0}, "0 prediction positions"),
        ({"teacher_logits": torch.zeros(4, 12, 7)}, "has 11 entries, the teacher's 7"),
        ({"teacher_logits": torch.zeros(4, 11, VOCABULARY)}, "teacher's logits are"),
        ({"student_logits": torch.zeros(9, VOCABULARY)}, r"student's logits are \[9, 11\]"),
        ({"labels": torch.full((4, 9), -100), "teacher_labels": torch.full((4, 12), -100)}, "0 prediction"),
    ],
)
def test_what_cannot_be_computed_is_said(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        distillation_loss(**{**batch(), **change})
