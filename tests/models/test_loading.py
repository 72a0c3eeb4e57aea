"""Folders and names: ours, plain causal LMs with audio tokens, and everything that is no model."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.goldens.salmonn_parts import STORED_WHOLE
from tests.goldens.salmonn_parts import make_parts as make_salmonn_parts
from tests.inference import tiny
from tests.models.named_parts import make_parts, naming_model
from transformers import AutoModelForCausalLM

from vivavoce.base.errors import CheckpointError, ConfigError, MissingExtraError, ModelError
from vivavoce.inference.assistant import load
from vivavoce.models import loading
from vivavoce.models.loading import BUNDLE, list_models, load_speech_lm
from vivavoce.models.speech_lm import SpeechLM


def plain_folder(assistant, folder):
    """The checkpoint as others publish it: a Llama with more rows, its tokenizer, and a codec folder."""
    assistant.model.language_model.save_pretrained(folder)
    assistant.processor.tokenizer.save_pretrained(folder)
    assistant.processor._shelf.items["codec"].save(folder / "codec", dtype=torch.float32)
    return folder


@pytest.mark.parametrize("recorded", [False, True])
def test_a_plain_llama_with_sound_tokens_hears(tmp_path, recorded):
    tokenizer, codec = tiny.byte_tokenizer(), tiny.tiny_codec()
    ears = tiny.sound(codec, tokenizer, "interleaved")
    made = tiny.assemble(tokenizer, codec, audio_in={**ears, "transcribe_prompt": "x"})
    plain_folder(made, tmp_path)
    if recorded:
        made.processor.vocabulary_in.save(tmp_path)
    loaded = load(tmp_path)
    assert loaded.hears and loaded.chats and not loaded.speaks
    assert loaded.model.config.audio_in.codec == "codec"
    question = [tiny.user("Say ", tiny.clip(0.3))]
    assert loaded.chat(question, max_new_tokens=20).text == made.chat(question, max_new_tokens=20).text
    assert loaded.transcribe(tiny.clip(), max_new_tokens=5).seconds == 0.5
    assert loaded.model.config.sampling["max_new_tokens"] == 256
    # saved as ours, it is the same model
    loaded.model.save_pretrained(tmp_path / "ours")
    loaded.processor.save_pretrained(tmp_path / "ours")
    again = load(tmp_path / "ours")
    assert again.chat(question, max_new_tokens=20).text == made.chat(question, max_new_tokens=20).text


def test_a_plain_llama_with_orpheus_tokens_speaks(tmp_path):
    made = tiny.text_to_tokens()
    loaded = load(plain_folder(made, tmp_path))
    assert loaded.speaks and not loaded.chats and not loaded.hears
    wanted = made.say("hello", voice="tara", seed=3, max_new_tokens=60)
    given = loaded.say("hello", seed=3, max_new_tokens=60)
    assert np.array_equal(given.audio, wanted.audio)
    assert loaded.voices == ("tara", "leah", "jess", "leo", "dan", "mia", "zac", "zoe")


@pytest.mark.parametrize(
    "make", [tiny.embeddings_to_text, tiny.tokens_to_tokens, tiny.embeddings_to_tokens, tiny.transcript_first]
)
def test_own_folders_give_the_same_answers(make, tmp_path):
    made = make()
    made.model.save_pretrained(tmp_path)
    made.processor.save_pretrained(tmp_path)
    codec = made.processor._shelf.items.get("codec")
    if codec is not None:
        codec.save(tmp_path / "codec", dtype=torch.float32)
    loaded = load(str(tmp_path))
    assert type(loaded.model) is SpeechLM and not loaded.model.training
    spoken = make is tiny.transcript_first
    question = "one plus two" if spoken else [tiny.user("Say ", tiny.clip(0.3))]
    audio = made.speaks
    options = {"audio": audio, "seed": 1, "max_new_tokens": 12 if spoken else 60}
    first, second = made.chat(question, **options), loaded.chat(question, **options)
    assert (first.text, first.words) == (second.text, second.words)
    if audio:
        assert np.array_equal(first.audio, second.audio)


def test_half_precision_weights_run_in_float32_on_a_cpu(tmp_path):
    made = tiny.embeddings_to_text()
    made.model.to(torch.float16).save_pretrained(tmp_path)
    made.processor.save_pretrained(tmp_path)
    model, _ = load_speech_lm(tmp_path, device="cpu")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    model, _ = load_speech_lm(tmp_path, device="cpu", dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def no_config(folder):
    (folder / "config.json").unlink()


def no_json(folder):
    (folder / "config.json").write_text("{")


def no_tokenizer(folder):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def no_weights(folder):
    (folder / "model.safetensors").unlink()


def cut_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def missing_tensor(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.0.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def another_type(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "vits"}))


def broken_codec(folder):
    (folder / "codec" / "model.safetensors").unlink()


@pytest.mark.parametrize(
    ("damage", "error", "part"),
    [
        (no_config, ModelError, "is not a model folder: it has no config.json"),
        (no_json, ModelError, "config.json cannot be read"),
        (no_tokenizer, ModelError, "has no tokenizer"),
        (no_weights, CheckpointError, "cannot be loaded"),
        (cut_weights, CheckpointError, "cannot be loaded"),
        (missing_tensor, CheckpointError, "1 tensors missing: model.layers.0.mlp.up_proj.weight"),
        (another_type, ModelError, "holds a model of type 'vits'"),
        (broken_codec, CheckpointError, "codec"),
    ],
)
def test_damaged_folders(tmp_path, damage, error, part):
    plain_folder(tiny.text_to_tokens(), tmp_path)
    damage(tmp_path)
    with pytest.raises(error) as caught:
        load_speech_lm(tmp_path)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_language_model_without_audio_tokens_is_told_what_to_do(tmp_path):
    tokenizer = tiny.byte_tokenizer()
    made = tiny.assemble(tokenizer, None)
    made.model.language_model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"neither hears nor speaks.*extend_vocabulary"):
        load_speech_lm(tmp_path)


def test_a_model_that_was_not_resized_is_refused(tmp_path):
    plain_folder(tiny.text_to_tokens(), tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    model.resize_token_embeddings(300, mean_resizing=False)
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"300 embedding rows, its tokenizer's audio tokens need"):
        load_speech_lm(tmp_path)


def test_a_codec_that_did_not_make_the_tokens_is_refused(tmp_path):
    from vivavoce.codecs.nano import NanoCodec, NanoCodecConfig

    made = tiny.tokens_to_tokens()
    made.model.save_pretrained(tmp_path)
    made.processor.save_pretrained(tmp_path)
    NanoCodec(NanoCodecConfig(encoder_dim=8, decoder_dim=8, codebook_size=32)).save(tmp_path / "codec")
    with pytest.raises(Exception, match=r"codewords per level 16, codec .* has 32"):
        load(tmp_path).chat([tiny.user(tiny.clip())])


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("nanno", "Did you mean 'nano'"),
        ("no/such/folder", "unknown model 'no/such/folder'"),
        ("nobody/nothing-at-all", "cannot get config.json of 'nobody/nothing-at-all'"),
        (__file__, "is a file"),
    ],
)
def test_names_that_are_no_model(name, part):
    with pytest.raises(ModelError) as caught:
        load_speech_lm(name)
    assert part in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_hub_says_how_to_go_offline():
    with pytest.raises(ModelError, match=r"`hf download nobody/nothing`.*HF_HUB_OFFLINE=1"):
        load_speech_lm("nobody/nothing")


def test_a_hub_id_in_the_cache_needs_no_network(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    cache = tmp_path / "models--someone--speaks"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("a" * 40)
    made = tiny.text_to_tokens()
    folder = plain_folder(made, cache / "snapshots" / ("a" * 40))
    loaded = load("someone/speaks")
    wanted = made.say("hi", seed=1, max_new_tokens=30)
    assert np.array_equal(loaded.say("hi", seed=1, max_new_tokens=30).audio, wanted.audio)
    (folder / "model.safetensors").unlink()  # half a snapshot is none
    with pytest.raises(ModelError, match=r"cannot get config\.json of 'someone/speaks'"):
        load("someone/speaks")


def test_quantize_is_checked(tmp_path, monkeypatch):
    plain_folder(tiny.text_to_tokens(), tmp_path)
    with pytest.raises(ConfigError, match="quantize is 'nf5', wanted one of 'nf4'"):
        load_speech_lm(tmp_path, quantize="nf5")
    with pytest.raises(ConfigError, match="device is 'cup'"):
        load_speech_lm(tmp_path, device="cup")
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vivavoce\[quant\]'"):
        load_speech_lm(tmp_path, quantize="nf4")


def test_four_bit_weights_speak(tmp_path):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed (extra quant)")
    plain_folder(tiny.text_to_tokens(hidden_size=128, intermediate_size=256), tmp_path)
    loaded = load(tmp_path, quantize="nf4")
    kinds = {type(m).__name__ for m in loaded.model.modules()}
    assert "Linear4bit" in kinds
    assert type(loaded.model.get_output_embeddings()).__name__ == "Linear"
    assert len(loaded.say("hi", seed=1, max_new_tokens=40).audio) > 0


def test_list_names_what_is_there(tmp_path, monkeypatch):
    rows = {row.name: row for row in list_models()}
    assert ("nano" in rows) == (BUNDLE / "nano" / "config.json").is_file()
    assert rows["jan_llama3"].hears == "tokens" and rows["jan_llama3"].speaks == "no"
    assert rows["orpheus"].speaks == "none" and not rows["orpheus"].chats
    made = tiny.transcript_first()
    made.model.config.description = "a tiny one"
    made.model.save_pretrained(tmp_path / "nano")
    made.processor.save_pretrained(tmp_path / "nano")
    shutil.copytree(tmp_path / "nano", tmp_path / "again")
    monkeypatch.setattr(loading, "BUNDLE", tmp_path)
    nano = list_models()[0]
    assert (nano.name, nano.hears, nano.speaks, nano.embedded) == ("nano", "embeddings", "phone", True)
    assert nano.description == "a tiny one"
    assert load_speech_lm("nano")[0].config.audio_out.alignment == "phone"


# published forms of ears


@pytest.fixture
def salmonn(tmp_path):
    """The golden SALMONN: a folder with its file, and where its parts are."""
    made = make_salmonn_parts(STORED_WHOLE, tmp_path / "parts")
    return made.checkpoint("checkpoint_layout.pth", tmp_path / "published"), made.sources


def test_published_ears_load_by_their_file_and_folder(salmonn):
    folder, sources = salmonn
    clip = torch.randn(1, 20_000)
    with pytest.raises(ModelError, match="no model hub under a fixed name"):
        load_speech_lm(folder, device="cpu", sources=replace(sources, sound_encoder=None))
    model, processor = load_speech_lm(folder, device="cpu", sources=sources)
    wanted = model.hear(clip).embeddings
    assert not model.training and processor.audio_token_id == model.config.audio_token_id
    file = folder / "checkpoint_layout.pth"
    (folder / "config.json").rename(folder / "settings.json")  # a .pth alone has no config beside it
    again, _ = load_speech_lm(file, device="cpu", sources=sources)
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    assert (
        type(again.connector) is type(model.connector) and wanted.shape == again.hear(clip).embeddings.shape
    )


def test_a_saved_salmonn_remembers_its_language_model(salmonn, tmp_path):
    folder, sources = salmonn
    model, processor = load_speech_lm(folder, device="cpu", sources=sources)
    model.save_pretrained(tmp_path / "ours")
    processor.save_pretrained(tmp_path / "ours")
    assert set(model.config.lora) == {"language_model"}
    again = load(tmp_path / "ours", device="cpu")
    answer = [tiny.user(tiny.clip(1.1), "What is heard?")]
    assert again.chat(answer, max_new_tokens=5).text is not None
    file = tmp_path / "parts" / "llama" / "model.safetensors"
    save_file({n: t + 0.5 for n, t in load_file(file).items()}, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"trained with the language_model '.*llama'.*accept_other"):
        load(tmp_path / "ours", device="cpu")
    assert load(tmp_path / "ours", device="cpu", accept_other=True).hears


def test_another_part_is_accepted_by_both_ways_of_saying_so(tmp_path, monkeypatch):
    from vivavoce.models.presets import preset
    from vivavoce.models.presets.preset import Sources

    given = []

    class Stub:
        def read(self, place, sources, with_parts, **weights):
            given.append(sources)
            raise ModelError("enough")

    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(preset, "find_ears_preset", lambda place: Stub())
    for more in ({}, {"sources": Sources(accept_other=True)}, {"accept_other": True}):
        with pytest.raises(ModelError, match="enough"):
            load_speech_lm(tmp_path, device="cpu", **more)
    assert [sources.accept_other for sources in given] == [False, True, True]


def test_a_pth_comes_from_the_hub_only_where_there_is_nothing_else(salmonn, tmp_path, monkeypatch):
    import huggingface_hub

    folder, sources = salmonn
    asked = []

    class Info:
        siblings: ClassVar = []

    def download(name, local_files_only=False, ignore_patterns=()):
        if local_files_only:
            raise huggingface_hub.errors.LocalEntryNotFoundError("not here")
        asked.append(list(ignore_patterns))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda self, name, timeout: Info)
    for names in (["salmonn_v1.pth", "README.md"], ["model.safetensors", "consolidated.00.pth"]):
        Info.siblings = [huggingface_hub.hf_api.RepoSibling(name) for name in names]
        assert type(load_speech_lm("tsinghua/SALMONN", device="cpu", sources=sources)[0]) is SpeechLM
    assert ["*.pth" in patterns for patterns in asked] == [False, True]
    # and what is in the cache is enough
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, local_files_only: str(folder))
    (folder / "config.json").unlink()
    assert loading.find_model("tsinghua/SALMONN") == folder


def test_ears_stay_in_float_when_the_text_model_is_quantised(tmp_path, monkeypatch):
    """The text model is asked for in 4 bits, everything else is not; bitsandbytes itself is stood in for."""
    from vivavoce.models import reading

    parts = make_parts(tmp_path)
    naming_model(parts, lora=False).save_pretrained(tmp_path / "ours")
    asked = {}
    plain = reading.load_reference

    def stand_in(reference, folder, arguments):
        asked.update(arguments)
        return plain(reference, folder, {k: v for k, v in arguments.items() if k != "quantization_config"})

    monkeypatch.setattr(reading, "load_reference", stand_in)
    model = SpeechLM.from_pretrained(tmp_path / "ours", quantization_config="nf4", dtype=torch.bfloat16)
    assert asked["quantization_config"] == "nf4"
    assert {p.dtype for p in model.audio_encoder.parameters()} == {torch.bfloat16}


def test_four_bit_text_model_by_name_with_adapters(tmp_path):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed (extra quant)")
    from transformers import BitsAndBytesConfig

    parts = make_parts(tmp_path)
    naming_model(parts).save_pretrained(tmp_path / "ours")
    four = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    model = SpeechLM.from_pretrained(tmp_path / "ours", quantization_config=four, dtype=torch.bfloat16)
    kinds = {type(m).__name__ for m in model.language_model.modules()}
    assert "Linear4bit" in kinds
    assert "Linear4bit" not in {type(m).__name__ for m in model.audio_encoder.modules()}
    model.save_pretrained(tmp_path / "again")
    configs = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("ours", "again")]
    assert configs[0]["fingerprints"] == configs[1]["fingerprints"]
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("ours", "again"))
    assert first.keys() == second.keys()
    with pytest.raises(ModelError, match="is quantised"):
        model.save_pretrained(tmp_path / "all", backbone="merged")
