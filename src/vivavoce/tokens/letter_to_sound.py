"""Pronounce words that no lexicon has: a joint letter-phone n-gram model, in plain integers.

A word and its phones are one sequence of pairs, each a letter with the chunk of zero, one or two phones it stands for
("x" with "k s", a silent "e" with nothing). A backoff n-gram model over pairs scores the sequences; the letters are
known, so a beam search over the chunks finds the phones. Scores are integers: the answer is the same on any machine.

Source: Bisani and Ney 2008, "Joint-sequence models for grapheme-to-phoneme conversion", with letters aligned one by
one and interpolated Kneser-Ney counts in place of their expectation maximisation.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivavoce.base.errors import VocabularyError

SYMBOL_BITS = 9
"""A pair's id has this many bits; id 0 is the boundary at both ends of a word."""
SCORE_STEPS = 16
"""Costs (negative log probabilities) are counted in sixteenths of a nat."""
BEAM = 16

Chunk = tuple[str, ...]
Array = NDArray[np.integer]


class LetterToSound:
    """The trained model: a tree of n-grams, one node for each, with the cost of its last pair.

    Args:
        pairs: Letter and chunk of each pair id, from id 1 on.
        parents: Node of the n-gram without its last pair, int [N]; node 0 is the empty n-gram. Nodes are sorted by
            length, and within one length by their pairs.
        symbols: Last pair of each node, int [N].
        costs: Cost of the last pair after the others, in 1/SCORE_STEPS nat, int [N].
        backoffs: Cost of falling back from a node to the node of its n-gram without the first pair, int [N].
    """

    def __init__(
        self, pairs: list[tuple[str, Chunk]], parents: Array, symbols: Array, costs: Array, backoffs: Array
    ) -> None:
        self.pairs = pairs
        self._costs, self._backoffs = costs.tolist(), backoffs.tolist()
        keys = parents.astype(np.int64) << SYMBOL_BITS | symbols
        self._child: dict[int, int] = dict(zip(keys[1:].tolist(), range(1, len(keys)), strict=True))
        self._shorter = _suffix_nodes(parents, symbols, keys).tolist()
        self._pairs_of: dict[str, list[int]] = {}
        for number, (letter, _) in enumerate(pairs, 1):
            self._pairs_of.setdefault(letter, []).append(number)

    @classmethod
    def from_file(cls, path: Path) -> LetterToSound:
        """Load what ``pack`` wrote.

        Raises:
            VocabularyError: The file is missing or is not such a model.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                lines = file["pairs"].tobytes().decode("ascii").split("\n")
                num_children = file["num_children"]
                symbols = file["symbols_low"].astype(np.int64) | file["symbols_high"].astype(np.int64) << 8
                costs, backoffs = file["costs"].astype(np.int64), np.zeros(len(symbols), np.int64)
                with_children = np.zeros(len(symbols), np.int64)
                with_children[: len(num_children)] = num_children
                backoffs[with_children > 0] = file["backoffs"]
        except (OSError, ValueError, KeyError) as error:
            raise VocabularyError(
                f"{path.name} is not a letter-to-sound model: {error}; reinstall vivavoce"
            ) from error
        parents = np.concatenate([[0], np.repeat(np.arange(len(symbols)), with_children)])
        pairs = [(line[0], tuple(line[1:].split())) for line in lines]
        return cls(pairs, parents, symbols, costs, backoffs)

    def phones(self, word: str) -> list[str]:
        """Pronounce a word of [a-z'] with at least one letter; never empty ("ax" when every letter is silent)."""
        start = self._child.get(0, 0)  # after the boundary
        best: dict[int, tuple[int, tuple]] = {start: (0, ())}
        for letter in word:
            reached: dict[int, tuple[int, tuple]] = {}
            for node, (cost, path) in best.items():
                for symbol in self._pairs_of[letter]:
                    end, step = self._step(node, symbol)
                    total = cost + step
                    if end not in reached or total < reached[end][0]:
                        reached[end] = (total, (path, symbol))
            kept = sorted(reached.items(), key=lambda item: item[1][0])[:BEAM]
            best = dict(kept)
        ended = [(cost + self._step(node, 0)[1], path) for node, (cost, path) in best.items()]
        path = min(ended, key=lambda item: item[0])[1]
        chosen = []
        while path:
            path, symbol = path
            chosen.append(symbol)
        phones = [phone for symbol in reversed(chosen) for phone in self.pairs[symbol - 1][1]]
        return phones or ["ax"]

    def _step(self, node: int, symbol: int) -> tuple[int, int]:
        """Node and cost after one more pair; every pair is a child of node 0, so the search ends."""
        cost = 0
        while True:
            end = self._child.get(node << SYMBOL_BITS | symbol)
            if end is not None:
                return end, cost + self._costs[end]
            cost += self._backoffs[node]
            node = self._shorter[node]


def _suffix_nodes(parents: Array, symbols: Array, keys: Array) -> Array:
    """For each node, the node of its n-gram without the first pair; that n-gram is in the tree too."""
    suffix = np.zeros(len(parents), np.int64)
    first = np.arange(len(parents)) == 0
    level = np.flatnonzero((parents == 0) & ~first)  # unigrams: their suffix is the empty n-gram
    while len(level):
        is_level = np.zeros(len(parents), bool)
        is_level[level] = True
        level = np.flatnonzero(is_level[parents] & ~first)
        if len(level):
            wanted = suffix[parents[level]] << SYMBOL_BITS | symbols[level]
            suffix[level] = np.searchsorted(keys[1:], wanted) + 1
    return suffix


def pack(
    path: Path, pairs: list[tuple[str, Chunk]], parents: Array, symbols: Array, costs: Array, backoffs: Array
) -> None:
    """Write a model compactly: child counts in place of parents, one byte for a cost, arguments as LetterToSound."""
    counts = np.bincount(parents[1:], minlength=len(parents))
    lines = "\n".join(f"{letter}{' '.join(chunk)}" for letter, chunk in pairs)
    arrays: dict[str, NDArray[Any]] = {
        "pairs": np.frombuffer(lines.encode("ascii"), np.uint8),
        "num_children": counts[: counts.nonzero()[0].max() + 1].astype(np.uint16),
        "symbols_low": (symbols & 255).astype(np.uint8),
        "symbols_high": (symbols >> 8).astype(np.uint8),
        "costs": np.minimum(costs, 255).astype(np.uint8),
        "backoffs": np.clip(backoffs[counts > 0], -128, 127).astype(np.int8),
    }
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


@cache
def load_letter_to_sound(path: Path) -> LetterToSound:
    """Load a model once per process."""
    return LetterToSound.from_file(path)
