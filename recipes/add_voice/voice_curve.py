"""What a new voice is worth: understood by a recogniser, like its model, and how much the old ones lost.

python recipes/add_voice/voice_curve.py measure --bundle runs/add_voice/m16/bundle --label 16 --voice rms \
    --reference flite:rms --speech runs/nano/speech --out runs/add_voice/results
python recipes/add_voice/voice_curve.py measure --label original --reference flite:rms ...  # the originals
python recipes/add_voice/voice_curve.py plot --results runs/add_voice/results --out recipes/add_voice/curve.svg

Sentences and short answers are those that recipes/nano reads back, and the judge is its.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.append(str(Path(__file__).parents[1] / "nano"))
from figures import Figure, share, word_error
from judge import Judge, kind_of
from outside_words import WORDS, words_read_right
from trials import Speech, spoken_answers

import vivavoce
from vivavoce.audio.resample import resample
from vivavoce.audio.speaker_features import SAMPLE_RATE, speaker_frames
from vivavoce.audio.synthesis import synthesize
from vivavoce.audio.voice_activity import Segment

Sound = tuple[np.ndarray, int]
Say = Callable[[str], Sound]
LOUDNESS = 0.07


def through(codec: Any, sound: Sound) -> Sound:
    """A sound at the loudness of the bundle's speech, after encoding and decoding."""
    rate = codec.spec.sample_rate
    wave = resample(sound[0], sound[1], rate)
    wave = wave * (LOUDNESS / float(np.sqrt((wave**2).mean()) + 1e-9))
    coded = codec.decode(codec.encode(torch.from_numpy(wave.astype(np.float32))[None, None]))
    return coded[0, 0].numpy(), rate


def timbre(sound: Sound) -> tuple[np.ndarray, float]:
    """Mean cepstrum [19] and middle pitch (octaves above 1 Hz) of what is voiced."""
    wave = resample(np.asarray(sound[0], np.float32), sound[1], SAMPLE_RATE)
    frames = speaker_frames([wave], [Segment(0.0, len(wave) / SAMPLE_RATE)])
    voiced = frames.voiced
    return frames.cepstra[voiced].astype(np.float64).mean(0), float(np.median(frames.pitch[voiced]))


def understood(name: str, say: Say, texts: list[str], sounds: dict[str, Sound] | None = None) -> Figure:
    """Word error of texts; keeps the sounds if asked to."""
    judge, pairs = Judge(), []
    for text in texts:
        sound = say(text)
        if sounds is not None:
            sounds[text] = sound
        pairs.append((text, judge.read(*sound, kind_of(text) or "")))
    return word_error("voice", name, pairs)


def likeness(sounds: dict[str, Sound], target: list[Sound], other: list[Sound]) -> dict[str, Any]:
    """How near each sound's mean cepstrum is to those of two voices, and its pitch.

    Distances are Euclidean between mean cepstra; ``own_spread`` is that of the target's own sentences to their
    middle, which a perfect copy would have.
    """
    wanted, others = [timbre(s) for s in target], [timbre(s) for s in other]
    middle, away = np.mean([c for c, _ in wanted], 0), np.mean([c for c, _ in others], 0)
    said = [timbre(s) for s in sounds.values()]
    near = [float(np.linalg.norm(c - middle)) for c, _ in said]
    far = [float(np.linalg.norm(c - away)) for c, _ in said]
    pitch = float(np.median([p for _, p in said]))
    return {
        "to_target": float(np.mean(near)), "to_other": float(np.mean(far)),
        "own_spread": float(np.mean([np.linalg.norm(c - middle) for c, _ in wanted])),
        "voices_apart": float(np.linalg.norm(middle - away)),
        "nearer_target": share("voice", "nearer the target", [a < b for a, b in zip(near, far, strict=True)]).as_json(),
        "pitch_semitones_off": 12 * (pitch - float(np.median([p for _, p in wanted]))),
        "others_semitones_off": 12 * float(np.median([p for _, p in others]) - np.median([p for _, p in wanted])),
    }  # fmt: skip


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Everything about one bundle's voice, or about the original where no voice is given."""
    texts = [row["text"] for row in Speech(args.speech).spoken(args.limit)]
    answers = spoken_answers(args.limit)
    model = vivavoce.load(args.bundle)
    codec = model.processor.codec_out
    result: dict[str, Any] = {"label": args.label, "voice": args.voice or args.reference}
    figures: list[Figure] = []
    if args.voice is None:
        say: Say = lambda text: synthesize(text, args.reference)  # noqa: E731
        coded: Say = lambda text: through(codec, say(text))  # noqa: E731
        figures += [understood("sentences", say, texts), understood("answers", say, answers)]
        figures += [understood("coded sentences", coded, texts), understood("coded answers", coded, answers)]
    else:
        say = _voice(model, args.voice)
        sounds: dict[str, Sound] = {}
        figures.append(understood("sentences", say, texts, sounds))
        if not args.no_answers:
            figures.append(understood("answers", say, answers))
        target = [through(codec, synthesize(text, args.reference)) for text in texts]
        other = [through(codec, synthesize(text, args.other)) for text in texts]
        result["likeness"] = likeness(sounds, target, other)
        if args.old:
            figures.append(understood("old voice sentences", _voice(model, args.old), texts))
    if args.outside:
        heard = words_read_right(say, WORDS)
        figures.append(share("voice", "outside words", [word == text for word, text in heard]))
        result["outside_misread"] = [f"{word}: {text}" for word, text in heard if word != text]
    result["figures"] = [f.as_json() for f in figures]
    return result


def _voice(model: Any, name: str) -> Say:
    def say(text: str) -> Sound:
        reply = model.say(text, voice=name)
        return reply.audio, reply.sample_rate

    return say


def plot(results: Path, out: Path) -> None:
    """Word error and likeness over minutes, with the originals as lines."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "curve"
    import matplotlib.pyplot as plt

    rows = [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]
    points = sorted(
        (r for r in rows if r["label"].replace(".", "").isdigit()), key=lambda r: float(r["label"])
    )
    original = next(r for r in rows if r["label"] == "original")
    before = next((r for r in rows if r["label"] == "before"), None)
    minutes = [float(r["label"]) for r in points]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
    for name, color in (("sentences", "C0"), ("answers", "C1"), ("old voice sentences", "C2")):
        found = [_named(r, name) for r in points]
        kept = [(m, f) for m, f in zip(minutes, found, strict=True) if f]
        values = [100 * f["value"] for _, f in kept]
        bars = [
            [100 * (f["value"] - f["low"]) for _, f in kept],
            [100 * (f["high"] - f["value"]) for _, f in kept],
        ]
        label = {"old voice sentences": "old voice, sentences"}.get(name, f"new voice, {name}")
        left.errorbar([m for m, _ in kept], values, bars, marker="o", capsize=3, color=color, label=label)
    for name, style in (("sentences", ":"), ("coded sentences", "--")):
        left.axhline(
            100 * _named(original, name)["value"], color="C0", ls=style, lw=1, label=f"original, {name}"
        )
    if before:
        left.axhline(
            100 * _named(before, "sentences")["value"], color="C2", ls=":", lw=1, label="old voice before"
        )
    left.set(xscale="log", xlabel="minutes of recordings", ylabel="word error, %")
    left.legend(fontsize=7)
    right.plot(
        minutes,
        [r["likeness"]["to_target"] for r in points],
        "o-",
        color="C0",
        label="to the new voice's model",
    )
    right.plot(
        minutes, [r["likeness"]["to_other"] for r in points], "o-", color="C2", label="to the old voice's"
    )
    right.axhline(
        points[0]["likeness"]["own_spread"], color="C0", ls=":", lw=1, label="the model's own spread"
    )
    right.set(xscale="log", xlabel="minutes of recordings", ylabel="distance of mean cepstra", ylim=(0, None))
    right.legend(fontsize=7)
    for axis in (left, right):
        axis.set_xticks(minutes, [f"{m:g}" for m in minutes])
        axis.minorticks_off()
    figure.tight_layout()
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)


def _named(row: dict[str, Any], name: str) -> Any:
    return next((f for f in row["figures"] if f["name"] == name), None)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("measure")
    one.add_argument("--bundle", default="nano")
    one.add_argument("--label", required=True, help="minutes; 'original' or 'before' for what is compared to")
    one.add_argument("--voice", help="of the bundle; none measures the reference itself")
    one.add_argument("--reference", required=True, help="synthesizer's voice that the new one is to be")
    one.add_argument("--other", default="flite:slt", help="that of the old voice")
    one.add_argument("--old", help="old voice of the bundle, to measure forgetting")
    one.add_argument("--no-answers", action="store_true", help="sentences only")
    one.add_argument("--outside", action="store_true", help="words outside the lexicon, too")
    one.add_argument("--speech", type=Path, required=True)
    one.add_argument("--limit", type=int, default=60)
    one.add_argument("--out", type=Path, required=True, help="folder of results")
    all_ = verbs.add_parser("plot")
    all_.add_argument("--results", type=Path, required=True)
    all_.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.verb == "plot":
        plot(args.results, args.out)
        return
    result = measure(args)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"{args.label}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
