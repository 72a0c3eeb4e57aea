"""Models in the form that other engines serve: a plain causal LM, and a record of what its audio tokens mean.

vLLM runs any causal LM that transformers knows, whatever its tokens stand for, and gives token ids. The codec, the
order of the codes and the prompts stay on our side; ``vivavoce.json`` beside the weights says what they are.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from vivavoce.base.errors import ModelError
from vivavoce.models.config import EmbeddingsIn, SpeechLMConfig, TokensOut
from vivavoce.models.conversation import answer_ends
from vivavoce.models.presets.ultravox.words import save_tokenizer
from vivavoce.models.processor import SpeechProcessor

FORM = "vllm"
RECORD = "vivavoce.json"
_FIELDS = ("audio_in", "audio_out", "text_form", "refusal_text", "sampling", "description")
# sampling options that vLLM takes from generation_config.json
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


class PlainForm:
    """Writes models whose audio is tokens of the vocabulary, on either side, as what they are: a causal LM."""

    name = FORM

    def check(self, config: SpeechLMConfig) -> None:
        """Refuse what a causal LM alone cannot be.

        Raises:
            ModelError: The model has more parts; says what can be done with it.
        """
        mouth = config.audio_out
        aligned = isinstance(mouth, TokensOut) and mouth.alignment != "none"
        if not aligned and not isinstance(config.audio_in, EmbeddingsIn):
            return
        seen = "its aligned voice is a part of its own" if aligned else "it hears by embeddings and speaks"
        raise ModelError(
            f"vLLM cannot serve this model: {seen}. vLLM serves models whose audio is tokens of the vocabulary "
            "(codec tokens in or out), and Ultravox's form. Serve it with `vivavoce serve MODEL`, with `--replicas N` "
            "for more callers."
        )

    def write(self, model: Any, processor: SpeechProcessor, folder: Path) -> list[Path]:
        """Write weights, tokenizer, ends, our record and a codec that lies in the model's folder.

        Raises:
            ModelError: As ``check``; or adapters that are not merged yet.
        """
        self.check(model.config)
        if model.config.lora:
            raise ModelError("a plain language model has no adapters; call merge_lora(model) first.")
        ends = sorted(answer_ends(model, processor))
        folder.mkdir(parents=True, exist_ok=True)
        text_model = model.language_model
        text_model.generation_config = _generation(model.config, processor, ends)
        text_model.save_pretrained(folder)
        _write_for_older_readers(folder / "config.json")
        save_tokenizer(processor.tokenizer, folder, processor.template)
        for side in (processor.ears, processor.mouth):
            name = getattr(side, "codec", "")
            inside = Path(processor.folder) / name
            if processor.folder and name and not Path(name).is_absolute() and inside.is_dir():
                shutil.copytree(inside, folder / name, dirs_exist_ok=True)
        record = {name: model.config.to_dict()[name] for name in _FIELDS}
        _write_json(folder / RECORD, record)
        return sorted(path for path in folder.rglob("*") if path.is_file())


PLAIN = PlainForm()


def read_record(folder: Path, text_config: Any) -> SpeechLMConfig | None:
    """The speech LM that a handed-off causal LM is; None if the folder has no record.

    Raises:
        ModelError: The record cannot be read.
    """
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        fields = {name: found[name] for name in _FIELDS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} cannot be read ({error}); export the model again.") from error
    return SpeechLMConfig(text_config=text_config, **fields)


def _generation(config: SpeechLMConfig, processor: SpeechProcessor, ends: list[int]) -> GenerationConfig:
    """Ends and sampling as vLLM takes them for callers who say nothing."""
    mouth, vocabulary = config.audio_out, processor.vocabulary_out
    if isinstance(mouth, TokensOut) and mouth.prompt == "orpheus" and vocabulary is not None:
        ends = [vocabulary.end_id]  # reading aloud ends with the audio, and only there
    given = {name: config.sampling[name] for name in _SAMPLING if name in config.sampling}
    made = GenerationConfig(eos_token_id=ends, bos_token_id=processor.tokenizer.bos_token_id)
    made.pad_token_id = processor.tokenizer.pad_token_id
    if "max_new_tokens" in config.sampling:
        made.max_new_tokens = config.sampling["max_new_tokens"]
    if given.get("temperature", 0):
        made.do_sample = True
        for name, value in given.items():
            setattr(made, name, value)
    elif "repetition_penalty" in given:
        made.repetition_penalty = given["repetition_penalty"]
    return made


def _write_for_older_readers(path: Path) -> None:
    """Say the rotary embedding and the dtype also as transformers 4 reads them, which vLLM may run on.

    It would otherwise take theta 10,000 in silence.
    """
    fields = json.loads(path.read_text(encoding="utf-8"))
    rope = fields.get("rope_parameters")
    if isinstance(rope, dict) and "rope_theta" in rope:
        fields.setdefault("rope_theta", rope["rope_theta"])
        if rope.get("rope_type", "default") != "default":
            fields.setdefault("rope_scaling", {k: v for k, v in rope.items() if k != "rope_theta"})
    if "dtype" in fields:
        fields.setdefault("torch_dtype", fields["dtype"])
    _write_json(path, fields)


def _write_json(path: Path, fields: dict[str, Any]) -> None:
    path.write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
