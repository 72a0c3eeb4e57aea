"""Train one ear with a budget of CPU-seconds and measure it on the way.

    train.py --data runs/nano_tokens/data.pt --out runs/nano_tokens/warm --ear none --seconds 15
    train.py --data runs/nano_tokens/data.pt --init runs/nano_tokens/warm --out runs/nano_tokens/mel_ctc --ear mel_ctc

Language model, clips and their order, typed facts, targets, optimizer, batch and budget are the same for all ears.
Measuring and saving do not count towards the budget. A finished run goes on when it is called with more seconds.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from copy import deepcopy
from pathlib import Path

import checkpoint
import torch
from measure import measure, test_sets
from numbers_data import PARTS, NumbersData, TypedFacts
from two_ears import EARS, Ear, TwoEars, build_language_model, build_tokenizer

from vivavoce.codecs.loading import load_codec

WARM_ROWS = 144  # typed rows of a step before anything is heard
MEMORY = 0.98  # of the running mean of weights, which is what is measured and saved


def rate_at(peak: float, step: int) -> float:
    """Learning rate: 30 steps up, then level, so that any run can go on; the mean of weights stands for a decay."""
    return peak * min(1.0, (step + 1) / 30)


def take_mean(mean: TwoEars, model: TwoEars, step: int) -> None:
    """Move the running mean of weights towards the weights."""
    share = 1 - min(MEMORY, (step + 1) / (step + 10))
    with torch.no_grad():
        torch._foreach_lerp_(list(mean.parameters()), list(model.parameters()), share)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="output of prepare.py")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ear", choices=["none", *EARS], required=True, help="none: typed facts only")
    parser.add_argument("--init", type=Path, help="run of --ear none, whose language model to start from")
    parser.add_argument("--seconds", type=float, default=100.0, help="CPU-seconds of training")
    parser.add_argument("--steps", type=int, help="stop after so many steps instead")
    parser.add_argument(
        "--every", type=float, default=25.0, help="CPU-seconds from one measurement to the next"
    )
    parser.add_argument("--part", choices=list(PARTS), default="digits", help="of the domain")
    parser.add_argument("--hours", type=float, help="distinct speech to train on; all without")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--text-batch", type=int, default=0, help="typed rows of a step")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--test-clips", type=int, default=250, help="clips of each set that are measured")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    args = parse()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    data, facts = NumbersData(args.data, args.part, args.hours), TypedFacts(args.part)
    tokenizer = build_tokenizer(TypedFacts().words())
    language_model = build_language_model(len(tokenizer))
    if args.init:
        weights = torch.load(args.init / "state.pt", weights_only=True)["model"]
        prefix = "language_model."
        language_model.load_state_dict(
            {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}, strict=False
        )
        language_model.tie_weights()
    hears = args.ear != "none"
    ear = EARS[args.ear] if hears else Ear("summed")
    model = TwoEars(ear, tokenizer, load_codec("nano").spec, language_model)
    mean = deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), args.rate, betas=(0.9, 0.98), weight_decay=0.05)
    step, spent, positions, heard_s, points = 0, 0.0, 0, 0.0, []
    state_file = args.out / "state.pt"
    if state := checkpoint.load(state_file):
        model.load_state_dict(state["live"])
        mean.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent, positions, heard_s = state["step"], state["spent"], state["positions"], state["heard_s"]
        points = json.loads(state["points"])
        print(f"resumed at step {step}", flush=True)

    described = {
        "part": args.part, "distinct_h": data.hours, "batch": args.batch, "rate": args.rate, "seed": args.seed,
        "parameters": sum(p.numel() for p in model.parameters()),
    }  # fmt: skip

    def save() -> None:
        checkpoint.save(
            state_file, ear=args.ear, model=mean.state_dict(), live=model.state_dict(),
            optimizer=optimizer.state_dict(), step=step, spent=spent, positions=positions, heard_s=heard_s,
            points=json.dumps(points), facts=json.dumps(described),
        )  # fmt: skip

    def done() -> float:
        return step / args.steps if args.steps else spent / args.seconds

    totals: dict[str, float] = {}
    counted = 0
    while done() < 1:
        begin = time.process_time()
        for group in optimizer.param_groups:
            group["lr"] = rate_at(args.rate, step)
        rng = random.Random(f"facts {args.seed} {step}")
        losses = {}
        with torch.autocast("cpu", torch.bfloat16):
            total = torch.zeros(())
            if size := args.text_batch if hears else WARM_ROWS:
                losses["facts"] = model.text_loss([facts.draw(rng) for _ in range(size)])
                total = 0.5 * losses["facts"]
            if hears:
                clips = data.batch(step, args.batch, args.seed)
                losses["heard"], ctc, count = model.hearing_loss(clips)
                total = total + losses["heard"]
                if ctc is not None:
                    losses["ctc"] = ctc
                    total = total + ctc
                positions += count
                heard_s += sum(clip.seconds for clip in clips)
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        take_mean(mean, model, step)
        before = spent
        step, counted, spent = step + 1, counted + 1, spent + time.process_time() - begin
        for key, value in losses.items():
            totals[key] = totals.get(key, 0.0) + float(value.detach())
        if step % 25 == 0:
            means = " ".join(f"{k} {v / counted:.3f}" for k, v in totals.items())
            print(f"step {step} cpu {spent:.0f} s heard {heard_s / 3600:.2f} h {means}", flush=True)
            totals, counted = {}, 0
        if hears and (before // args.every < spent // args.every or done() >= 1):
            sets, begin = test_sets(data, args.test_clips), time.process_time()
            point = {
                "step": step,
                "cpu_s": round(spent, 1),
                "heard_h": heard_s / 3600,
                "positions": positions,
            }
            point |= {name: measure(mean, clips) for name, clips in sets.items()}
            points.append(point)
            shown = {n: (point[n]["transcript"][0], point[n]["answer"][0]) for n in sets}
            print(f"  {shown} (measuring: {time.process_time() - begin:.0f} s)", flush=True)
            save()
        elif step % 100 == 0:
            save()
    save()


if __name__ == "__main__":
    main()
