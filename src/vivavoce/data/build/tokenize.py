"""`tokenize`: recordings become codec codes, batched by length, each as it would be alone."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from vivavoce.audio.files import audio_info
from vivavoce.audio.resample import Method
from vivavoce.base.errors import AudioError, ConfigError
from vivavoce.codecs.contract import Codes
from vivavoce.data.build.contract import Context, Fault, Made, Needs
from vivavoce.data.build.row_audio import drop_unnamed, hear
from vivavoce.data.conversation import ROLES, Audio, Conversation
from vivavoce.data.recordings import read_bytes, source_of
from vivavoce.tokens.layouts import LAYOUTS

Existing = Literal["keep", "replace"]


@dataclass(frozen=True)
class TokenizeConfig:
    """What to encode, and how.

    Attributes:
        codec: As ``load_codec`` takes it: a name, a folder or a hub id.
        options: Further settings of the codec (``bandwidth`` of EnCodec, ``num_quantizers`` of Mimi).
        layout: Order of the codes, a name in ``tokens.layouts.LAYOUTS``.
        roles: Whose recordings; others stay as they are.
        keep_audio: Keep recordings beside their codes; else rows have codes only.
        existing: Codes that are there already, of the same codec, weights and layout: "keep" or "replace". Others are
            always replaced.
        resampler: "sinc" gives the numbers of published codec pipelines, and what models that hear codes are given
            when they answer; "soxr" is the better filter.
        max_seconds: Longer recordings are left out.
        silence_db: A recording without any sample above this level (dB of full scale) counts as silent.
    """

    codec: str = "nano"
    options: Mapping[str, Any] = field(default_factory=dict)
    layout: str = "orpheus"
    roles: tuple[str, ...] = ("user", "assistant")
    keep_audio: bool = True
    existing: Existing = "keep"
    resampler: Method = "sinc"
    max_seconds: float = 60.0
    silence_db: float = -70.0

    def __post_init__(self) -> None:
        faults = [f"roles has {r!r}, wanted some of {', '.join(ROLES)}" for r in self.roles if r not in ROLES]
        if not self.roles:
            faults.append("wanted one or more roles")
        if self.layout not in LAYOUTS:
            faults.append(f"layout is {self.layout!r}, wanted one of {', '.join(LAYOUTS)}")
        if self.resampler not in get_args(Method):
            faults.append(f"resampler is {self.resampler!r}, wanted one of {', '.join(get_args(Method))}")
        if self.existing not in get_args(Existing):
            faults.append(f"existing is {self.existing!r}, wanted one of {', '.join(get_args(Existing))}")
        if not 0 < self.max_seconds <= 3600:
            faults.append(f"max_seconds is {self.max_seconds}, wanted more than 0 and at most 3600")
        if not -200 <= self.silence_db < 0:
            faults.append(f"silence_db is {self.silence_db}, wanted -200 to below 0")
        if faults:
            raise ConfigError("; ".join(faults))


class Tokenize:
    """Encodes recordings.

    A row is put aside if one of its recordings cannot be read ("unreadable"), is too long ("too_long") or is silent
    ("silent"), or if it has only codes of another codec ("other_codec"). Rows without recordings pass.
    """

    config_class: ClassVar[type] = TokenizeConfig
    version: ClassVar[int] = 1
    batch_rows: ClassVar[int] = 64  # whole blocks, so that there are clips of like length to put together

    @staticmethod
    def needs(config: TokenizeConfig) -> Needs:
        return Needs(gpus=1.0, model=True)

    def __init__(self, config: TokenizeConfig, context: Context) -> None:
        from vivavoce.codecs.batches import clip_encoder
        from vivavoce.codecs.loading import load_codec
        from vivavoce.tokens.layouts import build_layout

        self.config, self.context = config, context
        codec = load_codec(config.codec, **config.options).to(context.device)
        self._spec, self._encode = codec.spec, clip_encoder(codec)
        self._layout = build_layout(config.layout, codec.spec)

    def __call__(self, rows: Sequence[Conversation]) -> list[Made]:
        import torch

        plans = [self._read(row) for row in rows]
        clips = [clip for plan in plans if not isinstance(plan, Fault) for _, clip in plan]
        codes = iter(self._encode([torch.from_numpy(clip) for clip in clips]) if clips else ())
        made: list[Made] = []
        for row, plan in zip(rows, plans, strict=True):
            if isinstance(plan, Fault):
                made.append(plan)
            else:
                made.append([self._put(row, {place: next(codes) for place, _ in plan})])
        return made

    def _parts(self, row: Conversation) -> list[tuple[tuple[int, int], Audio]]:
        """Recordings of the wanted roles, with their places (message, part)."""
        return [
            ((i, k), part)
            for i, message in enumerate(row.messages)
            if message.role in self.config.roles
            for k, part in enumerate(message.parts)
            if isinstance(part, Audio)
        ]

    def _read(self, row: Conversation) -> list[tuple[tuple[int, int], np.ndarray]] | Fault:
        """The waveforms that are to be encoded, with their places."""
        found = []
        for place, part in self._parts(row):
            where = f"part {place[1]} of message {place[0]}"
            same = part.tokens is not None and self._is_ours(part.tokens)
            if same and (part.audio is None or self.config.existing == "keep"):
                continue
            if part.audio is None:
                had = (part.tokens or {}).get("codec")
                return Fault(
                    "other_codec", f"{where} has only codes of {had!r}, and no recording to be encoded"
                )
            clip = self._hear(part, row, where)
            if isinstance(clip, Fault):
                return clip
            found.append((place, clip))
        return found

    def _hear(self, part: Audio, row: Conversation, where: str) -> np.ndarray | Fault:
        rate = self._spec.sample_rate
        try:
            clip, _ = hear(part, row, self.context.root, rate, resampler=self.config.resampler)
        except AudioError as error:
            seconds = self._seconds(part, row)  # hours are refused before they are decoded
            if seconds is not None and seconds > self.config.max_seconds:
                return self._too_long(where, seconds)
            return Fault("unreadable", f"{where}: {error}")
        if clip.size > self.config.max_seconds * rate:
            return self._too_long(where, clip.size / rate)
        if float(np.abs(clip).max()) <= 10 ** (self.config.silence_db / 20):
            return Fault("silent", f"{where} has no sample above {self.config.silence_db:g} dB of full scale")
        return clip

    def _too_long(self, where: str, seconds: float) -> Fault:
        reason = f"{where} lasts {seconds:.1f} s, at most {self.config.max_seconds:g} s are encoded"
        return Fault("too_long", reason, filtered=True)

    def _seconds(self, part: Audio, row: Conversation) -> float | None:
        """How long a part is by its recording's header; None if it does not tell."""
        try:
            whole = audio_info(read_bytes(source_of(part, row), self.context.root)).duration_s
        except AudioError:
            return None
        ends = [end for end in (whole, part.end_s) if end is not None]
        return min(ends) - part.start_s if ends else None

    def _is_ours(self, tokens: Mapping[str, Any]) -> bool:
        spec = self._spec
        wanted = {"codec": spec.name, "codec_hash": spec.weights, "layout": self.config.layout}
        return all(tokens.get(key, "") == value for key, value in wanted.items())

    def _put(self, row: Conversation, codes: Mapping[tuple[int, int], Codes]) -> Conversation:
        """A copy of the row with codes in it."""
        made = copy.deepcopy(row)
        for place, part in self._parts(made):
            if place in codes:
                part.tokens = self._tokens(codes[place])
            if not self.config.keep_audio:
                part.audio, part.start_s, part.end_s = None, 0.0, None
        drop_unnamed(made)
        return made

    def _tokens(self, codes: Codes) -> dict[str, Any]:
        spec = self._spec
        return {
            "codec": spec.name, "codec_hash": spec.weights, "layout": self.config.layout,
            "num_samples": codes.num_samples[0], "ids": self._layout.flatten(codes),
        }  # fmt: skip
