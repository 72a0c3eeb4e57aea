"""The window-level Q-Former: a batch equals each clip alone, and transformers' Q-Formers give the same numbers."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel
from transformers.models.granite_speech.modeling_granite_speech import GraniteSpeechEncoderProjector

from vivavoce.base.errors import ConfigError, ModelError
from vivavoce.models import CONNECTORS
from vivavoce.models.config import build_part
from vivavoce.models.connectors.qformer import QFormerConfig, WindowQFormer

SMALL = QFormerConfig(
    text_size=10,
    streams=(6, 4),
    hidden_size=8,
    num_layers=2,
    num_heads=2,
    intermediate_size=12,
    window_s=0.1,
    stride_s=0.1,
)
MODES = {
    "drop": {},
    "pad": {"tail": "pad", "num_queries": 2},
    "overlap": {"tail": "pad", "stride_s": 0.04},
    "gaps": {"tail": "pad", "stride_s": 0.16},
    "whole clip": {"windowed": False, "num_queries": 3},
}


def connector(seed: int = 0, **changes: Any) -> WindowQFormer:
    """A tiny one whose every weight is drawn, so that no zero bias or unit gain hides a fault."""
    torch.manual_seed(seed)
    part = WindowQFormer(replace(SMALL, **changes))
    with torch.no_grad():
        for weight in part.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    return part.eval()


def clips(frames: list[tuple[int, ...]], width: int = 10, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    size = max(max(row) for row in frames)
    return torch.randn(len(frames), size, width, generator=generator), torch.tensor(frames)


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=15, deadline=None)
@given(frames=st.lists(st.tuples(st.integers(5, 30), st.integers(1, 30)), min_size=1, max_size=4))
def test_a_batch_equals_each_clip_alone(mode: str, frames: list[tuple[int, int]]) -> None:
    part = connector(**MODES[mode])
    states, lengths = clips(frames)
    with torch.no_grad():
        batch, counts = part(states, lengths)
        assert torch.equal(counts, part.num_tokens(lengths)) and batch.shape[1] == counts.max()
        for i, row in enumerate(frames):
            alone, count = part(states[i : i + 1, : max(row)], lengths[i : i + 1])
            assert alone.shape == (1, int(count), 10) and int(count) == int(counts[i])
            torch.testing.assert_close(batch[i, : int(count)], alone[0], atol=1e-5, rtol=0)


def test_tokens_are_counted_by_windows() -> None:
    frames = torch.tensor([5, 6, 9, 10, 11, 30])
    wanted = {"drop": [1, 1, 1, 2, 2, 6], "pad": [2, 4, 4, 4, 6, 12], "overlap": [1, 2, 3, 4, 4, 14]}
    wanted |= {
        "gaps": [1, 1, 2, 2, 2, 4],
        "whole clip": [3] * 6,
    }  # a window of 5 every 8: starts at 0, 8, ...
    for mode, counts in wanted.items():
        part = connector(**MODES[mode])
        assert part.num_tokens(frames).tolist() == counts, mode
        assert part.num_tokens(torch.stack([frames // 2, frames], 1)).tolist() == counts, mode
    salmonn = QFormerConfig(text_size=16)
    with torch.device("meta"):
        full = WindowQFormer(salmonn)
    assert (salmonn.kernel, salmonn.stride) == (17, 17)
    assert full.num_tokens(torch.tensor([[1500, 1496], [1500, 48]])).tolist() == [88, 88]


@pytest.mark.parametrize("mode", ["pad", "whole clip"])
def test_what_lies_past_a_stream_is_never_read(mode: str) -> None:
    part = connector(**MODES[mode])
    states, frames = clips([(13, 7), (20, 22)])
    dirty = states.clone()
    dirty[0, 13:, :6], dirty[0, 7:, 6:] = 50.0, torch.nan
    with torch.no_grad():
        clean, counts = part(states, frames)
        spoiled, _ = part(dirty, frames)
    torch.testing.assert_close(clean[0, : int(counts[0])], spoiled[0, : int(counts[0])], atol=0, rtol=0)


def test_zeros_come_after_the_norm() -> None:
    part = connector()
    states, frames = clips([(9, 4)])
    normed = part.normed(states, frames)
    torch.testing.assert_close(normed[..., :6], part.ln_speech(states[..., :6]))
    torch.testing.assert_close(normed[:, :4, 6:], part.ln_audio(states[:, :4, 6:]))
    assert not normed[:, 4:, 6:].any()


@pytest.mark.parametrize("mode", MODES)
def test_reference_padding_makes_all_clips_as_long_as_the_longest(mode: str) -> None:
    part = connector(**MODES[mode])
    part.reference_padding = True
    states, frames = clips([(13, 7), (20, 22)])
    full = torch.tensor([[20, 22], [20, 22]])
    with torch.no_grad():
        batch, counts = part(states, frames)
        plain, _ = part(states, full)
        part.reference_padding = False
        own, _ = part(states, full)
    assert torch.equal(counts, part.num_tokens(full))
    assert torch.equal(batch, plain)
    torch.testing.assert_close(batch, own, atol=1e-6, rtol=0)


def test_a_clip_shorter_than_a_window() -> None:
    states, frames = clips([(3, 2), (11, 9)])
    with pytest.raises(ModelError, match=r'3 encoder frames, fewer than the 5 .*tail: "pad"'):
        connector()(states, frames)
    with torch.no_grad():
        embeddings, counts = connector(tail="pad")(states, frames)
    assert counts.tolist() == [1, 3] and embeddings.shape == (2, 3, 10)


def test_one_stream_takes_one_length_per_clip() -> None:
    part = connector(streams=(10,))
    assert not any("audio" in name for name, _ in part.named_parameters())
    states, _ = clips([(20, 20)])
    with torch.no_grad():
        both = [part(states, frames)[0] for frames in (torch.tensor([20]), torch.tensor([[20]]))]
    assert torch.equal(*both) and both[0].shape == (1, 4, 10)


def blip2(part: WindowQFormer) -> Blip2QFormerModel:
    """transformers' Q-Former with the same weights under its own names."""
    config = part.config
    other = Blip2QFormerModel(
        Blip2QFormerConfig(
            hidden_size=config.hidden_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            intermediate_size=config.intermediate_size,
            encoder_hidden_size=sum(config.streams),
            cross_attention_frequency=1,
            layer_norm_eps=config.layer_norm_eps,
            use_qformer_text_input=False,
        )
    )
    renamed = {
        name.removeprefix("bert.")
        .replace("embeddings.LayerNorm", "layernorm")
        .replace(".attention.self.", ".attention.attention.")
        .replace(".crossattention.self.", ".crossattention.attention."): tensor
        for name, tensor in part.speech_Qformer.state_dict().items()
    }
    other.load_state_dict(renamed)
    return other.eval()


@pytest.mark.parametrize("queries", [1, 3])
def test_blip2_of_transformers_gives_the_same(queries: int) -> None:
    part = connector(num_queries=queries)
    windows = torch.randn(4, 5, 10)
    with torch.no_grad():
        ours = part.speech_Qformer["bert"](part.speech_query_tokens, windows)
        theirs = blip2(part)(
            query_embeds=part.speech_query_tokens.expand(4, -1, -1), encoder_hidden_states=windows
        ).last_hidden_state
    assert ours.abs().max() > 0.5
    torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=0)


def test_granite_speech_projector_pads_its_tail_the_same() -> None:
    """transformers' projector of Granite Speech fills the last window with zeros, as ``tail="pad"`` does."""
    part = connector(streams=(10,), tail="pad")
    qformer = blip2(part)
    sizes: Any = SimpleNamespace(
        projector_config=qformer.config,
        downsample_rate=5,
        window_size=5,
        text_config=SimpleNamespace(hidden_size=10),
    )
    granite = GraniteSpeechEncoderProjector(sizes).eval()
    granite.qformer.load_state_dict(qformer.state_dict())
    granite.linear.load_state_dict(part.speech_llama_proj.state_dict())
    granite.query.data.copy_(part.speech_query_tokens)
    for size in (15, 18):
        states, frames = clips([(size,), (size,)])
        with torch.no_grad():
            theirs = granite(part.ln_speech(states))
            torch.testing.assert_close(part(states, frames)[0], theirs, atol=2e-6, rtol=0)


def test_dropout_acts_in_training_only() -> None:
    part = connector(dropout=0.5)
    states, frames = clips([(20, 20)])
    assert torch.equal(part(states, frames)[0], part(states, frames)[0])
    part.train()
    assert not torch.equal(part(states, frames)[0], part(states, frames)[0])
    still = connector(dropout=0.0)
    assert torch.equal(still.train()(states, frames)[0], still.eval()(states, frames)[0])


def test_every_weight_learns() -> None:
    part = connector(num_queries=2)
    states, frames = clips([(20, 20)])
    part(states, frames)[0].square().sum().backward()
    still = [name for name, weight in part.named_parameters() if weight.grad is None or not weight.grad.any()]
    # a bias of keys moves all scores of a query alike
    assert all(name.endswith("key.bias") for name in still), still


def test_initial_weights_are_as_published() -> None:
    torch.manual_seed(0)
    part = WindowQFormer(replace(SMALL, hidden_size=64, streams=(96, 32), text_size=8, num_queries=40))
    assert float(part.speech_query_tokens.detach().std()) == pytest.approx(0.02, rel=0.1)
    for name, module in part.speech_Qformer.named_modules():
        if isinstance(module, nn.Linear):
            assert float(module.weight.detach().std()) == pytest.approx(0.02, rel=0.1), name
            assert not module.bias.any(), name


def test_a_narrow_one_tells_windows_apart_from_the_start_if_asked() -> None:
    """At width 64 the published first weights make windows that differ by a hundredth of what they share."""
    torch.manual_seed(0)
    states, frames = torch.randn(1, 40 * 17, 64), torch.tensor([40 * 17])
    shares = {}
    for std in (0.02, 0.08):
        sizes = {"streams": (64,), "hidden_size": 64, "intermediate_size": 128, "text_size": 96}
        part = WindowQFormer(
            replace(SMALL, **sizes, num_layers=2, num_queries=1, window_s=0.333333, init_std=std)
        )
        found = part.eval()(states, frames)[0][0].detach()
        shares[std] = float(found.std(0).mean() / found.mean(0).norm() * found.shape[1] ** 0.5)
    assert shares[0.02] < 0.03 and shares[0.08] > 10 * shares[0.02], shares


@pytest.mark.parametrize(("text_size", "trained"), [(5120, 26_779_392), (4096, 25_991_936)])
def test_full_size(text_size: int, trained: int) -> None:
    """The published files of 13B and 7B hold 33,332,992 and 30,186,240 trained numbers, LoRA of rank 8 in it."""
    with torch.device("meta"):
        part = WindowQFormer(QFormerConfig(text_size=text_size))
    assert sum(weight.numel() for weight in part.parameters()) == trained
    layers = {5120: 40, 4096: 32}[text_size]
    lora = layers * 2 * 2 * 8 * text_size
    assert trained + lora == {5120: 33_332_992, 4096: 30_186_240}[text_size]
    epsilons = [module.eps for module in part.modules() if isinstance(module, nn.LayerNorm)]
    assert epsilons == [1e-5, 1e-5, *[1e-12] * 7]  # of the streams; of the Q-Former
    assert part.speech_Qformer.state_dict()["bert.encoder.layer.1.crossattention.self.key.weight"].shape == (
        768,
        2048,
    )


def test_table_row_and_a_record() -> None:
    record = {"type": "qformer", "text_size": 10, "streams": [6, 4], "hidden_size": 8, "num_heads": 2}
    part = build_part(CONNECTORS, {**record, "intermediate_size": 12}, "audio_in.connector")
    assert isinstance(part, WindowQFormer) and part.config.streams == (6, 4)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"streams": (1, 2, 3)}, "one or two"),
        ({"num_heads": 3}, "multiple of num_heads"),
        ({"window_s": 0.01}, "less than a frame"),
        ({"stride_s": 0.0}, "less than a frame"),
        ({"num_queries": 0}, "1 or more"),
        ({"tail": "cut"}, "'drop' or 'pad'"),
    ],
)
def test_impossible_sizes_are_refused(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        replace(SMALL, **changes)


def test_states_of_another_width_are_refused() -> None:
    with pytest.raises(ModelError, match=r"9 wide.*\[6, 4\]"):
        connector()(torch.zeros(1, 20, 9), torch.tensor([20]))
