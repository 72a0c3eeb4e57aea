"""What hearing costs by each ear: positions and CPU time per second of speech, one thread.

python recipes/nano_tokens/costs.py --data runs/nano_tokens/data.pt --json recipes/nano_tokens/costs.json

Weights are random: speed does not hang on them. A reply is 12 tokens, drawn one by one with kept keys and values.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from numbers_data import Clip, NumbersData, TypedFacts
from two_ears import EARS, TwoEars, build_language_model, build_tokenizer

from vivavoce.codecs.loading import load_codec

NAMES = ("mel", "flat", "coarse_mid", "coarse", "summed")
REPLY_TOKENS = 12


def cpu_seconds(call: Callable[[], object], repeats: int = 3) -> float:
    """Least process time of a few calls: the machine may be shared."""
    found = []
    for _ in range(repeats):
        begin = time.process_time()
        call()
        found.append(time.process_time() - begin)
    return min(found)


@torch.no_grad()
def costs(name: str, clips: list[Clip], batch: int = 16) -> dict[str, float]:
    """Positions and CPU-milliseconds per second of speech of one ear, clip by clip; training by batches."""
    tokenizer = build_tokenizer(TypedFacts().words())
    model = TwoEars(EARS[name], tokenizer, load_codec("nano").spec, build_language_model(len(tokenizer)))
    seconds = sum(clip.seconds for clip in clips)
    heard = [model.listen([clip])[0][0] for clip in clips]
    words = model.language_model.get_input_embeddings().weight[7:8]

    def draw() -> None:
        for row in heard:
            cache = model.language_model.model(inputs_embeds=row[None], use_cache=True).past_key_values
            for _ in range(REPLY_TOKENS):
                step = model.language_model.model(inputs_embeds=words[None], past_key_values=cache)
                cache = step.past_key_values

    ear = cpu_seconds(lambda: [model.listen([clip]) for clip in clips])
    prefill = cpu_seconds(lambda: [model.backbone(row[None]) for row in heard])
    drawn = cpu_seconds(draw) - prefill
    model.train()

    def learn() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss, _, _ = model.hearing_loss(clips[:batch])
        loss.backward()

    with torch.enable_grad():
        learn()
        taught = cpu_seconds(learn)
    return {
        "positions_per_s": sum(map(len, heard)) / seconds,
        "ear_ms_per_s": 1000 * ear / seconds,
        "prefill_ms_per_s": 1000 * prefill / seconds,
        "reply_ms_per_token": 1000 * drawn / len(clips) / REPLY_TOKENS,
        "training_ms_per_s": 1000 * taught / sum(clip.seconds for clip in clips[:batch]),
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    clips = [c for c in NumbersData(args.data).clips["known"] if c.kind == "arithmetic"][: args.clips]
    given = torch.load(args.data, weights_only=True, mmap=True)["cpu_s_per_s"]
    record = {name: {k: round(v, 2) for k, v in costs(name, clips).items()} for name in NAMES}
    record |= {"clips": len(clips), "seconds": round(sum(c.seconds for c in clips), 1)}
    record |= {
        "codec_ms_per_s": round(1000 * given["codec"], 2),
        "log_mel_ms_per_s": round(1000 * given["mel"], 2),
    }
    args.json.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
