"""The language model and encoder that a checkpoint names: where they are, and whether they are the right ones."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from vivavoce.base.errors import CheckpointError, ModelError
from vivavoce.models.encoders.references import encoder_record
from vivavoce.models.presets.ultravox.fields import encoder_from_config, text_config_of
from vivavoce.models.presets.ultravox.sizes import known_text_config, known_whisper, same_name

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_IN_CACHE = re.compile(r"models--([\w.-]+?)--([\w.-]+)$")


@dataclass(frozen=True)
class Place:
    """Where a part that a checkpoint names is found.

    Attributes:
        named: What the checkpoint calls it; None if it does not say.
        at: Hub id or folder to load it from; None if nobody says one.
    """

    named: str | None
    at: str | None

    def __str__(self) -> str:
        return repr(self.at) if self.named in (None, self.at) else f"{self.at!r} (named {self.named!r})"


def find_place(named: str | None, given: str | None, folder: Path, accept_other: bool, what: str) -> Place:
    """Where a part is: where the caller says, else where the checkpoint says.

    Args:
        named: Hub id, or folder relative to the checkpoint's.
        given: Hub id or folder from the caller.
        folder: The checkpoint's.
        accept_other: Take a part that says it is another.
        what: "language model" or "speech encoder", for messages.

    Raises:
        CheckpointError: The given part says another name than the checkpoint; names both.
    """
    if given is None:
        beside = folder / named if named else None
        return Place(named, str(beside) if beside is not None and beside.is_dir() else named)
    at = str(Path(given).expanduser()) if Path(given).expanduser().exists() else given
    said = declared_name(at)
    if named and said and not accept_other and not same_name(named, said):
        raise CheckpointError(
            f"{folder} was trained with the {what} {named!r}, {given!r} is {said!r}; give the one it was trained "
            "with, or accept_other=True (--accept-other) if it has the same weights under another name."
        )
    return Place(named, at)


def declared_name(at: str) -> str | None:
    """The hub id that a folder or hub id says it is; None if it does not say."""
    path = Path(at)
    if not path.exists():
        return at
    for part in (path, *path.parents):
        cached = _IN_CACHE.search(part.name)
        if cached:
            return f"{cached[1]}/{cached[2]}"
    try:
        name = json.loads((path / "config.json").read_text(encoding="utf-8")).get("_name_or_path", "")
    except (OSError, ValueError, AttributeError):
        return None
    return name if _HUB_ID.fullmatch(str(name)) and not Path(name).exists() else None


def read_text_config(theirs: Mapping[str, Any], place: Place, held: bool) -> PreTrainedConfig:
    """The language model's config: that of the model in its place, or the checkpoint's own if it holds weights.

    Raises:
        ModelError: It is nowhere to be had.
        CheckpointError: The model in that place has other sizes than the checkpoint says.
    """
    own = text_config_of(theirs) if theirs.get("text_config") and not theirs.get("text_model_id") else None
    if place.at is None:
        return own if own is not None else text_config_of(theirs)
    if own is not None and not Path(place.at).exists():
        return own
    found = _config_at(place)
    wanted = own if own is not None else known_text_config(place.named or place.at)
    inner = found.get_text_config()
    for name in ("hidden_size", "num_hidden_layers", "vocab_size"):
        size = getattr(wanted, name, None) if wanted is not None else None
        if name == "vocab_size":
            size = theirs.get("vocab_size", size)
        if size is not None and getattr(inner, name) != size:
            raise CheckpointError(
                f"the language model {place} has {name} {getattr(inner, name)}, the checkpoint was trained with "
                f"{place.named or 'one'!r} of {name} {size}; give that one."
            )
    return own if held and own is not None else found


def _config_at(place: Place) -> PreTrainedConfig:
    assert place.at is not None
    if Path(place.at).exists():
        return _read_config(place.at)
    try:
        return _read_config(place.at, local_files_only=True)
    except ModelError:
        known = known_text_config(place.at)
        return known if known is not None else _read_config(place.at)


def _read_config(at: str, **hub: Any) -> PreTrainedConfig:
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(at, **hub)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the language model {at!r} has no config to be read ({str(error).splitlines()[0]}). Run `hf download "
            f"{at}` where there is a network, or give a folder that has it (text_model, --llm)."
        ) from error
    return config


def read_encoder(theirs: Mapping[str, Any], place: Place, held: bool) -> dict[str, Any]:
    """The encoder's record, with its place as reference if there is one; ``held`` as in ``read_text_config``.

    Raises:
        ModelError: Its config is nowhere to be had.
        CheckpointError: The encoder in that place has other sizes than the checkpoint says.
        ConfigError: An encoder that this package cannot build.
    """
    own = None if theirs.get("audio_model_id") else encoder_from_config(theirs)
    if place.at is None:
        return own if own is not None else encoder_from_config(theirs)
    if own is not None and not Path(place.at).exists():
        return {**own, "ref": place.at}
    found, stored = _encoder_at(place), own
    if own is None and place.named and place.at != place.named:
        known = known_whisper(place.named)
        own = {"type": "whisper", "model": known} if known else None
    if own is not None:
        _check_encoder(own, found, place)
    return {**(stored if held and stored is not None else found), "ref": place.at}


def _encoder_at(place: Place) -> dict[str, Any]:
    assert place.at is not None
    if Path(place.at).exists():
        return encoder_record(place.at)
    try:
        return encoder_record(place.at, local_files_only=True)
    except ModelError:
        known = known_whisper(place.at)
        if known is None:
            return encoder_record(place.at)
        return encoder_from_config({"audio_config": {"model_type": "whisper", **known}})


_SIZES = (
    *(
        "model_type",
        "d_model",
        "hidden_size",
        "encoder_layers",
        "num_hidden_layers",
        "encoder_attention_heads",
    ),
    *("encoder_ffn_dim", "num_mel_bins", "max_source_positions"),
)


def _check_encoder(wanted: Mapping[str, Any], found: Mapping[str, Any], place: Place) -> None:
    first, second = wanted["model"], found["model"]
    faults = [
        f"{n} {second[n]} instead of {first[n]}"
        for n in _SIZES
        if n in first and n in second and first[n] != second[n]
    ]
    if wanted["type"] != found["type"]:
        faults.append(f"type {found['type']} instead of {wanted['type']}")
    if faults:
        raise CheckpointError(
            f"the speech encoder {place} is not the one that the checkpoint was trained with "
            f"({place.named or 'in its audio_config'}): {', '.join(faults)}; give that one."
        )
