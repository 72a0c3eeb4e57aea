"""Cross entropy in chunks is cross entropy, with its gradients, and holds less."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, inject_adapter_in_model
from tests.training.packed_cases import assert_same_gradients, document, gradients, language_model
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from vivavoce.base.errors import ModelError
from vivavoce.training.cross_entropy import (
    by_chunks,
    cross_entropy,
    ends_in_head,
    head_computes,
    run_at,
    token_losses,
)
from vivavoce.training.packed_attention import use_packed_attention
from vivavoce.training.packing import make_batch

N, D, V = 37, 12, 50


def case(bias: bool = False, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    torch.manual_seed(0)
    made: dict[str, Any] = {"hidden": torch.randn(N, D), "weight": torch.randn(V, D)}
    if bias:
        made["bias"] = torch.randn(V)
    made = {name: value.to(dtype).requires_grad_() for name, value in made.items()}
    return made | {"targets": torch.randint(0, V, (N,))}


def loss_of(nll: Tensor, normaliser: Tensor) -> Tensor:
    torch.manual_seed(1)
    return (nll * torch.rand(N)).sum() + 0.1 * (normaliser.square() * torch.rand(N)).sum()


def slopes(made: dict[str, Any]) -> dict[str, Tensor]:
    return {name: value.grad for name, value in made.items() if value.is_floating_point()}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("chunk", [1, 8, 37, 1000])
def test_it_is_cross_entropy(bias: bool, chunk: int) -> None:
    plain, chunked = case(bias), case(bias)
    logits = F.linear(plain["hidden"], plain["weight"], plain.get("bias"))
    nll = F.cross_entropy(logits, plain["targets"], reduction="none")
    loss_of(nll, logits.logsumexp(-1)).backward()
    found = cross_entropy(**chunked, chunk=chunk)
    loss_of(found.nll, found.normaliser).backward()
    torch.testing.assert_close(found.nll, nll, rtol=1e-6, atol=1e-6)
    assert torch.equal(found.right, (logits.argmax(-1) == plain["targets"]).float())
    for name, slope in slopes(plain).items():
        torch.testing.assert_close(slopes(chunked)[name], slope, rtol=1e-6, atol=1e-5)


def test_gradient_by_finite_differences() -> None:
    made = case(True)
    rows = [made[name].detach().double().requires_grad_() for name in ("hidden", "weight", "bias")]

    def loss(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.stack(cross_entropy(hidden[:5], weight, made["targets"][:5], bias, 2)[:2]).double()

    # float32 inside: coarse steps and tolerance
    assert torch.autograd.gradcheck(loss, rows, eps=1e-2, atol=2e-2, rtol=2e-2, nondet_tol=1e-6)


def test_low_precision_is_reduced_in_float32() -> None:
    made = case(dtype=torch.bfloat16)
    found = cross_entropy(**made, chunk=8)
    logits = (made["hidden"] @ made["weight"].T).float()
    assert found.nll.dtype == torch.float32
    torch.testing.assert_close(found.nll, F.cross_entropy(logits, made["targets"], reduction="none"))
    found.nll.sum().backward()
    assert {slope.dtype for slope in slopes(made).values()} == {torch.bfloat16}


def test_autocast_is_that_of_a_linear_layer() -> None:
    plain, chunked = case(), case()
    with torch.autocast("cpu", torch.bfloat16):
        logits = F.linear(plain["hidden"], plain["weight"])
        found = cross_entropy(**chunked, chunk=8)
    nll = F.cross_entropy(logits.float(), plain["targets"], reduction="none")
    torch.testing.assert_close(found.nll, nll, rtol=1e-6, atol=1e-6)
    nll.sum().backward()
    found.nll.sum().backward()
    for name, slope in slopes(plain).items():
        assert slopes(chunked)[name].dtype == torch.float32
        torch.testing.assert_close(slopes(chunked)[name], slope, rtol=2e-2, atol=5e-2)


def test_frozen_heads_get_no_gradient() -> None:
    made = case()
    made["weight"].requires_grad_(False)
    cross_entropy(**made).nll.sum().backward()
    assert made["weight"].grad is None and made["hidden"].grad is not None
    made = case()
    made["hidden"].requires_grad_(False)
    cross_entropy(**made).nll.sum().backward()
    assert made["hidden"].grad is None and made["weight"].grad is not None


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that is made."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return made


def held(loss: Any, parameters: set[int]) -> tuple[int, int, Tensor]:
    """Bytes kept for the gradient but for parameters, and elements of the largest tensor made."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with Largest() as largest:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            made = loss()
        made.backward()
    return sum(kept.values()), largest.elements, made


def test_logits_never_exist_all_at_once() -> None:
    rows, width, words, chunk = 600, 8, 700, 50
    torch.manual_seed(0)
    weight = torch.randn(words, width, requires_grad=True)
    targets = torch.randint(0, words, (rows,))

    def measure(make: Any) -> tuple[int, int, Tensor]:
        hidden = torch.randn(rows, width, generator=torch.Generator().manual_seed(1)).requires_grad_()
        return held(lambda: make(hidden).sum(), {weight.untyped_storage().data_ptr()})

    plain = measure(lambda h: F.cross_entropy(F.linear(h, weight), targets, reduction="none"))
    chunked = measure(lambda h: cross_entropy(h, weight, targets, chunk=chunk).nll)
    by_function = measure(
        lambda h: by_chunks(
            lambda a, t: F.cross_entropy(F.linear(a, weight), t, reduction="none"), chunk, h, targets
        )
    )
    assert plain[0] >= 4 * rows * words and plain[1] == rows * words
    for kept, largest, loss in (chunked, by_function):
        assert kept <= 4 * rows * width + 8 * rows + 4 * rows + 64, "hidden states, targets, normalisers"
        assert largest == chunk * words
        torch.testing.assert_close(loss, plain[2])


KINDS: dict[str, dict[str, Any]] = {
    "untied": {},
    "tied": {"tie_word_embeddings": True},
    "adapters in the head": {"adapters": True},
    "capped logits": {"model_type": "gemma2", "head_dim": 8, "attn_logit_softcapping": None,
                      "final_logit_softcapping": 5.0, "sliding_window": 64},
    "scaled logits": {"model_type": "cohere", "logit_scale": 0.3, "pad_token_id": 0},
}  # fmt: skip


def built(kind: str) -> Any:
    more = dict(KINDS[kind])
    adapters = more.pop("adapters", False)
    model = language_model(**more)
    if adapters:
        inject_adapter_in_model(LoraConfig(r=2, target_modules=["lm_head"], init_lora_weights=False), model)
        assert not isinstance(model.get_output_embeddings(), nn.Linear)
    use_packed_attention(model)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_in_a_model_it_is_the_loss_of_its_logits(kind: str) -> None:
    model = built(kind)
    batch = make_batch([document(9, 1), document(14, 2), document(6, 3)])
    weights = batch.weights[0, batch.learned]
    logits = model(**batch.inputs()).logits[0, batch.learned - 1]
    wanted = F.cross_entropy(logits, batch.targets(), reduction="none")
    (wanted * weights).sum().backward()
    before = gradients(model)
    found = token_losses(model, batch.inputs(), batch.learned, batch.targets(), chunk=4)
    torch.testing.assert_close(found.nll, wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.normaliser, logits.logsumexp(-1), rtol=1e-5, atol=1e-5)
    assert torch.equal(found.right, (logits.argmax(-1) == batch.targets()).float())
    assert not found.right.requires_grad
    (found.nll * weights).sum().backward()
    assert_same_gradients(gradients(model), before)
    assert ends_in_head(model) == (kind in ("untied", "tied", "adapters in the head"))


def test_a_batch_that_learns_nothing_gives_zero_gradients() -> None:
    model = built("untied")
    batch = make_batch([document(5, learned=0.0)])
    nothing = batch.learned[:0]
    found = token_losses(model, batch.inputs(), nothing, nothing)
    found.nll.sum().backward()
    assert found.nll.shape == (0,)
    assert all(not gradient.any() for gradient in gradients(model).values())


def test_the_head_is_put_back() -> None:
    model = built("untied")
    ids = torch.ones(1, 3, dtype=torch.long)
    wanted = model(input_ids=ids).logits
    with pytest.raises(RuntimeError), head_computes(model, lambda hidden, head: hidden):
        raise RuntimeError
    assert "forward" not in vars(model.lm_head)
    outer = model.lm_head.forward
    model.lm_head.forward = lambda hidden: outer(hidden) + 1  # as frameworks wrap layers
    found = run_at(model, {"input_ids": ids}, torch.tensor([2]), lambda hidden, head: head(hidden))
    torch.testing.assert_close(found, wanted[0, 2:] + 1)
    torch.testing.assert_close(model(input_ids=ids).logits, wanted + 1)
    with pytest.raises(ModelError, match="no output embeddings"), head_computes(model.model, outer):
        pass
