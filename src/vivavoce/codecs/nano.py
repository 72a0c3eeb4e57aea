"""The embedded codec: SNAC's 24 kHz token geometry with a frame-rate encoder and decoder that run on a CPU.

Log-mel in, ConvNeXt blocks at 94 and 47 Hz, a three-level residual vector quantizer with strides 4, 2, 1 over
47 Hz frames (1 + 2 + 4 = 7 codes per 2,048 samples), ConvNeXt blocks back up, and an inverse STFT head that
predicts magnitude and phase. All heavy layers work on frames, so 24 kHz costs no more than 16 kHz would.

Letters: B batch, S samples, T frames at 47 Hz, D width, K levels.

Source: token geometry of SNAC (Siuzdak et al. 2024); ConvNeXt-on-frames with an ISTFT head as in Vocos (Siuzdak
2023); residual quantizer with l2-normalised, low-dimensional codewords as in improved VQGAN (Yu et al. 2022).
Here each level stacks ``stride`` frames into one code instead of average-pooling them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivavoce.base.errors import CheckpointError, CodecError
from vivavoce.codecs.contract import Codec, CodecSpec, Codes, StreamDecoder, StreamEncoder
from vivavoce.codecs.windowed import WindowedDecoder, WindowedEncoder

MODEL_TYPE = "vivavoce_nano_codec"


@dataclass(frozen=True)
class NanoCodecConfig:
    """Sizes of the codec. ``hop_samples`` is at 94 Hz; the quantizer sees pairs of those frames (47 Hz)."""

    sample_rate: int = 24_000
    hop_samples: int = 256
    fft_samples: int = 1024
    num_mels: int = 100
    encoder_dim: int = 192
    encoder_blocks: int = 3
    decoder_dim: int = 256
    decoder_blocks: tuple[int, int] = (2, 4)
    strides: tuple[int, ...] = (4, 2, 1)
    codebook_size: int = 1024
    code_dim: int = 8


def mel_filters(fft_samples: int, num_mels: int, sample_rate: int) -> Tensor:
    """Triangular HTK-scale mel filters that each sum to 1, float32 [num_mels, fft_samples // 2 + 1]."""
    top = 2595 * torch.log10(torch.tensor(1 + sample_rate / 2 / 700))
    edges = 700 * (10 ** (torch.linspace(0, float(top), num_mels + 2) / 2595) - 1)
    bins = torch.linspace(0, sample_rate / 2, fft_samples // 2 + 1)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    filters = torch.minimum(rising, falling).clamp(min=0)
    return filters / filters.sum(dim=1, keepdim=True).clamp(min=1e-8)


class ConvNeXt(nn.Module):
    """Depthwise convolution over time, then a per-frame two-layer network, with a scaled residual."""

    def __init__(self, dim: int, kernel: int = 7, expansion: int = 3) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, dim * expansion)
        self.contract = nn.Linear(dim * expansion, dim)
        self.scale = nn.Parameter(torch.full((dim,), 0.3))

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        y = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        return x + self.scale * self.contract(F.gelu(self.expand(self.norm(y))))


class VectorQuantizer(nn.Module):
    """One level: ``stride`` stacked frames -> a unit vector of ``code_dim`` -> the nearest codeword."""

    codebook: Tensor

    def __init__(self, dim: int, stride: int, codebook_size: int, code_dim: int) -> None:
        super().__init__()
        self.dim, self.stride = dim, stride
        self.project_in = nn.Linear(dim * stride, code_dim)
        self.project_out = nn.Linear(code_dim, dim * stride)
        self.register_buffer("codebook", F.normalize(torch.randn(codebook_size, code_dim), dim=1))

    def project(self, latents: Tensor) -> Tensor:
        """Latents [B, T, D] -> unit vectors [B, T / stride, code_dim]."""
        b, t, d = latents.shape
        return F.normalize(
            self.project_in(latents.reshape(b, t // self.stride, d * self.stride)).float(), dim=-1
        )

    def nearest(self, vectors: Tensor) -> Tensor:
        """Codes int64 [B, T / stride] of unit vectors."""
        return (vectors @ self.codebook.t()).argmax(-1)

    def expand(self, vectors: Tensor) -> Tensor:
        """Code vectors [B, T / stride, code_dim] -> latents [B, T, D]."""
        b, t, _ = vectors.shape
        return self.project_out(vectors).view(b, t * self.stride, self.dim)


class NanoCodec(Codec):
    """3.9 M parameters, 82 tokens per second, 820 bit/s at 24 kHz.

    Streaming: exact by windows; encoder and decoder look ahead 4 coarse frames (341 ms).

    Args:
        config: Sizes; defaults are the shipped edition's.
        weights: Hash of the weights for ``spec``.
    """

    mel: Tensor
    window: Tensor

    def __init__(self, config: NanoCodecConfig | None = None, weights: str = "") -> None:
        super().__init__()
        self.config = c = config or NanoCodecConfig()
        frame = 2 * c.hop_samples * max(c.strides)
        self.spec = CodecSpec(
            name="nano",
            sample_rate=c.sample_rate,
            frame_samples=frame,
            strides=tuple(c.strides),
            codebook_size=c.codebook_size,
            lookahead_samples=self._context_frames("decoder") * frame,
            causal=False,
            licence="Apache-2.0",
            weights=weights,
        )
        d, w = c.encoder_dim, c.decoder_dim
        self.register_buffer("mel", mel_filters(c.fft_samples, c.num_mels, c.sample_rate), persistent=False)
        self.register_buffer("window", torch.hann_window(c.fft_samples), persistent=False)
        self.stem = nn.Conv1d(c.num_mels, d, 5, padding=2)
        self.stem_norm = nn.LayerNorm(d)
        self.stem_block = ConvNeXt(d)
        self.down = nn.Linear(2 * d, d)
        self.encoder = nn.Sequential(*[ConvNeXt(d) for _ in range(c.encoder_blocks)])
        self.encoder_norm = nn.LayerNorm(d)
        self.quantizers = nn.ModuleList(VectorQuantizer(d, s, c.codebook_size, c.code_dim) for s in c.strides)
        self.decoder_in = nn.Linear(d, w)
        self.decoder_low = nn.Sequential(*[ConvNeXt(w) for _ in range(c.decoder_blocks[0])])
        self.up = nn.Linear(w, 2 * w)
        self.decoder_high = nn.Sequential(*[ConvNeXt(w) for _ in range(c.decoder_blocks[1])])
        self.decoder_norm = nn.LayerNorm(w)
        self.head = nn.Linear(w, c.fft_samples + 2)

    def _context_frames(self, side: str) -> int:
        """Coarse frames on each side that a coarse frame depends on, from kernel sizes."""
        c = self.config
        fine = 2 * c.hop_samples
        if side == "encoder":
            reach = c.fft_samples // 2 + 2 * c.hop_samples + 3 * c.hop_samples + 3 * fine * c.encoder_blocks
        else:
            reach = 3 * fine * c.decoder_blocks[0] + 3 * c.hop_samples * c.decoder_blocks[1] + c.fft_samples
        return -(-reach // (fine * max(c.strides)))

    def levels(self) -> list[VectorQuantizer]:
        """The quantizers, coarse to fine."""
        return list(self.quantizers)  # type: ignore[arg-type]

    # ---- network -------------------------------------------------------------------------------------
    def latents(self, waveform: Tensor) -> Tensor:
        """Waveform [B, S], S a multiple of the frame -> latents [B, S / 512, D]."""
        c = self.config
        edge = (c.fft_samples - c.hop_samples) // 2  # frame t is centred on the middle of its hop
        padded = F.pad(waveform, (edge, edge))
        stft = torch.stft(
            padded, c.fft_samples, c.hop_samples, window=self.window, center=False, return_complex=True
        )
        mel = torch.log((self.mel @ stft.abs()).clamp(min=1e-4))
        x = self.stem_block(self.stem_norm(self.stem((mel + 4.0) / 3.0).transpose(1, 2)))
        b, t, d = x.shape
        return self.encoder_norm(self.encoder(self.down(x.reshape(b, t // 2, 2 * d))))

    def synthesize(self, latents: Tensor) -> Tensor:
        """Quantized latents [B, T, D] -> waveform [B, T * 512]."""
        c = self.config
        x = self.decoder_low(self.decoder_in(latents))
        b, t, w = x.shape
        x = self.decoder_norm(self.decoder_high(self.up(x).view(b, 2 * t, w)))
        out = self.head(x).float().transpose(1, 2)
        bins = c.fft_samples // 2 + 1
        magnitude, phase = torch.exp(out[:, :bins].clamp(max=5.0)), out[:, bins:]
        frames = torch.fft.irfft(torch.polar(magnitude, phase), n=c.fft_samples, dim=1)
        frames = frames * self.window[None, :, None]
        length = (2 * t - 1) * c.hop_samples + c.fft_samples
        shape: dict = {
            "output_size": (1, length),
            "kernel_size": (1, c.fft_samples),
            "stride": (1, c.hop_samples),
        }
        audio = F.fold(frames, **shape)[:, 0, 0]
        # Hann at a quarter hop: the squared windows sum to 1.5 everywhere, so no position-dependent division.
        start = (c.fft_samples - c.hop_samples) // 2
        return audio[:, start : start + 2 * t * c.hop_samples] / 1.5

    def lookup(self, levels: list[Tensor]) -> Tensor:
        """Codes of all levels -> summed latents [B, T, D]."""
        parts = [q.expand(q.codebook[level]) for q, level in zip(self.levels(), levels, strict=True)]
        return torch.stack(parts).sum(0)

    # ---- contract ------------------------------------------------------------------------------------
    @torch.no_grad()
    def encode(self, waveform: Tensor, lengths: list[int] | None = None) -> Codes:
        lengths = self.check_waveform(waveform, lengths)
        frames = [self.spec.num_frames(n) for n in lengths]
        levels = [
            torch.zeros(len(lengths), max(frames) * n, dtype=torch.long, device=waveform.device)
            for n in self.spec.codes_per_level
        ]
        for count in sorted(set(frames)):  # equal lengths together: a batch gives what each item gives alone
            rows = [i for i, n in enumerate(frames) if n == count]
            chunk = torch.zeros(len(rows), count * self.spec.frame_samples, device=waveform.device)
            for j, i in enumerate(rows):
                chunk[j, : lengths[i]] = waveform[i, 0, : lengths[i]]
            for level, codes in zip(levels, self._encode_frames(chunk), strict=True):
                level[rows, : codes.shape[1]] = codes
        return Codes(levels, lengths)

    def _encode_frames(self, waveform: Tensor) -> list[Tensor]:
        residual, out = self.latents(waveform), []
        for quantizer in self.levels():
            codes = quantizer.nearest(quantizer.project(residual))
            residual = residual - quantizer.expand(quantizer.codebook[codes])
            out.append(codes)
        return out

    @torch.inference_mode()
    def decode(self, codes: Codes) -> Tensor:
        codes.check(self.spec)
        longest = max(codes.num_samples)
        out = torch.zeros(codes.batch_size, 1, longest, device=self.window.device)
        for i, length in enumerate(codes.num_samples):
            item = codes.item(i, self.spec)
            if length > item.levels[0].shape[1] * self.spec.frame_samples:
                raise CodecError(
                    f"item {i} claims {length} samples but has only {item.levels[0].shape[1]} frames."
                )
            if length:
                out[i, 0, :length] = self.synthesize(self.lookup(item.levels))[0, :length]
        return out

    def stream_encoder(self) -> StreamEncoder:
        return WindowedEncoder(self, self._encode_frames, self._context_frames("encoder"))

    def stream_decoder(self) -> StreamDecoder:
        def decode(levels: list[Tensor]) -> Tensor:
            return self.synthesize(self.lookup(levels))

        return WindowedDecoder(self, decode, self._context_frames("decoder"))

    # ---- folders -------------------------------------------------------------------------------------
    @classmethod
    def from_folder(cls, folder: str | Path) -> NanoCodec:
        """Load ``config.json`` and ``model.safetensors``.

        Raises:
            CheckpointError: A file is missing, or tensors do not fit the config.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        folder = Path(folder)
        try:
            raw = json.loads((folder / "config.json").read_text())
            data = (folder / "model.safetensors").read_bytes()
            raw.pop("model_type", None)
            raw = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
            codec = cls(NanoCodecConfig(**raw), weights=hashlib.sha256(data).hexdigest()[:16])
            codec.load_state_dict({k: v.float() for k, v in load(data).items()})
        except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(f"{folder} is not a complete nano codec folder: {error}") from error
        return codec.eval()

    def save(self, folder: str | Path, dtype: torch.dtype = torch.float16) -> None:
        """Write config and weights (half precision by default: 7.9 MB)."""
        from safetensors.torch import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {k: v.detach().to(dtype).contiguous() for k, v in self.state_dict().items()}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        config = {"model_type": MODEL_TYPE, **asdict(self.config)}
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
