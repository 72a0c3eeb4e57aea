"""Train the bundle's ears, mind and voice in one network.

Synthetic speech first, then real digits and the voice:

    python recipes/nano/train_lm.py --stage hear --speech runs/nano/speech --out runs/nano/hear
    torchrun --nproc-per-node 2 recipes/nano/train_lm.py --stage all --init runs/nano/hear \
        --speech runs/nano/speech --digits FSDD --voice runs/nano/voice.pt --out runs/nano/lm

A step's loss is the sum of its tasks: hearing (transcript and answer, and CTC), typed facts, and speaking. With one
process the tasks follow each other; with two, one process hears and the other reads and speaks (and hears
``--second-batch`` rows), and gradients are summed, so both ways take the same step. With ``--ears-only`` both hear, and
nothing else is learned: four times as many rows in the same time (ears.md). With ``--freeze-mind`` both hear too, and
ears and connector learn to be understood by a mind that stays. With ``--words-only`` a language that was added learns
what to answer while all else stays bit-equal (recipes/add_language).
"""

from __future__ import annotations

import argparse
import math
import os
import random
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import checkpoint
import torch
import torch.distributed as dist
from growing import grow_tokens
from hearing import HearingData
from network import Nano, quick_bfloat16
from speech_data import SPEAKERS
from torch import nn
from transformers import AutoTokenizer

from vivavoce.models.voice.tables import fit_voices
from vivavoce.tokens.phones import default_lexicon

PEAK_LR = {"hear": 1e-3, "all": 8e-4}
PHONES_WEIGHT = 0.5
WARM_STEPS = {"hear": 150, "all": 0}  # typed facts only


def strength_at(stage: str, step: int, steps: int) -> float:
    """How strongly speech is augmented: clean speech first, or the encoder never starts to align."""
    return min(1.0, max(0.0, (step - 0.3 * steps) / (0.4 * steps))) if stage == "hear" else 1.0


def rate_at(stage: str, peak: float, step: int, steps: int) -> float:
    """Learning rate: linear warm-up, then cosine; the first stage stops high, the second ends at 2 %."""
    warm = min(1.0, (step + 1) / 60)
    floor = 0.5 if stage == "hear" else 0.02
    return peak * warm * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * step / steps)))


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add the gradients of all processes; a parameter unused by this process's tasks counts as zero."""
    grads = []
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        grads.append(parameter.grad)
    flat = torch.cat([g.reshape(-1) for g in grads])
    dist.all_reduce(flat)
    at = 0
    for grad in grads:
        grad.copy_(flat[at : at + grad.numel()].view_as(grad))
        at += grad.numel()


def parted(size: int, share: float, parts: Sequence[Any]) -> list[tuple[Any, int]]:
    """What a batch of ``size`` is drawn from: the bundle's own data and, if any, ``share`` of another language."""
    other = round(size * share) if len(parts) > 1 else 0
    return [(part, count) for part, count in zip(parts, (size - other, other), strict=False) if count]


def hear(
    model: Nano, data: Sequence[HearingData], rng: random.Random, size: int, args: argparse.Namespace, strength: float
) -> dict[str, float]:  # fmt: skip
    """Backward of one hearing batch of ``size`` rows, its part of the step's; returns the losses."""
    out = {"transcript": 0.0, "ctc": 0.0, "phones": 0.0}
    for batch in (b for d, n in parted(size, args.language_share, data) for b in d.batch(rng, n, strength)):
        share = len(batch.transcripts) / (args.batch + args.second_batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=quick_bfloat16()):
            if args.ears_only:
                loss, (*_, ctc, phones) = torch.zeros(()), model.ears_losses(batch)
            else:
                loss, ctc, phones = model.hearing_loss(batch)
        (share * (loss + ctc + PHONES_WEIGHT * phones)).backward()
        out["transcript"] += share * float(loss.detach())
        out["ctc"] += share * float(ctc.detach())
        out["phones"] += share * float(phones.detach())
    return out


def text(model: Nano, data: Sequence[Any], rng: random.Random, size: int, share: float) -> dict[str, float]:
    """Backward of ``size`` typed conversations, ``share`` of them of another language if there is one; the loss."""
    total = 0.0
    for reading, count in parted(size, share, data):
        ids, labels = reading.batch(rng, count)
        with torch.autocast("cpu", torch.bfloat16, enabled=quick_bfloat16()):
            loss = count / size * model.text_loss(ids, labels)
        loss.backward()
        total += float(loss.detach())
    return {"facts": total}


def speak(model: Nano, data, rng: random.Random, size: int) -> dict[str, float]:
    """Backward of one speaking batch; returns the losses."""
    batch = data.batch(rng, size)
    with torch.autocast("cpu", torch.bfloat16, enabled=quick_bfloat16()):
        codes, durations = model.speaking_loss(batch)
    (codes + 0.2 * durations).backward()
    return {"codes": float(codes.detach()), "durations": float(durations.detach())}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stage", choices=["hear", "all"], required=True)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, default=Path("runs/nano/tokenizer"))
    parser.add_argument("--digits", type=Path, help="folder of the Free Spoken Digit Dataset")
    parser.add_argument("--own", type=Path, help="somebody's recordings with a .txt beside each")
    parser.add_argument("--leave-out", choices=SPEAKERS, help="real speaker to keep for testing")
    parser.add_argument(
        "--people-share", type=float, default=0.2, help="share of real digits among hearing rows"
    )
    parser.add_argument("--more-digits", type=Path, help="folder of make_digits.py")
    parser.add_argument(
        "--more-speech", type=Path, nargs="*", default=[], help="folders of make_speech.py --plan more, wide"
    )
    parser.add_argument("--language", help="another language to learn too, see recipes/add_language")
    parser.add_argument("--language-speech", type=Path, help="folder of make_language_speech.py")
    parser.add_argument(
        "--language-share", type=float, default=0.25, help="its share of what is heard and typed"
    )
    parser.add_argument("--voice", type=Path, help="output of prepare_voice.py; without it nothing is spoken")
    parser.add_argument("--init", type=Path, help="run, or packaged model, whose weights to start from")
    parser.add_argument(
        "--faint-ears", action="store_true", help="ears that squeeze faint sounds; see ears.md"
    )
    parser.add_argument("--phone-head", action="store_true", help="the ears learn phones too; see ears.md")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--freeze-ears", action="store_true", help="only mind and voice learn")
    only.add_argument(
        "--freeze-mind", action="store_true", help="only ears and connector learn, by transcripts"
    )
    only.add_argument(
        "--words-only",
        action="store_true",
        help="only the rows of --language's words learn, from what is typed",
    )
    only.add_argument("--ears-only", action="store_true", help="only the ears learn, by CTC; nothing is read")
    parser.add_argument("--follow-share", type=float, default=0.0, help="share of follow-ups; see hearing.py")
    parser.add_argument("--learning-rate", type=float, help="at its peak; default: by the stage")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument(
        "--plan-steps", type=int, help="steps that schedules are made for, if the run stops earlier"
    )
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--second-batch", type=int, default=0, help="rows that the other process hears too")
    parser.add_argument("--text-batch", type=int, default=48)
    parser.add_argument("--speak-batch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if (args.language is None) != (args.language_speech is None) or (args.words_only and not args.language):
        parser.error("--language and --language-speech go together, and --words-only wants both.")
    torch.set_num_threads(1)
    torch.backends.cuda.enable_flash_sdp(False)  # on CPUs too: its backward in bfloat16 takes twice as long
    plan = args.plan_steps or args.steps
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world > 1:
        dist.init_process_group("gloo")
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer)
    model = Nano(len(tokenizer), args.faint_ears, args.phone_head)
    speakers = tuple(s for s in SPEAKERS if s != args.leave_out)
    lexicon = default_lexicon() if args.phone_head else None
    hearing = HearingData(args.speech, args.digits, tokenizer, speakers, args.people_share, args.more_digits,
                          more_speech=args.more_speech, lexicon=lexicon, follow_share=args.follow_share,
                          own=args.own)  # fmt: skip
    stays = args.ears_only or args.freeze_mind or args.words_only
    heard, read, speaking = [hearing], [hearing.reading], None
    if args.voice:
        from speaking import SpeakingData

        speaking = SpeakingData(args.voice, tokenizer)
    if args.language:
        sys.path.append(str(Path(__file__).parents[1] / "add_language"))
        from language_data import LanguageHearing
        from languages import LANGUAGES

        if args.language not in LANGUAGES:
            parser.error(f"--language {args.language!r} is unknown; known are {', '.join(LANGUAGES)}.")
        chosen = LANGUAGES[args.language]
        other = LanguageHearing(args.language_speech, float("inf"), chosen, tokenizer, hearing.reading)
        heard, read = [hearing, other], [hearing.reading, other.reading]
        if speaking is not None:
            other.teach_voice(speaking, spoken=rank == world - 1 and not stays)
    if speaking is not None:
        model.add_voice(speaking.voice_config)
    kept: dict[str, torch.Tensor] = {}  # a voice that nobody trains
    if args.init:
        weights = grow_tokens(checkpoint.weights(args.init), len(tokenizer))
        if not args.phone_head:
            weights = {k: v for k, v in weights.items() if not k.startswith("phone_head.")}
        if speaking is not None:
            weights = fit_voices(weights, speaking.voice_config, "voice.")
        elif stays:
            kept = {k: weights.pop(k) for k in list(weights) if k.startswith("voice.")}
        left = model.load_state_dict(weights, strict=False)
        new = ("voice.", "phone_head.")
        assert not left.unexpected_keys and all(k.startswith(new) for k in left.missing_keys), left
    if args.freeze_ears:
        model.audio_encoder.requires_grad_(False)
    if args.words_only:
        model.requires_grad_(False)
        table = model.language_model.model.embed_tokens.weight.requires_grad_(True)
        learns = torch.zeros(len(table), 1)
        learns[other.own_tokens] = 1.0
        table.register_hook(lambda grad: grad * learns)
    elif stays:
        parts = {"audio_encoder", "phone_head"} | ({"connector"} if args.freeze_mind else set())
        for name, part in model.named_children():
            part.requires_grad_(name in parts)
    learning = [p for p in model.parameters() if p.requires_grad]
    peak = args.learning_rate or PEAK_LR[args.stage]
    decay = 0.0 if args.words_only else 0.05  # rows that do not learn must not fade
    optimizer = torch.optim.AdamW(learning, peak, betas=(0.9, 0.98), weight_decay=decay)
    step, spent, state_file = 0, 0.0, args.out / "state.pt"
    if state := checkpoint.load(state_file):
        model.load_state_dict({k: v for k, v in state["model"].items() if k not in kept})
        optimizer.load_state_dict(state["optimizer"])
        step, spent = state["step"], state["cpu_s"]
        print(f"resumed at step {step}", flush=True)
    begin, totals, count = time.process_time() - spent, {}, 0
    while step < args.steps:
        for group in optimizer.param_groups:
            group["lr"] = rate_at(args.stage, peak, step, plan)
        losses: dict[str, float] = {}
        warm = step < WARM_STEPS[args.stage] and not stays
        hears, reads = not warm and not args.words_only, args.words_only or not stays
        if rank == 0 and hears:
            rng = random.Random(f"hear {args.seed} {step}")
            losses |= hear(model, heard, rng, args.batch, args, strength_at(args.stage, step, plan))
        if rank == world - 1 and args.second_batch and hears:
            rng = random.Random(f"hear too {args.seed} {step}")
            losses |= hear(model, heard, rng, args.second_batch, args, strength_at(args.stage, step, plan))
        if rank == world - 1 and reads:
            size = 3 * args.text_batch if warm else args.text_batch
            rng = random.Random(f"read {args.seed} {step}")
            losses |= text(model, read, rng, size, args.language_share)
        if speaking is not None and rank == world - 1 and not stays:
            rng = random.Random(f"speak {args.seed} {step}")
            torch.manual_seed(rng.getrandbits(32))
            losses |= speak(model, speaking, rng, args.speak_batch)
        if world > 1:
            sum_gradients(learning)
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        step, count = step + 1, count + 1
        for key, value in losses.items():
            totals[key] = totals.get(key, 0.0) + value
        if step % 50 == 0:
            means = " ".join(f"{k} {v / count:.3f}" for k, v in totals.items())
            cpu = time.process_time() - begin
            print(
                f"[{rank}] step {step} cpu {cpu:.0f} s lr {optimizer.param_groups[0]['lr']:.1e} {means}",
                flush=True,
            )
            totals, count = {}, 0
        if rank == 0 and (step % 100 == 0 or step == args.steps):
            checkpoint.save(
                state_file,
                model={**model.state_dict(), **kept},
                optimizer=optimizer.state_dict(),
                step=step,
                cpu_s=time.process_time() - begin,
            )
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
