"""Speak the domain with espeak-ng and flite: python recipes/nano/make_speech.py --out runs/nano/speech

    python recipes/nano/make_speech.py --plan more --out runs/nano2/more_speech   # follow-ups, sentences, rare words
    python recipes/nano/make_speech.py --plan wide --out runs/nano2/wide_speech   # the same by many more throats
    python recipes/nano/make_speech.py --plan tune --out runs/nano2/tune          # what the gate is set on
    python recipes/nano/make_speech.py --plan spoken --not-in runs/nano2/{speech,voices/*} --out runs/nano2/spoken

Writes numbered shards (24 kHz int16 samples and one JSON row per utterance), each complete or absent, so a
stopped run goes on where it was. What is said by whom is in speech_plans.py.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import subprocess
import time
from collections.abc import Callable
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import soundfile
import soxr
from speech_data import SpeechShards
from speech_plans import plan, plan_more, plan_spoken, plan_tune, plan_wide

RATE = 24_000
Speak = Callable[[dict], tuple[dict, np.ndarray | None]]
SHARD = 500


def speak(job: dict) -> tuple[dict, np.ndarray | None]:
    """Synthesise one utterance; None when the engine fails. Perturbs rate, pitch and level unless told not to.

    Jobs with ``wide`` have any pitch that a throat can have, whatever its length: flite's voices at 70 to 240 Hz.
    """
    rng = random.Random(job["seed"])
    engine, name = job["voice"].split(":")
    text, perturb, wide, factor = job["text"], job["split"] != "voice", job.get("wide", False), 1.0
    try:
        if engine == "espeak":
            speed, pitch = (rng.randrange(120, 200), rng.randrange(20, 80)) if perturb else (155, 50)
            if wide:
                speed, pitch = rng.randrange(100, 230), rng.randrange(100)
            command = ["espeak-ng", "-v", name, "-s", str(speed), "-p", str(pitch), "--stdout", text]
            wav = subprocess.run(command, capture_output=True, timeout=20, check=True).stdout
        else:
            stretch = rng.uniform(0.85, 1.25) if perturb else 1.0
            settings = [f"duration_stretch={stretch:.2f}"]
            if wide:
                hertz = 70 * (240 / 70) ** rng.random()
                settings += [
                    f"int_f0_target_mean={hertz:.0f}",
                    f"int_f0_target_stddev={rng.uniform(6, 40):.0f}",
                ]
            path = Path(f"/dev/shm/nano_{os.getpid()}.wav")
            command = ["flite", "-voice", name, *(["-psdur"] if job["split"] == "voice" else [])]
            command += [word for setting in settings for word in ("--setf", setting)]
            done = subprocess.run(
                [*command, "-t", text, "-o", path], capture_output=True, text=True, timeout=20, check=True
            )
            job["phones"] = done.stdout.split() if job["split"] == "voice" else None
            wav = path.read_bytes()
            if perturb and rng.random() < (0.9 if wide else 0.6):
                factor = rng.uniform(0.82, 1.2)  # a longer or shorter vocal tract and another pitch
        samples, rate = soundfile.read(io.BytesIO(wav), dtype="float32")
    except (subprocess.SubprocessError, soundfile.LibsndfileError, OSError):
        return job, None
    samples = samples[:, 0] if samples.ndim > 1 else samples
    samples = soxr.resample(samples, rate * factor, RATE, quality="MQ")
    loud = np.nonzero(np.abs(samples) > 0.012 * max(1e-6, float(np.abs(samples).max())))[0]
    if len(loud) == 0:
        return job, None
    if perturb:  # the "voice" split keeps its phone times, so nothing is cut there
        samples = samples[max(0, loud[0] - 1200) : loud[-1] + 1800]
    gain = 0.07 * (rng.uniform(0.6, 1.4) if perturb else 1.0)
    samples = samples / np.sqrt(float((samples**2).mean()) + 1e-9) * gain
    peak = float(np.abs(samples).max())
    return job, (samples * (min(1.0, 0.98 / peak) * 32767)).astype(np.int16)


def write_shards(jobs: list[dict], speak_one: Speak, out: Path, processes: int) -> None:
    """Synthesise all jobs, in shards; those that are complete stay."""
    out.mkdir(parents=True, exist_ok=True)
    shards = [jobs[i : i + SHARD] for i in range(0, len(jobs), SHARD)]
    start, seconds = time.time(), 0.0
    with Pool(processes) as pool:
        for number_, shard in enumerate(shards):
            done = out / f"{number_:03d}.jsonl"
            if done.exists():
                continue
            rows, offset = [], 0
            with (out / f"{number_:03d}.i16").open("wb") as audio:
                for row, samples in pool.imap(speak_one, shard, chunksize=4):
                    if samples is None or len(samples) < RATE // 10:
                        continue
                    rows.append({**row, "offset": offset, "samples": len(samples)})
                    offset += len(samples)
                    audio.write(samples.tobytes())
            part = done.with_suffix(".part")
            part.write_text("".join(json.dumps(row) + "\n" for row in rows))
            part.rename(done)
            seconds += offset / RATE
            spent = time.time() - start
            print(f"shard {number_ + 1}/{len(shards)} {seconds / 60:.1f} min in {spent:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full plan")
    parser.add_argument("--plan", choices=["first", "more", "wide", "tune", "spoken"], default="first")
    parser.add_argument(
        "--not-in", type=Path, nargs="*", default=[], help="folders that share no text with --plan spoken"
    )
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    known = {row["text"] for folder in args.not_in for row in SpeechShards(folder).rows}
    plans = {"first": plan, "more": plan_more, "wide": plan_wide, "tune": lambda _: plan_tune(),
             "spoken": lambda _: plan_spoken(known)}  # fmt: skip
    jobs = plans[args.plan](args.scale)
    write_shards(jobs, speak, args.out, args.processes)


if __name__ == "__main__":
    main()
