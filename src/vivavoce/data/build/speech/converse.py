"""`converse`: the spoken turns of a row become one recording of people who talk, with pauses and overlaps.

Practice material for `mine` and for diarisers: the true turns stand under the label ``turns``.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from vivavoce.audio.resample import HIGHEST_HZ, LOWEST_HZ
from vivavoce.audio.speaker_turns import SpeakerTurn
from vivavoce.base.errors import ConfigError
from vivavoce.data.build.contract import Context, Fault, Made, Needs
from vivavoce.data.build.mining.given_turns import LABEL, GivenTurn
from vivavoce.data.build.row_audio import hear
from vivavoce.data.conversation import Audio, Conversation, Message, Word
from vivavoce.data.recordings import encode_flac

EDGE_DB = 40.0  # what is this far below the loudest sample at the edges of a clip is not speech yet
PEAK = 0.99


@dataclass(frozen=True)
class ConverseConfig:
    """How people talk.

    Attributes:
        gap_s: Pauses between turns are drawn from [shortest, longest].
        overlap_share: Share of turns that begin before the one before has ended.
        overlap_s: By how much; at most half of the shorter turn, and never into the speaker's own voice.
        lead_s: Silence before and after all.
        noise_db: Level of noise under the whole recording, dB below full scale; None for none.
        sample_rate: Of the recording, Hz.
        min_turns: Rows with fewer are put aside.
    """

    gap_s: tuple[float, ...] = (0.2, 0.9)
    overlap_share: float = 0.15
    overlap_s: tuple[float, ...] = (0.05, 0.4)
    lead_s: float = 0.5
    noise_db: float | None = -65.0
    sample_rate: int = 24_000
    min_turns: int = 2

    def __post_init__(self) -> None:
        faults = []
        for name in ("gap_s", "overlap_s"):
            limits = getattr(self, name)
            if len(limits) != 2 or not 0 <= limits[0] <= limits[1]:
                faults.append(f"{name} is {list(limits)}, wanted [shortest, longest] of 0 s or more")
        if not 0 <= self.overlap_share <= 1:
            faults.append(f"overlap_share is {self.overlap_share}, wanted 0 to 1")
        if self.lead_s < 0 or self.min_turns < 1:
            faults.append("wanted lead_s of 0 or more and min_turns of 1 or more")
        if self.noise_db is not None and not -100 <= self.noise_db <= -10:
            faults.append(f"noise_db is {self.noise_db}, wanted -100 to -10")
        if not LOWEST_HZ <= self.sample_rate <= HIGHEST_HZ:
            faults.append(f"sample_rate is {self.sample_rate} Hz, wanted {LOWEST_HZ} to {HIGHEST_HZ}")
        if faults:
            raise ConfigError("; ".join(faults))


@dataclass
class _Said:
    """A turn on its way into the recording."""

    speaker: str
    part: Audio
    waveform: np.ndarray
    trimmed: int
    start: int = 0

    @property
    def stop(self) -> int:
        return self.start + len(self.waveform)


class Converse:
    """Lays turns on one time line and adds them up.

    Put aside are rows with a turn without a recording ("not_spoken") or with too few turns ("few_turns"). System
    messages are left away; the transcript is that of all turns.
    """

    config_class: ClassVar[type] = ConverseConfig
    version: ClassVar[int] = 1
    batch_rows: ClassVar[int] = 16

    @staticmethod
    def needs(config: ConverseConfig) -> Needs:
        return Needs()

    def __init__(self, config: ConverseConfig, context: Context) -> None:
        self.config, self.context = config, context

    def __call__(self, rows: Sequence[Conversation]) -> list[Made]:
        return [self._joined(row) for row in rows]

    def _joined(self, row: Conversation) -> Made:
        messages = [m for m in row.messages if m.role in ("user", "assistant")]
        typed = next(
            (i for i, m in enumerate(messages) if not any(p.audio is not None for p in m.audios)), None
        )
        if typed is not None:
            return Fault("not_spoken", f"turn {typed} has no recording")
        said = [self._said(m, p, row) for m in messages for p in m.audios if p.audio is not None]
        if len(said) < self.config.min_turns:
            reason = f"the row has {len(said)} turns, wanted {self.config.min_turns} or more"
            return Fault("few_turns", reason, filtered=True)
        self._lay(said, row)
        rate = self.config.sample_rate
        made = Conversation(
            row.id, [], task="chat", source=row.source, license=row.license, weight=row.weight
        )
        made.meta = copy.deepcopy(row.meta)
        made.audios = [{"bytes": encode_flac(self._mixed(said, row), rate)}]
        turns = [_given(turn, rate) for turn in said]
        words = [w for turn in turns for w in turn.words] if all(turn.words for turn in turns) else None
        languages = {turn.part.language for turn in said}
        part = Audio(
            0, transcript=" ".join(turn.text for turn in turns).strip() or None,
            language=languages.pop() if len(languages) == 1 else None,
            words=sorted(words, key=lambda w: w[1:]) if words else None,
            labels={LABEL: [turn.row() for turn in turns]},
        )  # fmt: skip
        made.messages = [Message("user", [part])]
        return [made]

    def _said(self, message: Message, part: Audio, row: Conversation) -> _Said:
        """A turn's recording without the silence at its edges."""
        waveform, _ = hear(part, row, self.context.root, self.config.sample_rate)
        loud = np.flatnonzero(np.abs(waveform) > np.abs(waveform).max() * 10 ** (-EDGE_DB / 20))
        first, last = (int(loud[0]), int(loud[-1]) + 1) if loud.size else (0, waveform.size)
        return _Said(part.speaker or message.role, part, waveform[first:last], first)

    def _lay(self, said: Sequence[_Said], row: Conversation) -> None:
        rng, rate = self.context.rng(row.id, "pauses"), self.config.sample_rate
        free: dict[str, int] = {}  # where each speaker's last turn ends
        end = round(self.config.lead_s * rate)
        for number, turn in enumerate(said):
            gap_s, early_s = rng.uniform(*self.config.gap_s), rng.uniform(*self.config.overlap_s)
            overlaps = rng.random() < self.config.overlap_share
            before = said[number - 1] if number else None
            if before is None:
                turn.start = end
            elif overlaps and before.speaker != turn.speaker:
                most = min(len(before.waveform), len(turn.waveform)) // 2
                turn.start = before.stop - min(round(early_s * rate), most)
            else:
                turn.start = end + round(gap_s * rate)
            turn.start = max(turn.start, free.get(turn.speaker, 0))
            free[turn.speaker], end = turn.stop, max(end, turn.stop)

    def _mixed(self, said: Sequence[_Said], row: Conversation) -> np.ndarray:
        rate = self.config.sample_rate
        mixed = np.zeros(max(turn.stop for turn in said) + round(self.config.lead_s * rate), dtype=np.float64)
        for turn in said:
            mixed[turn.start : turn.stop] += turn.waveform
        if self.config.noise_db is not None:
            noise = np.random.default_rng(self.context.number(row.id, "noise")).standard_normal(mixed.size)
            mixed += noise * 10 ** (self.config.noise_db / 20)
        return (mixed * min(1.0, PEAK / max(float(np.abs(mixed).max()), 1e-9))).astype(np.float32)


def _given(turn: _Said, rate: int) -> GivenTurn:
    start_s, end_s = turn.start / rate, turn.stop / rate
    shift = (turn.start - turn.trimmed) / rate
    words: tuple[Word, ...] = tuple(
        (w, round(min(max(a + shift, start_s), end_s), 6), round(min(max(b + shift, start_s), end_s), 6))
        for w, a, b in turn.part.words or ()
    )
    return GivenTurn(
        SpeakerTurn(round(start_s, 6), round(end_s, 6), turn.speaker), turn.part.transcript or "", words
    )
