"""`interleave`: recordings with transcripts become text that is partly speech, changing over between words."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from vivavoce.base.errors import AudioError, ConfigError, LayoutError
from vivavoce.data.build.contract import Context, Fault, Made, Needs
from vivavoce.data.build.row_audio import drop_unnamed, hear
from vivavoce.data.build.spans.alignment import Aligner, check_order
from vivavoce.data.build.spans.frame_cuts import CutCodes, Frames
from vivavoce.data.build.spans.word_runs import poisson_runs, runs_of, single_words, some_spans
from vivavoce.data.build.spans.word_units import Unit
from vivavoce.data.conversation import ROLES, Audio, Conversation, Part, Text

Policy = Literal["poisson", "span", "random"]


@dataclass(frozen=True)
class InterleaveConfig:
    """Which words are speech, and how their times are known.

    Attributes:
        policy: "poisson": runs of speech and text by turns, of Poisson-distributed lengths; "span": ``spans`` spans of
            speech; "random": each word by itself.
        share: Of the words that are to be speech, on average.
        words: Words in a run of speech on average, for "poisson".
        spans: Of a recording, for "span".
        roles: Whose recordings; others stay as they are.
        align: Where word times come from, the best that is known first: "given", "synthesizer", "aligner", "uniform".
            "uniform" is a guess. What was used stands in ``labels["align"]`` of each span.
        aligner: For "aligner": ``transformers:FOLDER_OR_HUB_ID[@REVISION]`` (CTC over letters) or ``service:NAME``.
        codec: Cuts are on borders of its coarse frames; a name, folder or hub id as ``load_codec`` takes it.
        frame_s: Length of frames instead of a codec's, seconds.
        min_frames: Shorter spans of speech stay text.
    """

    policy: Policy = "poisson"
    share: float = 0.3
    words: float = 10.0
    spans: int = 1
    roles: tuple[str, ...] = ("user", "assistant")
    align: tuple[str, ...] = ("given", "synthesizer", "uniform")
    aligner: str | None = None
    codec: str = "nano"
    frame_s: float | None = None
    min_frames: int = 2

    def __post_init__(self) -> None:
        faults = [f"roles has {r!r}, wanted some of {', '.join(ROLES)}" for r in self.roles if r not in ROLES]
        if not self.roles:
            faults.append("roles is empty, wanted one or more")
        if self.policy not in get_args(Policy):
            faults.append(f"policy is {self.policy!r}, wanted one of {', '.join(get_args(Policy))}")
        if not 0 < self.share < 1:
            faults.append(f"share is {self.share}, wanted more than 0 and less than 1")
        if not 1 <= self.words <= 1000:
            faults.append(f"words is {self.words}, wanted 1 to 1000")
        if self.spans < 1:
            faults.append(f"spans is {self.spans}, wanted 1 or more")
        if self.min_frames < 1:
            faults.append(f"min_frames is {self.min_frames}, wanted 1 or more")
        if self.frame_s is not None and not 0.001 <= self.frame_s <= 10:
            faults.append(f"frame_s is {self.frame_s}, wanted 0.001 to 10")
        try:
            check_order(self.align, self.aligner)
        except ConfigError as error:
            faults.append(str(error))
        if faults:
            raise ConfigError("; ".join(faults))

    def choose(self, words: int, rng: random.Random) -> list[bool]:
        """For each word, whether it is to be speech."""
        if self.policy == "poisson":
            return poisson_runs(words, self.share, self.words, rng)
        if self.policy == "span":
            return some_spans(words, self.share, self.spans, rng)
        return single_words(words, self.share, rng)


@dataclass(frozen=True)
class _Span:
    """A stretch of one kind: its units, and its frames [first, end)."""

    is_speech: bool
    units: tuple[Unit, ...]
    first: int
    end: int


class Interleave:
    """Cuts recordings between words, and leaves out what is to be read.

    An audio part becomes text parts and audio parts in its place; these name the same recording with other ``start``
    and ``end``, and have the transcript of their span, the times of its words unless they are a guess, and its codes if
    the part had codes. Text that only repeats the transcript goes. Put aside are rows without a recording of the roles
    ("nothing_to_interleave"), with one that has no transcript ("no_transcript"), cannot be read ("unreadable"), has no
    known word times ("unaligned"), or has codes of another codec ("other_codec") or broken ones ("bad_codes").
    """

    config_class: ClassVar[type] = InterleaveConfig
    version: ClassVar[int] = 1
    batch_rows: ClassVar[int] = 16

    @staticmethod
    def needs(config: InterleaveConfig) -> Needs:
        return Needs.of_models(config.aligner if "aligner" in config.align else None)

    def __init__(self, config: InterleaveConfig, context: Context) -> None:
        self.config, self.context = config, context
        self._aligner = Aligner(config.align, config.aligner, context)
        if config.frame_s is None:
            self._frames = Frames.of_codec(config.codec)
        else:
            self._frames = Frames(Fraction(config.frame_s).limit_denominator(1_000_000))

    def __call__(self, rows: Sequence[Conversation]) -> list[Made]:
        return [self._make(row) for row in rows]

    def _make(self, row: Conversation) -> Made:
        made = copy.deepcopy(row)
        made.task = "interleave"
        found = False
        for number, message in enumerate(made.messages):
            if message.role not in self.config.roles or not message.audios:
                continue
            found = True
            repeated = {(part.transcript or "").strip() for part in message.audios}
            parts: list[Part] = []
            for place, part in enumerate(message.parts):
                if isinstance(part, Text):
                    parts += [] if part.text.strip() in repeated else [part]
                    continue
                cut = self._cut(part, made, f"{number}/{place}", f"part {place} of message {number}")
                if isinstance(cut, Fault):
                    return cut
                parts += cut
            message.parts = parts
        if not found:
            roles = " or ".join(self.config.roles)
            return Fault("nothing_to_interleave", f"there is no recording of {roles}")
        drop_unnamed(made)
        return [made]

    def _cut(self, part: Audio, row: Conversation, name: str, where: str) -> list[Part] | Fault:
        """The parts that an audio part becomes."""
        if not (part.transcript or "").strip():
            return Fault("no_transcript", f"{where} has no transcript")
        waveform: np.ndarray | None = None
        codes: CutCodes | None = None
        try:
            if part.tokens is not None:
                if not self._is_ours(part.tokens):
                    had = part.tokens.get("codec")
                    reason = f"{where} has codes of {had!r}, which cannot be cut; name that codec, or tokenize later"
                    return Fault("other_codec", reason)
                codes = CutCodes(part.tokens, self._frames, self.context.root)
                num_samples, rate = codes.num_samples, codes.spec.sample_rate
            if part.audio is not None:
                waveform, rate = hear(part, row, self.context.root)
                num_samples = len(waveform)
        except AudioError as error:
            return Fault("unreadable", f"{where}: {error}")
        except LayoutError as error:
            return Fault("bad_codes", f"{where}: {error}")
        if codes is not None and self._frames.count(num_samples, rate) != self._frames.count(
            codes.num_samples, codes.spec.sample_rate
        ):
            return Fault("bad_codes", f"{where} has codes of another length than its recording")
        aligned = self._aligner.align(part, waveform, rate)
        if aligned is None:
            return Fault("unaligned", f"{where}: no word times by {', '.join(self.config.align)}")
        source, units = aligned
        chosen = self.config.choose(len(units), self.context.rng(row.id, name, "interleave"))
        spans = self._spans(units, chosen, self._frames.count(num_samples, rate))
        return [
            self._speech(part, span, source, codes, num_samples, rate) if span.is_speech else Text(text)
            for span, text in zip(spans, _texts(spans), strict=True)
        ]

    def _is_ours(self, tokens: dict[str, Any]) -> bool:
        spec = self._frames.spec
        if spec is None or tokens.get("codec") != spec.name:
            return False
        return not spec.weights or tokens.get("codec_hash", spec.weights) == spec.weights

    def _spans(self, units: list[Unit], chosen: list[bool], num_frames: int) -> list[_Span]:
        """Spans of both kinds by turns, which tile the recording."""
        middles = [(a.end_s + b.start_s) / 2 for a, b in pairwise(units)]
        borders = [0, *(max(0, min(num_frames, self._frames.nearest(t))) for t in middles), num_frames]
        kept = list(chosen)
        for is_speech, a, b in runs_of(chosen):
            if is_speech and borders[b] - borders[a] < self.config.min_frames:
                kept[a:b] = [False] * (b - a)
        return [_Span(k, tuple(units[a:b]), borders[a], borders[b]) for k, a, b in runs_of(kept)]

    def _speech(
        self, part: Audio, span: _Span, source: str, codes: CutCodes | None, num_samples: int, rate: int
    ) -> Audio:
        made = copy.copy(part)
        start, stop = self._frames.samples(span.first, span.end, num_samples, rate)
        if part.audio is not None:
            before = round(part.start_s * rate)
            made.start_s, made.end_s = (before + start) / rate, (before + stop) / rate
        made.transcript = "".join(unit.text for unit in span.units).strip()
        made.words = None if source == "uniform" else _words(span.units, start / rate, stop / rate)
        made.labels = {**{k: v for k, v in part.labels.items() if k != "spoken"}, "align": source}
        made.tokens = None if codes is None else codes.cut(span.first, span.end)
        return made


def _texts(spans: Sequence[_Span]) -> list[str]:
    """What each span says; white space after speech goes to the text that follows."""
    texts = ["".join(unit.text for unit in span.units) for span in spans]
    for i, span in enumerate(spans):
        if span.is_speech:
            bare = texts[i].rstrip()
            if i + 1 < len(spans):
                texts[i + 1] = texts[i][len(bare) :] + texts[i + 1]
            texts[i] = bare.strip()
    return texts


def _words(units: Sequence[Unit], start_s: float, end_s: float) -> list[tuple[str, float, float]]:
    """Words with times from the start of their span."""
    length = end_s - start_s
    found = []
    for unit in units:
        a, b = (round(min(max(t - start_s, 0.0), length), 4) for t in (unit.start_s, unit.end_s))
        found.append((unit.text.strip(), a, b))
    return found
