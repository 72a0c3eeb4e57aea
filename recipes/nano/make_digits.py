"""Speak many single digits, and words to join them to sums: python recipes/nano/make_digits.py --out runs/nano2/digits

Variety of speakers is what real voices ask for: all timbres of espeak-ng, English accents, accents of other first
languages (accents.py), vocal tracts from child to giant, whispers, emphasis, slow and fast, cut tightly or loosely.
Same shards as make_speech.py; split "train", kinds "digit" (one digit, as a native or with an accent), "string" (two
to five digits in one breath) and "carrier" ("what is", "plus", ...: to put real digits into questions). The voices that
make_speech.py holds out speak nothing here.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import subprocess
from pathlib import Path

import numpy as np
import soundfile
import soxr
from accents import accented
from domain import DIGITS
from make_speech import RATE, write_shards
from speech_plans import ACCENTS

VARIANTS = (
    "adam Alex Alicia Andrea Andy Annie antonio aunty belinda benjamin boris caleb david denis Diogo ed edward edward2 "
    "Gene Gene2 gustave Henrique Hugo iven iven2 iven3 iven4 Jacky john Lee marcelo Marco Mario Michael michel miguel "
    "Mike Mr norbert pablo paul pedro quincy rob robert robosoft5 sandro shelby steph steph2 steph3 Storm travis "
    "victor zac anika AnxiousAndy f1 f2 f3 f4 f5 grandpa grandma klatt klatt2 klatt3 klatt4 m1 m2 m3 m4 m5 m6 m7 "
    "whisper whisperf"
).split()
CARRIERS = ("what is", "how much is", "plus", "minus", "times", "say", "repeat")
ENDINGS = (".", ".", "!", "?", ",")


def speak(job: dict) -> tuple[dict, np.ndarray | None]:
    """Synthesise one utterance; None when the engine fails."""
    rng = random.Random(job["seed"])
    engine, name = job["voice"].split(":")
    try:
        if engine == "espeak":
            speed, pitch = rng.randrange(100, 240), rng.randrange(0, 100)
            command = ["espeak-ng", "-v", name, "-s", str(speed), "-p", str(pitch), "--stdout", job["said"]]
            wav = subprocess.run(command, capture_output=True, timeout=20, check=True).stdout
        else:
            path = Path(f"/dev/shm/nano_digit_{os.getpid()}.wav")
            stretch = f"duration_stretch={rng.uniform(0.7, 1.4):.2f}"
            pitch = f"int_f0_target_mean={rng.uniform(80, 240):.0f}"
            command = [
                "flite",
                "-voice",
                name,
                "--setf",
                stretch,
                "--setf",
                pitch,
                "-t",
                job["said"],
                "-o",
                str(path),
            ]
            subprocess.run(command, capture_output=True, timeout=20, check=True)
            wav = path.read_bytes()
        samples, rate = soundfile.read(io.BytesIO(wav), dtype="float32")
    except (subprocess.SubprocessError, soundfile.LibsndfileError, OSError):
        return job, None
    tract = float(np.exp(rng.uniform(np.log(0.8), np.log(1.25))))  # all formants, and the pitch
    samples = soxr.resample(samples, rate * tract, RATE, quality="MQ")
    floor = float(np.exp(rng.uniform(np.log(0.008), np.log(0.08)))) * max(1e-6, float(np.abs(samples).max()))
    loud = np.nonzero(np.abs(samples) > floor)[0]
    if len(loud) == 0:
        return job, None
    samples = samples[loud[0] : loud[-1] + 1]
    edge = min(120, len(samples) // 4)  # 5 ms, so that a cut does not click
    samples[:edge] *= np.linspace(0, 1, edge)
    samples[-edge:] *= np.linspace(1, 0, edge)
    samples = samples / np.sqrt(float((samples**2).mean()) + 1e-9) * 0.07
    return job, (samples * (min(1.0, 0.98 / float(np.abs(samples).max())) * 32767)).astype(np.int16)


def plan(scale: float, seed: int = 2) -> list[dict]:
    """All utterances to make, shuffled, each with its own seed."""
    rng = random.Random(seed)
    jobs: list[dict] = []

    def add(voice: str, kind: str, text: str, said: str) -> None:
        row = {"split": "train", "voice": voice, "kind": kind, "text": text, "answer": text, "said": said}
        jobs.append({**row, "seed": rng.randrange(1 << 30)})

    def timbre(language: str) -> str:
        return f"espeak:{language}+{rng.choice(VARIANTS)}"

    def native() -> str:
        if rng.random() < 0.3:
            return "flite:" + rng.choice(["slt", "awb", "kal16", "kal"])
        return timbre(rng.choice(ACCENTS))

    for index in range(int(9_000 * scale)):
        digit = DIGITS[index % 10]
        ending = rng.choice(ENDINGS)
        if index // 10 % 5 < 3:
            language, said = accented(digit, rng)
            add(timbre(language), "digit", digit, said + ending)
        else:
            add(native(), "digit", digit, digit + ending)
    for _ in range(int(1_500 * scale)):
        text = " ".join(rng.choice(DIGITS) for _ in range(rng.randint(2, 5)))
        add(native(), "string", text, text.replace(" ", ", ") if rng.random() < 0.5 else text)
    for index in range(int(1_000 * scale)):
        text = CARRIERS[index % len(CARRIERS)]
        add(native(), "carrier", text, text)
    rng.shuffle(jobs)
    return jobs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full 11,500 utterances")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    write_shards(plan(args.scale), speak, args.out, args.processes)


if __name__ == "__main__":
    main()
