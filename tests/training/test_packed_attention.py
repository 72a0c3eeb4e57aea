"""Packed documents give what each gives alone, for several kinds of language models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.models.tiny import PLACEHOLDER, hearing_model
from tests.training.packed_cases import (
    MODELS,
    assert_same_gradients,
    document,
    gradients,
    hearing,
    language_model,
)
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from vivavoce.base.errors import ModelError
from vivavoce.training import packed_attention
from vivavoce.training.packed_attention import NAME, documents_see_each_other, use_packed_attention
from vivavoce.training.packing import make_batch

LENGTHS = (7, 3, 7, 1, 12, 3, 7)


def loss_of(logits: Tensor, seed: int = 3) -> Tensor:
    """A scalar in which every logit has another weight."""
    torch.manual_seed(seed)
    return (logits * torch.randn(logits.shape[-1])).tanh().sum()


@pytest.mark.parametrize("more", MODELS.values(), ids=MODELS)
def test_packed_is_each_document_alone(more: dict[str, Any]) -> None:
    model = language_model(**more)
    documents = [document(n, i) for i, n in enumerate(LENGTHS)]
    alone = [model(input_ids=torch.from_numpy(d.input_ids)[None]).logits[0] for d in documents]
    loss_of(torch.cat(alone)).backward()
    wanted = gradients(model)
    assert use_packed_attention(model) == NAME
    packed = model(**make_batch(documents).inputs()).logits[0]
    torch.testing.assert_close(packed, torch.cat(alone), rtol=1e-5, atol=1e-5)
    loss_of(packed).backward()
    assert_same_gradients(gradients(model), wanted)


def test_clips_stay_with_their_documents() -> None:
    """With one, two and no clips in a document, and a last document that is heard alone as well."""
    model = hearing_model()
    for parameter in model.parameters():
        parameter.requires_grad_()
    use_packed_attention(model.language_model)
    documents = [
        hearing(document(9, 1), [3], [21], PLACEHOLDER),
        hearing(document(14, 2), [2, 5], [9, 33], PLACEHOLDER),
        document(5, 3),
        hearing(document(8, 4), [5], [33], PLACEHOLDER),
    ]
    packed = model(**make_batch(documents).inputs()).logits[0]
    loss_of(packed).backward()
    found = gradients(model)
    alone = torch.cat([model(**make_batch([d]).inputs()).logits[0] for d in documents])
    loss_of(alone).backward()
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=1e-5)
    assert_same_gradients(found, gradients(model))
    assert any(name.startswith("audio_encoder") for name in found)


def test_a_chain_is_one_document() -> None:
    model = language_model()
    use_packed_attention(model)
    documents = [document(n, i) for i, n in enumerate(LENGTHS)]
    chained = model(**make_batch(documents, chain=True).inputs()).logits[0]
    whole = torch.cat([torch.from_numpy(d.input_ids) for d in documents])
    torch.testing.assert_close(chained, model(input_ids=whole[None]).logits[0], rtol=1e-5, atol=1e-5)
    packed = model(**make_batch(documents).inputs()).logits[0]
    assert (chained - packed)[: LENGTHS[0]].abs().max() < 1e-5
    assert (chained - packed)[LENGTHS[0] :].abs().max() > 0.1


def test_padding_changes_nothing() -> None:
    model = language_model()
    use_packed_attention(model)
    documents = [document(n, i) for i, n in enumerate(LENGTHS)]
    plain, padded = make_batch(documents), make_batch(documents, pad_to=16)
    assert (plain.num_tokens, padded.num_tokens, padded.padding) == (40, 48, 8)
    found = model(**padded.inputs()).logits[0, :40]
    torch.testing.assert_close(found, model(**plain.inputs()).logits[0], rtol=1e-5, atol=1e-5)


def test_generation_is_that_of_sdpa() -> None:
    """With a padded batch and a cache, and right after packed training."""
    model = language_model()
    ids = torch.tensor([[0, 0, 4, 5, 6], [7, 8, 9, 10, 11]])
    mask = torch.tensor([[0, 0, 1, 1, 1], [1] * 5])
    options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    wanted = model.generate(ids, attention_mask=mask, **options)
    assert use_packed_attention(model) == NAME
    model(**make_batch([document(5), document(6)]).inputs())
    assert torch.equal(model.generate(ids, attention_mask=mask, **options), wanted)
    model.set_attn_implementation("sdpa")
    wanted = model(input_ids=ids, attention_mask=mask).logits
    model.set_attn_implementation(NAME)
    assert torch.equal(model(input_ids=ids, attention_mask=mask).logits, wanted)


def test_position_ids_alone_pack_as_well() -> None:
    """Whoever gives no lengths gets transformers' own mask, not documents that see each other."""
    model = language_model()
    use_packed_attention(model)
    batch = make_batch([document(5, 1), document(6, 2)])
    inputs = batch.inputs()
    del inputs["document_lengths"]
    torch.testing.assert_close(model(**inputs).logits, model(**batch.inputs()).logits, rtol=1e-5, atol=1e-5)


def test_no_mask_is_made_for_packed_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    model = language_model()
    use_packed_attention(model)
    masks: list[Any] = []
    plain = packed_attention.sdpa_mask
    monkeypatch.setattr(packed_attention, "sdpa_mask", lambda *a, **k: masks.append(1) or plain(*a, **k))
    model(**make_batch([document(5, 1), document(6, 2)]).inputs())
    assert not masks
    model(input_ids=torch.ones(1, 4, dtype=torch.long))
    assert masks


def test_borders_as_a_tensor_do_the_same() -> None:
    """As they come on a GPU."""
    model = language_model()
    use_packed_attention(model)
    batch = make_batch([document(n, i) for i, n in enumerate(LENGTHS)])
    inputs = batch.inputs()
    del inputs["document_lengths"]
    inputs |= {"cu_seq_lens_q": batch.borders, "cu_seq_lens_k": batch.borders, "max_length_q": 12}
    assert torch.equal(model(**inputs).logits, model(**batch.inputs()).logits)


def test_the_kernel_is_called_as_it_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for torch's, which only runs on a GPU: both of its forms."""
    q, k, v = torch.randn(1, 4, 12, 8), torch.randn(1, 2, 12, 8), torch.randn(1, 2, 12, 8)
    lengths, borders = (5, 7), torch.tensor([0, 5, 12], dtype=torch.int32)
    wanted = packed_attention._by_document(q, k, v, lengths, 0.0, 0.25)

    def attend(q, k, v, cu_q, cu_k, max_q, max_k, **options):  # type: ignore[no-untyped-def]
        assert (max_q, max_k) == (7, 7) and torch.equal(cu_q, cu_k)
        if "window_size" in options:
            assert options == {"window_size": (-1, 0), "enable_gqa": True, "scale": 0.25}
        else:
            assert options == {"is_causal": True} and k.shape == q.shape
        made = []
        for a, b in ((0, 5), (5, 12)):
            sides = [x[a:b].transpose(0, 1)[None] for x in (q, k, v)]
            scale = options.get("scale")
            found = torch.nn.functional.scaled_dot_product_attention(
                *sides, is_causal=True, enable_gqa=True, scale=scale
            )
            made.append(found[0].transpose(0, 1))
        return torch.cat(made)

    for takes in (frozenset({"window_size", "enable_gqa", "scale"}), frozenset({"is_causal"})):
        monkeypatch.setattr(packed_attention, "_kernel", lambda takes=takes: (attend, takes))
        found = packed_attention._by_kernel(q, k, v, borders, 7, 0.25)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_windows_and_caps_are_refused() -> None:
    model = language_model(model_type="mistral", sliding_window=8)
    assert use_packed_attention(model) == NAME
    model(**make_batch([document(8, 1), document(6, 2)]).inputs())  # none is longer than the window
    with pytest.raises(ModelError, match="sliding window of 8, and the longest document has 9"):
        model(**make_batch([document(9, 1)]).inputs())
    capped = language_model(model_type="gemma2", head_dim=8, attn_logit_softcapping=50.0, sliding_window=64)
    with pytest.raises(ModelError, match="capped scores"):
        use_packed_attention(capped)


def test_a_cache_or_several_rows_are_refused() -> None:
    model = language_model()
    use_packed_attention(model)
    ids = torch.ones(2, 4, dtype=torch.long)
    with pytest.raises(ModelError, match="2 rows of 4"):
        model(input_ids=ids, document_lengths=(4,), use_cache=False)
    with pytest.raises(ModelError, match="of 5 positions in a row of 4"):
        model(input_ids=ids[:1], document_lengths=(2, 3), use_cache=False)


def test_a_model_that_hands_nothing_down_gets_masks() -> None:
    model = language_model()
    documents = [document(n, i) for i, n in enumerate(LENGTHS)]
    alone = [model(input_ids=torch.from_numpy(d.input_ids)[None]).logits[0] for d in documents]
    for layer in model.model.layers:
        inner = layer.forward
        layer.forward = lambda *a, inner=inner, document_lengths=None, **k: inner(*a, **k)
    assert use_packed_attention(model) == "sdpa"
    packed = model(**make_batch(documents).inputs()).logits[0]
    torch.testing.assert_close(packed, torch.cat(alone), rtol=1e-5, atol=1e-5)


def test_a_model_with_memory_is_refused() -> None:
    """A layer that hands the last position on, as convolutions and recurrences do."""
    model = language_model()
    layer = model.model.layers[0].mlp
    inner = layer.forward
    layer.forward = lambda x: inner(x + torch.roll(x, 1, dims=1))
    assert documents_see_each_other(model)
    with pytest.raises(ModelError, match="sees the one packed before it"):
        use_packed_attention(model)


def test_looking_leaves_the_model_as_it_was() -> None:
    model = language_model(attention_dropout=0.5).train()
    model.model.layers[0].eval()
    assert use_packed_attention(model) == NAME
    use_packed_attention(model)
    assert len(model.model._forward_pre_hooks) == 1
    assert model.training and not model.model.layers[0].training
    batch = make_batch([document(5, 1), document(6, 2)])
    torch.manual_seed(0)
    one = model(**batch.inputs()).logits
    assert not torch.equal(one, model(**batch.inputs()).logits), "dropout is on"


def test_without_lengths_it_is_sdpa_itself() -> None:
    q, k, v = torch.randn(2, 4, 6, 8), torch.randn(2, 2, 6, 8), torch.randn(2, 2, 6, 8)
    module = language_model().model.layers[0].self_attn
    mask = torch.rand(2, 1, 6, 6) < 0.7
    mask |= torch.eye(6, dtype=torch.bool)
    for given in (None, mask):
        found, _ = packed_attention.packed_attention(module, q, k, v, given, scaling=0.3)
        assert torch.equal(found, sdpa_attention_forward(module, q, k, v, given, scaling=0.3)[0])
