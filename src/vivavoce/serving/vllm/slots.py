"""A logits processor for vLLM: of the answers that our front asks for, only decodable audio and legal text are drawn.

Loaded inside vLLM by ``--logits-processors vivavoce.serving.vllm.slots:AudioSlots``.
Source: vLLM's interface of custom logits processors (V1: ``update_state`` with removed, added and moved rows, then
``apply`` on float [rows, V]); its second model runner has another one, so our front starts vLLM with
``VLLM_USE_V2_MODEL_RUNNER=0``.
"""

from __future__ import annotations

import json
from typing import Any

from torch import Tensor
from vllm.v1.sample.logits_processor import LogitsProcessor

from vivavoce.inference.legal_tokens import LegalTokens
from vivavoce.models.loading import find_folder, model_kind, read_plain
from vivavoce.serving.vllm.completions import AUDIO_ARGUMENT


class AudioSlots(LogitsProcessor):  # type: ignore[misc]
    """Masks the rows of requests with our argument.

    Args:
        vllm_config: Of the engine; names the model's folder.
        device: Unused; masks are made on the CPU and moved.
        is_pin_memory: Unused.
    """

    def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool) -> None:
        folder = find_folder(vllm_config.model_config.model)
        _, processor = read_plain(folder, model_kind(folder))
        self._vocabulary = processor.vocabulary_out or processor.vocabulary_in
        self._rows: dict[int, tuple[dict[str, Any], list[int], list[LegalTokens]]] = {}

    @classmethod
    def validate_params(cls, params: Any) -> None:
        """Refuse an argument that is not ours.

        Raises:
            ValueError: It cannot be read.
        """
        given = (params.extra_args or {}).get(AUDIO_ARGUMENT)
        if given is not None:
            LegalTokens.from_dict(1, None, json.loads(given))

    def is_argmax_invariant(self) -> bool:
        """The likeliest token may be masked."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """Follow the rows of the batch."""
        if batch_update is None:
            return
        for index in batch_update.removed:
            self._rows.pop(index, None)
        for index, params, _, output in batch_update.added:
            self._rows.pop(index, None)
            given = (params.extra_args or {}).get(AUDIO_ARGUMENT) if params is not None else None
            if given is not None:
                self._rows[index] = json.loads(given), output, []
        for origin, target, direction in batch_update.moved:
            moved, other = self._rows.pop(origin, None), self._rows.pop(target, None)
            if moved is not None:
                self._rows[target] = moved
            if other is not None and direction.name == "SWAP":
                self._rows[origin] = other

    def apply(self, logits: Tensor) -> Tensor:
        """Mask float [rows, V] in place."""
        for index, (fields, output, made) in self._rows.items():
            if not made:
                made.append(LegalTokens.from_dict(logits.shape[-1], self._vocabulary, fields))
            legal = made[0]
            for token in output[legal.num_seen :]:
                legal.advance(token)
            logits[index].masked_fill_(~legal.allowed().to(logits.device), float("-inf"))
        return logits
