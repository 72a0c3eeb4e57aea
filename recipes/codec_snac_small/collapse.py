"""Train SNAC in small in several ways for a few updates and count the codewords of a batch: which ways collapse?

python recipes/codec_snac_small/collapse.py --recordings runs/codec_snac_small/data/spoken/learned

Writes `collapse.json`. For each level and some updates: codewords in use in the batch, its perplexity, the mean cosine
of its projected vectors (1 if they point one way), and their mean squared distance to the codewords by their variance.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from vivavoce.codecs.training.trained_codec import Pass, TrainedCodec
from vivavoce.training.codec.config import CodecTrainConfig
from vivavoce.training.codec.loop import CodecTrainer
from vivavoce.training.codec.run import prepare_codec
from vivavoce.training.kinds import load_any
from vivavoce.training.world import World

FOLDER = Path(__file__).parent
WARM = 40
FOLLOW = {"learn": "gradient", "centre": 0.0}
WAYS: dict[str, dict[str, Any]] = {
    "random codewords": {"start": "as_is", "from_step": 0, **FOLLOW},
    "from data": {"from_step": 0, **FOLLOW},
    "from data after a warm-up": {"from_step": WARM, **FOLLOW},
    "and centred": {"from_step": WARM, **FOLLOW, "centre": 0.2},
    "and running means": {"from_step": WARM, **FOLLOW, "learn": "mean"},
    "and both": {"from_step": WARM},
}
SHOWN = (1, 5, 20, 40, 45, 55, 70)
UPDATES = 70


def looked_at(codec: TrainedCodec, made: Pass) -> list[dict[str, float]]:
    """What is told of each level of a batch."""
    found = []
    for level, (codes, vectors) in enumerate(zip(made.codes, made.vectors, strict=True)):
        counts = torch.bincount(codes).double()
        shares = counts[counts > 0] / counts.sum()
        together = F.normalize(vectors, dim=-1).sum(0).square().sum()
        count = len(vectors)
        error = (vectors - codec.words(level)[codes]).square().mean() / vectors.var(0).mean()
        found.append(
            {
                "codes": count,
                "used": len(shares),
                "perplexity": round(float(torch.exp(-(shares * shares.log()).sum())), 1),
                "cosine": round(float(together - count) / (count * (count - 1)), 2),
                "error": round(float(error), 3),
            }
        )
    return found


def train(config: CodecTrainConfig, folder: Path) -> dict[str, Any]:
    """Train for `UPDATES`; what is seen before the codebooks move, by update."""
    run = prepare_codec(config, folder, World.from_environment("cpu"))
    trainer = CodecTrainer(config, folder, run.players, run.batches, run.world)
    codec, seen, found = run.players.codec, [], {}
    follow = codec.follow

    def watched(made: Pass, step: int, fixed: bool = False) -> int:
        seen[:] = looked_at(codec, made) if step in SHOWN else []
        return follow(made, step, fixed)

    codec.follow = watched  # type: ignore[method-assign]
    trainer.start_codebooks()
    for step in range(UPDATES):
        trainer.learn(run.batches.draw(step))
        if seen:
            found[str(step + 1)] = list(seen)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=Path, required=True)
    parser.add_argument("--ways", nargs="*", default=list(WAYS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    told = {}
    for way in args.ways:
        changes = {f"codebooks.{key}": value for key, value in WAYS[way].items()}
        changes |= {"data.spoken": None, "data.recordings": [str(args.recordings)], "discriminators": None}
        changes |= {"crops.batch": 4, "crops.seconds": [[0, 0.34]], "model.settings.decoder_dim": 64}
        changes |= {"codebooks.start_batches": 16, "model.settings.codebook_size": 128, "model.average": None}
        config = load_any(FOLDER / "train.yaml", changes)
        assert isinstance(config, CodecTrainConfig)
        with tempfile.TemporaryDirectory() as folder:
            told[way] = train(config, Path(folder))
        print(
            f"{way}  {time.process_time():.0f} CPU-s  {json.dumps(told[way].get(str(UPDATES)))}", flush=True
        )
    lines = ",\n".join(f"{json.dumps(way)}: {json.dumps(found)}" for way, found in told.items())
    (FOLDER / "collapse.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
