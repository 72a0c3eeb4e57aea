"""Useful tokens a second of training, ours against a padded loop: python benchmarks/train.py [--json] [--rows N]

The same Llama (width 256, 6 layers, 8,192 tokens, random weights) learns the same rows in the same updates in two ways,
in turn, in one process:

- padded: ``transformers.Trainer`` with a collator that pads to the longest row of a batch, attention "sdpa", AdamW;
- ours: documents packed without padding, attention within each, cross entropy at learned positions in chunks, AdamW.

Rows are as in LibriSpeech: speech of 1.5 to 35 s (log-normal) as codes of `nano` (82 a second) or EnCodec (150), and
then the transcript, which is learned. Useful tokens are those of rows, not padding. Losses of each update are compared.
The state of the optimizers is counted from its tensors. The best of alternating rounds counts, by the clock and by the
CPU seconds of this process, since other work on a machine only ever slows a round down; with ``--threads 1`` no thread
waits for another, which makes CPU seconds mean something on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from typing import Any

VOCABULARY, FIRST_CODE, PAD = 8192, 6000, 0
RATES = {"nano": 82, "encodec": 150}
CHARACTERS_PER_S, CHARACTERS_PER_TOKEN = 15, 4
AIM = 1.7
IGNORED = -100


def rows_of(count: int, codec: str, seed: int = 0) -> list[tuple[Any, Any]]:
    """Ids int64 [L] and weights float32 [L] of rows: codes that are read, a transcript that is learned."""
    import numpy as np

    rng = np.random.default_rng(seed)
    made = []
    while len(made) < count:
        seconds = float(rng.lognormal(np.log(11.0), 0.6))
        if not 1.5 <= seconds <= 35:
            continue
        codes = rng.integers(FIRST_CODE, VOCABULARY, int(RATES[codec] * seconds))
        text = rng.integers(1, FIRST_CODE, max(2, int(seconds * CHARACTERS_PER_S / CHARACTERS_PER_TOKEN)))
        weights = np.concatenate([np.zeros(len(codes)), np.ones(len(text))]).astype(np.float32)
        made.append((np.concatenate([codes, text]).astype(np.int64), weights))
    return made


def build(seed: int = 0) -> Any:
    """The model, with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=256, intermediate_size=768, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=8192, tie_word_embeddings=False, bos_token_id=None,
        eos_token_id=None, pad_token_id=PAD, attn_implementation="sdpa",
    )  # fmt: skip
    return LlamaForCausalLM(config)


def train_padded(
    rows: list[tuple[Any, Any]], batch: int, lr: float
) -> tuple[tuple[float, float], list[float]]:
    """Seconds by the clock and of CPUs, and losses of ``transformers.Trainer`` on rows in order."""
    import torch
    from torch.utils.data import SequentialSampler
    from transformers import Trainer, TrainingArguments

    class InOrder(Trainer):
        def _get_train_sampler(self, *_: Any) -> Any:
            return SequentialSampler(self.train_dataset)

    def collate(picked: list[Any]) -> dict[str, Any]:
        longest = max(len(ids) for ids, _ in picked)
        ids = torch.full((len(picked), longest), PAD)
        labels, mask = torch.full_like(ids, IGNORED), torch.zeros_like(ids)
        for i, (given, weights) in enumerate(picked):
            ids[i, : len(given)] = torch.from_numpy(given)
            learned = torch.from_numpy(weights) > 0
            labels[i, : len(given)][learned] = torch.from_numpy(given)[learned]
            mask[i, : len(given)] = 1
        return {"input_ids": ids, "labels": labels, "attention_mask": mask}

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=batch, num_train_epochs=1, learning_rate=lr,
            lr_scheduler_type="constant", logging_strategy="steps", logging_steps=1, save_strategy="no", report_to=[],
            use_cpu=True, max_grad_norm=1.0, optim="adamw_torch_fused", remove_unused_columns=False, disable_tqdm=True,
            seed=0, dataloader_num_workers=0,
        )  # fmt: skip
        trainer = InOrder(model=build(), args=arguments, train_dataset=rows, data_collator=collate)
        trainer.remove_callback(next(c for c in _callbacks(trainer) if type(c).__name__ == "PrinterCallback"))
        began = _now()
        trainer.train()
        seconds = _since(began)
    return seconds, [line["loss"] for line in trainer.state.log_history if "loss" in line]


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(began: tuple[float, float]) -> tuple[float, float]:
    now = _now()
    return now[0] - began[0], now[1] - began[1]


def _callbacks(trainer: Any) -> list[Any]:
    return list(trainer.callback_handler.callbacks)


def train_packed(
    rows: list[tuple[Any, Any]], batch: int, lr: float, max_tokens: int
) -> tuple[tuple[float, float], list[float]]:
    """The same by the parts of the loop of this package."""
    import numpy as np
    import torch

    from vivavoce.training.documents import Document
    from vivavoce.training.objectives import Sft
    from vivavoce.training.optimizers import build_optimizer
    from vivavoce.training.packed_attention import use_packed_attention
    from vivavoce.training.packing import make_batch, pack
    from vivavoce.training.parallel import finish_gradients
    from vivavoce.training.world import World

    model, world = build(), World()
    use_packed_attention(model)
    model.train()
    optimizer, objective = build_optimizer("adamw", model, lr=lr), Sft()
    losses = []
    began = _now()
    for start in range(0, len(rows), batch):
        documents = [
            Document(str(i), "rows", ids, weights, np.zeros(len(ids), dtype=np.int8))
            for i, (ids, weights) in enumerate(rows[start : start + batch])
        ]
        batches = [make_batch([documents[i] for i in group]) for group in pack(documents, max_tokens)]
        totals = objective.totals(batches)
        loss = torch.zeros(())
        for one in batches:
            part, _ = objective(model, one, totals)
            part.backward()
            loss += part.detach()
        finish_gradients(model, world, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss))
    return _since(began), losses


def measure_states() -> dict[str, float]:
    """Bytes of optimizer state for each trained value, from the tensors after a step."""
    import torch

    from vivavoce.training.memory import state_bytes
    from vivavoce.training.optimizers import build_optimizer

    model = build()
    values = sum(p.numel() for p in model.parameters())
    made = {}
    for name in ("adamw", "adam_mini"):
        for p in model.parameters():
            p.grad = torch.full_like(p, 1e-3)
        optimizer = build_optimizer(name, model, lr=1e-6)
        optimizer.step()
        made[name] = state_bytes(optimizer) / values
    return made


def measure(
    count: int, batch: int, rounds: int, codec: str, max_tokens: int, threads: int, lr: float = 3e-4
) -> dict[str, Any]:
    """Both ways in turn; the best round of each counts."""
    import torch
    import transformers

    torch.set_num_threads(threads)
    transformers.logging.set_verbosity_error()
    rows = rows_of(count, codec)
    useful = sum(len(ids) for ids, _ in rows)
    groups = [rows[i : i + batch] for i in range(0, count, batch)]
    padded = sum(len(group) * max(len(ids) for ids, _ in group) for group in groups)
    few = sorted(rows, key=lambda row: len(row[0]))[:2]
    train_padded(few, 2, lr), train_packed(few, 2, lr, max_tokens)  # first calls are slow
    times: dict[str, list[tuple[float, float]]] = {"padded": [], "ours": []}
    apart = 0.0
    for number in range(rounds):
        found = {}
        for way in ("padded", "ours") if number % 2 == 0 else ("ours", "padded"):
            run = (
                train_padded(rows, batch, lr)
                if way == "padded"
                else train_packed(rows, batch, lr, max_tokens)
            )
            times[way].append(run[0])
            found[way] = run[1]
        assert len(found["ours"]) == len(found["padded"]) == len(groups)
        apart = max(apart, *(abs(a - b) for a, b in zip(found["ours"], found["padded"], strict=True)))
    walls = {way: [wall for wall, _ in taken] for way, taken in times.items()}
    speed = {way: useful / min(taken) for way, taken in walls.items()}
    cpu = {way: useful / min(spent for _, spent in taken) for way, taken in times.items()}
    return {
        "codec": codec, "rows": count, "batch": batch, "updates": len(groups), "useful_tokens": useful,
        "padding": 1 - useful / padded, "tokens_per_s": speed, "speedup": speed["ours"] / speed["padded"],
        "tokens_per_cpu_s": cpu, "speedup_cpu": cpu["ours"] / cpu["padded"],
        "spread": {way: max(taken) / min(taken) for way, taken in walls.items()},
        "losses_differ_by": apart, "losses": [found["ours"][0], found["ours"][-1]],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--codec", choices=sorted(RATES), nargs="*", default=["nano"])
    parser.add_argument("--max-tokens", type=int, default=6144, help="of one of our micro-batches")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    given = parser.parse_args()
    if hasattr(os, "sched_setaffinity") and given.threads > 1:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.threads])
    results = []
    for codec in given.codec:
        found = measure(given.rows, given.batch, given.rounds, codec, given.max_tokens, given.threads)
        results.append(found)
        print(
            f"{codec} ({RATES[codec]} codes/s): {given.rows} rows, {found['useful_tokens']:,} useful tokens, updates "
            f"of {given.batch} rows, {given.threads} threads, best of {given.rounds}"
        )
        for way in ("padded", "ours"):
            waste = found["padding"] if way == "padded" else 0.0
            print(
                f"  {way:<8}{found['tokens_per_s'][way]:>9,.0f} useful tokens/s (slowest round "
                f"{found['spread'][way]:.2f} x), {found['tokens_per_cpu_s'][way]:,.0f} a CPU second, "
                f"{waste:.0%} padding"
            )
        print(
            f"  ours / padded: {found['speedup']:.2f} x by the clock, {found['speedup_cpu']:.2f} x by CPU seconds (aim "
            f"{AIM}); losses of {found['updates']} updates differ by {found['losses_differ_by']:.1e} at most",
            flush=True,
        )
    states = measure_states()
    print(f"optimizer state, bytes a value: AdamW {states['adamw']:.3f}, Adam-mini {states['adam_mini']:.3f}")
    if given.json:
        print(json.dumps({"runs": results, "state_bytes_per_value": states}))


if __name__ == "__main__":
    main()
