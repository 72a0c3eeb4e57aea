"""Distances of waveforms by their spectra: log-mel at several resolutions, and short-time Fourier magnitudes.

Letters: B batch, S samples, M mel bands, F frequencies.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vivavoce.audio.features import slaney_mel_filters

WINDOWS = (32, 64, 128, 256, 512, 1024, 2048)
MELS = (5, 10, 20, 40, 80, 160, 320)


def magnitudes(waveform: Tensor, window: Tensor, floor: float = 1e-9) -> Tensor:
    """Magnitudes [B, F, T] of waveforms [B, S], hop a quarter of the window; smooth where the signal is silent."""
    size = len(window)
    found = torch.stft(waveform.float(), size, size // 4, window=window, return_complex=True)
    return (found.real.square() + found.imag.square() + floor).sqrt()


class MelDistance(nn.Module):
    """Sum over resolutions of the mean distance of log10 mel magnitudes.

    Args:
        sample_rate: Hz.
        windows: Samples of each Fourier transform.
        mels: Bands of each.
        floor: Least magnitude of a band.

    Source: Kumar et al. 2023 (DAC), section 3.4, seven windows from 32 to 2,048 and 5 to 320 bands.
    """

    def __init__(
        self,
        sample_rate: int,
        windows: Sequence[int] = WINDOWS,
        mels: Sequence[int] = MELS,
        floor: float = 1e-5,
    ) -> None:
        super().__init__()
        self.floor = floor
        self.windows, self.filters = [], []
        for number, (size, count) in enumerate(zip(windows, mels, strict=True)):
            filters = torch.from_numpy(slaney_mel_filters(count, size, sample_rate)).float()
            self.register_buffer(f"window_{number}", torch.hann_window(size), persistent=False)
            self.register_buffer(f"filters_{number}", filters, persistent=False)
            self.windows.append(f"window_{number}")
            self.filters.append(f"filters_{number}")

    def forward(self, made: Tensor, real: Tensor) -> Tensor:
        """made, real [B, 1, S] -> scalar."""
        total = made.new_zeros(())
        for window, filters in zip(self.windows, self.filters, strict=True):
            size, bank = getattr(self, window), getattr(self, filters)
            ours, theirs = (
                (bank @ magnitudes(x[:, 0], size)).clamp(min=self.floor).log10() for x in (made, real)
            )
            total = total + (ours - theirs).abs().mean()
        return total


class STFTDistance(nn.Module):
    """Mean over resolutions of spectral convergence and the distance of log magnitudes.

    Args:
        windows: Samples of each Fourier transform.
        log_weight: Of log magnitudes beside convergence.
        floor: Least magnitude in the logarithm.

    Source: Yamamoto et al. 2020 (Parallel WaveGAN), eq. 5 to 7.
    """

    def __init__(
        self, windows: Sequence[int] = (512, 1024, 2048), log_weight: float = 1.0, floor: float = 1e-3
    ) -> None:
        super().__init__()
        self.log_weight, self.floor, self.names = log_weight, floor, []
        for number, size in enumerate(windows):
            self.register_buffer(f"window_{number}", torch.hann_window(size), persistent=False)
            self.names.append(f"window_{number}")

    def forward(self, made: Tensor, real: Tensor) -> Tensor:
        """made, real [B, 1, S] -> scalar."""
        total = made.new_zeros(())
        for name in self.names:
            ours, theirs = (magnitudes(x[:, 0], getattr(self, name)) for x in (made, real))
            gap = (ours - theirs).norm() / (theirs.norm() + self.floor)
            logs = (ours.clamp(min=self.floor).log() - theirs.clamp(min=self.floor).log()).abs().mean()
            total = total + gap + self.log_weight * logs
        return total / len(self.names)
