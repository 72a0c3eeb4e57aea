"""Ears by blocks that hear a clip while it grows equal ears that hear it whole."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.models.pairs import assistant as pair

from vivavoce.inference.block_ears import BlockEars


@pytest.fixture(scope="module")
def model():
    return pair("whisper by blocks + stack").model


def whole(model, features):
    return model.hear(features[None], torch.tensor([features.shape[-1]])).embeddings[0]


@given(
    lengths=st.lists(st.integers(1, 80), min_size=1, max_size=6),
    changed=st.integers(0, 80),
    seed=st.integers(0, 99),
)
def test_a_clip_that_grows_shrinks_or_changes_is_heard_as_if_whole(model, lengths, changed, seed):
    clip = torch.randn(8, 80, generator=torch.Generator().manual_seed(seed))
    ears = BlockEars(model)
    for number, length in enumerate(lengths):
        if number == len(lengths) - 1:
            clip = torch.cat([clip[:, :changed], clip[:, changed:] + 1], dim=1)
        heard, wanted = ears.hear(clip[:, :length]), whole(model, clip[:, :length])
        assert heard.shape == wanted.shape
        assert (heard - wanted).abs().max() < 1e-5 < wanted.std()


def test_blocks_that_are_over_are_encoded_once(model):
    ears, clip, new = BlockEars(model), torch.randn(8, 80), []
    encode = ears._encode
    ears._encode = lambda features, begin: (
        new.append((features.shape[1] + 1) // 2 - begin),
        encode(features, begin),
    )[1]
    for length in range(10, 81, 10):
        ears.hear(clip[:, :length])
    assert max(new) <= 8 + 5 and sum(new) < 100  # 180 if each began anew
    ears.clear()
    assert ears._keys == [] and ears._states is None
