"""What a run would do, found out without training: memory, rows, tokens, time, and what is wrong with its rows."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vivavoce.base.errors import DataError, VivavoceError
from vivavoce.data.check.findings import Finding
from vivavoce.data.conversation import Conversation
from vivavoce.data.reader import DataSource
from vivavoce.tokens.chat import IGNORED
from vivavoce.training.config import TrainConfig
from vivavoce.training.doctor import Doctor, compare_labels
from vivavoce.training.documents import Document, make_document
from vivavoce.training.loop import build_objective
from vivavoce.training.memory import Memory, check_memory
from vivavoce.training.packing import PackedBatch, make_batch, pack
from vivavoce.training.preview import Preview, preview_row
from vivavoce.training.rendering import render_row
from vivavoce.training.run import Run, prepare
from vivavoce.training.schedules import build_schedule
from vivavoce.training.trainable import train_mode, without_gradient
from vivavoce.training.world import World

LOOKED_AT, SHOWN = 16, 2  # rows of each set that the doctor sees, rows that people see
MEASURED_ROWS, MOST_UPDATES = 64, 16  # that sizes are measured on


@dataclass
class Sizes:
    """An update as the first rows give it, on this process.

    Attributes:
        updates, documents: That were measured.
        micro_batches: Of an update.
        tokens, learned: Positions of an update, and those that are learned.
        audio_s: Seconds of audio of an update.
        documents_per_micro_batch: Mean.
        filled: Share of ``batch.max_tokens`` that micro-batches use.
        padding: Share of positions that fill up.
    """

    updates: int
    documents: int
    micro_batches: float
    tokens: float
    learned: float
    audio_s: float
    documents_per_micro_batch: float
    filled: float
    padding: float


@dataclass
class Plan:
    """What a run would do.

    Attributes:
        name: Of the run.
        steps: Updates.
        passes: Over the rows.
        rows: Set -> rows; held-out sets are marked.
        parts: Part -> (values trained, values frozen).
        memory: The estimate; None where only loading tells.
        peak: Bytes that the device had in use after one pass; None on a CPU.
        sizes: Of updates.
        pass_s: One micro-batch forwards and backwards, seconds.
        seconds: The whole run, without checkpoints and held-out rows.
        loss: Of the first micro-batch.
        previews: The first rows.
        findings: What is wrong with rows.
        errors, warnings: What is wrong with the run, sentences.
        device: Where it was tried.
        processes: How many there are.
    """

    name: str
    steps: int
    passes: float
    rows: dict[str, int]
    parts: dict[str, tuple[int, int]]
    memory: Memory | None
    sizes: Sizes
    pass_s: float = math.nan
    seconds: float = math.nan
    loss: float = math.nan
    peak: int | None = None
    previews: list[Preview] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    device: str = "cpu"
    processes: int = 1

    @property
    def ok(self) -> bool:
        """Whether nothing speaks against the run."""
        return not self.errors and not any(f.severity == "error" for f in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name, "ok": self.ok, "device": self.device, "processes": self.processes,
            "steps": self.steps, "passes": self.passes, "rows": self.rows,
            "parts": {k: {"trained": a, "frozen": b} for k, (a, b) in self.parts.items()},
            "memory": None if self.memory is None else self.memory.as_dict(), "peak_bytes": self.peak,
            "update": asdict(self.sizes), "pass_s": self.pass_s, "seconds": self.seconds, "loss": self.loss,
            "errors": self.errors, "warnings": self.warnings,
            "findings": [asdict(f) | {"severity": f.severity} for f in self.findings],
            "preview": [preview.as_dict() for preview in self.previews],
        }  # fmt: skip


def make_plan(config: TrainConfig, folder: Path, world: World, echo: Any = lambda line: None) -> Plan:
    """Find out what a run would do; rows are made and the model is loaded as for the run itself.

    Args:
        config: Of the run.
        folder: Where the run would go; only its rows are left there.
        world: Of processes; all call this together.
        echo: Told what is done.

    Raises:
        ConfigError: Too little memory, before anything is loaded; settings or parts that do not fit; nothing to train.
        VivavoceError: Rows or model that cannot be read.
    """
    memory = check_memory(config, world)
    run = prepare(config, folder, world, echo)
    echo("the first rows")
    updates = list(_updates(run))
    documents = updates[0]
    batches = [batch for update in updates for batch in _batches(run, update)]
    plan = Plan(
        config.name,
        run.steps,
        run.steps * config.batch.rows / max(1, run.loader.rows_a_pass),
        {str(one.name): len(DataSource(str(one.path), one.name)) for one in run.sets}
        | {f"{one.name} (held out)": len(DataSource(str(one.path), one.name)) for one in run.held_out},
        run.trained.parts,
        memory,
        _sizes(run, updates, batches),
        device=str(world.device),
        processes=world.size,
    )
    _look_at_settings(plan, run)
    _look_at_rows(plan, run)
    _try_out(plan, run, batches[: len(_batches(run, documents))])
    return plan


def _updates(run: Run) -> Iterator[list[Document]]:
    """Documents of the first updates."""
    updates = iter(run.loader)
    seen = 0
    try:
        for update in islice(updates, MOST_UPDATES):
            seen += len(update.documents)
            yield update.documents
            if seen >= MEASURED_ROWS:
                return
    finally:
        updates.close()  # type: ignore[attr-defined]


def _batches(run: Run, documents: Sequence[Document]) -> list[PackedBatch]:
    """Micro-batches of an update, as the loop makes them."""
    settings = run.config.batch
    groups = pack(documents, settings.max_tokens, settings.max_audio_s)
    return [
        make_batch([documents[i] for i in group], settings.chain, settings.pad_to, run.processor.pad_id)
        for group in groups
    ]


def _sizes(run: Run, updates: Sequence[Sequence[Document]], batches: Sequence[PackedBatch]) -> Sizes:
    tokens = sum(batch.num_tokens for batch in batches)
    padding = sum(batch.padding for batch in batches)
    each = len(updates)
    documents = sum(map(len, updates))
    return Sizes(
        each,
        documents,
        len(batches) / each,
        (tokens - padding) / each,
        sum(batch.num_learned for batch in batches) / each,
        sum(batch.audio_s for batch in batches) / each,
        documents / len(batches),
        tokens / (len(batches) * run.config.batch.max_tokens),
        padding / tokens,
    )


def _look_at_settings(plan: Plan, run: Run) -> None:
    """Say what is wrong with what is trained and with the schedule."""
    for finding in run.trained.findings:
        (plan.errors if "adapters, but they stay" in finding else plan.warnings).append(finding)
    schedule = build_schedule(run.config.schedule, run.steps)
    planned = run.config.schedule.get("num_steps")
    if planned is not None and planned != run.steps:
        plan.errors.append(
            f"schedule.num_steps is {planned}, the run has {run.steps} updates; the rate would not end where "
            "it should. Leave it out: it follows from the data, or set steps."
        )
    if schedule.warmup >= run.steps > 1:
        plan.errors.append(
            f"the learning rate rises for {schedule.warmup} updates and the run has {run.steps}; it never gets to "
            f"{run.config.optimizer.lr:g}. Lower schedule.warmup_steps, or give the run more rows or steps."
        )
    if plan.sizes.filled < 0.5 and plan.sizes.micro_batches > 1.5:
        plan.warnings.append(
            f"micro-batches are filled to {plan.sizes.filled:.0%}; raise batch.max_audio_s, or batch.rows."
        )


def _look_at_rows(plan: Plan, run: Run) -> None:
    """Show the first rows, and compare what the loop learns with what rows say."""
    objective, limit = run.loader.objective, run.config.batch.max_tokens
    look = Doctor(run.processor, objective, limit if run.config.batch.too_long == "skip" else None)
    for one in run.sets:
        source = DataSource(str(one.path), one.name)
        for number in range(min(len(source), LOOKED_AT)):
            try:
                row = source[number]
            except DataError as error:
                plan.findings.append(Finding("invalid_row", str(error), "a row of a set", number=number))
                continue
            found = [*look(row, source.root), *_labels(run, row, source.root, objective)]
            plan.findings += [replace(f, row=row.id, number=number) for f in found]
            if len(plan.previews) < SHOWN:
                preview = preview_row(
                    row, number, run.processor, objective, root=source.root, max_tokens=limit
                )
                plan.previews.append(preview)


def _labels(run: Run, row: Conversation, root: Path | None, objective: str) -> list[Finding]:
    """What a batch learns of a row, against the row's own weights."""
    from vivavoce.data.reader.reading import Sample

    sample = Sample(None, "", row, tuple(None for _ in row.audio_parts()), 0)  # type: ignore[arg-type]
    try:
        document = make_document(sample, run.processor, objective, root)
        rendering = render_row(row, run.processor, objective, root=root, encode=True)
    except (VivavoceError, OSError):
        return []  # the doctor has told why
    batch = make_batch([document, document], run.config.batch.chain, None, run.processor.pad_id)
    made = np.full(batch.num_tokens, IGNORED)
    made[batch.learned.numpy()] = batch.targets().numpy()
    rendering.weights[:1] = [0.0]  # nothing predicts the first
    return compare_labels(rendering, made[len(document) :].tolist(), run.processor)


def _try_out(plan: Plan, run: Run, batches: Sequence[PackedBatch]) -> None:
    """Learn the first micro-batch and forget it: seconds, loss, memory, and parts that no loss reaches."""
    objective = build_objective(run.config, run.processor)
    totals = objective.totals(batches)
    autocast = run.config.parallel.autocast
    device = run.world.device
    batch = batches[0].to(device)
    train_mode(run.model)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for _ in range(2):  # the first one warms up
            began = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16) if autocast else nullcontext():
                loss, _ = objective(run.model, batch, totals)
            if loss.requires_grad:
                loss.backward()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
                plan.peak = torch.cuda.max_memory_allocated(device)
            plan.pass_s = time.perf_counter() - began
    missed = without_gradient(run.model)
    run.model.zero_grad(set_to_none=True)
    plan.loss = float(loss.detach()) * totals.weight / max(1e-9, float(batch.weights.sum()))
    plan.seconds = plan.pass_s / batch.num_tokens * plan.sizes.tokens * plan.steps
    if not math.isfinite(float(loss.detach())):
        plan.errors.append(
            "the loss of the first micro-batch is not finite; look at its rows and at the model's dtype."
        )
    if not loss.requires_grad:
        plan.errors.append(
            "the loss of the first micro-batch reaches nothing that is trained; are there rows without audio, for a "
            "model of which only the ears are trained?"
        )
    _look_at_reach(plan, run, missed, batch.input_features is not None)


def _look_at_reach(plan: Plan, run: Run, missed: Sequence[str], has_audio: bool) -> None:
    """Say which trained parameters the loss does not reach."""
    named = [name for name, p in run.model.named_parameters() if p.requires_grad]
    for part in dict.fromkeys(name.partition(".")[0] for name in missed):
        lost = [name for name in missed if name.startswith(f"{part}.")]
        own = sum(name.startswith(f"{part}.") for name in named)
        sentence = f"the loss reaches {own - len(lost)} of {own} trained tensors of {part}, not {lost[0]}."
        heard = part == "language_model" or has_audio
        (plan.errors if heard and len(lost) == own else plan.warnings).append(sentence)
