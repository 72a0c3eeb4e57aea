"""SALMONN's files: every published form gives the same model, and what does not fit is refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.goldens.salmonn_parts import STORED_WHOLE, Parts, make_parts
from torch import Tensor

from vivavoce.base.errors import CheckpointError, ModelError
from vivavoce.models.loading import load_speech_lm
from vivavoce.models.presets.preset import Imported, Sources, find_ears_preset
from vivavoce.models.presets.salmonn.checkpoint import read_checkpoint, shapes_of, their_name
from vivavoce.models.presets.salmonn.preset import SALMONN

LLM = "llama_model.base_model.model.model.layers."
Change = Callable[[dict[str, Tensor]], dict[str, Tensor]]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return make_parts(STORED_WHOLE, tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return load_file(STORED_WHOLE / "ckpt_model_entry.safetensors")


@pytest.fixture(scope="module")
def plain(parts: Parts) -> Imported:
    return SALMONN.read(
        parts.checkpoint("checkpoint_layout.pth", parts.text_model.parent / "plain"), parts.sources
    )


def put(folder: Path, parts: Parts, entry: Any, name: str = "salmonn_v1.pth", **settings: Any) -> Path:
    """A folder with a checkpoint of these contents, and settings."""
    folder.mkdir(exist_ok=True)
    if name.endswith(".safetensors"):
        save_file(entry, folder / name)
    else:
        torch.save(entry, folder / name)
    (folder / "config.json").write_text(json.dumps({**parts.settings, **settings}))
    return folder


def own(model: Any) -> dict[str, Tensor]:
    return {theirs: t for n, t in model.state_dict().items() if (theirs := their_name(n)) is not None}


def assert_same(found: Imported, wanted: Imported) -> None:
    one, other = own(found.model), own(wanted.model)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


# forms


@pytest.mark.parametrize("name", ["a.pth", "a.bin", "a.pt", "a.ckpt", "a.safetensors"])
def test_every_kind_of_file(
    name: str, parts: Parts, tensors: dict[str, Tensor], plain: Imported, tmp_path: Path
) -> None:
    folder = put(tmp_path / "it", parts, tensors, name)
    assert find_ears_preset(folder) is SALMONN and find_ears_preset(folder / name) is SALMONN
    assert_same(SALMONN.read(folder, parts.sources), plain)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda t: {"model": t},
        lambda t: {"model": {f"module.{name}": value for name, value in t.items()}},
        lambda t: {"model": {name.replace(".default.weight", ".weight"): value for name, value in t.items()}},
        lambda t: {"model": t, "optimizer": {"state": {}}, "scaler": {"scale": 1.0}, "epoch": 3},
    ],
    ids=["entry", "module", "old_adapters", "trainer"],
)
def test_every_spelling(
    wrap: Callable[[Any], Any], parts: Parts, tensors: dict[str, Tensor], plain: Imported, tmp_path: Path
) -> None:
    assert_same(SALMONN.read(put(tmp_path / "it", parts, wrap(tensors)), parts.sources), plain)


def test_an_old_file_without_zip(
    parts: Parts, tensors: dict[str, Tensor], plain: Imported, tmp_path: Path
) -> None:
    folder = put(tmp_path / "it", parts, {})
    torch.save({"model": tensors}, folder / "salmonn_v1.pth", _use_new_zipfile_serialization=False)
    assert SALMONN.recognises(folder)
    assert_same(SALMONN.read(folder, parts.sources), plain)


def test_a_folder_may_name_its_parts(
    parts: Parts, tensors: dict[str, Tensor], plain: Imported, tmp_path: Path
) -> None:
    shutil.copytree(parts.sound_encoder, tmp_path / "it" / "ears" / "beats")
    folder = put(
        tmp_path / "it",
        parts,
        {"model": tensors},
        llama_path=str(parts.text_model),
        whisper_path=str(parts.encoder),
        beats_path="ears/beats",
    )
    found = SALMONN.read(folder, Sources())
    assert_same(found, plain)
    assert found.model.config.text_model_ref == str(parts.text_model.resolve())
    assert found.model.audio_encoder.references() == {
        "first.": str(parts.encoder.resolve()),
        "second.": str((folder / "ears" / "beats").resolve()),
    }


def test_paths_of_the_training_machine_do_not_count(
    parts: Parts, tensors: dict[str, Tensor], plain: Imported, tmp_path: Path
) -> None:
    config = {"model": {"llama_path": "nowhere/vicuna", "beats_path": "nowhere/b.pt", "lora_alpha": 16}}
    folder = put(tmp_path / "it", parts, {"model": tensors, "config": config})
    with pytest.raises(ModelError, match="width 32, which is no published SALMONN"):
        SALMONN.read(folder, replace(parts.sources, text_model=None))
    found = SALMONN.read(folder, parts.sources)
    assert_same(found, plain)
    assert found.model.config.lora["language_model"].alpha == 16


def test_load_speech_lm_reads_it(
    parts: Parts, tensors: dict[str, Tensor], plain: Imported, tmp_path: Path
) -> None:
    folder = put(tmp_path / "it", parts, {"model": tensors})
    model, processor = load_speech_lm(folder, device="cpu", sources=parts.sources)
    assert_same(Imported(model, processor), plain)
    assert processor.tokenizer.convert_ids_to_tokens(processor.audio_token_id) == "<SpeechHere>"


def test_without_parts(parts: Parts, tensors: dict[str, Tensor], plain: Imported, tmp_path: Path) -> None:
    """For converting: only the own tensors have values."""
    found = SALMONN.read(put(tmp_path / "it", parts, {"model": tensors}), parts.sources, with_parts=False)
    assert_same(found, plain)
    state = found.model.state_dict()
    assert {n for n, t in state.items() if not t.is_meta} == {n for n in state if their_name(n) is not None}


# settings


def test_settings(parts: Parts, tensors: dict[str, Tensor], tmp_path: Path) -> None:
    folder = put(tmp_path / "it", parts, tensors, lora_alpha=8, second_per_window=0.2, second_stride=0.1)
    config = SALMONN.read(folder, parts.sources, with_parts=False).model.config
    assert config.lora["language_model"].alpha == 8
    assert (config.audio_in.connector["window_s"], config.audio_in.connector["stride_s"]) == (0.2, 0.1)
    assert config.audio_in.shortest_samples == 16_000
    assert config.sampling == {"temperature": 0.0, "max_new_tokens": 200}
    assert config.audio_in.encoder["second"]["dropout"] == 0.0


def test_published_decoding(plain: Imported) -> None:
    settings = plain.model.generation_config
    assert (settings.num_beams, settings.max_new_tokens, settings.do_sample) == (4, 200, False)


@pytest.mark.parametrize("settings", [{"lora_alpha": "much"}, {"second_stride": 0.001}, {"bert": 3}])
def test_senseless_settings_are_refused(
    settings: dict[str, Any], parts: Parts, tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    folder = put(tmp_path / "it", parts, tensors, **settings)
    with pytest.raises(CheckpointError, match="settings"):
        SALMONN.read(folder, parts.sources)


def test_notes_tell_what_was_left_out_and_assumed(
    parts: Parts, tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    folder = put(tmp_path / "it", parts, {"model": tensors, "optimizer": {}, "epoch": 1})
    notes = "\n".join(SALMONN.read(folder, parts.sources, with_parts=False).notes)
    for words in ("5 buffers", "epoch, optimizer", "alpha 32, as published"):
        assert words in notes


def test_shapes_are_deduced(tensors: dict[str, Tensor], tmp_path: Path, parts: Parts) -> None:
    found = shapes_of(read_checkpoint(put(tmp_path / "it", parts, tensors)))
    assert (found.text_size, found.speech_size, found.sound_size) == (32, 16, 48)
    assert (found.query_size, found.queries, found.layers, found.intermediate_size) == (24, 1, 2, 48)
    assert (found.rank, found.adapted_layers, found.targets) == (8, 2, ("q_proj", "v_proj"))


def test_a_checkpoint_without_adapters(parts: Parts, tensors: dict[str, Tensor], tmp_path: Path) -> None:
    bare = {name: t for name, t in tensors.items() if ".lora_" not in name}
    found = SALMONN.read(put(tmp_path / "it", parts, bare), parts.sources)
    assert found.model.config.lora == {} and "no adapters" in "\n".join(found.notes)


def test_a_checkpoint_of_speech_alone(parts: Parts, tensors: dict[str, Tensor], tmp_path: Path) -> None:
    """Without BEATs, as the published code also trains: one stream, log-mel features."""
    bare = {name: t for name, t in tensors.items() if not name.startswith(("ln_audio.", "beats."))}
    for name in bare:
        if ".crossattention.self.key.weight" in name or ".crossattention.self.value.weight" in name:
            bare[name] = bare[name][:, :16].clone()
    found = SALMONN.read(put(tmp_path / "it", parts, bare), replace(parts.sources, sound_encoder=None))
    part = {"type": "audio", "array": torch.zeros(20_000).numpy(), "sampling_rate": 16_000}
    inputs = found.processor.apply_chat_template([{"role": "user", "content": [part]}])
    assert inputs["input_features"].shape[1] == 80
    assert torch.isfinite(found.model(**inputs).logits).all()


# faults


def drop(t: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in t.items() if name != "ln_speech.bias"}


def add(t: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**t, "speech_Qformer.bert.encoder.layer.0.intermediate.dense.weight": torch.zeros(2, 2)}


def reshape(t: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**t, "speech_llama_proj.bias": torch.zeros(31)}


def lose_adapter(t: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: v for name, v in t.items() if name != f"{LLM}0.self_attn.v_proj.lora_B.default.weight"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop, "missing: .*ln_speech.bias"),
        (add, "unexpected: .*layer.0.intermediate.dense.weight"),
        (reshape, "of another shape: .*speech_llama_proj.bias"),
        (lose_adapter, "missing: .*layers.0.self_attn.v_proj.lora_B"),
    ],
)
@pytest.mark.parametrize("with_parts", [True, False])
def test_tensors_that_do_not_fit_are_named(
    change: Change, words: str, with_parts: bool, parts: Parts, tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    folder = put(tmp_path / "it", parts, change(tensors))
    with pytest.raises(CheckpointError, match=words):
        SALMONN.read(folder, parts.sources, with_parts=with_parts)


def test_tensors_that_tell_the_sizes_are_named(
    parts: Parts, tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    bare = {name: t for name, t in tensors.items() if name != "speech_query_tokens"}
    with pytest.raises(CheckpointError, match="missing speech_query_tokens"):
        SALMONN.read(put(tmp_path / "it", parts, bare), parts.sources)


def test_adapters_of_two_ranks_are_refused(parts: Parts, tensors: dict[str, Tensor], tmp_path: Path) -> None:
    name = f"{LLM}0.self_attn.q_proj.lora_A.default.weight"
    with pytest.raises(CheckpointError, match=r"ranks \[4, 8\]"):
        SALMONN.read(put(tmp_path / "it", parts, {**tensors, name: tensors[name][:4].clone()}), parts.sources)


class Attack:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_code_in_a_file_is_never_run(parts: Parts, tensors: dict[str, Tensor], tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    folder = put(tmp_path / "it", parts, {"model": tensors, "more": Attack(mark)})
    with pytest.raises(CheckpointError, match="Nothing in it was run"):
        SALMONN.read(folder, parts.sources)
    assert not mark.exists()
    torch.load(folder / "salmonn_v1.pth", weights_only=False)
    assert mark.exists()  # the attack works where code is run


def test_damaged_files_are_refused(parts: Parts, tensors: dict[str, Tensor], tmp_path: Path) -> None:
    folder = put(tmp_path / "it", parts, {"model": tensors})
    torch.save({"model": tensors}, folder / "salmonn_v1.pth", _use_new_zipfile_serialization=False)
    whole = (folder / "salmonn_v1.pth").read_bytes()
    (folder / "salmonn_v1.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"salmonn_v1\.pth"):
        SALMONN.read(folder, parts.sources)


def test_a_model_entry_that_is_no_table_is_refused(
    parts: Parts, tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    folder = put(tmp_path / "it", parts, {"model": {**tensors, "name": "salmonn"}})
    with pytest.raises(CheckpointError, match="not a table of tensors"):
        SALMONN.read(folder, parts.sources)


def test_one_of_several_files_must_be_named(parts: Parts, tensors: dict[str, Tensor], tmp_path: Path) -> None:
    folder = put(tmp_path / "it", parts, tensors, "a.pth")
    put(folder, parts, tensors, "b.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth, b\.pth; wanted one"):
        SALMONN.read(folder, parts.sources)
    SALMONN.read(folder / "a.pth", replace(parts.sources), with_parts=False)


def test_other_files_are_not_recognised(plain: Imported, tmp_path: Path) -> None:
    torch.save({"model": {"weight": torch.zeros(2)}}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("nothing")
    assert not SALMONN.recognises(tmp_path) and not SALMONN.recognises(tmp_path / "nowhere")
    plain.model.save_pretrained(tmp_path / "ours")
    assert not SALMONN.recognises(tmp_path / "ours")
    with pytest.raises(ModelError, match="does not exist"):
        SALMONN.read(tmp_path / "nowhere", Sources())


def test_beats_must_be_given(parts: Parts, tensors: dict[str, Tensor], tmp_path: Path) -> None:
    folder = put(tmp_path / "it", parts, tensors)
    with pytest.raises(ModelError, match=r"BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2\.pt"):
        SALMONN.read(folder, replace(parts.sources, sound_encoder=None))


@pytest.mark.parametrize("name", ["text_model", "encoder", "sound_encoder"])
def test_a_part_that_is_not_there_is_named(
    name: str, parts: Parts, tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    folder = put(tmp_path / "it", parts, tensors)
    lost = replace(parts.sources, **{name: str(tmp_path / "lost")})
    with pytest.raises(ModelError, match="lost"):
        SALMONN.read(folder, lost)


def test_a_part_of_another_size_is_refused(parts: Parts, tensors: dict[str, Tensor], tmp_path: Path) -> None:
    other = tmp_path / "small"
    shutil.copytree(parts.text_model, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    folder = put(tmp_path / "it", parts, tensors)
    with pytest.raises(CheckpointError, match=r"small.* has num_hidden_layers 1, wanted 2"):
        SALMONN.read(folder, replace(parts.sources, text_model=str(other), accept_other=True))
