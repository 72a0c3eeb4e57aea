"""Turn flite's utterances with phone times into codes and word-aligned phones.

python recipes/nano/prepare_voice.py --speech runs/nano/speech --codec runs/nano/codec/model --out runs/nano/voice.pt
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from speech_data import SpeechShards

from vivavoce.codecs.nano import NanoCodec
from vivavoce.tokens.phones import PHONES, phone_ids, words_to_phones

VOWELS = {"aa", "ae", "ah", "ao", "aw", "ax", "ay", "eh", "er", "ey", "ih", "iy", "ow", "oy", "uh", "uw"}
SLOTS = ((0, 0), (1, 0), (2, 0), (2, 1), (1, 1), (2, 2), (2, 3))  # (level, place) in drawing order


def assign_words(reference: list[tuple[str, int]], spoken: list[str]) -> list[int]:
    """Word index of every spoken phone, by edit distance against the lexicon's phones."""

    def cost(a: str, b: str) -> float:
        return 0.0 if a == b else 0.5 if (a in VOWELS) == (b in VOWELS) else 1.6

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


def align(text: str, timed: list[str], num_frames: int, frame_s: float) -> dict | None:
    """Phones with ends and word indices, and the frame at which each word ends; None if a word got no phone."""
    words = text.split()
    pairs = [(p, float(t)) for p, _, t in (item.partition(":") for item in timed)]
    spoken = [k for k, (p, _) in enumerate(pairs) if p != "pau"]
    reference = [(p, w) for w, phones in enumerate(words_to_phones(words)) for p in phones]
    owners = assign_words(reference, [pairs[k][0] for k in spoken])
    word_of, current = [], 0
    lookup = dict(zip(spoken, owners, strict=True))
    for k in range(len(pairs)):  # a pause belongs to the word before it, the first to the first word
        current = lookup.get(k, current)
        word_of.append(current)
    if set(word_of) != set(range(len(words))) or word_of != sorted(word_of):
        return None
    borders, at = [], 0
    for w in range(len(words)):
        end = max(t for (_, t), owner in zip(pairs, word_of, strict=True) if owner == w)
        frame = num_frames if w == len(words) - 1 else round(end / frame_s)
        at = min(max(frame, at + 1), num_frames - (len(words) - 1 - w))
        borders.append(at)
    if any(p not in PHONES for p, _ in pairs) or len(set(borders)) != len(borders):
        return None
    return {
        "phones": phone_ids(p for p, _ in pairs), "ends_s": [t for _, t in pairs],
        "word_of": word_of, "borders": borders,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--codec", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    codec = NanoCodec.from_folder(args.codec)
    data = SpeechShards(args.speech, {"voice", "test_spoken"})
    frame_s = codec.spec.frame_samples / codec.spec.sample_rate
    items, skipped = [], 0
    for row in data.rows:
        if not row.get("phones"):
            skipped += 1
            continue
        codes = codec.encode(torch.from_numpy(data.samples(row))[None, None])
        levels = [
            level[0].view(-1, n) for level, n in zip(codes.levels, codec.spec.codes_per_level, strict=True)
        ]
        frames = torch.stack([levels[level][:, place] for level, place in SLOTS], dim=1)
        if len(frames) < len(row["text"].split()):
            skipped += 1
            continue
        aligned = align(row["text"], row["phones"], len(frames), frame_s)
        if aligned is None:
            skipped += 1
            continue
        items.append({**aligned, "text": row["text"], "split": row["split"], "codes": frames.to(torch.int16)})
    torch.save({"items": items, "codec": codec.spec.weights, "frame_s": frame_s}, args.out)
    print(f"{len(items)} utterances, {skipped} left out (no phones, or a word without one)")


if __name__ == "__main__":
    main()
