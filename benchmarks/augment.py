"""How many recordings a CPU second the builder `augment` changes: python benchmarks/augment.py [--json] [--clips N]

Clips of 1 to 10 s at 24 kHz (a buzz with changing level, FLAC in rows), the default effects and each effect alone,
always done. The baseline only reads a recording and writes it again as FLAC, which is part of every other figure. All
take turns, and the least CPU time of several turns counts.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vivavoce.data.build.contract import Context, Fault
from vivavoce.data.build.row_audio import hear, put_recording
from vivavoce.data.build.sounds.augment import DEFAULT, Augment, AugmentConfig
from vivavoce.data.conversation import Audio, Conversation, Message
from vivavoce.data.recordings import encode_flac

RATE = 24_000
BASELINE = "read and write only"
ALONE: Sequence[Mapping[str, Any]] = (
    *({**effect, "p": 1.0} for effect in DEFAULT if effect["type"] != "codec"),
    {"type": "speed", "keep_pitch": True},
    *({"type": "codec", "kinds": [kind]} for kind in ("mp3", "ogg", "opus", "mu-law", "low-rate")),
)


def clips(count: int) -> list[Conversation]:
    """Rows with one recording each."""
    rows = []
    for number in range(count):
        rng = np.random.default_rng(number)
        at = np.arange(int(rng.uniform(1, 10) * RATE)) / RATE
        wave = np.sum([np.sin(2 * np.pi * 130 * k * at + np.sin(5 * at)) / k for k in range(1, 20)], axis=0)
        wave = 0.1 * wave * np.clip(np.sin(9 * at), 0, 1) + 0.001 * rng.standard_normal(len(at))
        row = Conversation(str(number), [Message("user", [Audio(0)])])
        row.audios = [{"bytes": encode_flac(wave.astype(np.float32), RATE)}]
        rows.append(row)
    return rows


def only_written(rows: Sequence[Conversation]) -> None:
    """What `augment` does without any effect."""
    for row in rows:
        part = row.messages[0].audios[0]
        fresh = Conversation(row.id, [Message("user", [Audio(0)])])
        put_recording(fresh.messages[0].audios[0], fresh, *hear(part, row, Path()))


def with_effects(effects: Sequence[Mapping[str, Any]]) -> Callable[[Sequence[Conversation]], None]:
    """A turn of the builder with these effects."""
    builder = Augment(AugmentConfig(effects=tuple(effects)), Context())

    def turn(rows: Sequence[Conversation]) -> None:
        faults = [result for result in builder(rows) if isinstance(result, Fault)]
        if faults:
            raise SystemExit(f"a row was put aside: {faults[0].reason}")

    return turn


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    rows = clips(options.clips)
    turns: dict[str, Callable[[Sequence[Conversation]], None]] = {
        BASELINE: only_written,
        "default effects": with_effects(DEFAULT),
    }
    for effect in ALONE:
        name = " ".join(
            [effect["type"], *effect.get("kinds", ()), *(["keep_pitch"] if "keep_pitch" in effect else [])]
        )
        turns[name] = with_effects([effect])
    seconds = sum(hear(row.messages[0].audios[0], row, Path())[0].size for row in rows) / RATE
    best: dict[str, float] = {}
    for _ in range(options.repeats):
        for name, turn in turns.items():
            start = time.process_time()
            turn(rows)
            best[name] = min(best.get(name, np.inf), time.process_time() - start)
    print(f"{len(rows)} clips of {seconds / len(rows):.1f} s on average\n")
    print(f"{'':24}{'clips / CPU s':>16}{'audio s / CPU s':>18}")
    for name, spent in best.items():
        print(f"{name:24}{len(rows) / spent:16.0f}{seconds / spent:18.0f}")
    if options.json:
        print(json.dumps({name: len(rows) / spent for name, spent in best.items()}))


if __name__ == "__main__":
    main()
