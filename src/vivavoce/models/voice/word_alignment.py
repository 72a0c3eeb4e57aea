"""From phones with times to the words they belong to, and the frame at which each word ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vivavoce.tokens.phones import ALL_PHONES, Lexicon, phone_ids, words_to_phones

VOWELS = {"aa", "ae", "ah", "ao", "aw", "ax", "ay", "eh", "er", "ey", "ih", "iy", "ow", "oy", "uh", "uw"}
SAME_CLASS, OTHER_CLASS = 0.5, 1.6  # cost of one phone for another; leaving one out costs 1


@dataclass(frozen=True)
class WordAlignment:
    """Phones of an utterance by words.

    Attributes:
        phones: Ids, "pau" included.
        ends_s: End of each, seconds from the start.
        word_of: Index of the word each belongs to, rising; a pause belongs to the word before it, one at the
            start to the first word.
        borders: Frame after the last one of each word.
    """

    phones: list[int]
    ends_s: list[float]
    word_of: list[int]
    borders: list[int]


def assign_words(reference: Sequence[tuple[str, int]], spoken: Sequence[str]) -> list[int]:
    """Word index of every spoken phone, by edit distance against (phone of the lexicon, word index)."""

    def cost(a: str, b: str) -> float:
        return 0.0 if a == b else SAME_CLASS if (a in VOWELS) == (b in VOWELS) else OTHER_CLASS

    n, m = len(reference), len(spoken)
    table = [[float(i + j) if i == 0 or j == 0 else 0.0 for j in range(m + 1)] for i in range(n + 1)]
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            swap = table[i - 1][j - 1] + cost(reference[i - 1][0], spoken[j - 1])
            table[i][j] = min(swap, table[i - 1][j] + 1, table[i][j - 1] + 1)
    words, i, j = [0] * m, n, m
    while j:
        if i and table[i][j] == table[i - 1][j - 1] + cost(reference[i - 1][0], spoken[j - 1]):
            words[j - 1] = reference[i - 1][1]
            i, j = i - 1, j - 1
        elif i and table[i][j] == table[i - 1][j] + 1:
            i -= 1
        else:
            words[j - 1] = reference[i - 1][1] if i else 0
            j -= 1
    return words


def align_words(
    words: Sequence[str],
    timed: Sequence[tuple[str, float]],
    num_frames: int,
    frame_s: float,
    lexicon: Lexicon | None = None,
) -> WordAlignment | None:
    """Give each phone to a word and each word its frames, at least one.

    Args:
        words: In spoken form.
        timed: (phone, end in seconds) of all phones in order, "pau" where nothing is said.
        num_frames: Frames of the recording.
        frame_s: Seconds per frame.
        lexicon: Pronunciations by which phones find their word; the shipped one by default.

    Returns:
        None where it cannot be: a word without a phone, an unknown phone, or fewer frames than words.
    """
    if len(words) > num_frames or any(phone not in ALL_PHONES for phone, _ in timed):
        return None
    spoken = [k for k, (phone, _) in enumerate(timed) if phone != "pau"]
    reference = [(p, w) for w, phones in enumerate(words_to_phones(words, lexicon)) for p in phones]
    owners = dict(zip(spoken, assign_words(reference, [timed[k][0] for k in spoken]), strict=True))
    word_of, current = [], 0
    for k in range(len(timed)):
        current = owners.get(k, current)
        word_of.append(current)
    if set(word_of) != set(range(len(words))) or word_of != sorted(word_of):
        return None
    borders, at = [], 0
    for w in range(len(words)):
        end = max(t for (_, t), owner in zip(timed, word_of, strict=True) if owner == w)
        frame = num_frames if w == len(words) - 1 else round(end / frame_s)
        at = min(max(frame, at + 1), num_frames - (len(words) - 1 - w))
        borders.append(at)
    return WordAlignment(phone_ids(p for p, _ in timed), [t for _, t in timed], word_of, borders)
