"""Try the finished bundle on everything it promises, through the public Python interface alone.

python recipes/nano/evaluate.py --speech runs/nano/speech --json runs/nano/figures.json
python recipes/nano/evaluate.py --model runs/nano/without-lucas --speaker lucas --digits FSDD --tests digits,strings

Prints one table; every figure has its number of trials and its 95 % interval (Wilson for shares, sentences redrawn
for word error). The JSON file also lists what went wrong, trial by trial.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import Figure, print_table, share, word_error
from speech_data import SPEAKERS
from trials import People, Speech, Trial, typed_facts

import vivavoce
from vivavoce.base.errors import ConfigError, MissingExtraError, VivavoceError

Outcome = tuple[Trial, str, str, bool]
"""A trial, the transcript, the answer, and whether the model trusted what it heard."""


class Evaluation:
    """The tests; each returns its figures and notes what went wrong.

    Args:
        model: What ``vivavoce.load`` returned.
        args: The command line.
    """

    def __init__(self, model: Any, args: argparse.Namespace) -> None:
        self.model, self.limit, self.left_out = model, args.limit, args.speaker
        self.folders, self.digits_folder = [args.speech, *args.more_speech], args.digits
        self.recorded = (
            {p.read_text("utf-8").strip() for p in args.recorded.glob("*.txt")} if args.recorded else set()
        )
        self.misses: list[dict[str, str]] = []
        self._speech: Speech | None = None

    @property
    def speech(self) -> Speech:
        if self._speech is None:
            self._speech = Speech(self.folders[0], self.folders[1:])
        return self._speech

    def run(self, test: str) -> list[Figure]:
        """Figures of one test, with the seconds it took."""
        began = time.perf_counter()
        figures = TESTS[test](self)
        for figure in figures:
            figure.seconds = time.perf_counter() - began
        return figures

    def miss(self, test: str, group: str, wanted: str, got: str) -> None:
        self.misses.append({"test": test, "group": group, "wanted": wanted, "got": got})

    # hearing

    def ask(self, trial: Trial) -> Outcome:
        """A spoken question, its transcript and its answer; what the model refused counts as nothing heard."""
        wave, rate = trial.source
        part = {"type": "audio", "audio": wave, "sampling_rate": rate}
        reply = self.model.chat([{"role": "user", "content": [part]}])
        if not reply.understood:
            return trial, "", "", False
        return trial, plain(reply.transcript), plain(reply.text), True

    def hear(self, trial: Trial) -> Outcome:
        """A recording and its transcript; "" if the model does not trust it."""
        heard = self.model.transcribe(trial.source)
        return trial, plain(heard.text) if heard.understood else "", "", heard.understood

    def hearing(self) -> list[Figure]:
        """Sentences never heard in training, known voices."""
        rows = [self.ask(trial) for trial in self.speech.sentences(self.limit)]
        return self._heard("hearing", rows, ">= 0.95", ">= 0.8", new_facts=True)

    def voices(self) -> list[Figure]:
        """Voices never heard in training."""
        trials = [trial for trial in self.speech.voices(self.limit) if trial.text not in self.recorded]
        rows = [self.ask(trial) for trial in trials]
        return self._heard("voices", rows, ">= 0.8", ">= 0.7", new_facts=False)

    def _heard(
        self, test: str, rows: list[Outcome], heard: str, answered: str, new_facts: bool
    ) -> list[Figure]:
        for trial, transcript, answer, _ in rows:
            if transcript != trial.text or answer != trial.answer:
                wanted = f"{trial.text} -> {trial.answer}"
                self.miss(test, trial.group, wanted, f"{transcript or '?'} -> {answer or '?'}")
        right = [answer == trial.answer for trial, _, answer, _ in rows]
        figures = [
            share(test, "transcripts exact", [said == trial.text for trial, said, _, _ in rows], heard),
            share(test, "answers right", right, answered),
            word_error(test, "word error of transcripts", [(t.text, said) for t, said, _, _ in rows]),
            share(test, "refused though in the domain", [not trusted for *_, trusted in rows]),
        ]
        if new_facts:
            known = [said == trial.text for trial, said, *_ in rows if not trial.new_word]
            figures.append(share(test, "transcripts exact, every word heard in training", known))
            new = [ok for (trial, *_), ok in zip(rows, right, strict=True) if trial.new_fact]
            figures.append(share(test, "answers right, facts never trained", new))
        for group in sorted({trial.group for trial, *_ in rows}):
            of = [(t, said == t.text, a == t.answer) for t, said, a, _ in rows if t.group == group]
            figures.append(share(test, f"transcripts exact, {group}", [exact for _, exact, _ in of]))
            figures.append(share(test, f"answers right, {group}", [ok for *_, ok in of]))
        return figures

    def digits(self) -> list[Figure]:
        """Single real digits."""
        return self._people("digits", lambda people: people.digits(self.limit))

    def strings(self) -> list[Figure]:
        """Two to five real digits, spliced."""
        return self._people("strings", lambda people: people.strings(self.limit))

    def _people(self, test: str, trials: Callable[[People], Iterable[Trial]]) -> list[Figure]:
        if self.digits_folder is None:
            raise ConfigError(f"test {test!r} needs real digits; give their folder with --digits.")
        people = People(self.digits_folder, [self.left_out] if self.left_out else SPEAKERS)
        rows = [self.hear(trial) for trial in trials(people)]
        for trial, said, _, _ in rows:
            if said != trial.text:
                self.miss(test, trial.group, trial.text, said or "?")
        aim = (
            ">= 0.8" if self.left_out and test == "digits" else ""
        )  # set for people never heard, digit by digit
        how = "never heard in training" if self.left_out else "as the bundle was trained"
        figures = []
        if len(people.speakers) > 1:
            figures.append(share(test, f"all, {how}", [said == t.text for t, said, *_ in rows], aim))
        for speaker in people.speakers:
            right = [said == t.text for t, said, *_ in rows if t.group == speaker]
            figures.append(share(test, f"{speaker}, {how}", right, aim))
        return figures

    def refusals(self) -> list[Figure]:
        """What must not be understood."""
        test = "refusals"
        sounds = [self.hear(trial) for trial in self.speech.noises(self.limit)]
        others = [*self.speech.outside(self.limit), *self.speech.reversed(self.limit)]
        speech = [self.hear(trial) for trial in others]
        for trial, said, _, trusted in sounds + speech:
            if trusted:
                self.miss(test, trial.group, "", said)
        figures = [share(test, "noise, silence and babble", [not t for *_, t in sounds], ">= 0.95")]
        for rows in (sounds, speech):
            for group in dict.fromkeys(trial.group for trial, *_ in rows):
                figures.append(share(test, group, [not t for trial, *_, t in rows if trial.group == group]))
        return [*figures, share(test, "all together", [not trusted for *_, trusted in sounds + speech])]

    # knowing

    def facts(self) -> list[Figure]:
        """Typed questions."""
        figures = []
        trained, never = typed_facts(self.limit)
        for name, items in (("trained", trained), ("arithmetic never trained", never)):
            right = []
            for item in items:
                answer = plain(self.model.chat(item.question).text)
                right.append(answer == item.answer)
                if answer != item.answer:
                    self.miss("facts", name, f"{item.question} -> {item.answer}", answer)
            figures.append(share("facts", f"typed, {name}", right))
            kinds = sorted({item.kind for item in items})
            for kind in kinds if len(kinds) > 1 else []:
                of = [ok for item, ok in zip(items, right, strict=True) if item.kind == kind]
                figures.append(share("facts", f"typed, {name}, {kind}", of))
        return figures

    # speaking

    def speaking(self) -> list[Figure]:
        """Texts read aloud, read back by an independent recogniser beside the originals."""
        from reading_back import try_speaking

        return try_speaking(self.model, self.speech, self.limit, self.miss)


TESTS: dict[str, Callable[[Evaluation], list[Figure]]] = {
    "hearing": Evaluation.hearing, "voices": Evaluation.voices, "digits": Evaluation.digits,
    "strings": Evaluation.strings, "refusals": Evaluation.refusals, "facts": Evaluation.facts,
    "speaking": Evaluation.speaking,
}  # fmt: skip


def plain(text: str) -> str:
    """Lower-case words without punctuation, as the domain writes them."""
    return " ".join("".join(c for c in text.lower() if c.isalnum() or c in " '").split())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="nano", help="name or folder (default: nano, as shipped)")
    parser.add_argument(
        "--speech", type=Path, default=Path("runs/nano/speech"), help="output of make_speech.py"
    )
    parser.add_argument(
        "--more-speech", type=Path, nargs="*", default=[], help="its other outputs (--plan spoken)"
    )
    parser.add_argument(
        "--recorded", type=Path, help="what own_voice learned: its texts are left out of the held-out voices"
    )
    parser.add_argument("--digits", type=Path, help="folder of the Free Spoken Digit Dataset")
    parser.add_argument("--speaker", help="try only this one, whom this model never heard")
    parser.add_argument(
        "--tests", help=f"some of {','.join(TESTS)} (default: all; digits and strings if --digits)"
    )
    parser.add_argument("--limit", type=int, help="trials per set, balanced; default: all there are")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write figures and misses here")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    default = [t for t in TESTS if args.digits or t not in ("digits", "strings")]
    wanted = args.tests.split(",") if args.tests else default
    try:
        if unknown := [t for t in wanted if t not in TESTS]:
            raise ConfigError(f"unknown test {unknown[0]!r}; wanted some of {', '.join(TESTS)}.")
        evaluation, figures = Evaluation(vivavoce.load(args.model), args), []
        for test in wanted:
            print(f"{test} ...", file=sys.stderr, flush=True)
            try:
                figures += evaluation.run(test)
            except MissingExtraError as error:
                print(f"{test} left out: {error}", file=sys.stderr)
            if args.json:  # after each test, so that a stopped run leaves what it found
                rows = [f.as_json() for f in figures]
                report = {
                    "model": args.model,
                    "left_out": args.speaker,
                    "figures": rows,
                    "misses": evaluation.misses,
                }
                args.json.parent.mkdir(parents=True, exist_ok=True)
                args.json.write_text(json.dumps(report, indent=1, default=lambda v: v.item()) + "\n")
        print_table(figures, f"{args.model}, {np.sum([f.n for f in figures if f.aim])} trials with an aim")
    except VivavoceError as error:
        sys.exit(f"evaluate.py: {error}")


if __name__ == "__main__":
    main()
