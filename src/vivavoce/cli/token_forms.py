"""How codes are written down and read back by ``encode`` and ``decode``: text, ids, or a NumPy array.

text  the tokens as a tokenizer spells them, start and end included, one clip per line
ids   their token ids, decimal, one space between, one clip per line
npy   int32 [T, codes per frame], the plain codes of T coarse frames in slot order (depth first: A B C C B C C
      for SNAC 24 kHz), no start, end or offsets; the layout does not matter

The true number of samples is in none of them; whole frames are decoded unless it is given.
"""

from __future__ import annotations

import dataclasses
import io
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from vivavoce.base.errors import CodecError, ConfigError, LayoutError

if TYPE_CHECKING:
    from vivavoce.codecs.contract import CodecSpec, Codes
    from vivavoce.tokens.record import AudioVocabulary

LLAMA3_TEXT_TOKENS = 128_256


class Form(StrEnum):
    """Ways to write codes down."""

    text = "text"
    ids = "ids"
    npy = "npy"


SUFFIXES = {Form.text: ".txt", Form.ids: ".ids", Form.npy: ".npy"}


def plan_tokens(
    layout: str, spec: CodecSpec, base: int | None = None, style: str | None = None
) -> AudioVocabulary:
    """The audio tokens that a layout of a codec has in a tokenizer.

    Args:
        layout: Name of the layout.
        spec: The codec.
        base: Token id of the first code; default as after Llama 3's text tokens. Start and end keep their
            distance to it.
        style: Spelling of the tokens; default the layout's usual.

    Raises:
        ConfigError, LayoutError: Unknown layout or style, a codec without such a layout, a negative base.
    """
    from vivavoce.tokens.vocabulary import plan_vocabulary

    plan = plan_vocabulary(layout, spec, style=style, num_text_tokens=LLAMA3_TEXT_TOKENS)
    if base is None:
        return plan
    if base < 0:
        raise ConfigError(f"--base is {base}, wanted the token id of the first code, 0 or more.")
    shift = base - plan.first_code_id
    return dataclasses.replace(
        plan,
        first_code_id=base,
        start_id=plan.start_id + shift,
        end_id=plan.end_id + shift,
        roles={role: token_id + shift for role, token_id in plan.roles.items()},
    )


def token_list(codes: Codes, vocabulary: AudioVocabulary, bare: bool = False) -> list[int]:
    """The token ids of one clip; ``bare`` leaves out start and end.

    Raises:
        ConfigError: The base leaves no room for start and end.
    """
    ids = vocabulary.to_ids(codes)
    if bare:
        return ids[1:-1]
    if min(vocabulary.start_id, vocabulary.end_id) < 0:
        raise ConfigError(
            f"--base {vocabulary.first_code_id} leaves no ids for start and end of audio; add --bare to "
            "leave them out, or choose a higher base."
        )
    return ids


def token_text(codes: Codes, vocabulary: AudioVocabulary, bare: bool = False) -> str:
    """The tokens of one clip as a tokenizer spells them; ``bare`` leaves out start and end."""
    text = vocabulary.to_text(codes)
    if bare:
        text = text.removeprefix(vocabulary.start_token).removesuffix(vocabulary.end_token)
    return text


def code_frames(codes: Codes, vocabulary: AudioVocabulary) -> Any:
    """The plain codes of one clip, int32 [T, codes per frame] in slot order."""
    import numpy as np

    return slot_order(vocabulary).frames(codes).numpy().astype(np.int32)


def slot_order(vocabulary: AudioVocabulary) -> Any:
    """The layout without offsets, whose ids are the plain codes."""
    from vivavoce.tokens.layouts import Interleaved

    return Interleaved(vocabulary.codes_per_level, vocabulary.codebook_size)


def write_tokens(codes: Codes, vocabulary: AudioVocabulary, form: Form, bare: bool = False) -> bytes:
    """One clip in one of the forms."""
    if form is Form.npy:
        import numpy as np

        buffer = io.BytesIO()
        np.save(buffer, code_frames(codes, vocabulary), allow_pickle=False)
        return buffer.getvalue()
    if form is Form.ids:
        return (" ".join(map(str, token_list(codes, vocabulary, bare))) + "\n").encode()
    return (token_text(codes, vocabulary, bare) + "\n").encode()


def detect_form(data: bytes, name: str) -> Form:
    """Tell the form of a token file from its contents.

    Raises:
        LayoutError: It is empty, or neither text nor an array.
    """
    if data.startswith(b"\x93NUMPY"):
        return Form.npy
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        raise LayoutError(f"{name} holds no tokens: it is neither text nor a .npy array.") from None
    if not text:
        raise LayoutError(f"{name} is empty; wanted tokens as text, ids or a .npy array.")
    return Form.ids if re.fullmatch(r"[-+0-9\s,\[\]]+", text) else Form.text


def read_tokens(data: bytes, name: str, vocabulary: AudioVocabulary, form: Form | None = None) -> Codes:
    """Read one clip in one of the forms; the exact inverse of ``write_tokens`` up to the true length.

    Args:
        data: Contents of the file.
        name: For messages.
        vocabulary: The tokens.
        form: None tells it from the contents.

    Returns:
        Codes of batch 1 with at least one frame; ``num_samples`` counts whole frames.

    Raises:
        LayoutError: Names the file and the first bad position.
        CodecError: An array that does not fit the codec.
    """
    form = form or detect_form(data, name)
    try:
        if form is Form.npy:
            codes = _from_array(data, vocabulary)
        elif form is Form.ids:
            codes = vocabulary.from_ids(_integers(_text(data)))
        else:
            codes = vocabulary.from_text(_text(data), any_width=True)
    except LayoutError as error:
        raise LayoutError(f"{name}: {error}", error.position) from error
    except CodecError as error:
        raise CodecError(f"{name}: {error}") from error
    if not codes.num_samples[0]:
        raise LayoutError(f"{name} holds no audio codes; wanted at least one frame.")
    return codes


def set_length(codes: Codes, spec: CodecSpec, num_samples: int, name: str) -> None:
    """Put the true length into codes that were read.

    Raises:
        CodecError: No clip of that length has so many frames.
    """
    frames = codes.levels[0].shape[1] // spec.codes_per_level[0]
    if num_samples < 1 or spec.num_frames(num_samples) != frames:
        step = spec.pad_to_frames
        low = max(frames - step, 0) * spec.frame_samples + 1
        raise CodecError(
            f"{name} holds {frames} frames, which are {low} to {frames * spec.frame_samples} samples at "
            f"{spec.sample_rate} Hz; --num-samples is {num_samples}."
        )
    codes.num_samples = [num_samples]


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise LayoutError(f"not text: byte {error.start} is no UTF-8.", position=0) from error


def _integers(text: str) -> list[int]:
    words = re.sub(r"[\[\],]", " ", text).split()
    for at, word in enumerate(words):
        if not re.fullmatch(r"[0-9]{1,10}", word):
            raise LayoutError(f"{word[:20]!r} at position {at} is no token id.", position=at)
    return [int(word) for word in words]


def _from_array(data: bytes, vocabulary: AudioVocabulary) -> Codes:
    import numpy as np
    import torch

    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise LayoutError(f"not a readable .npy array: {error}.") from error
    layout = slot_order(vocabulary)
    if array.ndim != 2 or array.dtype.kind not in "iu" or array.shape[1] != layout.period:
        raise CodecError(
            f"an array of {array.dtype} {list(array.shape)}; codec {vocabulary.codec!r} wants integers "
            f"[T, {layout.period}], one row per frame."
        )
    flat = torch.from_numpy(array.astype(np.int64).reshape(-1))
    codes: Codes = layout.unflatten(flat, vocabulary.frame_samples)
    return codes
