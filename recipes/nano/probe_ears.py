"""Short controlled trainings of the ears alone (encoder and CTC), to see what helps people never heard.

python recipes/nano/probe_ears.py --digits FSDD --speech runs/nano/speech --more-digits runs/nano2/digits \
    --tokenizer runs/nano/tokenizer --init runs/nano/hear --leave nicolas,jackson --pool native,accent,accent \
    --bend 0.8 --time 0.5 --tilt 0.5 --mix 0.4 --faint 3 --level top --cut 0.4

Waveforms are augmented once and kept as features (--cache, one file for each --cut); what is drawn at every step are
clips, strings of them, and the changes of vivavoce.audio.speakers. A step of 30 clips takes 0.4 CPU-seconds.
Prints greedy CTC readings of the speakers left out, all 500 clips each with 0.1 s of silence around: clean, at 10 dB
(250), strings of four (60); and of sentences and voices held out.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from domain import DIGITS
from hearing import HEAR_RATE, cut_ends
from speech_data import RATE, SPEAKERS, SpeechShards
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AutoTokenizer

from vivavoce.audio.augment import AugmentOptions, ambient_noise, augment, mask_spectrogram, rms, warp_mel
from vivavoce.audio.features import LogMel
from vivavoce.audio.files import read_audio
from vivavoce.audio.resample import resample
from vivavoce.audio.speakers import bend_mel, bend_time, between, tilt_mel
from vivavoce.models.encoders.mel_ctc import MelCTCConfig, MelCTCEncoder

PADDING = np.zeros(HEAR_RATE // 10, np.float32)
POOLS = {"old": (60, 0.4), "oldtel": (60, 0.7), "native": (70, 0.7), "accent": (110, 0.7)}
"""Synthetic digits: clips of each digit, and the share of clips with a band limit (0.7: that of a telephone)."""
Clip = tuple[Tensor, str]


def features(waves: list[np.ndarray]) -> list[Tensor]:
    """Log-mel of each waveform, kept in half precision."""
    samples = torch.tensor([max(800, len(wave)) for wave in waves])
    padded = torch.zeros(len(waves), int(samples.max()))
    for row, wave in zip(padded, waves, strict=True):
        row[: len(wave)] = torch.from_numpy(wave)
    found, frames = LogMel()(padded, samples)
    return [clip[:, :n].half() for clip, n in zip(found, frames.tolist(), strict=True)]


def change(
    wave: np.ndarray, rng: np.random.Generator, strength: float, low_pass_p: float, cut: float = 0.0
) -> np.ndarray:
    """Speed, cut ends, then everything else, and the silence that the product puts around a clip."""
    if rng.random() < 0.6 * strength:
        wave = resample(wave, HEAR_RATE, int(HEAR_RATE / rng.uniform(0.88, 1.14)) // 100 * 100)
    if strength > 0.3:
        wave = cut_ends(wave, random.Random(int(rng.integers(1 << 30))), cut)
    options = AugmentOptions(
        low_pass_p=low_pass_p, low_pass_hz=(3300, 7500) if low_pass_p < 0.5 else (3200, 5000),
        pad_s=(0, 0.15), speed_p=0, noise_p=0.7, snr_db=(3.0, 50.0),
    )  # fmt: skip
    changed = augment(wave, HEAR_RATE, rng, strength=strength, options=options)
    return np.concatenate([PADDING, changed, PADDING])


def noisy(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The clip at 10 dB."""
    noise = ambient_noise(len(wave), HEAR_RATE, rng) * rms(wave) * 10**-0.5
    return (wave + noise).astype(np.float32)


def make_cache(args: argparse.Namespace) -> dict[str, list[Clip]]:
    """All features that probes draw from."""
    noise, rng = np.random.default_rng(0), random.Random(0)
    out: dict[str, list[Clip]] = {}
    for speaker in SPEAKERS:
        heard: dict[int, list[np.ndarray]] = {}
        for digit, name in enumerate(DIGITS):
            paths = sorted(args.digits.glob(f"{digit}_{speaker}_*.wav"))
            waves = [read_audio(path, sample_rate=HEAR_RATE)[0] for path in paths]
            heard[digit] = waves
            padded = [np.concatenate([PADDING, wave, PADDING]) for wave in waves]
            trained = [change(w, noise, 1.0 if i % 3 else 0.5, 0.4, args.cut) for i, w in enumerate(waves)]
            trained += [change(w, noise, 0.1, 0.4) for w in waves[::2]]
            for key, kept in (
                ("clean", padded),
                ("10 dB", [noisy(w, noise) for w in padded[::2]]),
                ("train", trained),
            ):
                out.setdefault(f"{speaker} {key}", []).extend((clip, name) for clip in features(kept))
        rows = []
        draw = random.Random(f"strings {speaker}")
        for _ in range(60):
            digits, parts = [draw.randrange(10) for _ in range(4)], [PADDING]
            for digit in digits:
                parts.append(draw.choice(heard[digit]))
                parts.append(np.zeros(int(draw.uniform(0.05, 0.25) * HEAR_RATE), np.float32))
            rows.append((np.concatenate([*parts, PADDING]), " ".join(DIGITS[d] for d in digits)))
        clips = features([wave for wave, _ in rows])
        out[f"{speaker} strings"] = [(clip, text) for clip, (_, text) in zip(clips, rows, strict=True)]
    first, more = SpeechShards(args.speech), SpeechShards(args.more_digits)
    digits = [row for row in first.rows if row["split"] == "train" and row["kind"] == "digit"]
    new = [row for row in more.rows if row["kind"] == "digit"]
    native = [row for row in new if row["said"].rstrip(".!?,") == row["text"]]
    accent = [row for row in new if row["said"].rstrip(".!?,") != row["text"]]
    sources = {
        "old": (first, digits),
        "oldtel": (first, digits),
        "native": (more, native),
        "accent": (more, accent),
    }
    for pool, (shards, rows_of_pool) in sources.items():
        count, low_pass_p = POOLS[pool]
        for name in DIGITS:
            chosen = rng.sample([row for row in rows_of_pool if row["text"] == name], count)
            waves = [resample(shards.samples(row), RATE, HEAR_RATE) for row in chosen]
            waves = [
                change(w, noise, 1.0 if i % 5 < 3 else 0.3, low_pass_p, args.cut) for i, w in enumerate(waves)
            ]
            out.setdefault(pool, []).extend((clip, name) for clip in features(waves))
    short = [
        r for r in first.rows if r["split"] == "train" and r["kind"] != "digit" and r["samples"] < RATE * 1.8
    ]
    for split, rows_of_split in (
        ("domain", rng.sample(short, 400)),
        *((s, [r for r in first.rows if r["split"] == s][:60]) for s in ("test_sentence", "test_voice")),
    ):
        waves = [resample(first.samples(row), RATE, HEAR_RATE) for row in rows_of_split]
        if split == "domain":
            waves = [change(wave, noise, 0.3, 0.4) for wave in waves]
        texts = [row["text"] for row in rows_of_split]
        out[split] = list(zip(features(waves), texts, strict=True))
    return out


def pad(clips: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([clip.shape[1] for clip in clips])
    out = torch.zeros(len(clips), 80, int(lengths.max()))
    for row, clip in zip(out, clips, strict=True):
        row[:, : clip.shape[1]] = torch.from_numpy(clip)
    return out, lengths


class Probe:
    """One training and its tests."""

    def __init__(self, args: argparse.Namespace, cache: dict[str, list[Clip]]) -> None:
        self.args, self.cache, self.tokenizer = args, cache, AutoTokenizer.from_pretrained(args.tokenizer)
        weights = torch.load(args.init / "state.pt", weights_only=True)["model"]
        prefix = "audio_encoder."
        config = MelCTCConfig(
            len(self.tokenizer), range_decades=args.floor, faint_decades=args.faint, level=args.level
        )
        self.encoder = MelCTCEncoder(config)
        self.encoder.load_state_dict(
            {k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)}
        )
        self.left = tuple(args.leave.split(","))
        people = [s for s in SPEAKERS if s not in self.left]
        self.people = [self._by_digit(f"{speaker} train") for speaker in people]
        self.pools = [self._by_digit(pool) for pool in args.pool.split(",")]

    def _by_digit(self, key: str) -> dict[str, list[np.ndarray]]:
        out: dict[str, list[np.ndarray]] = {}
        for clip, text in self.cache[key]:
            out.setdefault(text, []).append(clip.float().numpy())
        return out

    def draw(self, rng: random.Random, real: bool) -> tuple[np.ndarray, str]:
        """One clip of a digit or of two to three, by a speaker that may be between two."""
        args, noise = self.args, np.random.default_rng(rng.getrandbits(32))
        voices = self.people if real else self.pools
        voice = rng.choice(voices)
        digits = [rng.choice(DIGITS) for _ in range(1 if rng.random() >= 0.2 else rng.randint(2, 3))]
        parts = [rng.choice(voice[digit]) for digit in digits]
        if rng.random() < args.mix:
            other = rng.choice(voices)
            parts = [
                between(clip, rng.choice(other[digit]), rng.uniform(0.2, 0.8))
                for clip, digit in zip(parts, digits, strict=True)
            ]
        top = max(float(part.max()) for part in parts)
        clip = np.concatenate([part + (top - part.max()) for part in parts], axis=1)
        if rng.random() < args.bend:
            clip = bend_mel(clip, noise)
        elif rng.random() < 0.5:
            clip = warp_mel(clip, float(noise.uniform(0.86, 1.16)))
        if rng.random() < args.time:
            clip = bend_time(clip, noise)
        if rng.random() < args.tilt:
            clip = tilt_mel(clip, noise)
        if rng.random() < 0.5:
            clip = mask_spectrogram(clip, noise)
        return clip, " ".join(digits)

    def loss(self, rows: list[tuple[np.ndarray, str]]) -> Tensor:
        """Sum over rows of the CTC loss per word."""
        batch, lengths = pad([clip for clip, _ in rows])
        words = [self.tokenizer.convert_tokens_to_ids(text.split()) for _, text in rows]
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            states, frames = self.encoder(batch, lengths)
            logits = self.encoder.ctc_logits(states)
        counts = torch.tensor([len(row) for row in words])
        flat = torch.tensor([i for row in words for i in row])
        log_probs = F.log_softmax(logits.float(), -1).transpose(0, 1)
        ctc = F.ctc_loss(log_probs, flat, frames, counts, reduction="none", zero_infinity=True)
        return (ctc / counts).sum()

    def train(self) -> None:
        args, parameters = self.args, list(self.encoder.parameters())
        optimizer = torch.optim.AdamW(parameters, args.lr, betas=(0.9, 0.98), weight_decay=0.05)
        sentences = [(clip.float().numpy(), text) for clip, text in self.cache["domain"]]
        for step in range(args.steps):
            cosine = 0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * step / args.steps))
            optimizer.param_groups[0]["lr"] = args.lr * min(1.0, (step + 1) / 15) * cosine
            rng = random.Random(f"{args.seed} {step}")
            rows = [self.draw(rng, k < args.human) for k in range(args.human + args.synthetic)]
            rows += [rng.choice(sentences) for _ in range(2)]
            rows.sort(key=lambda row: row[0].shape[1])
            cut = len(rows) * 2 // 3
            for part in (rows[:cut], rows[cut:]):
                (self.loss(part) / len(rows)).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()

    @torch.inference_mode()
    def right(self, key: str, warps: tuple[float, ...] = (1.0,)) -> float:
        """Per cent of clips read exactly; log-probabilities are averaged over ``warps`` of the vocal tract."""
        rows = sorted(self.cache[key], key=lambda row: row[0].shape[1])
        good = 0
        for start in range(0, len(rows), 100):
            part = rows[start : start + 100]
            total: Tensor | float = 0.0
            for warp in warps:
                batch, lengths = pad([warp_mel(clip.float().numpy(), warp) for clip, _ in part])
                with torch.autocast("cpu", torch.bfloat16):
                    states, frames = self.encoder(batch, lengths)
                total = total + F.log_softmax(self.encoder.ctc_logits(states.float()), -1)
            for row, count, (_, text) in zip(total.argmax(-1).tolist(), frames.tolist(), part, strict=True):
                read = [t for t, before in zip(row[:count], [0, *row], strict=False) if t not in (0, before)]
                good += read == self.tokenizer.convert_tokens_to_ids(text.split())
        return round(100 * good / len(rows), 1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("digits", "speech", "more-digits", "tokenizer", "init"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path("runs/nano2/probe.pt"))
    parser.add_argument("--leave", default="nicolas,jackson", help="speakers to test, with commas")
    parser.add_argument(
        "--pool", default="native,accent,accent", help=f"of {', '.join(POOLS)}; twice counts double"
    )
    for name in ("bend", "time", "tilt", "mix"):
        parser.add_argument(f"--{name}", type=float, default=0.0, help="share of clips changed so")
    parser.add_argument("--human", type=int, default=16, help="real clips in a step")
    parser.add_argument("--synthetic", type=int, default=12)
    parser.add_argument("--floor", type=float, default=4.0, help="range_decades of the encoder")
    parser.add_argument("--faint", type=float, default=0.0, help="faint_decades of the encoder")
    parser.add_argument("--level", choices=["mean", "top"], default="mean", help="level of the encoder")
    parser.add_argument("--cut", type=float, default=0.0, help="chance that an end of a digit is cut off")
    parser.add_argument("--lr", type=float, default=6e-4)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    if not args.cache.exists():
        args.cache.parent.mkdir(parents=True, exist_ok=True)
        torch.save(make_cache(args), args.cache)
    probe = Probe(args, torch.load(args.cache, weights_only=True))
    began = time.process_time()
    probe.train()
    print(json.dumps({k: v for k, v in vars(args).items() if not isinstance(v, Path)}))
    print(f"{time.process_time() - began:.0f} CPU-seconds")
    for speaker in probe.left:
        figures = {key: probe.right(f"{speaker} {key}") for key in ("clean", "10 dB", "strings")}
        figures["clean, three tracts"] = probe.right(f"{speaker} clean", (0.92, 1.0, 1.08))
        print(speaker, figures, flush=True)
    print({key: probe.right(key) for key in ("test_sentence", "test_voice")})


if __name__ == "__main__":
    main()
