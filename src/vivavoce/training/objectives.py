"""What is learned: the next token with weights, or what the model's own text model says to the transcript.

A loss is a sum over the positions of one batch, divided by totals of all batches of an update on all processes, so that
losses and gradients add up to those of one big batch, however it is cut. Letters: L positions, n learned positions,
V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from vivavoce.base.errors import ConfigError
from vivavoce.base.registry import Registry
from vivavoce.models.lora import adapters_off
from vivavoce.training.cross_entropy import (
    CHUNK,
    Head,
    by_chunks,
    ends_in_head,
    language_model_of,
    run_at,
    token_losses,
)
from vivavoce.training.distillation import divergences
from vivavoce.training.documents import FIRST_SLOT
from vivavoce.training.packing import PackedBatch

OBJECTIVES = Registry(
    "objective",
    {
        "next_token": "vivavoce.training.objectives:NextToken",
        "sft": "vivavoce.training.objectives:Sft",
        "distill": "vivavoce.training.objectives:Distill",
    },
    "vivavoce.objectives",
)

Metrics = dict[str, tuple[Tensor, Tensor]]
"""Sums and counts by name, scalars: both add up over batches and processes, and one by the other is the mean."""


@dataclass(frozen=True)
class Totals:
    """What losses are divided by; they add up over batches and processes.

    Attributes:
        weight: Sum of the weights of learned positions.
        positions: Learned positions.
        rows: Documents that learn something.
    """

    weight: float = 0.0
    positions: int = 0
    rows: int = 0

    def __add__(self, other: Totals) -> Totals:
        return Totals(self.weight + other.weight, self.positions + other.positions, self.rows + other.rows)


@dataclass(frozen=True)
class CrossEntropyConfig:
    """How much tokens count, and how the loss is computed.

    Attributes:
        text_weight: Of text.
        audio_weight: Of all audio tokens, markers too.
        slot_weights: Of the codes of each slot of a frame, besides ``audio_weight``; empty for 1 everywhere.
        z_loss: Weight of the squared logarithm of the sum of all exponentials, which keeps logits small; 0 for none.
        chunk: Positions whose logits exist at once.
    """

    text_weight: float = 1.0
    audio_weight: float = 1.0
    slot_weights: tuple[float, ...] = ()
    z_loss: float = 0.0
    chunk: int = CHUNK

    def __post_init__(self) -> None:
        numbers = (self.text_weight, self.audio_weight, *self.slot_weights, self.z_loss)
        if min(numbers) < 0 or self.chunk < 1:
            raise ConfigError(
                f"text_weight is {self.text_weight}, audio_weight {self.audio_weight}, slot_weights "
                f"{list(self.slot_weights)}, z_loss {self.z_loss}, chunk {self.chunk}; wanted weights of 0 or more "
                "and a chunk of 1 or more."
            )


class Sft:
    """Cross entropy where documents have weights.

    Args:
        config: Settings.
        num_slots: Codes in a frame of the model's audio tokens, 0 without; every batch gives metrics of all slots.

    Raises:
        ConfigError: Other than ``num_slots`` slot weights.
    """

    rendering: ClassVar[str] = "sft"
    config_class: ClassVar[type[CrossEntropyConfig]] = CrossEntropyConfig

    def __init__(self, config: CrossEntropyConfig | None = None, num_slots: int = 0) -> None:
        self.config, self.num_slots = config or self.config_class(), num_slots
        slots = self.config.slot_weights or (1.0,) * num_slots
        if len(slots) != num_slots:
            raise ConfigError(
                f"{len(slots)} slot_weights for audio of {num_slots} codes in a frame; wanted as many, or none."
            )
        audio = self.config.audio_weight
        # by kind + 1: embeddings, text, markers, slots
        self._factors = torch.tensor([0.0, self.config.text_weight, audio, *(audio * s for s in slots)])

    def totals(self, batches: Iterable[PackedBatch]) -> Totals:
        """Count what batches learn; best before they go to a GPU, which would have to be waited for.

        Raises:
            ConfigError: A batch has codes of more slots than ``num_slots``.
        """
        total = Totals()
        for batch in batches:
            kinds = batch.kinds[0, batch.learned]
            if kinds.numel() and int(kinds.max()) >= FIRST_SLOT + self.num_slots:
                raise ConfigError(
                    f"a batch has codes of slot {int(kinds.max()) - FIRST_SLOT}, the objective was made for "
                    f"{self.num_slots} slots; give the number of codes in a frame as num_slots."
                )
            weight = float(self._weights(batch).double().sum())
            total += Totals(weight, batch.num_learned, len(batch.ends))
        return total

    def __call__(self, model: Any, batch: PackedBatch, totals: Totals) -> tuple[Tensor, Metrics]:
        """The batch's part of the loss, a float32 scalar, and its metrics.

        Raises:
            ConfigError: The totals say that nothing is learned.
            ModelError: Why the model cannot read the batch.
        """
        if not totals.weight > 0:
            raise ConfigError(
                "nothing is learned: all weights are 0. Leave such batches out, or raise weights."
            )
        found = token_losses(model, batch.inputs(), batch.learned, batch.targets(), self.config.chunk)
        weights = self._weights(batch)
        value = found.nll
        if self.config.z_loss:
            value = value + self.config.z_loss * found.normaliser.square()
        loss = (weights * value).sum() / totals.weight
        return loss, self._metrics(batch, weights, found.nll.detach(), found.right)

    def _weights(self, batch: PackedBatch) -> Tensor:
        """Weights of learned positions, float32 [n]."""
        factors = self._factors.to(batch.kinds.device, non_blocking=True)
        return batch.weights[0, batch.learned] * factors[batch.kinds[0, batch.learned].long() + 1]

    def _metrics(self, batch: PackedBatch, weights: Tensor, nll: Tensor, right: Tensor) -> Metrics:
        kinds = batch.kinds[0, batch.learned].long() + 1
        empty = nll.new_zeros(len(self._factors))
        sums = {
            name: empty.index_add(0, kinds, values)
            for name, values in (("loss", nll), ("accuracy", right), ("count", torch.ones_like(nll)))
        }
        parts = {"text": slice(1, 2), "audio": slice(2, None)} if self.num_slots else {"text": slice(1, 2)}
        parts |= {f"slot_{s}": slice(3 + s, 4 + s) for s in range(self.num_slots)}
        metrics: Metrics = {"loss": ((weights * nll).sum(), weights.sum())}
        for part, at in parts.items():
            for name in ("loss", "accuracy"):
                metrics[f"{name}/{part}"] = (sums[name][at].sum(), sums["count"][at].sum())
        return metrics


class NextToken(Sft):
    """Cross entropy of every token but embeddings, as in pretraining."""

    rendering: ClassVar[str] = "next_token"


@dataclass(frozen=True)
class DistillConfig:
    """Settings of the distillation loss; its defaults are Ultravox's.

    Attributes:
        temperature: Divides logits in divergences, above 0.
        eot_weight: Weight of the last learned position of each document, besides its part in the mean.
        ce_weight: Weight of the cross entropy.
        t_squared: Multiply divergences by ``temperature ** 2``.
        chunk: Positions whose logits exist at once.
    """

    temperature: float = 2.0
    eot_weight: float = 1.0
    ce_weight: float = 0.0
    t_squared: bool = False
    chunk: int = CHUNK

    def __post_init__(self) -> None:
        if not self.temperature > 0 or self.eot_weight < 0 or self.ce_weight < 0 or self.chunk < 1:
            raise ConfigError(
                f"temperature is {self.temperature}, eot_weight {self.eot_weight}, ce_weight {self.ce_weight}, chunk "
                f"{self.chunk}; wanted a temperature above 0, weights of 0 or more and a chunk of 1 or more."
            )


class Distill:
    """Answer speech as the text model answers the transcript; see ``distillation.distillation_loss``.

    The teacher is the speech LM's language model without its adapters. Where its own weights are trained, it moves too.
    Every learned position counts 1, whatever its weight.

    Args:
        config: Settings.
        num_slots: Not used; objectives are made alike.
    """

    rendering: ClassVar[str] = "distill"
    config_class: ClassVar[type[DistillConfig]] = DistillConfig

    def __init__(self, config: DistillConfig | None = None, num_slots: int = 0) -> None:
        self.config = config or DistillConfig()

    def totals(self, batches: Iterable[PackedBatch]) -> Totals:
        """Count what batches learn."""
        total = Totals()
        for batch in batches:
            total += Totals(float(batch.num_learned), batch.num_learned, len(batch.ends))
        return total

    def __call__(self, model: Any, batch: PackedBatch, totals: Totals) -> tuple[Tensor, Metrics]:
        """The batch's part of the loss, a float32 scalar, and its metrics.

        Raises:
            ConfigError: The batch has no teacher, or the totals say that nothing is learned.
            ModelError: Why the model cannot read the batch.
        """
        if batch.teacher is None or totals.positions < 1 or totals.rows < 1:
            raise ConfigError(
                f"distillation of {totals.positions} positions in {totals.rows} documents, teacher "
                f"{'given' if batch.teacher else 'missing'}; wanted documents made by make_document(..., 'distill')."
            )
        config, language_model = self.config, language_model_of(model)
        layer, apart = language_model.get_output_embeddings(), ends_in_head(language_model)
        with torch.no_grad(), adapters_off(language_model):
            teacher = run_at(
                model,  # not its language model: by FSDP2 the whole gathers the tables
                batch.teacher.inputs(),
                batch.teacher.learned - 1,
                lambda hidden, head: hidden if apart else head(hidden),
            )
        targets = batch.targets()

        def compare(student: Tensor, teacher: Tensor, targets: Tensor) -> Tensor:
            """Divergence, cross entropy, whether the likeliest token is right and the teacher's, float32 [rows, 4]."""
            student, teacher = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (student, teacher))
            kl = divergences(student, teacher, config.temperature)
            nll = torch.nn.functional.cross_entropy(student, targets, reduction="none")
            likeliest = student.detach().argmax(dim=-1)
            right, agreed = likeliest == targets, likeliest == teacher.argmax(dim=-1)
            return torch.stack((kl, nll, right.to(nll.dtype), agreed.to(nll.dtype)), dim=-1)

        def in_place_of_head(hidden: Tensor, head: Head) -> Tensor:
            def chunk(student: Tensor, teacher: Tensor, targets: Tensor) -> Tensor:
                with torch.no_grad(), adapters_off(layer):
                    wanted = head(teacher)
                return compare(head(student), wanted, targets)

            return by_chunks(chunk, config.chunk, hidden, teacher, targets)

        inputs, at = batch.inputs(), batch.learned - 1
        if apart:
            found = run_at(model, inputs, at, in_place_of_head)
        else:
            found = compare(run_at(model, inputs, at, lambda hidden, head: head(hidden)), teacher, targets)
        kl, nll, right, agreed = found.unbind(-1)
        ends = kl[batch.ends]
        loss = kl.sum() / totals.positions + config.eot_weight * ends.sum() / totals.rows
        if config.t_squared:
            loss = loss * config.temperature**2
        if config.ce_weight:
            loss = loss + config.ce_weight * nll.sum() / totals.positions
        positions, rows = (kl.new_tensor(float(len(x))) for x in (kl, ends))
        sums = {
            "kl": (kl, positions),
            "eot": (ends, rows),
            "ce": (nll, positions),
            "accuracy": (right, positions),
            "agreement": (agreed, positions),
        }
        return loss, {name: (values.detach().sum(), count) for name, (values, count) in sums.items()}
