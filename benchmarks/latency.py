"""From the end of speech to text and to sound: python benchmarks/latency.py [--json] [--seconds ...] [--sessions ...]

Questions of 2, 5, 10, 20 and 30 s are fed to sessions in pieces of 100 ms, in turn with streaming prefill (what is
final is read while the user speaks) and without (the conversation before it is read, the recording waits). Each is the
second turn of a conversation, after one of 2 s. Clocks start at the last piece: TTFT ends with the first text,
"sound" when the first audible sample can be heard if playback begins with the first samples, so silence that leads the
answer counts as waiting. With several sessions all questions end at the same moment and go through one batcher. Feeding
is not paced: ``busy`` is the share of the time of speech that reading it took, and must stay below 1 for the figures
to hold in a live conversation.

- nano: the embedded bundle. Its gate reads the whole clip, so only the conversation before it is read early; questions
  are its own recording again and again, so the longer ones are not understood, and answered by its refusal;
- tokens: random weights, the bundle's codec (82 tokens a second) into a Llama of 4 layers of width 1536,
  with the proportions of Llama 3;
- blocks: random weights, a Whisper-base-sized encoder by blocks of 160 ms into the same Llama.

The last two say four words that are given to them and then sound tokens of their own. With --json the last line is
one object. ``--shape 8b`` is benchmarks/gpu/latency_8b.py, for a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[1]))

PIECE_S = 0.1
AUDIBLE = 0.003  # of full scale, -50 dB
WORDS = "Yes, "  # what models of random weights say before they speak
FRAMES = 12  # of sound that they make at most
AIMS = {"30 s / 2 s": 1.3, "streaming / whole at 20 s": 0.4, "nano first audio ms": 500.0, "nano RTF": 0.5}
LLAMA = {
    "model_type": "llama", "hidden_size": 1536, "intermediate_size": 5376, "num_hidden_layers": 4,
    "num_attention_heads": 12, "num_key_value_heads": 3, "max_position_embeddings": 8192,
    "tie_word_embeddings": True, "bos_token_id": None,
}  # fmt: skip
WHISPER = {
    "d_model": 512, "encoder_layers": 6, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048,
    "num_mel_bins": 80, "max_source_positions": 1500,
}  # fmt: skip


def nano() -> Any:
    """The bundle."""
    import vivavoce

    return vivavoce.load("nano", device="cpu")


def tokens() -> Any:
    """Sound tokens into a larger language model, and out of it."""
    from tests.inference import tiny

    from vivavoce.codecs.loading import load_codec

    tokenizer, codec = tiny.byte_tokenizer(), load_codec("nano").eval()
    side = tiny.sound(codec, tokenizer)
    return tiny.assemble(tokenizer, codec, text=LLAMA, audio_in=side, audio_out=side)


def blocks() -> Any:
    """A block-causal encoder into a larger language model, sound tokens out of it."""
    from tests.inference import tiny

    from vivavoce.codecs.loading import load_codec

    tokenizer, codec = tiny.byte_tokenizer("<|audio|>"), load_codec("nano").eval()
    connector = {"type": "stack", "encoder_size": 512, "text_size": 1536, "hidden_size": 2048}
    ears = {
        "type": "embeddings",
        "encoder": {"type": "whisper", "model": WHISPER, "block_frames": 8},
        "connector": connector,
        "audio_token_id": tokenizer.convert_tokens_to_ids("<|audio|>"),
        "features": {"ending": "hop"},
        "shortest_samples": 320,
    }
    mouth = tiny.sound(codec, tokenizer)
    return tiny.assemble(tokenizer, codec, text=LLAMA, audio_in=ears, audio_out=mouth)


MODELS = {make.__name__: make for make in (nano, tokens, blocks)}


@contextmanager
def scripted(assistant: Any) -> Iterator[None]:
    """Let a model of random weights say ``WORDS`` and begin to speak; it draws as it would, then is overruled."""
    from vivavoce.inference import turn
    from vivavoce.inference.sampling import Sampler

    vocabulary = assistant.processor.vocabulary_out
    if vocabulary is None:
        yield
        return
    said = assistant.processor.tokenizer(WORDS, add_special_tokens=False)["input_ids"]
    script = [*said, vocabulary.start_id]

    class Scripted(Sampler):
        def __init__(self, options: Any) -> None:
            super().__init__(options)
            self._drawn = 0

        def __call__(self, logits: Any, seen: Any, allowed: Any = None) -> int:
            token, at = super().__call__(logits, seen, allowed), self._drawn
            self._drawn += 1
            may = at < len(script) and (allowed is None or bool(allowed[script[at]]))
            return script[at] if may else token

    with patch.object(turn, "Sampler", Scripted):
        yield


def speech(seconds: float) -> tuple[Any, int]:
    """The bundle's question again and again, as long as wanted."""
    import numpy as np
    import soundfile

    import vivavoce

    wave, rate = soundfile.read(Path(vivavoce.__file__).parent / "bundle/nano/question.wav", dtype="float32")
    return np.resize(wave, round(seconds * rate)), rate


@dataclass
class Asked:
    """Figures of one answer; milliseconds from the end of speech."""

    ttft_ms: float
    first_audio_ms: float
    busy: float
    positions: int
    rtf: float | None = None


def ask(
    assistant: Any,
    seconds: float,
    early: bool,
    ready: Any = None,
    whole: bool = False,
    least: float = AUDIBLE,
) -> Asked:
    """Ask two questions in a session of its own and time the answer to the second.

    Args:
        assistant: The model.
        seconds: Length of the second question.
        early: Read while it comes in.
        ready: Barrier at which all questions end.
        whole: Take the answer to its end, for its real-time factor.
        least: Samples above it are heard, of full scale.
    """
    import numpy as np

    from vivavoce.inference.session import Session

    vocabulary = assistant.processor.vocabulary_out
    period = vocabulary.flattening.period if vocabulary is not None else 0
    options = {"max_new_tokens": len(WORDS) + 3 + FRAMES * period} if period else {}
    session = Session(assistant, temperature=0.0, **options)
    if not early:
        session.prefill = "none"
        session.reset()
    first, rate = speech(2.0)
    wave, _ = speech(seconds)
    session.feed_audio(first, rate)
    for _ in session.respond(max_new_tokens=24 if not period else len(WORDS)):
        pass
    size = round(PIECE_S * rate)
    pieces = [wave[at : at + size] for at in range(0, len(wave), size)]
    began = time.perf_counter()
    for piece in pieces[:-1]:
        session.feed_audio(piece, rate)
    busy = (time.perf_counter() - began) / seconds
    if ready is not None:
        ready.wait()
    began = time.perf_counter()
    session.feed_audio(pieces[-1], rate)
    ttft = playing = heard = None
    num_samples, rtf = 0, None
    for delta in session.respond(audio=True):
        now = 1000 * (time.perf_counter() - began)
        if delta.text and ttft is None:
            ttft = now
        if delta.audio is not None and len(delta.audio):
            playing = now if playing is None else playing
            loud = np.flatnonzero(np.abs(delta.audio) > least)
            if heard is None and len(loud):
                heard = max(now, playing + 1000 * (num_samples + int(loud[0])) / delta.sample_rate)
            num_samples += len(delta.audio)
            rate_out = delta.sample_rate
        if heard is not None and ttft is not None and not whole:
            break
    if whole:
        rtf = (time.perf_counter() - began) / (num_samples / rate_out)
    if session.answering:
        session.interrupt()
    assert ttft is not None and heard is not None, "the answer had no text or no sound"
    return Asked(ttft, heard, busy, session._prompt_length, rtf)


def ask_together(assistant: Any, seconds: float, early: bool, sessions: int) -> list[Asked]:
    """The same question in so many sessions, all of which end at once."""
    if sessions == 1:
        return [ask(assistant, seconds, early)]
    from vivavoce.inference.batching.batcher import Batcher

    ready = threading.Barrier(sessions)
    with Batcher(assistant.model) as batcher, ThreadPoolExecutor(sessions) as pool:
        assistant.use(batcher)
        try:
            waiting = [pool.submit(ask, assistant, seconds, early, ready) for _ in range(sessions)]
            return [each.result() for each in waiting]
        finally:
            assistant.use(None)


def spread(values: list[float]) -> dict[str, float]:
    """Median and 95th percentile."""
    import numpy as np

    return {"p50": float(np.quantile(values, 0.5)), "p95": float(np.quantile(values, 0.95))}


def measure(name: str, lengths: list[float], sessions: list[int], rounds: int) -> list[dict[str, Any]]:
    """Rows of one model: one for each number of sessions and each length, rounds of both ways in turn."""
    import torch

    from vivavoce.inference.session import Session

    torch.manual_seed(0)
    assistant = MODELS[name]()
    rows = []
    with scripted(assistant):
        ask(assistant, 2.0, True)
        for count in sessions:
            found: dict[tuple[float, bool], list[Asked]] = {
                (s, e): [] for s in lengths for e in (False, True)
            }
            for _ in range(max(1, rounds // count)):
                for seconds, early in found:
                    found[seconds, early] += ask_together(assistant, seconds, early, count)
            for seconds in lengths:
                row: dict[str, Any] = {"model": name, "prefill": Session(assistant).prefill}
                row |= {"sessions": count, "seconds": seconds, "positions": found[seconds, True][0].positions}
                for early in (False, True):
                    way, all_of = "streaming" if early else "whole", found[seconds, early]
                    row[way] = {
                        key: spread([getattr(one, key) for one in all_of])
                        for key in ("ttft_ms", "first_audio_ms")
                    }
                row["busy"] = statistics.median(one.busy for one in found[seconds, True]) * count
                rows.append(row)
        if name == "nano":
            rtf = [ask(assistant, 2.0, True, whole=True).rtf for _ in range(rounds)]
            rows[0]["rtf"] = spread([value for value in rtf if value is not None])
    return rows


def verdicts(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The figures that have aims, as far as they were measured; with one session, medians."""
    alone = {(row["model"], row["seconds"]): row for row in rows if row["sessions"] == min(_counts(rows))}

    def ttft(model: str, seconds: float, way: str = "streaming") -> float:
        return float(alone[model, seconds][way]["ttft_ms"]["p50"])

    found: list[tuple[str, str, float]] = []
    for model in ("tokens", "blocks"):
        if {(model, 2.0), (model, 30.0)} <= set(alone):
            found.append((model, "30 s / 2 s", ttft(model, 30) / ttft(model, 2)))
        if (model, 20.0) in alone:
            share = ttft(model, 20) / ttft(model, 20, "whole")
            found.append((model, "streaming / whole at 20 s", share))
    for (model, _), row in alone.items():
        if model == "nano" and "rtf" in row:
            found.append((model, "nano RTF", row["rtf"]["p50"]))
            found.append((model, "nano first audio ms", row["streaming"]["first_audio_ms"]["p50"]))
    return [
        {
            "model": model,
            "figure": figure,
            "value": value,
            "aim": AIMS[figure],
            "passed": value <= AIMS[figure],
        }
        for model, figure, value in found
    ]


def _counts(rows: list[dict[str, Any]]) -> set[int]:
    return {row["sessions"] for row in rows} or {1}


def machine(cores: int) -> dict[str, Any]:
    """What it ran on."""
    import torch
    import transformers

    import vivavoce

    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        found = [line.partition(": ")[2] for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = found[0] if found else name
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "cpu": name, "cores": cores, "gpu": gpu, "python": platform.python_version(), "torch": torch.__version__,
        "transformers": transformers.__version__, "vivavoce": vivavoce.__version__,
    }  # fmt: skip


def show(rows: list[dict[str, Any]]) -> None:
    """The table."""
    print("p50 / p95, ms from the end of speech; whole: the recording is read when it has ended")
    heads = ("TTFT whole", "TTFT stream", "sound whole", "sound stream")
    print(
        f"{'model':<7}{'prefill':<8}{'n':>2}{'s':>4}{'read':>6}"
        + "".join(f"{h:>15}" for h in heads)
        + "   busy"
    )
    for row in rows:
        cells = [row[way][key] for key in ("ttft_ms", "first_audio_ms") for way in ("whole", "streaming")]
        text = "".join(f"{cell['p50']:>8.0f} /{cell['p95']:>5.0f}" for cell in cells)
        start = f"{row['model']:<7}{row['prefill']:<8}{row['sessions']:>2}{row['seconds']:>4g}{row['positions']:>6}"
        print(f"{start}{text}{row['busy']:>7.2f}")
    for made in verdicts(rows):
        verdict = "pass" if made["passed"] else "short"
        print(f"{made['model']}: {made['figure']} {made['value']:.2f}, aim {made['aim']:g}: {verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=("cpu", "8b"), default="cpu")
    parser.add_argument("--models", nargs="*", choices=sorted(MODELS), default=list(MODELS))
    parser.add_argument("--seconds", type=float, nargs="*", default=[2, 5, 10, 20, 30])
    parser.add_argument("--sessions", type=int, nargs="*", default=[1, 4])
    parser.add_argument(
        "--rounds", type=int, default=5, help="answers of each kind; together ones count each"
    )
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    given = parser.parse_args()
    if given.shape == "8b":
        script = Path(__file__).parent / "gpu/latency_8b.py"
        os.execv(sys.executable, [sys.executable, str(script), *(["--json"] if given.json else [])])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.cores])
    import torch

    torch.set_num_threads(given.cores)
    about = machine(given.cores)
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    rows = []
    for name in given.models:
        rows += measure(name, given.seconds, given.sessions, given.rounds)
    show(rows)
    if given.json:
        print(json.dumps({**about, "rounds": given.rounds, "rows": rows, "aims": verdicts(rows)}))


if __name__ == "__main__":
    main()
