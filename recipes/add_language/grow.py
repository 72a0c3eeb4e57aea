"""A bundle with room for another language: its tokens, phones and voice, nothing learned yet.

python recipes/add_language/grow.py --out runs/german/start

Writes the tokenizer and the weights (state.pt), which ``recipes/nano/train_lm.py --language`` goes on from. Ids of the
bundle's own words never change.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[1] / "nano"))
import checkpoint
from growing import Weights, grow_phones, grow_tokens
from language import Language
from language_data import language_voice
from languages import LANGUAGES
from make_tokenizer import extended

from vivavoce.base.errors import VivavoceError
from vivavoce.models.loading import load_speech_lm
from vivavoce.models.voice.aligned import AlignedVoiceConfig
from vivavoce.models.voice.tables import fit_voices
from vivavoce.tokens.phones import ADDED_PHONES, ALL_PHONES, PHONES

LIKE_PHONES = {
    "ue": "iy uw", "oe": "er ow", "ee": "ey ih", "oo": "ow ao", "ich": "sh hh", "ach": "hh k",
    "rr": "r hh", "ar": "er ah",
}  # fmt: skip
"""Phones of ADDED_PHONES -> older ones that they start like."""


def language_tokenizer(tokenizer, language: Language):
    """The bundle's tokenizer with the language's phones and words at its end."""
    phones = [f"<|ph_{phone}|>" for phone in ADDED_PHONES]
    return extended(tokenizer, [*phones, *language.vocabulary()], language.spelled())


def grown(
    weights: Weights, old: int, tokenizer, voice: AlignedVoiceConfig, language: Language, *, meanings: bool = True,
    seed: int = 0,
) -> Weights:  # fmt: skip
    """A bundle's weights with rows for new words, phones and the new speaker.

    Args:
        weights: Of ``network.Nano``; not changed.
        old: Tokens of the bundle.
        tokenizer: Of ``language_tokenizer``.
        voice: Of ``language_voice``.
        language: To be learned.
        meanings: Words start like their English meaning where it is known, else at the mean.
        seed: Of the noise.
    """
    get = tokenizer.convert_tokens_to_ids
    names = tokenizer.convert_ids_to_tokens(list(range(old, len(tokenizer))))
    alike = {f"<|ph_{p}|>": [f"<|ph_{q}|>" for q in qs.split()] for p, qs in LIKE_PHONES.items()}
    if meanings:
        alike |= {word: [meaning] for word, meaning in language.meanings().items()}
    weights = grow_tokens(weights, len(names) + old, [get(alike.get(n, [])) for n in names], seed)
    phones = [[PHONES.index(q) for q in LIKE_PHONES[p].split()] for p in ADDED_PHONES]
    weights = grow_phones(weights, len(ALL_PHONES), phones, seed)
    return fit_voices(weights, voice, "voice.")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--language", choices=LANGUAGES, default="german")
    parser.add_argument("--bundle", default="nano", help="what the language is added to")
    parser.add_argument("--no-meanings", action="store_true", help="new words do not start at their meaning")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    language = LANGUAGES[args.language]
    torch.manual_seed(args.seed)
    bundle, processor = load_speech_lm(args.bundle, device="cpu")
    tokenizer = language_tokenizer(processor.tokenizer, language)
    weights = {name: value.float() for name, value in bundle.state_dict().items()}
    voice = language_voice(bundle.voice.config, language)
    weights = grown(weights, len(processor.tokenizer), tokenizer, voice, language, meanings=not args.no_meanings,
                    seed=args.seed)  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(args.out / "tokenizer")
    checkpoint.save(args.out / "state.pt", model=weights)
    print(f"{args.out}: {len(tokenizer)} tokens, {len(processor.tokenizer)} of before")


if __name__ == "__main__":
    try:
        main()
    except VivavoceError as error:
        raise SystemExit(f"grow.py: {error}") from None
