"""What a training run is: model, rows, objective, optimizer and the rest, as one typed record.

Every field has a default that trains something sensible; ranges are checked before anything is loaded, all faults at
once. `training/recipe.py` reads the YAML.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from vivavoce.base.errors import ConfigError

Mode = Literal["auto", "none", "replicate", "fsdp", "hsdp"]


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """What is trained; `training/models.py` builds it.

    Attributes:
        start: A speech LM to go on with: "nano", a folder, a file or a hub id. Without it, the parts below.
        llm: Folder or hub id of a causal LM with a chat template; or an object for `tiny_llm.TinyLLM`, a random one,
            which under ``knows`` may be taught a few answers first (`tiny_teaching.Lesson`).
        hears: ``{"encoder": folder, hub id or record, "connector": record}`` for embeddings, perhaps with
            ``clip_before``, ``clip_after``, ``shortest_samples``, ``prompts`` and ``transcribe_prompt`` of
            `EmbeddingsIn`; or ``{"codec", "layout", "style"}`` for codec tokens. None does not hear (or as ``start``).
        speaks: ``{"codec", "layout", "style", "prompt", "speakers"}`` for codec tokens. None does not speak.
        template: Chat template (Jinja source) for an ``llm`` that has none, or instead of its own.
        init: Filling of new rows of the vocabulary: "mean", "normal" or "copy".
        pad_rows_to: Round the rows of the vocabulary up to a multiple.
        dtype: Of the weights.
        quantize: "nf4" for a 4-bit base below adapters (extra ``quant``).
        random_weights: Build from the LM's config without its weights, for benchmarks.
        speakers: Names to add to those that ``start`` knows, the first to be the voice it takes unless told another.
    """

    start: str | None = None
    llm: str | Mapping[str, Any] | None = None
    hears: Mapping[str, Any] | None = None
    speaks: Mapping[str, Any] | None = None
    template: str | None = None
    init: Literal["mean", "normal", "copy"] = "mean"
    pad_rows_to: int | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    quantize: Literal["nf4"] | None = None
    random_weights: bool = False
    speakers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        faults = []
        if self.speakers and self.start is None:
            faults.append("speakers are added to start; name those of a new voice in speaks.speakers")
        if (self.start is None) == (self.llm is None):
            faults.append("wanted start or llm, one of the two")
        for name in ("hears", "speaks"):
            side = getattr(self, name)
            if side is not None and ("codec" in side) == ("encoder" in side):
                faults.append(f"{name} has the keys {sorted(side)}, wanted codec or encoder, one of the two")
        if self.speaks is not None and "encoder" in self.speaks:
            faults.append("speaks wants a codec; an encoder only hears")
        if faults:
            raise ConfigError("; ".join(faults))


@dataclass(frozen=True, kw_only=True)
class SetSettings:
    """One set of rows.

    Attributes:
        path: Folder of shards, .parquet, .jsonl or .tar; a pipeline's ``out`` if there is one.
        pipeline: A pipeline (its file, or the record itself) that makes the set before training; where the set is
            there already, it is only read.
        weight: How it is mixed, see ``DataSettings.mixing``.
        name: Of the set in logs and states.
    """

    path: str | None = None
    pipeline: str | Mapping[str, Any] | None = None
    weight: float = 1.0
    name: str | None = None

    def __post_init__(self) -> None:
        if self.path is None and self.pipeline is None:
            raise ConfigError("wanted path, pipeline or both")
        if self.weight < 0:
            raise ConfigError(f"weight is {self.weight}, wanted 0 or more")


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Which rows, in which order.

    Attributes:
        sets: To learn from.
        held_out: To measure the loss on, never learned.
        mixing: Weights are "repeats" of sets or "shares" of draws.
        window_rows: About how many rows are mixed at a time; 0 keeps the order of storage.
        min_audio_s, max_audio_s, max_clip_s, max_characters: Rows outside are left out and counted.
        workers: Threads that decode.
        on_fault: "skip" counts rows that cannot be used, "raise" stops at the first.
    """

    sets: tuple[SetSettings, ...] = ()
    held_out: tuple[SetSettings, ...] = ()
    mixing: Literal["repeats", "shares"] = "repeats"
    window_rows: int = 1024
    min_audio_s: float = 0.0
    max_audio_s: float | None = None
    max_clip_s: float | None = None
    max_characters: int | None = None
    workers: int = 2
    on_fault: Literal["skip", "raise"] = "skip"

    def __post_init__(self) -> None:
        if not self.sets:
            raise ConfigError("sets is empty, wanted one or more")


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """How rows become updates.

    Attributes:
        rows: Of one update, over all ranks and micro-batches.
        max_tokens: Positions of one micro-batch, into which documents are packed.
        max_audio_s: Seconds of audio of one micro-batch for the encoder; None for no limit.
        too_long: Of a document with more than ``max_tokens``: "skip" counts it, "cut" drops its end, "split" makes
            several (plain text and audio tokens only).
        chain: Let documents of a pack see those before them and count positions on, as Orpheus was trained.
        pad_to: Round the length of a micro-batch up to a multiple, for compiled models.
    """

    rows: int = 16
    max_tokens: int = 2048
    max_audio_s: float | None = None
    too_long: Literal["skip", "cut", "split"] = "skip"
    chain: bool = False
    pad_to: int | None = None

    def __post_init__(self) -> None:
        faults = [
            f"{n} is {getattr(self, n)}, wanted {least} or more"
            for n, least in (("rows", 1), ("max_tokens", 2))
            if getattr(self, n) < least
        ]
        if self.max_audio_s is not None and not self.max_audio_s > 0:
            faults.append(f"max_audio_s is {self.max_audio_s}, wanted above 0 or null")
        if self.pad_to is not None and not 1 <= self.pad_to <= self.max_tokens:
            faults.append(f"pad_to is {self.pad_to}, wanted 1 to max_tokens")
        if faults:
            raise ConfigError("; ".join(faults))


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """Attributes:
    type: Name in OPTIMIZERS.
    lr: Highest learning rate.
    betas, eps, weight_decay: As usual.
    max_grad_norm: Gradients are scaled down to this norm; None for never.
    options: More settings of the optimizer.
    """

    type: str = "adamw"
    lr: float = 1e-4
    betas: tuple[float, ...] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    max_grad_norm: float | None = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        faults = []
        if not 0 < self.lr < 10:
            faults.append(f"lr is {self.lr}, wanted above 0 (1e-5 to 1e-3 are usual)")
        if len(self.betas) != 2 or not all(0 <= b < 1 for b in self.betas):
            faults.append(f"betas is {list(self.betas)}, wanted two numbers of 0 or more, below 1")
        if self.max_grad_norm is not None and self.max_grad_norm <= 0:
            faults.append(f"max_grad_norm is {self.max_grad_norm}, wanted above 0 or null")
        if faults:
            raise ConfigError("; ".join(faults))


@dataclass(frozen=True, kw_only=True)
class ParallelSettings:
    """Attributes:
    mode: "auto": one process "none", adapters "replicate", full training on many GPUs "fsdp".
    activation_checkpointing: Recompute layers backwards: "none", "selective" (every second), "full".
    compile: torch.compile of each layer of the language model.
    autocast: Compute in bfloat16 where weights are float32.
    """

    mode: Mode = "auto"
    activation_checkpointing: Literal["none", "selective", "full"] = "none"
    compile: bool = False
    autocast: bool = False


@dataclass(frozen=True, kw_only=True)
class KeepSettings:
    """What is written while training, in updates.

    Attributes:
        save_every: Checkpoints to go on from; 0 for the end only.
        keep_last: Checkpoints that stay.
        log_every: Lines of metrics.jsonl.
        measure_every: Loss on held-out rows; 0 for the end only.
        measure_rows: Of each held-out set.
        sample_every: Answers of the model to held-out (or training) rows, text and wav; 0 for the end only, -1 never.
        sample_rows: How many.
        trackers: More places for metrics: "tensorboard", "wandb", "trackio".
    """

    save_every: int = 200
    keep_last: int = 2
    log_every: int = 10
    measure_every: int = 0
    measure_rows: int = 64
    sample_every: int = -1
    sample_rows: int = 4
    trackers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        least = {"save_every": 0, "keep_last": 1, "log_every": 1, "measure_every": 0, "measure_rows": 1}
        least |= {"sample_every": -1, "sample_rows": 1}
        faults = [
            f"{n} is {getattr(self, n)}, wanted {k} or more" for n, k in least.items() if getattr(self, n) < k
        ]
        if faults:
            raise ConfigError("; ".join(faults))


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run.

    Attributes:
        name: Of the run.
        description: One line.
        seed: Of everything random.
        steps: Updates; None counts ``epochs`` instead.
        epochs: Passes over the rows.
        model: What is trained.
        train: Part -> how: see `trainable.Trainable`.
        objective: ``{"type": name in OBJECTIVES, ...its settings}``.
        data: Rows.
        batch: Updates.
        optimizer: Steps.
        schedule: ``{"type": name in SCHEDULES, ...its settings}``; always as long as the run, so it has no length of
            its own.
        parallel: Devices.
        keep: Files.
    """

    name: str = "run"
    description: str = ""
    seed: int = 0
    steps: int | None = None
    epochs: float = 1.0
    model: ModelSettings
    train: Mapping[str, Any] = field(default_factory=dict)
    objective: Mapping[str, Any] = field(default_factory=lambda: {"type": "sft"})
    data: DataSettings
    batch: BatchSettings = field(default_factory=BatchSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    schedule: Mapping[str, Any] = field(default_factory=lambda: {"type": "cosine"})
    parallel: ParallelSettings = field(default_factory=ParallelSettings)
    keep: KeepSettings = field(default_factory=KeepSettings)

    def __post_init__(self) -> None:
        faults = []
        if self.steps is not None and self.steps < 1:
            faults.append(f"steps is {self.steps}, wanted 1 or more, or null for epochs")
        if not self.epochs > 0:
            faults.append(f"epochs is {self.epochs}, wanted above 0")
        if "type" not in self.objective:
            faults.append("objective.type is missing")
        if "type" not in self.schedule:
            faults.append("schedule.type is missing")
        if "num_steps" in self.schedule:
            faults.append("schedule.num_steps is set, but a schedule is always as long as the run; set steps")
        hears = self.model.hears or {}
        if self.objective.get("type") == "distill" and self.model.start is None and "encoder" not in hears:
            faults.append(
                "objective.type is 'distill', which teaches ears by embeddings, and the model "
                + ("hears by codec tokens" if hears else "does not hear")
                + "; give model.hears an encoder, or take 'sft'"
            )
        if faults:
            raise ConfigError("; ".join(faults))
