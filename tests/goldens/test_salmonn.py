"""BEATs and SALMONN's window-level Q-Former against reference numbers, for every stored case and field."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from tests.goldens.discovery import golden_folders, label
from torch import Tensor

from vivavoce.base.errors import ModelError
from vivavoce.models.connectors.qformer import QFormerConfig, WindowQFormer
from vivavoce.models.encoders.beats import BeatsEncoder, Padding, linear_mask
from vivavoce.models.encoders.beats_config import BeatsConfig
from vivavoce.models.encoders.beats_weights import load_beats

TOLERANCE = 2e-5
FBANK_TOLERANCE = 2e-4


class Case(NamedTuple):
    """One golden file and its row in config.json."""

    folder: Path  # beats/ or qformer/
    name: str

    @property
    def facts(self) -> dict[str, Any]:
        return config(self.folder)["cases"][self.name]

    @property
    def stored(self) -> dict[str, Tensor]:
        return tensors(self.folder / f"{self.name}.safetensors")


@functools.cache
def config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())


@functools.cache
def tensors(path: Path) -> dict[str, Tensor]:
    return load_file(path)


def cases(part: str) -> list[Case]:
    """The listed cases of one part whose file is there."""
    return [
        Case(root / part, name)
        for root in golden_folders("salmonn")
        if (root / part / "config.json").is_file()
        for name in config(root / part)["cases"]
        if (root / part / f"{name}.safetensors").is_file()
    ]


def name_of(case: Case) -> str:
    return f"{label(case.folder.parent)}-{case.name}"


FOLDERS = golden_folders("salmonn")
SOUNDS, WINDOWS = cases("beats"), cases("qformer")
every_folder = pytest.mark.parametrize("root", FOLDERS, ids=label)
every_sound = pytest.mark.parametrize("case", SOUNDS, ids=name_of)
every_window = pytest.mark.parametrize("case", WINDOWS, ids=name_of)


def compare(case: Case, ours: dict[str, Tensor]) -> None:
    """Every stored field is one that we have, of the same shape and within its tolerance."""
    unknown = sorted(case.stored.keys() - ours.keys())
    assert not unknown, f"{case.folder / case.name} has fields that no test knows: {unknown}"
    for field, wanted in case.stored.items():
        found = ours[field]
        assert found.shape == wanted.shape, field
        if wanted.is_floating_point():
            atol = FBANK_TOLERANCE if field == "fbank_normalised" else TOLERANCE
            torch.testing.assert_close(
                found.to(wanted.dtype), wanted, rtol=0, atol=atol, msg=lambda m, f=field: f"{f}: {m}"
            )
        else:
            assert torch.equal(found.to(wanted.dtype), wanted), field


@every_folder
@pytest.mark.parametrize("part", ["beats", "qformer"])
def test_every_file_is_read(root: Path, part: str) -> None:
    folder = root / part
    known = {"config.json"} | {f"{name}.safetensors" for name in config(folder)["cases"]}
    if part == "beats":
        known |= {"model.safetensors", "checkpoint_layout.pt"}
    else:
        known |= {facts["model"] for facts in config(folder)["cases"].values()}
    unread = sorted(p.name for p in folder.iterdir() if p.name not in known and not p.name.startswith("."))
    assert not unread, f"{folder} has files that no test reads: {unread}"
    read = {case.folder for case in SOUNDS + WINDOWS}
    assert folder in read, f"{folder} has no case with a file"


# BEATs


@functools.cache
def beats(folder: Path) -> BeatsEncoder:
    return load_beats(folder)


def sound(case: Case) -> tuple[Tensor, Tensor, Padding]:
    """Waveform, true samples and padding of a case; some cases share the waveform of another."""
    facts = case.facts
    sharers = [
        other
        for other in SOUNDS
        if other.folder == case.folder
        and "waveform" in other.stored
        and other.facts["samples"] == facts["samples"]
        and (other == case or "waveform" not in case.stored)
    ]
    assert sharers, f"{case.name} has no waveform, nor has a case of the same lengths"
    # of several, the one whose name is most like this one's
    best = max(sharers, key=lambda o: sum(a == b for a, b in zip(o.name, case.name, strict=False)))
    waveform = (case if case in sharers else best).stored["waveform"]
    padding: Padding = "unmasked" if facts["masked_tokens"] is None else "masked"
    dtype = getattr(torch, facts["dtype"].removeprefix("torch."))
    return waveform.to(dtype), torch.tensor(facts["samples"]), padding


@torch.no_grad()
def heard(case: Case) -> dict[str, Tensor]:
    """Everything that a case may have stored, as we compute it."""
    encoder = beats(case.folder)
    waveform, lengths, padding = sound(case)
    seen: dict[str, Tensor] = {}
    hooks = [
        encoder.encoder.register_forward_pre_hook(lambda _, x: seen.__setitem__("encoder_input", x[0])),
        *(
            layer.register_forward_hook(lambda _, __, y, i=i: seen.__setitem__(f"layer_{i}", y))
            for i, layer in enumerate(encoder.encoder.layers)
        ),
    ]
    try:
        features, tokens = encoder(waveform, lengths, padding)
    finally:
        for hook in hooks:
            hook.remove()
    assert tokens.tolist() == [features.shape[1]] * len(waveform)
    bank = encoder.fbank(waveform)[0]
    assert bank.dtype == waveform.dtype
    samples_hidden = torch.arange(waveform.shape[1])[None] >= lengths[:, None]
    frames_hidden = linear_mask(samples_hidden, bank.shape[1])
    return {
        "waveform": waveform.float(),
        "sample_padding_mask": samples_hidden,
        "frame_padding_mask": frames_hidden,
        "token_padding_mask": linear_mask(frames_hidden, features.shape[1]),
        "fbank_normalised": bank,
        **seen,
        "features": features,
        "class_probs": encoder.class_probabilities(waveform, lengths, padding),
    }


@every_sound
def test_beats(case: Case) -> None:
    ours, facts = heard(case), case.facts
    compare(case, ours)
    assert ours["fbank_normalised"].shape[1] == facts["fbank_frames"]
    assert ours["features"].shape[1] == facts["tokens"]
    assert bool(ours["features"].isfinite().all()) == facts["finite"]
    for mask in ("token", "frame"):
        wanted = facts[f"masked_{mask}s"]
        if wanted is not None:
            assert ours[f"{mask}_padding_mask"].sum(1).tolist() == wanted


@every_sound
def test_reference_padding_is_the_reference_with_its_mask(case: Case) -> None:
    waveform, lengths, padding = sound(case)
    encoder = BeatsEncoder(beats(case.folder).config).eval()
    encoder.load_state_dict(beats(case.folder).state_dict())
    encoder.reference_padding = True
    with torch.no_grad():
        states, tokens = encoder(waveform, lengths)
        assert torch.equal(tokens, encoder.num_frames(lengths))
        if padding == "masked":
            torch.testing.assert_close(states, case.stored["features"], rtol=0, atol=TOLERANCE)
        else:
            torch.testing.assert_close(states, encoder(waveform, lengths, "masked")[0], rtol=0, atol=0)


@every_sound
def test_beats_alone(case: Case) -> None:
    """Without ``reference_padding`` a clip that fills its row is the reference's, and no row sees another."""
    encoder = beats(case.folder)
    waveform, lengths, padding = sound(case)
    if padding == "unmasked":
        lengths = torch.full_like(lengths, waveform.shape[1])  # silence is part of each clip
    with torch.no_grad():
        states, tokens = encoder(waveform, lengths)
        chances = encoder.class_probabilities(waveform, lengths)
        assert torch.equal(tokens, encoder.num_frames(lengths))
        for row, (length, count) in enumerate(zip(lengths.tolist(), tokens.tolist(), strict=True)):
            alone = waveform[row : row + 1, :length], torch.tensor([length])
            torch.testing.assert_close(states[row, :count], encoder(*alone)[0][0], rtol=0, atol=TOLERANCE)
            torch.testing.assert_close(
                chances[row], encoder.class_probabilities(*alone)[0], rtol=0, atol=TOLERANCE
            )
            assert not states[row, count:].any()
            if length == waveform.shape[1]:
                torch.testing.assert_close(
                    states[row, :count], case.stored["features"][row], rtol=0, atol=TOLERANCE
                )


@every_folder
def test_beats_checkpoint_and_folder_are_one(root: Path) -> None:
    folder, facts = root / "beats", config(root / "beats")
    ours = beats(folder).state_dict()
    table = "self_attn.relative_attention_bias.weight"
    once = {k: v for k, v in facts["keys"].items() if not k.endswith(table) or "layers.0." in k}
    assert {name: list(tensor.shape) for name, tensor in ours.items()} == once
    other = load_beats(folder / "checkpoint_layout.pt")
    assert other.config == beats(folder).config == BeatsConfig.from_official(facts["cfg"])
    assert all(torch.equal(ours[name], tensor) for name, tensor in other.state_dict().items())
    plain = BeatsEncoder(other.config)
    plain.load_state_dict(tensors(folder / "model.safetensors"))
    assert all(torch.equal(ours[name], tensor) for name, tensor in plain.state_dict().items())


@every_folder
def test_beats_geometry(root: Path) -> None:
    with torch.device("meta"):
        encoder = BeatsEncoder(BeatsConfig())
    for samples, wanted in config(root / "beats")["geometry_16x16_128mel"].items():
        length = torch.tensor([int(samples)])
        assert encoder.num_frames(length).tolist() == [wanted["tokens"]]
        assert 1 + (int(samples) - 400) // 160 == wanted["frames"]


# Q-Former


@functools.cache
def qformer(case: Case) -> WindowQFormer:
    facts, shared = case.facts, config(case.folder)
    assert (shared["cross_attention_freq"], shared["bert"]["hidden_act"]) == (1, "gelu")
    weights = dict(tensors(case.folder / facts["model"]))
    weights.pop("speech_Qformer.bert.embeddings.position_ids", None)
    names = ["ln_speech.weight", "ln_audio.weight"]
    bert = shared["bert"]
    connector = WindowQFormer(
        QFormerConfig(
            text_size=len(weights["speech_llama_proj.bias"]),
            streams=tuple(len(weights[name]) for name in names if name in weights),
            hidden_size=bert["hidden_size"],
            num_layers=bert["num_hidden_layers"],
            num_heads=bert["num_attention_heads"],
            intermediate_size=bert["intermediate_size"],
            layer_norm_eps=bert["layer_norm_eps"],
            num_queries=facts["num_query"],
            windowed=facts["window_level"],
            window_s=facts["second_per_window"],
            stride_s=facts["second_stride"],
        )
    )
    connector.load_state_dict(weights)
    return connector.eval()


def streams(case: Case) -> tuple[Tensor, Tensor]:
    """States [B, F, sum of widths] and frames [B, K]."""
    parts = [case.stored[name] for name in ("speech_embeds", "audio_embeds") if name in case.stored]
    size = max(part.shape[1] for part in parts)
    states = torch.cat(
        [torch.nn.functional.pad(part, (0, 0, 0, size - part.shape[1])) for part in parts], dim=-1
    )
    return states, torch.tensor([[part.shape[1] for part in parts]] * len(states))


@every_window
@pytest.mark.parametrize("reference_padding", [False, True])
def test_qformer(case: Case, reference_padding: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    connector, facts = qformer(case), case.facts
    monkeypatch.setattr(connector, "reference_padding", reference_padding)
    assert (connector.config.kernel, connector.config.stride) == (facts["kernel"], facts["stride"])
    states, frames = streams(case)
    seen: dict[str, Any] = {}
    transformer = connector.speech_Qformer["bert"]
    hooks = [
        transformer.register_forward_hook(lambda _, x, y: seen.update(inside=x, read=y)),
        connector.ln_speech.register_forward_hook(lambda _, __, y: seen.update(normed=y)),
    ]
    try:
        with torch.no_grad():
            output, counts = connector(states, frames)
    finally:
        for hook in hooks:
            hook.remove()
    _, windows, mask = seen["inside"]
    assert counts.tolist() == [facts["tokens_out"]] * facts["B"] == connector.num_tokens(frames).tolist()
    assert len(windows) == facts["B"] * facts["windows"]
    assert frames[0].tolist() == [t for t in (facts["T1"], facts["T2"]) if t]
    everything = torch.ones(windows.shape[:2], dtype=torch.int64)
    compare(
        case,
        {
            "speech_embeds": states[:, : facts["T1"], : connector.config.streams[0]],
            "audio_embeds": states[:, : facts["T2"], connector.config.streams[0] :],
            "ln_speech_out": seen["normed"][:, : facts["T1"]],
            "windows": windows,
            "window_attention_mask": everything if mask is None else mask.long(),
            "qformer_last_hidden": seen["read"],
            "output": output,
            "output_mask": torch.ones(output.shape[:2], dtype=torch.int64),
        },
    )


@every_folder
def test_qformer_names_and_window_arithmetic(root: Path) -> None:
    facts = config(root / "qformer")
    wanted = dict(facts["state_dict_keys_main"])
    wanted.pop("speech_Qformer.bert.embeddings.position_ids")
    for case in WINDOWS:
        if case.folder == root / "qformer" and case.facts["model"] == "main.model.safetensors":
            ours = {name: list(tensor.shape) for name, tensor in qformer(case).state_dict().items()}
            assert ours == wanted
    for seconds, frames in facts["kernel_examples"].items():
        sizes = QFormerConfig(text_size=8, window_s=float(seconds), windowed=False, stride_s=float(seconds))
        assert sizes.kernel == sizes.stride == frames


@every_window
def test_shorter_than_a_window_is_refused_and_can_be_padded(case: Case) -> None:
    connector, facts = qformer(case), case.facts
    states, frames = streams(case)
    short = facts["kernel"] - 1
    if not facts["window_level"]:
        assert connector.num_tokens(frames.clamp(max=1)).tolist() == [facts["num_query"]] * facts["B"]
        return
    with pytest.raises(ModelError, match='tail: "pad"'):  # the reference fails here, too
        connector(states[:, :short], frames.clamp(max=short))
