"""Codecs to train by name: from scratch, from a published folder or from one of our own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, cast

from vivavoce.base.errors import ConfigError
from vivavoce.base.records import read_record
from vivavoce.codecs.loading import codec_kind, find_folder, load_codec
from vivavoce.codecs.nano import NanoCodec, NanoCodecConfig
from vivavoce.codecs.snac import PUBLISHED, SNACCodec, SNACConfig
from vivavoce.codecs.training.nano import TrainedNano
from vivavoce.codecs.training.snac import TrainedSNAC
from vivavoce.codecs.training.trained_codec import CodebookSettings, TrainedCodec

Kind = Literal["snac", "nano"]


def build_trained(
    kind: Kind | None,
    start: str | None,
    base: str | None,
    settings: Mapping[str, Any],
    codebooks: CodebookSettings,
) -> TrainedCodec:
    """Make a codec to train.

    Args:
        kind: Of a codec from scratch.
        start: Name, folder or hub id of a codec to go on with; then the three others say nothing.
        base: Published SNAC ("snac_24khz", ...) whose shape one from scratch has, where ``settings`` do not differ.
        settings: Shape of a codec from scratch, in the keys of its config.json.
        codebooks: How they start and stay alive.

    Raises:
        ConfigError: Settings that do not go together, or are unknown.
        CodecError: ``start`` is no codec that can be trained.
    """
    if start is not None:
        if kind is not None or base is not None or settings:
            raise ConfigError("start brings a codec with its shape; leave type, base and settings out")
        found = codec_kind(find_folder(start))
        codebooks = replace(codebooks, centre=0.0)  # its codes mean something already
        if found == "snac":
            return TrainedSNAC(cast(SNACCodec, load_codec(start, weight_norm=True)), codebooks)
        if found == "nano":
            return TrainedNano(cast(NanoCodec, load_codec(start)), codebooks)
        raise ConfigError(f"{start} is a codec of kind {found}, wanted snac or nano")
    if kind == "nano":
        if base is not None:
            raise ConfigError(f"base is {base!r}, but type nano has no published shapes; leave it out")
        return TrainedNano(NanoCodec(read_record(NanoCodecConfig, settings, "model.settings")), codebooks)
    if kind == "snac":
        return TrainedSNAC(SNACCodec(snac_config(base, settings), weight_norm=True), codebooks)
    raise ConfigError("wanted start, or a type (snac, nano)")


def snac_config(base: str | None, settings: Mapping[str, Any]) -> SNACConfig:
    """The shape of a SNAC from scratch.

    Raises:
        ConfigError: No such base, unknown keys, or values that do not go together.
    """
    if base is None:
        return SNACConfig.from_dict(settings)
    if base not in PUBLISHED:
        raise ConfigError(f"model.base is {base!r}, wanted one of {', '.join(PUBLISHED)}")
    return SNACConfig.from_dict({**PUBLISHED[base].to_dict(), **settings})
