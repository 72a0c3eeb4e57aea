"""One form of a model into another: published files, our own folders, parts bundled or named."""

from __future__ import annotations

import dataclasses
import json
import secrets
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from vivavoce.base.errors import CheckpointError, ConfigError, ModelError
from vivavoce.codecs.folders import quiet_transformers
from vivavoce.models.config import EmbeddingsIn, NoAudio, SpeechLMConfig
from vivavoce.models.fingerprint import fingerprint
from vivavoce.models.handoff import FORM as VLLM
from vivavoce.models.handoff import PLAIN, PlainForm
from vivavoce.models.loading import MODEL_TYPE, find_model, load_plain, model_kind, read_published, readable
from vivavoce.models.lora import is_adapter, merge_lora, plain_name
from vivavoce.models.presets import PRESETS
from vivavoce.models.presets.preset import EarsPreset, Imported, Sources, find_ears_preset
from vivavoce.models.presets.ultravox.export import refuse_what_does_not_fit
from vivavoce.models.presets.ultravox.preset import ULTRAVOX
from vivavoce.models.processor import SpeechProcessor
from vivavoce.models.reading import assemble
from vivavoce.models.references import ENCODER, TEXT, bundled, encoder_refs, part_of, references
from vivavoce.models.saving import stored_form
from vivavoce.models.weights import stored_tensors

OWN = "vivavoce"


@dataclass
class Conversion:
    """What ``convert`` read and wrote.

    Attributes:
        recognised: Form of the source: "vivavoce", a preset's name, or "causal language model".
        form: What was written: "vivavoce" or a preset's name.
        folder: Where it is.
        tensors: Part -> tensors of it that are in the new folder; adapters count apart ("language_model adapters").
        parameters: The same in numbers.
        references: Part -> where its weights are, for those that are only named.
        adapters: Part -> rank, alpha and targets.
        notes: What was left out, renamed or assumed.
        size_mb: Of the new folder, 10**6 bytes.
    """

    recognised: str
    form: str
    folder: str
    tensors: dict[str, int]
    parameters: dict[str, int]
    references: dict[str, str]
    adapters: dict[str, str]
    notes: list[str] = field(default_factory=list)
    size_mb: float = 0.0


def convert(
    source: str, destination: str | Path, form: str = OWN, sources: Sources | None = None, merge: bool = False
) -> Conversion:
    """Read a model in any form and write it in another; named parts are neither loaded nor fetched but to ``merge``.

    The folder appears complete or not at all.

    Args:
        source: A published form, one of our folders, or a hub id.
        destination: A folder that does not exist or is empty.
        form: "vivavoce", the name of a preset of published ears, or "vllm": what vLLM serves of this model, a plain
            causal LM (``models.handoff``) or Ultravox's form, adapters merged.
        sources: Where parts are. For our own folders these replace what is stored or named: the weights that
            were there before are recorded, and loading others is an error unless ``accept_other``.
        merge: Load all parts and write them together, naming nothing.

    Raises:
        ConfigError: Unknown form, a destination that is not free or cannot be written, options that do not fit.
        ModelError, CheckpointError: The source is no model, damaged, or lacks a part.
    """
    target, sources = Path(destination).expanduser(), sources or Sources()
    preset: EarsPreset | PlainForm | None = None if form == VLLM else _writer(form)
    _check_free(target, source)
    place = find_model(source)
    if form == VLLM:
        preset = _served_form(place)
        merge |= preset is PLAIN  # there is nothing in that form that could be named
    with quiet_transformers(), readable(place):
        recognised, found = _read(place, sources, merge)
        if form == VLLM and found.model.config.lora:  # vLLM reads no adapters out of a model's own folder
            if not merge:
                merge, (recognised, found) = True, _read(place, sources, True)
            merge_lora(found.model)
        model, processor = found.model, found.processor
        named = {} if merge else references(model)
        with stored_form(model, "merged" if merge else None, None) as tensors:
            tensors_of, parameters_of = _counts(tensors)
    result = Conversion(
        recognised,
        form if preset is None else preset.name,
        str(target),
        tensors_of,
        parameters_of,
        {part_of(prefix): reference for prefix, reference in named.items()},
        {
            part: f"rank {lora.rank}, alpha {lora.alpha:g}, on {', '.join(lora.targets)}"
            for part, lora in model.config.lora.items()
        },
        list(found.notes),
    )
    with new_folder(target) as folder, quiet_transformers():
        if merge:
            model.config = bundled(model.config)
            processor = _processor_for(processor, model.config)
        if preset is None:
            model.save_pretrained(folder)
            processor.save_pretrained(folder)
        else:
            preset.write(model, processor, folder)
        result.size_mb = round(sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6, 2)
    return result


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Give a folder beside ``target`` that becomes it at the end, or disappears with whatever goes wrong.

    Raises:
        ConfigError: It cannot be written.
    """
    above = next(p for p in (target, *target.parents) if p.exists() and p.is_dir())
    made = [p for p in target.parents if not p.exists()]
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        part.mkdir(parents=True)
        yield part
        if target.is_dir():
            target.rmdir()
        part.rename(target)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"cannot write {target}: {reason}. Nothing is left of it; see that {above} has room."
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        for folder in made if not target.exists() else ():
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def _writer(form: str) -> EarsPreset | None:
    """The preset that writes a form; None for our own."""
    if form == OWN:
        return None
    forms = [name for name in PRESETS if isinstance(PRESETS.get(name), EarsPreset)]
    if form not in forms:
        raise ConfigError(f"unknown form {form!r}; wanted one of {', '.join([OWN, *forms, VLLM])}.")
    found: EarsPreset = PRESETS.get(form)
    return found


def _served_form(place: Path) -> EarsPreset | PlainForm:
    """What vLLM serves of a model: Ultravox's form for ears alone, else a plain causal LM; reads no weights.

    Raises:
        ModelError: Neither; says what can be done.
    """
    kind = model_kind(place)
    if kind == MODEL_TYPE:
        config = SpeechLMConfig.from_pretrained(place)
        if not isinstance(config.audio_in, EmbeddingsIn) or not isinstance(config.audio_out, NoAudio):
            PLAIN.check(config)
            return PLAIN
        try:
            refuse_what_does_not_fit(config)
        except ModelError as error:
            raise ModelError(
                f"vLLM has no form for these ears: {error} Serve it with `vivavoce serve MODEL`, with `--replicas N` "
                "for more callers."
            ) from error
        return ULTRAVOX
    published = find_ears_preset(place)
    if published is None:
        return PLAIN
    if published is not ULTRAVOX:
        raise ModelError(
            f"vLLM serves no model of form {published.name!r}. Serve it with `vivavoce serve MODEL`, with "
            "`--replicas N` for more callers."
        )
    return ULTRAVOX


def _check_free(target: Path, source: str) -> None:
    place = Path(source).expanduser()
    if place.exists() and place.resolve() == target.resolve():
        raise ConfigError(f"{target} is the source itself; give another folder for the result.")
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise ConfigError(
            f"{target} exists already; nothing is ever written over: give a new or an empty folder."
        )


def _read(place: Path, sources: Sources, with_parts: bool) -> tuple[str, Imported]:
    kind = model_kind(place)
    if kind == MODEL_TYPE:
        return OWN, _read_own(place, sources, with_parts)
    preset = find_ears_preset(place)
    if preset is not None:
        found = read_published(place, sources, with_parts=with_parts, dtype="auto")
        assert found is not None
        return preset.name, found
    given = [f.name for f in dataclasses.fields(sources) if getattr(sources, f.name)]
    if given:
        raise ConfigError(
            f"{place} is a language model with audio tokens and names no parts; leave out {', '.join(given)}."
        )
    model, processor = load_plain(place, kind, {"dtype": "auto"})
    return "causal language model", Imported(model, processor)


def _read_own(place: Path, sources: Sources, with_parts: bool) -> Imported:
    config = SpeechLMConfig.from_pretrained(place)
    tensors = {name: read() for name, read in stored_tensors(str(place), {}).items()}
    notes: list[str] = []
    if config.text_model_ref:
        config.text_model_ref = _beside(config.text_model_ref, place)
    for where, reference in encoder_refs(config).items():
        _set_encoder(config, where, _beside(reference, place))
    _swap(config, tensors, sources, place, notes)
    model: Any = assemble(
        config, tensors, str(place), with_parts=with_parts, folder=place, accept_other=sources.accept_other
    )
    if with_parts:  # as stored, whatever dtype the named parts have
        own = {plain_name(n): n for n in model.state_dict()}
        model.load_state_dict({own[n]: t for n, t in tensors.items()}, strict=False, assign=True)
    if (place / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(place)
    if sources.tokenizer:
        with _found("tokenizer", sources.tokenizer):
            tokenizer = AutoTokenizer.from_pretrained(sources.tokenizer)
        processor = SpeechProcessor.for_config(tokenizer, config, place)
    else:
        processor = _processor_for(SpeechProcessor.from_pretrained(place), config)
    return Imported(model, processor, notes)


@contextmanager
def _found(what: str, name: str) -> Iterator[None]:
    """Say which part cannot be had."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the {what} {name!r} is neither a folder nor in the hub cache ({str(error).splitlines()[0]}). Give a "
            f"folder, or run `hf download {name}` where there is a network."
        ) from error


def _processor_for(processor: Any, config: SpeechLMConfig) -> Any:
    made = SpeechProcessor.for_config(processor.tokenizer, config, processor.folder)
    made.chat_template = processor.chat_template
    return made


def _beside(reference: str, folder: Path) -> str:
    """A reference that also holds in another folder."""
    for path in (folder / reference, Path(reference).expanduser()):
        if path.exists():
            return str(path.resolve())
    return reference


def _swap(
    config: SpeechLMConfig, tensors: dict[str, Any], sources: Sources, place: Path, notes: list[str]
) -> None:
    """Name other places for parts of our own folder; what it stored of them is left out, its fingerprint kept."""
    chosen: dict[str, str] = {}
    if sources.text_model:
        name = _beside(sources.text_model, Path())
        chosen[TEXT] = name
        with _found("language model", name):
            given = AutoConfig.from_pretrained(name)
        for size in ("hidden_size", "vocab_size"):
            wanted, found = getattr(config, size), getattr(given.get_text_config(), size)
            if wanted != found:
                raise CheckpointError(
                    f"the language model {name!r} has {size} {found}, {place} was made for {wanted}; give the one "
                    "it was trained with."
                )
        config.text_config = given
        config.text_model_ref = name
    ears = config.audio_in.encoder if isinstance(config.audio_in, EmbeddingsIn) else {}
    dual = ears.get("type") == "dual"
    for option, where in (("encoder", "first" if dual else ""), ("sound_encoder", "second")):
        encoder_name = getattr(sources, option)
        if not encoder_name:
            continue
        if not ears or (option == "sound_encoder" and not dual):
            raise ConfigError(f"{place} has no {option.replace('_', ' ')}, so none can be given.")
        chosen[f"{ENCODER}{where}." if where else ENCODER] = _set_encoder(
            config, where, _beside(encoder_name, Path())
        )
    for prefix, name in chosen.items():
        part = part_of(prefix)
        mine = {
            n.removeprefix(prefix): t
            for n, t in tensors.items()
            if n.startswith(prefix) and not is_adapter(n)
        }
        if mine:
            config.fingerprints[part] = f"{fingerprint(mine)} {place}"
            notes.append(f"{part}: {len(mine)} stored tensors were left out, as {name} is named for them.")
            for n in mine:
                del tensors[prefix + n]
        if sources.accept_other and part in config.fingerprints:
            del config.fingerprints[part]
            notes.append(f"{part}: whether {name} is the one of training is not checked any more.")
    if sources.prompts:
        if not isinstance(config.audio_in, EmbeddingsIn):
            raise ConfigError(f"{place} does not hear by embeddings, so it has no prompts.")
        prompts = {**config.audio_in.prompts, **_read_prompts(sources.prompts)}
        config.audio_in = dataclasses.replace(config.audio_in, prompts=prompts)


def _set_encoder(config: SpeechLMConfig, where: str, reference: str) -> str:
    """Write a reference into the record of an encoder ("" or "first", "second")."""
    assert isinstance(config.audio_in, EmbeddingsIn)

    def changed(record: dict[str, Any], path: list[str]) -> dict[str, Any]:
        if not path:
            return {**record, "ref": reference}
        return {**record, path[0]: changed(record[path[0]], path[1:])}

    encoder = changed(config.audio_in.encoder, where.split(".") if where else [])
    config.audio_in = dataclasses.replace(config.audio_in, encoder=encoder)
    return reference


def _read_prompts(file: str) -> dict[str, str]:
    try:
        found = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"prompts {file} cannot be read: {error}.") from error
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise ConfigError(f"{file} holds other things than a JSON object of task -> instruction.")
    return found


def _counts(tensors: dict[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    """Tensors and parameters of each part; adapters apart."""
    tensors_of: Counter[str] = Counter()
    parameters_of: Counter[str] = Counter()
    seen: set[Any] = set()
    for name, tensor in tensors.items():
        place = (tensor.data_ptr(), tensor.shape)
        if place in seen:  # tied
            continue
        seen.add(place)
        part = name.split(".")[0] + (" adapters" if is_adapter(name) else "")
        tensors_of[part] += 1
        parameters_of[part] += tensor.numel()
    return dict(tensors_of), dict(parameters_of)
