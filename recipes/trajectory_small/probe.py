"""How much of a mood is in what ears see: a linear classifier of single turns, on pooled features or encoder states.

python recipes/trajectory_small/probe.py runs/trajectory_small --model nano --model runs/trajectory_small/run/model

Fitted on the learned set, scored on the held-out one; "from the dialogue's mean" takes away what the turns of a
dialogue share (the speaker, the distance to the microphone). Also printed: the best answer that is always the same.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vivavoce.audio.features import LogMel
from vivavoce.audio.resample import resample
from vivavoce.data.recordings import read_waveform
from vivavoce.data.rows import RowFile
from vivavoce.evaluation.resampling import wilson
from vivavoce.models.loading import load_speech_lm
from vivavoce.tokens.trajectory import EMOTIONS

RATE = 16_000


def read_turns(folder: Path) -> tuple[list[Tensor], Tensor, Tensor]:
    """Samples of all turns, their moods int64 [N], and the dialogue of each int64 [N]."""
    waves, moods, dialogues = [], [], []
    for number, row in enumerate(RowFile(folder)):
        for part in row.audio_parts():
            waves.append(torch.from_numpy(resample(*read_waveform(part, row), RATE)))
            moods.append(EMOTIONS.index(part.labels["emotion"]))
            dialogues.append(number)
    return waves, torch.tensor(moods), torch.tensor(dialogues)


def pooled(states: Tensor) -> Tensor:
    """Mean, spread and logarithm of the length of [F, D]: [2 D + 1]."""
    return torch.cat([states.mean(0), states.std(0), torch.tensor([len(states)]).log()])


@torch.inference_mode()
def see(name: str, waves: list[Tensor]) -> Tensor:
    """Pooled features of all turns, [N, ...]: of log-mel itself, its shape alone, or of a model's encoder."""
    mel, rows = LogMel(ending="hop"), []
    encoder = None if name.startswith("log-mel") else load_speech_lm(name)[0].audio_encoder
    for wave in waves:
        features, lengths = mel(wave[None])
        if encoder is not None:
            states, frames = encoder(features, lengths)
            rows.append(pooled(states[0, : int(frames[0])]))
            continue
        if name.endswith("without its mean"):
            features = features - features.mean()
        rows.append(pooled(features[0].T))
    return torch.stack(rows)


def from_mean(x: Tensor, dialogues: Tensor) -> Tensor:
    """Each turn as its difference from the mean of its dialogue."""
    count = int(dialogues.max()) + 1
    sums = torch.zeros(count, x.shape[1]).index_add(0, dialogues, x)
    return x - (sums / torch.bincount(dialogues, minlength=count)[:, None])[dialogues]


def linear(x: Tensor, y: Tensor, z: Tensor, decay: float = 3e-3) -> Tensor:
    """Predictions for ``z`` of logistic regression on ``x`` and ``y``."""
    mean, scale = x.mean(0), x.std(0) + 1e-6
    x, z = (x - mean) / scale, (z - mean) / scale
    weight = torch.zeros(x.shape[1], len(EMOTIONS), requires_grad=True)
    bias = torch.zeros(len(EMOTIONS), requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        found = F.cross_entropy(x @ weight + bias, y) + decay * weight.square().sum()
        found.backward()
        return found

    optimizer.step(loss)
    return (z @ weight + bias).argmax(1).detach()


def tell(name: str, hits: int, n: int) -> None:
    low, high = wilson(hits, n)
    print(f"{name:58s} {hits / n:6.1%} [{low:.1%}, {high:.1%}], n {n}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", action="append", default=[], help="whose encoder; besides log-mel")
    given = parser.parse_args()
    torch.set_num_threads(1)
    waves, y, of = read_turns(given.folder / "learned")
    tests, wanted, of_test = read_turns(given.folder / "held_out")
    n = len(wanted)
    sequences = [tuple(wanted[of_test == d].tolist()) for d in of_test.unique()]
    tell("always the same mood", max(Counter(wanted.tolist()).values()), n)
    tell("always the same sequence", max(Counter(sequences).values()), len(sequences))
    for name in ("log-mel", "log-mel without its mean", *given.model):
        x, z = see(name, waves), see(name, tests)
        for told, a, b in (
            ("", x, z),
            (", from the dialogue's mean", from_mean(x, of), from_mean(z, of_test)),
            (", both", torch.cat([x, from_mean(x, of)], 1), torch.cat([z, from_mean(z, of_test)], 1)),
        ):
            right = linear(a, y, b) == wanted
            tell(f"turns, {name}{told}", int(right.sum()), n)
            whole = torch.bincount(of_test, weights=right.float()) == torch.bincount(of_test)
            tell(f"sequences, {name}{told}", int(whole.sum()), len(sequences))


if __name__ == "__main__":
    main()
