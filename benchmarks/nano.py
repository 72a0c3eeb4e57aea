"""How fast the embedded model answers on two cores: python benchmarks/nano.py [--json] [--repeats N] [--model M]

A child process loads the model and is asked spoken questions with answers of several lengths, each several times.
Clocks start when the question ends. Ours streams: words are spoken while the answer is still being written. The
baseline, in the same process, writes the whole answer and makes the whole audio before anything is heard. With
--json the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np

CORES = 2
AIMS = {"rtf": 0.5, "first_audio_ms": 500.0, "peak_memory_gb": 1.5}
QUESTIONS = (  # answers of one word to eight, asked in the model's own voice after the bundled recording
    "what is seven plus five",
    "what is the capital of france",
    "what can you do",
    "count to eight",
)
COLUMNS = ("ttft_ms", "first_audio_ms", "total_ms", "rtf")


def percentile(values: list[float], share: float) -> float:
    """Linear interpolation between ordered values."""
    return float(np.quantile(values, share))


def ask(assistant: Any, messages: list[dict]) -> dict[str, float]:
    """Stream one spoken answer; milliseconds from the end of the question."""
    began, times, samples, rate, text = time.perf_counter(), {}, 0, 1, ""
    for delta in assistant.stream(messages, audio=True):
        now = 1000 * (time.perf_counter() - began)
        if delta.text:
            times.setdefault("ttft_ms", now)
            text += delta.text
        if delta.audio is not None:
            times.setdefault("first_audio_ms", now)
            samples, rate = samples + len(delta.audio), delta.sample_rate
    times["total_ms"] = 1000 * (time.perf_counter() - began)
    audio_s = samples / rate
    return {**times, "audio_s": audio_s, "rtf": times["total_ms"] / 1000 / audio_s, "text": text.strip()}


def ask_whole(assistant: Any, messages: list[dict]) -> dict[str, float]:
    """The baseline: the whole text, then the whole audio."""
    began = time.perf_counter()
    text = assistant.chat(messages).text
    written = 1000 * (time.perf_counter() - began)
    reply = assistant.say(text)
    total = 1000 * (time.perf_counter() - began)
    audio_s = len(reply.audio) / reply.sample_rate
    return {
        "ttft_ms": written, "first_audio_ms": total, "total_ms": total,
        "audio_s": audio_s, "rtf": total / 1000 / audio_s, "text": text,
    }  # fmt: skip


def measure(model: str, repeats: int) -> dict[str, Any]:
    """Everything, in this process; memory is the peak of loading and of our own path."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    began = time.perf_counter()
    import torch

    import vivavoce
    from vivavoce.models.loading import find_folder

    torch.set_num_threads(CORES)
    assistant = vivavoce.load(model, device="cpu")
    load_s = time.perf_counter() - began
    asked = []
    recorded = find_folder(model) / "question.wav"
    if recorded.is_file():
        asked.append(("the bundled question", {"type": "audio", "audio": str(recorded)}))
    for text in QUESTIONS:
        spoken = assistant.say(text)
        asked.append((text, {"type": "audio", "audio": spoken.audio, "sampling_rate": spoken.sample_rate}))
    rows = []
    peak_gb = 0.0
    for name, run in (("streaming", ask), ("whole answer first", ask_whole)):
        for question, part in asked:
            messages = [{"role": "user", "content": [part]}]
            run(assistant, messages)  # the first one pays for warming up
            runs = [run(assistant, messages) for _ in range(repeats)]
            row = {
                "path": name,
                "question": question,
                "answer": runs[0]["text"],
                "audio_s": runs[0]["audio_s"],
            }
            for column in COLUMNS:
                values = [r[column] for r in runs]
                row[column] = {"p50": percentile(values, 0.5), "p95": percentile(values, 0.95)}
            rows.append(row)
        peak_gb = peak_gb or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2  # KiB on Linux
    return {"model": model, "load_s": load_s, "peak_memory_gb": peak_gb, "repeats": repeats, "rows": rows}


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """The figures that have aims: the median over questions of each path, and the worst p95 of ours."""
    out: dict[str, Any] = {k: found[k] for k in ("model", "load_s", "peak_memory_gb", "repeats")}
    ours = [r for r in found["rows"] if r["path"] == "streaming"]
    whole = [r for r in found["rows"] if r["path"] != "streaming"]
    for column in COLUMNS:
        out[column] = statistics.median(r[column]["p50"] for r in ours)
        out[f"{column}_worst_p95"] = max(r[column]["p95"] for r in ours)
        out[f"baseline_{column}"] = statistics.median(r[column]["p50"] for r in whole)
    out["aims"] = AIMS
    out["passed"] = {k: out[k] < aim for k, aim in AIMS.items()}
    return {**out, "rows": found["rows"]}


def show(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    asked = f"p50 / p95 of {result['repeats']}, ms after the question ends"
    table = Table(title=f"{result['model']} on {CORES} cores, {asked}")
    for name in ("path", "question", "answer s", "first text", "first audio", "end", "RTF"):
        table.add_column(name, justify="left" if name in ("path", "question") else "right")
    for row in result["rows"]:
        cells = [f"{row[c]['p50']:.0f} / {row[c]['p95']:.0f}" for c in COLUMNS[:-1]]
        cells.append(f"{row['rtf']['p50']:.2f} / {row['rtf']['p95']:.2f}")
        table.add_row(row["path"], row["question"], f"{row['audio_s']:.1f}", *cells)
    console = Console(width=118)
    console.print(table)
    for name, aim in AIMS.items():
        verdict = "pass" if result["passed"][name] else "short"
        console.print(f"{name} {result[name]:.3g}, aim < {aim:g}: {verdict}")
    console.print(f"ready {result['load_s']:.1f} s after the process started")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="nano")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure(args.model, args.repeats)))
        return
    command = [sys.executable, __file__, "--child", "--model", args.model, "--repeats", str(args.repeats)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    result = summary(json.loads(done.stdout.splitlines()[-1]))
    show(result)
    if args.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
