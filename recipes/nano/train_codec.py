"""Train the embedded codec: python recipes/nano/train_codec.py --speech runs/nano/speech --out runs/nano/codec

Losses: multi-resolution log-mel and STFT distances and the commitment term; codebooks follow their vectors by an
exponential moving average and dead codewords restart on live vectors. One thread, bf16 autocast, no adversary.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from pathlib import Path

import checkpoint
import torch
import torch.nn.functional as F
from speech_data import RATE, SpeechShards
from torch import Tensor, nn

from vivavoce.codecs.nano import NanoCodec, VectorQuantizer, mel_filters

CROP = 24_576  # 1.024 s, twelve coarse frames


class EMACodebook:
    """Keeps one quantizer's codebook at the running mean of the vectors assigned to it."""

    def __init__(self, quantizer: VectorQuantizer, decay: float = 0.97, dead_below: float = 0.03) -> None:
        self.quantizer, self.decay, self.dead_below = quantizer, decay, dead_below
        self.counts = torch.ones(len(quantizer.codebook))
        self.sums = quantizer.codebook.clone()
        self.ready = False

    @torch.no_grad()
    def update(self, vectors: Tensor, codes: Tensor) -> None:
        """vectors [N, code_dim] unit length, codes [N]."""
        book = self.quantizer.codebook
        used = torch.bincount(codes, minlength=len(book)).float()
        self.counts.mul_(self.decay).add_(used, alpha=1 - self.decay)
        new = torch.zeros_like(self.sums).index_add_(0, codes, vectors)
        self.sums.mul_(self.decay).add_(new, alpha=1 - self.decay)
        dead = self.counts < self.dead_below
        if not self.ready:  # first batch: all codewords start on real vectors
            dead, self.ready = torch.ones_like(dead), True
        if dead.any():
            self.sums[dead] = vectors[torch.randint(0, len(vectors), (int(dead.sum()),))]
            self.sums[dead] += 0.02 * torch.randn_like(self.sums[dead])
            self.counts[dead] = 1.0
        book.copy_(F.normalize(self.sums, dim=1))

    def state(self) -> dict:
        return {"counts": self.counts, "sums": self.sums}

    def restore(self, state: dict) -> None:
        self.counts, self.sums, self.ready = state["counts"], state["sums"], True


class SpectralLoss(nn.Module):
    """Mean over resolutions of log-mel L1, and of spectral convergence + 0.3 log-magnitude L1."""

    def __init__(self, sizes: tuple[tuple[int, int], ...] = ((512, 64), (1024, 80), (2048, 128))) -> None:
        super().__init__()
        self.sizes = sizes
        self.windows = [torch.hann_window(n) for n, _ in sizes]
        self.mels = [mel_filters(n, m, RATE) for n, m in sizes]

    def forward(self, made: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """made, real [B, S] -> (mel distance, STFT distance)."""
        mel_loss, stft_loss = torch.zeros(()), torch.zeros(())
        for (n, _), window, mel in zip(self.sizes, self.windows, self.mels, strict=True):
            a, b = (torch.stft(x, n, n // 4, window=window, return_complex=True) for x in (made, real))
            a, b = torch.sqrt(a.real**2 + a.imag**2 + 1e-9), b.abs()
            la, lb = (torch.log((mel @ x).clamp(min=1e-3)) for x in (a, b))
            mel_loss = mel_loss + (la - lb).abs().mean()
            log_gap = (torch.log(a.clamp(min=2e-3)) - torch.log(b.clamp(min=2e-3))).abs().mean()
            stft_loss = stft_loss + (a - b).norm() / (b.norm() + 1e-3) + 0.3 * log_gap
        return mel_loss / len(self.sizes), stft_loss / len(self.sizes)


def quantize(codec: NanoCodec, books: list[EMACodebook], latents: Tensor) -> tuple[Tensor, Tensor]:
    """Residual quantization with straight-through gradients; returns (latents, commitment)."""
    residual, total, commitment = latents, torch.zeros_like(latents), torch.zeros(())
    for quantizer, book in zip(codec.quantizers, books, strict=True):
        vectors = quantizer.project(residual)
        flat = vectors.detach().reshape(-1, vectors.shape[-1])
        if not book.ready:
            book.update(flat, quantizer.nearest(flat))
        codes = quantizer.nearest(vectors)
        near = quantizer.codebook[codes]
        commitment = commitment + (vectors - near).pow(2).sum(-1).mean()
        out = quantizer.expand(vectors + (near - vectors).detach())
        book.update(flat, codes.reshape(-1))
        residual, total = residual - out, total + out
    return total, commitment


def draw_batch(data: SpeechShards, size: int) -> Tensor:
    """Random crops with level changes and, sometimes, faint noise; [B, CROP]."""
    batch = torch.zeros(size, CROP)
    for i in range(size):
        row = random.choice(data.rows)
        start = random.randint(-2048, max(0, row["samples"] - CROP) + 1024)
        piece = torch.from_numpy(data.samples(row, max(0, start), start + CROP))
        at = max(0, -start)
        batch[i, at : at + len(piece)] = piece
        batch[i] *= random.uniform(0.7, 1.3)
        if random.random() < 0.3:
            batch[i] += torch.randn(CROP) * 10 ** random.uniform(-4.5, -3)
    return batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    random.seed(0)
    args.out.mkdir(parents=True, exist_ok=True)
    data = SpeechShards(args.speech, {"train", "unknown", "voice"})
    codec, loss_of = NanoCodec(), SpectralLoss()
    books = [EMACodebook(q) for q in codec.quantizers]
    optimizer = torch.optim.AdamW(codec.parameters(), 1e-3, betas=(0.9, 0.98), weight_decay=1e-3)
    step, spent, state_file = 0, 0.0, args.out / "state.pt"
    if state := checkpoint.load(state_file):
        codec.load_state_dict(state["codec"])
        optimizer.load_state_dict(state["optimizer"])
        for book, saved in zip(books, state["books"], strict=True):
            book.restore(saved)
        step, spent = state["step"], state["cpu_s"]
        print(f"resumed at step {step}", flush=True)
    begin, totals = time.process_time() - spent, [0.0, 0.0, 0.0]
    while step < args.steps:
        lr = (
            1e-3
            * min(1, (step + 1) / 100)
            * (0.04 + 0.96 * 0.5 * (1 + math.cos(math.pi * step / args.steps)))
        )
        for group in optimizer.param_groups:
            group["lr"] = lr
        real = draw_batch(data, args.batch)
        with torch.autocast("cpu", torch.bfloat16):
            latents = codec.latents(real)
        latents, commitment = quantize(codec, books, latents.float())
        with torch.autocast("cpu", torch.bfloat16):
            made = codec.synthesize(latents)
        mel, stft = loss_of(made, real)
        optimizer.zero_grad()
        (3 * mel + 2 * stft + 0.25 * commitment).backward()
        torch.nn.utils.clip_grad_norm_(codec.parameters(), 3.0)
        optimizer.step()
        step += 1
        totals = [a + float(b) for a, b in zip(totals, (mel, stft, commitment), strict=True)]
        if step % 100 == 0:
            cpu = time.process_time() - begin
            used = [int((b.counts > 0.05).sum()) for b in books]
            text = " ".join(
                f"{k} {v / 100:.4f}" for k, v in zip(("mel", "stft", "commit"), totals, strict=True)
            )
            print(f"step {step} cpu {cpu:.0f} s lr {lr:.1e} {text} codes in use {used}", flush=True)
            totals = [0.0, 0.0, 0.0]
        if step % 250 == 0 or step == args.steps:
            checkpoint.save(
                state_file,
                codec=codec.state_dict(),
                optimizer=optimizer.state_dict(),
                books=[b.state() for b in books],
                step=step,
                cpu_s=time.process_time() - begin,
            )
            codec.save(args.out / "export")


if __name__ == "__main__":
    main()
