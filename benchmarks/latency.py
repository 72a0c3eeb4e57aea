"""Time to the first token after the end of speech: python benchmarks/latency.py [--json] [--rounds N] [--seconds S ...]

Questions of 2, 5 and 10 s are fed to a session in pieces of 100 ms, in turn with streaming prefill and without (the
whole question in one piece at the end, and nothing read early); the time runs from the last sample to the first delta
that says something. Feeding is not paced: work that is done while the user speaks is timed too, as a share of the
speech, and must stay below 1 for figures to hold in a live conversation.

- nano: the embedded bundle, whose encoder needs a whole clip, so only the conversation before it is read early;
- tokens: random weights, sound tokens of the nano codec (82 a second) into a Llama of 8 layers of width 512;
- blocks: random weights, a Whisper-tiny-sized encoder by blocks of 160 ms into the same Llama.

Each question is the second turn of a conversation, after one of 2 s. With --json the last line is one object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

CORES = 1
PIECE_S = 0.1
LLAMA = {
    "model_type": "llama", "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8,
    "num_attention_heads": 8, "num_key_value_heads": 8, "max_position_embeddings": 8192,
    "tie_word_embeddings": True, "bos_token_id": None,
}  # fmt: skip


def nano() -> Any:
    """The bundle."""
    import vivavoce

    return vivavoce.load("nano", device="cpu")


def tokens() -> Any:
    """Sound tokens into a larger language model."""
    from tests.inference import tiny

    from vivavoce.codecs.nano import NanoCodec, NanoCodecConfig

    tokenizer, codec = tiny.byte_tokenizer(), NanoCodec(NanoCodecConfig()).eval()
    return tiny.assemble(tokenizer, codec, text=LLAMA, audio_in=tiny.sound(codec, tokenizer, "interleaved"))


def blocks() -> Any:
    """A block-causal encoder into a larger language model."""
    from tests.inference import tiny

    tokenizer = tiny.byte_tokenizer("<|audio|>")
    whisper = {
        "d_model": 384, "encoder_layers": 4, "encoder_attention_heads": 6, "encoder_ffn_dim": 1536,
        "num_mel_bins": 80, "max_source_positions": 1500,
    }  # fmt: skip
    ears = {
        "type": "embeddings",
        "encoder": {"type": "whisper", "model": whisper, "block_frames": 8},
        "connector": {"type": "stack", "encoder_size": 384, "text_size": 512, "hidden_size": 1024},
        "audio_token_id": tokenizer.convert_tokens_to_ids("<|audio|>"),
        "features": {"ending": "hop"},
        "shortest_samples": 320,
    }
    return tiny.assemble(tokenizer, None, text=LLAMA, audio_in=ears)


def speech(seconds: float) -> tuple[Any, int]:
    """The bundle's question again and again, as long as wanted."""
    import numpy as np
    import soundfile

    import vivavoce

    wave, rate = soundfile.read(Path(vivavoce.__file__).parent / "bundle/nano/question.wav", dtype="float32")
    return np.resize(wave, round(seconds * rate)), rate


def ask(assistant: Any, seconds: float, early: bool) -> dict[str, float]:
    """One conversation of two questions; figures of the second."""
    from vivavoce.inference.session import Session

    session = Session(assistant, max_new_tokens=4 if assistant.name == "tiny" else 24)
    first, rate = speech(2.0)
    wave, _ = speech(seconds)
    session.feed_audio(first, rate)
    for _ in session.respond():
        pass
    if not early:
        session._kept.clear()
    size = round(PIECE_S * rate) if early else len(wave)
    # the last piece ends the question, so what comes with it counts as time after the end of speech
    pieces = [wave[at : at + size] for at in range(0, len(wave), size)]
    began = time.perf_counter()
    for piece in pieces[:-1]:
        session.feed_audio(piece, rate)
    busy = time.perf_counter() - began
    began = time.perf_counter()
    session.feed_audio(pieces[-1], rate)
    prompt = 0.0
    for delta in session.respond():
        if delta.text or delta.transcript:
            break
    prompt = time.perf_counter() - began
    positions = session._prompt_length
    session.interrupt()
    return {"ttft_ms": 1000 * prompt, "busy": busy / seconds, "positions": positions}


def measure(seconds: list[float], rounds: int) -> list[dict[str, Any]]:
    """One row for each model and length."""
    import torch

    from vivavoce.inference.session import Session

    torch.set_num_threads(CORES)
    rows = []
    for make in (nano, tokens, blocks):
        torch.manual_seed(0)
        assistant = make()
        ask(assistant, 2.0, True)
        for length in seconds:
            found: dict[bool, list[dict[str, float]]] = {True: [], False: []}
            for _ in range(rounds):
                for early in (False, True):
                    found[early].append(ask(assistant, length, early))
            middle = {e: statistics.median(f["ttft_ms"] for f in found[e]) for e in found}
            rows.append(
                {
                    "model": make.__name__,
                    "prefill": Session(assistant).prefill,
                    "seconds": length,
                    "positions": int(found[True][0]["positions"]),
                    "whole_ttft_ms": middle[False],
                    "streaming_ttft_ms": middle[True],
                    "busy": statistics.median(f["busy"] for f in found[True]),
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, nargs="*", default=[2, 5, 10])
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    rows = measure(given.seconds, given.rounds)
    print(f"ms from the end of speech to the first token, {CORES} core, median of {given.rounds}")
    print(
        f"{'model':<8}{'prefill':<9}{'s':>4}{'positions':>11}{'at the end':>12}{'streaming':>11}{'busy':>7}"
    )
    for row in rows:
        print(
            f"{row['model']:<8}{row['prefill']:<9}{row['seconds']:>4g}{row['positions']:>11}"
            f"{row['whole_ttft_ms']:>12.0f}{row['streaming_ttft_ms']:>11.0f}{row['busy']:>7.2f}"
        )
    if given.json:
        print(json.dumps({"cores": CORES, "rounds": given.rounds, "rows": rows}))


if __name__ == "__main__":
    main()
