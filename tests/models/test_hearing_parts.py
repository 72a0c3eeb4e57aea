"""The small encoder and the projector: a batch gives each clip what it gets alone; counts are what is promised."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.base.errors import ConfigError
from vivavoce.models.connectors.stack import StackConfig, StackProjector
from vivavoce.models.encoders.mel_ctc import MelCTCConfig, MelCTCEncoder

SMALL = MelCTCConfig(
    vocab_size=11, num_mels=8, hidden_size=16, intermediate_size=24, num_layers=2, num_heads=2
)


def _encoder() -> MelCTCEncoder:
    torch.manual_seed(0)
    return MelCTCEncoder(SMALL).eval()


@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=4))
def test_encoder_and_projector_of_a_batch_equal_each_alone(lengths: list[int]) -> None:
    encoder = _encoder()
    projector = StackProjector(StackConfig(16, 12, stack_factor=3, hidden_size=20)).eval()
    features = torch.randn(len(lengths), 8, max(lengths), generator=torch.Generator().manual_seed(1))
    states, frames = encoder(features, torch.tensor(lengths))
    embeddings, counts = projector(states, frames)
    assert frames.tolist() == [math.ceil(math.ceil(n / 2) / 2) for n in lengths]
    assert counts.tolist() == [-(-int(f) // 3) for f in frames]
    for i, n in enumerate(lengths):
        alone, f = encoder(features[i : i + 1, :, :n], torch.tensor([n]))
        torch.testing.assert_close(states[i, : int(f)], alone[0], atol=1e-5, rtol=1e-5)
        single, c = projector(alone, f)
        torch.testing.assert_close(embeddings[i, : int(c)], single[0], atol=1e-5, rtol=0)


def test_what_lies_past_a_clip_is_never_heard() -> None:
    encoder, features = _encoder(), torch.randn(1, 8, 40)
    dirty = features.clone()
    dirty[..., 22:] = 50.0
    clean, frames = encoder(features, torch.tensor([22]))
    spoiled, _ = encoder(dirty, torch.tensor([22]))
    torch.testing.assert_close(clean[:, : int(frames)], spoiled[:, : int(frames)])


def test_level_does_not_matter() -> None:
    """Ten times louder adds a constant to a log-mel; the encoder takes it out."""
    encoder, features = _encoder(), torch.rand(1, 8, 30)
    a, _ = encoder(features, torch.tensor([30]))
    b, _ = encoder(features + 0.5, torch.tensor([30]))
    torch.testing.assert_close(a, b, atol=1e-4, rtol=0)


def test_silence_around_a_clip_does_not_move_what_is_measured_from_its_maximum() -> None:
    clip = torch.rand(1, 8, 30) * 2 - 1
    around = torch.nn.functional.pad(clip, (10, 10), value=-3.0)

    def moved(**more: object) -> float:
        encoder = MelCTCEncoder(replace(SMALL, **more))  # type: ignore[arg-type]
        alone = encoder.normalise(clip, torch.tensor([30]))
        return float((encoder.normalise(around, torch.tensor([50]))[..., 10:40] - alone).abs().max())

    assert moved(level="top") < 1e-5 and moved(level="top", faint_decades=3.0) < 1e-5
    assert moved(level="mean") > 0.3


def test_faint_sounds_are_squeezed_and_loud_ones_left_alone() -> None:
    clip = (
        -torch.linspace(0, 10, 41)[None, None].repeat(1, 8, 1) / 4
    )  # decades below the maximum: 0, 0.25, ...
    plain, soft = (
        MelCTCEncoder(replace(SMALL, level="top", faint_decades=d)).normalise(clip, torch.tensor([41]))[0, 0]
        for d in (0.0, 3.0)
    )
    torch.testing.assert_close(plain[:17], 3.6 - torch.arange(17) / 4)
    torch.testing.assert_close(soft[:17], plain[:17])
    assert (plain[17:] == plain[16]).all() and (soft[28:] == soft[28]).all()
    torch.testing.assert_close(soft[17:29], plain[16] - 0.4 * torch.arange(1, 13) / 4)


@pytest.mark.parametrize("wrong", [{"level": "loud"}, {"range_decades": 0.0}, {"faint_decades": -1.0}])
def test_ranges_and_levels_that_cannot_be_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        replace(SMALL, **wrong)


def test_greedy_tokens_merge_repeats_and_drop_blanks() -> None:
    encoder = _encoder()
    path = torch.tensor([[0, 3, 3, 0, 3, 5, 5, 0, 7]])
    encoder.ctc_logits = lambda states: torch.nn.functional.one_hot(path, 11).float()  # type: ignore[method-assign]
    assert encoder.greedy_tokens(torch.zeros(1, 9, 16), torch.tensor([8])) == [[3, 3, 5]]


def test_ctc_words_enter_at_their_frames_and_never_from_padding() -> None:
    projector = StackProjector(StackConfig(16, 12, stack_factor=2, hidden_size=20, ctc_words=True)).eval()
    table = torch.randn(11, 12)
    logits = torch.full((2, 5, 11), -30.0)
    logits[..., 0] = 30.0  # blank everywhere
    logits[0, 2, 7], logits[0, 2, 0] = 30.0, -30.0
    logits[1, 3, 4], logits[1, 3, 0] = 30.0, -30.0  # past the end of the second clip
    out = projector.add_ctc_words(torch.zeros(2, 3, 12), logits, torch.tensor([5, 3]), table, blank_id=0)
    torch.testing.assert_close(out[0, 1], table[7])
    assert float(out[0, [0, 2]].detach().abs().max()) < 1e-6 and float(out[1].detach().abs().max()) < 1e-6


def test_projector_gates_with_the_second_half() -> None:
    projector = StackProjector(StackConfig(2, 2, stack_factor=1, hidden_size=4))
    with torch.no_grad():
        projector.ln_pre.weight.fill_(1.0)
        projector.ln_mid.weight.fill_(1.0)
        projector.linear_1.weight.copy_(torch.tensor([[1.0, 0], [0, 1], [10, 0], [-10, 0]]))
        projector.linear_2.weight.copy_(torch.eye(2))
    out, _ = projector(torch.tensor([[[1.0, 1.0]]]), torch.tensor([1]))
    assert float(out[0, 0, 0]) > 1.0 and abs(float(out[0, 0, 1])) < 0.01  # the second gate is shut


@pytest.mark.parametrize("norm", ["mid", "post"])
def test_both_norm_places_have_their_published_names(norm: str) -> None:
    names = dict(StackProjector(StackConfig(4, 6, 8, 10, norm=norm)).named_parameters())  # type: ignore[arg-type]
    assert set(names) == {"ln_pre.weight", "linear_1.weight", "linear_2.weight", f"ln_{norm}.weight"}
    assert names["linear_1.weight"].shape == (10, 32) and names["linear_2.weight"].shape == (6, 5)
    assert float(names["ln_pre.weight"][0]) == pytest.approx(0.4)


def test_unknown_norm_is_refused() -> None:
    with pytest.raises(ConfigError, match="mid"):
        StackProjector(StackConfig(4, 6, norm="before"))  # type: ignore[arg-type]
