"""The bundle's closed vocabulary: one token per word of the domain, per letter and per phone.

python recipes/nano/make_tokenizer.py --out runs/nano2/tokenizer
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from domain import vocabulary
from follow_ups import added_words
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from vivavoce.tokens.phones import PHONES

SPECIALS = (
    "<pad> <unk> <|user|> <|heard|> <|assistant|> <|end|> <|unclear|> <|audio|> <|speak|> <|word|> <|frames|>"
).split()

# A spoken turn is audio, then what was heard; a typed turn is only what was "heard". After a spoken turn the
# model writes the transcript first, so the generation prompt ends at <|heard|>.
CHAT_TEMPLATE = (
    "{%- for m in messages -%}"
    "{%- if m['role'] == 'user' -%}"
    "{{ '<|user|>' }}"
    "{%- if m['content'] is string -%}{{ '<|heard|>' + m['content'] }}{%- set typed = true -%}"
    "{%- else -%}"
    "{%- for p in m['content'] -%}{%- if p['type'] == 'audio' -%}{{ '<|audio|>' }}{%- endif -%}{%- endfor -%}"
    "{{ '<|heard|>' }}"
    "{%- for p in m['content'] -%}{%- if p['type'] == 'text' -%}{{ ' ' + p['text'] }}{%- endif -%}{%- endfor -%}"
    "{%- endif -%}"
    "{%- elif m['role'] == 'assistant' -%}"
    "{{ '<|assistant|>' }}"
    "{%- if m['content'] is string -%}{{ m['content'] }}"
    "{%- else -%}"
    "{%- for p in m['content'] -%}{%- if p['type'] == 'text' -%}{{ ' ' + p['text'] }}{%- endif -%}{%- endfor -%}"
    "{%- endif -%}"
    "{{ '<|end|>' }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}"
    "{%- set last = messages[-1]['content'] -%}"
    "{%- if last is string or last | selectattr('type', 'equalto', 'text') | list -%}{{ '<|assistant|>' }}{%- endif -%}"
    "{%- endif -%}"
)


def build(added: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """Special tokens, phones and the words of the first edition in alphabetical order; then what was added.

    Ids never change, so that weights of before can be loaded and grown (growing.py).

    Args:
        added: Words and ``<|...|>`` tokens that follow, in this order.
    """
    return word_tokenizer([*SPECIALS, *(f"<|ph_{p}|>" for p in PHONES), *vocabulary(), *added])


def extended(
    tokenizer: PreTrainedTokenizerFast, added: Sequence[str], spelled: Mapping[str, str] | None = None
) -> PreTrainedTokenizerFast:
    """A tokenizer of this file with more tokens at its end.

    Args:
        tokenizer: Not changed.
        added: Words and ``<|...|>`` tokens; those that it has already are left out.
        spelled: How added words are written where text is made of tokens: "fünf" for ``funf``.
    """
    known = tokenizer.get_vocab()
    new = [name for name in added if name not in known]
    made = word_tokenizer([*sorted(known, key=known.__getitem__), *new])
    before = tokenizer.backend_tokenizer.decoder
    written = {word: spelled[word] for word in new if spelled and spelled.get(word, word) != word}
    if before or written:
        spaces = before or decoders.WordPiece(prefix="##", cleanup=False)
        accents = [decoders.Replace(Regex(rf"\b{word}\b"), text) for word, text in written.items()]
        made.backend_tokenizer.decoder = decoders.Sequence([spaces, *accents])
    return made


def word_tokenizer(names: list[str], template: str = CHAT_TEMPLATE) -> PreTrainedTokenizerFast:
    """A token for each name, lower case without punctuation; names that begin with "<" are never words of a text."""
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKD(),
            normalizers.StripAccents(),
            normalizers.Lowercase(),
            normalizers.Replace("ß", "ss"),
            normalizers.Replace(Regex(r"[.,?!;:\"]"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", eos_token="<|end|>",
        additional_special_tokens=[n for n in names if n.startswith("<") and n not in ("<pad>", "<unk>", "<|end|>")],
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    fast.chat_template = template
    return fast


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--edition", type=int, choices=[1, 2], default=2, help="1: single questions, 423 tokens"
    )
    args = parser.parse_args()
    tokenizer = build(added_words() if args.edition == 2 else ())
    tokenizer.save_pretrained(args.out)
    print(f"{len(tokenizer)} tokens in {args.out}")


if __name__ == "__main__":
    main()
