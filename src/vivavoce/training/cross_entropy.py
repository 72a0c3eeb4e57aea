"""Cross entropy at the learned positions of a batch, in chunks, so that their logits never exist all at once.

For 16,000 positions and 129,000 tokens logits in float32 are 8 GB, and their gradient as much again. Here a chunk of
logits is made, reduced, dropped, and made again for the gradient. It runs inside the language model's forward, in place
of its head, so that a head whose weights are spread over processes is whole when it is used.

Letters: L positions, n learned positions, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from vivavoce.base.errors import ModelError

CHUNK = 1024
Head = Callable[[Tensor], Tensor]
Compute = Callable[[Tensor, Head], Tensor]


class TokenLosses(NamedTuple):
    """What a model makes of the tokens it is to learn.

    Attributes:
        nll: Negative log-likelihood of each, nats, float32 [n].
        normaliser: Logarithm of the sum of all exponentials of its logits, float32 [n].
        right: 1 where the token is the likeliest, else 0; float32 [n], no gradient.
    """

    nll: Tensor
    normaliser: Tensor
    right: Tensor


def token_losses(
    model: nn.Module, inputs: Mapping[str, Any], learned: Tensor, targets: Tensor, chunk: int = CHUNK
) -> TokenLosses:
    """Run a model and compare what it predicts with the tokens to learn.

    Args:
        model: A causal LM of transformers, or a speech LM around one.
        inputs: Of its forward, for one row; no labels.
        learned: int64 [n], positions of the tokens in the row, above 0; the model predicts each one position before.
        targets: int64 [n], the tokens.
        chunk: Positions whose logits exist at once. Models that change logits after the head have all at once.

    Raises:
        ModelError: The model has no head.
    """
    language_model = language_model_of(model)
    if not ends_in_head(language_model):
        return _plain(run_at(model, inputs, learned - 1, lambda hidden, head: head(hidden)), targets)

    def compute(hidden: Tensor, head: Head) -> Tensor:
        layer = language_model.get_output_embeddings()
        if _is_linear(layer, head):
            found = cross_entropy(hidden, layer.weight, targets, layer.bias, chunk)
        else:
            found = TokenLosses(
                *by_chunks(
                    lambda h, t: torch.stack(_plain(head(h), t), dim=-1), chunk, hidden, targets
                ).unbind(-1)
            )
        return torch.stack(found, dim=-1)

    nll, normaliser, right = run_at(model, inputs, learned - 1, compute).unbind(-1)
    return TokenLosses(nll, normaliser, right.detach())


def cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None = None, chunk: int = CHUNK
) -> TokenLosses:
    """Cross entropy of a linear head's logits, of which only a chunk exists at a time.

    Equal to ``F.cross_entropy`` of the float32 logits without reduction, gradients too. Kept for the gradient are the
    arguments and n normalisers. Under autocast logits have its dtype, as those of a linear layer have.
    The gradient of the weight is summed over chunks in the weight's dtype.

    Args:
        hidden: float [n, D].
        weight: float [V, D].
        targets: int64 [n].
        bias: float [V].
        chunk: Positions whose logits exist at once.
    """
    return TokenLosses(*_ChunkedCrossEntropy.apply(hidden, weight, bias, targets, chunk))


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, chunk: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        device = hidden.device.type
        on = torch.is_autocast_enabled(device)
        ctx.dtype = torch.get_autocast_dtype(device) if on else hidden.dtype
        ctx.chunk = chunk
        ctx.set_materialize_grads(False)
        nll, normaliser, right = (
            torch.empty(len(hidden), dtype=torch.float32, device=hidden.device) for _ in range(3)
        )
        for at, logits in _logits(ctx, hidden, weight, bias):
            normaliser[at] = logits.logsumexp(dim=-1)
            nll[at] = normaliser[at] - logits.gather(1, targets[at, None])[:, 0]
            right[at] = (logits.argmax(dim=-1) == targets[at]).float()
        ctx.save_for_backward(hidden, weight, bias, targets, normaliser)
        ctx.mark_non_differentiable(right)
        return nll, normaliser, right

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, to_nll: Tensor | None, to_normaliser: Tensor | None, _: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, normaliser = ctx.saved_tensors
        to_nll = torch.zeros_like(normaliser) if to_nll is None else to_nll
        to_all = to_nll if to_normaliser is None else to_nll + to_normaliser
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        to_hidden = torch.empty_like(hidden) if wants_hidden else None
        to_weight = torch.zeros_like(weight) if wants_weight else None
        to_bias = torch.zeros_like(bias) if wants_bias else None
        used = weight.to(ctx.dtype)
        with torch.autocast(hidden.device.type, enabled=False):
            for at, logits in _logits(ctx, hidden, weight, bias):
                slope = logits.sub_(normaliser[at, None]).exp_().mul_(to_all[at, None])
                slope.scatter_add_(1, targets[at, None], -to_nll[at, None])
                if to_bias is not None:
                    to_bias += slope.sum(dim=0)
                slope = slope.to(ctx.dtype)
                if to_hidden is not None:
                    to_hidden[at] = slope @ used
                if to_weight is None:
                    continue
                if to_weight.dtype == ctx.dtype:
                    to_weight.addmm_(slope.T, hidden[at].to(ctx.dtype))
                else:
                    to_weight += slope.T @ hidden[at].to(ctx.dtype)
        return to_hidden, to_weight, to_bias, None, None


def _logits(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Iterator[tuple[slice, Tensor]]:
    """Chunks of logits, float32 [up to chunk, V], and where they belong; each may be written on."""
    used, shift = weight.to(ctx.dtype), None if bias is None else bias.to(ctx.dtype)
    with torch.autocast(hidden.device.type, enabled=False):
        for start in range(0, len(hidden), ctx.chunk):
            at = slice(start, start + ctx.chunk)
            yield at, F.linear(hidden[at].to(ctx.dtype), used, shift).float()


def by_chunks(compute: Callable[..., Tensor], chunk: int, *rows: Tensor) -> Tensor:
    """Compute something row by row, chunk after chunk; what is in between is made again for the gradient.

    Args:
        compute: Gets as many rows of each tensor, gives as many results.
        chunk: Most rows at once.
        rows: Tensors of n rows.
    """
    pieces = zip(*(tensor.split(chunk) for tensor in rows), strict=True)
    return torch.cat([checkpoint(compute, *piece, use_reentrant=False) for piece in pieces])


def run_at(model: nn.Module, inputs: Mapping[str, Any], positions: Tensor, compute: Compute) -> Tensor:
    """Run a model with something else in place of its head, at some positions of its one row only.

    Args:
        model: A causal LM, or a speech LM around one.
        inputs: Of its forward.
        positions: int64 [n].
        compute: Gets hidden states [n, D] and the head; gives [n, ...].

    Returns:
        What ``compute`` gave, [n, ...], after what the model does with logits.
    """

    def picked(hidden: Tensor, head: Head) -> Tensor:
        return compute(hidden[0, positions], head)[None]

    with head_computes(language_model_of(model), picked):
        made: Tensor = model(**inputs).logits
    return made[0]


@contextmanager
def head_computes(language_model: Any, compute: Compute) -> Iterator[None]:
    """Put a function in place of the head of a causal LM, for the time of a forward.

    Args:
        language_model: Of transformers.
        compute: Gets hidden states [1, L, D] and the head as a function; what it gives is what the model takes for
            logits.

    Raises:
        ModelError: The model has no head.
    """
    layer = language_model.get_output_embeddings()
    if layer is None:
        raise ModelError(f"{type(language_model).__name__} has no output embeddings; wanted a causal LM.")
    before, plain = vars(layer).get("forward"), layer.forward
    layer.forward = lambda hidden: compute(hidden, plain)
    try:
        yield
    finally:
        if before is None:
            del layer.forward
        else:
            layer.forward = before


_ends_in_head: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


@torch.no_grad()
def ends_in_head(language_model: Any) -> bool:
    """Whether what the head gives is what the model gives: no caps, no scales. Found out once for a model."""
    if language_model not in _ends_in_head:
        device = next(language_model.parameters()).device
        mark = torch.tensor([[[100.0, -3.0, 7.0]]], device=device)
        with head_computes(language_model, lambda hidden, head: mark):
            ids = torch.zeros(1, 1, dtype=torch.long, device=device)
            made = language_model(input_ids=ids, use_cache=False).logits
        same = made.shape == mark.shape and torch.allclose(made.float(), mark, rtol=1e-2)
        _ends_in_head[language_model] = same
    return _ends_in_head[language_model]


def language_model_of(model: Any) -> Any:
    """The causal LM of a speech LM; any other model is one itself."""
    return getattr(model, "language_model", model)


def _is_linear(layer: Any, head: Head) -> bool:
    """Whether a head is its weight and bias and nothing else: no adapters, no quantised weights."""
    return (
        isinstance(layer, nn.Linear)
        and getattr(head, "__func__", None) is nn.Linear.forward
        and layer.weight.is_floating_point()
    )


def _plain(logits: Tensor, targets: Tensor) -> TokenLosses:
    """Cross entropy of logits that exist, [n, V]."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    nll = F.cross_entropy(logits, targets, reduction="none")
    right = (logits.detach().argmax(dim=-1) == targets).to(nll.dtype)
    return TokenLosses(nll, logits.logsumexp(dim=-1), right)
