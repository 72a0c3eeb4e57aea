"""Pronounce words that no lexicon has: a small convolutional tagger over letters, in numpy.

Each letter gets one label, a chunk of zero, one or two phones ("x" -> "k s", a silent "e" -> nothing). Gated
convolutions see five letters to either side; a table of label pairs ties neighbours together (a linear-chain CRF),
and the best sequence is found by Viterbi search over the few best labels of each letter. The weights are int8 with
one scale per output column.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from vivavoce.base.errors import VocabularyError

LETTERS = "#'abcdefghijklmnopqrstuvwxyz"
"""Symbols the tagger reads; "#" stands at both ends of a word."""

Floats = NDArray[np.float32]


class LetterToSound:
    """The trained tagger.

    Args:
        labels: Chunk of phones for each label, () for a silent letter.
        weights: ``embedding`` [28, D]; ``block.N.weight`` [3 D, 2 D] and ``block.N.bias`` [2 D]; ``head.weight``
            [D, K] and ``head.bias`` [K]; ``pairs`` [K, K], the score of label k after label j; all float32.
        beam: Labels kept per letter in the search.
    """

    def __init__(self, labels: list[tuple[str, ...]], weights: dict[str, Floats], beam: int = 12) -> None:
        self.labels = labels
        self.weights = weights
        self.beam = beam
        self.num_blocks = sum(name.endswith(".weight") and name.startswith("block.") for name in weights)
        self._symbol = {letter: index for index, letter in enumerate(LETTERS)}

    @classmethod
    def from_file(cls, path: Path) -> LetterToSound:
        """Load the compact file: int8 arrays ``NAME`` with scales ``NAME.scale``, and ``labels`` as text.

        Raises:
            VocabularyError: The file is missing or is not one that ``pack`` made.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            labels = [
                tuple(line.split()) for line in arrays.pop("labels").tobytes().decode("ascii").split("\n")
            ]
        except (OSError, ValueError, KeyError) as error:
            raise VocabularyError(
                f"{path} is not a letter-to-sound model: {error}; reinstall vivavoce"
            ) from error
        weights = {}
        for name, array in arrays.items():
            if not name.endswith(".scale"):
                weights[name] = array.astype(np.float32) * arrays[name + ".scale"].astype(np.float32)
        return cls(labels, weights)

    def scores(self, word: str) -> Floats:
        """Score every label at every letter: float32 [L, K] for a word of L characters of [a-z']."""
        ids = [0, *(self._symbol[letter] for letter in word), 0]
        states = self.weights["embedding"][ids]
        length, width = states.shape
        window = np.zeros((length, 3, width), np.float32)
        for block in range(self.num_blocks):
            window[1:, 0] = states[:-1]
            window[:, 1] = states
            window[:-1, 2] = states[1:]
            gated = window.reshape(length, 3 * width) @ self.weights[f"block.{block}.weight"]
            gated += self.weights[f"block.{block}.bias"]
            states = states + np.maximum(gated[:, :width], 0) / (1 + np.exp(-gated[:, width:]))
        return cast(Floats, states[1:-1] @ self.weights["head.weight"] + self.weights["head.bias"])

    def tag(self, word: str) -> list[int]:
        """Find the best label of each character."""
        scores = self.scores(word)
        pairs = self.weights["pairs"]
        kept = np.argpartition(-scores, min(self.beam, scores.shape[1] - 1), axis=1)[:, : self.beam]
        total = scores[0, kept[0]]
        back = []
        for previous, current, score in zip(kept, kept[1:], scores[1:], strict=False):
            reached = total[:, None] + pairs[previous[:, None], current]
            best = reached.argmax(axis=0)
            back.append(best)
            total = reached[best, np.arange(len(current))] + score[current]
        place = int(total.argmax())
        path = [int(kept[-1, place])]
        for labels, best in zip(kept[-2::-1], back[::-1], strict=True):
            place = int(best[place])
            path.append(int(labels[place]))
        return path[::-1]

    def phones(self, word: str) -> list[str]:
        """Pronounce a word of [a-z'] with at least one letter; never empty ("ax" when every letter is silent)."""
        phones = [phone for label in self.tag(word) for phone in self.labels[label]]
        return phones or ["ax"]


def pack(labels: list[tuple[str, ...]], weights: dict[str, Floats], path: Path) -> None:
    """Write the compact file that ``LetterToSound.from_file`` reads: int8 with one scale per last-axis column."""
    arrays: dict[str, NDArray] = {
        "labels": np.frombuffer("\n".join(" ".join(label) for label in labels).encode("ascii"), np.uint8)
    }
    for name, weight in weights.items():
        axis = 0 if weight.ndim > 1 else None
        scale = np.maximum(np.abs(weight).max(axis=axis, keepdims=True), 1e-8).astype(np.float32) / 127
        arrays[name] = np.round(weight / scale).astype(np.int8)
        arrays[name + ".scale"] = scale.astype(np.float32)
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


@cache
def load_letter_to_sound(path: Path) -> LetterToSound:
    """Load a model once per process."""
    return LetterToSound.from_file(path)
