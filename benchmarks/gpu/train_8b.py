"""Training at 8B on one GPU: python benchmarks/gpu/train_8b.py [--json] [--only full projector lora] [--tokens N]

Llama 3 8B with 1,026 sound tokens (the preset `jan_llama3`), random weights, made on the GPU; nothing is downloaded.

- full: every weight by Adam-mini, rows as in Jan-Llama3: speech of 2 to 20 s as 150 tokens a second and an answer that
  is learned, packed into micro-batches of 16,384 tokens, no row above 4,096;
- projector: Ultravox's stack projector is taught by distillation, the language model stays as it is;
- lora: adapters of rank 16 on all linear layers of attention and MLP.

bfloat16, attention within documents (varlen), cross entropy in chunks, layers compiled, every second layer computed
again backwards. Told are tokens a second, MFU (by 6 x parameters + 12 x layers x width x length a token, over the
device's dense bfloat16 peak) and peak memory. Without a GPU the plan is printed: memory, FLOPs, and what the aim means.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

AIM_TOKENS_PER_S, AIM_MFU = 10_000, 0.45
LONGEST, CODES_PER_S = 4096, 150
SOUND = (128_258, 129_282)
H200_PEAK, H200_BYTES = 989e12, 139 * 2**30
LEARNED = {
    "full": {"language_model": "full"},
    "projector": {"language_model": "frozen", "connector": "full"},
    "lora": {
        "language_model": "lora",
        "lora": {
            "language_model": {
                "rank": 16,
                "targets": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
            }
        },
    },
}


def recipe(way: str, tokens: int, recompute: str, compiled: bool) -> Any:
    """The run as a recipe would say it."""
    from vivavoce.training.config import (
        BatchSettings,
        DataSettings,
        ModelSettings,
        OptimizerSettings,
        ParallelSettings,
        SetSettings,
        TrainConfig,
    )

    return TrainConfig(
        model=ModelSettings(start="jan_llama3", dtype="bfloat16"),
        train=LEARNED[way],
        objective={"type": "distill" if way == "projector" else "sft"},
        data=DataSettings(sets=(SetSettings(path="made"),)),
        batch=BatchSettings(max_tokens=tokens),
        optimizer=OptimizerSettings(type="adamw" if way != "full" else "adam_mini", lr=5e-5),
        parallel=ParallelSettings(activation_checkpointing=recompute, compile=compiled),  # type: ignore[arg-type]
    )


def build(way: str, device: str, tiny: bool = False) -> Any:
    """The model with random bfloat16 weights on a device, with what is trained chosen."""
    from transformers import AutoModelForCausalLM

    from vivavoce.base.records import read_record
    from vivavoce.models.config import EmbeddingsIn, SpeechLMConfig
    from vivavoce.models.presets.jan_llama3 import JAN_LLAMA3
    from vivavoce.models.speech_lm import SpeechLM
    from vivavoce.training.trainable import Trainable, choose

    ears = None
    if way == "projector":
        whisper = {
            "d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120,
            "num_mel_bins": 128, "max_source_positions": 1500,
        }  # fmt: skip
        if tiny:
            whisper |= {"encoder_layers": 1, "encoder_ffn_dim": 64}
        ears = EmbeddingsIn(
            encoder={"type": "whisper", "model": whisper},
            connector={
                "type": "stack",
                "encoder_size": 1280,
                "text_size": 64 if tiny else 4096,
                "hidden_size": 4096,
            },
            audio_token_id=128_255,
            features={"num_mels": 128, "ending": "hop"},
            shortest_samples=320,
        )
    sizes = JAN_LLAMA3.text_config()
    if tiny:
        sizes.hidden_size, sizes.intermediate_size, sizes.num_hidden_layers = 64, 96, 2
        sizes.num_attention_heads, sizes.num_key_value_heads, sizes.head_dim = 4, 2, 16
    torch.manual_seed(0)
    with torch.device(device):
        text = AutoModelForCausalLM.from_config(sizes, dtype=torch.bfloat16)
        model = SpeechLM(SpeechLMConfig(text_config=text.config, audio_in=ears), text_model=text)
        model.to(torch.bfloat16)
        choose(model, read_record(Trainable, LEARNED[way], "train"))
    model.config.use_cache = False
    return model


def documents_of(way: str, tokens: int, seed: int = 0) -> list[Any]:
    """Rows that fill a micro-batch: speech of 2 to 20 s, and an answer of a third of its time, learned."""
    import numpy as np

    from vivavoce.models.clips import ClipInputs
    from vivavoce.training.documents import EMBEDDED, FIRST_SLOT, Document

    rng = np.random.default_rng(seed)
    made: list[Any] = []
    left = tokens
    while left >= 512:
        seconds = float(rng.uniform(2, 20))
        heard = int(6.25 * seconds) if way == "projector" else int(CODES_PER_S * seconds)
        answer = rng.integers(1000, 100_000, max(8, int(8 * seconds)))
        size = min(heard + len(answer), left, LONGEST)
        heard = min(heard, size - 8)
        answer = answer[: size - heard]
        weights = np.concatenate([np.zeros(heard), np.ones(len(answer))]).astype(np.float32)
        if way != "projector":
            codes = rng.integers(*SOUND, heard)
            kinds = np.concatenate([FIRST_SLOT + np.arange(heard) % 2, np.zeros(len(answer))]).astype(np.int8)
            made.append(Document(str(len(made)), "made", np.concatenate([codes, answer]), weights, kinds))
            left -= size
            continue
        said = rng.integers(1000, 100_000, max(4, int(4 * seconds)))
        frames = 16 * heard
        features = ClipInputs(torch.randn(1, 128, frames), torch.tensor([frames]), [1], [heard])
        kinds = np.concatenate([np.full(heard, EMBEDDED), np.zeros(len(answer))]).astype(np.int8)
        ids = np.concatenate([np.full(heard, 128_255), answer])
        read = (
            np.concatenate([said, answer]),
            np.concatenate([np.zeros(len(said)), weights[heard:]]).astype(np.float32),
        )
        made.append(Document(str(len(made)), "made", ids, weights, kinds, features, frames / 100, read))
        left -= size
    return made


def describe(way: str, tokens: int, recompute: str) -> dict[str, Any]:
    """What a run would take, by shapes alone."""
    from vivavoce.training.memory import estimate
    from vivavoce.training.speed import flops_per_token
    from vivavoce.training.world import World

    model = build(way, "meta")
    config = recipe(way, tokens, recompute, True)
    world = replace(World(), device=torch.device("meta"))
    memory = replace(estimate(model, config, world), available=H200_BYTES)
    length = sum(map(len, found := documents_of(way, tokens))) // len(found)
    flops = flops_per_token(model, length)
    return {
        "way": way,
        "parameters": sum(p.numel() for p in model.parameters()),
        "trained": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "tokens": tokens,
        "documents": len(found),
        "mean_length": length,
        "gflop_per_token": flops / 1e9,
        "memory": memory.as_dict(),
        "tokens_per_s_at_aim": AIM_MFU * H200_PEAK / flops,
    }


def measure(
    way: str, tokens: int, recompute: str, compiled: bool, steps: int, tiny: bool = False
) -> dict[str, Any]:
    """Train: updates of one micro-batch each, the first ones not counted."""
    from vivavoce.training.objectives import OBJECTIVES
    from vivavoce.training.optimizers import build_optimizer
    from vivavoce.training.packed_attention import use_packed_attention
    from vivavoce.training.packing import make_batch
    from vivavoce.training.parallel import finish_gradients, spread
    from vivavoce.training.speed import flops_per_token, peak_flops
    from vivavoce.training.trainable import train_mode
    from vivavoce.training.world import World

    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")

    def now() -> float:
        if on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter()

    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    world = World(device=device)
    config = recipe(way, tokens, recompute, compiled)
    model = build(way, device.type, tiny)
    use_packed_attention(model.language_model)
    parallel = config.parallel
    spread(model, world, "none", activation_checkpointing=parallel.activation_checkpointing, compile=compiled)
    train_mode(model)
    optimizer = build_optimizer(config.optimizer.type, model, lr=5e-5)
    objective = OBJECTIVES.get(str(config.objective["type"]))(num_slots=2)
    batches = [make_batch(documents_of(way, tokens, seed), pad_to=tokens) for seed in range(steps)]
    warm, taken, losses = 3, [], []
    for batch in batches:
        totals = objective.totals([batch])
        began = now()
        loss, _ = objective(model, batch.to(device), totals)
        loss.backward()
        finish_gradients(model, world, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        taken.append(now() - began)
        losses.append(float(loss.detach()))
    useful = sum(batch.num_tokens - batch.padding for batch in batches[warm:])
    speed = useful / sum(taken[warm:])
    length = useful // sum(len(batch.ids) for batch in batches[warm:])
    peak = peak_flops(device)
    return {
        "way": way,
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "tokens_per_s": speed,
        "mfu": speed * flops_per_token(model, length) / peak if peak else None,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if on_gpu else None,
        "mean_length": length,
        "update_s": [round(t, 3) for t in taken],
        "losses": [losses[0], losses[-1]],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    from vivavoce.training.memory import gib

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=sorted(LEARNED), nargs="*", default=list(LEARNED))
    parser.add_argument("--tokens", type=int, default=16_384, help="of a micro-batch")
    parser.add_argument("--recompute", choices=["none", "selective", "full"], default="selective")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--steps", type=int, default=13, help="updates, of which 3 warm up")
    parser.add_argument(
        "--tiny", action="store_true", help=argparse.SUPPRESS
    )  # runs all of it on any machine
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    given = parser.parse_args(arguments)
    made = []
    for way in given.only:
        plan = describe(way, given.tokens, given.recompute)
        memory = plan["memory"]
        parts = ("weights", "gradients", "optimizer", "activations", "logits")
        print(
            f"{way}: {plan['parameters']:,} parameters, {plan['trained']:,} trained; {plan['documents']} documents of "
            f"{plan['mean_length']} tokens on average in a micro-batch of {given.tokens:,}"
        )
        print(f"  memory about {gib(memory['total'])}: {', '.join(f'{p} {gib(memory[p])}' for p in parts)}")
        print(
            f"  {plan['gflop_per_token']:.1f} GFLOP a token; {AIM_MFU:.0%} of an H200 would be "
            f"{plan['tokens_per_s_at_aim']:,.0f} tokens/s (aim for full: {AIM_TOKENS_PER_S:,})"
        )
        made.append({"plan": plan})
        if not torch.cuda.is_available() and not given.tiny:
            continue
        compiled = not given.no_compile
        found = measure(way, given.tokens, given.recompute, compiled, given.steps, given.tiny)
        made[-1]["measured"] = found
        mfu = "unknown" if found["mfu"] is None else f"{found['mfu']:.1%}"
        peak = "unknown" if found["peak_gib"] is None else f"{found['peak_gib']:.1f} GiB"
        print(
            f"  measured on {found['device']}: {found['tokens_per_s']:,.0f} tokens/s, MFU {mfu}, peak {peak}, "
            f"loss {found['losses'][0]:.2f} to {found['losses'][1]:.2f}",
            flush=True,
        )
        torch.cuda.empty_cache()
    if not torch.cuda.is_available():
        print("there is no GPU here, so nothing was measured")
    if given.json:
        print(json.dumps(made))


if __name__ == "__main__":
    main()
