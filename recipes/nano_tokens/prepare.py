"""Make what both ears are given: log-mel features and codec codes of every clip, once.

python recipes/nano_tokens/prepare.py --speech runs/nano/speech --digits FSDD --out runs/nano_tokens/data.pt
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import numpy as np
import torch
from numbers_data import KINDS
from speech_data import RATE, SpeechShards

from vivavoce.audio.features import LogMel
from vivavoce.audio.files import read_audio
from vivavoce.audio.resample import resample
from vivavoce.codecs.loading import load_codec
from vivavoce.tokens.layouts import build_layout

HEAR_RATE = 16_000
DIGITS = "zero one two three four five six seven eight nine".split()
REAL_PER_SPEAKER = 100


def real_digits(folder: Path) -> list[tuple[dict, np.ndarray]]:
    """An even draw of real digits as (row, samples at 24 kHz); they are for tests only."""
    rng, out = random.Random(3), []
    by_speaker: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.wav")):
        by_speaker.setdefault(path.stem.split("_")[1], []).append(path)
    for speaker, paths in by_speaker.items():
        for path in rng.sample(paths, min(REAL_PER_SPEAKER, len(paths))):
            word = DIGITS[int(path.stem.split("_")[0])]
            row = {"split": "test_digit", "voice": speaker, "kind": "digit", "text": word, "answer": word}
            out.append((row, read_audio(path, sample_rate=RATE)[0]))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--speech", type=Path, required=True, help="folder of recipes/nano/make_speech.py")
    parser.add_argument("--digits", type=Path, help="folder of the Free Spoken Digit Dataset")
    parser.add_argument("--codec", default="nano")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="clips of each split, to try it out")
    args = parser.parse_args()
    torch.set_num_threads(1)
    shards = SpeechShards(args.speech, {"train", "test_sentence", "test_voice"})
    picked = [row for row in shards.rows if row["kind"] in KINDS]
    if args.limit:
        splits = {row["split"] for row in picked}
        picked = [r for s in splits for r in [x for x in picked if x["split"] == s][: args.limit]]
    keep = ("split", "voice", "kind", "text", "answer")
    clips = [({k: row[k] for k in keep}, None, row) for row in picked]
    if args.digits:
        clips += [(row, wave, None) for row, wave in real_digits(args.digits)]
    codec, log_mel = load_codec(args.codec), LogMel()
    layout = build_layout("orpheus", codec.spec)
    rows, codes, mels, spent = [], [], [], {"codec": 0.0, "mel": 0.0}
    codes_at = mel_at = 0
    for number, (row, wave, source) in enumerate(clips):
        wave = shards.samples(source) if source is not None else wave
        begin = time.process_time()
        frames = layout.frames(codec.encode(torch.from_numpy(np.ascontiguousarray(wave))[None, None]))
        middle = time.process_time()
        features = log_mel(torch.from_numpy(resample(wave, RATE, HEAR_RATE))[None])[0][0]
        spent["codec"] += middle - begin
        spent["mel"] += time.process_time() - middle
        rows.append({
            **row, "seconds": len(wave) / RATE, "codes_at": codes_at, "codes_frames": len(frames),
            "mel_at": mel_at, "mel_frames": features.shape[1],
        })  # fmt: skip
        codes.append(frames.to(torch.int16))
        mels.append(features.T.half())
        codes_at, mel_at = codes_at + len(frames), mel_at + features.shape[1]
        if number % 1000 == 999:
            print(f"{number + 1} of {len(clips)} clips, {spent}", flush=True)
    seconds = sum(row["seconds"] for row in rows)
    cost = {key: value / seconds for key, value in spent.items()}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    torch.save(
        {"rows": rows, "codes": torch.cat(codes), "mel": torch.cat(mels), "cpu_s_per_s": cost}, args.out
    )
    print(f"{len(rows)} clips, {seconds / 60:.0f} min; CPU-seconds per second of speech: {cost}")


if __name__ == "__main__":
    main()
