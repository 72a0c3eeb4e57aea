"""Tokenizer and prompts of an Ultravox model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import AddedToken, AutoTokenizer

from vivavoce.base.errors import ConfigError, ModelError
from vivavoce.codecs.folders import quiet_transformers
from vivavoce.models.presets.preset import Sources
from vivavoce.models.presets.ultravox.fields import AUDIO_TOKEN
from vivavoce.models.presets.ultravox.parts import Place

# Ultravox learned to answer speech as text; such instructions are followed by the language model itself
PROMPTS = {
    "asr": "Repeat word for word what is said here, and write nothing else: ",
    "translate": "Translate what is said here into {}, and write nothing else: ",
    "continue": "Continue what is said here, in fewer than fifty words: ",
}

_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")


def read_tokenizer(folder: Path, text_model: Place, sources: Sources) -> Any:
    """The tokenizer with ``<|audio|>``: as the caller says, the checkpoint's own, or the language model's.

    The token is added to the tokenizer alone, after its last one; the language model never sees it.

    Raises:
        ModelError: There is none, or it has no end of sequence.
    """
    own = str(folder) if any((folder / name).is_file() for name in _FILES) else None
    place = sources.tokenizer or own or text_model.at
    if place is None:
        raise ModelError(
            f"{folder} has no tokenizer and does not name its language model; say where the tokenizer is "
            "(tokenizer, --tokenizer)."
        )
    try:
        with quiet_transformers():  # it does not know the model type of the config.json beside
            tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the tokenizer of {place!r} cannot be read ({str(error).splitlines()[0]}); say where there is one "
            "(tokenizer, --tokenizer)."
        ) from error
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"the tokenizer of {place!r} has no end of sequence (eos_token), which Ultravox needs."
        )
    if AUDIO_TOKEN not in tokenizer.get_vocab():
        tokenizer.add_tokens([AddedToken(AUDIO_TOKEN, special=True, normalized=False)], special_tokens=True)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def save_tokenizer(tokenizer: Any, folder: Path, template: str | None) -> list[Path]:
    """Write a tokenizer so that transformers 4 reads it too, which Ultravox's own code and vLLM may run on.

    Args:
        tokenizer: Not changed.
        folder: Where to.
        template: The chat template to store instead of the tokenizer's own, if any.

    Returns:
        The files.
    """
    before = tokenizer.chat_template
    try:
        tokenizer.chat_template = template or before
        saved = [Path(name) for name in tokenizer.save_pretrained(folder)]
    finally:
        tokenizer.chat_template = before
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    if settings.get("tokenizer_class") == "TokenizersBackend":  # the name since transformers 5
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(settings.get("extra_special_tokens"), list):
        settings["additional_special_tokens"] = settings.pop("extra_special_tokens")
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return [path for path in saved if path.is_file()]


def read_prompts(path: str | None) -> dict[str, str]:
    """Prompts of a JSON file, task -> prompt; none for no file.

    Raises:
        ConfigError: It cannot be read, or is of another form.
    """
    if path is None:
        return {}
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"the prompts {path} cannot be read: {str(error).splitlines()[0]}.") from error
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise ConfigError(f"the prompts {path} are no JSON object of task -> prompt.")
    return found
