"""SALMONN as a preset: its published files read and written, its parts checked, its turns and prompts.

Source: bytedance/SALMONN (branch salmonn, Apache-2.0). Where we differ: rows of a batch give what they give alone
(``audio_in.reference_padding`` and ``layout.reference_batch`` bring the published padding back), a recording of
more than 30 s is heard in pieces and not cut off, every row of a batch stops at its own ``</s>``, and the assistant
decodes greedily; ``generate`` of transformers searches with the published four beams.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, GenerationConfig, PreTrainedConfig

from vivavoce.base.errors import CheckpointError, ConfigError, ModelError
from vivavoce.models.config import EmbeddingsIn, SpeechLMConfig
from vivavoce.models.encoders.beats_weights import find
from vivavoce.models.encoders.beats_weights import read_checkpoint as read_beats
from vivavoce.models.encoders.references import encoder_record, hub_arguments
from vivavoce.models.presets.preset import EarsPreset, Imported, Sources
from vivavoce.models.presets.salmonn import sizes
from vivavoce.models.presets.salmonn.checkpoint import (
    PART_PATHS,
    Checkpoint,
    Shapes,
    our_name,
    read_checkpoint,
    shapes_of,
    their_name,
    weight_files,
)
from vivavoce.models.presets.salmonn.match import BEATS, PUBLISHED, WHISPER, WHISPER_SIZES, Match
from vivavoce.models.presets.salmonn.prompts import CLIP, INSTRUCTIONS, TURN, read_prompts
from vivavoce.models.presets.salmonn.tokenizer import load_tokenizer

FILE = "salmonn.pth"


class Salmonn(EarsPreset):
    """Whisper and BEATs, a window-level Q-Former, and Vicuna with adapters."""

    name = "salmonn"
    description = sizes.DESCRIPTION

    def recognises(self, path: Path) -> bool:
        return bool(weight_files(path)) if path.exists() else False

    def read(self, path: Path, sources: Sources, with_parts: bool = True, **weights: Any) -> Imported:
        from vivavoce.models.processor import SpeechProcessor
        from vivavoce.models.reading import assemble

        found = read_checkpoint(path)
        shapes, hub = shapes_of(found), hub_arguments(weights)
        parts = _parts(found, shapes, sources)
        match = Match(found.path, sources.accept_other)
        text_config = _text_config(parts["text_model"], hub)
        match.text_model(shapes, text_config, parts["text_model"])
        encoder = _encoder(shapes, parts, match, hub)
        match.raise_on_faults()
        tokenizer = load_tokenizer(sources.tokenizer or parts["text_model"], text_config.vocab_size, **hub)
        prompts, about_prompts = _prompts(sources.prompts)
        try:
            config = sizes.make_config(
                shapes,
                found.settings,
                text_config,
                encoder,
                placeholder=tokenizer.convert_tokens_to_ids(CLIP),
                text_model_ref=parts["text_model"],
                prompts=prompts,
            )
        except (ConfigError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"the settings of {found.path} cannot be used: {error}") from error
        tensors = {our_name(name): tensor for name, tensor in found.tensors.items()}
        model = assemble(config, tensors, str(found.path), with_parts=with_parts, **weights)
        model.generation_config = _decoding(tokenizer)
        notes = [*_about(found, config), *match.notes, *about_prompts]
        return Imported(model, SpeechProcessor.for_config(tokenizer, config), notes)

    def write(self, model: Any, processor: Any, folder: Path) -> list[Path]:
        config = model.config
        record = _own_record(config)
        tensors, unknown = {}, []
        for name, tensor in model.state_dict().items():
            theirs = their_name(name)
            if theirs is not None:
                tensors[theirs] = tensor
            elif ".lora_" in name or name.startswith("voice."):
                unknown.append(name)
        if unknown:
            raise ModelError(
                f"SALMONN's form has no place for {', '.join(sorted(unknown)[:5])}; merge adapters of the encoder "
                "first, or save in the own form."
            )
        absent = sorted(name for name, tensor in tensors.items() if tensor.is_meta)
        if absent:
            raise ModelError(f"{', '.join(absent[:5])} have no values; load the model with its weights.")
        folder.mkdir(parents=True, exist_ok=True)
        plain = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
        torch.save({"model": plain, "config": {"model": record}}, folder / FILE)
        return [folder / FILE]

    def full_size(self, variant: str) -> SpeechLMConfig:
        return sizes.full_size(variant)


def _parts(found: Checkpoint, shapes: Shapes, sources: Sources) -> dict[str, str]:
    """Where the frozen parts are: as given, as the checkpoint's settings say, or as published.

    Raises:
        ModelError: One that is not published under a known name is not given.
    """
    published = PUBLISHED.get(shapes.text_size)
    fallback = {"text_model": published.text_model if published else None, "encoder": WHISPER}
    parts = {}
    for setting, name in PART_PATHS.items():
        if name == "sound_encoder" and not shapes.sound_size:
            continue
        chosen = getattr(sources, name) or found.settings.get(setting) or fallback.get(name)
        if not chosen:
            raise ModelError(_MISSING[name].format(path=found.path, size=shapes.text_size))
        path = Path(chosen).expanduser()
        parts[name] = str(path.resolve()) if path.exists() else str(chosen)
    return parts


_MISSING = {
    "text_model": (
        "{path} belongs to a language model of width {size}, which is no published SALMONN; say which: "
        "text_model=... (--llm), a folder or hub id."
    ),
    "sound_encoder": (
        "{path} does not hold BEATs, and it is on no model hub under a fixed name: get "
        f"{BEATS} from the page of BEATs (microsoft/unilm) and give it as sound_encoder=... (--sound-encoder)."
    ),
}


def _text_config(reference: str, hub: dict[str, Any]) -> PreTrainedConfig:
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(reference, **hub)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the language model {reference!r} cannot be had: {str(error).splitlines()[0]} Without a network, "
            "download it elsewhere and give its folder as text_model=... (--llm)."
        ) from error
    return config


def _encoder(shapes: Shapes, parts: Mapping[str, str], match: Match, hub: dict[str, Any]) -> dict[str, Any]:
    """The record of the ears; the parts' sizes are compared with what the checkpoint needs."""
    if parts["encoder"] == WHISPER:
        speech = {"type": "whisper", "model": dict(WHISPER_SIZES), "ref": WHISPER}
    else:
        speech = encoder_record(parts["encoder"], **hub)
    match.encoder(shapes, speech, parts["encoder"])
    speech = sizes.whisper_record(speech) if speech["type"] == "whisper" else speech
    if not shapes.sound_size:
        return speech
    beats = read_beats(find(parts["sound_encoder"], None, hub)).config
    match.sound_encoder(shapes, beats, parts["sound_encoder"])
    return {"type": "dual", "first": speech, "second": sizes.beats_record(beats, parts["sound_encoder"])}


def _prompts(path: str | None) -> tuple[dict[str, str], list[str]]:
    """Task -> instruction, and what to say about the file they come from."""
    if path is None:
        return dict(INSTRUCTIONS), []
    given = read_prompts(path)
    instructions = given.instructions()
    notes = [f"Prompts for {len(instructions)} tasks are from {path}; the first of each is kept."]
    if given.dropped:
        notes.append(f"{given.dropped} prompts without {CLIP} were left out.")
    lost = sorted(given.tasks.keys() - instructions.keys())
    if lost:
        notes.append(f"Prompts with text before the clip were left out: {', '.join(lost)}.")
    return {**INSTRUCTIONS, **instructions}, notes


def _decoding(tokenizer: Any) -> GenerationConfig:
    """What ``generate`` of transformers does unless told otherwise: the published decoding."""
    return GenerationConfig(
        num_beams=sizes.BEAMS,
        do_sample=False,
        max_new_tokens=sizes.SAMPLING["max_new_tokens"],
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _about(found: Checkpoint, config: SpeechLMConfig) -> list[str]:
    """What was left out and what was assumed."""
    notes = []
    if found.ignored:
        notes.append(
            f"{len(found.ignored)} buffers were left out, as they are computed or belong to the frozen parts."
        )
    if found.extras:
        notes.append(f"Not kept: {', '.join(found.extras)}.")
    lora = config.lora.get("language_model")
    if lora is None:
        notes.append("The checkpoint has no adapters.")
    else:
        told = "as its settings say" if "lora_alpha" in found.settings else "as published; no tensor tells it"
        notes.append(f"The adapters have alpha {lora.alpha:g}, {told}.")
    return notes


def _own_record(config: SpeechLMConfig) -> dict[str, Any]:
    """Settings of a model under the published names.

    Raises:
        ModelError: The published form does not know such a model.
    """
    ears = config.audio_in
    kinds: Any = (None, None, None)
    if isinstance(ears, EmbeddingsIn):
        speech = ears.encoder.get("first", ears.encoder)
        kinds = (ears.connector["type"], speech["type"], ears.encoder.get("second", {}).get("type", "beats"))
    if kinds != ("qformer", "whisper", "beats"):
        raise ModelError(
            f"SALMONN's form holds a Q-Former on Whisper and BEATs, this model has {', '.join(map(str, kinds))}; "
            "save it in the own form."
        )
    if config.text_model_ref is None:
        raise ModelError(
            "SALMONN's form does not hold a language model, and this one is stored with its own (merged or trained "
            "weights); set config.text_model_ref to where it is, or save in the own form."
        )
    assert isinstance(ears, EmbeddingsIn)
    connector, lora = ears.connector, config.lora.get("language_model")
    adapters = (
        {"lora_rank": lora.rank, "lora_alpha": lora.alpha, "lora_dropout": lora.dropout} if lora else {}
    )
    sound = ears.encoder.get("second", {}).get("ref")
    try:
        return {
            "llama_path": config.text_model_ref,
            "whisper_path": speech.get("ref") or "",
            "beats_path": sound or "",
            "use_speech_Qformer": True,
            "num_speech_query_token": connector["num_queries"],
            "window_level_Qformer": connector["windowed"],
            "second_per_window": connector["window_s"],
            "second_stride": connector["stride_s"],
            "bert": {
                "num_attention_heads": connector["num_heads"],
                "layer_norm_eps": connector["layer_norm_eps"],
            },
            "lora": lora is not None,
            **adapters,
            "multi_prompt": True,
            "prompt_template": TURN,
            "end_sym": "</s>",
        }
    except KeyError as error:
        raise ConfigError(
            f"the connector's record lacks {error}; read the model with this version again."
        ) from error


SALMONN = Salmonn()
