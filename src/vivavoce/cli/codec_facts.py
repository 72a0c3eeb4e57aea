"""The numbers of codecs, by name or folder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from vivavoce.base.errors import CheckpointError, CodecError
from vivavoce.cli.model_facts import size_mb


def known_codecs() -> list[dict[str, Any]]:
    """The codecs that have a name, and whether their files are on this machine."""
    from vivavoce.codecs.loading import list_codecs

    return [
        {**spec_facts(codec), "offline": codec.offline, "source": codec.source or "in the package"}
        for codec in list_codecs()
    ]


def known_codec(name: str) -> dict[str, Any] | None:
    """The row of ``known_codecs`` with this name; None for "nano", which is first of all a model."""
    if name == "nano" or "/" in name:
        return None
    return next(({"kind": "codec", **row} for row in known_codecs() if row["name"] == name), None)


def codec_facts(name: str) -> dict[str, Any]:
    """The spec of a codec folder; this one is loaded, as codecs are small.

    Raises:
        CodecError, CheckpointError: It cannot be loaded.
    """
    from vivavoce.codecs.loading import load_codec

    codec = load_codec(name)
    spec = codec.spec
    return {
        "kind": "codec",
        **spec_facts(spec),
        "folder": name,
        "frame_samples": spec.frame_samples,
        "codes_per_frame": spec.codes_per_frame,
        "strides": list(spec.strides),
        "causal": spec.causal,
        "parameters": sum(p.numel() for p in codec.parameters()),
        "weights": spec.weights or None,
        "size_mb": size_mb(Path(name).expanduser()),
    }


def spec_facts(spec: Any) -> dict[str, Any]:
    """The numbers by which codecs are compared."""
    return {
        "name": spec.name,
        "sample_rate": spec.sample_rate,
        "levels": spec.num_levels,
        "codebook_size": spec.codebook_size,
        "tokens_per_second": spec.tokens_per_second,
        "kbit_per_second": spec.tokens_per_second * math.log2(spec.codebook_size) / 1000,
        "lookahead_ms": 1000 * spec.lookahead_samples / spec.sample_rate,
        "licence": spec.licence or None,
    }


def is_codec_folder(folder: Path) -> bool:
    """Whether a folder's config says that it holds a codec."""
    from vivavoce.codecs.loading import codec_kind

    try:
        return bool(codec_kind(folder))
    except (CodecError, CheckpointError):
        return False
