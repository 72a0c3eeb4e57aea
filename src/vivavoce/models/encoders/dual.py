"""Two encoders that hear the same clip, side by side: one for speech and one for any sound, as in SALMONN.

Letters: N clips, S samples, F encoder frames, D width, K streams.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivavoce.audio.features import LogMel
from vivavoce.base.errors import ConfigError, ModelError
from vivavoce.models import ENCODERS
from vivavoce.models.config import build_part
from vivavoce.models.encoders.references import feature_settings

_PARTS = ("first", "second")


@dataclass(frozen=True)
class DualEarsConfig:
    """Which two.

    Attributes:
        first: Record of an encoder, ``{"type": name in ENCODERS, ...}``.
        second: Record of another.
        features: Arguments of ``audio.features.LogMel`` for parts that take log-mel features; empty for what
            the part itself was trained on.
    """

    first: dict[str, Any]
    second: dict[str, Any]
    features: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        faults = [f"{name}.type is missing" for name in _PARTS if "type" not in getattr(self, name)]
        if faults:
            raise ConfigError("; ".join(faults))


class DualEars(nn.Module):
    """Waveforms [N, S] at 16 kHz -> states [N, F, D] of two encoders, beside each other in width.

    Frame ``i`` of one stands beside frame ``i`` of the other, whatever their rates; the shorter is continued
    with zeros. A batch gives each clip what it gets alone if both parts do.

    Attributes:
        streams: Width of each stream in ``states``, in order; what connectors of several streams ask for.
    """

    takes: Literal["log_mel", "waveform"] = "waveform"

    def __init__(self, config: DualEarsConfig) -> None:
        super().__init__()
        self.config = config
        self.first: Any = build_part(ENCODERS, config.first, "audio_in.encoder.first")
        self.second: Any = build_part(ENCODERS, config.second, "audio_in.encoder.second")
        self._mels = [
            LogMel(**(config.features or feature_settings(record)))
            if getattr(part, "takes", "log_mel") == "log_mel"
            else None
            for part, record in zip(self._parts, (config.first, config.second), strict=True)
        ]
        self.streams: tuple[int, ...] = tuple(
            width for part in self._parts for width in getattr(part, "streams", (part.hidden_size,))
        )
        self.hidden_size = sum(self.streams)

    @property
    def _parts(self) -> tuple[Any, Any]:
        return self.first, self.second

    @property
    def longest(self) -> int | None:
        """Samples that both take in one pass; None if neither has a limit."""
        limits = [
            part.longest * (LogMel.hop_samples if mel is not None else 1)
            for part, mel in zip(self._parts, self._mels, strict=True)
            if getattr(part, "longest", None) is not None
        ]
        return min(limits, default=None)

    @property
    def reference_padding(self) -> bool:
        """Whether both parts pad as their references do."""
        return all(getattr(part, "reference_padding", False) for part in self._parts)

    @reference_padding.setter
    def reference_padding(self, value: bool) -> None:
        for part in self._parts:
            part.reference_padding = value

    def num_frames(self, lengths: Tensor) -> Tensor:
        """Frames of each stream for clips of so many samples, int64 [N, K]."""
        counts = [
            part.num_frames(lengths if mel is None else mel.num_frames(lengths))
            for part, mel in zip(self._parts, self._mels, strict=True)
        ]
        return torch.cat([c if c.dim() == 2 else c[:, None] for c in counts], dim=1)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a batch of clips with both.

        Args:
            features: float [N, S], 16 kHz mono, nominally within -1 and 1, zero past a clip's length.
            lengths: True samples, int64 [N], each 1 to S.

        Returns:
            States [N, F, D], each stream zero past its own frames (but for ``reference_padding``), and frames
            int64 [N, K].

        Raises:
            ModelError: The waveforms are not [N, S].
        """
        if features.dim() != 2:
            raise ModelError(f"waveforms have shape {list(features.shape)}; wanted [clips, samples].")
        wave = features.float()
        heard = [
            part(*(mel(wave, lengths) if mel is not None else (wave, lengths)))
            for part, mel in zip(self._parts, self._mels, strict=True)
        ]
        size = max(states.shape[1] for states, _ in heard)
        states = torch.cat([F.pad(s, (0, 0, 0, size - s.shape[1])) for s, _ in heard], dim=-1)
        return states, torch.cat([f if f.dim() == 2 else f[:, None] for _, f in heard], dim=1)

    def references(self) -> dict[str, str]:
        """Where published weights come from: {"first.": ref, "second.": ref}, those that are set."""
        return {
            f"{name}.{prefix}": reference
            for name, part in zip(_PARTS, self._parts, strict=True)
            for prefix, reference in (part.references() if hasattr(part, "references") else {}).items()
        }

    def load_reference(self, prefix: str, folder: Path | None = None, **hub: Any) -> None:
        """Load the weights of the part that a prefix of ``references`` names.

        Args:
            prefix: "first.", "second." or a longer one.
            folder: Where a relative path is looked for first.
            hub: How to reach the hub, passed on.

        Raises:
            ModelError: No such prefix, nothing to load, or it cannot be had.
            CheckpointError: The weights do not fit the part.
        """
        name, _, rest = prefix.partition(".")
        if prefix not in self.references():
            raise ModelError(
                f"no reference for parameters {prefix!r}; there are {', '.join(self.references()) or 'none'}."
            )
        getattr(self, name).load_reference(rest, folder, **hub)
