"""The losses of an update, weighted, and how strongly each pulls at the waveform."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from vivavoce.codecs.training.adversarial import feature_distance, generator_loss
from vivavoce.codecs.training.spectral import MelDistance, STFTDistance
from vivavoce.codecs.training.trained_codec import Pass
from vivavoce.training.codec.config import CodecTrainConfig

AT_WAVEFORM = ("mel", "stft", "adversarial", "feature_matching")


class Losses(nn.Module):
    """Weighs what a codec lowers.

    Args:
        config: Of the run.
        sample_rate: Hz.
    """

    def __init__(self, config: CodecTrainConfig, sample_rate: int) -> None:
        super().__init__()
        settings = config.losses
        self.config, self.settings = config, settings
        self.mel = MelDistance(sample_rate, settings.mel_windows, settings.mel_bands, settings.mel_floor)
        self.stft = STFTDistance(settings.stft_windows, settings.stft_log)

    def forward(self, made: Pass, real: Tensor) -> dict[str, Tensor]:
        """Losses without discriminators, by name, not weighted; those of weight 0 are left out."""
        weights, found = self.settings, {}
        if weights.mel:
            found["mel"] = self.mel(made.waveform, real)
        if weights.stft:
            found["stft"] = self.stft(made.waveform, real)
        if made.vectors:
            found |= {"codebook": made.codebook, "commitment": made.commitment}
        return found

    def played(
        self, judged: Sequence[Sequence[Tensor]], judged_real: Sequence[Sequence[Tensor]]
    ) -> dict[str, Tensor]:
        """Losses by discriminators, not weighted.

        Args:
            judged, judged_real: Their maps of what was made, and of the recordings.
        """
        assert self.config.discriminators is not None
        return {
            "adversarial": generator_loss(judged, self.config.discriminators.game),
            "feature_matching": feature_distance(judged_real, judged),
        }

    def total(self, found: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum."""
        return torch.stack([getattr(self.settings, name) * value for name, value in found.items()]).sum()

    def balance(self, found: Mapping[str, Tensor], waveform: Tensor) -> dict[str, float]:
        """The norm of each weighted loss' gradient at the waveform as a share of all: what the decoder is told by each.

        Costs a pass back through what makes the loss, so it is taken for lines of metrics only.
        """
        norms = {}
        for name in AT_WAVEFORM:
            if name in found:
                weighted = getattr(self.settings, name) * found[name]
                (gradient,) = torch.autograd.grad(weighted, waveform, retain_graph=True)
                norms[name] = float(gradient.norm())
        whole = sum(norms.values())
        return {f"balance/{name}": norm / whole for name, norm in norms.items()} if whole else {}
