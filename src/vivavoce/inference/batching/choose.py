"""Which backbone a model gets; every claim of equality is tried on the model itself before it counts."""

from __future__ import annotations

import logging
import threading
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from vivavoce.inference.batching.lean import LeanBackbone
from vivavoce.inference.batching.lean_weights import ROPES, why_not
from vivavoce.inference.batching.modules import ModuleBackbone
from vivavoce.inference.batching.rows import Backbone, Row

log = logging.getLogger("vivavoce.inference")

_known: WeakKeyDictionary[Any, Backbone] = WeakKeyDictionary()
_lock = threading.Lock()
TOLERANCE, HALF_TOLERANCE = 1e-3, 0.1  # shares of the spread of the logits, by rounding alone


def backbone_of(language_model: Any) -> Backbone:
    """The fastest backbone that gives the numbers of the model's own modules; made once for each model.

    The first call runs a few tokens through the model.
    """
    with _lock:
        found = _known.get(language_model)
        if found is None or not found.fits():
            found = _known[language_model] = _choose(language_model)
        return found


@torch.inference_mode()
def _choose(language_model: Any) -> Backbone:
    modules = ModuleBackbone(language_model)
    reason = why_not(language_model)
    if not reason:
        lean = LeanBackbone(language_model)
        if _same(lean, modules, language_model):
            return lean
        reason = "its numbers differ"
        log.warning("the lean step of %s is not used: %s", type(language_model).__name__, reason)
    together = ModuleBackbone(language_model, together=True)
    rope = getattr(getattr(language_model.config, "rope_parameters", None), "get", lambda _, x: x)
    if rope("rope_type", "default") in ROPES and _same(together, modules, language_model):
        return together
    return modules


def _same(tried: Backbone, trusted: Backbone, language_model: Any) -> bool:
    """Whether two rows of different lengths get, together, what each gets alone by the trusted one."""
    try:
        one, other = (_probe(backbone, language_model) for backbone in (tried, trusted))
    except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError) as error:
        log.info("%s cannot be tried: %s", type(tried).__name__, error)
        return False
    share = TOLERANCE if other.dtype in (torch.float32, torch.float64) else HALF_TOLERANCE
    bound = share * max(float(other.float().std()), 1e-6)
    return bool((one - other).abs().max() <= bound)


def _probe(backbone: Backbone, language_model: Any) -> Tensor:
    """Logits [6, V] of two rows: a prompt, and two steps that are taken together where they may be."""
    table = language_model.get_input_embeddings().weight
    rows = min(len(table), language_model.config.get_text_config().vocab_size)
    first, second = ([(7 * i + 3) % rows for i in range(n)] for n in (5, 2))
    sequences = [backbone.open(), backbone.open()]
    out = backbone.forward([Row(sequences[0], first)]) + backbone.forward([Row(sequences[1], second)])
    for token in (1, 11 % rows):
        steps = [Row(sequence, [token + i]) for i, sequence in enumerate(sequences)]
        out += backbone.forward(steps) if all(map(backbone.joins, steps)) else _apart(backbone, steps)
    return torch.cat(out)


def _apart(backbone: Backbone, rows: list[Row]) -> list[Tensor]:
    return [result for row in rows for result in backbone.forward([row])]
