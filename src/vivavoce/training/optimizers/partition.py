"""Decides which values of a parameter share one second moment, by what the parameter does in the model.

The Hessian of a Transformer is close to block diagonal, so Adam-mini keeps one second moment for each block: a head
of a query or key, an output neuron, the vector of a token. What a parameter does is read from the type of its
module and the size of heads from the attention it belongs to, so that a model of any prefix, and encoders with
other heads than the text model, are cut where their blocks are.

Source: Adam-mini (Zhang et al. 2024, arXiv 2406.16793), the rules of version 1.1.1 and of July 2024.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple, get_args

from torch import Tensor, nn

from vivavoce.base.errors import ConfigError

Rules = Literal["v1.1.1", "july2024"]
BlockKind = Literal["element", "row", "head", "whole"]

QUERY_KEY = frozenset({"q_proj", "k_proj", "wq", "wk", "query", "key", "linear_q", "linear_k"})
VALUE = frozenset({"v_proj", "wv", "value", "linear_v"})
OUTPUT = "lm_head"

# what a parameter does -> its blocks; what is not named is one block
KINDS: dict[str, dict[str, BlockKind]] = {
    "v1.1.1": {
        "bias": "element",
        "embedding": "row",
        "output": "row",
        "query_key": "head",
        "value": "row",
        "linear": "row",
    },
    "july2024": {"embedding": "element", "output": "element", "query_key": "head"},
}


class Block(NamedTuple):
    """How a parameter of R rows is cut into blocks.

    Attributes:
        kind: "element" (a second moment for every value), "row", "head" (``rows`` rows), "whole".
        rows: Rows of a block of kind "head", 0 otherwise.
    """

    kind: BlockKind
    rows: int = 0

    def num_blocks(self, parameter: Tensor) -> int:
        """Count the blocks of a parameter, of all its shards together."""
        rows = num_rows(parameter)
        return {"element": parameter.numel(), "row": rows, "whole": 1}.get(self.kind) or rows // self.rows


class Part(NamedTuple):
    """One parameter to train: its name, itself, its blocks, and whether weights decay."""

    name: str
    parameter: Tensor
    block: Block
    decays: bool


def num_rows(parameter: Tensor) -> int:
    """The size of the first dimension, of all shards together; 1 for a scalar."""
    return parameter.shape[0] if parameter.dim() else 1


def partition(
    parameters: nn.Module | Iterable[tuple[str, Tensor]],
    rules: Rules = "v1.1.1",
    *,
    num_heads: int | None = None,
    num_kv_heads: int | None = None,
    head_dim: int | None = None,
    value_as_one_block: bool = False,
) -> list[Part]:
    """Cut every parameter that needs a gradient into blocks.

    ===================================  ============  ==========================
    parameter                            v1.1.1        july2024
    ===================================  ============  ==========================
    embedding                            token         every value by itself
    output head (``lm_head``)            token         every value by itself
    query, key                           head          head
    other linear layers                  output row    whole tensor
    biases                               every value   whole tensor
    norms, convolutions, bare tensors    whole tensor  whole tensor
    ===================================  ============  ==========================

    Adapters of low rank and queries, keys and values in one matrix are linear layers like others. Weights of
    one dimension and of norms do not decay.

    Args:
        parameters: A model; or names and parameters, where a name has to say what a module's type would: then
            weights of two dimensions are linear layers, unless the name has "embed", "embd", "wte" or "norm".
        rules: Which publication of Adam-mini.
        num_heads: With ``num_kv_heads`` where ``head_dim`` is not given and no module tells it.
        num_kv_heads: Heads of the keys; ``num_heads`` by default.
        head_dim: Rows of a head where no module tells it.
        value_as_one_block: One block for the whole of a value weight, which the authors advise below ten to
            twenty thousand steps.

    Raises:
        ConfigError: Unknown rules, no size of heads, heads that do not divide their weight, or nothing to train.
    """
    if rules not in get_args(Rules):
        raise ConfigError(f"unknown rules {rules!r} of Adam-mini. Known: {', '.join(get_args(Rules))}.")
    parts = []
    for name, parameter, role, owner, attention in _roles(parameters):
        if not parameter.requires_grad or parameter.numel() == 0:
            continue
        if "_flat_param" in name:
            raise ConfigError(
                f"{name} is a flat parameter of FSDP1, which hides rows and heads; wrap the model with "
                "torch.distributed.fsdp.fully_shard instead."
            )
        kind: BlockKind = KINDS[rules].get(role, "whole")
        if role == "value" and value_as_one_block:
            kind = "whole"
        block = Block(kind)
        if kind == "head":
            heads = (
                (num_kv_heads or num_heads)
                if _leaf(name) in ("k_proj", "wk", "key", "linear_k")
                else num_heads
            )
            block = Block(kind, _head_rows(name, parameter, attention, head_dim, heads))
        parts.append(Part(name, parameter, block, decays(name, parameter, owner)))
    if not parts:
        raise ConfigError(
            "no parameter needs a gradient; wanted at least one. Unfreeze what should be trained."
        )
    return parts


def decays(name: str, parameter: Tensor, owner: nn.Module | None = None) -> bool:
    """Say whether weight decay holds for a parameter: not of one dimension, not of a norm."""
    norm = "norm" in _leaf(name).lower() or (owner is not None and "norm" in type(owner).__name__.lower())
    return parameter.dim() >= 2 and not norm


def _roles(
    parameters: nn.Module | Iterable[tuple[str, Tensor]],
) -> Iterator[tuple[str, Tensor, str, nn.Module | None, nn.Module | None]]:
    """Yield name, parameter, role, its module and the module around that, as far as they are known."""
    if not isinstance(parameters, nn.Module):
        for name, parameter in parameters:
            yield name, parameter, _role(name, parameter, None), None, None
        return
    model = parameters
    ask = getattr(model, "get_output_embeddings", None)
    head = ask() if callable(ask) else None
    for name, parameter in model.named_parameters():
        owner = model.get_submodule(name.rpartition(".")[0])
        role = _role(name, parameter, owner)
        if role == "linear" and owner is head:
            role = "output"
        around = name.rpartition(".")[0].removesuffix(".base_layer").rpartition(".")[0]
        yield name, parameter, role, owner, model.get_submodule(around)


def _leaf(name: str) -> str:
    """The name of the layer that a parameter belongs to: "q_proj" of "...q_proj.base_layer.weight"."""
    return name.rpartition(".")[0].removesuffix(".base_layer").rpartition(".")[2]


def _role(name: str, parameter: Tensor, owner: nn.Module | None) -> str:
    """Say what a parameter does, by its module, or by its name where there is no module."""
    path, _, last = name.rpartition(".")
    leaf = _leaf(name)
    if last == "bias":
        return "bias"
    if owner is not None:
        embedding, linear = isinstance(owner, nn.Embedding), isinstance(owner, nn.Linear)
    else:
        matrix = parameter.dim() == 2
        embedding = matrix and any(word in path.lower() for word in ("embed", "embd", "wte"))
        linear = matrix and "norm" not in leaf.lower()
    if embedding:
        return "embedding"
    if not linear:
        return "other"
    if leaf in QUERY_KEY:
        return "query_key"
    if leaf in VALUE:
        return "value"
    return "output" if leaf == OUTPUT else "linear"


def _head_rows(
    name: str, weight: Tensor, attention: nn.Module | None, head_dim: int | None, num_heads: int | None
) -> int:
    """Rows of a head of the query or key ``weight``."""
    rows = num_rows(weight)
    size = getattr(attention, "head_dim", None) or getattr(attention, "attention_head_size", None)
    if size is None and getattr(attention, "num_heads", None):
        size = rows // int(attention.num_heads)  # type: ignore[union-attr, arg-type]
    size = size or head_dim or (rows // num_heads if num_heads else None)
    if size is None:
        raise ConfigError(
            f"{name} is a query or key of {rows} rows, and its module does not tell the size of its "
            "heads; give head_dim."
        )
    if size < 1 or rows % int(size):
        raise ConfigError(
            f"{name} has {rows} rows, which heads of {size} rows do not divide; give the right head_dim."
        )
    return int(size)
