"""The codecs that are known by name: where their weights are, their numbers and their licences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from math import log2
from pathlib import Path

from vivavoce.codecs.contract import CodecSpec

EMBEDDED = Path(__file__).parents[1] / "bundle" / "nano" / "codec"

# name -> hub id of the published weights; "nano" is in the package
HUB_IDS = {
    "snac_24khz": "hubertsiuzdak/snac_24khz",
    "snac_32khz": "hubertsiuzdak/snac_32khz",
    "snac_44khz": "hubertsiuzdak/snac_44khz",
    "encodec_24khz": "facebook/encodec_24khz",
    "mimi": "kyutai/mimi",
}
# a kind of codec -> the name of its usual weights
USUAL = {"snac": "snac_24khz", "encodec": "encodec_24khz"}

ENCODEC_LICENCE = "MIT (code), see the model card (published weights)"
MIMI_LICENCE = "Apache-2.0 (code), CC-BY-4.0 (published weights)"

# as published, at the default number of levels; tests compare them with the models
_ENCODEC = CodecSpec("encodec_24khz", 24_000, 320, (1,) * 2, 1024, 0, True, licence=ENCODEC_LICENCE)
_MIMI = CodecSpec("mimi", 24_000, 1920, (1,) * 8, 2048, 0, True, licence=MIMI_LICENCE)


@dataclass(frozen=True)
class ListedCodec(CodecSpec):
    """A row of ``list_codecs``: the numbers of a codec and whether it can be used now.

    Attributes:
        source: Hub id, or "" for the codec in the package.
        offline: Its files are on this machine.
    """

    source: str = ""
    offline: bool = False

    @property
    def kbit_per_second(self) -> float:
        return self.tokens_per_second * log2(self.codebook_size) / 1000


def published_specs() -> Iterator[CodecSpec]:
    """The numbers of every codec known by name, without loading weights."""
    from vivavoce.codecs.nano import NanoCodec
    from vivavoce.codecs.snac import PUBLISHED

    yield NanoCodec().spec
    for name, config in PUBLISHED.items():
        yield config.spec(name)
    yield from (_ENCODEC, _MIMI)


def listed(spec: CodecSpec, offline: bool) -> ListedCodec:
    """Make a row of a spec."""
    values = {field.name: getattr(spec, field.name) for field in fields(CodecSpec)}
    return ListedCodec(**values, source=HUB_IDS.get(spec.name, ""), offline=offline)
