"""How a tokenizer and a language model get audio tokens, and how those of a published one are found.

`AudioVocabulary` (in `record.py`) is what both return.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from vivavoce.base.errors import ModelError, VocabularyError
from vivavoce.codecs.contract import CodecSpec
from vivavoce.tokens.embedding_rows import check_init, grow_embeddings, num_embedding_rows, padded_rows
from vivavoce.tokens.layouts import build_layout
from vivavoce.tokens.naming import STYLES, NameStyle, name_style
from vivavoce.tokens.record import FILE_NAME, AudioVocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["AudioVocabulary", "detect_vocabulary", "extend_vocabulary", "plan_vocabulary"]

# code tokens counted in published tokenizers -> (codec, codes per level, frame samples, sample rate in Hz).
# Jan-Llama3 v0.1: two EnCodec codebooks at 75 Hz; later Ichigo models: one Whisper-based codebook at 25 Hz,
# whose published tokenizers hold one code more than the codebook.
_SOUND_CODECS: dict[int, tuple[str, tuple[int, ...], int, int]] = {
    1024: ("encodec_24khz", (1, 1), 320, 24_000),
    512: ("whispervq", (1,), 640, 16_000),
    513: ("whispervq", (1,), 640, 16_000),
    2560: ("ichigo_whisper", (1,), 640, 16_000),
    2561: ("ichigo_whisper", (1,), 640, 16_000),
}


def plan_vocabulary(
    layout: str, codec_spec: CodecSpec, *, style: str | NameStyle | None = None, num_text_tokens: int = 0
) -> AudioVocabulary:
    """The record that extending a tokenizer of ``num_text_tokens`` tokens gives; touches no tokenizer.

    Use it to write audio as text or ids for a tokenizer that is not at hand: 128256 text tokens are Llama
    3's, and with them layout ``orpheus`` gives the ids of the published Orpheus models.

    Raises:
        ConfigError: unknown layout or style.
        LayoutError: the codec has no such layout.
    """
    names = name_style(style, layout)
    num_codes = build_layout(layout, codec_spec).num_ids
    base = num_text_tokens
    return AudioVocabulary(
        layout=layout,
        codec=codec_spec.name,
        codes_per_level=codec_spec.codes_per_level,
        codebook_size=codec_spec.codebook_size,
        frame_samples=codec_spec.frame_samples,
        sample_rate=codec_spec.sample_rate,
        start_id=base + names.role_place("start"),
        end_id=base + names.role_place("end"),
        first_code_id=base + names.place(names.first_number),
        num_codes=num_codes,
        style=names,
        codec_weights=codec_spec.weights,
        roles={role: base + n for role, n in names.roles.items() if role not in ("start", "end")},
        num_tokens=base + names.num_tokens(num_codes),
    )


def extend_vocabulary(
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel | None = None,
    *,
    codec_spec: CodecSpec,
    layout: str = "orpheus",
    style: str | NameStyle | None = None,
    init: str = "mean",
    seed: int = 0,
    pad_to_multiple_of: int | None = None,
) -> AudioVocabulary:
    """Add audio tokens to a tokenizer, and rows for them to a model.

    Start, end and other control tokens are special tokens, codes are plain ones, so ``skip_special_tokens``
    does not hide codes.

    Args:
        tokenizer: Any Hugging Face tokenizer; changed in place.
        model: The causal LM that goes with it; changed in place, tied embeddings stay tied. None: tokenizer
            only.
        codec_spec: The codec; its name and weights hash are recorded.
        layout: Name in ``LAYOUTS``.
        style: Spelling: "sound", "sound_padded", "orpheus", an own ``NameStyle``, or None for the layout's
            usual.
        init: Filling of new rows: "mean", "normal" or "copy" (see ``embedding_rows.grow_embeddings``).
        seed: For that filling.
        pad_to_multiple_of: Round the model's rows up, such as to 128. Rows are never removed.

    Returns:
        The record; save it with ``record.save(folder)`` beside the tokenizer and the model.

    Raises:
        ConfigError: unknown layout, style or init.
        LayoutError: the codec has no such layout.
        ModelError: the model has fewer rows than the tokenizer has tokens.
        VocabularyError: audio tokens are there already, or the tokenizer does not keep the new ones whole.
    """
    plan = plan_vocabulary(layout, codec_spec, style=style, num_text_tokens=len(tokenizer))
    tokens = plan.style.tokens(plan.num_codes)
    present = tokenizer.get_vocab()
    taken = [name for name, _ in tokens if name in present]
    if taken:
        raise VocabularyError(
            f"the tokenizer already has {len(taken)} of {len(tokens)} audio tokens, such as {taken[0]!r}; "
            f"use detect_vocabulary(tokenizer), or another style."
        )
    had_rows = num_embedding_rows(model) if model is not None else 0
    if model is not None and had_rows < len(tokenizer):
        raise ModelError(
            f"the model has {had_rows} embedding rows, its tokenizer {len(tokenizer)} tokens; "
            f"load the tokenizer that belongs to the model."
        )
    padded_rows(0, pad_to_multiple_of)
    check_init(init)
    _add(tokenizer, tokens)
    vocab = tokenizer.get_vocab()
    ids = [vocab[name] for name, _ in tokens]
    base = ids[0]
    if ids != list(range(base, base + len(ids))):
        raise VocabularyError(
            "the tokenizer did not give consecutive ids to new tokens; it cannot be extended."
        )
    record = plan_vocabulary(layout, codec_spec, style=plan.style, num_text_tokens=base)
    record.check_tokenizer(tokenizer)
    if model is None:
        return record
    rows = padded_rows(max(had_rows, record.num_tokens), pad_to_multiple_of)
    done = grow_embeddings(
        model, num_text_rows=base, num_tokens=record.num_tokens, num_rows=rows, init=init, seed=seed
    )
    return dataclasses.replace(record, num_rows=rows, initialisation=done)


def _add(tokenizer: PreTrainedTokenizerBase, tokens: list[tuple[str, bool]]) -> None:
    from tokenizers import AddedToken

    tokenizer.add_tokens([AddedToken(name, special=control, normalized=False) for name, control in tokens])
    tokenizer.add_special_tokens(
        {"additional_special_tokens": [name for name, control in tokens if control]},
        replace_extra_special_tokens=False,
    )


def detect_vocabulary(
    tokenizer: PreTrainedTokenizerBase,
    codec_spec: CodecSpec | None = None,
    *,
    style: str | None = None,
) -> AudioVocabulary:
    """Find the audio tokens of a tokenizer that has them, ours or a published one.

    A record beside the tokenizer's files is read first. Otherwise the spelling, padded or not, and the
    geometry are read from the tokens themselves. In every case all audio tokens are encoded once and
    compared.

    Args:
        tokenizer: Such as that of Jan-Llama3, Ichigo, Orpheus, or one that ``extend_vocabulary`` made.
        codec_spec: The codec; needed when the number of codes does not tell it.
        style: Demand this spelling ("sound", "sound_padded", "orpheus"). None: take what is there.

    Raises:
        VocabularyError: no audio tokens, mixed spellings, gaps, tokens that split into pieces, another style
            than demanded, or a geometry that needs ``codec_spec`` to be told.
    """
    folder = Path(str(getattr(tokenizer, "name_or_path", "") or ""))
    if (folder / FILE_NAME).is_file():
        record = AudioVocabulary.load(folder)
    else:
        record = _read_tokens(tokenizer, codec_spec, style)
    if style is not None and name_style(style, record.layout) != record.style:
        raise VocabularyError(
            f"the tokenizer spells its codes such as {record.code_token(7)!r}, style {style!r} was demanded; "
            f"the text would fall into pieces. Use the style that is there."
        )
    if codec_spec is not None:
        record.check_codec(codec_spec)
    record.check_tokenizer(tokenizer)
    return record


def _read_tokens(
    tokenizer: PreTrainedTokenizerBase, spec: CodecSpec | None, style: str | None
) -> AudioVocabulary:
    vocab: dict[str, int] = tokenizer.get_vocab()
    families = {"sound": STYLES["sound"], "orpheus": STYLES["orpheus"]}
    found = {name: _numbers(vocab, family) for name, family in families.items()}
    found = {name: numbers for name, numbers in found.items() if numbers}
    if style is not None and len(found) > 1:
        found = {name: numbers for name, numbers in found.items() if style.startswith(name)}
    if not found:
        raise VocabularyError(
            "the tokenizer has no audio tokens such as '<|sound_7|>', '<|sound_0007|>' or "
            "'<custom_token_7>'; add them with extend_vocabulary(tokenizer, model, codec_spec=...)."
        )
    if len(found) > 1:
        raise VocabularyError("the tokenizer has audio tokens of several styles; say which with style=...")
    [(family_name, numbers)] = found.items()
    names = dataclasses.replace(families[family_name], width=_width(numbers))
    num_codes = _count(vocab, names, numbers)
    roles = {r: vocab[names.numbered(n)] for r, n in names.roles.items() if names.numbered(n) in vocab}
    for role in ("start", "end"):
        if names.role_token(role) not in vocab:
            raise VocabularyError(
                f"the tokenizer has {num_codes} code tokens but no {names.role_token(role)!r}; "
                f"add that token, or load the tokenizer that belongs to the model."
            )
    layout, codec, per_level, size, frame, rate = _geometry(family_name, num_codes, spec)
    if names.roles:
        # unused numbered tokens may follow the codes
        num_codes = min(num_codes, size if layout == "interleaved" else sum(per_level) * size)
    return AudioVocabulary(
        layout=layout,
        codec=codec,
        codes_per_level=per_level,
        codebook_size=size,
        frame_samples=frame,
        sample_rate=rate,
        start_id=vocab[names.role_token("start")],
        end_id=vocab[names.role_token("end")],
        first_code_id=vocab[names.numbered(names.first_number)],
        num_codes=num_codes,
        style=names,
        codec_weights=spec.weights if spec else "",
        roles={role: token_id for role, token_id in roles.items() if role not in ("start", "end")},
        num_tokens=len(tokenizer),
    )


def _numbers(vocab: dict[str, int], family: NameStyle) -> dict[int, list[str]]:
    """Number -> digits as spelled, of all tokens of a family."""
    pattern, numbers = family.pattern(), {}  # type: ignore[var-annotated]
    for name in vocab:
        if name.startswith(family.prefix) and (match := pattern.fullmatch(name)):
            numbers.setdefault(int(match[1]), []).append(match[1])
    return numbers


def _width(numbers: dict[int, list[str]]) -> int:
    """Zero-padding of the numbers; refuses two spellings in one tokenizer."""
    spelled = [digits for all_digits in numbers.values() for digits in all_digits]
    width = max((len(d) for d in spelled if len(d) > 1 and d[0] == "0"), default=0)
    odd = next((d for d in spelled if d != f"{int(d):0{width}d}"), None)
    if odd is not None:
        raise VocabularyError(
            f"audio token number {odd!r} is not padded like the others ({width} digits); "
            f"the tokenizer was extended twice with different names, remove one set."
        )
    return width


def _count(vocab: dict[str, int], names: NameStyle, numbers: dict[int, list[str]]) -> int:
    """How many codes follow the first one without a gap; refuses gaps."""
    codes = sorted(n for n in numbers if n >= names.first_number)
    wanted = list(range(names.first_number, names.first_number + len(codes)))
    missing = next((n for n, m in zip(wanted, codes, strict=True) if n != m), None)
    if not codes or missing is not None:
        first = names.numbered(names.first_number if missing is None else missing)
        raise VocabularyError(f"code token {first!r} is missing; the tokenizer's audio tokens have a gap.")
    base = vocab[names.numbered(codes[0])]
    for i, number in enumerate(codes):
        if vocab[names.numbered(number)] != base + i:
            raise VocabularyError(
                f"{names.numbered(number)!r} has id {vocab[names.numbered(number)]}, wanted {base + i}: "
                f"codes must have consecutive ids. The tokenizer cannot be used."
            )
    return len(codes)


def _geometry(
    family: str, num_codes: int, spec: CodecSpec | None
) -> tuple[str, str, tuple[int, ...], int, int, int]:
    """(layout, codec, codes per level, codebook size, frame samples, sample rate) of what was counted."""
    if spec is not None:
        slots = spec.codes_per_frame
        wide = num_codes >= slots * spec.codebook_size and (slots > 1 or family == "orpheus")
        layout = "orpheus" if wide else "interleaved"
        size, frame, rate = spec.codebook_size, spec.frame_samples, spec.sample_rate
        return layout, spec.name, spec.codes_per_level, size, frame, rate
    if family == "orpheus" and num_codes - 7 * 4096 in (0, 1):
        return "orpheus", "snac_24khz", (1, 2, 4), 4096, 2048, 24_000
    if family == "sound" and num_codes in _SOUND_CODECS:
        codec, per_level, frame, rate = _SOUND_CODECS[num_codes]
        return "interleaved", codec, per_level, num_codes, frame, rate
    raise VocabularyError(
        f"{num_codes} code tokens in style {family!r} belong to no codec known by that number; "
        f"pass the codec: detect_vocabulary(tokenizer, codec.spec)."
    )
