"""Which systems a run has: the model, its controls, its cascade, its own language model, and that model before."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from vivavoce.base.errors import ConfigError
from vivavoce.evaluation.run.answerers import Answerer, Local, make_answerer
from vivavoce.evaluation.run.recognisers import Recogniser, default_recogniser, make_recogniser
from vivavoce.evaluation.run.settings import RunSettings
from vivavoce.evaluation.run.stored import StoredCase
from vivavoce.evaluation.run.systems import (
    APPLIES,
    System,
    cascade_system,
    control_system,
    original_system,
    speech_system,
    swap,
    text_system,
)
from vivavoce.evaluation.tasks.task import Task
from vivavoce.inference.assistant import Assistant
from vivavoce.models.loading import BUNDLE

NANO = "nano"
Stored = Mapping[str, Sequence[StoredCase]]


@dataclass
class Team:
    """The systems of a run.

    Attributes:
        systems: In the order in which they are asked.
        model: The model under test.
        listeners: Makes the recogniser that listens to what was spoken.
        swapped: Task -> question -> whose audio it gets.
        no_base: Why there is no "base".
        facts: About the model.
        base: The language model before.
    """

    systems: list[System]
    model: Answerer
    listeners: Any
    swapped: Mapping[str, Mapping[str, StoredCase]]
    no_base: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    base: Answerer | None = None

    def listener(self, task: Task) -> Recogniser:
        """Who writes down what was spoken."""
        found: Recogniser = self.listeners(task.grammar)
        return found

    def can(self, system: System, task: Task, case: StoredCase) -> bool:
        """Whether a system can be asked this question at all."""
        if system.name == "swapped":
            return case.question.id in self.swapped.get(task.name, {})
        if system.name == "original":
            return case.question.audio is not None
        if task.kind == "speak" and system.name in ("model", "endpoint"):
            return self.model.speaks
        return True

    def probe(self, tasks: Sequence[Task], stored: Stored, out: Path) -> None:
        """Measure losses for the diagnosis, once."""
        from vivavoce.evaluation.diagnosis.probes import write_probes

        base = self.base.assistant if isinstance(self.base, Local) else None
        if isinstance(self.model, Local) and not (out / "probes.json").is_file():
            write_probes(self.model.assistant, base, tasks, stored, self.swapped, out)


def make_team(
    model: str | Assistant,
    tasks: Sequence[Task],
    stored: Stored,
    wanted: Sequence[str],
    settings: RunSettings,
) -> Team:
    """Load what the run needs.

    Args:
        model: As in ``run_evaluation``.
        tasks: Of the run.
        stored: Their questions.
        wanted: Names of systems; none for all that fit.
        settings: Of the run.

    Raises:
        ConfigError: A wanted system is impossible; with none wanted it is left out.
    """
    make = _maker(settings)
    remote = isinstance(model, str) and model.startswith("openai:")
    own = make(model) if isinstance(model, str) else Local(model, settings.max_new_tokens, settings.seed)
    kinds = {task.kind for task in tasks}
    fitting = [name for name in APPLIES if kinds & set(APPLIES[name])]
    fitting.remove("model") if remote and "model" in fitting else None
    fitting = [n for n in fitting if remote or n != "endpoint"]
    if not own.hears:
        fitting = [n for n in fitting if n not in ("silent", "swapped", "cascade")]
        fitting = [n for n in fitting if n != "model" or "speak" in kinds]
    names = [n for n in fitting if not wanted or n in wanted]
    if not names or (wanted and (left := [n for n in wanted if n not in fitting and n != "base"])):
        lost = ", ".join(wanted if not names else left)
        raise ConfigError(
            f"{own.name} has no system {lost} for tasks of kind {', '.join(sorted(kinds))}; fitting: "
            f"{', '.join(fitting) or 'none'}."
        )
    swapped = {task.name: swap(stored[task.name], settings.seed) for task in tasks if "swapped" in names}
    base, no_base = _base(model, own, settings, make) if "base" in names else (None, "it was not asked for")
    recogniser_name, why = _recogniser(settings, own) if "cascade" in names else ("", "")

    @cache
    def hearers(name: str, grammar: str | None) -> Recogniser:
        return make_recogniser(name, own, grammar, settings.device, settings.key_env)

    def listeners(grammar: str | None) -> Recogniser:
        return hearers(settings.listener or default_recogniser(own)[0], grammar)

    systems: list[System] = []
    for name in names:
        if name in ("model", "endpoint"):
            systems.append(speech_system(own, name, aloud=settings.aloud))
        elif name in ("silent", "swapped"):
            systems.append(control_system(own, name, swapped))
        elif name == "typed":
            systems.append(text_system(own, name))
        elif name == "base" and base is not None:
            systems.append(text_system(base, name))
        elif name == "cascade":
            llm = _cascade_llm(settings, own, make)
            first = hearers(recogniser_name, next((t.grammar for t in tasks), None))
            then = "the model's own LLM, typed" if llm is own else llm.name
            words = f"{first.name}, then {then}" + (f" ({why})" if why else "")
            systems.append(cascade_system(lambda t: hearers(recogniser_name, t.grammar), llm, words))
        elif name == "original":
            systems.append(original_system())
    facts = _facts(own)
    if "speak" in kinds and (own.speaks or "original" in names):
        facts["listener"] = listeners(next(t.grammar for t in tasks if t.kind == "speak")).name
    return Team(systems, own, listeners, swapped, no_base, facts, base)


def _maker(settings: RunSettings) -> Any:
    @cache
    def make(spec: str, text_only: bool = False) -> Answerer:
        most, seed = settings.max_new_tokens, settings.seed
        return make_answerer(spec, most, seed, settings.device, settings.key_env, text_only)

    return make


def _recogniser(settings: RunSettings, own: Answerer) -> tuple[str, str]:
    if settings.cascade:
        return split_cascade(settings.cascade)[0], ""
    return default_recogniser(own)


def _cascade_llm(settings: RunSettings, own: Answerer, make: Any) -> Answerer:
    name = split_cascade(settings.cascade)[1] if settings.cascade else "own"
    llm: Answerer = own if name == "own" else make(name, True)
    return llm


def split_cascade(spec: str) -> tuple[str, str]:
    """(recogniser, language model) of ``ASR+LLM``; the model's own where none is named.

    Raises:
        ConfigError: One of the two is empty.
    """
    recogniser, plus, llm = spec.rpartition("+")
    pair = (recogniser, llm) if plus else (spec, "own")
    if not all(part.strip() for part in pair):
        raise ConfigError(f"cascade is {spec!r}; wanted ASR+LLM, such as pocketsphinx+own or self+own.")
    return pair


def _base(model: Any, own: Answerer, settings: RunSettings, make: Any) -> tuple[Answerer | None, str]:
    """The language model before speech training, or why there is none."""
    if settings.base:
        return make(settings.base, True), ""
    if not isinstance(own, Local):
        return None, "the model is behind an endpoint; name its language model by the setting base"
    config = own.assistant.model.config
    name = config.text_model_ref
    if not name and own.name == NANO:
        return None, "the bundle's language model was made together with its ears; there was none before"
    if not name and _of_the_bundle(own.assistant):
        return make(NANO), ""
    if not name:
        return None, "the model names no language model that it was made from; name one by the setting base"
    if "language_model" not in config.lora:
        return None, f"its language model is {name}, unchanged, so that nothing can be lost"
    return make(str(name), True), ""


def _of_the_bundle(assistant: Assistant) -> bool:
    """Whether a model's language model has the bundle's words and sizes, so that it can only be made from it."""
    folder = BUNDLE / NANO
    try:
        sizes = json.loads((folder / "config.json").read_text(encoding="utf-8"))["text_config"]
        words = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    except (OSError, KeyError, ValueError):
        return False
    config = assistant.model.config.text_config
    same = all(getattr(config, n) == sizes[n] for n in ("hidden_size", "num_hidden_layers", "vocab_size"))
    return same and set(words) <= set(assistant.processor.tokenizer.get_vocab())


def _facts(own: Answerer) -> dict[str, Any]:
    if not isinstance(own, Local):
        return {"name": own.name}
    model = own.assistant.model
    return {
        "name": own.name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "weights": str(next(model.parameters()).dtype).removeprefix("torch."),
        "hears": own.hears,
        "speaks": own.speaks,
    }
