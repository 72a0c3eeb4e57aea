"""How fast speech for training is made on a CPU: python benchmarks/speak.py [--json] [--texts N] [--repeats N]

Sentences of 3 to 30 words through espeak-ng and flite: the synthesizer alone (the baseline), and the builder `speak`,
which draws a voice, resamples to 24 kHz, brings the speech to one level and packs it as FLAC. CPU time counts the
processes that the synthesizers run in; the best of several repeats taken one after the other.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import time
from collections.abc import Callable

from vivavoce.audio.files import audio_info
from vivavoce.audio.synthesis import has_synthesizer, synthesize
from vivavoce.data.build.contract import Context, Fault
from vivavoce.data.build.speech.speak import Speak, SpeakConfig
from vivavoce.data.conversation import Conversation, Message, Text

WORDS = (
    "the a my some every cold small green river house teacher morning answer music train garden window story bird "
    "walks sings finds keeps follows opens under over near without slowly today again because while before and or"
).split()
VOICES = {"espeak": "espeak:en-us", "flite": "flite:slt"}


def sentences(count: int) -> list[str]:
    """Random sentences of 3 to 30 words."""
    rng = random.Random(0)
    return [" ".join(rng.choices(WORDS, k=rng.randint(3, 30))).capitalize() + "." for _ in range(count)]


def cpu_s() -> float:
    """Processor seconds of this process and of those it ran."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def alone(voice: str, texts: list[str]) -> float:
    """Seconds of speech made by a synthesizer alone."""
    made = [synthesize(text, voice) for text in texts]
    return sum(waveform.size / rate for waveform, rate in made)


def by_builder(voice: str, texts: list[str]) -> float:
    """Seconds of speech made by the builder."""
    builder = Speak(SpeakConfig(voices=(voice,), speed=(0.9, 1.1), pitch=(0.9, 1.1)), Context())
    rows = [Conversation(str(i), [Message("user", [Text(text)])]) for i, text in enumerate(texts)]
    seconds = 0.0
    for result in builder(rows):
        if isinstance(result, Fault):
            raise SystemExit(f"{voice} failed: {result.reason}")
        seconds += audio_info(result[0].audios[0]["bytes"]).duration_s or 0.0
    return seconds


def measure(runs: dict[str, Callable[[], float]], repeats: int) -> dict[str, tuple[float, float, float]]:
    """For each run seconds of speech, and the least CPU and wall seconds of ``repeats`` turns."""
    found: dict[str, tuple[float, float, float]] = {}
    for _ in range(repeats):
        for name, run in runs.items():
            cpu, wall = cpu_s(), time.perf_counter()
            seconds = run()
            cpu, wall = cpu_s() - cpu, time.perf_counter() - wall
            _, best_cpu, best_wall = found.get(name, (0.0, cpu, wall))
            found[name] = seconds, min(cpu, best_cpu), min(wall, best_wall)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--texts", type=int, default=40, help="sentences per run")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    texts = sentences(options.texts)
    runs: dict[str, Callable[[], float]] = {}
    for engine, voice in VOICES.items():
        if not has_synthesizer(engine):
            print(f"{engine} is not installed and left out")
            continue
        runs[f"{engine} alone"] = lambda voice=voice: alone(voice, texts)
        runs[f"{engine} by speak"] = lambda voice=voice: by_builder(voice, texts)
    found = measure(runs, options.repeats)
    print(f"{'':18}{'speech s':>10}{'CPU s':>8}{'hours per CPU hour':>20}{'ms per sentence':>17}")
    for name, (seconds, cpu, wall) in found.items():
        print(f"{name:18}{seconds:10.1f}{cpu:8.2f}{seconds / cpu:20.1f}{1000 * wall / len(texts):17.1f}")
    if options.json:
        print(json.dumps({f"{n} hours per cpu hour": round(s / c, 1) for n, (s, c, _) in found.items()}))


if __name__ == "__main__":
    main()
