"""New ears and a new voice for a language model: published parts side by side, to be trained together."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from vivavoce.base.errors import ConfigError
from vivavoce.codecs.loading import load_codec
from vivavoce.models import CONNECTORS, ENCODERS
from vivavoce.models.config import EmbeddingsIn, Lora, SpeechLMConfig, TokensIn, TokensOut, build_part
from vivavoce.models.encoders.references import encoder_record, feature_settings
from vivavoce.models.processor import SpeechProcessor
from vivavoce.models.speech_lm import SpeechLM
from vivavoce.models.weights import load_text_model
from vivavoce.tokens.vocabulary import extend_vocabulary

AUDIO_TOKEN = "<|audio|>"


@dataclass(frozen=True, kw_only=True)
class CodecSide:
    """Codec tokens in the vocabulary, to hear or to speak.

    Attributes:
        codec: Registry name, folder or hub id.
        layout: Name in LAYOUTS.
        style: Spelling of the tokens; None for the layout's usual.
        prompt: Of a side that speaks: "chat", or "orpheus" for a model that only reads aloud.
        speakers: Names that a side that speaks knows.
        transcribe_prompt: Of a side that hears: what asks for a transcript.
    """

    codec: str
    layout: str = "orpheus"
    style: str | None = None
    prompt: Literal["chat", "orpheus"] = "chat"
    speakers: tuple[str, ...] = ()
    transcribe_prompt: str = ""


def with_ears(
    llm: str | Path,
    encoder: str | Path | Mapping[str, Any],
    connector: Mapping[str, Any] | None = None,
    lora: Mapping[str, Lora | dict[str, Any]] | None = None,
    audio_token: str = AUDIO_TOKEN,
    seed: int = 0,
    **weights: Any,
) -> tuple[SpeechLM, SpeechProcessor]:
    """Give a language model ears by embeddings; ``compose`` with no codec."""
    return compose(llm, encoder, connector, lora=lora, audio_token=audio_token, seed=seed, **weights)


def compose(
    llm: str | Path,
    encoder: str | Path | Mapping[str, Any] | None = None,
    connector: Mapping[str, Any] | None = None,
    *,
    hears: CodecSide | None = None,
    speaks: CodecSide | None = None,
    lora: Mapping[str, Lora | dict[str, Any]] | None = None,
    audio_token: str = AUDIO_TOKEN,
    template: str | None = None,
    init: str = "mean",
    pad_rows_to: int | None = None,
    seed: int = 0,
    random_weights: bool = False,
    shapes_only: bool = False,
    **weights: Any,
) -> tuple[SpeechLM, SpeechProcessor]:
    """Give a language model ears, a voice, or both.

    Language model and encoder are frozen and stay where they are: saving the model writes the connector, adapters
    and the names of the two. New tokens of a codec are rows of the language model, which is then to be trained and
    stored.

    Args:
        llm: Folder or hub id of any causal language model with a chat template.
        encoder: Folder or hub id of a speech encoder, or a record for the table ENCODERS (two encoders:
            ``{"type": "dual", "first": ..., "second": ...}``); None for no ears by embeddings.
        connector: ``{"type": name in CONNECTORS, ...}``; sizes that are not given follow from encoder and language
            model. Default: the stack projector as in Ultravox v0.5.
        hears: Ears by codec tokens, instead of an encoder.
        speaks: A voice by codec tokens; one codec and layout on both sides share their tokens.
        lora: Adapters, as in ``SpeechLMConfig.lora``.
        audio_token: The placeholder; added to the tokenizer if it is not there, the language model's rows stay as
            they are.
        template: Chat template (Jinja source), instead of the tokenizer's own.
        init: Filling of new rows, see ``embedding_rows.grow_embeddings``.
        pad_rows_to: Round the rows of a grown vocabulary up to a multiple.
        seed: Of first values of connector, adapters and new rows.
        random_weights: Make the language model from its config alone.
        shapes_only: Load no weights; the model is on the meta device, to count what it would take.
        weights: Arguments of ``from_pretrained`` for the language model (dtype, device_map, quantization_config).

    Returns:
        ``(model, processor)``, in evaluation mode; only connector and adapters require gradients.

    Raises:
        ConfigError: Parts that do not fit.
        ModelError: A part that is not there.
        CheckpointError: Weights that do not fit their config.
    """
    from transformers import AutoTokenizer

    if encoder is not None and hears is not None:
        raise ConfigError("give an encoder or a codec to hear by, one of the two.")
    record = (
        None
        if encoder is None
        else dict(encoder)
        if isinstance(encoder, Mapping)
        else encoder_record(encoder)
    )
    place = torch.device("meta") if shapes_only else nullcontext()
    if random_weights or shapes_only:
        with place:
            text_model = _random_text_model(llm, seed, **weights)
    else:
        text_model = load_text_model(llm, **weights)
    tokenizer = AutoTokenizer.from_pretrained(llm)
    tokenizer.chat_template = template or getattr(tokenizer, "chat_template", None)
    if not tokenizer.chat_template:
        raise ConfigError(
            f"the tokenizer of {llm} has no chat template; set one and save it, or take a chat model."
        )
    vocabularies = _grow(tokenizer, text_model, [hears, speaks], init, pad_rows_to, seed)
    audio_in: Any = None
    if record is not None:
        if audio_token not in tokenizer.get_vocab():
            tokenizer.add_tokens([audio_token], special_tokens=True)
        audio_in = EmbeddingsIn(
            encoder=record,
            connector=_sized(dict(connector or {"type": "stack"}), record, text_model.config),
            audio_token_id=tokenizer.get_vocab()[audio_token],
            features=feature_settings(record),
            shortest_samples=320,
            text_apart=True,
        )
    elif hears is not None:
        audio_in = TokensIn(
            codec=hears.codec, vocabulary=vocabularies[hears], transcribe_prompt=hears.transcribe_prompt
        )
    audio_out = None
    if speaks is not None:
        audio_out = TokensOut(
            codec=speaks.codec,
            vocabulary=vocabularies[speaks],
            prompt=speaks.prompt,
            speakers=speaks.speakers,
        )
    config = SpeechLMConfig(
        text_config=text_model.config,
        audio_in=audio_in,
        audio_out=audio_out,
        text_model_ref=None if vocabularies or random_weights else str(llm),
        lora=dict(lora or {}),
    )
    with torch.random.fork_rng(devices=[]), place:
        torch.manual_seed(seed)
        model = SpeechLM(config, text_model=text_model)
    if record is not None and not shapes_only:
        for prefix in getattr(model.audio_encoder, "references", dict)():  # others have none
            model.audio_encoder.load_reference(prefix)
        model.audio_encoder.to(model.device)
        model.connector.to(model.device)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("connector.") or ".lora_" in name)
    return model.eval(), SpeechProcessor.for_config(tokenizer, config)


def _random_text_model(llm: str | Path, seed: int, dtype: Any = None, **_: Any) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(llm), dtype=dtype)


def _grow(
    tokenizer: Any,
    text_model: Any,
    sides: list[CodecSide | None],
    init: str,
    pad_rows_to: int | None,
    seed: int,
) -> dict[CodecSide, dict[str, Any]]:
    """Add the tokens of codecs to tokenizer and language model; the record of each side."""
    grown: dict[tuple[str, str], dict[str, Any]] = {}
    made: dict[CodecSide, dict[str, Any]] = {}
    for side in filter(None, sides):
        key = (side.codec, side.layout)
        if key not in grown:
            spec = load_codec(side.codec).spec
            grown[key] = extend_vocabulary(
                tokenizer, text_model, codec_spec=spec, layout=side.layout, style=side.style, init=init, seed=seed,
                pad_to_multiple_of=pad_rows_to,
            ).to_dict()  # fmt: skip
        made[side] = grown[key]
    return made


def _sized(connector: dict[str, Any], encoder: dict[str, Any], text_config: Any) -> dict[str, Any]:
    """A connector's record with the widths of its neighbours."""
    inner = getattr(text_config, "text_config", text_config)
    with torch.device("meta"):
        built = build_part(ENCODERS, encoder, "encoder")
    connector.setdefault("type", "stack")
    connector.setdefault("text_size", inner.hidden_size)
    if connector["type"] == "qformer":
        connector.setdefault("streams", list(getattr(built, "streams", [built.hidden_size])))
    else:
        connector.setdefault("encoder_size", built.hidden_size)
    with torch.device("meta"):
        build_part(CONNECTORS, connector, "connector")  # says now what does not fit
    return connector
