"""The tables of an aligned voice that have a row per name, and more rows for more names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from vivavoce.base.errors import ConfigError
from vivavoce.models.voice.aligned import AlignedVoice, AlignedVoiceConfig

SOUNDS, PACES = "voice_embedding.weight", "durations.voice.weight"


def fit_voices(
    weights: Mapping[str, Tensor], config: AlignedVoiceConfig, prefix: str = ""
) -> dict[str, Tensor]:
    """Weights of a voice with fewer names made to fit ``config``; the old names speak as before.

    New rows start as the mean of the old; a pace that is new starts as the one all had. Weights without a voice stay.

    Args:
        weights: State of an ``AlignedVoice``, or of a model that has one.
        config: With more names, the old ones first.
        prefix: Of the voice's keys ("voice.").
    """
    grown, count = dict(weights), len(config.voices)
    sounds, paces = prefix + SOUNDS, prefix + PACES
    if sounds not in grown:
        return grown
    if config.own_pace and paces not in grown:
        phones = grown[f"{prefix}durations.phone.weight"]
        grown[paces] = phones.new_zeros(len(grown[sounds]), phones.shape[1])
    for key in (sounds, paces):
        if key in grown:
            table = grown[key]
            grown[key] = torch.cat([table, table.mean(0, keepdim=True).expand(count - len(table), -1)])
    return grown


def with_voice(voice: AlignedVoice, name: str) -> AlignedVoice:
    """A copy that has one more voice, of a pace of its own; the new one speaks as the mean of the others.

    Raises:
        ConfigError: The name is taken.
    """
    known = voice.config.voices
    if name in known:
        raise ConfigError(f"voice {name!r} is there already ({', '.join(known)}); give another name.")
    own_pace = voice.config.alignment == "phone"
    made = AlignedVoice(replace(voice.config, voices=(*known, name), own_pace=own_pace))
    made.load_state_dict(fit_voices(voice.state_dict(), made.config))
    return made
