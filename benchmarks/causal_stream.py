"""What exact streaming of EnCodec and Mimi costs, per frames in a push, against encoding and decoding the whole.

Published sizes, random seeded weights, one thread, CPU seconds (best of several turns). "of real time" is CPU time
over the length of the audio: a live stream needs it well below 1.

    python benchmarks/causal_stream.py [--json] [--seconds 4] [--repeats 3]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from vivavoce.codecs.causal_codec import CausalCodec
from vivavoce.codecs.contract import Codes
from vivavoce.codecs.encodec import EncodecCodec
from vivavoce.codecs.mimi import MimiCodec

HOPS = {"encodec_24khz": (1, 4, 12), "mimi": (1, 2, 4)}


def stream_encode(codec: CausalCodec, waveform: Tensor, hop: int) -> Tensor:
    """Codes [K, T] of a stream of ``hop`` frames a push."""
    stream = codec.stream_encoder()
    parts = [stream.push(piece) for piece in waveform.split(hop * codec.spec.frame_samples, dim=-1)]
    return torch.cat([torch.cat(part.levels) for part in [*parts, stream.flush()]], dim=-1)


def stream_decode(codec: CausalCodec, codes: Codes, hop: int) -> Tensor:
    """Waveform of a stream of ``hop`` frames a push."""
    stream, size = codec.stream_decoder(), codec.spec.frame_samples
    pieces = zip(*(level.split(hop, dim=1) for level in codes.levels), strict=True)
    parts = [stream.push(Codes(list(piece), [piece[0].shape[1] * size])) for piece in pieces]
    return torch.cat([*parts, stream.flush()], dim=-1)


def cost_s(run: Callable[[], object], repeats: int) -> float:
    """CPU seconds, the best of ``repeats``."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        run()
        best = min(best, time.process_time() - start)
    return best


def measure(codec: CausalCodec, seconds: float, repeats: int) -> list[dict[str, float | str]]:
    """One row per hop; hop 0 is the whole clip at once."""
    size = codec.spec.frame_samples
    frames = int(seconds * codec.spec.sample_rate) // size
    waveform = 0.1 * torch.randn(1, 1, frames * size, generator=torch.Generator().manual_seed(0))
    codes = codec.encode(waveform)
    audio, length_s = codec.decode(codes), frames * size / codec.spec.sample_rate
    whole = [cost_s(lambda: codec.encode(waveform), repeats), cost_s(lambda: codec.decode(codes), repeats)]
    rows: list[dict[str, float | str]] = []
    for hop in (0, *HOPS[codec.spec.name]):
        encode_s, decode_s, changed, error = *whole, 0.0, 0.0
        if hop:
            encode_s = cost_s(partial(stream_encode, codec, waveform, hop), repeats)
            decode_s = cost_s(partial(stream_decode, codec, codes, hop), repeats)
            changed = float((stream_encode(codec, waveform, hop) != torch.cat(codes.levels)).sum())
            error = float((stream_decode(codec, codes, hop) - audio).abs().max() / audio.abs().max())
        rows.append(
            {
                "codec": codec.spec.name,
                "frames_per_push": hop,
                "push_ms": 1000 * hop * size / codec.spec.sample_rate,
                "encode_of_real_time": encode_s / length_s,
                "decode_of_real_time": decode_s / length_s,
                "encode_over_whole": encode_s / whole[0],
                "decode_over_whole": decode_s / whole[1],
                "codes_changed": changed,
                "max_relative_error": error,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of the clip")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    codecs = (EncodecCodec.from_config({}), MimiCodec.from_config({}))
    rows = [row for codec in codecs for row in measure(codec, options.seconds, options.repeats)]
    print(
        "codec          frames/push    ms   encode: of real time  over whole   decode: of real time  over whole"
    )
    for row in rows:
        hop = f"{row['frames_per_push']:>11}" if row["frames_per_push"] else "      whole"
        print(
            f"{row['codec']:<14} {hop} {row['push_ms']:>5.0f} {row['encode_of_real_time']:>22.3f} "
            f"{row['encode_over_whole']:>11.2f} {row['decode_of_real_time']:>22.3f} {row['decode_over_whole']:>11.2f}"
        )
    if options.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
