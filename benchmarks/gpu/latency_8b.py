"""Latency at 8B on one GPU: python benchmarks/gpu/latency_8b.py [--json] [--seconds 2 5 10 20 30] [--rounds N]

Llama 3 8B in bfloat16 with a Whisper-large-sized encoder by blocks of 160 ms and a SNAC voice (24 kHz), random weights,
made on the device; nothing is downloaded. In order:

1. streaming equals offline: a short question in pieces to a small model of the same parts in float32 must give the
   text, the codes, and the audio (within 1e-5) of one call; at 8B the logits are compared, as bfloat16 rounds;
2. time to first text and to the first sound after the end of speech, as benchmarks/latency.py takes them, with
   streaming prefill and without;
3. tokens a second of our token loop at batch 1, as a share of what reading weights and cache once per token allows at
   the bandwidth that a copy reaches on this device, and beside ``generate``.

Without a GPU nothing is measured; ``--tiny`` runs all of it in small on any machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))

AIMS = {"ttft_ms": 40.0, "first_audio_ms": 120.0, "share_of_bandwidth": 0.7, "times_generate": 4.0}
ROUNDED = 0.1  # of the spread of the logits; bfloat16
LLAMA = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 8192, "vocab_size": 156_940,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}, "bos_token_id": None,
}  # fmt: skip
WHISPER = {
    "d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120,
    "num_mel_bins": 128, "max_source_positions": 1500,
}  # fmt: skip
SMALL_LLAMA = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 29_500,
}  # fmt: skip
SMALL_WHISPER = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 48}


def build(small: bool, device: str, dtype: torch.dtype) -> Any:
    """An assistant with random weights on a device."""
    from tests.inference import tiny
    from transformers import AutoConfig, AutoModelForCausalLM

    from vivavoce.codecs.snac import SNACCodec, SNACConfig
    from vivavoce.inference.assistant import Assistant
    from vivavoce.models.config import SpeechLMConfig
    from vivavoce.models.processor import SpeechProcessor
    from vivavoce.models.speech_lm import SpeechLM

    sizes, whisper = (
        {**LLAMA, **(SMALL_LLAMA if small else {})},
        {**WHISPER, **(SMALL_WHISPER if small else {})},
    )
    tokenizer = tiny.byte_tokenizer("<|audio|>")
    torch.manual_seed(0)
    snac = SNACConfig(24_000, 48, (2, 4, 8, 8), None, 1024, (8, 8, 4, 2), None, 4096, 8, (4, 2, 1))
    if small:
        snac = SNACConfig(24_000, 4, (2, 4, 8, 8), None, 64, (8, 8, 4, 2), None, 4096, 4, (4, 2, 1))
    codec = SNACCodec(snac).eval().to(device)
    ears = {
        "type": "embeddings",
        "encoder": {"type": "whisper", "model": whisper, "block_frames": 8},
        "connector": {
            "type": "stack", "encoder_size": whisper["d_model"], "text_size": sizes["hidden_size"], "hidden_size": 4096,
        },
        "audio_token_id": tokenizer.convert_tokens_to_ids("<|audio|>"),
        "features": {"num_mels": 128, "ending": "hop"},
        "shortest_samples": 320,
    }  # fmt: skip
    mouth = tiny.sound(codec, tokenizer)
    kind = str(sizes["model_type"])
    text_config = AutoConfig.for_model(kind, **{k: v for k, v in sizes.items() if k != "model_type"})
    with torch.device(device):
        text = AutoModelForCausalLM.from_config(text_config, dtype=dtype)
        config = SpeechLMConfig(text_config=text.config, audio_in=ears, audio_out=mouth)
        model = SpeechLM(config, text_model=text).to(dtype).eval()
    processor = SpeechProcessor.for_config(tokenizer, config)
    processor._shelf.items["codec"] = codec
    return Assistant(model, processor, "8B" if not small else "small")


def same(assistant: Any, exact: bool) -> dict[str, Any]:
    """Compare a question in pieces with the same question in one call.

    Args:
        assistant: The model.
        exact: Text, codes and audio too; else the logits after the prompt.

    Raises:
        SystemExit: They differ.
    """
    import latency
    import numpy as np

    from vivavoce.inference.collect import collect
    from vivavoce.inference.session import Session

    wave, rate = latency.speech(2.5)
    part = {"type": "audio", "audio": wave, "sampling_rate": rate}
    messages = [{"role": "user", "content": [part]}]
    options = {"temperature": 0.0, "max_new_tokens": 60}
    session = Session(assistant, **options)
    for at in range(0, len(wave), rate // 10):
        session.feed_audio(wave[at : at + rate // 10], rate)
    with latency.scripted(assistant):
        streamed = collect(session.respond(audio=True), assistant.sample_rate)
        whole = assistant.chat(messages, audio=True, **options)
    prompt = assistant.processor.prepare(messages)
    device = assistant.model.device
    with torch.inference_mode():
        ids = torch.tensor([prompt.pop("input_ids")], device=device)
        logits = assistant.model(input_ids=ids, **prompt, logits_to_keep=1).logits[0, -1].float()
    _, kept = session._kept._logits
    error = float((kept.float() - logits).abs().max() / logits.std())
    audio = (
        float(np.abs(streamed.audio - whole.audio).max()) if len(streamed.audio) == len(whole.audio) else None
    )
    found = {
        "logits": error,
        "text": streamed.text == whole.text,
        "audio": audio,
        "samples": len(whole.audio),
    }
    good = found["text"] and audio is not None and audio < 1e-5 and error < 1e-3 if exact else error < ROUNDED
    if not good:
        raise SystemExit(f"streaming is not as offline: {found}")
    return found


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def bandwidth(device: str) -> float:
    """Bytes a second that a copy reads and writes."""
    size = 1 << (32 if device == "cuda" else 27)
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target, best = torch.empty_like(source), 0.0
    for _ in range(8):
        synchronise(device)
        began = time.perf_counter()
        target.copy_(source)
        synchronise(device)
        best = max(best, 2 * size / (time.perf_counter() - began))
    return best


def decode(assistant: Any, new_tokens: int, rounds: int, device: str) -> dict[str, float]:
    """Our token loop at batch 1, its bound, and ``generate``."""
    from vivavoce.inference.generate import Decoding, TokenRun
    from vivavoce.inference.sampling import Sampler, SamplingOptions

    model = assistant.model
    prompt = assistant.processor.prepare([{"role": "user", "content": "what is seven plus five " * 8}])[
        "input_ids"
    ]
    ids = torch.tensor([prompt], device=model.device)

    def ours() -> float:
        decoding = Decoding(model)
        logits = decoding.feed(prompt)
        run = iter(TokenRun(decoding, logits, Sampler(SamplingOptions(temperature=0.0)), (), new_tokens + 1))
        next(run)
        synchronise(device)
        began = time.perf_counter()
        for _ in run:
            pass
        synchronise(device)
        return (time.perf_counter() - began) / new_tokens

    def theirs() -> float:
        def timed(count: int) -> float:
            synchronise(device)
            began = time.perf_counter()
            model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count,
                min_new_tokens=count, eos_token_id=None, pad_token_id=0,
            )  # fmt: skip
            synchronise(device)
            return time.perf_counter() - began

        short = timed(1)
        return (timed(new_tokens + 1) - short) / new_tokens

    ours(), theirs()
    one, other = (statistics.median(work() for _ in range(rounds)) for work in (ours, theirs))
    text = model.language_model
    config, item = text.config, next(text.parameters()).element_size()
    table = text.get_input_embeddings().weight
    weights = sum(p.numel() * p.element_size() for p in text.parameters())
    if not config.tie_word_embeddings:
        weights -= table.numel() * table.element_size()  # one row of it is read
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    length = len(prompt) + new_tokens / 2
    cache = 2 * config.num_hidden_layers * config.num_key_value_heads * head * length * item
    speed = bandwidth(device)
    bound = (weights + cache) / speed
    return {
        "tokens_per_s": 1 / one, "generate_tokens_per_s": 1 / other, "times_generate": other / one,
        "bandwidth_gb_s": speed / 1e9, "bound_tokens_per_s": 1 / bound, "share_of_bandwidth": bound / one,
    }  # fmt: skip


def measure(given: argparse.Namespace, device: str) -> dict[str, Any]:
    """Everything; prints as it goes."""
    import latency

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    small = build(True, device, torch.float32)
    found: dict[str, Any] = {
        **latency.machine(torch.get_num_threads()),
        "same_float32": same(small, exact=True),
    }
    print(f"streaming = offline in float32: {found['same_float32']}", flush=True)
    assistant = small if given.tiny else build(False, device, torch.bfloat16)
    count = sum(p.numel() for p in assistant.model.parameters())
    print(f"{count:,} parameters in {assistant.model.dtype} on {found['gpu'] if device == 'cuda' else 'CPU'}")
    found |= {"parameters": count, "same": same(assistant, exact=False)}
    print(
        f"logits of streaming and offline differ by {found['same']['logits']:.1e} of their spread", flush=True
    )
    rows = []
    with latency.scripted(assistant):
        latency.ask(assistant, 2.0, True, least=0.0)
        for seconds in given.seconds:
            row: dict[str, Any] = {"seconds": seconds}
            for early in (False, True):
                asked = [latency.ask(assistant, seconds, early, least=0.0) for _ in range(given.rounds)]
                row["streaming" if early else "whole"] = {
                    key: latency.spread([getattr(one, key) for one in asked])
                    for key in ("ttft_ms", "first_audio_ms")
                }
                row["busy"] = statistics.median(one.busy for one in asked)
            rows.append(row)
            cells = [row[way][key] for way in ("whole", "streaming") for key in ("ttft_ms", "first_audio_ms")]
            text = " | ".join(f"{cell['p50']:.0f} / {cell['p95']:.0f}" for cell in cells)
            print(
                f"{seconds:g} s: whole text, sound | streaming text, sound: {text} ms; busy {row['busy']:.2f}",
                flush=True,
            )
    found |= {"rows": rows, "decode": decode(assistant, given.tokens, 3, device)}
    made = found["decode"]
    print(
        f"decode: {made['tokens_per_s']:.1f} tokens/s of {made['bound_tokens_per_s']:.1f} that "
        f"{made['bandwidth_gb_s']:.0f} GB/s allow ({made['share_of_bandwidth']:.0%}); "
        f"generate {made['generate_tokens_per_s']:.1f}"
    )
    streaming = rows[0]["streaming"]
    values = {key: streaming[key]["p50"] for key in ("ttft_ms", "first_audio_ms")}
    values |= {key: made[key] for key in ("share_of_bandwidth", "times_generate")}
    found["aims"] = {}
    for key, value in values.items():
        passed = value <= AIMS[key] if key.endswith("_ms") else value >= AIMS[key]
        found["aims"][key] = {"value": value, "aim": AIMS[key], "passed": passed}
        if not given.tiny:
            print(f"{key} {value:.3g}, aim {AIMS[key]:g}: {'pass' if passed else 'short'}")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, nargs="*", default=[2, 5, 10, 20, 30])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128, help="of the token loop")
    parser.add_argument("--tiny", action="store_true", help="small sizes, on any machine")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    given = parser.parse_args(arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not given.tiny:
        print("there is no GPU here, so nothing was measured; --tiny runs all of it in small")
        return
    found = measure(given, device)
    if given.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
