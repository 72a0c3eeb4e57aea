"""What model folders hold, read from their configs and the headers of their weights; nothing is loaded."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

from vivavoce.base.errors import CheckpointError, ModelError

MOST_HEADER_BYTES = 100 << 20


def model_facts(name: str) -> dict[str, Any]:
    """Parts with parameter counts, how the model hears and speaks, licence and size.

    Args:
        name: "nano", a folder, or a hub id that is in the hub cache.

    Raises:
        ModelError: It is not here, or is not a model.
        CheckpointError: A weight file cannot be read.
    """
    from vivavoce.models.loading import MODEL_TYPE

    folder = _folder(name)
    config = _read_json(folder / "config.json")
    own = config.get("model_type") == MODEL_TYPE
    published = None if own else _published_sides(folder)
    parts, dtypes = _parts(folder, own or published is not None)
    facts: dict[str, Any] = {
        "kind": "model",
        "name": name,
        "folder": str(folder),
        "type": config.get("model_type"),
        "description": config.get("description") or None,
        "parameters": sum(parts.values()) or None,
        "parts": parts,
        "stored_as": sorted(dtypes),
        "text_model": _text_model(config.get("text_config") or config),
        "text_weights": config.get("text_model_ref") or "in the folder",
    }
    facts |= _sides(config) if own else published or _tokenizer_sides(folder)
    if (folder / "codec").is_dir():
        facts["codec"] = _codec_line(folder / "codec")
    return facts | {"licence": _licence(folder, config), "size_mb": size_mb(folder)}


def _folder(name: str) -> Path:
    """Where a model lies; hub ids are looked up in the cache only.

    Raises:
        ModelError: It is nowhere.
    """
    from vivavoce.models.loading import EMBEDDED, find_folder

    if name in EMBEDDED or Path(name).expanduser().exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return find_folder(name)
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json")
    if not isinstance(found, str):
        raise ModelError(
            f"{name!r} is neither a folder here nor in the hub cache (config.json is missing). Run "
            f"`hf download {name}` where there is a network, then give this name or the folder it prints."
        )
    return Path(found).parent


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}.") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} holds a {type(found).__name__}, wanted a JSON object.")
    return found


def _parts(folder: Path, apart: bool) -> tuple[dict[str, int], set[str]]:
    """Stored parameters of each part, and their dtypes, from the headers of the safetensors files.

    Args:
        folder: With the files.
        apart: Names of tensors begin with that of their part; otherwise all is the language model.
    """
    counts: Counter[str] = Counter()
    dtypes: set[str] = set()
    for path in sorted(folder.glob("*.safetensors")):
        for name, tensor in _header(path).items():
            part = name.split(".")[0] if apart else "language_model"
            part += " adapters" * (".lora_" in name)
            counts[part] += math.prod(tensor["shape"])
            dtypes.add(tensor["dtype"].lower())
    return dict(counts), dtypes


def _header(path: Path) -> dict[str, Any]:
    """Names, shapes and dtypes of a safetensors file."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= MOST_HEADER_BYTES:
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        return {str(k): {"shape": v["shape"], "dtype": v["dtype"]} for k, v in header.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}.") from error


def _text_model(config: dict[str, Any]) -> str:
    names = (
        "num_hidden_layers",
        "hidden_size",
        "num_attention_heads",
        "vocab_size",
        "max_position_embeddings",
    )
    words = ("layers", "wide", "heads", "token rows", "positions")
    numbers = [f"{config[n]} {w}" for n, w in zip(names, words, strict=True) if config.get(n)]
    return ", ".join([str(config.get("model_type", "unknown")), *numbers])


def _sides(config: dict[str, Any]) -> dict[str, Any]:
    """How one of our own models hears and speaks."""
    ears, mouth = config.get("audio_in") or {}, config.get("audio_out") or {}
    hears, speaks = str(ears.get("type", "none")), str(mouth.get("type", "none"))
    if hears == "embeddings":
        kinds = (ears.get("encoder") or {}).get("type"), (ears.get("connector") or {}).get("type")
        hears += f" ({kinds[0]} encoder, {kinds[1]} connector)"
    if speaks == "tokens":
        speaks += f" (alignment {mouth.get('alignment', 'none')})"
    ears_facts = _ears(ears, config) if ears.get("type") == "embeddings" else {}
    voice = mouth.get("voice") or {}
    vocabulary = mouth.get("vocabulary") or ears.get("vocabulary")
    return {
        "audio_in": hears,
        **ears_facts,
        "audio_out": speaks,
        "voices": list(voice.get("voices") or mouth.get("speakers") or ()),
        "codec": mouth.get("codec") or ears.get("codec"),
        "vocabulary": _vocabulary_line(vocabulary) if vocabulary else None,
    }


def _ears(ears: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Sizes of encoder and connector, prompts, adapters, and where weights are that are not here."""
    encoder = ears.get("encoder") or {}
    found = {
        "encoder": _encoder_line(encoder),
        "connector": _connector_line(ears.get("connector") or {}),
        "references": {**_named(config.get("text_model_ref"), "language_model"), **_encoder_refs(encoder)},
        "adapters": {
            part: f"rank {lora.get('rank')}, alpha {lora.get('alpha')}, on {', '.join(lora.get('targets') or ())}"
            for part, lora in (config.get("lora") or {}).items()
        },
        "tasks": sorted(ears.get("prompts") or ()),
    }
    return {name: value for name, value in found.items() if value}


def _encoder_line(encoder: dict[str, Any]) -> str:
    if encoder.get("type") == "dual":
        return f"{_encoder_line(encoder.get('first') or {})}; {_encoder_line(encoder.get('second') or {})}"
    sizes = {**encoder, **(encoder.get("model") or {})}
    names = (
        ("layers", ("encoder_layers", "num_hidden_layers", "num_layers")),
        ("wide", ("d_model", "encoder_embed_dim", "hidden_size")),
    )
    numbers = [f"{sizes[n]} {word}" for word, keys in names for n in keys if sizes.get(n)]
    return ", ".join([str(sizes.get("model_type") or encoder.get("type")), *numbers])


def _connector_line(connector: dict[str, Any]) -> str:
    fields = [f"{k} {v}" for k, v in connector.items() if k != "type" and v not in (None, False)]
    return ", ".join([str(connector.get("type")), *fields])


def _encoder_refs(encoder: dict[str, Any], where: str = "audio_encoder") -> dict[str, str]:
    found = _named(encoder.get("ref"), where)
    for name, part in encoder.items():
        if isinstance(part, dict) and "type" in part:
            found |= _encoder_refs(part, f"{where}.{name}")
    return found


def _named(reference: Any, part: str) -> dict[str, str]:
    return {part: str(reference)} if reference else {}


def _published_sides(folder: Path) -> dict[str, Any] | None:
    """How a published form of ears hears, if the folder is one."""
    from vivavoce.models.presets.preset import find_ears_preset

    preset = find_ears_preset(folder)
    if preset is None:
        return None
    return {"preset": preset.name, "audio_in": preset.hears, "audio_out": "none", "codec": None}


def _tokenizer_sides(folder: Path) -> dict[str, Any]:
    """How a plain language model hears and speaks, by the preset of its audio tokens.

    Raises:
        ModelError: It has none, or they belong to no preset.
    """
    from transformers import AutoTokenizer

    from vivavoce.base.errors import VocabularyError
    from vivavoce.models.presets.preset import find_preset
    from vivavoce.tokens.vocabulary import detect_vocabulary

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} has no readable tokenizer: {str(error).splitlines()[0]}") from error
    try:
        vocabulary = detect_vocabulary(tokenizer)
    except VocabularyError as error:
        return {"audio_in": "none", "audio_out": "none", "vocabulary": str(error)}
    preset = find_preset(vocabulary, str(folder))
    return {
        "preset": preset.name,
        "audio_in": {"no": "none"}.get(preset.hears, preset.hears),
        "audio_out": "none" if preset.speaks == "no" else f"tokens (alignment {preset.speaks})",
        "codec": preset.codec,
        "vocabulary": _vocabulary_line(vocabulary.to_dict()),
    }


def _vocabulary_line(record: dict[str, Any]) -> str:
    style = record.get("style") or {}
    first = f"{style.get('prefix', '')}{style.get('first_number', 0)}{style.get('suffix', '')}"
    return (
        f"{record.get('num_codes')} codes in layout {record.get('layout')} from id {record.get('first_code_id')} "
        f"({first}), start {record.get('start_id')}, end {record.get('end_id')}"
    )


def _codec_line(folder: Path) -> str:
    kind = str(_read_json(folder / "config.json").get("model_type", "unknown"))
    return f"{kind.removeprefix('vivavoce_').removesuffix('_codec')} (in the folder)"


def _licence(folder: Path, config: dict[str, Any]) -> str | None:
    """From the model card's front matter or the config."""
    card = folder / "README.md"
    if card.is_file():
        found = re.search(
            r"^license:\s*(\S+)", card.read_text(encoding="utf-8", errors="replace")[:4000], re.M
        )
        if found:
            return found[1].strip("'\"")
    licence = config.get("license") or config.get("licence")
    return str(licence) if licence else None


def size_mb(folder: Path) -> float:
    """Size of all files of a folder, 10**6 bytes."""
    return round(sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6, 2)
