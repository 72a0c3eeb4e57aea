"""What the ears of a training run read by themselves (greedy CTC), before anything is packaged.

python recipes/nano/train_lm.py --stage all --ears-only --leave-out nicolas ... --out runs/nano2/ears-without-nicolas
python recipes/nano/try_ears.py --run runs/nano2/ears-without-nicolas --speakers nicolas --digits FSDD

Real people: every recording of a digit, half of them under 10 dB of noise, strings of four, and sums (people.py). With
--speech, synthetic held-out sentences and held-out voices too. A minute for one speaker; prints n and Wilson intervals.
"""

from __future__ import annotations

import argparse
from collections import Counter
from itertools import islice
from pathlib import Path

import checkpoint
import torch
from figures import Figure, print_table, share
from hearing import HEAR_RATE, SILENCE_S
from network import Nano
from people import Person
from speech_data import SPEAKERS
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

    @torch.inference_mode()
    def read(self, trials: list[Trial], together: int = 50) -> list[str]:
        """Transcripts, in the order of the trials."""
        waves = [resample(*trial.source, HEAR_RATE) for trial in trials]
        order = sorted(range(len(waves)), key=lambda i: len(waves[i]))
        out = [""] * len(waves)
        for at in range(0, len(order), together):
            part = order[at : at + together]
            clips = self.reader.read([waves[i] for i in part])
            rows = self.encoder.greedy_tokens(*self.encoder(clips.features, clips.lengths))
            for i, words in zip(part, rows, strict=True):
                out[i] = " ".join(self.tokenizer.convert_ids_to_tokens(words))
        return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help="folder of train_lm.py --faint-ears")
    parser.add_argument("--tokenizer", type=Path, default=Path("runs/nano2/tokenizer"))
    parser.add_argument("--digits", type=Path, help="folder of the Free Spoken Digit Dataset")
    parser.add_argument("--speakers", default=",".join(SPEAKERS), help="real speakers to try, with commas")
    parser.add_argument("--speech", type=Path, help="folder of make_speech.py")
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
    if args.speech:
        speech = Speech(args.speech)
        attempt("synthetic", "held-out sentences", list(speech.sentences(args.limit)))
        attempt("synthetic", "held-out voices", list(speech.voices(args.limit)))
    print_table(figures, f"{args.run}, ears alone")
    print("commonest misses:", *(f"{miss} ({n})" for miss, n in misses.most_common(10)), sep="\n  ")


if __name__ == "__main__":
    main()
