"""Language models that answer: one in this process, one behind an address, or one that the context's service makes.

``ENGINE:NAME`` names a model: ``transformers:FOLDER_OR_HUB_ID[@REVISION]``, ``endpoint:MODEL``, ``service:NAME``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from vivavoce.base.errors import ConfigError, DataError, ModelError
from vivavoce.data.build.contract import Context, Fault
from vivavoce.data.build.texts.answer_cache import AnswerCache
from vivavoce.data.build.texts.endpoints import Endpoint, read_endpoint
from vivavoce.data.build.texts.local_models import check_dtype, identity, load, load_weights, write_greedily

Prompt = Sequence[Mapping[str, str]]
"""Messages with ``role`` and ``content``."""


@dataclass(frozen=True)
class Reply:
    """What a model answered.

    Attributes:
        text: Not empty.
        finished: False if it was cut at the length allowed; None if that is unknown.
    """

    text: str
    finished: bool | None = None


@dataclass(frozen=True)
class ModelSettings:
    """What language models are told beside their name.

    Attributes:
        dtype: Of a local model's weights.
        plain: Give a local model the last message's text as it is, without a chat template: for base models.
        template_options: Further variables of a local model's chat template ({"enable_thinking": false}).
        endpoint: Settings of the server.
    """

    dtype: str = "float32"
    plain: bool = False
    template_options: Mapping[str, Any] = field(default_factory=dict)
    endpoint: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_dtype(self.dtype)


class LanguageModel(Protocol):
    """Answers prompts; what it answers to one does not depend on the others."""

    @property
    def identity(self) -> list[Any]:
        """What its answers hang on beside the prompt, as JSON."""

    def answer(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Reply | Fault]:
        """As many results as prompts, in order."""


def check_name(name: str, what: str) -> None:
    """Refuse what names no model.

    Raises:
        ConfigError: With the known engines.
    """
    engine, _, rest = name.partition(":")
    if engine not in _ENGINES or not rest:
        wanted = ", ".join(f"{e}:NAME" for e in _ENGINES)
        raise ConfigError(f"{what} is {name!r}, wanted one of {wanted}")


def public_name(name: str) -> str:
    """A model's name as it may stand in data: of a folder on this machine, its last part."""
    engine, _, rest = name.partition(":")
    return f"{engine}:{Path(rest).name}" if Path(rest).is_dir() else name


def answer_each(
    model: CachedModel, prompts: Sequence[Prompt | Fault], max_new_tokens: int
) -> list[Reply | Fault]:
    """Ask for those that are prompts; a fault in their place stays one."""
    asked = [prompt for prompt in prompts if not isinstance(prompt, Fault)]
    replies = iter(model.answer(asked, max_new_tokens) if asked else ())
    return [prompt if isinstance(prompt, Fault) else next(replies) for prompt in prompts]


def find_object(text: str) -> dict[str, Any] | None:
    """The one JSON object in what a model wrote, with whatever stands around it; None if there is none."""
    start, end = text.find("{"), text.rfind("}")
    try:
        found = json.loads(text[start : end + 1]) if 0 <= start < end else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def make_language_model(name: str, settings: ModelSettings, context: Context) -> CachedModel:
    """Make a language model; it is loaded when first asked, and not asked twice for the same.

    Raises:
        ConfigError: The name is wrong, or the server's settings are missing.
    """
    check_name(name, "model")
    engine, _, rest = name.partition(":")
    return CachedModel(_ENGINES[engine](rest, settings, context), context)


class CachedModel:
    """A language model with a memory on disk; empty answers are faults.

    Args:
        model: Asked for what is not known.
        context: With the folder.
    """

    def __init__(self, model: LanguageModel, context: Context) -> None:
        self.model, self._cache = model, AnswerCache(context.cache, "answers")

    def answer(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Reply | Fault]:
        """As ``LanguageModel.answer``."""
        keys = [self._cache.key(self.model.identity, list(map(dict, p)), max_new_tokens) for p in prompts]
        found: dict[str, Reply | Fault] = {}
        for key in dict.fromkeys(keys):
            kept = self._cache.get(key)
            if kept is not None:
                found[key] = Reply(**json.loads(kept))
        asked = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in found}
        if asked:
            answers = self.model.answer(list(asked.values()), max_new_tokens)
            for key, answer in zip(asked, answers, strict=True):
                found[key] = self._keep(key, answer)
        return [found[key] for key in keys]

    def _keep(self, key: str, answer: Reply | Fault) -> Reply | Fault:
        if isinstance(answer, Fault):
            return answer
        text = answer.text.strip()
        if not text:
            return Fault("empty", "the model answered nothing")
        record = json.dumps({"text": text, "finished": answer.finished}, ensure_ascii=False)
        return Reply(**json.loads(self._cache.put(key, record.encode())))


class LocalModel:
    """A causal language model of transformers, greedy.

    Args:
        name: Folder or hub id.
        settings: Precision and template.
        context: With the device.

    Raises:
        ModelError: Its tokenizer cannot be loaded, or has no chat template.
    """

    def __init__(self, name: str, settings: ModelSettings, context: Context) -> None:
        self.name, self.settings, self.device = name, settings, context.device
        self._tokenizer = load("AutoTokenizer", name)
        if not settings.plain and not self._tokenizer.chat_template:
            raise ModelError(f"{name} has no chat template; take its instruct variant, or say plain: true.")
        told = [settings.dtype, settings.plain, dict(settings.template_options)]
        self.identity = ["transformers", identity(name), *told]

    @cached_property
    def _model(self) -> Any:
        model = load_weights("AutoModelForCausalLM", self.name, self.settings.dtype, self.device)
        # the tokenizer's end of a turn ends an answer too; some models' own settings forget it
        ends, extra = model.generation_config.eos_token_id, self._tokenizer.eos_token_id
        known = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
        model.generation_config.eos_token_id = [*known, *({extra} - {None, *known})] or None
        return model

    def answer(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Reply | Fault]:
        """Answer all prompts in one batch; too long ones are faults.

        Raises:
            ModelError: The model cannot be loaded.
            DataError: The chat template refuses a prompt.
        """
        import torch

        tokenizer, model = self._tokenizer, self._model
        rows = [self._ids(tokenizer, prompt) for prompt in prompts]
        longest = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        room = None if longest is None else longest - max_new_tokens
        fits = [i for i, row in enumerate(rows) if row and (room is None or len(row) <= room)]

        def prepare(numbers: Sequence[int]) -> dict[str, Any]:
            chosen = [rows[fits[i]] for i in numbers]
            size = max(map(len, chosen))
            ids = torch.tensor([[0] * (size - len(row)) + row for row in chosen], device=model.device)
            mask = torch.tensor(
                [[0] * (size - len(row)) + [1] * len(row) for row in chosen], device=model.device
            )
            return {"input_ids": ids, "attention_mask": mask, "pad_token_id": 0}

        answers = write_greedily(model, prepare, len(fits), max_new_tokens, self.settings.dtype)
        written = dict(zip(fits, answers, strict=True))
        results: list[Reply | Fault] = []
        for i, row in enumerate(rows):
            if i not in written:
                reason = f"the prompt has {len(row)} tokens, wanted 1 to {room}"
                results.append(Fault("too_long", reason, filtered=True))
                continue
            text = tokenizer.decode(written[i].ids, skip_special_tokens=True)
            results.append(Reply(text, written[i].finished))
        return results

    def _ids(self, tokenizer: Any, prompt: Prompt) -> list[int]:
        if self.settings.plain:
            return list(tokenizer(prompt[-1]["content"])["input_ids"])
        try:
            text = tokenizer.apply_chat_template(
                [dict(m) for m in prompt],
                add_generation_prompt=True,
                tokenize=False,
                **self.settings.template_options,
            )
        except Exception as error:
            raise DataError(f"the chat template of {self.name} refuses the messages: {error}") from error
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])


class EndpointModel:
    """A model behind an OpenAI-compatible address, ``POST /v1/chat/completions`` at temperature 0."""

    def __init__(self, name: str, settings: ModelSettings, context: Context) -> None:
        config = read_endpoint(settings.endpoint, f"model 'endpoint:{name}'")
        self.name, self._endpoint = name, Endpoint(config)
        self.identity = ["endpoint", config.url, name, dict(config.extra)]

    def answer(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Reply | Fault]:
        """Ask for several at a time; what fails is a fault of its own row."""

        def ask(prompt: Prompt) -> Reply | Fault:
            messages = [dict(m) for m in prompt]
            body = {"model": self.name, "messages": messages, "temperature": 0, "max_tokens": max_new_tokens}
            try:
                made = self._endpoint.post_json("chat/completions", body)
                choice = made["choices"][0]
                text, reason = choice["message"]["content"], choice.get("finish_reason")
            except DataError as error:
                return Fault("unanswered", str(error))
            except (KeyError, IndexError, TypeError, AttributeError):
                return Fault(
                    "unanswered", f"the server's answer has no choices with a message: {str(made)[:100]}"
                )
            return Reply(text or "", None if reason is None else reason != "length")

        return self._endpoint.each(ask, prompts)


class ServiceModel:
    """A model that the context's service "llm" makes; its ``answer(prompts, max_new_tokens)`` gives texts.

    If the service has a ``fingerprint``, it tells the answers of one version from those of another.
    """

    def __init__(self, name: str, settings: ModelSettings, context: Context) -> None:
        self.name, self._model = name, context.service("llm", name)

    @property
    def identity(self) -> list[Any]:
        return ["service", self.name, getattr(self._model, "fingerprint", None)]

    def answer(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Reply | Fault]:
        """Ask for all prompts at once."""
        return [Reply(text) for text in self._model.answer([list(p) for p in prompts], max_new_tokens)]


_ENGINES: dict[str, Any] = {"transformers": LocalModel, "endpoint": EndpointModel, "service": ServiceModel}
