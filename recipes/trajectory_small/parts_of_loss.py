"""What a trained model loses on the moods of an answer, place by place, apart from the form of the answer.

python recipes/trajectory_small/parts_of_loss.py runs/trajectory_small/run/model runs/trajectory_small/held_out

The loss of training counts every letter alike, and of a hundred three are to be heard. Nothing is generated here: each
letter is asked for after the right ones before it. Nobody who cannot hear is below ln 7 = 1.95 nats a mood.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vivavoce.data.build.texts.trajectory import WORDS
from vivavoce.data.conversation import Conversation
from vivavoce.data.reader.reading import Sample
from vivavoce.data.reader.stream import Place
from vivavoce.data.rows import RowFile
from vivavoce.evaluation.resampling import wilson
from vivavoce.models.loading import load_speech_lm
from vivavoce.training.cross_entropy import token_losses
from vivavoce.training.documents import make_document
from vivavoce.training.packed_attention import use_packed_attention
from vivavoce.training.packing import make_batch

TOGETHER = 20  # rows of one pass


def mood_letters(row: Conversation) -> list[slice]:
    """Where the moods stand in the first line of a row's answer, in letters, one place for each spoken turn."""
    line, end, found = row.messages[-1].text.split("\n")[0], 0, []
    for part in row.audio_parts():
        word = WORDS["en"][part.labels["emotion"]]
        begin = line.index(word, end)
        end = begin + len(word)
        found.append(slice(begin, end))
    return found


@torch.inference_mode()
def measure(
    model: Any, processor: Any, rows: list[Conversation], root: Path
) -> tuple[Tensor, Tensor, Tensor]:
    """Nats [N, turns] and hits [N, turns] of the moods, and nats [N] of all other letters; tokens are letters here."""
    use_packed_attention(model.eval().language_model)
    nats, hits, rest = [], [], []
    for start in range(0, len(rows), TOGETHER):
        some = rows[start : start + TOGETHER]
        documents = [
            make_document(Sample(Place(i, 0, 0, i), "", row, [], 0), processor, root=root)
            for i, row in enumerate(some)
        ]
        batch = make_batch(documents, False, None, processor.pad_id)
        found, begin = token_losses(model, batch.inputs(), batch.learned, batch.targets()), 0
        for row, end in zip(some, (batch.ends + 1).tolist(), strict=True):
            own, right = found.nll[begin:end], found.right[begin:end] > 0
            places = mood_letters(row)
            nats.append(torch.stack([own[at].sum() for at in places]))
            hits.append(torch.stack([right[at].all() for at in places]))
            rest.append(own.sum() - nats[-1].sum())
            begin = end
    return torch.stack(nats), torch.stack(hits), torch.stack(rest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("rows", type=Path, help="dialogues, or single turns, all of one number of turns")
    parser.add_argument("--rows", dest="count", type=int, default=None, help="how many of the first")
    given = parser.parse_args()
    torch.set_num_threads(1)
    source = RowFile(given.rows)
    rows = list(islice(iter(source), given.count))
    nats, hits, rest = measure(*load_speech_lm(given.model)[:2], rows, source.root)
    for place in range(nats.shape[1]):
        low, high = wilson(int(hits[:, place].sum()), len(rows))
        print(
            f"turn {place + 1}: {nats[:, place].mean():.2f} nats, {hits[:, place].float().mean():.1%} right "
            f"[{low:.1%}, {high:.1%}]"
        )
    print(f"all other letters of an answer: {rest.mean():.2f} nats; n {len(rows)}")


if __name__ == "__main__":
    main()
