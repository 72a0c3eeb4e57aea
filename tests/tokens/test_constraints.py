"""Constrained sampling: whatever the logits, what is drawn can be decoded."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tokens.conftest import llama_model, llama_tokenizer, spec

from vivavoce.base.errors import ConfigError
from vivavoce.tokens.constraints import AudioConstraints, AudioLimits, mask_logits
from vivavoce.tokens.vocabulary import AudioVocabulary, extend_vocabulary, plan_vocabulary

TEXT = 6
STRIDES = {"orpheus": (4, 2, 1), "interleaved": (1, 1)}


def toy(layout: str) -> AudioVocabulary:
    """Six text tokens, then audio tokens with three codewords per level."""
    return plan_vocabulary(layout, spec(STRIDES[layout], 3), num_text_tokens=TEXT)


def spans(ids: list[int], vocabulary: AudioVocabulary) -> tuple[list[list[int]], list[int] | None]:
    """The finished audio spans of a sequence and the open one, checking that codes stand in spans only."""
    finished: list[list[int]] = []
    inside: list[int] | None = None
    for token in ids:
        if token == vocabulary.start_id:
            assert inside is None, "a start inside audio"
            inside = [token]
        elif token == vocabulary.end_id:
            assert inside is not None, "an end outside of audio"
            finished.append([*inside, token])
            inside = None
        elif inside is not None:
            inside.append(token)
        else:
            assert token not in vocabulary.code_ids, "a code in text"
    return finished, inside


def draw(constraints: AudioConstraints, rows: int, steps: int, width: int, seed: int) -> torch.Tensor:
    """Sample ``rows`` sequences of ``steps`` tokens from random logits; int64 [rows, steps]."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.zeros(rows, 0, dtype=torch.long)
    for _ in range(steps):
        logits = 4 * torch.randn(rows, width, generator=generator)
        chances = torch.softmax(constraints(ids, logits), dim=-1)
        ids = torch.cat([ids, torch.multinomial(chances, 1, generator=generator)], dim=1)
    return ids


@pytest.mark.parametrize("layout", ["interleaved", "orpheus"])
@pytest.mark.parametrize(
    "limits",
    [AudioLimits(), AudioLimits(min_frames=2, max_frames=3), AudioLimits(frame_multiple=2, max_length=100)],
    ids=["free", "frames", "length"],
)
def test_ten_thousand_draws_never_give_undecodable_audio(layout: str, limits: AudioLimits) -> None:
    vocabulary = toy(layout)
    width = vocabulary.num_tokens + 5  # five rows of padding that no token has
    ids = draw(AudioConstraints(vocabulary, limits), rows=100, steps=100, width=width, seed=1)
    assert int(ids.max()) < vocabulary.num_tokens
    decoded = 0
    for row in ids.tolist():
        finished, left = spans(row, vocabulary)
        for span in finished:
            frames = vocabulary.from_ids(span).levels[0].shape[1]
            assert frames >= limits.min_frames and frames % limits.frame_multiple == 0
            assert limits.max_frames is None or frames <= limits.max_frames
            decoded += 1
        if limits.max_length is not None:
            assert left is None, "the length limit cut audio off"
        elif left is not None:
            vocabulary.from_ids(left, drop_partial=True)
    assert decoded > 50


@given(seed=st.integers(0, 2**31), layout=st.sampled_from(["interleaved", "orpheus"]))
@settings(max_examples=10)
def test_a_row_is_masked_as_if_it_were_alone(seed: int, layout: str) -> None:
    vocabulary = toy(layout)
    constraints = AudioConstraints(vocabulary)
    ids = draw(constraints, rows=4, steps=30, width=vocabulary.num_tokens, seed=seed)
    scores = torch.zeros(4, vocabulary.num_tokens)
    together = constraints(ids, scores)
    for row in range(4):
        assert torch.equal(together[row : row + 1], constraints(ids[row : row + 1], scores[:1]))
        [step] = constraints.steps(ids[row : row + 1])
        assert torch.equal(together[row], mask_logits(vocabulary, scores[0], step))


def test_what_is_legal_at_each_place() -> None:
    vocabulary = toy("orpheus")
    start, end, first = vocabulary.start_id, vocabulary.end_id, vocabulary.first_code_id
    scores = torch.zeros(1, vocabulary.num_tokens + 2)

    def legal(ids: list[int], limits: AudioLimits | None = None) -> set[int]:
        masked = AudioConstraints(vocabulary, limits)(torch.tensor([ids], dtype=torch.long), scores)
        return set((masked[0] == 0).nonzero().flatten().tolist())

    outside = set(range(vocabulary.num_tokens)) - set(vocabulary.code_ids) - {end}
    frame = [first + 3 * slot for slot in range(7)]
    assert legal([]) == legal([1, 2]) == legal([start, *frame, end]) == outside
    assert legal([1], AudioLimits(allow_start=False)) == outside - {start}
    assert legal([start]) == {first, first + 1, first + 2}
    assert legal([start, first]) == {first + 3, first + 4, first + 5}
    assert legal([start, *frame]) == {first, first + 1, first + 2, end}
    assert legal([start, *frame], AudioLimits(min_frames=2)) == {first, first + 1, first + 2}
    assert legal([start, *frame], AudioLimits(max_frames=1)) == {end}
    # nine tokens hold a start, a frame and an end; the tenth would be needed for one token of text before
    assert start in legal([], AudioLimits(max_length=9)) and start not in legal(
        [1], AudioLimits(max_length=9)
    )
    assert legal([start, *frame], AudioLimits(max_length=15)) == {end}
    assert end in legal([start, *frame], AudioLimits(max_length=16))
    assert legal([start, *frame], AudioLimits(max_length=16)) != {end}


def test_tokens_may_begin_inside_audio() -> None:
    vocabulary = toy("orpheus")
    first = vocabulary.first_code_id
    constraints = AudioConstraints(vocabulary, starts_inside=True)
    assert constraints.steps(torch.zeros(2, 0, dtype=torch.long)) == [0, 0]
    ended = [first, vocabulary.end_id]
    again = [vocabulary.end_id, vocabulary.start_id]
    assert constraints.steps(torch.tensor([[first, first + 3], ended, again])) == [2, None, 0]


@pytest.mark.parametrize(
    "wrong",
    [{"min_frames": 0}, {"frame_multiple": 0}, {"max_frames": 3, "min_frames": 3, "frame_multiple": 2}],
)
def test_impossible_limits_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="frames"):
        AudioLimits(**wrong)  # type: ignore[arg-type]


def test_generate_with_a_language_model() -> None:
    tokenizer = llama_tokenizer()
    model = llama_model(len(tokenizer))
    vocabulary = extend_vocabulary(
        tokenizer, model, codec_spec=spec((4, 2, 1), 3), pad_to_multiple_of=64, init="normal"
    )
    prompt = torch.tensor([[0, 5, vocabulary.start_id], [0, 6, 7]])
    limits = AudioLimits(max_frames=2, max_length=60)
    torch.manual_seed(0)
    out = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=True,
        temperature=3.0,
        max_length=60,
        eos_token_id=None,
        pad_token_id=0,
        logits_processor=[AudioConstraints(vocabulary, limits)],
    )
    for row in out.tolist():
        finished, left = spans(row, vocabulary)
        assert left is None
        for span in finished:
            assert 1 <= vocabulary.from_ids(span).levels[0].shape[1] <= 2
    assert spans(out[0].tolist(), vocabulary)[0]
