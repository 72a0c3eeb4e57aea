"""Packing loses nothing, doubles nothing and keeps within its limits."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.training.packed_cases import document, hearing

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.training.documents import Document
from vivavoce.training.packing import fit, make_batch, pack

PLACEHOLDER = 59
documents_of = st.lists(
    st.tuples(st.integers(1, 30), st.sampled_from([0.0, 0.5, 3.0])), min_size=1, max_size=14
)


def made_of(sizes: list[tuple[int, float]]) -> list[Document]:
    made = [document(length, seed) for seed, (length, _) in enumerate(sizes)]
    for one, (_, seconds) in zip(made, sizes, strict=True):
        one.audio_s = seconds
    return made


def lessons(ids: Any, weights: Any, starts: set[int] = frozenset({0})) -> Counter[tuple[int, ...]]:  # type: ignore[assignment]
    """Each learned token with its weight and the token before it."""
    pairs = enumerate(zip(list(ids), list(weights), strict=True))
    return Counter((int(ids[i - 1]), int(t), float(w)) for i, (t, w) in pairs if w > 0 and i not in starts)


@settings(deadline=None, max_examples=60)
@given(documents_of, st.integers(30, 60), st.sampled_from([None, 3.0, 4.0]), st.booleans())
def test_every_lesson_is_in_one_row_once(
    sizes: list[tuple[int, float]], max_tokens: int, max_audio_s: float | None, chain: bool
) -> None:
    documents = made_of(sizes)
    rows = pack(documents, max_tokens, max_audio_s)
    assert sorted(i for row in rows for i in row) == list(range(len(documents)))
    assert rows == pack(documents, max_tokens, max_audio_s)
    wanted = sum((lessons(d.input_ids, d.weights) for d in documents), Counter())
    found: Counter[Any] = Counter()
    for row in rows:
        batch = make_batch([documents[i] for i in row], chain, pad_to=8)
        assert batch.num_tokens - batch.padding <= max_tokens and batch.num_tokens % 8 == 0
        assert max_audio_s is None or batch.audio_s <= max_audio_s
        found += lessons(batch.input_ids[0].tolist(), batch.weights[0].tolist())
        assert batch.learned.tolist() == torch.nonzero(batch.weights[0] > 0).flatten().tolist()
        assert batch.num_learned == sum(lessons(batch.input_ids[0], batch.weights[0]).values())
        assert torch.equal(batch.targets(), batch.input_ids[0, batch.learned])
        assert sum(batch.lengths) == batch.num_tokens == batch.kinds.shape[1]
        assert batch.borders.tolist() == [0, *np.cumsum(batch.lengths)]
        assert not batch.weights[0, batch.borders[:-1].long()].any()
        firsts = (batch.position_ids[0] == 0).nonzero().flatten().tolist()
        assert firsts == batch.borders[:-1].tolist()
        assert (batch.position_ids.diff() == 1).sum() == batch.num_tokens - len(firsts)
    assert found == wanted


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 50), st.integers(2, 20), st.integers(0, 5))
def test_splitting_teaches_the_same(length: int, max_tokens: int, seed: int) -> None:
    whole = document(length, seed, slots=3)
    parts = fit(whole, max_tokens, "split")
    assert all(2 <= len(p.input_ids) <= max_tokens for p in parts)
    found = sum((lessons(p.input_ids, p.weights) for p in parts), Counter())
    assert found == lessons(whole.input_ids, whole.weights)
    joined = np.concatenate([parts[0].input_ids, *(p.input_ids[1:] for p in parts[1:])])
    kinds = np.concatenate([parts[0].kinds, *(p.kinds[1:] for p in parts[1:])])
    assert np.array_equal(joined, whole.input_ids) and np.array_equal(kinds, whole.kinds)
    assert len({p.id for p in parts}) == len(parts)


def test_splitting_changes_nothing_of_the_whole() -> None:
    whole = document(20, learned=1.0)
    before = whole.weights.copy()
    parts = fit(whole, 7, "split")
    assert [len(p.input_ids) for p in parts] == [7, 7, 7, 2]
    assert all(p.weights[0] == 0 for p in parts)
    assert np.array_equal(whole.weights, before)
    whole.audio_s = 10.0
    assert sum(p.audio_s for p in fit(whole, 7, "split")) == pytest.approx(10.0)


def test_too_long_documents_are_skipped_or_cut() -> None:
    whole = document(20)
    for how in ("skip", "cut", "split"):
        assert fit(whole, 20, how) == [whole]
    assert fit(whole, 19) == []
    [cut] = fit(whole, 12, "cut")
    assert np.array_equal(cut.input_ids, whole.input_ids[:12]) and len(whole.input_ids) == 20
    assert len(cut.weights) == len(cut.kinds) == 12


def test_a_cut_teacher_learns_what_the_student_does() -> None:
    whole = document(20, learned=0.5)
    answer = whole.input_ids[whole.weights > 0]
    ids, weights = (
        np.concatenate([[1, 2, 3], answer]),
        np.array([0] * 3 + [1] * len(answer), dtype=np.float32),
    )
    whole.teacher = (ids, weights)
    [cut] = fit(whole, 12, "cut")
    assert cut.teacher is not None
    kept = cut.input_ids[cut.weights > 0]
    assert 0 < len(kept) < len(answer)
    assert np.array_equal(cut.teacher[0][cut.teacher[1] > 0], kept)
    assert len(cut.teacher[0]) == 3 + len(kept)
    make_batch([cut])


def test_what_cannot_be_made_to_fit_is_said() -> None:
    heard = hearing(document(20), [3, 4], [21, 25], PLACEHOLDER)
    with pytest.raises(DataError, match="a clip is behind that"):
        fit(heard, 7, "cut")
    [cut] = fit(heard, 15, "cut")
    assert cut.features is heard.features
    with pytest.raises(DataError, match="cannot be split"):
        fit(heard, 12, "split")
    with pytest.raises(DataError, match="nothing to learn in its first 10"):
        fit(document(20, learned=0.0), 10, "cut")
    with pytest.raises(ConfigError, match="how is 'crop'"):
        fit(heard, 12, "crop")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="has 20 tokens, a row 12"):
        pack([document(20)], 12)
    with pytest.raises(ConfigError, match="max_tokens is 0"):
        pack([], 0)
    with pytest.raises(ConfigError, match="0 documents"):
        make_batch([])


def test_rows_are_filled_well() -> None:
    rng = np.random.default_rng(0)
    documents = [document(int(n), i) for i, n in enumerate(rng.integers(20, 400, 200))]
    rows = pack(documents, 2048)
    tokens = sum(len(d.input_ids) for d in documents)
    assert len(rows) == -(-tokens // 2048)
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    small = [document(n, i) for i, n in enumerate((4, 4, 4, 6, 6, 6))]
    assert pack(small, 10) == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize("chain", [False, True])
def test_nothing_predicts_the_first_token_of_a_document(chain: bool) -> None:
    documents = [document(3, 1), document(2, 2)]
    for one in documents:
        one.weights[:] = 1.0
    assert make_batch(documents, chain).weights[0].tolist() == [0, 1, 1, 0, 1]
    assert documents[0].weights.tolist() == [1, 1, 1]


def test_a_document_with_much_audio_goes_alone() -> None:
    documents = made_of([(5, 40.0), (5, 1.0), (5, 0.0), (5, 29.0)])
    assert pack(documents, 100, 30.0) == [[0, 2], [1, 3]]
    assert pack(documents, 100) == [[0, 1, 2, 3]]


def test_a_chain_has_one_beginning() -> None:
    batch = make_batch([document(5, 1), document(4, 2)], chain=True)
    assert batch.lengths == (9,)
    assert batch.position_ids[0].tolist() == list(range(9))
    assert batch.ids == ("d1", "d2")


def test_clips_are_in_reading_order() -> None:
    one, two = (
        hearing(document(9, 1), [3], [21], PLACEHOLDER),
        hearing(document(14, 2), [2, 5], [9, 33], PLACEHOLDER),
    )
    batch = make_batch([one, document(3, 3), two])
    assert batch.input_features is not None and batch.feature_lengths is not None
    assert batch.input_features.shape == (3, 80, 33)
    assert batch.feature_lengths.tolist() == [21, 9, 33]
    assert torch.equal(batch.input_features[0, :, :21], one.features.features[0])  # type: ignore[union-attr]
    assert not batch.input_features[0, :, 21:].any()
    assert batch.audio_s == pytest.approx(0.63)
    assert "input_features" in batch.inputs() and "input_features" not in make_batch([document(3)]).inputs()


def test_ends_are_the_last_learned_positions() -> None:
    silent = document(4, 3)
    silent.weights[:] = 0
    documents = [document(9, 1), silent, document(6, 2)]
    batch = make_batch(documents, pad_to=32)
    assert batch.learned[batch.ends].tolist() == [8, 18]


def test_all_tensors_move() -> None:
    one = hearing(document(9, 1), [3], [21], PLACEHOLDER)
    answer = one.input_ids[one.weights > 0]
    one.teacher = (answer, np.ones(len(answer), dtype=np.float32))
    one.weights[one.weights > 0] = 1
    one.teacher = (np.concatenate([[4], answer]), np.array([0] + [1] * len(answer), dtype=np.float32))
    batch = make_batch([one]).to("meta")
    for part in (batch, batch.teacher):
        tensors = [v for v in vars(part).values() if isinstance(v, torch.Tensor)]
        assert tensors and all(t.device.type == "meta" for t in tensors)
    assert batch.lengths == (9,) and batch.num_tokens == 9
    assert "cu_seq_lens_q" in batch.inputs(), "other devices get borders as a tensor"


def test_students_and_teachers_pair_up() -> None:
    one, other = document(6, 1), document(6, 2)
    one.teacher = (one.input_ids, one.weights)
    with pytest.raises(DataError, match="'d2' has no teacher"):
        make_batch([one, other])
    other.teacher = (other.input_ids[::-1], other.weights)
    with pytest.raises(DataError, match="'d2': the student learns"):
        make_batch([one, other])
