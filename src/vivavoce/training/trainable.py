"""Which parameters are trained: parts frozen, in full, by adapters, or only the rows of new tokens.

``choose(model, settings)`` sets ``requires_grad`` and tells what it did. Tables of which only new rows are trained are
named in ``model.trained_rows``, by which `optimizers` and `parallel` leave the rows before them as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

from torch import Tensor, nn

from vivavoce.base.errors import ConfigError
from vivavoce.base.records import read_record
from vivavoce.models.config import Lora
from vivavoce.models.lora import add_lora, is_adapter
from vivavoce.tokens.record import AudioVocabulary

How = Literal["frozen", "full", "lora", "new_rows"]
PARTS = ("language_model", "audio_encoder", "connector", "voice")


@dataclass(frozen=True, kw_only=True)
class Trainable:
    """How each part is trained.

    Attributes:
        language_model: "frozen", "full", "lora", or "new_rows": frozen but for the embeddings of new tokens.
        audio_encoder: "frozen", "full" or "lora".
        connector: "frozen" or "full".
        voice: "frozen" or "full".
        embeddings: Of the language model, input and output, where they are trained otherwise than it is: "frozen",
            "full" or "new_rows". Adapters for the layers and "new_rows" here teach a model a new vocabulary.
        first_new_row: First row of "new_rows"; by default the first audio token of the model's vocabulary.
        lora: Part -> adapters to add where a part is "lora" and has none yet.
        frozen_layers: So many first layers of the language model stay as they are, adapters too.
        freeze: Patterns (``*``) of names of parameters that stay as they are, whatever else is said.
    """

    language_model: How = "full"
    audio_encoder: Literal["frozen", "full", "lora"] = "frozen"
    connector: Literal["frozen", "full"] = "full"
    voice: Literal["frozen", "full"] = "full"
    embeddings: Literal["frozen", "full", "new_rows"] | None = None
    first_new_row: int | None = None
    lora: Mapping[str, Any] = field(default_factory=dict)
    frozen_layers: int = 0
    freeze: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        faults = []
        if self.frozen_layers < 0 or (self.first_new_row is not None and self.first_new_row < 1):
            faults.append(
                f"frozen_layers is {self.frozen_layers}, first_new_row {self.first_new_row}; wanted 0 or more, and 1 "
                "or more"
            )
        idle = [part for part in self.lora if part not in PARTS or getattr(self, part) != "lora"]
        if idle:
            faults.append(
                f"lora has settings for {', '.join(idle)}, wanted only parts that are trained by 'lora'"
            )
        if faults:
            raise ConfigError("; ".join(faults))


@dataclass
class Trained:
    """What is trained of a model.

    Attributes:
        parts: Part -> (values that are trained, values that are not); of tables of which only new rows are trained,
            these rows count.
        rows: Name of a parameter -> its first trained row, for those that are not trained from the first on.
        findings: What looks wrong, in sentences.
    """

    parts: dict[str, tuple[int, int]]
    rows: dict[str, int]
    findings: list[str]

    @property
    def num_trained(self) -> int:
        return sum(trained for trained, _ in self.parts.values())

    def __str__(self) -> str:
        lines = [
            f"{part}: {trained:,} of {trained + frozen:,} values"
            for part, (trained, frozen) in self.parts.items()
        ]
        return "; ".join(lines)


def choose(model: Any, settings: Trainable) -> Trained:
    """Freeze and unfreeze the parameters of a model, and add adapters where they are asked for.

    Call it before the model is spread over processes and before the optimizer is built.

    Args:
        model: A ``SpeechLM``.
        settings: What to train.

    Raises:
        ConfigError: Nothing is left to train, a pattern matches nothing, or new rows that nothing tells.
        ModelError: As ``add_lora``.
    """
    for part in PARTS:
        module, how = getattr(model, part), getattr(settings, part)
        if how == "lora" and part not in model.config.lora:
            adapters = settings.lora.get(part, {})
            add_lora(model, part, read_record(Lora, adapters, f"train.lora.{part}"))
        for name, parameter in module.named_parameters() if module is not None else ():
            wanted = how == "full" or (how == "lora" and is_adapter(name))
            parameter.requires_grad_(wanted and parameter.is_floating_point())
    rows = _set_embeddings(model, settings)
    layers = decoder_layers(model)
    if settings.frozen_layers > len(layers):
        raise ConfigError(f"frozen_layers is {settings.frozen_layers}, the language model has {len(layers)}.")
    for layer in layers[: settings.frozen_layers]:
        layer.requires_grad_(False)
    names = dict(model.named_parameters())
    for pattern in settings.freeze:
        found = [name for name in names if fnmatchcase(name, pattern)]
        if not found:
            raise ConfigError(
                f"freeze: {pattern!r} matches no parameter; names are such as {next(iter(names))!r}."
            )
        for name in found:
            names[name].requires_grad_(False)
    rows = {name: first for name, first in rows.items() if names[name].requires_grad}
    model.trained_rows = rows
    done = Trained(_count(names, rows), rows, [])
    if not done.num_trained:
        raise ConfigError(f"nothing is left to train: {done}. Let a part be 'full' or 'lora'.")
    done.findings = list(_findings(model, settings, names, done))
    return done


def decoder_layers(model: Any) -> nn.ModuleList:
    """The layers of the language model.

    Raises:
        ConfigError: It has no list of as many layers as its config says.
    """
    text = model.get_decoder()
    wanted = text.config.get_text_config().num_hidden_layers
    for module in text.modules():
        if isinstance(module, nn.ModuleList) and len(module) == wanted:
            return module
    raise ConfigError(f"{type(text).__name__} has no list of its {wanted} layers; it cannot be taken apart.")


def train_mode(model: Any) -> None:
    """Set parts that are trained to training, and frozen ones to evaluation: no dropout where nothing is learned."""
    model.train()
    for part in PARTS:
        module = getattr(model, part)
        if module is not None and not any(p.requires_grad for p in module.parameters()):
            module.eval()


def without_gradient(model: nn.Module) -> list[str]:
    """Names of trained parameters that no loss has reached; ask after the first update's backward."""
    return [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


def _set_embeddings(model: Any, settings: Trainable) -> dict[str, int]:
    """Unfreeze or freeze the tables of tokens; returns first trained row by name of those not trained in full."""
    how = settings.embeddings or ("new_rows" if settings.language_model == "new_rows" else None)
    if how is None:
        return {}
    first = first_new_row(model, settings) if how == "new_rows" else 0
    tables = [m for m in (model.get_input_embeddings(), model.get_output_embeddings()) if m is not None]
    own = {id(p) for table in tables for name, p in table.named_parameters() if not is_adapter(f".{name}")}
    found = {name: p for name, p in model.named_parameters() if id(p) in own}
    for parameter in found.values():
        parameter.requires_grad_(how != "frozen")
        if first >= len(parameter):
            raise ConfigError(
                f"first_new_row is {first}, the language model has {len(parameter)} rows of tokens."
            )
    return dict.fromkeys(found, first) if first else {}


def first_new_row(model: Any, settings: Trainable) -> int:
    """The first row of new tokens.

    Raises:
        ConfigError: Neither the settings nor the model's audio vocabulary tell it.
    """
    if settings.first_new_row is not None:
        return settings.first_new_row
    found = _audio_rows(model)
    if not found:
        raise ConfigError(
            "new_rows: the model has no audio tokens; set first_new_row to the id of the first new token."
        )
    return min(found)


def _audio_rows(model: Any) -> set[int]:
    sides = (model.config.audio_in, model.config.audio_out)
    records = [r for r in (getattr(side, "vocabulary", None) for side in sides) if r]
    return {min(AudioVocabulary.from_dict(dict(record)).audio_ids) for record in records}


def _count(named: Mapping[str, Tensor], rows: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    counts: dict[str, tuple[int, int]] = {}
    for name, parameter in named.items():
        part = name.partition(".")[0]
        frozen = rows.get(name, 0) * (parameter.numel() // len(parameter)) if name in rows else 0
        trained = parameter.numel() - frozen if parameter.requires_grad else 0
        before = counts.get(part, (0, 0))
        counts[part] = (before[0] + trained, before[1] + parameter.numel() - trained)
    return counts


def _findings(
    model: Any, settings: Trainable, named: Mapping[str, nn.Parameter], done: Trained
) -> Iterator[str]:
    for part in PARTS:
        adapters = [p for name, p in named.items() if name.startswith(f"{part}.") and is_adapter(name)]
        if adapters and not any(p.requires_grad for p in adapters):
            yield f"{part} has adapters, but they stay as they are; train it by 'lora', or merge them first."
    coarse = sorted(
        {str(p.dtype) for p in named.values() if p.requires_grad} & {"torch.bfloat16", "torch.float16"}
    )
    if coarse:
        yield (
            f"trained weights are {', '.join(coarse)}, in which small steps are rounded away; load them in float32 and "
            "compute in bfloat16."
        )
    table = model.get_input_embeddings().weight
    if _audio_rows(model) and not table.requires_grad and settings.language_model != "frozen":
        yield "the rows of audio tokens stay as they are; set embeddings to 'new_rows' unless they were trained before."
    for part in ("audio_encoder", "connector", "voice"):
        if (
            getattr(settings, part) == "full"
            and getattr(model, part) is not None
            and not done.parts.get(part, (0,))[0]
        ):
            yield f"{part} was to be trained in full, but nothing of it is left to train."
