"""Whisper for clips of any length: as transformers, as the goldens, and a batch as each clip alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tests.goldens.discovery import golden_folders, label
from torch import Tensor, nn
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

from vivavoce.audio.features import LogMel
from vivavoce.base.errors import CheckpointError, ConfigError, ModelError
from vivavoce.models import ENCODERS
from vivavoce.models.config import build_part
from vivavoce.models.encoders.references import encoder_record, feature_settings
from vivavoce.models.encoders.whisper import WhisperEars, WhisperEarsConfig

MELS, CONTEXT = 8, 50  # encoder frames, so 100 mel frames: 1 s
TINY = {
    "num_mel_bins": MELS,
    "max_source_positions": CONTEXT,
    "d_model": 16,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
}
DECODER = {
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 24,
    "vocab_size": 40,
    "pad_token_id": 0,
}
# width, layers, heads, inner width, mel bins of published encoders
PUBLISHED = {
    "medium": (1024, 24, 16, 4096, 80),
    "large-v3": (1280, 32, 20, 5120, 128),  # large-v3-turbo has the same encoder
}


def _shake(module: nn.Module, seed: int = 0) -> None:
    """Random weights, biases and gains, large enough that every one of them matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.named_parameters():
            gain = "norm" in name and name.endswith("weight")
            value.copy_(torch.randn(value.shape, generator=generator) * 0.3 + gain)


def _ears(reference_padding: bool = False, **fields: Any) -> WhisperEars:
    ears = WhisperEars(WhisperEarsConfig(**{"model": TINY, **fields})).eval()
    _shake(ears)
    ears.reference_padding = reference_padding
    return ears


def _features(lengths: list[int], filler: float = 0.0, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(len(lengths), MELS, max(lengths), generator=generator)
    for row, n in zip(features, lengths, strict=True):
        row[:, n:] = filler
    return features, torch.tensor(lengths)


def _gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().abs().max())


def _speech(samples: int, seed: int = 0) -> np.ndarray:
    """Noise that gets louder up to its last sample, so that the frames past the end still hear it."""
    noise = np.random.default_rng(seed).standard_normal(samples)
    return (0.2 * noise * np.linspace(0.01, 1.0, samples)).astype(np.float32)


def _cases(kind: str, pattern: str) -> list[Any]:
    found = [(f, p) for f in golden_folders(kind) for p in sorted(f.glob(pattern))]
    return [pytest.param(p, id=f"{label(f)}-{p.parent.name}-{p.stem}") for f, p in found]


@pytest.mark.parametrize("path", _cases("ultravox", "*/goldens.safetensors"))
def test_reference_padding_equals_the_ultravox_encoder(path: Path) -> None:
    config = json.loads((path.parent / "config.json").read_text())
    block = config["audio_latency_block_size"]
    ears = WhisperEars(WhisperEarsConfig(model=config["audio_config"], block_frames=block)).eval()
    stored = load_file(path.parent / "model.safetensors")
    weights = {k.removeprefix("audio_tower."): v for k, v in stored.items() if k.startswith("audio_tower.")}
    ears.encoder.load_state_dict(weights)
    goldens = load_file(path)
    cases = [name.removesuffix("/encoder_output") for name in goldens if name.endswith("/encoder_output")]
    assert cases
    for case in cases:
        features, lengths = goldens[f"{case}/audio_values"], goldens[f"{case}/audio_lens"].flatten().long()
        expected = goldens[f"{case}/encoder_output"]
        ears.reference_padding = True
        states, frames = ears(features, lengths)
        torch.testing.assert_close(states, expected, rtol=0, atol=1e-5, msg=case)
        if len(lengths) == 1:  # alone there is no padding, and so no difference
            ears.reference_padding = False
            torch.testing.assert_close(ears(features, lengths)[0], expected, rtol=0, atol=1e-5, msg=case)
        assert frames.tolist() == [-(-n // 2) for n in lengths.tolist()]


@pytest.mark.parametrize("path", _cases("salmonn", "whole/train_s*.safetensors"))
def test_full_context_equals_the_salmonn_encoder(path: Path) -> None:
    goldens = load_file(path)
    model = json.loads((path.parent / "config.json").read_text())["whisper"]
    ears = WhisperEars(WhisperEarsConfig(model=model, pad_to_longest=True)).eval()
    ears.encoder.load_state_dict(load_file(path.parent / "whisper_encoder.safetensors"))
    whole = torch.full((len(goldens["raw_wav"]),), ears.longest)
    states, frames = ears(goldens["spectrogram"], whole)
    torch.testing.assert_close(states, goldens["whisper_out"], rtol=0, atol=1e-5)
    assert frames.tolist() == [ears.longest // 2] * len(whole)


def test_a_full_clip_equals_transformers() -> None:
    ears = _ears()
    features, lengths = _features([2 * CONTEXT] * 2)
    states, frames = ears(features, lengths)
    expected = ears.encoder(features).last_hidden_state
    torch.testing.assert_close(states, expected, rtol=0, atol=1e-5)
    assert frames.tolist() == [CONTEXT] * 2


@pytest.mark.parametrize("samples", [[16000, 15999, 15801, 12345, 8010, 400], [160]])
def test_padding_to_the_full_context_equals_extractor_and_transformers(samples: list[int]) -> None:
    ears = _ears(pad_to_longest=True)
    clips = [_speech(n, seed=i) for i, n in enumerate(samples)]
    extractor = WhisperFeatureExtractor(feature_size=MELS, chunk_length=1)
    spectra = extractor(clips, sampling_rate=16000, return_tensors="pt")["input_features"]
    expected = ears.encoder(spectra).last_hidden_state
    batch = torch.zeros(len(clips), max(samples))
    for row, clip in zip(batch, clips, strict=True):
        row[: len(clip)] = torch.from_numpy(clip)
    record = {"type": "whisper", "model": TINY, "pad_to_longest": True}
    features, lengths = LogMel(**feature_settings(record))(batch, torch.tensor(samples))
    states, frames = ears(features, lengths)
    torch.testing.assert_close(states, expected, rtol=0, atol=1e-4)
    assert frames.tolist() == [CONTEXT] * len(clips)


@pytest.mark.parametrize("samples", [16000, 15801, 12345, 8010, 12000, 11999, 400, 1])
def test_silence_after_short_features_is_whispers_but_for_two_frames(samples: int) -> None:
    """From the mel of a clip alone the frames just past its end cannot be known; all further ones can."""
    clip = _speech(samples)
    extractor = WhisperFeatureExtractor(feature_size=MELS, chunk_length=1)
    expected = extractor(clip, sampling_rate=16000, return_tensors="pt")["input_features"]
    features, lengths = LogMel(MELS, ending="silence")(torch.from_numpy(clip)[None])
    continued = _ears(pad_to_longest=True)._continue_with_silence(features, lengths)
    different = (continued - expected).abs().amax(dim=(0, 1)) > 1e-5
    end = -(-samples // 160)
    touched = sum(
        160 * t - 200 < samples - 1 for t in range(end, 2 * CONTEXT)
    )  # frames whose window has samples
    assert touched <= 2 and not different[end + touched :].any()
    assert not different[
        : min(end, 2 * CONTEXT - 1)
    ].any()  # the extractor mirrors a clip that fills the window


def test_silence_is_as_deep_below_the_clip_as_whisper_cuts_it() -> None:
    features = torch.full((2, MELS, 10), -0.3)
    features[0, 2, 4], features[1, 2, 4], features[1, :, 6:] = 1.1, -0.25, 9.0
    ears = _ears(pad_to_longest=True)
    continued = ears._continue_with_silence(features, torch.tensor([10, 6]))
    assert continued.shape == (2, MELS, 2 * CONTEXT)
    torch.testing.assert_close(continued[0, :, 10:], torch.full((MELS, 90), 1.1 - 2.0))
    torch.testing.assert_close(continued[1, :, 6:], torch.full((MELS, 94), -1.5))
    states, _ = ears(features, torch.tensor([10, 6]))
    torch.testing.assert_close(states, ears.encoder(continued).last_hidden_state, rtol=0, atol=1e-5)
    alone, _ = ears(features[1:, :, :6], torch.tensor([6]))
    torch.testing.assert_close(states[1], alone[0], rtol=0, atol=1e-5)


@settings(max_examples=12, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 2 * CONTEXT), min_size=1, max_size=4),
    block=st.sampled_from([None, 1, 7]),
    filler=st.sampled_from([0.0, 3.0, float("nan")]),
)
def test_a_batch_equals_each_alone(lengths: list[int], block: int | None, filler: float) -> None:
    ears = _ears(block_frames=block)
    features, sizes = _features(lengths, filler)
    states, frames = ears(features, sizes)
    assert frames.tolist() == ears.num_frames(sizes).tolist() == [-(-n // 2) for n in lengths]
    assert states.shape == (len(lengths), max(frames.tolist()), ears.hidden_size)
    for i, n in enumerate(lengths):
        alone, count = ears(features[i : i + 1, :, :n], sizes[i : i + 1])
        torch.testing.assert_close(states[i, : int(count)], alone[0], rtol=0, atol=1e-5)
        assert not states[i, int(count) :].any()


def test_reference_padding_leaks_and_says_so() -> None:
    features, lengths = _features([31, 60], filler=0.5)
    neutral, frames = _ears()(features, lengths)
    leaking, _ = _ears(reference_padding=True)(features, lengths)
    n = int(frames[0])
    torch.testing.assert_close(neutral[1], leaking[1], rtol=0, atol=1e-5)
    assert _gap(neutral[0, :n], leaking[0, :n]) > 1e-3
    assert bool(leaking[0, n:].any())


def _masked_by_hand(ears: WhisperEars, features: Tensor, lengths: Tensor, block: int | None) -> Tensor:
    """Ultravox's forward written out: an additive mask for every pair of positions, plain attention."""
    encoder = ears.encoder
    x = nn.functional.gelu(encoder.conv2(nn.functional.gelu(encoder.conv1(features)))).mT
    size = x.shape[1]
    x = x + encoder.embed_positions.weight[:size]
    mask = torch.zeros(len(x), 1, size, size)
    for i, n in enumerate(lengths.tolist()):
        mask[i, :, :, (n - 1) // 2 + 1 :] = -torch.inf
    for q in range(size):
        for k in range(size):
            if block is not None and k // block > q // block:
                mask[:, :, q, k] = -torch.inf
    heads, width = 2, x.shape[2] // 2
    for layer in encoder.layers:
        attention, y = layer.self_attn, layer.self_attn_layer_norm(x)
        q, k, v = (
            f(y).unflatten(2, (heads, width)).transpose(1, 2)
            for f in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        weights = torch.softmax(q @ k.mT / width**0.5 + mask, dim=-1)
        x = x + attention.out_proj((weights @ v).transpose(1, 2).flatten(2))
        x = x + layer.fc2(nn.functional.gelu(layer.fc1(layer.final_layer_norm(x))))
    return encoder.layer_norm(x)


@pytest.mark.parametrize("block", [None, 1, 5, 100])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_masks_equal_ones_written_out_by_hand(block: int | None, attention: str) -> None:
    ears = _ears(block_frames=block, reference_padding=True)
    ears.encoder.set_attn_implementation(attention)
    features, lengths = _features([13, 41, 2], filler=0.7)
    states, _ = ears(features, lengths)
    expected = _masked_by_hand(ears, features, lengths, block)
    torch.testing.assert_close(states, expected, rtol=0, atol=1e-5)


def test_blocks_that_are_over_do_not_change() -> None:
    ears = _ears(block_frames=10)
    features, _ = _features([80])
    early, _ = ears(features[..., :43], torch.tensor([43]))
    late, _ = ears(features, torch.tensor([80]))
    torch.testing.assert_close(early[:, :20], late[:, :20], rtol=0, atol=1e-5)
    assert _gap(early[:, 20:], late[:, 20:22]) > 1e-3
    with pytest.raises(ModelError, match="knows no blocks"):
        ears.encoder.config._attn_implementation = "flash_attention_2"
        ears(features, torch.tensor([80]))


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_published_encoders_have_their_published_tensors(name: str) -> None:
    d, layers, heads, inner, mels = PUBLISHED[name]
    model = {"d_model": d, "encoder_layers": layers, "encoder_attention_heads": heads}
    with torch.device("meta"):
        ears = build_part(
            ENCODERS,
            {"type": "whisper", "model": {**model, "encoder_ffn_dim": inner, "num_mel_bins": mels}},
            "audio_in.encoder",
        )
    shapes = {k: tuple(v.shape) for k, v in ears.state_dict().items()}
    vector, square = (d,), (d, d)
    expected = {
        "conv1.weight": (d, mels, 3),
        "conv1.bias": vector,
        "conv2.weight": (d, d, 3),
        "conv2.bias": vector,
        "embed_positions.weight": (1500, d),
        "layer_norm.weight": vector,
        "layer_norm.bias": vector,
    }
    for i in range(layers):
        for part in ("q", "k", "v", "out"):
            expected[f"layers.{i}.self_attn.{part}_proj.weight"] = square
            if part != "k":
                expected[f"layers.{i}.self_attn.{part}_proj.bias"] = vector
        expected[f"layers.{i}.fc1.weight"], expected[f"layers.{i}.fc1.bias"] = (inner, d), (inner,)
        expected[f"layers.{i}.fc2.weight"], expected[f"layers.{i}.fc2.bias"] = (d, inner), vector
        for norm in ("self_attn_layer_norm", "final_layer_norm"):
            expected[f"layers.{i}.{norm}.weight"] = expected[f"layers.{i}.{norm}.bias"] = vector
    assert shapes == {f"encoder.{k}": v for k, v in expected.items()}
    assert all(p.is_meta for p in ears.parameters())
    assert (ears.hidden_size, ears.longest, ears.takes) == (d, 3000, "log_mel")
    assert ears.num_frames(torch.tensor([3000, 2999, 2, 1])).tolist() == [1500, 1500, 1, 1]


def test_half_precision_and_gradients() -> None:
    ears, (features, lengths) = _ears(), _features([21, 9])
    whole, _ = ears(features, lengths)
    half, _ = _ears().to(torch.bfloat16)(features, lengths)
    assert half.dtype == torch.bfloat16
    assert _gap(half.float(), whole) < 0.1 * float(whole.detach().abs().max())
    whole.square().sum().backward()
    moved = {n for n, p in ears.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert moved == {n for n, p in ears.named_parameters() if p.requires_grad}
    assert not ears.encoder.embed_positions.weight.requires_grad  # Whisper's positions are fixed


def test_layers_are_dropped_in_training_only() -> None:
    ears = _ears(model={**TINY, "encoder_layerdrop": 1.0})
    features, lengths = _features([20])
    whole, _ = ears(features, lengths)
    torch.testing.assert_close(whole, _ears()(features, lengths)[0])
    bare, _ = ears.train()(features, lengths)
    ears.encoder.layers = nn.ModuleList()
    torch.testing.assert_close(bare, ears(features, lengths)[0])


def test_gradient_checkpointing_changes_nothing() -> None:
    plain, checked = _ears(), _ears()
    checked.encoder.gradient_checkpointing_enable()
    features, lengths = _features([20, 33])
    for ears in (plain.train(), checked.train()):
        ears(features, lengths)[0].square().sum().backward()
    for (name, a), b in zip(plain.named_parameters(), checked.parameters(), strict=True):
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, msg=name)


@pytest.mark.parametrize(
    ("shape", "lengths", "match"),
    [
        ((1, MELS, 101), [101], r"101 frames \(1.01 s\).*at most 100"),
        ((1, 80, 10), [10], "8 mel bins"),
        ((1, 10), [10], "8 mel bins"),
        ((2, MELS, 10), [10], "2 values from 1 to 10"),
        ((2, MELS, 10), [10, 0], "from 1 to 10"),
        ((2, MELS, 10), [10, 11], "from 1 to 10"),
    ],
)
def test_wrong_inputs_are_named(shape: tuple[int, ...], lengths: list[int], match: str) -> None:
    with pytest.raises(ModelError, match=match):
        _ears()(torch.zeros(shape), torch.tensor(lengths))


@pytest.mark.parametrize(
    ("fields", "match"),
    [({"block_frames": 0}, "block_frames is 0"), ({"model": {"model_type": "wavlm"}}, "wanted 'whisper'")],
)
def test_wrong_configs_are_named(fields: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        WhisperEarsConfig(**fields)


# weights that are stored elsewhere


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    """A folder as a Whisper repository has it, with decoder, and its encoder's tensors."""
    folder = tmp_path_factory.mktemp("hub") / "whisper-tiny"
    model = WhisperModel(WhisperConfig(**TINY, **DECODER))
    _shake(model, seed=3)
    model.save_pretrained(folder)
    return folder, {k: v.clone() for k, v in model.encoder.state_dict().items()}


def _is_loaded(ears: WhisperEars, expected: dict[str, Tensor]) -> bool:
    own = ears.encoder.state_dict()
    return own.keys() == expected.keys() and all(torch.equal(own[k], v) for k, v in expected.items())


@pytest.mark.parametrize("form", ["folder", "model.encoder.", "encoder.", "", "pieces", "pytorch"])
def test_weights_come_from_every_published_form(
    form: str, published: tuple[Path, dict[str, Tensor]], tmp_path: Path
) -> None:
    folder, expected = published
    source = folder
    if form in ("model.encoder.", "encoder.", ""):
        source = tmp_path / "weights.safetensors"
        save_file({form + k: v for k, v in expected.items()}, source)
    elif form == "pieces":
        names = sorted(expected)
        pieces = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
        for file, some in pieces.items():
            save_file({f"model.encoder.{k}": expected[k] for k in some}, tmp_path / file)
        weight_map = {f"model.encoder.{k}": file for file, some in pieces.items() for k in some}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
        source = tmp_path
    elif form == "pytorch":
        torch.save({f"model.encoder.{k}": v for k, v in expected.items()}, tmp_path / "pytorch_model.bin")
        source = tmp_path
    ears = _ears(ref=str(source))
    assert ears.references() == {"": str(source)} and not _is_loaded(ears, expected)
    ears.load_reference("", None, dtype=torch.float32, local_files_only=True)
    assert _is_loaded(ears, expected)


def test_a_relative_reference_is_looked_for_beside_the_model(
    published: tuple[Path, dict[str, Tensor]],
) -> None:
    folder, expected = published
    ears = _ears(ref=folder.name)
    ears.load_reference("", folder.parent)
    assert _is_loaded(ears, expected)


def test_weights_reach_the_meta_device_adapters_and_half_precision(
    published: tuple[Path, dict[str, Tensor]],
) -> None:
    peft = pytest.importorskip("peft")
    folder, expected = published
    with torch.device("meta"):
        bare = WhisperEars(WhisperEarsConfig(model=TINY, ref=str(folder)))
    bare.load_reference("")
    assert _is_loaded(bare, expected) and not bare.encoder.embed_positions.weight.requires_grad
    with torch.device("meta"):
        half = WhisperEars(WhisperEarsConfig(model=TINY, ref=str(folder))).to(torch.bfloat16)
    half.load_reference("")
    assert {v.dtype for v in half.state_dict().values()} == {torch.bfloat16}
    adapted = _ears(ref=str(folder)).to(torch.bfloat16)
    adapted = peft.inject_adapter_in_model(peft.LoraConfig(r=2, target_modules=["q_proj"]), adapted)
    adapter = adapted.encoder.layers[0].self_attn.q_proj.lora_A.default.weight.clone()
    adapted.load_reference("")
    projection = adapted.encoder.layers[0].self_attn.q_proj
    assert torch.equal(projection.base_layer.weight, expected["layers.0.self_attn.q_proj.weight"].bfloat16())
    assert torch.equal(projection.lora_A.default.weight, adapter)


def test_weights_that_do_not_fit_are_named(published: tuple[Path, dict[str, Tensor]], tmp_path: Path) -> None:
    folder, _ = published
    wider = _ears(model={**TINY, "encoder_ffn_dim": 32}, ref=str(folder))
    with pytest.raises(
        CheckpointError, match=r"layers.0.fc1.weight is \[24, 16\], the config wants \[32, 16\]"
    ):
        wider.load_reference("")
    deeper = _ears(model={**TINY, "encoder_layers": 3}, ref=str(folder))
    with pytest.raises(CheckpointError, match=r"layers.2.self_attn.k_proj.weight.* missing"):
        deeper.load_reference("")
    save_file({"lm_head.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model.encoder.conv1.weight.*starts with lm_head.weight"):
        _ears(ref=str(tmp_path)).load_reference("")
    (tmp_path / "model.safetensors").write_bytes(b"not a file of tensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        _ears(ref=str(tmp_path)).load_reference("")
    with pytest.raises(ModelError, match="has neither"):
        _ears(ref=str(tmp_path.parent)).load_reference("")
    with pytest.raises(ModelError, match="nobody/nothing"):
        _ears(ref="nobody/nothing").load_reference("", local_files_only=True)
    with pytest.raises(ModelError, match="ref is None"):
        _ears().load_reference("")


def test_one_line_brings_a_whisper(published: tuple[Path, dict[str, Tensor]]) -> None:
    folder, expected = published
    record = encoder_record(folder)
    assert json.loads(json.dumps(record)) == record
    assert record["type"] == "whisper" and "decoder_layers" not in record["model"]
    assert feature_settings(record) == {"num_mels": MELS, "ending": "hop"}
    assert feature_settings({"type": "whisper", "pad_to_longest": True})["multiple"] == 3000
    ears = build_part(ENCODERS, record, "audio_in.encoder")
    for prefix in ears.references():
        ears.load_reference(prefix)
    assert _is_loaded(ears, expected)
