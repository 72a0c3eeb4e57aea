"""Train the letter-to-sound fallback on the shipped lexicon and measure it on words it never saw.

Three steps: hold out 5 % of the words; align letters with chunks of zero to two phones (hard EM on letter-chunk
counts); count n-grams of aligned pairs, smooth them (interpolated Kneser-Ney), and drop those that change the
likelihood of the training words least, until the file fits.

    python recipes/nano/train_letter_to_sound.py --sample tests/tokens/letter_to_sound_sample.txt

Words without a vowel letter are left out (the lexicon spells them), and so are those that cannot be aligned.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np

from vivavoce.tokens.letter_to_sound import SCORE_STEPS, SYMBOL_BITS, Array, Chunk, LetterToSound, pack
from vivavoce.tokens.phones import LETTER_TO_SOUND_PATH, Lexicon

Entry = tuple[str, list[str]]
Pair = tuple[str, Chunk]
MAX_CHUNK = 2
MASK = (1 << SYMBOL_BITS) - 1


def split(word: str, phones: list[str], score: dict[Pair, float]) -> list[Chunk] | None:
    """Best split of the phones over the letters, or None when there are too many phones."""
    num = len(phones)
    singles = [(phone,) for phone in phones]
    doubles = [tuple(phones[i : i + 2]) for i in range(num - 1)]
    best: list[float] = [0.0] + [-math.inf] * num
    back: list[list[int]] = []
    for letter in word:
        reached, took = [-math.inf] * (num + 1), [0] * (num + 1)
        silent = score.get((letter, ()), -20.0)
        for start, total in enumerate(best):
            if total == -math.inf:
                continue
            if total + silent > reached[start]:
                reached[start], took[start] = total + silent, 0
            if (
                start < num
                and (new := total + score.get((letter, singles[start]), -20.0)) > reached[start + 1]
            ):
                reached[start + 1], took[start + 1] = new, 1
            if (
                start < num - 1
                and (new := total + score.get((letter, doubles[start]), -20.0)) > reached[start + 2]
            ):
                reached[start + 2], took[start + 2] = new, 2
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


def first_scores(entries: list[Entry]) -> dict[Pair, float]:
    """Score letter-chunk pairs by how often they stand at about the same place of a word."""
    counts: dict[Pair, float] = {}
    for word, phones in entries:
        for i, letter in enumerate(word):
            counts[letter, ()] = counts.get((letter, ()), 0) + max(0.05, 1 - len(phones) / len(word))
            centre = (i + 0.5) * len(phones) / len(word)
            for j in range(max(0, int(centre) - 2), min(len(phones), int(centre) + 3)):
                near = math.exp(-((j + 0.5 - centre) ** 2))
                for chunk, weight in (((phones[j],), near), (tuple(phones[j : j + 2]), 0.05 * near)):
                    counts[letter, chunk] = counts.get((letter, chunk), 0) + weight
    return to_scores(counts)


def to_scores(counts: dict[Pair, float] | Counter[Pair]) -> dict[Pair, float]:
    """Turn counts into joint log probabilities."""
    total = sum(counts.values())
    return {pair: math.log(count / total) for pair, count in counts.items()}


def align(entries: list[Entry]) -> dict[str, list[Chunk]]:
    """Align every word by hard EM, first on a part of the words; those that need longer chunks are dropped."""
    score, aligned = first_scores(entries[:15_000]), {}
    for step, part in enumerate([entries[:15_000]] * 5 + [entries] * 2):
        aligned = {word: chunks for word, phones in part if (chunks := split(word, phones, score))}
        counts = Counter(pair for word, chunks in aligned.items() for pair in zip(word, chunks, strict=True))
        score = to_scores(counts)
        print(f"alignment {step}: {len(aligned)} of {len(part)} words, {len(counts)} pairs", flush=True)
    return aligned


class Counts:
    """N-grams of one length: sorted keys (9 bits a pair), counts, smoothed probabilities."""

    def __init__(self, keys: Array, raw: Array, length: int) -> None:
        self.keys, self.raw, self.length = keys, raw, length
        self.prefix = keys >> SYMBOL_BITS
        self.suffix = keys & (1 << SYMBOL_BITS * (length - 1)) - 1
        self.groups, self.group = np.unique(self.prefix, return_inverse=True)
        self.counts: Array = raw
        self.probability = np.zeros(len(keys))
        self.rest = np.zeros(len(self.groups))  # mass each context leaves to shorter ones

    def smooth(self, shorter: Counts | None) -> None:
        """Interpolate with the next shorter n-grams: one discount each for counts 1, 2 and 3 or more."""
        n1, n2, n3, n4 = (max(1, int((self.counts == i).sum())) for i in (1, 2, 3, 4))
        y = n1 / (n1 + 2 * n2)
        steps = np.clip(
            [0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3], 0, [0, 0.95, 1.9, 2.8]
        )
        discount = steps[np.minimum(self.counts, 3)]
        total = np.bincount(self.group, self.counts)
        self.rest = np.bincount(self.group, discount) / total
        below = (
            1 / 400 if shorter is None else shorter.probability[np.searchsorted(shorter.keys, self.suffix)]
        )
        self.probability = (self.counts - discount) / total[self.group] + self.rest[self.group] * below


def count_ngrams(sequences: list[list[int]], order: int) -> list[Counts]:
    """Count, and smooth from the shortest up. Kneser-Ney: short n-grams count their different left neighbours."""
    stream = np.concatenate([[0, *sequence, 0] for sequence in sequences]).astype(np.int64)
    place = np.concatenate([np.arange(len(sequence) + 2) for sequence in sequences])
    levels = []
    for length in range(1, order + 1):
        keys = np.zeros(len(stream) - length + 1, np.int64)
        for i in range(length):
            keys = keys << SYMBOL_BITS | stream[i : len(stream) - length + 1 + i]
        inside = place[length - 1 :] >= max(
            1, length - 1
        )  # whole within a word; the left boundary is no event
        levels.append(Counts(*np.unique(keys[inside], return_counts=True), length))
    for level, longer in pairwise(levels):
        left = np.bincount(np.searchsorted(level.keys, longer.suffix), minlength=len(level.keys))
        starts = level.keys >> SYMBOL_BITS * (level.length - 1) == 0
        level.counts = np.where(starts & (level.length > 1), level.raw, left)
    for shorter, level in zip([None, *levels], levels, strict=False):
        level.smooth(shorter)
    return levels


def prune(levels: list[Counts], threshold: float) -> list[Array]:
    """Choose n-grams whose loss would cost more than ``threshold`` nats over the training words, and their parts."""
    keep = [np.ones(len(level.keys), bool) for level in levels]
    for number in range(len(levels) - 1, 0, -1):
        level, shorter = levels[number], levels[number - 1]
        below = shorter.probability[np.searchsorted(shorter.keys, level.suffix)]
        loss = level.raw * np.log(level.probability / (level.rest[level.group] * below))
        needed = np.zeros(len(level.keys), bool)
        if number + 1 < len(levels):
            longer, kept = levels[number + 1], keep[number + 1]
            needed[np.searchsorted(level.keys, longer.prefix[kept])] = True
            needed[np.searchsorted(level.keys, longer.suffix[kept])] = True
        keep[number] = (loss > threshold) | needed
    return keep


def build(levels: list[Counts], keep: list[Array]) -> tuple[Array, Array, Array, Array]:
    """Make the tree of LetterToSound from the kept n-grams: parents, symbols, costs, backoffs."""
    # the boundary as a context of its own is a node too, although it is never predicted at the left
    keys = [np.zeros(1, np.int64)] + [level.keys[kept] for level, kept in zip(levels, keep, strict=True)]
    starts = np.cumsum([0] + [len(part) for part in keys])
    parents, costs = [np.zeros(1, np.int64)], [np.zeros(1)]
    mass = np.zeros(
        starts[-1]
    )  # probability of the kept children of a node, and of the same by the shorter context
    shorter_mass = np.zeros(starts[-1])
    for number, (level, kept) in enumerate(zip(levels, keep, strict=True)):
        parent = starts[number] + np.searchsorted(keys[number], level.prefix[kept])
        probability = level.probability[kept]
        mass += np.bincount(parent, probability, minlength=starts[-1])
        if number:
            shorter = levels[number - 1]
            below = shorter.probability[np.searchsorted(shorter.keys, level.suffix[kept])]
            shorter_mass += np.bincount(parent, below, minlength=starts[-1])
        parents.append(parent)
        costs.append(-np.log(probability))
    backoffs = -np.log(np.maximum(1 - mass, 1e-4) / np.maximum(1 - shorter_mass, 1e-4))
    backoffs[0] = 0
    backoffs[mass == 0] = 0
    whole = [np.round(np.concatenate([*costs]) * SCORE_STEPS), np.round(backoffs * SCORE_STEPS)]
    symbols = np.concatenate([part & MASK for part in keys])
    return np.concatenate(parents), symbols, whole[0].astype(np.int64), whole[1].astype(np.int64)


def edits(first: list[str], second: list[str]) -> int:
    """Count insertions, deletions and substitutions between two phone sequences."""
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        last, row[0] = row[0], i
        for j, b in enumerate(second, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (a != b))
    return row[-1]


def measure(model: LetterToSound, entries: list[Entry]) -> str:
    """Word accuracy, phone error rate and time per word, as text."""
    started = time.process_time()
    guesses = [model.phones(word) for word, _ in entries]
    spent = time.process_time() - started
    right = sum(guess == phones for guess, (_, phones) in zip(guesses, entries, strict=True))
    wrong = sum(edits(guess, phones) for guess, (_, phones) in zip(guesses, entries, strict=True))
    total = sum(len(phones) for _, phones in entries)
    return (
        f"{len(entries)} held-out words: {right / len(entries):.1%} right, "
        f"{wrong / total:.2%} phone errors, {spent / len(entries) * 1000:.2f} ms a word"
    )


def main() -> None:
    """Train, measure, write the model and a sample of the held-out words."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=LETTER_TO_SOUND_PATH)
    parser.add_argument("--sample", type=Path, help="where to write 400 held-out words, one per line")
    parser.add_argument("--order", type=int, default=6, help="longest n-gram, at most 7")
    parser.add_argument("--bytes", type=int, default=430_000, help="largest file")
    parser.add_argument("--rare", type=int, default=4, help="pairs seen less often are not learned")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    lexicon = Lexicon()
    words = [word for word in lexicon.words() if set(word) & set("aeiouy") and len(word) > 1]
    random.Random(args.seed).shuffle(words)
    entries = [(word, lexicon.phones(word)) for word in words]
    held_out, learned = entries[: len(entries) // 20], entries[len(entries) // 20 :]
    aligned = align(learned)
    counts = Counter(pair for word, chunks in aligned.items() for pair in zip(word, chunks, strict=True))
    common = {
        max((pair for pair in counts if pair[0] == letter), key=lambda pair: counts[pair])
        for letter, _ in counts
    }
    pairs = sorted(common | {pair for pair, count in counts.items() if count >= args.rare})
    number = {pair: i for i, pair in enumerate(pairs, 1)}
    sequences = [
        [number.get(pair, 0) for pair in zip(w, chunks, strict=True)] for w, chunks in aligned.items()
    ]
    sequences = [sequence for sequence in sequences if all(sequence)]
    levels = count_ngrams(sequences, args.order)
    print(
        f"{len(sequences)} words, {len(pairs)} pairs, n-grams {[len(level.keys) for level in levels]}",
        flush=True,
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for threshold in 1.5 * 1.05 ** np.arange(100):
        keep = prune(levels, threshold)
        tree = build(levels, keep)
        pack(args.out, pairs, *tree)
        if args.out.stat().st_size <= args.bytes:
            print(
                f"threshold {threshold:.2f} nats: {len(tree[0])} n-grams, {args.out.stat().st_size} bytes",
                flush=True,
            )
            break
    print(measure(LetterToSound.from_file(args.out), held_out))
    if args.sample:
        args.sample.write_text("".join(f"{word}\n" for word, _ in sorted(held_out[:400])), encoding="ascii")


if __name__ == "__main__":
    main()
