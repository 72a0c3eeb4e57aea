"""Models of ours in Ultravox's form: read back they compute the same, and the files say what vLLM reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.goldens.ultravox_models import tokenizer_folder
from tests.models.presets.ultravox_folders import EVERYTHING, logits, parts, read, set_fields
from tests.models.tiny import hearing_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from vivavoce.base.errors import ModelError
from vivavoce.models.config import SpeechLMConfig
from vivavoce.models.presets.preset import Imported, Sources
from vivavoce.models.presets.ultravox import checkpoint
from vivavoce.models.presets.ultravox.export import CODE, CODE_WITH_LAYERS
from vivavoce.models.presets.ultravox.preset import ULTRAVOX
from vivavoce.models.processor import SpeechProcessor
from vivavoce.models.references import without_references
from vivavoce.models.speech_lm import SpeechLM

STACK = {"type": "stack", "stack_factor": 8, "hidden_size": 64, "norm": "mid"}
LAYERS = {
    "type": "transformer",
    "num_layers": 2,
    "num_heads": 4,
    "intermediate_size": 64,
    "max_positions": 200,
}
ENCODER = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 64}


def fresh(connector: dict[str, Any] = STACK, tie: bool = False, **ears: Any) -> Imported:
    """A model that never was an Ultravox, with ears of the same make."""
    config = SpeechLMConfig(
        text_config={
            "model_type": "llama", "vocab_size": 256, "hidden_size": 48, "intermediate_size": 96,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12,
            "rope_parameters": {"rope_type": "default", "rope_theta": 77_000.0}, "tie_word_embeddings": tie,
            "eos_token_id": 131, "bos_token_id": 128, "initializer_range": 0.3,
        },
        audio_in={
            "type": "embeddings",
            "encoder": {"type": "whisper", "model": {**ENCODER, "num_mel_bins": 128, "max_source_positions": 200}},
            "connector": {"encoder_size": 32, "text_size": 48, **connector},
            "audio_token_id": 133,
            "features": {"num_mels": 128, "ending": "hop"},
            "shortest_samples": 320,
            "text_apart": True,
            **ears,
        },
    )  # fmt: skip
    torch.manual_seed(0)
    model = SpeechLM(config).eval()
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder())
    return Imported(model, SpeechProcessor.for_config(tokenizer, config))


def fields(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found


@pytest.mark.parametrize("tie", [False, True], ids=["head", "tied"])
@pytest.mark.parametrize(
    "connector",
    [STACK, {**STACK, "norm": "post"}, {**STACK, "activation": "gelu", "stack_factor": 5}, LAYERS],
    ids=["v0_5", "v0_4", "gelu", "v0_7"],
)
def test_ours_to_theirs_to_ours(connector: dict[str, Any], tie: bool, tmp_path: Path) -> None:
    made = fresh(connector, tie)
    ULTRAVOX.write(made.model, made.processor, tmp_path)
    again = ULTRAVOX.read(tmp_path, Sources())
    assert again.model.config.audio_in.connector == {
        "norm_init": 0.4,
        "activation": "swiglu",
        **again_defaults(made),
    }
    torch.manual_seed(3)
    clip = torch.randn(1, 128, 75)
    with torch.no_grad():
        heard = made.model.hear(clip)
        ids = torch.tensor([[1, *[133] * int(heard.counts[0]), 2, 3]])
        first, second = (x.model(input_ids=ids, input_features=clip).logits for x in (made, again))
    assert torch.equal(first, second)
    assert again.processor.tokenizer.get_vocab() == made.processor.tokenizer.get_vocab()
    ours, theirs = made.model.config.audio_in, again.model.config.audio_in
    for name in ("audio_token_id", "features", "shortest_samples", "text_apart", "reference_padding"):
        assert getattr(ours, name) == getattr(theirs, name), name


def again_defaults(made: Imported) -> dict[str, Any]:
    """A connector's record with the defaults of Ultravox's config written out."""
    record = dict(made.model.config.audio_in.connector)
    record.setdefault("stack_factor", 8)
    if record["type"] == "transformer":
        record["activation"] = "gelu"
    return record


def test_the_files_are_what_vllm_reads(tmp_path: Path) -> None:
    """Fields that vLLM's config takes, configs that transformers builds the parts from, and those parts' own names."""
    made = fresh()
    ULTRAVOX.write(made.model, made.processor, tmp_path)
    record = fields(tmp_path)
    assert record["model_type"] == "ultravox" and record["architectures"] == ["UltravoxModel"]
    assert (record["audio_token_index"], record["vocab_size"], record["pad_token_id"]) == (133, 256, 131)
    assert (record["hidden_size"], record["stack_factor"], record["projector_ln_mid"]) == (64, 8, True)
    assert (record["projector_act"], record["num_projector_layers"], record["torch_dtype"]) == (
        "swiglu",
        0,
        "float32",
    )
    assert record["audio_model_id"] is None and record["text_model_id"] is None
    text = dict(record["text_config"])
    assert text["rope_theta"] == 77_000.0 and text["rope_scaling"] is None and "rope_parameters" not in text
    with torch.device("meta"):
        language_model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(text.pop("model_type"), **text)
        )
        audio = dict(record["audio_config"])
        encoder = WhisperEncoder(AutoConfig.for_model(audio.pop("model_type"), **audio))
    assert language_model.config.rope_parameters["rope_theta"] == 77_000.0
    shapes = {f"language_model.{n}": t.shape for n, t in language_model.state_dict().items()}
    shapes |= {f"audio_tower.{n}": t.shape for n, t in encoder.state_dict().items()}
    shapes |= {f"multi_modal_projector.{n}": t.shape for n, t in made.model.connector.state_dict().items()}
    written = checkpoint.stored_tensors(str(tmp_path), {})
    assert {n: read().shape for n, read in written.items()} == shapes


def test_the_whisper_that_is_named_has_the_bins(tmp_path: Path) -> None:
    """Their code takes the extractor of the named model, and knows by the name that it is a Whisper."""
    made = fresh()
    ULTRAVOX.write(made.model, made.processor, tmp_path)
    assert fields(tmp_path)["audio_config"]["_name_or_path"] == "openai/whisper-large-v3-turbo"  # 128 bins
    extractor = WhisperFeatureExtractor.from_pretrained(tmp_path)
    wave = torch.randn(8000).numpy()
    theirs = extractor(
        wave, sampling_rate=16_000, padding="longest", pad_to_multiple_of=160, return_tensors="pt"
    )
    ours = made.processor(text="<|audio|>", audio=wave, sampling_rate=16_000)["input_features"]
    torch.testing.assert_close(ours, theirs["input_features"], rtol=0, atol=1e-4)


@pytest.mark.parametrize(("connector", "repository"), [(STACK, CODE), (LAYERS, CODE_WITH_LAYERS)])
def test_code_is_named_and_not_shipped(connector: dict[str, Any], repository: str, tmp_path: Path) -> None:
    made = fresh(connector)
    files = ULTRAVOX.write(made.model, made.processor, tmp_path)
    assert not [file for file in files if file.suffix == ".py"]
    record, settings = fields(tmp_path), json.loads((tmp_path / "processor_config.json").read_text())
    names = [*record["auto_map"].values(), *settings["auto_map"].values()]
    names.append(record["custom_pipelines"]["ultravox-pipeline"]["impl"])
    assert {name.partition("--")[0] for name in names} == {repository}
    wanted = {
        "stack_factor": 8,
        "encoder_ds_factor": 2,
        "audio_context_size": 400,
        "audio_padding": "longest",
    }
    assert {k: settings[k] for k in wanted} == wanted and settings["audio_placeholder"] == "<|audio|>"


def test_code_that_a_checkpoint_names_stays(tmp_path: Path) -> None:
    taken = parts(tmp_path, EVERYTHING, auto_map={"AutoModel": "a/b--x.Y", "AutoConfig": "beside.Y"})
    found = read(taken)
    ULTRAVOX.write(found.model, found.processor, tmp_path / "written")
    record = fields(tmp_path / "written")["auto_map"]
    assert record["AutoModel"] == "a/b--x.Y"  # what was a file beside the checkpoint stays there
    assert record["AutoConfig"] == f"{CODE}--ultravox_config.UltravoxConfig" and record["AutoProcessor"]


def test_tokenizer_files_are_read_by_transformers_4_too(tmp_path: Path) -> None:
    made = fresh()
    made.processor.tokenizer.add_special_tokens({"additional_special_tokens": ["<|mine|>"]})
    ULTRAVOX.write(made.model, made.processor, tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert not isinstance(settings.get("extra_special_tokens"), list)
    assert settings["additional_special_tokens"] == ["<|mine|>"]
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.get_vocab() == made.processor.tokenizer.get_vocab()
    assert again.convert_tokens_to_ids("<|audio|>") == 133 and again.eos_token == "<|eot_id|>"


def test_large_models_in_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "SHARD", "100KB")
    made = fresh()
    files = ULTRAVOX.write(made.model, made.processor, tmp_path)
    assert len([f for f in files if f.suffix == ".safetensors"]) > 2
    assert "model.safetensors.index.json" in {f.name for f in files}
    clip = torch.randn(1, 128, 40)
    with torch.no_grad():
        first, second = (x.model.hear(clip).embeddings for x in (made, ULTRAVOX.read(tmp_path, Sources())))
    assert torch.equal(first, second)


def test_fields_that_changed_are_changed_and_others_stay(tmp_path: Path) -> None:
    taken = parts(
        tmp_path, ("audio_tower.",), text_model_id="../text", custom=["kept"], torch_dtype="float32"
    )
    set_fields(taken, text_config=..., audio_token_index=..., norm_init=..., projector_ln_mid=True)
    found = read(taken, text_model=None)
    before = fields(taken.checkpoint)
    ULTRAVOX.write(found.model, found.processor, tmp_path / "same")
    added = {"auto_map", "custom_pipelines", "audio_token_index"}  # vLLM would take 32000 without the last
    same = fields(tmp_path / "same")
    assert {k: v for k, v in same.items() if k not in added} == before and same["audio_token_index"] == 133
    found.model.config.text_model_ref = "someone/another-model"
    found.model.to(torch.bfloat16)
    ULTRAVOX.write(found.model, found.processor, tmp_path / "other")
    other = fields(tmp_path / "other")
    changed = {"text_model_id": "someone/another-model", "torch_dtype": "bfloat16"}
    assert other == {**same, **changed}


def test_parts_that_only_the_caller_named_are_named(tmp_path: Path) -> None:
    """Without their ids nobody could put the model together again."""
    taken = parts(tmp_path)
    found = read(taken)
    ULTRAVOX.write(found.model, found.processor, tmp_path / "written")
    record = fields(tmp_path / "written")
    assert record["text_model_id"] == str(taken.text_model) and "text_config" not in record
    assert record["audio_model_id"] == str(taken.encoder) and "audio_config" not in record
    assert torch.equal(logits(ULTRAVOX.read(tmp_path / "written", Sources())), logits(found))


def test_an_encoder_that_was_trained_is_written_with_its_config(tmp_path: Path) -> None:
    """Once it is stored with the model, its id goes; the config keeps its name."""
    taken = parts(tmp_path, audio_model_id="../whisper")
    set_fields(taken, audio_config=...)
    found = read(taken)
    found.model.audio_encoder.encoder.layer_norm.bias.data += 1.0
    with pytest.raises(ModelError, match="were changed since they were loaded"):
        ULTRAVOX.write(found.model, found.processor, tmp_path / "lost")
    found.model.config.audio_in = without_references(found.model.config.audio_in)
    ULTRAVOX.write(found.model, found.processor, tmp_path / "kept")
    record = fields(tmp_path / "kept")
    assert record["audio_model_id"] is None and record["audio_config"]["_name_or_path"] == "../whisper"
    assert record["audio_config"]["d_model"] == 32
    places = Sources(text_model=str(taken.text_model), accept_other=True)
    assert torch.equal(logits(ULTRAVOX.read(tmp_path / "kept", places)), logits(found))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": {"num_mels": 128}}, r"features \{'num_mels': 128\} \(wanted ending 'hop'\)"),
        ({"transcript_first": True}, r"audio_in\.transcript_first"),
        ({"clip_before": "<Speech>"}, r"audio_in\.clip_before"),
        ({"encoder": {"type": "whisper", "model": {**ENCODER, "num_mel_bins": 128}, "pad_to_longest": True}},
         "encoder 'whisper' with pad_to_longest"),
    ],
)  # fmt: skip
def test_what_their_form_has_no_place_for(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    made = fresh(**change)
    with pytest.raises(ModelError, match=message):
        ULTRAVOX.write(made.model, made.processor, tmp_path)
    assert not list(tmp_path.iterdir())


def test_other_ears_and_no_ears(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no place for the encoder 'mel_ctc'"):
        ULTRAVOX.write(hearing_model(), None, tmp_path)
    config = fresh().model.config
    config.audio_in = SpeechLMConfig().audio_in
    made = SpeechLM(config)
    with pytest.raises(ModelError, match='audio_in is "none"'):
        ULTRAVOX.write(made, None, tmp_path)


def test_a_tokenizer_without_an_end(tmp_path: Path) -> None:
    made = fresh()
    made.processor.tokenizer.eos_token = None
    with pytest.raises(ModelError, match="no end of sequence"):
        ULTRAVOX.write(made.model, made.processor, tmp_path)
