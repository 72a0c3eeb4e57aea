"""Try a model on a real speaker whom it has never heard: what of the product's promises holds for people?

python recipes/nano/people.py --model runs/nano2/without-nicolas/model --speaker nicolas --digits FSDD
python recipes/nano/people.py --model pocketsphinx --speaker nicolas --digits FSDD      # a baseline

Single digits as recorded, digits under 10 dB of ambient noise, strings of four and sums. The Free Spoken Digit
Dataset has digits alone, so a string is spliced with gaps of 50 to 250 ms, and a sum ("what is" seven "plus" five) has
its other words from a synthetic voice that was never trained either. Each is read twice: by the product, its gate
included (``transcribe``, for sums ``chat``), and by the ears alone (greedy CTC). Prints n and Wilson intervals.
"pocketsphinx" reads by a grammar that has nothing but what is said in such a trial, each digit as likely as another.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from domain import DIGITS, all_items
from figures import Figure, print_table, share
from judge import Judge
from trials import People, Trial

import vivavoce
from vivavoce.audio.augment import ambient_noise, rms
from vivavoce.audio.files import read_audio
from vivavoce.audio.resample import resample
from vivavoce.audio.synthesis import synthesize
from vivavoce.base.errors import ConfigError, VivavoceError

CARRIER_VOICE = "flite:rms"  # held out by make_speech.py
AIMS = {"single digits": ">= 0.95", "strings of four": ">= 0.8", "10 dB noise": ">= 0.85"}
FALSE_REFUSALS = "<= 0.03"


def noisy(wave: np.ndarray, rate: int, rng: np.random.Generator, snr_db: float = 10.0) -> np.ndarray:
    """The clip, with 0.1 s on each side, under noise that is so far below it."""
    noise = ambient_noise(len(wave) + 2 * (rate // 10), rate, rng)
    return (np.pad(wave, rate // 10) + noise * rms(wave) * 10 ** (-snr_db / 20)).astype(np.float32)


def splice(parts: list[np.ndarray], rate: int, rng: random.Random) -> np.ndarray:
    """Clips of like level, 50 to 250 ms apart."""
    out: list[np.ndarray] = []
    for part in parts:
        out += [part * (0.1 / rms(part)), np.zeros(int(rng.uniform(0.05, 0.25) * rate), np.float32)]
    return np.concatenate(out[:-1]).astype(np.float32)


class Person:
    """All trials of one speaker; the same at every run."""

    def __init__(self, folder: Path, speaker: str) -> None:
        self.speaker, people = speaker, People(folder, [speaker])
        self.clips = {
            digit: [read_audio(path) for path in people.clips[speaker, digit]] for digit in range(10)
        }
        self.rate = self.clips[0][0][1]

    def _drawn(self, digit: int, rng: random.Random) -> np.ndarray:
        return rng.choice(self.clips[digit])[0]

    def digits(self) -> Iterator[Trial]:
        """Every recording, as it is; digits in turn."""
        for index in range(max(map(len, self.clips.values()))):
            for digit, clips in self.clips.items():
                if index < len(clips):
                    yield Trial(clips[index], DIGITS[digit], DIGITS[digit], "single digits")

    def noise(self) -> Iterator[Trial]:
        """Every other recording under noise."""
        rng = np.random.default_rng(7)
        for trial in islice(self.digits(), 0, None, 2):
            wave, rate = trial.source
            yield Trial((noisy(wave, rate, rng), rate), trial.text, trial.answer, "10 dB noise")

    def strings(self, count: int = 100) -> Iterator[Trial]:
        rng = random.Random(f"strings of four {self.speaker}")
        for _ in range(count):
            digits = [rng.randrange(10) for _ in range(4)]
            wave = splice([self._drawn(digit, rng) for digit in digits], self.rate, rng)
            text = " ".join(DIGITS[digit] for digit in digits)
            yield Trial((wave, self.rate), text, text, "strings of four")

    def sums(self, count: int = 60) -> Iterator[Trial]:
        """Sums of two digits, whose other words are synthetic."""
        rng = random.Random(f"sums {self.speaker}")
        answers = {item.question: item.answer for item in all_items()}
        spoken: dict[str, np.ndarray] = {}
        for words in ("what is", "plus"):
            wave, rate = synthesize(words, CARRIER_VOICE)
            spoken[words] = resample(wave, rate, self.rate)
        while count:
            a, b = rng.randrange(10), rng.randrange(10)
            text = f"what is {DIGITS[a]} plus {DIGITS[b]}"
            if text not in answers:
                continue
            parts = [spoken["what is"], self._drawn(a, rng), spoken["plus"], self._drawn(b, rng)]
            yield Trial((splice(parts, self.rate, rng), self.rate), text, answers[text], "sums")
            count -= 1


class Listening:
    """One model's readings of trials.

    Args:
        model: What ``vivavoce.load`` returned.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.misses = model, Counter[tuple[str, str, str]]()

    @torch.inference_mode()
    def greedy(self, trial: Trial) -> str:
        """The ears' own transcript."""
        wave, rate = trial.source
        part = {"type": "audio", "audio": wave, "sampling_rate": rate}
        processor, encoder = self.model.processor, self.model.model.audio_encoder
        clip = processor.clip_reader.read([processor.read_clip(part)])
        read = encoder.greedy_tokens(*encoder(clip.features, clip.lengths))[0]
        return " ".join(processor.tokenizer.convert_ids_to_tokens(read))

    def product(self, trial: Trial) -> tuple[str, str]:
        """(transcript, answer) of the whole product; both "" if it refused."""
        if trial.text == trial.answer:
            heard = self.model.transcribe(trial.source)
            said = " ".join(heard.text.lower().split()) if heard.understood else ""
            return said, said
        wave, rate = trial.source
        part = {"type": "audio", "audio": wave, "sampling_rate": rate}
        reply = self.model.chat([{"role": "user", "content": [part]}])
        return (reply.transcript.lower(), reply.text.lower().strip(" .")) if reply.understood else ("", "")

    def try_all(self, trials: list[Trial], name: str) -> list[Figure]:
        """Figures of one kind of trials."""
        aim, kind = AIMS.get(trials[0].group, ""), trials[0].group
        rows = [(trial, self.greedy(trial), *self.product(trial)) for trial in trials]
        for trial, _, said, _ in rows:
            if said != trial.text:
                self.misses[kind, trial.text, said or "?"] += 1
        figures = [
            share(
                kind, f"{name}, transcripts exact", [said == trial.text for trial, _, said, _ in rows], aim
            ),
            share(
                kind,
                f"{name}, refused though it was clear",
                [not said for _, _, said, _ in rows],
                FALSE_REFUSALS,
            ),
            share(kind, f"{name}, ears alone", [read == trial.text for trial, read, _, _ in rows]),
        ]
        if kind == "sums":
            figures.append(share(kind, f"{name}, answers right", [a == t.answer for t, _, _, a in rows]))
        return figures


FORMS = {
    "single digits": "<digit>", "10 dB noise": "<digit>", "strings of four": "<digit> <digit> <digit> <digit>",
    "sums": "what is <digit> plus <digit>",
}  # fmt: skip


class Classical:
    """pocketsphinx, with its own English model, in the place of a model."""

    def __init__(self) -> None:
        self.judge, self.misses = Judge(), Counter[tuple[str, str, str]]()
        for number, said in enumerate(FORMS.values()):
            rules = f"<digit> = {' | '.join(DIGITS)};\npublic <said> = {said};\n"
            self.judge.learn(f"people{number}", f"#JSGF V1.0;\ngrammar people{number};\n{rules}", {})

    def try_all(self, trials: list[Trial], name: str) -> list[Figure]:
        """The share of one kind of trials that is read rightly."""
        kind = trials[0].group
        grammar = f"people{list(FORMS).index(kind)}"
        said = [self.judge.read(*trial.source, grammar) for trial in trials]
        for trial, words in zip(trials, said, strict=True):
            if words != trial.text:
                self.misses[kind, trial.text, words or "?"] += 1
        right = [words == trial.text for words, trial in zip(said, trials, strict=True)]
        return [share(kind, f"{name}, transcripts exact", right)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model",
        required=True,
        help="name or folder of a model that never heard the speaker, or pocketsphinx",
    )
    parser.add_argument("--speaker", required=True, help="as in the names of the files")
    parser.add_argument("--digits", type=Path, required=True, help="folder of the Free Spoken Digit Dataset")
    parser.add_argument("--tests", default="digits,noise,strings,sums")
    parser.add_argument("--limit", type=int, help="trials of each kind; default: all there are")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    try:
        if unknown := set(args.tests.split(",")) - {"digits", "noise", "strings", "sums"}:
            raise ConfigError(f"unknown test {unknown.pop()!r}; wanted some of digits,noise,strings,sums.")
        person = Person(args.digits, args.speaker)
        listening = Classical() if args.model == "pocketsphinx" else Listening(vivavoce.load(args.model))
        figures: list[Figure] = []
        for test in args.tests.split(","):
            figures += listening.try_all(list(islice(getattr(person, test)(), args.limit)), args.speaker)
            if args.json:  # after each test, so that a stopped run leaves what it found
                misses = [[*key, count] for key, count in listening.misses.most_common()]
                report = {"model": args.model, "figures": [f.as_json() for f in figures], "misses": misses}
                args.json.parent.mkdir(parents=True, exist_ok=True)
                args.json.write_text(json.dumps(report, indent=1, default=lambda v: v.item()) + "\n")
        print_table(figures, f"{args.model}: {args.speaker}")
        print(
            "commonest misses:",
            *(f"{k}: {a} > {b} ({n})" for (k, a, b), n in listening.misses.most_common(8)),
        )
    except VivavoceError as error:
        sys.exit(f"people.py: {error}")


if __name__ == "__main__":
    main()
