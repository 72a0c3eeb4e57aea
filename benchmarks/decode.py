"""Text tokens of the embedded model, ours against transformers: python benchmarks/decode.py [--json] [--rounds N]

The same model, prompt, number of tokens and process for both, greedy, round after round of one and the other. Theirs is
``SpeechLM.generate`` with its default cache, a batch as one padded call. Ours is what the assistant and the server run:
at batch 1 the token loop itself, above it one thread per sequence on a ``Batcher``. The last columns are the sampler's
and the threads' share: ``forward`` is our backbone alone on all rows at once. ``--device cuda`` runs the same on a GPU,
for any model; our loop launches its kernels one by one there, without CUDA graphs. With --json the last line is one
JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch

CORES = 1
AIMS = {"cpu": 1.5, "cuda": 4.0}  # of generate, at batch 1
BATCHES = (1, 4, 16)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds until the device is done, and what came out."""
    began = time.perf_counter()
    found = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began, found


def measure(name: str, new_tokens: int, rounds: int, device: str) -> list[dict[str, Any]]:
    """A row for each batch size, medians over the rounds."""
    import vivavoce
    from vivavoce.inference.batching.batcher import Batcher
    from vivavoce.inference.batching.choose import backbone_of
    from vivavoce.inference.batching.rows import Row
    from vivavoce.inference.generate import Decoding, TokenRun
    from vivavoce.inference.sampling import Sampler, SamplingOptions

    assistant = vivavoce.load(name, device=device)
    model = assistant.model
    prompt = assistant.processor.prepare([{"role": "user", "content": "what is seven plus five"}])[
        "input_ids"
    ]
    greedy = {"do_sample": False, "max_new_tokens": new_tokens, "min_new_tokens": new_tokens}

    def theirs(batch: int) -> list[list[int]]:
        ids = torch.tensor([prompt] * batch, device=model.device)
        out = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), eos_token_id=None, pad_token_id=0, **greedy
        )
        return out[:, len(prompt) :].tolist()

    def write(calls: Any) -> list[int]:
        decoding = Decoding(model, calls)
        logits = decoding.feed(prompt)
        sampler = Sampler(SamplingOptions(temperature=0.0))
        return list(TokenRun(decoding, logits, sampler, (), new_tokens))

    def forward(batch: int) -> None:
        backbone = backbone_of(model.language_model)
        with torch.inference_mode():
            sequences = [backbone.open() for _ in range(batch)]
            out = [backbone.forward([Row(sequence, prompt)])[0] for sequence in sequences]
            for _ in range(new_tokens - 1):
                best = torch.cat(out).argmax(-1).tolist()
                steps = [Row(sequence, [token]) for sequence, token in zip(sequences, best, strict=True)]
                out = backbone.forward(steps)

    rows = []
    for batch in BATCHES:
        with Batcher(model) as batcher, ThreadPoolExecutor(batch) as pool:

            def ours(batch: int = batch, batcher: Any = batcher, pool: Any = pool) -> list[list[int]]:
                return [write(None)] if batch == 1 else list(pool.map(write, [batcher] * batch))

            found: dict[str, list[float]] = {"theirs": [], "ours": [], "forward": []}
            for number in range(rounds + 1):
                seconds, wanted = timed(partial(theirs, batch))
                other, given = timed(ours)
                assert given == wanted, "the two did not write the same tokens"
                alone, _ = timed(partial(forward, batch))
                if number:  # the first round warms up
                    for key, value in (("theirs", seconds), ("ours", other), ("forward", alone)):
                        found[key].append(value)
        speed = {key: batch * new_tokens / statistics.median(values) for key, values in found.items()}
        ratios = [a / b for a, b in zip(found["theirs"], found["ours"], strict=True)]
        rows.append({"batch": batch, **speed, "ratio": statistics.median(ratios), "worst": min(ratios)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="nano")
    parser.add_argument("--tokens", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", choices=sorted(AIMS), default="cpu")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    torch.set_num_threads(CORES)
    rows = measure(args.model, args.tokens, args.rounds, args.device)
    print(
        f"{args.model} on {args.device}, {CORES} core, {args.tokens} tokens, greedy; "
        f"tokens per second, median of {args.rounds}"
    )
    print(f"{'batch':>5}{'generate':>11}{'ours':>9}{'ratio':>8}{'worst':>8}{'forward':>10}")
    for row in rows:
        cells = f"{row['theirs']:>11.0f}{row['ours']:>9.0f}{row['ratio']:>8.2f}{row['worst']:>8.2f}"
        print(f"{row['batch']:>5}{cells}{row['forward']:>10.0f}")
    aim = AIMS[args.device]
    passed = rows[0]["ratio"] >= aim
    print(f"batch 1: {rows[0]['ratio']:.2f} times generate, aim {aim:g}: {'pass' if passed else 'short'}")
    if args.json:
        print(json.dumps({"model": args.model, "tokens": args.tokens, "rows": rows, "passed": passed}))


if __name__ == "__main__":
    main()
