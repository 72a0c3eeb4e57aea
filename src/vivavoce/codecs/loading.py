"""Finds and loads a codec by name, folder or hub id, and lists those known by name."""

from __future__ import annotations

import difflib
import inspect
import re
from pathlib import Path
from typing import Any

from vivavoce.base.errors import CodecError, ConfigError
from vivavoce.codecs import CODECS
from vivavoce.codecs.contract import Codec
from vivavoce.codecs.hub import WEIGHT_FILES, cached_folder, fetch
from vivavoce.codecs.published import EMBEDDED, HUB_IDS, USUAL, ListedCodec, listed, published_specs

# ``model_type`` in config.json -> name in CODECS; a ``model_type`` that is itself such a name needs no row
MODEL_TYPES = {"vivavoce_nano_codec": "nano"}
SNAC_KEYS = {"encoder_rates", "vq_strides"}  # a SNAC config.json has no model_type

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)


def load_codec(source: str | Path, **options: Any) -> Codec:
    """Load a codec from the package, from a folder, or from the model hub.

    Args:
        source: "nano"; "snac_24khz", "snac_32khz", "snac_44khz", "encodec_24khz", "mimi" (fetched from the hub
            once, then read from its cache); a folder whose config.json says which codec it holds; or a hub id
            "owner/name".
        options: What the codec's ``from_folder`` takes beyond the folder: ``bandwidth`` in kbit/s for EnCodec,
            ``num_quantizers`` for Mimi, ``noise`` for SNAC.

    Returns:
        The codec on the CPU, ready to encode and decode.

    Raises:
        CodecError: No such codec, a folder of something else, or a hub that cannot be reached.
        CheckpointError: The folder is incomplete or damaged.
        ConfigError: An option the codec does not have, or a value it does not take.
    """
    folder = find_folder(source)
    codec_class = CODECS.get(codec_kind(folder))
    known = list(inspect.signature(codec_class.from_folder).parameters)[1:]
    for name in options:
        if name not in known:
            takes = f"takes {', '.join(known)}" if known else "takes none"
            raise ConfigError(f"unknown option {name!r} for codec {str(source)!r}, which {takes}.")
    codec: Codec = codec_class.from_folder(folder, **options)
    return codec.eval()


def list_codecs() -> list[ListedCodec]:
    """The codecs known by name, with their numbers and whether their files are on this machine."""
    return [listed(spec, _is_here(spec.name)) for spec in published_specs()]


def codec_kind(folder: Path) -> str:
    """The name in ``CODECS`` of what a folder holds, read from its config.json.

    Raises:
        CheckpointError: No readable config.json.
        CodecError: The folder holds something else.
    """
    from vivavoce.codecs.folders import read_json

    config = read_json(folder)
    model_type = str(config.get("model_type", ""))
    if model_type in MODEL_TYPES:
        return MODEL_TYPES[model_type]
    if model_type in CODECS:
        return model_type
    if config.keys() >= SNAC_KEYS:
        return "snac"
    what = f"a model of type {model_type!r}" if model_type else "no known kind of codec"
    raise CodecError(f"{folder} holds {what}, wanted one of these codecs: {', '.join(CODECS)}.")


def find_folder(source: str | Path) -> Path:
    """The folder on this machine that ``source`` means, fetched from the hub if need be.

    Raises:
        CodecError: There is none.
    """
    name = str(source)
    if name == "nano":
        if not EMBEDDED.is_dir():
            raise CodecError(
                f"this installation lacks the embedded codec ({EMBEDDED}); install vivavoce again."
            )
        return EMBEDDED
    hub_id = HUB_IDS.get(USUAL.get(name, name))
    if hub_id:
        return fetch(hub_id)
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise CodecError(f"{path} is a file; a codec is a folder with config.json and weights.")
    if isinstance(source, str) and _HUB_ID.fullmatch(name):
        try:
            return fetch(name)
        except CodecError as error:
            raise CodecError(f"{name!r} is no folder here; taken as a hub id: {error}") from error
    known = ["nano", *HUB_IDS]
    near = difflib.get_close_matches(name, [*known, *USUAL], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise CodecError(
        f"no codec {name!r}: it is no folder here, no hub id (owner/name) and no known name.{hint} "
        f"Known: {', '.join(known)}."
    )


def _is_here(name: str) -> bool:
    """Whether a known codec can be loaded without the network."""
    if name in HUB_IDS:
        return cached_folder(HUB_IDS[name]) is not None
    return (EMBEDDED / "config.json").is_file() and any((EMBEDDED / n).is_file() for n in WEIGHT_FILES)
