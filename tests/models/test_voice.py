"""The aligned voice: conditions are per word and need one word of look-ahead; codes stay in range."""

from __future__ import annotations

import pytest
import torch

from vivavoce.base.errors import ConfigError
from vivavoce.models.voice.aligned import AlignedVoice, AlignedVoiceConfig, PhoneTimes
from vivavoce.models.voice.duration import SHORTEST_S, DurationHead, WordWindow

SMALL = AlignedVoiceConfig(
    text_size=16, codebook_size=8, num_phones=5, condition_size=6, depth_size=8, depth_intermediate_size=12,
    depth_heads=2, frame_s=0.1,
)  # fmt: skip


def _voice() -> AlignedVoice:
    torch.manual_seed(0)
    return AlignedVoice(SMALL).eval()


def test_frames_know_their_phone_its_neighbours_and_progress() -> None:
    times = PhoneTimes(phones=[0, 3], ends_s=[0.15, 0.3], start_s=0.1, previous=2, following=None)
    phones, progress = _voice().phone_frames(times, first=1, count=2)
    assert phones.shape == progress.shape == (2, 4, 3)
    # ids are shifted by one: 0 means "no phone"; phone 0 (silence) must not look like it
    assert phones[0, 0].tolist() == [1, 3, 4]
    assert phones[1, 0].tolist() == [4, 1, 0]
    share, length, spent = progress[0, 0].tolist()
    assert share == pytest.approx(0.0125 / 0.05, abs=1e-4)
    assert length == pytest.approx(0.05 * 5, abs=1e-4) and spent == pytest.approx(0.0125 * 3, abs=1e-4)


def test_frames_past_the_last_phone_stay_in_it() -> None:
    times = PhoneTimes(phones=[1], ends_s=[0.05], start_s=0.0)
    phones, progress = _voice().phone_frames(times, first=0, count=3)
    assert phones[..., 0].unique().tolist() == [2]
    assert float(progress[..., 0].max()) == pytest.approx(1.5)


def test_depth_states_are_causal() -> None:
    voice, hidden = _voice(), torch.randn(3, 16)
    codes = torch.randint(0, 8, (3, 6))
    other = codes.clone()
    other[:, 4:] = (other[:, 4:] + 1) % 8
    a, b = voice.depth_states(hidden, codes), voice.depth_states(hidden, other)
    torch.testing.assert_close(a[:, :5], b[:, :5])
    assert not torch.allclose(a[:, 5:], b[:, 5:])


def test_drawing_agrees_with_the_training_pass_and_seeds_reproduce() -> None:
    voice, hidden = _voice(), torch.randn(1, 16)
    codes = voice.draw_frames(hidden)
    states = voice.depth_states(hidden, codes[:, :-1])
    for slot, level in enumerate(SMALL.slot_levels):
        assert int(voice.heads[level](states[:, slot]).argmax()) == int(codes[0, slot])
    draws = [voice.draw_frames(hidden, [1.0], [torch.Generator().manual_seed(3)]) for _ in range(2)]
    assert torch.equal(*draws) and int(draws[0].max()) < 8


def test_durations_ignore_padding_and_have_a_floor() -> None:
    torch.manual_seed(0)
    head = DurationHead(5, size=8).eval()
    short, long = WordWindow.of([], [1, 2], [3]), WordWindow.of([4, 4, 4], [1, 2, 3, 0], [2, 2])
    alone = head(*head.collate([short]))
    together = head(*head.collate([short, long]))
    torch.testing.assert_close(alone[0], together[0, : alone.shape[1]])
    with torch.no_grad():
        head.out.bias.fill_(-20.0)
    assert head.seconds(short) == [SHORTEST_S, SHORTEST_S]


def test_unknown_alignment_is_refused() -> None:
    with pytest.raises(ConfigError, match="phone"):
        AlignedVoice(AlignedVoiceConfig(text_size=8, alignment="letter"))  # type: ignore[arg-type]
