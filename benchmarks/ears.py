"""Ears by embeddings, ours against the naive way: python benchmarks/ears.py [--json] [--clips N] [--minutes M ...]

One model with random weights (a Whisper-tiny-sized encoder, the stack projector, a 60 M Llama) answers questions of 1
to 15 s in two ways, in turn, in one process:

- naive: one clip at a time, each padded to 30 s before the encoder, all 188 embeddings read by the language model;
- ours: all clips in one batch, no padding to 30 s, clips of like length through the encoder together.

Both make features from waveforms, hear, read the prompt and write 8 tokens greedily. A second table gives the peak
memory of hearing one long recording, each length in a process of its own. With --json the last line is one object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

CORES = 2
NEW_TOKENS = 8
PROMPT_TOKENS = 24
PLACEHOLDER = 32_000
AIM_SPEEDUP = 3.0


def build() -> Any:
    """A model of the size that people try things with; random weights."""
    import torch

    from vivavoce.models.config import SpeechLMConfig
    from vivavoce.models.speech_lm import SpeechLM

    torch.manual_seed(0)
    llm = {
        "model_type": "llama", "vocab_size": 32_000, "hidden_size": 512, "intermediate_size": 1408,
        "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 8,
        "max_position_embeddings": 8192, "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": None,
    }  # fmt: skip
    whisper = {
        "d_model": 384, "encoder_layers": 4, "encoder_attention_heads": 6, "encoder_ffn_dim": 1536,
        "num_mel_bins": 80, "max_source_positions": 1500,
    }  # fmt: skip
    ears = {
        "type": "embeddings",
        "encoder": {"type": "whisper", "model": whisper},
        "connector": {"type": "stack", "encoder_size": 384, "text_size": 512, "hidden_size": 1024},
        "audio_token_id": PLACEHOLDER,
        "features": {"ending": "hop"},
        "shortest_samples": 320,
    }
    return SpeechLM(SpeechLMConfig(text_config=llm, audio_in=ears)).eval()


def clips_of(count: int, low_s: float = 1.0, high_s: float = 15.0) -> list[Any]:
    """Noise of evenly drawn lengths; what is in it does not matter for time."""
    import numpy as np

    rng = np.random.default_rng(0)
    return [
        (0.1 * rng.standard_normal(int(16_000 * s))).astype(np.float32)
        for s in rng.uniform(low_s, high_s, count)
    ]


def answer_ours(model: Any, reader: Any, clips: list[Any], new_tokens: int) -> Any:
    """All clips in one left-padded batch."""
    import torch

    heard = reader.read(clips)
    rows = [[1] * PROMPT_TOKENS + [PLACEHOLDER] * n + [1] * PROMPT_TOKENS for n in heard.positions]
    size = max(map(len, rows))
    ids = torch.tensor([[0] * (size - len(r)) + r for r in rows])
    mask = torch.tensor([[0] * (size - len(r)) + [1] * len(r) for r in rows])
    index = torch.tensor([i for i, n in enumerate(heard.chunks) for _ in range(n)])
    return model.generate(
        input_ids=ids, attention_mask=mask, input_features=heard.features, feature_lengths=heard.lengths,
        audio_batch_index=index, max_new_tokens=new_tokens, do_sample=False, pad_token_id=0,
    )  # fmt: skip


def answer_naive(model: Any, clips: list[Any], new_tokens: int) -> None:
    """One clip at a time, each padded to 30 s."""
    import numpy as np
    import torch

    from vivavoce.audio.features import LogMel

    mel = LogMel(num_mels=80, ending="hop")
    for clip in clips:
        wave = torch.from_numpy(np.pad(clip, (0, 480_000 - len(clip))))[None]
        features, _ = mel(wave)
        ids = torch.tensor([[1] * PROMPT_TOKENS + [PLACEHOLDER] * 188 + [1] * PROMPT_TOKENS])
        model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), input_features=features,
            max_new_tokens=new_tokens, do_sample=False, pad_token_id=0,
        )  # fmt: skip


def measure(count: int, rounds: int) -> dict[str, Any]:
    """Clips per second and time to the first token, both ways in turn."""
    import torch

    from vivavoce.models.clips import ClipReader

    torch.set_num_threads(CORES)
    model, clips = build(), clips_of(count)
    reader = ClipReader(model.config.audio_in)
    single = clips_of(1, 5.0, 5.001)
    times: dict[str, list[float]] = {"ours": [], "naive": [], "ours_first": [], "naive_first": []}
    runs = {
        "ours": lambda: answer_ours(model, reader, clips, NEW_TOKENS),
        "naive": lambda: answer_naive(model, clips, NEW_TOKENS),
        "ours_first": lambda: answer_ours(model, reader, single, 1),
        "naive_first": lambda: answer_naive(model, single, 1),
    }
    with torch.inference_mode():
        runs["ours_first"](), runs["naive_first"]()  # warm up
        for _ in range(rounds):
            for name, run in runs.items():
                began = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - began)
    middle = {name: statistics.median(values) for name, values in times.items()}
    return {
        "clips": count,
        "seconds_of_audio": round(sum(map(len, clips)) / 16_000, 1),
        "parameters": sum(p.numel() for p in model.parameters()),
        "ours_clips_per_s": count / middle["ours"],
        "naive_clips_per_s": count / middle["naive"],
        "speedup": middle["naive"] / middle["ours"],
        "ours_ttft_ms": 1000 * middle["ours_first"],
        "naive_ttft_ms": 1000 * middle["naive_first"],
    }


def peak_mb() -> float:
    """Largest resident memory of this process so far."""
    with open("/proc/self/status") as status:  # noqa: PTH123  (not a file of ours)
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


def measure_long(minutes: float) -> dict[str, float]:
    """Peak memory that hearing and reading a recording of some minutes adds to the loaded model, in this process."""
    import torch

    from vivavoce.models.clips import ClipReader

    torch.set_num_threads(CORES)
    model = build()
    reader = ClipReader(model.config.audio_in)
    with torch.inference_mode():
        answer_ours(model, reader, clips_of(1, 5.0, 5.001), 1)
        before = peak_mb()
        began = time.perf_counter()
        answer_ours(model, reader, clips_of(1, 60 * minutes, 60 * minutes + 0.001), 1)
    return {"minutes": minutes, "added_mb": peak_mb() - before, "seconds": time.perf_counter() - began}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, nargs="*", default=[1, 2, 5, 10])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only-long", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    if given.only_long:
        print(json.dumps(measure_long(given.only_long)))
        return
    found = measure(given.clips, given.rounds)
    print(
        f"{found['clips']} clips of 1 to 15 s ({found['seconds_of_audio']} s), {found['parameters'] / 1e6:.0f} M "
        f"parameters, {CORES} cores, median of {given.rounds}"
    )
    print(f"{'way':<8}{'clips/s':>10}{'ms to first token (5 s clip)':>32}")
    for way in ("naive", "ours"):
        print(f"{way:<8}{found[way + '_clips_per_s']:>10.2f}{found[way + '_ttft_ms']:>32.0f}")
    print(f"ours / naive: {found['speedup']:.2f} x clips/s (aim {AIM_SPEEDUP:g})")
    found["long"] = []
    for minutes in given.minutes:
        command = [sys.executable, __file__, "--only-long", str(minutes)]
        row = json.loads(
            subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
        )
        found["long"].append(row)
        print(f"{minutes:>5g} min heard and read: {row['added_mb']:6.0f} MB more, {row['seconds']:5.1f} s")
    if given.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
