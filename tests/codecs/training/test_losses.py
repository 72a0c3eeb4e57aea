"""Losses and discriminators: shapes, gradients, and what moves them."""

from __future__ import annotations

import pytest
import torch
from tests.codecs.any_codec import random_wave

from vivavoce.codecs.training.adversarial import discriminator_loss, feature_distance, generator_loss
from vivavoce.codecs.training.discriminators import BandDiscriminator, Discriminators, PeriodDiscriminator
from vivavoce.codecs.training.spectral import MelDistance, STFTDistance


@pytest.mark.parametrize("distance", [MelDistance(16_000), STFTDistance()], ids=["mel", "stft"])
def test_distances_are_zero_for_the_same_and_grow(distance: torch.nn.Module) -> None:
    real = random_wave(8000, 0)
    assert float(distance(real, real)) == 0.0
    near, far = (float(distance(real + level * random_wave(8000, 1), real)) for level in (0.01, 0.3))
    assert 0 < near < far


def test_gradients_are_finite_in_silence() -> None:
    made = torch.zeros(2, 1, 8000, requires_grad=True)
    (MelDistance(16_000)(made, random_wave(8000, 0)) + STFTDistance()(made, random_wave(8000, 0))).backward()
    assert made.grad is not None and made.grad.isfinite().all()


@pytest.mark.parametrize("samples", [4096, 4099])
def test_shapes_of_discriminators(samples: int) -> None:
    wave = random_wave(samples, 2).repeat(3, 1, 1)
    maps = PeriodDiscriminator(3, 4)(wave)
    assert len(maps) == 6 and maps[0].shape[:2] == (3, 4) and maps[-1].shape[:2] == (3, 1)
    assert all(m.shape[-1] == 3 for m in maps), "one column for each place in a period"
    maps = BandDiscriminator(512, 4)(wave)
    assert len(maps) == 5 * 5 + 1
    frames = samples // 128 + 1
    assert all(m.shape[2] == frames for m in maps)
    first = [m.shape[-1] for m in maps[0:25:5]]
    assert sum(first) == 257, "bands part the spectrum"
    found = Discriminators((2, 3), (512,), 2, 2)(wave)
    assert len(found) == 3


def test_level_and_offset_do_not_tell() -> None:
    judges, wave = Discriminators((2,), (256,), 2, 2), random_wave(2048, 3)
    for ours, theirs in zip(judges(wave), judges(0.1 * wave + 0.2), strict=True):
        torch.testing.assert_close(ours[-1], theirs[-1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("game", ["least_squares", "hinge"])
def test_the_game(game: str) -> None:
    """Each loss is least where its player wins, and the codec's reaches the waveform."""

    def maps(score: float) -> list[list[torch.Tensor]]:
        return [[torch.ones(1, 2, 4), torch.full((1, 1, 4), score)]]

    no = 0.0 if game == "least_squares" else -1.0
    assert discriminator_loss(maps(1.0), maps(no), game) < discriminator_loss(maps(no), maps(1.0), game)
    assert generator_loss(maps(1.0), game) < generator_loss(maps(no), game)
    assert float(feature_distance(maps(1.0), maps(no))) == 0.0, "scores are no features"
    judges, made = Discriminators((2,), (256,), 2, 2), random_wave(2048, 4).requires_grad_(True)
    judged = judges(made)
    (generator_loss(judged, game) + feature_distance(judges(random_wave(2048, 5)), judged)).backward()
    assert made.grad is not None and made.grad.abs().sum() > 0
