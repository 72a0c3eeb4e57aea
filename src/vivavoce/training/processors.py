"""A model's processor without its weights: what is needed to see what the model would read."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from vivavoce.base.errors import ModelError
from vivavoce.models.loading import (
    EMBEDDED,
    MODEL_TYPE,
    find_model,
    model_kind,
    read_plain,
    read_published,
    readable,
)
from vivavoce.models.presets.preset import find_ears_preset

# everything but weights; of a hub repository these files are a few megabytes
_FILES = ("*.json", "*.jinja", "*.txt", "*.model", "*.npz", "*.gz")


def load_processor(name: str | Path) -> Any:
    """Find a model and make its processor.

    Nothing of a language model is loaded; of a published form of ears the parts that it holds are, because their
    shapes tell how it hears. From a hub only small files are fetched, but for published forms of ears.

    Args:
        name: "nano", a folder, a file (SALMONN's), or a hub id.

    Raises:
        ModelError: There is no such model, or it neither hears nor speaks.
        CheckpointError: Its files cannot be read.
    """
    place = find_small(str(name))
    kind = model_kind(place)
    from vivavoce.codecs.folders import quiet_transformers

    with quiet_transformers(), readable(place):
        if kind == MODEL_TYPE:
            from vivavoce.models.processor import SpeechProcessor

            return SpeechProcessor.from_pretrained(place)
        published = read_published(place, None, with_parts=False)
        return read_plain(place, kind)[1] if published is None else published.processor


def load_tokenizer(name: str | Path) -> Any:
    """The tokenizer of any model, by folder or hub id.

    Raises:
        ModelError: There is none.
    """
    from transformers import AutoTokenizer

    from vivavoce.codecs.folders import quiet_transformers

    place = find_small(str(name)) if str(name) in EMBEDDED else Path(name).expanduser()
    with quiet_transformers():
        try:
            return AutoTokenizer.from_pretrained(str(place) if place.exists() else str(name))
        except (OSError, ValueError) as error:
            raise ModelError(
                f"{name} has no tokenizer that can be read: {str(error).strip().splitlines()[0]} Give a folder with "
                "tokenizer.json, or a hub id."
            ) from error


def find_small(name: str) -> Path:
    """The folder of a model, from the hub without its weights where these are not needed."""
    if name in EMBEDDED or Path(name).expanduser().exists() or "/" not in name:
        return find_model(name)
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    with suppress(LocalEntryNotFoundError):
        here = Path(snapshot_download(name, local_files_only=True))
        if (here / "config.json").is_file():
            return here
    try:
        # in a place of its own, so that nobody takes it for the whole model
        place = Path(
            snapshot_download(
                name,
                allow_patterns=list(_FILES),
                cache_dir=Path(constants.HF_HOME) / "vivavoce" / "processors",
                etag_timeout=10,
            )
        )
    except Exception as error:
        lines = str(error).strip().splitlines()
        raise ModelError(
            f"cannot get the tokenizer and config of {name!r} from the model hub "
            f"({lines[0] if lines else type(error).__name__}); give the folder of a model instead."
        ) from error
    return place if find_ears_preset(place) is None else find_model(name)
