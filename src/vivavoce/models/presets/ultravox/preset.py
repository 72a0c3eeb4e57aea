"""Ultravox v0.3 to v0.7 and checkpoints of its training code: read, written, and by size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from vivavoce.base.errors import ModelError
from vivavoce.models.config import EmbeddingsIn, SpeechLMConfig
from vivavoce.models.presets.preset import EarsPreset, Imported, Sources
from vivavoce.models.presets.ultravox import export
from vivavoce.models.presets.ultravox.checkpoint import read_checkpoint, write_weights
from vivavoce.models.presets.ultravox.fields import (
    AUDIO_TOKEN,
    SHORTEST_SAMPLES,
    config_file,
    connector_record,
    encoder_from_config,
    features_of,
    is_ultravox,
    read_fields,
)
from vivavoce.models.presets.ultravox.sizes import WHISPERS, find_release, known_text_config
from vivavoce.models.presets.ultravox.words import (
    PROMPTS,
    read_prompts,
    read_tokenizer,
    save_tokenizer,
)
from vivavoce.models.processor import SpeechProcessor
from vivavoce.models.reading import assemble

SAMPLING = {"max_new_tokens": 512}


class Ultravox(EarsPreset):
    """Whisper's encoder and a stack-and-project connector beside a frozen language model."""

    name = "ultravox"
    description = "Whisper ears for Llama, Mistral, Gemma, Qwen and others (Ultravox v0.3 to v0.7)"

    def recognises(self, path: Path) -> bool:
        return is_ultravox(path)

    def read(self, path: Path, sources: Sources, with_parts: bool = True, **weights: Any) -> Imported:
        theirs, folder = read_fields(path), config_file(path).parent
        checkpoint = read_checkpoint(folder, theirs, sources)
        tokenizer = read_tokenizer(folder, checkpoint.text_place, sources)
        token = int(tokenizer.convert_tokens_to_ids(AUDIO_TOKEN))
        prompts = {**PROMPTS, **read_prompts(sources.prompts)}
        ears = EmbeddingsIn(
            encoder=checkpoint.encoder,
            connector=checkpoint.connector,
            audio_token_id=token,
            features=features_of(checkpoint.encoder),
            shortest_samples=SHORTEST_SAMPLES,
            text_apart=True,
            transcribe_prompt=prompts["asr"],
            prompts=prompts,
        )
        config = SpeechLMConfig(
            text_config=checkpoint.text_config,
            audio_in=ears,
            text_model_ref=checkpoint.text_model_ref,
            lora=dict(checkpoint.lora),
            sampling=SAMPLING,
            description=self.description,
            published=checkpoint.published,
        )
        weights.setdefault("dtype", "auto")
        model = assemble(
            config,
            checkpoint.tensors,
            str(folder),
            with_parts=with_parts,
            folder=folder,
            accept_other=sources.accept_other,
            **weights,
        )
        _set_ends(model, tokenizer, folder)
        notes = list(checkpoint.notes)
        said = theirs.get("audio_token_index")
        if said not in (None, token, 32_000):
            notes.append(
                f"config.json says audio_token_index {said}; the tokenizer has {AUDIO_TOKEN} at {token}."
            )
        return Imported(model, SpeechProcessor.for_config(tokenizer, model.config), notes)

    def write(self, model: Any, processor: Any, folder: Path) -> list[Path]:
        ears = export.refuse_what_does_not_fit(model.config)
        tokenizer = processor.tokenizer
        if tokenizer.eos_token_id is None:
            raise ModelError(
                "the tokenizer has no end of sequence, with which Ultravox fills the places of audio."
            )
        folder.mkdir(parents=True, exist_ok=True)
        dtype = next(model.connector.parameters()).dtype
        config, written = write_weights(model, folder)
        fields = export.config_fields(config, tokenizer, dtype)
        written.append(export.write_json(folder / "config.json", fields))
        written += export.write_processor(folder, ears, fields)
        if model.generation_config is not None:
            model.generation_config.save_pretrained(folder)
            written.append(folder / "generation_config.json")
        return [*written, *save_tokenizer(tokenizer, folder, processor.template)]

    def full_size(self, variant: str) -> SpeechLMConfig:
        release = find_release(variant)
        theirs = {"audio_config": dict(WHISPERS[release.encoder]), "projector_ln_mid": release.norm_mid}
        text_config, encoder = known_text_config(release.text_model), encoder_from_config(theirs)
        assert text_config is not None
        width = encoder["model"]["d_model"]
        connector = connector_record(theirs, encoder, width, text_config.hidden_size)
        if not release.holds_encoder:
            encoder = {**encoder, "ref": release.encoder}
        return SpeechLMConfig(
            text_config=text_config,
            audio_in=EmbeddingsIn(
                encoder=encoder,
                connector=connector,
                audio_token_id=release.audio_token_id,
                features=features_of(encoder),
                shortest_samples=SHORTEST_SAMPLES,
                text_apart=True,
                transcribe_prompt=PROMPTS["asr"],
                prompts=PROMPTS,
            ),
            text_model_ref=None if release.holds_text_model else release.text_model,
            sampling=SAMPLING,
            description=self.description,
        )


def _set_ends(model: Any, tokenizer: Any, folder: Path) -> None:
    """Stop at every end that checkpoint, language model and tokenizer know, and at the end of a turn."""
    if model.generation_config is None:
        model.generation_config = GenerationConfig()
    own = GenerationConfig.from_pretrained(folder) if (folder / "generation_config.json").is_file() else None
    ends: set[int] = {int(tokenizer.eos_token_id)}
    for source in (model.config.text_config, model.generation_config, own):
        found: Any = getattr(source, "eos_token_id", None)
        ends |= set(found) if isinstance(found, list | tuple) else {found} - {None}
    turn = tokenizer.get_vocab().get("<|eot_id|>")
    model.generation_config.eos_token_id = sorted(ends | ({turn} - {None}))
    if model.generation_config.pad_token_id is None:
        model.generation_config.pad_token_id = int(tokenizer.eos_token_id)


ULTRAVOX = Ultravox()
