"""Train the letter-to-sound fallback on the shipped lexicon and measure it on words it never saw.

Three steps: hold out 5 % of the words; align letters with chunks of zero to two phones (hard EM on joint
letter-chunk counts); train the tagger of ``vivavoce.tokens.letter_to_sound`` with the CRF likelihood of the chunks.

    python recipes/nano/train_letter_to_sound.py --sample tests/tokens/letter_to_sound_sample.txt

Words without a vowel letter are left out (the lexicon spells them), and so are those that cannot be aligned.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from vivavoce.tokens.letter_to_sound import LETTERS, LetterToSound, pack
from vivavoce.tokens.phones import LETTER_TO_SOUND_PATH, Lexicon

Chunk = tuple[str, ...]
Entry = tuple[str, list[str]]
MAX_CHUNK = 2


def paths(
    word: str, phones: list[str], score: dict[tuple[str, Chunk], float], floor: float
) -> list[Chunk] | None:
    """Best split of the phones over the letters under additive scores, or None when there are too many phones."""
    num = len(phones)
    best: list[float] = [0.0] + [-math.inf] * num
    back: list[list[int]] = []
    for letter in word:
        reached, took = [-math.inf] * (num + 1), [0] * (num + 1)
        for start, total in enumerate(best):
            if total == -math.inf:
                continue
            for size in range(min(MAX_CHUNK, num - start) + 1):
                new = total + score.get((letter, tuple(phones[start : start + size])), floor)
                if new > reached[start + size]:
                    reached[start + size], took[start + size] = new, size
        best = reached
        back.append(took)
    if best[num] == -math.inf:
        return None
    chunks, place = [], num
    for took in reversed(back):
        size = took[place]
        chunks.append(tuple(phones[place - size : place]))
        place -= size
    return chunks[::-1]


def first_scores(entries: list[Entry]) -> dict[tuple[str, Chunk], float]:
    """Score letter-chunk pairs by how often they stand at about the same place of a word."""
    counts: Counter[tuple[str, Chunk]] = Counter()
    for word, phones in entries:
        for i, letter in enumerate(word):
            counts[letter, ()] += max(0.05, 1 - len(phones) / len(word))  # type: ignore[assignment]
            centre = (i + 0.5) * len(phones) / len(word)
            for j in range(len(phones)):
                near = math.exp(-((j + 0.5 - centre) ** 2))
                counts[letter, (phones[j],)] += near  # type: ignore[assignment]
                counts[letter, tuple(phones[j : j + 2])] += 0.05 * near  # type: ignore[assignment]
    return to_scores(counts)


def to_scores(counts: Counter[tuple[str, Chunk]]) -> dict[tuple[str, Chunk], float]:
    """Turn counts into joint log probabilities."""
    total = sum(counts.values())
    return {pair: math.log(count / total) for pair, count in counts.items() if count > 0}


def align(entries: list[Entry], rounds: int) -> dict[str, list[Chunk]]:
    """Align every word by hard EM; words that need a chunk of three phones are dropped."""
    score, aligned = first_scores(entries), {}
    for step in range(rounds):
        aligned = {word: chunks for word, phones in entries if (chunks := paths(word, phones, score, -20.0))}
        counts = Counter(
            (letter, chunk) for word, chunks in aligned.items() for letter, chunk in zip(word, chunks)
        )
        score = to_scores(counts)
        print(f"alignment {step}: {len(aligned)} words, {len(counts)} letter-chunk pairs", flush=True)
    return aligned


class Tagger(nn.Module):
    """The network of ``LetterToSound`` for batches, with dropout and the CRF's likelihood."""

    def __init__(self, width: int, num_blocks: int, num_labels: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(LETTERS), width)
        self.blocks = nn.ModuleList(nn.Conv1d(width, 2 * width, 3, padding=1) for _ in range(num_blocks))
        self.head = nn.Linear(width, num_labels)
        self.pairs = nn.Parameter(torch.zeros(num_labels, num_labels))
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.embedding.weight, std=0.5)

    def forward(self, symbols: Tensor, present: Tensor) -> Tensor:
        """Score labels: symbols and present [B, L + 2] -> [B, L, K]."""
        states = self.dropout(self.embedding(symbols)).transpose(1, 2) * present[:, None]
        for block in self.blocks:
            value, gate = block(states).chunk(2, dim=1)
            states = (states + self.dropout(value.relu() * gate.sigmoid())) * present[:, None]
        return self.head(states.transpose(1, 2)[:, 1:-1])

    def loss(self, scores: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
        """Mean negative log likelihood per letter of the label sequences [B, L]."""
        batch = torch.arange(len(labels))
        gold = scores[batch, 0, labels[:, 0]]
        alpha = scores[:, 0]
        exp_pairs = self.pairs.exp()
        for i in range(1, labels.shape[1]):
            inside = i < lengths
            top = alpha.max(1, keepdim=True).values
            new = top + ((alpha - top).exp() @ exp_pairs).clamp_min(1e-30).log() + scores[:, i]
            alpha = torch.where(inside[:, None], new, alpha)
            gold = gold + inside * (
                scores[batch, i, labels[:, i]] + self.pairs[labels[:, i - 1], labels[:, i]]
            )
        return (alpha.logsumexp(1) - gold).sum() / lengths.sum()

    def arrays(self) -> dict:
        """Weights under the names and in the shapes of ``LetterToSound``."""
        found = {
            "embedding": self.embedding.weight,
            "head.weight": self.head.weight.T,
            "head.bias": self.head.bias,
        }
        for i, block in enumerate(self.blocks):
            found[f"block.{i}.weight"] = block.weight.permute(2, 1, 0).flatten(0, 1)
            found[f"block.{i}.bias"] = block.bias
        found["pairs"] = self.pairs
        return {name: value.detach().contiguous().numpy().copy() for name, value in found.items()}


def batches(
    rows: list[tuple[list[int], list[int]]], size: int, rng: random.Random
) -> Iterator[tuple[Tensor, ...]]:
    """Shuffle, group words of similar length, and pad: symbols, present, labels, lengths."""
    order = sorted(rng.sample(range(len(rows)), len(rows)), key=lambda i: len(rows[i][1]) + rng.random() * 2)
    groups = [order[i : i + size] for i in range(0, len(order), size)]
    rng.shuffle(groups)
    for group in groups:
        longest = max(len(rows[i][1]) for i in group)
        symbols = torch.zeros(len(group), longest + 2, dtype=torch.long)
        present = torch.zeros(len(group), longest + 2)
        labels = torch.zeros(len(group), longest, dtype=torch.long)
        for row, i in enumerate(group):
            symbols[row, : len(rows[i][0])] = torch.tensor(rows[i][0])
            present[row, : len(rows[i][0])] = 1
            labels[row, : len(rows[i][1])] = torch.tensor(rows[i][1])
        yield symbols, present, labels, torch.tensor([len(rows[i][1]) for i in group])


def train(aligned: dict[str, list[Chunk]], labels: list[Chunk], args: argparse.Namespace) -> Tagger:
    """Train with AdamW and a one-cycle rate; return the moving average of the weights."""
    index = {label: i for i, label in enumerate(labels)}
    rows = [
        ([LETTERS.index(letter) for letter in f"#{word}#"], [index[chunk] for chunk in chunks])
        for word, chunks in aligned.items()
        if all(chunk in index for chunk in chunks)
    ]
    rng = random.Random(args.seed)
    torch.manual_seed(args.seed)
    model = Tagger(args.width, args.blocks, len(labels), args.dropout)
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.rate, weight_decay=0.01)
    steps = math.ceil(len(rows) / args.batch) * args.epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.rate, total_steps=steps, pct_start=0.1)
    print(
        f"{len(rows)} words, {len(labels)} labels, {sum(p.numel() for p in model.parameters())} weights, {steps} steps"
    )
    started = time.process_time()
    for epoch in range(args.epochs):
        total = 0.0
        for step, (symbols, present, targets, lengths) in enumerate(batches(rows, args.batch, rng), 1):
            loss = model.loss(model(symbols, present), targets, lengths)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            average.update_parameters(model)
            total += float(loss.detach())
        print(
            f"epoch {epoch}: loss {total / step:.4f}, {time.process_time() - started:.0f} CPU s", flush=True
        )
    return average.module


def edits(first: list[str], second: list[str]) -> int:
    """Count insertions, deletions and substitutions between two phone sequences."""
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        last, row[0] = row[0], i
        for j, b in enumerate(second, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (a != b))
    return row[-1]


def measure(model: LetterToSound, entries: list[Entry]) -> None:
    """Print word accuracy, phone error rate and time per word."""
    started = time.process_time()
    guesses = [model.phones(word) for word, _ in entries]
    spent = time.process_time() - started
    right = sum(guess == phones for guess, (_, phones) in zip(guesses, entries, strict=True))
    wrong = sum(edits(guess, phones) for guess, (_, phones) in zip(guesses, entries, strict=True))
    total = sum(len(phones) for _, phones in entries)
    print(f"{len(entries)} held-out words: {right / len(entries):.1%} right, {wrong / total:.2%} phone errors, "
          f"{spent / len(entries) * 1000:.2f} ms a word")  # fmt: skip


def main() -> None:
    """Train, measure, write the model and a sample of the held-out words."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=LETTER_TO_SOUND_PATH)
    parser.add_argument("--sample", type=Path, help="where to write 400 held-out words, one per line")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--width", type=int, default=112)
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--rare", type=int, default=4, help="chunks seen less often are not learned")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    lexicon = Lexicon()
    words = [word for word in lexicon.words() if set(word) & set("aeiouy") and len(word) > 1]
    random.Random(args.seed).shuffle(words)
    entries = [(word, lexicon.phones(word)) for word in words]
    held_out, learned = entries[: len(entries) // 20], entries[len(entries) // 20 :]
    aligned = align(learned, rounds=6)
    counts = Counter(chunk for chunks in aligned.values() for chunk in chunks)
    labels = sorted(chunk for chunk, count in counts.items() if count >= args.rare)
    model = train(aligned, labels, args)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    pack(labels, model.arrays(), args.out)
    print("before int8:", end=" ")
    measure(LetterToSound(labels, model.arrays()), held_out)
    print("as written: ", end=" ")
    measure(LetterToSound.from_file(args.out), held_out)
    print(f"{args.out.stat().st_size} bytes")
    if args.sample:
        args.sample.write_text("".join(f"{word}\n" for word, _ in sorted(held_out[:400])), encoding="ascii")


if __name__ == "__main__":
    main()
