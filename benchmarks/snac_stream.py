"""What exact streaming of SNAC costs: whole decode, our stream, and overlapping windows, in one run.

Real 24 kHz architecture, random seeded weights, noise blocks skipped, one thread. Cost is CPU seconds, best of
several interleaved repeats, over the cost of decoding the whole clip. Errors are against the whole decode; the
streams' also against the plain network without any streaming code.

    python benchmarks/snac_stream.py [--json] [--frames 48] [--repeats 5]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import torch
from torch import Tensor

from vivavoce.codecs.contract import Codes
from vivavoce.codecs.snac import PUBLISHED, SNACCodec

WINDOW_FRAMES = 4  # the Orpheus reference decodes the last four frames and keeps the second


def piece(codec: SNACCodec, codes: Codes, start: int, stop: int) -> Codes:
    """Coarse frames ``start`` to ``stop`` as codes of their own."""
    levels = [
        level[:, start * n : stop * n]
        for level, n in zip(codes.levels, codec.spec.codes_per_level, strict=True)
    ]
    return Codes(levels, [levels[0].shape[1] * codec.spec.frame_samples])


def stream(codec: SNACCodec, codes: Codes, hop: int) -> Tensor:
    """Decode ``hop`` coarse frames at a time."""
    decoder, frames = codec.stream_decoder(), codes.levels[0].shape[1]
    parts = [decoder.push(piece(codec, codes, k, min(frames, k + hop))) for k in range(0, frames, hop)]
    return torch.cat([*parts, decoder.flush()], dim=-1)


def windows(codec: SNACCodec, codes: Codes) -> Tensor:
    """Decode every window of four frames and keep its second frame; covers frames 1 to K - 3."""
    size, frames = codec.spec.frame_samples, codes.levels[0].shape[1]
    starts = range(frames - WINDOW_FRAMES + 1)
    kept = [codec.decode(piece(codec, codes, k, k + WINDOW_FRAMES))[..., size : 2 * size] for k in starts]
    return torch.cat(kept, dim=-1)


def plain(codec: SNACCodec, codes: Codes) -> Tensor:
    """Decode with the plain network."""
    with torch.no_grad():
        return codec.decoder(codec.quantizer.embed(codes.levels).transpose(1, 2))


def best_cost_s(runs: dict[str, Callable[[], Tensor]], repeats: int) -> dict[str, float]:
    """CPU seconds of each run, the best of ``repeats`` turns taken one after the other."""
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.process_time()
            run()
            best[name] = min(best[name], time.process_time() - start)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--frames", type=int, default=48, help="coarse frames of 85.3 ms")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    codec = SNACCodec.from_config(PUBLISHED["snac_24khz"])
    spec, frames = codec.spec, options.frames
    levels = [torch.randint(0, spec.codebook_size, (1, frames * n)) for n in spec.codes_per_level]
    codes = Codes(levels, [frames * spec.frame_samples])

    runs: dict[str, Callable[[], Tensor]] = {
        "whole decode": lambda: codec.decode(codes),
        "stream, hop 1": lambda: stream(codec, codes, 1),
        "stream, hop 4": lambda: stream(codec, codes, 4),
        "Orpheus windows": lambda: windows(codec, codes),
        "plain network": lambda: plain(codec, codes),
    }
    outputs = {name: run() for name, run in runs.items()}
    whole, size = outputs["whole decode"], spec.frame_samples
    errors = {
        name: float((out - whole).abs().max()) for name, out in outputs.items() if out.shape == whole.shape
    }
    covered = whole[..., size : size + outputs["Orpheus windows"].shape[-1]]
    errors["Orpheus windows"] = float((outputs["Orpheus windows"] - covered).abs().max())
    streams = [outputs["stream, hop 1"], outputs["stream, hop 4"]]
    worst = max(
        float((out - reference).abs().max())
        for out in streams
        for reference in (whole, outputs["plain network"])
    )
    costs = best_cost_s(runs, options.repeats)

    frames_to_start = -(-(spec.lookahead_samples + 1) // size)
    first_tokens = {
        "stream, hop 1": frames_to_start,
        "stream, hop 4": -(-frames_to_start // 4) * 4,
        "Orpheus windows": WINDOW_FRAMES,
    }
    seconds = frames * size / spec.sample_rate
    print(f"{seconds:.2f} s of {spec.sample_rate} Hz, output RMS {float(whole.std()):.3f}, one thread")
    print(
        f"{'':18}{'CPU s':>8}{'x real time':>13}{'cost ratio':>12}{'max error':>12}{'first audio after':>20}"
    )
    for name, cost in costs.items():
        start = f"{first_tokens.get(name, frames) * spec.codes_per_frame} tokens"
        ratio = cost / costs["whole decode"]
        print(f"{name:18}{cost:8.2f}{seconds / cost:13.1f}{ratio:12.2f}{errors[name]:12.1e}{start:>20}")
    if options.json:
        ratios = {name: round(cost / costs["whole decode"], 3) for name, cost in costs.items()}
        result = {
            "max_abs_error": worst,
            "cost_ratio_hop1": ratios["stream, hop 1"],
            "cost_ratio_hop4": ratios["stream, hop 4"],
            "cost_ratio_orpheus_windows": ratios["Orpheus windows"],
            "cost_ratio_plain_network": ratios["plain network"],
            "max_abs_error_orpheus_windows": errors["Orpheus windows"],
            "whole_decode_cpu_s_per_s": round(costs["whole decode"] / seconds, 4),
        }
        print(json.dumps(result))


if __name__ == "__main__":
    main()
