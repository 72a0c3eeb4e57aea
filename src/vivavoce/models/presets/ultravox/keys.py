"""Names of Ultravox's tensors and ours, and which tensors of a part a checkpoint holds."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from vivavoce.base.errors import CheckpointError
from vivavoce.models.lora import is_adapter, plain_name

# their prefix -> ours
PREFIXES = {
    "audio_tower.": "audio_encoder.encoder.",
    "multi_modal_projector.": "connector.",
    "language_model.": "language_model.",
}
# our part -> our prefix; the parts that a checkpoint may name instead of holding
NAMED_PARTS = {"audio_encoder": "audio_encoder.encoder.", "language_model": "language_model."}

_WRAPPERS = ("_fsdp_wrapped_module.", "_orig_mod.")  # of sharded or compiled training
_ADAPTED = "base_model.model."  # what PEFT's own model puts in front
_COMPUTED = ("rotary_emb.inv_freq", "position_ids")  # in files of older transformers; made anew here


def our_name(theirs: str) -> str:
    """Our name of one of their tensors; base weights under adapters get their plain names.

    Raises:
        CheckpointError: A tensor that belongs to no part.
    """
    for wrapper in _WRAPPERS:
        theirs = theirs.replace(wrapper, "")
    for prefix, ours in PREFIXES.items():
        if theirs.startswith(prefix):
            return plain_name(ours + theirs.removeprefix(prefix).removeprefix(_ADAPTED))
    raise CheckpointError(
        f"tensor {theirs} belongs to none of {', '.join(PREFIXES)}; this is no checkpoint of Ultravox."
    )


def their_name(ours: str) -> str:
    """Their name of one of our tensors, which has its plain name.

    Raises:
        CheckpointError: A tensor that their form has no place for.
    """
    for prefix, mine in PREFIXES.items():
        if ours.startswith(mine):
            return prefix + (_ADAPTED if is_adapter(ours) else "") + ours.removeprefix(mine)
    raise CheckpointError(f"tensor {ours} has no place in Ultravox's form.")


def is_computed(name: str) -> bool:
    """Whether a tensor is made anew when a model is built, and so need not be read."""
    return name.endswith(_COMPUTED)


@dataclass(frozen=True)
class Holding:
    """What a checkpoint holds of a part's own weights, adapters aside.

    Attributes:
        kind: "whole", "some" or "none".
        missing: What it does not hold.
    """

    kind: str
    missing: tuple[str, ...]


def holding(wanted: Iterable[str], held: Collection[str], tied: Collection[str]) -> Holding:
    """Compare plain names of a part's weights with those in a checkpoint; tied weights may be left out."""
    own = [name for name in wanted if not is_adapter(name)]
    missing = tuple(name for name in own if name not in held and name not in tied)
    some = any(name in held for name in own)
    return Holding("some" if some and missing else "whole" if some else "none", missing)


def listed(names: Collection[str]) -> str:
    """Up to five names, as they are called in their files, and how many more."""
    shown = sorted(their_name(name) for name in names)
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")
