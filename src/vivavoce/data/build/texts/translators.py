"""Translation: sequence-to-sequence models of transformers, or any language model by a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from vivavoce.base.errors import ConfigError
from vivavoce.data.build.contract import Context, Fault
from vivavoce.data.build.speech.languages import find_spelling, language_name, primary
from vivavoce.data.build.texts.language_models import (
    CachedModel,
    ModelSettings,
    Prompt,
    Reply,
    make_language_model,
)
from vivavoce.data.build.texts.local_models import identity, load, load_weights, write_greedily

INSTRUCTION = (
    "Translate this text from {source} to {target}. Answer with the translation and nothing else.\n\n{text}"
)


@dataclass(frozen=True)
class Pair:
    """From which language to which.

    Attributes:
        source, target: Codes as in rows.
        source_code, target_code: The model's own codes, where they cannot be found from these.
    """

    source: str
    target: str
    source_code: str | None = None
    target_code: str | None = None


class Translator(Protocol):
    """Translates texts; a translation does not depend on the others."""

    def translate(self, texts: Sequence[str], max_new_tokens: int) -> list[Reply | Fault]:
        """As many results as texts, in order."""


def make_translator(name: str, pair: Pair, settings: ModelSettings, context: Context) -> Translator:
    """Make a translator; models are loaded when first asked.

    Raises:
        ConfigError: The name is wrong, a server's settings are missing, or the model does not know a language.
        ModelError: There is no such model.
    """
    engine, _, rest = name.partition(":")
    if engine == "transformers" and load("AutoConfig", rest).is_encoder_decoder:
        return ByModel(CachedModel(SequenceModel(rest, pair, settings, context), context))
    return ByPrompt(make_language_model(name, settings, context), pair)


class ByPrompt:
    """A language model that is asked to translate."""

    def __init__(self, model: CachedModel, pair: Pair) -> None:
        self._model, self._pair = model, pair

    def translate(self, texts: Sequence[str], max_new_tokens: int) -> list[Reply | Fault]:
        names = {"{source}": language_name(self._pair.source), "{target}": language_name(self._pair.target)}
        before = INSTRUCTION.removesuffix("{text}")
        for place, value in names.items():
            before = before.replace(place, value)
        return self._model.answer(
            [[{"role": "user", "content": before + text}] for text in texts], max_new_tokens
        )


class ByModel:
    """A model that does nothing but translate."""

    def __init__(self, model: CachedModel) -> None:
        self._model = model

    def translate(self, texts: Sequence[str], max_new_tokens: int) -> list[Reply | Fault]:
        return self._model.answer([[{"role": "user", "content": text}] for text in texts], max_new_tokens)


class SequenceModel:
    """An encoder-decoder model of transformers (Marian, NLLB, M2M-100, mBART-50, SeamlessM4T), greedy.

    Raises:
        ConfigError: It does not know a language.
    """

    def __init__(self, name: str, pair: Pair, settings: ModelSettings, context: Context) -> None:
        self.name, self.pair, self.settings, self.device = name, pair, settings, context.device
        codes = [pair.source, pair.target, pair.source_code, pair.target_code]
        self._identity = ["seq2seq", identity(name), settings.dtype, codes]
        self._tokenizer = load("AutoTokenizer", name)
        self._prefix, self._options = prepare_languages(name, self._tokenizer, pair)

    @property
    def identity(self) -> list[Any]:
        return self._identity

    @cached_property
    def _model(self) -> Any:
        return load_weights("AutoModelForSeq2SeqLM", self.name, self.settings.dtype, self.device)

    def answer(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Reply | Fault]:
        """Translate the last message of each prompt, all in one batch; too long ones are faults.

        Raises:
            ModelError: The model cannot be loaded.
        """
        tokenizer, model = self._tokenizer, self._model
        texts = [self._prefix + prompt[-1]["content"] for prompt in prompts]
        longest = getattr(model.config, "max_position_embeddings", None) or tokenizer.model_max_length
        sizes = [len(tokenizer(text)["input_ids"]) for text in texts]
        fits = [i for i, size in enumerate(sizes) if size <= longest]

        def prepare(numbers: Sequence[int]) -> dict[str, Any]:
            chosen = [texts[fits[i]] for i in numbers]
            inputs = tokenizer(chosen, padding=True, padding_side="right", return_tensors="pt").to(
                model.device
            )
            return {
                "input_ids": inputs["input_ids"],
                "attention_mask": inputs["attention_mask"],
                **self._options,
            }

        room = min(max_new_tokens, longest - 1)
        written = write_greedily(model, prepare, len(fits), room, self.settings.dtype)
        found = dict(zip(fits, written, strict=True))
        return [
            Reply(tokenizer.decode(found[i].ids, skip_special_tokens=True), found[i].finished)
            if i in found
            else Fault(
                "too_long", f"the text has {size} tokens, at most {longest} are translated", filtered=True
            )
            for i, size in enumerate(sizes)
        ]


def prepare_languages(name: str, tokenizer: Any, pair: Pair) -> tuple[str, dict[str, Any]]:
    """Tell a model's tokenizer the source language, and find out how the model is told the target.

    Returns:
        What goes before each text, and options of ``generate``.

    Raises:
        ConfigError: The model does not know a language, or was made for another pair.
    """
    kind = load("AutoConfig", name).model_type
    if kind == "marian":
        return _marian(tokenizer, pair), {}
    if kind.startswith("seamless_m4t"):
        targets = getattr(load("GenerationConfig", name), "text_decoder_lang_to_code_id", {})
        known = {c.removeprefix("__").removesuffix("__") for c in tokenizer.get_vocab() if c.startswith("__")}
        tokenizer.src_lang = pair.source_code or find_spelling(pair.source, known, "source")
        return "", {"tgt_lang": pair.target_code or find_spelling(pair.target, targets, "target")}
    if not hasattr(tokenizer, "src_lang"):
        raise ConfigError(
            f"how a {kind} model is told its languages is unknown; wanted Marian, NLLB, M2M-100, mBART-50 or "
            "SeamlessM4T."
        )
    if hasattr(tokenizer, "lang_code_to_token"):  # M2M-100 writes "__en__" for "en"
        codes = {code: tokenizer.get_lang_id(code) for code in tokenizer.lang_code_to_token}
    else:
        vocabulary = tokenizer.get_vocab()
        codes = {token: vocabulary[token] for token in tokenizer.all_special_tokens if token in vocabulary}
    tokenizer.src_lang = pair.source_code or find_spelling(pair.source, codes, "source")
    target = pair.target_code or find_spelling(pair.target, codes, "target")
    if target not in codes:
        raise ConfigError(f"the model does not know target_code {target!r}.")
    return "", {"forced_bos_token_id": codes[target]}


def _marian(tokenizer: Any, pair: Pair) -> str:
    """The prefix that chooses the target of a Marian model with several; checks the pair of one with a single."""
    several = {code.strip("<>") for code in tokenizer.supported_language_codes}
    for code, made_for, what in (
        (pair.source, tokenizer.source_lang, "source"),
        (pair.target, tokenizer.target_lang, "target"),
    ):
        single = (
            made_for if made_for and len(made_for) <= 3 else None
        )  # else a group of languages, such as "roa"
        if single and not (what == "target" and several) and primary(single) != primary(code):
            raise ConfigError(
                f"the model translates {tokenizer.source_lang} to {tokenizer.target_lang}, not {what} {code!r}."
            )
    if not several:
        return ""
    return f">>{pair.target_code or find_spelling(pair.target, several, 'target')}<< "
