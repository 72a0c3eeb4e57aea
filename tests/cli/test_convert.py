"""vivavoce convert: published forms and own folders, named or bundled, complete or not at all."""

from __future__ import annotations

import errno
import json
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.cli.running import listing
from tests.goldens.salmonn_parts import STORED_WHOLE
from tests.goldens.salmonn_parts import make_parts as salmonn_parts
from tests.inference.tiny import byte_tokenizer, text_to_tokens
from tests.models.named_parts import language_model, logits, make_parts, naming_model
from tests.models.tiny import hearing_model

from vivavoce.models.config import SpeechLMConfig
from vivavoce.models.loading import load_speech_lm
from vivavoce.models.processor import SpeechProcessor
from vivavoce.models.speech_lm import SpeechLM


@pytest.fixture
def parts(tmp_path):
    """Parts of a language model that reads bytes, and a folder of ours, ``ours``, that names them."""
    tokenizer = byte_tokenizer("<|audio|>")
    rows = len(tokenizer) + 3
    make_parts(tmp_path, rows, eos_token_id=tokenizer.eos_token_id)
    tokenizer.save_pretrained(tmp_path / "llm")
    placeholder = tokenizer.convert_tokens_to_ids("<|audio|>")
    model = naming_model(tmp_path, rows=rows, placeholder=placeholder)
    model.save_pretrained(tmp_path / "ours")
    SpeechProcessor.for_config(tokenizer, model.config).save_pretrained(tmp_path / "ours")
    return tmp_path


def opened(folder, **more):
    return load_speech_lm(folder, device="cpu", **more)[0]


def stored(folder):
    return load_file(folder / "model.safetensors")


def no_part_is_loaded(monkeypatch):
    """Whoever loads a language model or an encoder by name fails."""
    from transformers import AutoModelForCausalLM

    from vivavoce.models.encoders.whisper import WhisperEars

    def loads(*a, **k):
        raise AssertionError("a named part was loaded")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", loads)
    monkeypatch.setattr(WhisperEars, "load_reference", loads)


def test_own_to_own_by_name_loads_no_part(run, parts, monkeypatch):
    wanted = logits(opened(parts / "ours"))
    (parts / "ours" / "generation_config.json").write_text('{"max_new_tokens": 17}')
    with monkeypatch.context() as patch:
        no_part_is_loaded(patch)
        done = run("convert", "ours", "copy", "--json")
    assert done.code == 0, done.err
    facts = done.json
    assert (facts["recognised"], facts["form"], facts["notes"]) == ("vivavoce", "vivavoce", [])
    assert facts["references"] == {
        "language_model": str(parts / "llm"),
        "audio_encoder": str(parts / "whisper"),
    }
    assert facts["tensors"] == {"connector": 4, "language_model adapters": 8, "audio_encoder adapters": 4}
    assert facts["adapters"]["language_model"] == "rank 2, alpha 16, on q_proj, v_proj"
    first, second = stored(parts / "ours"), stored(parts / "copy")
    assert first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)
    assert torch.equal(logits(opened(parts / "copy")), wanted)
    assert json.loads((parts / "copy" / "generation_config.json").read_text())["max_new_tokens"] == 17
    config = SpeechLMConfig.from_pretrained(parts / "copy")
    assert config.fingerprints == SpeechLMConfig.from_pretrained(parts / "ours").fingerprints != {}


def test_merge_bundles_everything_as_stored(run, parts):
    wanted = logits(opened(parts / "ours"))
    done = run("convert", "ours", "all", "--merge")
    assert done.code == 0, done.err
    assert "recognised " in done.text and "by reference" not in done.text
    for name in ("llm", "whisper", "ours"):
        (parts / name).rename(parts / f"gone {name}")
    assert torch.equal(logits(opened(parts / "all")), wanted)
    assert (
        "ref" not in json.loads((parts / "all" / "processor_config.json").read_text())["audio_in"]["encoder"]
    )


def test_merge_keeps_the_dtype_of_each_part(run, parts):
    llm = language_model(stored(parts / "llm")["model.embed_tokens.weight"].shape[0])
    llm.to(torch.bfloat16).save_pretrained(parts / "llm")
    config = json.loads((parts / "ours" / "config.json").read_text())
    (parts / "ours" / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    assert run("convert", "ours", "all", "--merge", "--accept-other").code == 0
    dtypes = {n.split(".")[0] + ".lora" * (".lora_" in n): t.dtype for n, t in stored(parts / "all").items()}
    assert {dtypes.pop(part) for part in ("language_model", "audio_encoder")} == {torch.bfloat16}
    assert dtypes.keys() == {"connector", "language_model.lora", "audio_encoder.lora"}
    assert set(dtypes.values()) == {torch.float32}


def test_a_bundle_is_taken_apart_again_and_the_same_model_is_asked_for(run, parts):
    wanted = logits(opened(parts / "ours"))
    run("convert", "ours", "all", "--merge")
    done = run("convert", "all", "apart", "--llm", "llm", "--encoder", "whisper", "--json")
    assert done.code == 0, done.err
    assert done.json["references"]["audio_encoder"] == str(parts / "whisper")
    assert any("stored tensors were left out" in note for note in done.json["notes"])
    assert not [n for n in stored(parts / "apart") if n.startswith("language_model.") and ".lora_" not in n]
    assert torch.equal(logits(opened(parts / "apart")), wanted)
    # with another language model of the same sizes
    rows = stored(parts / "llm")["model.embed_tokens.weight"].shape[0]
    language_model(rows, seed=5).save_pretrained(parts / "other")
    assert run("convert", "all", "wrong", "--llm", "other").code == 0
    with pytest.raises(Exception, match=r"was trained with the language_model .*other.*--accept-other"):
        opened(parts / "wrong")
    assert run("convert", "all", "merged", "--llm", "other", "--merge").is_one_error("accept-other", "other")
    assert run("convert", "all", "meant", "--llm", "other", "--accept-other").code == 0
    assert not torch.equal(logits(opened(parts / "meant")), wanted)


@pytest.mark.parametrize("tie", [False, True])
def test_a_bundle_is_copied_bit_by_bit(run, tmp_path, tie):
    tokenizer = byte_tokenizer("<|audio|>")
    model = hearing_model(tie=tie)
    model.save_pretrained(tmp_path / "ours")
    SpeechProcessor.for_config(tokenizer, model.config).save_pretrained(tmp_path / "ours")
    done = run("convert", "ours", "copy", "--json")
    assert done.code == 0, done.err
    first, second = stored(tmp_path / "ours"), stored(tmp_path / "copy")
    assert first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)
    assert sum(done.json["tensors"].values()) == len(first)
    opened(tmp_path / "copy")


def test_relative_names_hold_in_the_new_place(run, parts):
    config = json.loads((parts / "ours" / "config.json").read_text())
    shutil.move(parts / "llm", parts / "ours" / "text")
    config["text_model_ref"] = "text"
    (parts / "ours" / "config.json").write_text(json.dumps(config))
    wanted = logits(opened(parts / "ours"))
    assert run("convert", "ours", "deep/down/copy").code == 0
    assert torch.equal(logits(opened(parts / "deep" / "down" / "copy")), wanted)


def test_prompts_and_tokenizer_come_along(run, parts):
    (parts / "p.json").write_text('{"asr": "Write it down."}')
    tokenizer = byte_tokenizer("<|audio|>")
    tokenizer.chat_template = "{{ 'marked' }}"
    tokenizer.save_pretrained(parts / "tok")
    assert run("convert", "ours", "copy", "--prompts", "p.json", "--tokenizer", "tok").code == 0
    model, processor = load_speech_lm(parts / "copy", device="cpu")
    assert model.config.audio_in.prompts == {"asr": "Write it down."}
    assert processor.tokenizer.chat_template == "{{ 'marked' }}"
    (parts / "p.json").write_text("[]")
    assert run("convert", "ours", "b", "--prompts", "p.json").is_one_error("p.json", "task -> instruction")


def test_ultravox_and_back(run, parts, monkeypatch):
    model = opened(parts / "ours")
    wanted = logits(model)
    with monkeypatch.context() as patch:
        no_part_is_loaded(patch)
        out = run("convert", "ours", "published", "--to", "ultravox", "--json")
        assert out.code == 0, out.err
        assert out.json["form"] == "ultravox"
        back = run("convert", "published", "back", "--json")
    assert back.code == 0, back.err
    assert back.json["recognised"] == "ultravox"
    assert sorted(back.json["references"]) == ["audio_encoder", "language_model"]
    assert torch.allclose(logits(opened(parts / "published")), wanted, atol=1e-5)
    assert torch.allclose(logits(opened(parts / "back")), wanted, atol=1e-5)


def test_salmonn_and_back(run, tmp_path):
    made = salmonn_parts(STORED_WHOLE, tmp_path / "parts")
    made.checkpoint("checkpoint_layout.pth", tmp_path / "published")
    where = ("--llm", made.text_model, "--encoder", made.encoder, "--sound-encoder", made.sound_encoder)
    done = run("convert", "published", "ours", *where, "--accept-other", "--json")
    assert done.code == 0, done.err
    assert done.json["recognised"] == "salmonn"
    assert set(done.json["references"]) == {"language_model", "audio_encoder.first", "audio_encoder.second"}
    first, _ = load_speech_lm(tmp_path / "ours", device="cpu")
    back = run("convert", "ours", "again", "--to", "salmonn", "--json")
    assert back.code == 0, back.err
    assert listing(tmp_path / "again") == ["salmonn.pth"]
    theirs = torch.load(tmp_path / "again" / "salmonn.pth", weights_only=True)["model"]
    given = torch.load(tmp_path / "published" / "checkpoint_layout.pth", weights_only=True)["model"]
    shared = theirs.keys() & given.keys()
    assert len(shared) == len(theirs) and all(torch.equal(theirs[n], given[n].float()) for n in shared)
    clip = torch.randn(1, 20_000)
    second, _ = load_speech_lm(tmp_path / "again" / "salmonn.pth", device="cpu", accept_other=True)
    with torch.no_grad():
        assert torch.equal(first.hear(clip).embeddings, second.hear(clip).embeddings)


def test_a_language_model_with_audio_tokens(run, tmp_path):
    made = text_to_tokens()
    made.model.language_model.save_pretrained(tmp_path / "orpheus")
    made.processor.tokenizer.save_pretrained(tmp_path / "orpheus")
    made.processor._shelf.items["codec"].save(tmp_path / "orpheus" / "codec", dtype=torch.float32)
    done = run("convert", "orpheus", "ours", "--json")
    assert done.code == 0, done.err
    assert done.json["recognised"] == "causal language model"
    assert (tmp_path / "ours" / "codec").is_dir()
    assert opened(tmp_path / "ours").config.audio_out.prompt == "orpheus"
    assert run("convert", "orpheus", "b", "--llm", "x").is_one_error("names no parts", "text_model")


def test_the_destination_is_never_written_over(run, parts):
    before = {p: p.read_bytes() for p in (parts / "ours").iterdir()}
    (parts / "full").mkdir()
    (parts / "full" / "a").write_text("mine")
    (parts / "file").write_text("mine")
    (parts / "empty").mkdir()
    assert run("convert", "ours", "full").is_one_error("full exists already", "nothing is ever written over")
    assert run("convert", "ours", "file").is_one_error("file exists already")
    assert run("convert", "ours", "ours").is_one_error("ours is the source itself")
    assert run("convert", "ours", "./ours/../ours").is_one_error("is the source itself")
    assert run("convert", "ours", "empty").code == 0
    assert {p: p.read_bytes() for p in (parts / "ours").iterdir()} == before
    assert listing(parts / "full") == ["a"] and (parts / "file").read_text() == "mine"


@pytest.mark.parametrize("form", ["vivavoce", "ultravox"])
@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "No space left on device"),
        (RuntimeError("serialisation failed"), 2, "serialisation failed"),
        (TypeError("a fault of ours"), 1, "a fault of ours"),
    ],
)
def test_nothing_half_written_stays(run, parts, monkeypatch, form, fault, code, words):
    from vivavoce.models.presets.ultravox import export

    def breaks(*a, **k):
        raise fault

    names = listing(parts)
    if form == "vivavoce":  # config and weights are written by then
        monkeypatch.setattr(SpeechProcessor, "save_pretrained", breaks)
    else:
        monkeypatch.setattr(export, "write_processor", breaks)
    done = run("convert", "ours", "new/place", "--to", form)
    assert done.code == code and words in done.err and len(done.err.splitlines()) == 1
    assert listing(parts) == names
    (parts / "empty").mkdir()
    assert run("convert", "ours", "empty", "--to", form).code == code
    assert listing(parts / "empty") == [] and listing(parts) == sorted([*names, "empty"])


def test_a_disk_that_fills_while_weights_are_written(run, parts, monkeypatch):
    import transformers.modeling_utils as room
    from safetensors import SafetensorError

    def breaks(tensors, path, **more):
        open(path, "wb").write(b"half")  # noqa: PTH123, SIM115
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    names = listing(parts)
    monkeypatch.setattr(room, "safe_save_file", breaks)
    assert run("convert", "ours", "new").is_one_error("cannot write new", "No space left on device")
    assert listing(parts) == names


def test_a_place_that_cannot_be_written(run, parts):
    (parts / "file").write_text("")
    assert run("convert", "ours", "file/new").is_one_error("cannot write file/new")


def cut(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(folder):
    (folder / "model.safetensors").write_bytes(b"")


def no_config(folder):
    (folder / "config.json").unlink()


def no_json(folder):
    (folder / "config.json").write_text("{")


def no_weights(folder):
    (folder / "model.safetensors").unlink()


def pickled(folder):
    no_weights(folder)
    torch.save({"connector.ln_pre.weight": torch.zeros(2)}, folder / "pytorch_model.bin")


def missing(folder):
    tensors = stored(folder)
    del tensors["connector.linear_1.weight"]
    save_file(tensors, folder / "model.safetensors")


def unexpected(folder):
    save_file({**stored(folder), "connector.more": torch.zeros(1)}, folder / "model.safetensors")


def no_processor(folder):
    (folder / "processor_config.json").unlink()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


@pytest.mark.parametrize("more", [(), ("--merge",), ("--to", "ultravox")])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, ["ours cannot be loaded"]),
        (empty, ["ours cannot be loaded"]),
        (no_config, ["ours", "has no config.json"]),
        (no_json, ["config.json cannot be read"]),
        (no_weights, ["ours", "model.safetensors"]),
        (pickled, ["pytorch_model.bin is not safetensors"]),
        (missing, ["1 tensors missing: connector.linear_1.weight"]),
        (unexpected, ["1 tensors unexpected: connector.more"]),
        (no_processor, ["ours"]),
    ],
)
def test_damaged_folders(run, parts, damage, words, more):
    damage(parts / "ours")
    names = listing(parts)
    assert run("convert", "ours", "new", *more).is_one_error(*words)
    assert listing(parts) == names


class Opens:
    """What runs when it is unpickled."""

    def __reduce__(self):
        return (open, ("ran", "w"))


def test_code_in_a_pickle_is_not_run(run, tmp_path):
    evil = {"model": {"speech_llama_proj.weight": Opens(), "speech_query_tokens": Opens()}}
    torch.save(evil, tmp_path / "salmonn.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(evil))
    (tmp_path / "other.pth").write_bytes(pickle.dumps({"weights": Opens()}))
    assert run("convert", "salmonn.pth", "new").is_one_error("salmonn.pth", "Nothing in it was run")
    assert run("convert", "plain.pth", "new").is_one_error("plain.pth")
    assert run("convert", "other.pth", "new").is_one_error("other.pth is a file of no published form")
    assert listing(tmp_path) == ["other.pth", "plain.pth", "salmonn.pth"]


def test_a_cut_pth_is_refused(run, tmp_path):
    whole = (STORED_WHOLE / "checkpoint_layout.pth").read_bytes()
    (tmp_path / "salmonn.pth").write_bytes(whole[: len(whole) // 2])
    assert run("convert", "salmonn.pth", "new").is_one_error("salmonn.pth")
    assert listing(tmp_path) == ["salmonn.pth"]


def test_names_and_forms_that_are_not_there(run, parts):
    assert run("convert", "nowhere", "new").is_one_error("unknown model 'nowhere'")
    assert run("convert", "no/body", "new").is_one_error("no/body", "hf download")
    assert run("convert", "ours", "new", "--to", "vlm").is_one_error(
        "unknown form 'vlm'", "vivavoce, salmonn, ultravox, vllm"
    )
    assert run("convert", "ours", "new", "--to", "orpheus").is_one_error("unknown form 'orpheus'")
    assert run("convert", "ours", "new", "--to", "salmonn").is_one_error("SALMONN")
    assert run("convert", "ours", "new", "--sound-encoder", "x").is_one_error("has no sound encoder")
    assert run("convert", "ours", "new", "--llm", "nowhere").is_one_error("nowhere")
    make_parts(parts / "small", 40)
    assert run("convert", "ours", "new", "--llm", "small/llm").is_one_error("vocab_size 40", "was made for")
    assert "new" not in listing(parts)


def test_a_folder_of_ours_without_ears(run, tmp_path):
    made = text_to_tokens()
    made.model.save_pretrained(tmp_path / "ours")
    made.processor.save_pretrained(tmp_path / "ours")
    assert run("convert", "ours", "new", "--encoder", "x").is_one_error("has no encoder")
    (tmp_path / "p.json").write_text("{}")
    assert run("convert", "ours", "new", "--prompts", "p.json").is_one_error("does not hear by embeddings")
    assert run("convert", "ours", "new").code == 0
    assert type(SpeechLM.from_pretrained(tmp_path / "new")) is SpeechLM
