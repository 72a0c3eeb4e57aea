"""Compare two codecs on the same recordings, pair by pair, and say whether they give the same codes.

python recipes/codec_nano/compare.py --recordings runs/nano2/codec_held_out nano runs/nano2/codec_adversarial/model \
    --json runs/nano2/codec_adversarial/compared.json

Recordings as `recipes/nano/codec_speech.py --questions` writes them: NAME.wav, NAME.txt and grammar.jsgf.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from vivavoce.codecs.contract import Codec
from vivavoce.codecs.loading import load_codec
from vivavoce.evaluation.items import Item
from vivavoce.evaluation.report.codec import Clip, CodecReport, measure_codec, recorded_clips
from vivavoce.evaluation.report.verdicts import compare_systems
from vivavoce.evaluation.run.recognisers import make_recogniser
from vivavoce.evaluation.scores import Score
from vivavoce.evaluation.slices import split_score


def same_codes(first: Codec, second: Codec, clips: Sequence[Clip]) -> int:
    """How many recordings have exactly the same codes by both."""
    found = 0
    for clip in clips:
        wave = torch.from_numpy(clip.sound.waveform)[None, None]
        ours, theirs = first.encode(wave), second.encode(wave)
        found += all(torch.equal(a, b) for a, b in zip(ours.levels, theirs.levels, strict=True))
    return found


def group(name: str) -> str:
    """Which part a recording belongs to: "test_voice" of "012_test_voice-000041"."""
    return name.split("_", 1)[1].rpartition("-")[0]


def parts(report: CodecReport, clips: Sequence[Clip]) -> dict[str, dict[str, Score]]:
    """Scores of all recordings and of each part: part -> metric -> score."""
    items = [Item(clip.id, None) for clip in clips]
    found = {"all": dict(report.scores)}
    for metric, score in report.scores.items():
        for part, one in split_score(score, items, lambda item: group(item.id)).items():
            found.setdefault(part, {})[metric] = one
    return found


def compared(first: Mapping[str, Score], second: Mapping[str, Score]) -> dict[str, dict[str, Any]]:
    """By metric: both values with their intervals, and what can be said of the pairs."""
    found = {}
    for name in sorted(first.keys() & second.keys()):
        before, after = first[name], second[name]
        verdict = compare_systems("codec", before, after, "the first", "the second")
        found[name] = {
            "first": [before.value, before.low, before.high],
            "second": [after.value, after.low, after.high],
            "unit": after.unit,
            "gain": [verdict.gain, verdict.low, verdict.high],
            "n": after.n,
            "claim": verdict.claim,
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("--recordings", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    codecs = [load_codec(name).eval() for name in (args.first, args.second)]
    clips = recorded_clips(args.recordings, codecs[0].spec.sample_rate)
    grammar = args.recordings / "grammar.jsgf"
    listener = make_recogniser(
        "pocketsphinx", grammar=grammar.read_text(encoding="utf-8") if grammar.is_file() else None
    )
    heard: dict[tuple[bytes, int], str] = {}

    def hear(wave: Any, rate: int) -> str:  # originals are heard once for both
        key = (wave.tobytes(), rate)
        if key not in heard:
            heard[key] = listener.hear(wave, rate)
        return heard[key]

    found: dict[str, Any] = {"codes": {"same": same_codes(*codecs, clips), "n": len(clips)}}
    measured = []
    for codec in codecs:
        with tempfile.TemporaryDirectory() as folder:
            measured.append(parts(measure_codec(codec, clips, Path(folder), "", hear, listener.name), clips))
    found |= {part: compared(measured[0][part], measured[1][part]) for part in measured[0]}
    text = json.dumps(found, indent=1)
    if args.json is not None:
        args.json.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
