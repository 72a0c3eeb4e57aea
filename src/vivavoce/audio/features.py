"""What encoders see of a waveform: Whisper's log-mel spectrogram and Kaldi's log filter bank, on torch alone.

Letters: B batch, S samples, T frames, M mel bins, F frequency bins, N samples in a frame.

Both give ``(features [B, M, T], frames [B])`` and keep true lengths: an item gives the same features alone
and beside longer ones, within float rounding. Neither holds parameters or buffers, so a model that owns one
can be cast to half precision, built on the meta device or loaded from a checkpoint without touching its
constants.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vivavoce.base.errors import AudioError, ConfigError

Ending = Literal["reflect", "hop", "silence"]
Window = Literal["povey", "hanning", "hamming", "rectangular"]

WHISPER_SAMPLE_RATE = 16000
WHISPER_HOP = 160
WHISPER_FFT = 400


class LogMel(nn.Module):
    """Compute Whisper's log-mel spectrogram of a padded batch, without padding to 30 s.

    Power spectrum (Hann, 400 samples, centred, hop 160), Slaney mel bands of unit area up to 8 kHz, ``log10``
    clamped at 1e-10, cut 8 below the item's own maximum, then ``(x + 4) / 4``. The maximum is taken over the
    item's true frames, so neighbours in the batch cannot change it. A whole utterance is needed: the maximum
    has no streaming form.

    The published extractor has three habits at the end of a clip; ``ending`` chooses which one to equal:

    - ``"reflect"``: the extractor with ``padding="do_not_pad"``. The last frames see the clip mirrored at its
      end. ``frames = S // 160``.
    - ``"hop"``: the extractor with ``padding="longest", pad_to_multiple_of=160``, one clip a call (what
      Ultravox feeds its encoder). Zeros up to a whole hop, then mirrored. ``frames = ceil(S / 160)``.
    - ``"silence"``: the extractor's default, zeros up to 30 s; here only the true frames are returned
      (Whisper itself; SALMONN). ``frames = ceil(S / 160)``.

    Args:
        num_mels: Mel bins, 80 (Whisper up to large-v2) or 128 (large-v3); any positive count works.
        ending: What the frames at a clip's end see, see above.
        pad_value: Value of the frames past an item's own, after scaling. 0 is what published collators use.
        multiple: With ``"hop"``, the zeros go up to a whole multiple of this many hops, and all those frames
            are returned. 3000 gives, frame for frame, what the extractor's default gives: whole 30 s windows.

    Raises:
        ConfigError: ``num_mels`` or ``multiple`` below 1, an unknown ``ending``, or ``multiple`` with another
            ending than "hop".

    Source: transformers ``WhisperFeatureExtractor``; here batched with true lengths and differentiable. Clips
    of 200 samples and fewer, which the reference cannot mirror, are mirrored repeatedly.
    """

    sample_rate = WHISPER_SAMPLE_RATE
    hop_samples = WHISPER_HOP

    def __init__(
        self, num_mels: int = 80, ending: Ending = "reflect", pad_value: float = 0.0, multiple: int = 1
    ) -> None:
        super().__init__()
        if num_mels < 1:
            raise ConfigError(
                f"num_mels is {num_mels}; wanted 1 or more. Whisper uses 80, large-v3 uses 128."
            )
        if ending not in get_args(Ending):
            raise ConfigError(f"ending is {ending!r}; wanted one of {', '.join(get_args(Ending))}.")
        if multiple < 1 or (multiple > 1 and ending != "hop"):
            raise ConfigError(
                f'multiple is {multiple} with ending={ending!r}; wanted 1, or more with ending="hop".'
            )
        self.num_mels, self.ending, self.pad_value, self.multiple = num_mels, ending, pad_value, multiple

    def extra_repr(self) -> str:
        multiple = f", multiple={self.multiple}" if self.multiple > 1 else ""
        return f"num_mels={self.num_mels}, ending={self.ending!r}, pad_value={self.pad_value}{multiple}"

    def num_frames(self, lengths: Tensor) -> Tensor:
        """Count the frames that ``forward`` gives for clips of ``lengths`` samples, int64 ``[B]``."""
        if self.ending == "reflect":
            return torch.div(lengths, WHISPER_HOP, rounding_mode="floor")
        unit = WHISPER_HOP * self.multiple
        return torch.div(lengths + unit - 1, unit, rounding_mode="floor") * self.multiple

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Turn waveforms into log-mel features.

        Args:
            waveform: float ``[B, S]``, 16 kHz, nominally within -1 and 1; what lies past an item's length is
                ignored.
            lengths: True samples per item, int64 ``[B]``, 0 to S; None means S for all.

        Returns:
            Features float32 ``[B, M, T]`` with ``T = max(frames)``, roughly -1.5 to 1.5, and ``frames`` int64
            ``[B]``.

        Raises:
            AudioError: The waveform is not ``[B, S]`` or the lengths do not fit it.
        """
        waveform, lengths = _checked(waveform, lengths)
        frames = self.num_frames(lengths)
        total = int(frames.max()) if frames.numel() else 0
        with torch.autocast(waveform.device.type, enabled=False):
            ends = lengths if self.ending == "reflect" else frames * WHISPER_HOP
            padded = _centred(waveform.float(), lengths, ends, mirror=self.ending != "silence")
            window, filters = _whisper_constants(self.num_mels, str(waveform.device))
            spectrum = torch.stft(
                padded, WHISPER_FFT, WHISPER_HOP, window=window, center=False, return_complex=True
            )
            mel = filters @ (spectrum.abs() ** 2)
            logarithm = mel.clamp(min=1e-10).log10()
            position = torch.arange(logarithm.shape[-1], device=waveform.device)
            # "silence" takes the maximum over every frame that touches the clip, as the 30 s form does.
            counted = frames + 2 if self.ending == "silence" else frames
            seen = position < counted[:, None]
            peak = logarithm.masked_fill(~seen[:, None], -torch.inf).amax(dim=(1, 2), keepdim=True)
            features = (torch.maximum(logarithm, peak - 8.0) + 4.0) / 4.0
        features = features[..., :total]
        return features.masked_fill((position[:total] >= frames[:, None])[:, None], self.pad_value), frames


def kaldi_fbank(
    waveform: Tensor,
    lengths: Tensor | None = None,
    *,
    num_mels: int = 80,
    sample_rate: int = 16000,
    frame_ms: float = 25.0,
    hop_ms: float = 10.0,
    window: Window = "povey",
    low_hz: float = 20.0,
    high_hz: float = 0.0,
    preemphasis: float = 0.97,
    remove_dc: bool = True,
    scale: float = 1.0,
    pad_value: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Compute Kaldi's log mel filter bank energies of a padded batch.

    Frames lie wholly inside the clip (``snip_edges``), so ``frames = 1 + (S - N) // hop`` and a clip shorter
    than one frame has none. Each frame loses its mean, is pre-emphasised, windowed and zero-padded to a power
    of two; the power spectrum goes through triangles that are straight in mel; energies are floored at
    float32's epsilon before the natural log. No dither. BEATs wants ``num_mels=128, scale=2**15`` and the
    rest as it stands.

    Args:
        waveform: float32 or float64 ``[B, S]``, nominally within -1 and 1; the computation keeps this type.
        lengths: True samples per item, int64 ``[B]``, 0 to S; None means S for all.
        num_mels: Mel bins, 4 or more.
        sample_rate: Hz.
        frame_ms: Frame length in ms.
        hop_ms: Frame shift in ms.
        window: Symmetric window; ``povey`` is Hann to the power 0.85.
        low_hz: Lower edge of the first band, Hz.
        high_hz: Upper edge of the last band, Hz; 0 or below counts down from half the sample rate.
        preemphasis: Share of the previous sample taken away, 0 to 1.
        remove_dc: Take each frame's mean away first.
        scale: Factor on the waveform; ``2**15`` gives the 16-bit range that Kaldi models were trained on.
        pad_value: Value of the frames past an item's own.

    Returns:
        Features ``[B, M, T]`` in the waveform's type, and ``frames`` int64 ``[B]``. Kaldi itself writes ``[T,
        M]``.

    Raises:
        AudioError: The waveform is not ``[B, S]`` or the lengths do not fit it.
        ConfigError: A setting is out of range.

    Source: ``torchaudio.compliance.kaldi.fbank`` with its defaults except ``dither=0``; here batched with
    true lengths.
    """
    waveform, lengths = _checked(waveform, lengths)
    size, hop = int(sample_rate * frame_ms / 1000), int(sample_rate * hop_ms / 1000)
    nyquist = sample_rate / 2
    top_hz = high_hz if high_hz > 0 else nyquist + high_hz
    if size < 2 or hop < 1:
        raise ConfigError(
            f"frame_ms={frame_ms}, hop_ms={hop_ms} at {sample_rate} Hz give {size} and {hop} samples."
        )
    if num_mels < 4 or not 0 <= low_hz < top_hz <= nyquist:
        raise ConfigError(
            f"num_mels={num_mels}, low_hz={low_hz}, high_hz={high_hz} at {sample_rate} Hz; wanted "
            f"at least 4 bins and 0 <= low < high <= {nyquist} Hz."
        )
    if window not in get_args(Window):
        raise ConfigError(f"window is {window!r}; wanted one of {', '.join(get_args(Window))}.")
    frames = torch.div(lengths - size, hop, rounding_mode="floor").add(1).clamp(min=0)
    total = int(frames.max()) if frames.numel() else 0
    if total == 0:
        return waveform.new_zeros(waveform.shape[0], num_mels, 0), frames
    fft_size = 1 << (size - 1).bit_length()
    shape, filters = _kaldi_constants(
        num_mels, sample_rate, size, fft_size, window, low_hz, top_hz, str(waveform.device), waveform.dtype
    )
    with torch.autocast(waveform.device.type, enabled=False):
        pieces = waveform.unfold(1, size, hop)[:, :total] * scale  # [B, T, N]
        if remove_dc:
            pieces = pieces - pieces.mean(dim=-1, keepdim=True)
        if preemphasis:
            before = torch.cat([pieces[..., :1], pieces[..., :-1]], dim=-1)
            pieces = pieces - preemphasis * before
        power = torch.fft.rfft(pieces * shape, n=fft_size).abs() ** 2  # [B, T, F]
        floor = torch.finfo(torch.float32).eps
        features = (power[..., :-1] @ filters.mT).clamp(min=floor).log().mT
    padding = torch.arange(total, device=waveform.device) >= frames[:, None]
    return features.masked_fill(padding[:, None], pad_value), frames


def slaney_mel_filters(
    num_mels: int, fft_size: int, sample_rate: int, high_hz: float | None = None
) -> np.ndarray:
    """Make triangular mel filters of unit area on Slaney's scale (linear to 1 kHz, then logarithmic).

    Args:
        num_mels: Filters, 1 or more.
        fft_size: Samples in the Fourier transform; ``F = fft_size // 2 + 1``.
        sample_rate: Hz.
        high_hz: Upper edge of the last filter; None means half the sample rate.

    Returns:
        float64 ``[M, F]``.
    """
    top = sample_rate / 2 if high_hz is None else high_hz
    step = math.log(6.4) / 27.0
    top_mel = 15.0 + math.log(top / 1000.0) / step if top >= 1000.0 else top * 3.0 / 200.0
    mels = np.linspace(0.0, top_mel, num_mels + 2)
    edges = np.where(mels < 15.0, mels * 200.0 / 3.0, 1000.0 * np.exp(step * (mels - 15.0)))
    bins = np.linspace(0.0, sample_rate / 2, fft_size // 2 + 1)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return triangles * (2.0 / (edges[2:] - edges[:-2]))[:, None]


def _checked(waveform: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    if waveform.dim() != 2 or not waveform.is_floating_point():
        raise AudioError(
            f"the waveform has shape {tuple(waveform.shape)} and type {waveform.dtype}; "
            "wanted float [batch, samples]. Add a batch axis with waveform[None], or average the channels."
        )
    batch, samples = waveform.shape
    if lengths is None:
        return waveform, torch.full((batch,), samples, dtype=torch.int64, device=waveform.device)
    lengths = lengths.to(waveform.device, torch.int64)
    if lengths.shape != (batch,) or bool(((lengths < 0) | (lengths > samples)).any()):
        raise AudioError(
            f"lengths are {lengths.tolist()}; wanted {batch} values from 0 to {samples} samples."
        )
    return waveform, lengths


def _centred(waveform: Tensor, lengths: Tensor, ends: Tensor, mirror: bool) -> Tensor:
    """Put half a window before and after each item's own end: ``[B, S'] -> [B, S' + 400]``, zeros past it.

    Items have ``lengths`` samples, then zeros up to ``ends``, from where they are mirrored if ``mirror``.
    """
    batch, half = waveform.shape[0], WHISPER_FFT // 2
    # Two spare hops: "silence" counts frames that only just touch the clip.
    room = int(ends.max()) + 2 * WHISPER_HOP if batch else 0
    inside = torch.arange(waveform.shape[1], device=waveform.device) < lengths[:, None]
    body = F.pad(waveform.masked_fill(~inside, 0.0), (0, max(0, room - waveform.shape[1])))
    side = torch.arange(half, device=waveform.device)
    head = body.gather(1, _mirrored((side - half).expand(batch, half), ends))
    padded = F.pad(torch.cat([head, body], dim=1), (0, half))
    if not mirror:
        return padded
    outside = ends[:, None] + side
    tail = body.gather(1, _mirrored(outside, ends))
    return padded.scatter(1, outside + half, tail.masked_fill(ends[:, None] == 0, 0.0))


def _mirrored(index: Tensor, lengths: Tensor) -> Tensor:
    """Fold sample positions back into ``[0, length)``, mirroring at both ends without repeating the end
    sample."""
    period = (2 * (lengths - 1)).clamp(min=1)[:, None]
    folded = index % period
    return torch.minimum(folded, period - folded).clamp(min=0)


@lru_cache(maxsize=32)
def _whisper_constants(num_mels: int, device: str) -> tuple[Tensor, Tensor]:
    filters = slaney_mel_filters(num_mels, WHISPER_FFT, WHISPER_SAMPLE_RATE)
    with torch.inference_mode(False):  # inference tensors could not be reused under autograd later
        window = torch.hann_window(WHISPER_FFT, device=device, dtype=torch.float32)
        return window, torch.tensor(filters, device=device, dtype=torch.float32)


@lru_cache(maxsize=32)
def _kaldi_constants(
    num_mels: int,
    sample_rate: int,
    size: int,
    fft_size: int,
    window: Window,
    low_hz: float,
    top_hz: float,
    device: str,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    # Rounded as torchaudio rounds them, else quiet bands differ by some 1e-4: the window in the waveform's type,
    # the filters in float32 whatever the type.
    with torch.inference_mode(False), torch.device("cpu"):
        hann = torch.hann_window(size, periodic=False, dtype=dtype)
        shapes = {
            "povey": hann**0.85,
            "hanning": hann,
            "hamming": torch.hamming_window(size, periodic=False, dtype=dtype),
            "rectangular": torch.ones(size, dtype=dtype),
        }
        low, top = (1127.0 * math.log(1.0 + hz / 700.0) for hz in (low_hz, top_hz))
        step = (top - low) / (num_mels + 1)
        band = torch.arange(num_mels, dtype=torch.float32)[:, None]
        left, centre, right = (low + (band + k) * step for k in (0.0, 1.0, 2.0))
        hertz = sample_rate / fft_size * torch.arange(fft_size // 2, dtype=torch.float32)
        bins = 1127.0 * (1.0 + hertz / 700.0).log()
        triangles = torch.minimum((bins - left) / (centre - left), (right - bins) / (right - centre))
        return shapes[window].to(device), triangles.clamp(min=0.0).to(device, dtype)
