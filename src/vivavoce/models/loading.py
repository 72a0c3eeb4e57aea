"""Find a model by name, folder or hub id, and load it with its processor."""

from __future__ import annotations

import difflib
import importlib.util
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vivavoce.base.errors import CheckpointError, ConfigError, MissingExtraError, ModelError, VocabularyError

if TYPE_CHECKING:
    from vivavoce.models.presets.preset import Imported, Sources

BUNDLE = Path(__file__).parents[1] / "bundle"
EMBEDDED = ("nano",)
MODEL_TYPE = "vivavoce_speech_lm"
QUANTIZATIONS = ("nf4",)
CODEC_FOLDER = "codec"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class ModelInfo:
    """One row of ``list_models``.

    Attributes:
        name: What to give to ``load``; for presets the kind of folder that is recognised.
        hears: "embeddings", "tokens" or "no".
        speaks: "phone", "word", "none" (plain tokens) or "no".
        chats: False for models that only read aloud.
        embedded: True if the weights are in the package.
        description: One line.
    """

    name: str
    hears: str
    speaks: str
    chats: bool
    embedded: bool
    description: str


def list_models() -> list[ModelInfo]:
    """The embedded models that are there, then the presets for folders and hub ids."""
    rows = []
    for name in EMBEDDED:
        path = BUNDLE / name / "config.json"
        if path.is_file():
            config = _read_json(path)
            ears, mouth = config.get("audio_in") or {}, config.get("audio_out") or {}
            speaks = mouth.get("alignment", "none") if mouth.get("type") == "tokens" else "no"
            hears = str(ears.get("type", "none")).replace("none", "no")
            rows.append(ModelInfo(name, hears, speaks, True, True, config.get("description", "")))
    from vivavoce.models.presets import PRESETS

    for name in PRESETS:
        preset = PRESETS.get(name)
        rows.append(ModelInfo(name, preset.hears, preset.speaks, preset.chats, False, preset.description))
    return rows


def load_speech_lm(
    name: str | Path = "nano",
    quantize: str | None = None,
    device: str | None = None,
    dtype: Any = None,
    sources: Sources | None = None,
    accept_other: bool = False,
) -> tuple[Any, Any]:
    """Load a speech LM and its processor, ready for inference.

    Args:
        name: "nano", a folder (ours, a published form of ears such as Ultravox's, or a plain causal LM whose
            tokenizer has audio tokens), a file (SALMONN's), or a hub id.
        quantize: "nf4" for 4-bit weights of the text model (extra ``quant``); ears and voice stay as they are.
        device: Such as "cpu" or "cuda"; default the first GPU if there is one.
        dtype: torch dtype of the weights; default float32 on a CPU, else as stored.
        sources: Where parts are that a published form names and that are not there.
        accept_other: Take a language model or encoder that is another than the model was trained with, which is
            an error otherwise.

    Returns:
        ``(SpeechLM, SpeechProcessor)``.

    Raises:
        ModelError: No such model, a folder that is none, or a hub file that cannot be had.
        CheckpointError: Weights that do not fit, or are others than those the model was trained with.
        MissingExtraError: ``quantize`` without bitsandbytes.
        ConfigError: An unknown ``quantize``.
    """
    place = find_model(str(name))
    kind = model_kind(place)
    arguments = weight_arguments(quantize, device, dtype)
    from vivavoce.codecs.folders import quiet_transformers

    with quiet_transformers(), readable(place):
        if kind == MODEL_TYPE:
            model, processor = _load_own(place, {**arguments, "accept_other": accept_other})
        elif (found := read_published(place, sources, accept_other, **arguments)) is not None:
            model, processor = found.model.to(arguments["device_map"][""]), found.processor
        else:
            model, processor = load_plain(place, kind, arguments)
    return model.eval(), processor


@contextmanager
def readable(place: Path) -> Iterator[None]:
    """Turn what libraries say about files that they cannot read into one line about ``place``."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{place} cannot be loaded: {_first_line(error)}") from error


def model_kind(place: Path) -> str | None:
    """The ``model_type`` of a folder's config; None for a file, or a folder without config."""
    path = place / "config.json"
    if place.is_file() or not path.is_file():
        return None
    kind = _read_json(path).get("model_type")
    return None if kind is None else str(kind)


def read_published(
    place: Path, sources: Sources | None, accept_other: bool = False, with_parts: bool = True, **weights: Any
) -> Imported | None:
    """Read a published form of ears, if it is one; see ``presets.preset.EarsPreset.read``."""
    from vivavoce.models.presets.preset import Sources, find_ears_preset

    preset = find_ears_preset(place)
    if preset is None:
        return None
    sources = sources or Sources()
    if accept_other:
        sources = replace(sources, accept_other=True)
    return preset.read(place, sources, with_parts, **weights)


def find_model(name: str) -> Path:
    """The folder or file of a model: embedded, given, or fetched from the hub.

    Raises:
        ModelError: There is none; the message says what to do.
    """
    from vivavoce.models.presets.preset import find_ears_preset

    path = Path(name).expanduser()
    known = name in EMBEDDED or not path.exists() or (path / "config.json").is_file()
    return find_folder(name) if known or find_ears_preset(path) is None else path


def find_folder(name: str) -> Path:
    """The folder of a model with a config: embedded, given, or fetched from the hub.

    Raises:
        ModelError: There is none; the message says what to do.
    """
    if name in EMBEDDED:
        folder = BUNDLE / name
        if not (folder / "config.json").is_file():
            raise ModelError(f"the package has no {folder.name}/config.json; install vivavoce again.")
        return folder
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"{path} is not a model folder: it has no config.json.")
        return path
    if path.is_file():
        raise ModelError(
            f"{path} is a file of no published form; wanted the folder of a model, {', '.join(EMBEDDED)}, or a hub id."
        )
    if not _HUB_ID.fullmatch(name):
        near = difflib.get_close_matches(name, EMBEDDED, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ModelError(
            f"unknown model {name!r}.{hint} Wanted {', '.join(map(repr, EMBEDDED))}, a folder, or a hub id "
            "such as 'canopylabs/orpheus-3b-0.1-ft'."
        )
    return _from_hub(name)


def _from_hub(name: str) -> Path:
    """The cached snapshot if it has config and weights, or is a published form of ears; else a download."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    from vivavoce.models.presets.preset import find_ears_preset

    try:
        try:
            folder = Path(snapshot_download(name, local_files_only=True))
        except LocalEntryNotFoundError:
            folder = None
        if folder and (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
            return folder
        if folder and find_ears_preset(folder) is not None:
            return folder
        # a download would retry for half a minute where there is no network; this question does not
        files = [file.rfilename for file in HfApi().model_info(name, timeout=10).siblings or ()]
        left_out = ["*.msgpack", "*.h5", "*.gguf", "original/*"]
        if any(file.endswith(".safetensors") for file in files):
            left_out.append("*.pth")  # SALMONN is a .pth alone
        return Path(snapshot_download(name, ignore_patterns=left_out))
    except Exception as error:
        raise ModelError(
            f"cannot get config.json of {name!r} from the model hub ({_first_line(error)}). Without a network, run "
            f"`hf download {name}` where there is one and give the folder it prints as the model, or copy its "
            "hub cache here and set HF_HUB_OFFLINE=1."
        ) from error


def weight_arguments(quantize: str | None, device: str | None, dtype: Any) -> dict[str, Any]:
    """Arguments of ``from_pretrained``; see ``load_speech_lm``."""
    import torch

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise ConfigError(
            f"device is {device!r}, wanted such as 'cpu' or 'cuda:0' ({_first_line(error)})."
        ) from error
    if dtype is None:
        dtype = torch.float32 if kind == "cpu" else "auto"
    arguments: dict[str, Any] = {"dtype": dtype, "device_map": {"": device}}
    if quantize is None:
        return arguments
    if quantize not in QUANTIZATIONS:
        raise ConfigError(
            f"quantize is {quantize!r}, wanted one of {', '.join(map(repr, QUANTIZATIONS))} or nothing."
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtraError("4-bit weights need bitsandbytes: pip install 'vivavoce[quant]'.")
    from transformers import BitsAndBytesConfig

    arguments["dtype"] = torch.bfloat16
    arguments["quantization_config"] = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=["lm_head", "audio_encoder", "connector", "voice"],
    )
    return arguments


def _load_own(folder: Path, arguments: dict[str, Any]) -> tuple[Any, Any]:
    from vivavoce.models.processor import SpeechProcessor
    from vivavoce.models.speech_lm import SpeechLM

    model = SpeechLM.from_pretrained(folder, **arguments)
    return model, SpeechProcessor.from_pretrained(folder)


def load_plain(folder: Path, kind: Any, arguments: dict[str, Any]) -> tuple[Any, Any]:
    """A causal LM whose tokenizer has audio tokens, by its preset."""
    from vivavoce.models.speech_lm import SpeechLM
    from vivavoce.models.weights import load_text_model

    config, processor = read_plain(folder, kind)
    text_model = load_text_model(folder, **arguments)
    config.text_config = text_model.config
    model = SpeechLM(config, text_model=text_model)
    model.generation_config = text_model.generation_config
    return model, processor


def read_plain(folder: Path, kind: Any) -> tuple[Any, Any]:
    """Config and processor of a causal LM whose tokenizer has audio tokens; its weights are not read."""
    from transformers import AutoConfig, AutoTokenizer
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    from vivavoce.codecs.loading import load_codec
    from vivavoce.models.handoff import read_record
    from vivavoce.models.presets.preset import find_preset
    from vivavoce.models.processor import SpeechProcessor
    from vivavoce.tokens.vocabulary import detect_vocabulary

    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelError(
            f"{folder} holds a model of type {kind!r}; wanted {MODEL_TYPE!r} or a causal language model."
        )
    if not any(
        (folder / n).is_file() for n in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")
    ):
        raise ModelError(
            f"{folder} has no tokenizer; copy tokenizer.json and tokenizer_config.json beside the model."
        )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if (handed := read_record(folder, AutoConfig.from_pretrained(folder))) is not None:
        return handed, SpeechProcessor.for_config(tokenizer, handed, folder)
    codec = load_codec(str(folder / CODEC_FOLDER)) if (folder / CODEC_FOLDER).is_dir() else None
    try:
        vocabulary = detect_vocabulary(tokenizer, codec.spec if codec else None)
    except VocabularyError as error:
        raise ModelError(f"{folder} is a language model that neither hears nor speaks: {error}") from error
    preset = find_preset(vocabulary, str(folder))
    text_config = AutoConfig.from_pretrained(folder)
    config = preset.config(text_config, vocabulary, CODEC_FOLDER if codec else preset.codec)
    return config, SpeechProcessor.for_config(tokenizer, config, folder)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {_first_line(error)}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} holds a {type(found).__name__}, wanted a JSON object.")
    return found


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
