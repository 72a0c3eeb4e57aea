"""What a run needs of a device's memory, by its shapes, before anything is loaded.

Weights, gradients and the optimizer's state are counted; what layers keep for the backward pass follows from what
transformers' decoder layers keep (RMS norms, rotated queries and keys, gated MLP), for a micro-batch that is full. L
positions, D width, F inner width, V vocabulary.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vivavoce.base.errors import ConfigError
from vivavoce.training.config import TrainConfig
from vivavoce.training.optimizers import build_optimizer
from vivavoce.training.shapes import shape_of
from vivavoce.training.trainable import decoder_layers
from vivavoce.training.world import World

EIGHT_BITS = 2.0 + 2 * 4 / 256  # two moments of a byte, and a scale for each block of 256
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)  # four bits, and scales that are themselves of eight bits
CHUNKS_AT_ONCE, CHUNK_FRAMES, ENCODER_VALUES = (
    8,
    1500,
    17,
)  # of 30 s each; values kept per frame, width and layer
EMBEDDINGS_PER_S = 6.25
GIB = 2**30


@dataclass(frozen=True)
class Memory:
    """Bytes on one device.

    Attributes:
        weights: Of all parts, and copies in another dtype while they are used.
        gradients: Of what is trained.
        optimizer: Its state.
        activations: What the language model's layers keep of a full micro-batch, and the encoder.
        logits: Of one chunk of positions, and the gradient of the head.
        available: What the device has left; None if that is not known.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    available: int | None = None

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits

    @property
    def fits(self) -> bool:
        return self.available is None or self.total <= self.available

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"total": self.total, "fits": self.fits}


def check_memory(config: TrainConfig, world: World) -> Memory | None:
    """Estimate a run, and refuse it where the device has too little; call it before anything is loaded.

    Args:
        config: Of the run.
        world: Its processes.

    Returns:
        The estimate; None where shapes are not known before loading.

    Raises:
        ConfigError: Too little memory; says what takes it and what would help. Or as in ``shape_of``.
        ModelError: A part that is not there.
    """
    model = shape_of(config)
    if model is None:
        return None
    found = estimate(model, config, world)
    if not found.fits:
        raise ConfigError(_refusal(found, config, world))
    return found


def estimate(model: Any, config: TrainConfig, world: World) -> Memory:
    """Count what a run takes.

    Args:
        model: A ``SpeechLM`` on the meta device, with what is trained chosen; its gradients are changed.
        config: Of the run.
        world: Its processes.
    """
    parts = Parts(model, config, world)
    tokens = config.batch.max_tokens
    return Memory(
        round(parts.weights()),
        round(parts.gradients()),
        round(parts.optimizer()),
        round(parts.activations(tokens) + parts.encoder(tokens)),
        round(parts.logits()),
        available_memory(world),
    )


class Parts:
    """The parts of an estimate.

    Args:
        model, config, world: As in ``estimate``.
    """

    def __init__(self, model: Any, config: TrainConfig, world: World) -> None:
        self.model, self.config, self.world = model, config, world
        self.text = model.language_model.config.get_text_config()
        self.layers = list(decoder_layers(model))
        self.on_cpu = world.device.type == "cpu"
        weight = next(model.language_model.parameters())
        self.stored = weight.element_size()
        self.computed = 2 if config.parallel.autocast else self.stored
        self.pieces = _pieces(model, config, world)

    def weights(self) -> float:
        """Bytes of all parameters and buffers here."""
        nf4 = _linear_weights(self.model.language_model) if self.config.model.quantize else set()
        size = _bytes(self.model.buffers())
        for name, p in self.model.named_parameters():
            each = NF4 if name.removeprefix("language_model.") in nf4 else p.element_size()
            size += p.numel() * each / self._spread(name)
        if self.pieces > 1:  # a layer and the tables are whole while they are used
            whole = max(map(_count, (layer.parameters() for layer in self.layers)))
            size += (2 * whole + 2 * _count(self._head().parameters())) * self.computed
        elif self.computed < self.stored:  # autocast keeps its copies until the pass is over
            matrices = (p for p in self.model.language_model.parameters() if p.dim() > 1)
            size += (
                _count(matrices) - _count(self.model.get_input_embeddings().parameters())
            ) * self.computed
        return size

    def gradients(self) -> float:
        """Bytes of the gradients here."""
        return sum(p.numel() * p.element_size() / self._spread(name) for name, p in self._trained())

    def optimizer(self) -> float:
        """Bytes of the optimizer's state here: that of one step on the meta device."""
        kind, settings = self.config.optimizer.type, self.config.optimizer
        trained = self._trained()
        spread = sum(p.numel() / self._spread(n) for n, p in trained) / max(
            1, sum(p.numel() for _, p in trained)
        )
        if "8bit" in kind:
            return spread * sum(p.numel() * (EIGHT_BITS if p.numel() >= 4096 else 8) for _, p in trained)
        made = build_optimizer(
            kind,
            self.model,
            lr=settings.lr,
            betas=tuple(settings.betas),
            eps=settings.eps,
            weight_decay=settings.weight_decay,
            **settings.options,
        )
        for _, p in trained:
            p.grad = torch.empty_like(p)
        made.step()
        made.zero_grad(set_to_none=True)
        return spread * state_bytes(made)

    def activations(self, tokens: int) -> float:
        """Bytes that the layers of the language model keep of L positions for the backward pass."""
        residual = tokens * self._width() * (4 if self.config.parallel.autocast else self.stored)
        ends = (
            tokens * self._width() * self._norm() + residual
        )  # the last norm, and the gradient that passes it
        again = {"none": 0.0, "selective": 0.5, "full": 1.0}[self.config.parallel.activation_checkpointing]
        layer = self._layer(tokens)
        kept = len(self.layers) * ((1 - again) * layer + again * residual)
        return kept + ends + (layer if again else 0.0)

    def encoder(self, tokens: int) -> float:
        """Bytes that an encoder keeps: of 8 chunks at once where it is frozen, else of all clips."""
        ears = self.model.audio_encoder
        if ears is None:
            return 0.0
        width = int(ears.hidden_size)
        trained = any(p.requires_grad for p in ears.parameters())
        frames = CHUNKS_AT_ONCE * CHUNK_FRAMES
        seconds = self.config.batch.max_audio_s or tokens / EMBEDDINGS_PER_S
        frames = round(50 * seconds) if trained else min(frames, round(50 * seconds))
        count = sum(len(m) for m in ears.modules() if isinstance(m, nn.ModuleList)) if trained else 1
        return frames * width * ENCODER_VALUES * count * self.computed

    def logits(self) -> float:
        """Bytes of the logits of a chunk, which are made in the computed dtype and in float32."""
        chunk = int(self.config.objective.get("chunk", 1024))
        head = self._head()
        rows, width = int(self.text.vocab_size), self._width()
        size = chunk * rows * (4 + self.computed) * (2 if self.config.objective["type"] == "distill" else 1)
        return size + (rows * width * self.stored if any(p.requires_grad for p in head.parameters()) else 0)

    def _layer(self, tokens: int) -> float:
        """Bytes that one decoder layer keeps."""
        text, width = self.text, self._width()
        heads = int(text.num_attention_heads)
        head = int(getattr(text, "head_dim", None) or width // heads)
        query, key = heads * head, int(getattr(text, "num_key_value_heads", None) or heads) * head
        inner = int(getattr(text, "intermediate_size", None) or 4 * width)
        trained = self._layers_learn()
        outputs = (2 if trained and self.on_cpu else 1) * query
        values = 2 * key + query + outputs + (4 if trained else 3) * inner
        return float(tokens * (2 * self._norm() * width + self.computed * values))

    def _norm(self) -> int:
        """Bytes that an RMS norm keeps of a position and a value of it."""
        if not self._layers_learn():
            return 4
        return {(4, 4): 12, (2, 2): 8, (4, 2): 10}.get((self.stored, self.computed), 12)

    def _layers_learn(self) -> bool:
        return any(p.requires_grad for layer in self.layers for p in layer.parameters())

    def _width(self) -> int:
        return int(self.text.hidden_size)

    def _head(self) -> Any:
        return self.model.get_output_embeddings()

    def _trained(self) -> list[tuple[str, Tensor]]:
        return [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]

    def _spread(self, name: str) -> int:
        return self.pieces if name.startswith("language_model.") else 1


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of all tensors of an optimizer's state."""
    return _bytes(value for state in optimizer.state.values() for value in state.values())


def available_memory(world: World) -> int | None:
    """Bytes that the device of this process has left; of a CPU, this process's share. None if nothing tells."""
    if world.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(world.device)
        return int(free)
    if world.device.type != "cpu":
        return None
    limits = [*_free_memory(), *_group_limits()]
    return min(limits) // max(1, world.local_size) if limits else None


def _free_memory() -> Iterable[int]:
    """What the system can give without swapping; all memory where it does not say."""
    told = Path("/proc/meminfo")
    lines = told.read_text(encoding="ascii").splitlines() if told.is_file() else []
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    if found or not hasattr(os, "sysconf"):
        return found
    return [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]


def _group_limits() -> Iterable[int]:
    """What a container may still take."""
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        if Path(limit).is_file() and (text := Path(limit).read_text(encoding="ascii").strip()).isdecimal():
            taken = int(Path(used).read_text(encoding="ascii")) if Path(used).is_file() else 0
            if int(text) < 1 << 60:  # larger numbers mean no limit
                yield max(0, int(text) - taken)


def _pieces(model: Any, config: TrainConfig, world: World) -> int:
    """Over how many processes the language model is spread."""
    mode = config.parallel.mode
    if world.size == 1 or mode in ("none", "replicate"):
        return 1
    numbers = [(p.numel(), p.requires_grad) for p in model.language_model.parameters()]
    if mode == "auto" and 2 * sum(n for n, yes in numbers if yes) < sum(n for n, _ in numbers):
        return 1
    return world.local_size if mode == "hsdp" else world.size


def _linear_weights(language_model: nn.Module) -> set[str]:
    """Names of the weights that are quantized: of linear layers, the head and adapters aside."""
    return {
        f"{name}.weight"
        for name, module in language_model.named_modules()
        if isinstance(module, nn.Linear) and name != "lm_head" and ".lora_" not in name
    }


def _count(parameters: Iterable[Tensor]) -> int:
    return sum(p.numel() for p in parameters)


def _bytes(tensors: Iterable[Any]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors if isinstance(t, Tensor))


def gib(size: float) -> str:
    """Bytes as people read them."""
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / 2**20:.1f} MiB"


def _refusal(found: Memory, config: TrainConfig, world: World) -> str:
    """What takes the memory, and what would help."""
    takes = ", ".join(f"{k} {gib(v)}" for k, v in asdict(found).items() if k != "available" and v)
    help_ = []
    if config.parallel.activation_checkpointing != "full" and found.activations > found.total / 10:
        help_.append("parallel.activation_checkpointing=full")
    if found.activations > found.total / 10:
        help_.append(f"batch.max_tokens below {config.batch.max_tokens}")
    if found.logits > found.total / 2:
        help_.append("objective.chunk below 1024")
    if config.optimizer.type == "adamw" and found.optimizer > found.total / 10:
        help_.append("optimizer.type=adam_mini")
    if found.gradients > found.total / 10:
        help_.append("train.language_model=lora")
    if config.model.dtype == "float32" and found.weights > found.total / 4:
        help_.append("model.dtype=bfloat16")
    if world.device.type == "cuda" and found.gradients > found.total / 10:
        help_.append("more GPUs with parallel.mode=fsdp")
    return (
        f"the run needs about {gib(found.total)} of memory ({takes}) and {world.device} has "
        f"{gib(found.available or 0)} left. Try {', '.join(help_) or 'a smaller model'}."
    )
