"""Networks that tell recordings from reconstructions: by periods of the waveform, and by bands of its spectrum.

Letters: B batch, S samples, T frames, F frequencies.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

SLOPE = 0.1
BANDS = ((0.0, 0.1), (0.1, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0))
Maps = list[Tensor]  # of one discriminator: features of every layer, and the score map last


def _conv(
    inputs: int, outputs: int, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> nn.Module:
    return weight_norm(nn.Conv2d(inputs, outputs, kernel, stride, padding))


class PeriodDiscriminator(nn.Module):
    """Looks at every ``period``-th sample side by side.

    Args:
        period: Samples of a row.
        channels: Of the first layer; they grow to 32 times as many.

    Source: Kong et al. 2020 (HiFi-GAN), section 2.3.
    """

    def __init__(self, period: int, channels: int = 32) -> None:
        super().__init__()
        self.period = period
        sizes = (1, channels, 4 * channels, 16 * channels, 32 * channels, 32 * channels)
        self.layers = nn.ModuleList(
            _conv(sizes[i], sizes[i + 1], (5, 1), (3 if i < 4 else 1, 1), (2, 0)) for i in range(5)
        )
        self.score = _conv(sizes[-1], 1, (3, 1), (1, 1), (1, 0))

    def forward(self, waveform: Tensor) -> Maps:
        """[B, 1, S] -> features, scores [B, 1, T', period] last."""
        missing = -waveform.shape[-1] % self.period
        x = F.pad(waveform, (0, missing), mode="reflect").unflatten(-1, (-1, self.period))
        found = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE)
            found.append(x)
        return [*found, self.score(x)]


class BandDiscriminator(nn.Module):
    """Looks at the complex short-time spectrum, each band by filters of its own.

    Args:
        window: Samples of the Fourier transform; hop a quarter.
        channels: Of every layer.
        bands: Shares of the spectrum from 0 to 1, from and to.

    Source: Kumar et al. 2023 (DAC), section 3.4: complex spectra at several resolutions, cut into bands.
    """

    window: Tensor

    def __init__(self, window: int, channels: int = 32, bands: Sequence[tuple[float, float]] = BANDS) -> None:
        super().__init__()
        bins = window // 2 + 1
        self.edges = [(int(low * bins), int(high * bins)) for low, high in bands]
        self.register_buffer("window", torch.hann_window(window), persistent=False)
        self.stacks = nn.ModuleList(self._stack(channels) for _ in bands)
        self.score = _conv(channels, 1, (3, 3), (1, 1), (1, 1))

    @staticmethod
    def _stack(channels: int) -> nn.ModuleList:
        wide = [_conv(channels, channels, (3, 9), (1, 2), (1, 4)) for _ in range(3)]
        first, last = (
            _conv(2, channels, (3, 9), (1, 1), (1, 4)),
            _conv(channels, channels, (3, 3), (1, 1), (1, 1)),
        )
        return nn.ModuleList([first, *wide, last])

    def forward(self, waveform: Tensor) -> Maps:
        """[B, 1, S] -> features of every band and layer, scores [B, 1, T, F'] last."""
        size = len(self.window)
        with torch.autocast(waveform.device.type, enabled=False):
            spectrum = torch.stft(
                waveform[:, 0].float(), size, size // 4, window=self.window, return_complex=True
            )
        image = torch.stack([spectrum.real, spectrum.imag], 1).transpose(2, 3)  # [B, 2, T, F]
        found, ends = [], []
        for (low, high), stack in zip(self.edges, self.stacks, strict=True):
            x = image[..., low:high]
            for layer in stack:  # type: ignore[attr-defined]
                x = F.leaky_relu(layer(x), SLOPE)
                found.append(x)
            ends.append(x)
        return [*found, self.score(torch.cat(ends, -1))]


class Discriminators(nn.Module):
    """Several discriminators of both kinds.

    Args:
        periods: Of the period discriminators.
        windows: Of the band discriminators.
        period_channels, band_channels: Their widths.
    """

    def __init__(
        self,
        periods: Sequence[int] = (2, 3, 5, 7, 11),
        windows: Sequence[int] = (2048, 1024, 512),
        period_channels: int = 32,
        band_channels: int = 32,
    ) -> None:
        super().__init__()
        self.parts = nn.ModuleList(
            [
                *(PeriodDiscriminator(p, period_channels) for p in periods),
                *(BandDiscriminator(w, band_channels) for w in windows),
            ]
        )

    def forward(self, waveform: Tensor) -> list[Maps]:
        """[B, 1, S] -> one list of maps for each; offset and level of an item do not count."""
        level = waveform - waveform.mean(-1, keepdim=True)
        level = 0.8 * level / (level.abs().amax(-1, keepdim=True) + 1e-9)
        return [part(level) for part in self.parts]
