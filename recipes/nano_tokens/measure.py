"""How well an ear hears: transcripts exact and answers right, on what was never trained.

python recipes/nano_tokens/measure.py --data runs/nano_tokens/data.pt --run runs/nano_tokens/mel_ctc

The command takes all clips, by kind.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from numbers_data import Clip, NumbersData, TypedFacts
from two_ears import EARS, TwoEars, build_language_model, build_tokenizer

from vivavoce.codecs.loading import load_codec


def wilson(right: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share."""
    if n == 0:
        return 0.0, 1.0
    share, k = right / n, z * z / n
    middle, half = (share + k / 2) / (1 + k), z / (1 + k) * math.sqrt(share * (1 - share) / n + k / (4 * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def test_sets(data: NumbersData, limit: int) -> dict[str, list[Clip]]:
    """The three sets that are never trained, at most ``limit`` clips of each, evenly, so that kinds stay mixed."""
    out = {}
    for name in ("known", "voices", "people"):
        clips = sorted(data.clips[name], key=lambda clip: (clip.kind, clip.voice))
        count = min(limit, len(clips))
        out[name] = [clips[i * len(clips) // count] for i in range(count)]
    return out


def measure(model: TwoEars, clips: Sequence[Clip], batch: int = 50) -> dict[str, Any]:
    """Shares with 95 % intervals: {"n", "transcript": [share, low, high], "answer": [...]}."""
    model.eval()
    exact = answered = 0
    ordered = sorted(clips, key=lambda clip: clip.seconds)
    for at in range(0, len(ordered), batch):
        part = ordered[at : at + batch]
        with torch.autocast("cpu", torch.bfloat16):
            longest = max(len(f"{clip.text} {clip.answer}".split()) for clip in part)
            replies = model.reply(part, longest + 4)  # a longer reply is wrong, cut or not
        exact += sum(said == clip.text for (said, _), clip in zip(replies, part, strict=True))
        answered += sum(answer == clip.answer for (_, answer), clip in zip(replies, part, strict=True))
    n = len(ordered)
    share = lambda right: [round(x, 4) for x in (right / max(n, 1), *wilson(right, n))]  # noqa: E731
    return {"n": n, "transcript": share(exact), "answer": share(answered)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True, help="folder of train.py")
    args = parser.parse_args()
    torch.set_num_threads(1)
    state = torch.load(args.run / "state.pt", weights_only=True, mmap=True)
    data = NumbersData(args.data, json.loads(state["facts"])["part"])
    tokenizer = build_tokenizer(TypedFacts().words())
    model = TwoEars(
        EARS[state["ear"]], tokenizer, load_codec("nano").spec, build_language_model(len(tokenizer))
    )
    model.load_state_dict(state["model"])
    for name in ("known", "voices", "people"):
        for kind in sorted({clip.kind for clip in data.clips[name]}):
            found = measure(model, [clip for clip in data.clips[name] if clip.kind == kind])
            print(
                json.dumps({"run": args.run.name, "step": state["step"], "set": name, "kind": kind, **found})
            )


if __name__ == "__main__":
    main()
