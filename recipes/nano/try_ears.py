"""What the ears of a training run read by themselves (greedy CTC), before anything is packaged.

python recipes/nano/train_lm.py --stage all --ears-only --leave-out nicolas ... --out runs/nano2/ears-without-nicolas
python recipes/nano/try_ears.py --run runs/nano2/ears-without-nicolas --speakers nicolas --digits FSDD

Real people: every recording of a digit, half of them under 10 dB of noise, strings of four, and sums (people.py). With
--speech, synthetic held-out sentences and held-out voices too. A minute for one speaker; prints n and Wilson intervals.

--offsets asks what of the misses is order and what is balance: each recording is one of the ten digits, and a digit's
log probability may be offset by a number of its own, fitted on these same recordings: an upper bound, not a result.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import checkpoint
import torch
import torch.nn.functional as F
from domain import DIGITS
from figures import Figure, print_table, share
from hearing import HEAR_RATE, SILENCE_S
from network import Nano
from people import Person
from speech_data import SPEAKERS
from torch import Tensor
from transformers import AutoTokenizer
from trials import Speech, Trial

from vivavoce.audio.resample import resample
from vivavoce.base.records import write_record
from vivavoce.models.clips import ClipReader
from vivavoce.models.config import EmbeddingsIn


class Ears:
    """The encoder of a run.

    Args:
        run: Folder of ``train_lm.py --faint-ears``, or of a packaged model.
        tokenizer: Folder of the tokenizer.
    """

    def __init__(self, run: Path, tokenizer: Path) -> None:
        try:
            weights = checkpoint.weights(run)
        except FileNotFoundError:
            raise SystemExit(
                f"try_ears.py: {run} has no state.pt and no model.safetensors; make it with train_lm.py."
            ) from None
        prefix = "audio_encoder."
        self.tokenizer = AutoTokenizer.from_pretrained(tokenizer)
        network = Nano(len(self.tokenizer), faint_ears=True)
        self.encoder = network.audio_encoder.eval()
        self.encoder.load_state_dict(
            {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        )
        parts = {
            "encoder": {"type": "mel_ctc", **write_record(network.encoder_config)},
            "connector": {"type": "stack", **write_record(network.connector_config)},
        }
        self.reader = ClipReader(EmbeddingsIn(**parts, audio_token_id=1, silence_s=SILENCE_S))

    def _states(self, trials: list[Trial], together: int) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """Places of trials of like length, the encoder's states of these, and how many frames each has."""
        waves = [resample(*trial.source, HEAR_RATE) for trial in trials]
        order = sorted(range(len(waves)), key=lambda i: len(waves[i]))
        for at in range(0, len(order), together):
            part = order[at : at + together]
            clips = self.reader.read([waves[i] for i in part])
            yield part, *self.encoder(clips.features, clips.lengths)

    @torch.inference_mode()
    def read(self, trials: list[Trial], together: int = 50) -> list[str]:
        """Transcripts, in the order of the trials."""
        out = [""] * len(trials)
        for part, states, frames in self._states(trials, together):
            for i, words in zip(part, self.encoder.greedy_tokens(states, frames), strict=True):
                out[i] = " ".join(self.tokenizer.convert_ids_to_tokens(words))
        return out

    @torch.inference_mode()
    def digit_scores(self, trials: list[Trial], together: int = 50) -> Tensor:
        """Log probability of each of the ten digits alone, [trials, 10]."""
        out = torch.zeros(len(trials), len(DIGITS))
        blank = self.encoder.config.blank_id
        for part, states, frames in self._states(trials, together):
            log_probs = self.encoder.ctc_logits(states).log_softmax(-1).transpose(0, 1)
            one = torch.ones(len(part), dtype=torch.long)
            for digit, token in enumerate(self.tokenizer.convert_tokens_to_ids(DIGITS)):
                loss = F.ctc_loss(log_probs, token * one, frames, one, blank=blank, reduction="none")
                out[part, digit] = -loss
        return out


def best_offsets(scores: Tensor, digits: Tensor, updates: int = 300) -> Tensor:
    """What to add to each digit's log probability [N, 10] so that the right ones [N] become most probable; [10]."""
    offsets = torch.zeros(len(DIGITS), requires_grad=True)
    optimizer = torch.optim.Adam([offsets], 0.1)
    for _ in range(updates):
        optimizer.zero_grad()
        F.cross_entropy(scores + offsets, digits).backward()
        optimizer.step()
    return offsets.detach()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help="folder of train_lm.py --faint-ears")
    parser.add_argument("--tokenizer", type=Path, default=Path("runs/nano2/tokenizer"))
    parser.add_argument("--digits", type=Path, help="folder of the Free Spoken Digit Dataset")
    parser.add_argument("--speakers", default=",".join(SPEAKERS), help="real speakers to try, with commas")
    parser.add_argument("--speech", type=Path, help="folder of make_speech.py")
    parser.add_argument("--offsets", action="store_true", help="see above")
    parser.add_argument("--limit", type=int, help="trials of each kind; default: all there are")
    args = parser.parse_args()
    torch.set_num_threads(1)
    ears = Ears(args.run, args.tokenizer)
    figures: list[Figure] = []
    misses = Counter[str]()

    def attempt(test: str, name: str, trials: list[Trial]) -> None:
        said = ears.read(trials)
        figures.append(share(test, name, [a == trial.text for a, trial in zip(said, trials, strict=True)]))
        misses.update(
            f"{name}: {trial.text} > {a or '?'}"
            for a, trial in zip(said, trials, strict=True)
            if a != trial.text
        )

    for speaker in args.speakers.split(",") if args.digits else ():
        person = Person(args.digits, speaker)
        for kind in ("digits", "noise", "strings", "sums"):
            attempt(speaker, f"{speaker}, {kind}", list(islice(getattr(person, kind)(), args.limit)))
        if args.offsets:
            trials = list(islice(person.digits(), args.limit))
            scores, right = ears.digit_scores(trials), torch.tensor([DIGITS.index(t.text) for t in trials])
            offsets = best_offsets(scores, right)
            for name, moved in (
                ("one of ten digits", 0 * offsets),
                ("... with offsets fitted on them", offsets),
            ):
                figures.append(share(speaker, name, ((scores + moved).argmax(1) == right).tolist()))
            print(
                f"{speaker}, offsets:",
                *(f"{d} {v:+.1f}" for d, v in zip(DIGITS, offsets.tolist(), strict=True)),
            )
    if args.speech:
        speech = Speech(args.speech)
        attempt("synthetic", "held-out sentences", list(speech.sentences(args.limit)))
        attempt("synthetic", "held-out voices", list(speech.voices(args.limit)))
    print_table(figures, f"{args.run}, ears alone")
    print("commonest misses:", *(f"{miss} ({n})" for miss, n in misses.most_common(10)), sep="\n  ")


if __name__ == "__main__":
    main()
