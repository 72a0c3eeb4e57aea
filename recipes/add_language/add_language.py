"""Add a language to a bundle: it then hears, answers and speaks it, and keeps what it knew.

python recipes/add_language/add_language.py --recordings runs/german/speech --minutes 30 --out runs/german/m30

Grows the tokenizer by the language's words and phones, and ears, mind and voice by their rows; then all learn together,
with the old language's recordings, facts and voice mixed in. Every tenth recording is kept aside: where its loss no
longer falls, the rate is brought down and training ends. Every step draws from its own seed, so
the same command goes on where it was stopped, as if it had not been.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[1] / "nano"))
import checkpoint
from grow import grown, language_tokenizer
from hearing import HearingBatch, HearingData
from language_data import LanguageHearing, language_voice, lay_out_speaker
from languages import LANGUAGES
from network import Nano, quick_bfloat16
from speaking import SpeakingData
from torch import Tensor

from vivavoce.base.errors import ConfigError, VivavoceError
from vivavoce.base.records import write_record
from vivavoce.models.loading import load_speech_lm
from vivavoce.models.processor import SpeechProcessor
from vivavoce.models.voice.aligned import AlignedVoice
from vivavoce.models.voice.teaching import Teacher
from vivavoce.tokens.phones import load_lexicon

WARM_STEPS = 10


class StopRule:
    """Says when to cool down: the loss of what was kept aside stops falling, or the time is up.

    From then on the rate falls evenly to 5 % within ``cool`` steps, and training ends.

    Args:
        steps: Most steps, cooling included.
        cool: Steps of cooling.
        least_gain: Share by which the loss must fall to count.
        patience: Checks without that.
    """

    def __init__(self, steps: int, cool: int, least_gain: float = 0.02, patience: int = 2) -> None:
        self.steps, self.cool, self.least_gain, self.patience = steps, min(cool, steps), least_gain, patience
        self.best, self.bad, self.end = float("inf"), 0, steps

    def check(self, step: int, loss: float) -> None:
        """Take the loss after ``step`` steps."""
        if loss < self.best * (1 - self.least_gain):
            self.best, self.bad = loss, 0
        else:
            self.bad += 1
        if self.bad >= self.patience and self.end == self.steps:
            self.end = min(self.steps, step + self.cool)

    def rate(self, step: int) -> float:
        """Share of the learning rate of a step."""
        return min(1.0, max(0.05, (self.end - step) / self.cool))

    def state(self) -> list[float]:
        return [self.best, self.bad, self.end]

    def load(self, state: list[float]) -> None:
        self.best, self.bad, self.end = state[0], int(state[1]), int(state[2])


class Lesson:
    """The grown network and all that it learns from.

    Args:
        args: The command line.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, language = args, LANGUAGES[args.language]
        self.bundle, self.processor = load_speech_lm(args.bundle, device="cpu")
        old_voice = self.bundle.voice.config
        self.tokenizer = language_tokenizer(self.processor.tokenizer, language)
        self.voice_config = language_voice(old_voice, language)
        self.model = Nano(len(self.tokenizer), self.bundle.audio_encoder.config.faint_decades > 0)
        self.model.add_voice(self.voice_config)
        weights = {name: value.float() for name, value in self.bundle.state_dict().items()}
        weights = grown(weights, len(self.processor.tokenizer), self.tokenizer, self.voice_config, language,
                        meanings=not args.no_meanings, seed=args.seed)  # fmt: skip
        self.model.load_state_dict(weights)
        self.hearing = LanguageHearing(args.recordings, args.minutes, language, self.tokenizer)
        self.old: list[HearingData] = [HearingData(args.old_speech, args.digits, self.tokenizer)]
        codec, lexicon = self.processor.codec_out, load_lexicon(self.hearing.lexicon_path)
        teacher = Teacher(AlignedVoice(replace(self.voice_config, depth_layers=0)), self.tokenizer)
        self.laid = lay_out_speaker(self.hearing, lexicon, codec, teacher, len(old_voice.voices))
        self.teacher = teacher
        self.old_voice = SpeakingData(args.old_voice, self.tokenizer)
        for name, _, folder in (pair.partition("=") for pair in args.keep):
            if name not in old_voice.voices or name not in LANGUAGES or not folder:
                raise ConfigError(
                    f"--keep {name}={folder}: wanted LANGUAGE=RECORDINGS of a language that the bundle speaks; "
                    f"its voices are {', '.join(old_voice.voices)}."
                )
            kept = LanguageHearing(Path(folder), args.minutes, LANGUAGES[name], self.tokenizer)
            self.old.append(kept)
            voice, said = old_voice.voices.index(name), load_lexicon(kept.lexicon_path)
            self.old_voice.rows[voice] = lay_out_speaker(kept, said, codec, teacher, voice)
        kept_aside = sum(len(batch.transcripts) for batch in self.hearing.valid)
        print(f"{self.hearing.minutes:.1f} minutes: {len(self.hearing.used)} recordings, {len(self.laid)} of them to "
              f"speak like, {kept_aside} kept aside; {len(self.tokenizer)} tokens", flush=True)  # fmt: skip

    def step(self, step: int) -> dict[str, float]:
        """Gradients of one step; what its tasks lost."""
        args, losses = self.args, {}

        def rng(task: str) -> random.Random:
            return random.Random(f"{task} {args.seed} {step}")

        old = len(self.old)
        for name, data, size in (("hear", [self.hearing], args.batch), ("hear old", self.old, args.replay)):
            draws = rng(name)
            for batch in (b for d in data for b in d.batch(draws, size // len(data), 0.5) if size):
                share = len(batch.transcripts) / size
                losses[name] = losses.get(name, 0.0) + self._learn(share * sum(self._heard(batch)))
        readings = [("read", self.hearing.reading, args.text_batch, 1.0)]
        readings += [("read old", data.reading, args.text_replay // old, 1 / old) for data in self.old]
        for name, reading, size, weight in readings:
            with torch.autocast("cpu", torch.bfloat16, enabled=quick_bfloat16()):
                loss = weight * self.model.text_loss(*reading.batch(rng(name), size))
            losses[name] = losses.get(name, 0.0) + self._learn(loss)
        if args.speak_batch and self.laid:
            torch.manual_seed(rng("drop").getrandbits(32))
            draws = rng("speak")
            rows = [draws.choice(self.laid) for _ in range(args.speak_batch)]
            before = self.old_voice.batch(draws, max(len(self.old_voice.rows), args.speak_batch // 2))
            for name, spoken in (("speak", self.teacher.collate(rows, 0.15)), ("speak old", before)):
                with torch.autocast("cpu", torch.bfloat16, enabled=quick_bfloat16()):
                    codes, durations = self.model.speaking_loss(spoken)
                losses[name] = self._learn(codes + 0.2 * durations)
        return losses

    def _heard(self, batch: HearingBatch) -> tuple[Tensor, Tensor, Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=quick_bfloat16()):
            return self.model.hearing_loss(batch)

    @staticmethod
    def _learn(loss: Tensor) -> float:
        loss.backward()
        return float(loss.detach())

    @torch.no_grad()
    def valid_loss(self) -> float:
        """Mean loss of transcripts and CTC on what was kept aside."""
        self.model.eval()
        losses = [float(sum(self._heard(batch))) for batch in self.hearing.valid]
        self.model.train()
        return sum(losses) / len(losses)

    def run(self) -> None:
        """Train until the stop rule or the last step; goes on where it was stopped."""
        args, file = self.args, self.args.out / "state.pt"
        optimizer = torch.optim.AdamW(
            self.model.parameters(), args.learning_rate, betas=(0.9, 0.98), weight_decay=0.05
        )
        rule, step, spent = StopRule(args.steps, args.cool), 0, 0.0
        if state := checkpoint.load(file):
            self.model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            rule.load(state["rule"])
            step, spent = state["step"], state["cpu_s"]
            print(f"resumed at step {step}", flush=True)
        begin, totals = time.process_time() - spent, dict[str, float]()
        while step < rule.end:
            for group in optimizer.param_groups:
                group["lr"] = args.learning_rate * min(1.0, (step + 1) / WARM_STEPS) * rule.rate(step)
            for key, value in self.step(step).items():
                totals[key] = totals.get(key, 0.0) + value
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            if step % args.check_every == 0 or step == rule.end:
                valid = self.valid_loss()
                rule.check(step, valid)
                means = " ".join(f"{k} {v / args.check_every:.2f}" for k, v in totals.items())
                cpu, totals = time.process_time() - begin, {}
                print(
                    f"step {step} cpu {cpu:.0f} s ends {rule.end} kept aside {valid:.3f} {means}", flush=True
                )
                checkpoint.save(
                    file, model=self.model.state_dict(), optimizer=optimizer.state_dict(), step=step, cpu_s=cpu,
                    rule=rule.state(),
                )  # fmt: skip
        facts = {"minutes": round(self.hearing.minutes, 2), "steps": step, "cpu_s": round(time.process_time() - begin),
                 "stopped_early": rule.end < args.steps, "kept_aside": rule.best, "seed": args.seed}  # fmt: skip
        (args.out / "training.json").write_text(json.dumps(facts, indent=1) + "\n")

    def save(self) -> Path:
        """The bundle in --out, with the pronunciations of its new voice."""
        folder, config = self.args.out / "bundle", self.bundle.config
        record = {"type": "aligned", **write_record(self.voice_config)}
        config.audio_out = replace(config.audio_out, speakers=self.voice_config.voices, voice=record)
        config.audio_in = replace(config.audio_in, encoder={
            **config.audio_in.encoder, "vocab_size": len(self.tokenizer)})  # fmt: skip
        config.text_config.vocab_size = len(self.tokenizer)
        made = type(self.bundle)(config)
        made.load_state_dict(self.model.state_dict())
        made.half().save_pretrained(folder)
        SpeechProcessor.for_config(self.tokenizer, config, self.processor.folder).save_pretrained(folder)
        shutil.copy(self.hearing.lexicon_path, folder)
        card = Path(self.processor.folder) / "README.md"  # what it was trained on, and the licence
        if card.exists():
            shutil.copy(card, folder)
        return folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recordings", type=Path, required=True, help="folder of make_language_speech.py")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="use the first so many (default: all)"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--language", choices=LANGUAGES, default="german")
    parser.add_argument("--bundle", default="nano", help="what the language is added to")
    parser.add_argument(
        "--old-speech", type=Path, default=Path("runs/nano/speech"), help="folder of make_speech.py"
    )
    parser.add_argument(
        "--old-voice", type=Path, default=Path("runs/nano2/voices.pt"), help="of prepare_voice.py"
    )
    parser.add_argument("--digits", type=Path, help="real digits, to keep hearing them")
    parser.add_argument("--keep", nargs="*", default=[], metavar="LANGUAGE=RECORDINGS",
                        help="languages that were added before, with their recordings")  # fmt: skip
    parser.add_argument("--steps", type=int, default=260, help="at most")
    parser.add_argument("--cool", type=int, default=80, help="the last steps, of falling rate")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--replay", type=int, default=12, help="recordings of the old language in a step")
    parser.add_argument("--text-batch", type=int, default=16)
    parser.add_argument(
        "--text-replay", type=int, default=24, help="typed conversations of the old language in a step"
    )
    parser.add_argument("--no-meanings", action="store_true", help="new words do not start at their meaning")
    parser.add_argument("--learning-rate", type=float, default=6e-4)
    parser.add_argument("--speak-batch", type=int, default=4)
    parser.add_argument("--check-every", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    lesson = Lesson(args)
    lesson.run()
    print(f"{lesson.save()} speaks {args.language} as voice {args.language!r}")


if __name__ == "__main__":
    try:
        main()
    except VivavoceError as error:
        raise SystemExit(f"add_language.py: {error}") from None
