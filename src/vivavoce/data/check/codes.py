"""Checks of sound tokens that rows hold: whole frames of their layout, of the right codec, of the right length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vivavoce.base.errors import ConfigError, LayoutError
from vivavoce.data.check.findings import Finding, short
from vivavoce.data.conversation import Audio

if TYPE_CHECKING:
    from vivavoce.codecs.contract import CodecSpec

STUCK_SHARE, STUCK_FRAMES = 0.9, 10
SLACK_S = 0.05
_NEEDED = ("codec", "layout", "num_samples")


@lru_cache(maxsize=1)
def _published() -> Mapping[str, CodecSpec]:
    from vivavoce.codecs.published import published_specs

    return {spec.name: spec for spec in published_specs()}


def read_ids(tokens: Mapping[str, Any], root: Path) -> list[int]:
    """The ids of an audio part: its own, or those of the .npy file that it names.

    Raises:
        LayoutError: There are none, or they are no line of integers.
    """
    ids: Any = tokens.get("ids")
    if ids is None and isinstance(tokens.get("path"), str):
        try:
            ids = np.load(root / tokens["path"], allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise LayoutError(f"{tokens['path']} cannot be read: {error}") from error
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise LayoutError(
                f"{tokens['path']} holds {ids.dtype} of shape {list(ids.shape)}, wanted a line of ids"
            )
        ids = ids.tolist()
    if not isinstance(ids, list | tuple) or not ids:
        raise LayoutError("there are no ids")
    return list(ids)


def check_tokens(
    part: Audio, seconds: float | None, codec: CodecSpec | None, root: Path, where: str
) -> Iterator[Finding]:
    """Check the sound tokens of an audio part, if it has any.

    Args:
        part: Of a row.
        seconds: Length of its recording's part that counts; None if there is none, or it is not known.
        codec: The codec of the training; None takes the row's word.
        root: Where relative paths start.
        where: Place of the part.
    """
    tokens = part.tokens
    if tokens is None:
        return
    missing = [name for name in _NEEDED if tokens.get(name) in (None, "")]
    if missing:
        yield Finding("tokens_incomplete", f"tokens without {', '.join(missing)}", ", ".join(_NEEDED), where)
    try:
        ids = read_ids(tokens, root)
    except LayoutError as error:
        yield Finding(
            "tokens_incomplete", short(str(error), 200), "ids, or the path of a .npy file of them", where
        )
        return
    name, weights = str(tokens.get("codec") or ""), str(tokens.get("codec_hash") or "")
    if not weights:
        yield Finding(
            "no_codec_hash", f"codec {name!r} without codec_hash", "the hash of the codec's weights", where
        )
    if codec is not None and _differs(codec, name, weights):
        seen = f"codec {name!r} {weights}".rstrip()
        yield Finding("codec_differs", seen, f"{codec.name!r} {codec.weights}".rstrip(), where)
        return
    spec = codec or _published().get(name)
    if spec is None:
        yield Finding("unknown_codec", f"codec {name!r}", f"one of {', '.join(_published())}", where)
    elif tokens.get("layout"):
        yield from _frames(ids, tokens, spec, seconds, where)


def _differs(codec: CodecSpec, name: str, weights: str) -> bool:
    """Whether ids are of another codec: hashes tell where both are known, else names."""
    return weights != codec.weights if weights and codec.weights else name != codec.name


def _frames(
    ids: list[int], tokens: Mapping[str, Any], spec: CodecSpec, seconds: float | None, where: str
) -> Iterator[Finding]:
    from vivavoce.tokens.layouts import build_layout

    wanted = f"whole frames of layout {tokens['layout']!r} of {spec.name!r}"
    try:
        layout = build_layout(str(tokens["layout"]), spec)
    except (ConfigError, LayoutError) as error:
        yield Finding("bad_tokens", short(str(error).rstrip("."), 200), wanted, where)
        return
    try:
        layout.unflatten(ids, spec.frame_samples)
    except LayoutError as error:
        seen = short(str(error).rstrip("."), 200)
        if all(isinstance(i, int) for i in ids) and min(ids) >= layout.num_ids:
            seen += f"; these look like token ids of a vocabulary, the least is {min(ids)}"
        yield Finding("bad_tokens", seen, wanted, where)
        return
    frames = np.asarray(ids).reshape(-1, layout.period)
    if len(frames) >= STUCK_FRAMES:
        most = int(np.unique(frames, axis=0, return_counts=True)[1].max())
        if most > STUCK_SHARE * len(frames):
            yield Finding(
                "tokens_stuck", f"{most} of {len(frames)} frames are the same", "frames that change", where
            )
    samples = tokens.get("num_samples")
    if samples is None:
        return
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
        yield Finding("tokens_length", f"num_samples is {samples!r}", "a number of 1 or more", where)
        return
    if spec.num_frames(samples) != len(frames):
        seen = f"{len(frames)} frames for {samples} samples at {spec.sample_rate} Hz"
        yield Finding("tokens_length", seen, f"{spec.num_frames(samples)} frames", where)
        return
    told = samples / spec.sample_rate
    if seconds is not None and abs(told - seconds) > max(SLACK_S, 2 * spec.frame_samples / spec.sample_rate):
        yield Finding(
            "tokens_duration", f"codes of {told:.2f} s, a recording of {seconds:.2f} s", "the same", where
        )
