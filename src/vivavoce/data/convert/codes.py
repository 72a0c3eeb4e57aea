"""Codes in columns: codecs by name without their weights, and the ``tokens`` of audio parts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vivavoce.base.errors import AudioError, ConfigError, LayoutError
from vivavoce.data.conversation import Audio, Conversation
from vivavoce.data.convert.contract import RowError, Unfit
from vivavoce.data.convert.own import with_ids

if TYPE_CHECKING:
    from vivavoce.codecs.contract import CodecSpec, Codes


@lru_cache(maxsize=16)
def codec_spec(name: str) -> CodecSpec:
    """The numbers of a codec that is known by name; no weights are needed.

    Raises:
        ConfigError: It is not known.
    """
    from vivavoce.codecs.published import published_specs

    known = {spec.name: spec for spec in published_specs()}
    known |= {spec.name: spec for spec in _whisper_tokens()}
    if name not in known:
        raise ConfigError(f"no numbers are known of the codec {name!r}; known: {', '.join(sorted(known))}.")
    return known[name]


def _whisper_tokens() -> Iterator[CodecSpec]:
    """Speech tokens of the later Jan-Llama3 and Ichigo models: one codebook, 25 tokens a second, one token more."""
    from vivavoce.codecs.contract import CodecSpec

    yield CodecSpec("whispervq", 16_000, 640, (1,), 513, 0, False)
    yield CodecSpec("ichigo_whisper", 16_000, 640, (1,), 2561, 0, False)


def true_samples(seconds: Any, whole: int, spec: CodecSpec) -> int:
    """The true number of samples, where the length that is given belongs to these frames.

    Args:
        seconds: As the row has it, None for unknown.
        whole: Samples of all frames.
        spec: Of the codec.

    Raises:
        RowError: The length does not fit the frames.
    """
    if seconds is None:
        return whole
    try:
        samples = round(float(seconds) * spec.sample_rate)
    except (TypeError, ValueError) as error:
        raise RowError("malformed", f"the length is {str(seconds)[:40]!r}, wanted seconds.") from error
    if samples < 1 or spec.num_frames(samples) * spec.frame_samples != whole:
        raise RowError(
            "length", f"{samples} samples need {spec.num_frames(max(samples, 1))} frames, the codes have "
            f"{whole // spec.frame_samples}."
        )  # fmt: skip
    return samples


def tokens_of(
    codes: Codes, spec: CodecSpec, num_samples: int, codec_hash: str, layout: str = "orpheus"
) -> dict[str, Any]:
    """Codes as the ``tokens`` of an audio part."""
    from vivavoce.tokens.layouts import build_layout

    made = {"codec": spec.name, "codec_hash": codec_hash, "layout": layout, "num_samples": num_samples}
    if not codec_hash:
        del made["codec_hash"]
    return made | {"ids": build_layout(layout, spec).flatten(codes)}


def codes_of(part: Audio, root: Path, codec: str) -> tuple[Codes, CodecSpec]:
    """The codes of an audio part's ``tokens``, with the true length.

    Args:
        part: With tokens.
        root: Where relative paths of token files start.
        codec: The only codec that is wanted.

    Raises:
        Unfit: They are of another codec.
        AudioError: They are damaged.
    """
    from vivavoce.codecs.contract import Codes
    from vivavoce.tokens.layouts import build_layout

    tokens = part.tokens or {}
    if tokens.get("codec") != codec:
        raise Unfit(f"tokens of the codec {tokens.get('codec')!r}, wanted {codec!r}; name it with codec")
    if tokens.get("path"):
        tokens = with_ids(tokens, root)
    spec = codec_spec(codec)
    try:
        layout = build_layout(str(tokens.get("layout", "orpheus")), spec)
        codes = layout.unflatten(tokens.get("ids") or [], spec.frame_samples)
    except (ConfigError, LayoutError) as error:
        raise AudioError(f"the tokens of a recording are damaged: {error}") from error
    samples = tokens.get("num_samples")
    return Codes(codes.levels, [int(samples)] if samples else codes.num_samples), spec


def normal_tokens(row: Conversation, layout: str, codec_hash: str, whole: bool) -> None:
    """Bring the tokens of a row, which is changed, into the form in which a column of codes is read.

    Args:
        row: Its tokens have their ids inside.
        layout: Of the reader.
        codec_hash: As the reader is told.
        whole: The form has no room for the true length, so frames count whole.
    """
    for part in row.audio_parts():
        if part.tokens and not part.tokens.get("path"):
            codes, spec = codes_of(part, Path(), str(part.tokens.get("codec")))
            frames = codes.levels[0].shape[1] // spec.codes_per_level[0]
            samples = frames * spec.frame_samples if whole else codes.num_samples[0]
            part.tokens = tokens_of(codes, spec, samples, codec_hash, layout)


def lost_of_tokens(row: Conversation, codec_hash: str, whole: bool) -> set[str]:
    """What of the tokens a column of codes has no room for; arguments as in ``normal_tokens``."""
    found = set()
    for part in row.audio_parts():
        tokens = part.tokens or {}
        if tokens.get("codec_hash") and tokens["codec_hash"] != codec_hash:
            found.add("codec hash")
        spec = codec_spec(str(tokens["codec"])) if whole and tokens else None
        if spec is not None and (tokens.get("num_samples") or 0) % spec.frame_samples:
            found.add("code lengths")
    return found
