"""The rows that are made of a recording's turns: pairs of two turns, or dialogues of many."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from vivavoce.audio.speaker_turns import SpeakerTurn
from vivavoce.data.build.mining.given_turns import Heard
from vivavoce.data.build.mining.turn_rules import Exchange, TurnRules
from vivavoce.data.conversation import Audio, Conversation, Message, Part, Text
from vivavoce.data.recordings import encode_flac

ROLES = ("user", "assistant")


@dataclass(frozen=True)
class Clip:
    """A turn that was cut out."""

    data: bytes
    heard: Heard

    @staticmethod
    def of(waveform: np.ndarray, sample_rate: int, heard: Heard) -> Clip:
        """Pack a waveform, float32 [S]."""
        return Clip(encode_flac(np.clip(waveform, -1.0, 1.0), sample_rate), heard)


@dataclass
class Mined:
    """What became of a recording's turns.

    Attributes:
        rules: By which they are chosen.
        candidates: Pairs of neighbours for form "pairs", turns for form "dialogue".
        pairs: That times let through.
        turns: All turns, for dialogues.
        links: Which two neighbours may follow each other in a dialogue.
        refused: Turns that may not stand in a dialogue, and why.
        clips: Turn -> what was cut, or the rule that it breaks.
        left_out: Rule -> how many candidates broke it.
    """

    rules: TurnRules
    candidates: int
    pairs: Sequence[Exchange] = ()
    turns: Sequence[SpeakerTurn] = ()
    links: dict[tuple[SpeakerTurn, SpeakerTurn], Exchange] = field(default_factory=dict)
    refused: dict[SpeakerTurn, str] = field(default_factory=dict)
    clips: dict[SpeakerTurn, Clip | str] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)

    def wanted(self) -> list[SpeakerTurn]:
        """Turns to be cut, in the order of time."""
        runs = [turn for run in self.runs() if len(run) >= self.rules.min_turns for turn in run]
        return sorted({*runs, *(turn for pair in self.pairs for turn in pair[:2])})

    def runs(self) -> list[list[SpeakerTurn]]:
        """Stretches of turns that two speakers take by turns, none of them refused or longer than allowed."""
        made: list[list[SpeakerTurn]] = []
        for turn in self.turns:
            if turn in self.refused or isinstance(self.clips.get(turn), str):
                made.append([])
            elif self.clips and turn not in self.clips:  # was in too short a run to be cut, and stays alone
                made += [[turn], []]
            elif made and made[-1] and self._follows(made[-1], turn):
                made[-1].append(turn)
            else:
                made.append([turn])
        return [run for run in made if run]

    def _follows(self, run: Sequence[SpeakerTurn], turn: SpeakerTurn) -> bool:
        fits = max(turn.end_s, run[-1].end_s) - run[0].start_s <= self.rules.max_dialogue_s
        return (
            fits
            and (run[-1], turn) in self.links
            and len({*(t.speaker for t in run), turn.speaker}) <= len(ROLES)
        )


def pair_rows(mined: Mined, base: Conversation, keep_text: bool, hears_overlap: bool) -> list[Conversation]:
    """A row per pair; those with a turn that breaks a rule are counted in ``mined.left_out``.

    Args:
        mined: With clips of the turns wanted.
        base: What all rows have in common.
        keep_text: Put the answer's words before its recording.
        hears_overlap: Whether overlap is known.
    """
    kept: list[Exchange] = []
    for pair in mined.pairs:
        broken = [clip for turn in pair[:2] if isinstance(clip := mined.clips[turn], str)]
        if kept and kept[-1].answer == pair.request and not mined.rules.reuse_turns:
            broken.append("turn_used")
        if broken:
            mined.left_out[broken[0]] += 1
        else:
            kept.append(pair)
    return [
        _row(mined, base, number, pair[:2], [pair], len(kept), keep_text, hears_overlap)
        for number, pair in enumerate(kept)
    ]


def dialogue_rows(
    mined: Mined, base: Conversation, keep_text: bool, hears_overlap: bool
) -> list[Conversation]:
    """A row per run of turns; who speaks first is the user, and the last turn is the assistant's.

    Arguments as for `pair_rows`.
    """
    kept = []
    for run in mined.runs():
        whole = run[: len(run) // 2 * 2]
        if len(whole) < mined.rules.min_turns:
            mined.left_out["few_turns"] += len(run)
            continue
        mined.left_out["unanswered"] += len(run) - len(whole)
        kept.append(whole)
    for turn in mined.turns:
        clip = mined.clips.get(turn)
        broken = mined.refused.get(turn) or (clip if isinstance(clip, str) else None)
        if broken:
            mined.left_out[broken] += 1
    mined.left_out = +mined.left_out
    total = sum(map(len, kept))
    return [
        _row(
            mined, base, number, run, [mined.links[p] for p in pairwise(run)], total, keep_text, hears_overlap
        )
        for number, run in enumerate(kept)
    ]


def _row(
    mined: Mined, base: Conversation, number: int, turns: Sequence[SpeakerTurn], links: Sequence[Exchange], kept: int,
    keep_text: bool, hears_overlap: bool,
) -> Conversation:  # fmt: skip
    made = copy.deepcopy(base)
    made.id, made.task = f"{base.id}/{number:04d}", "chat"
    told, begin = made.meta["mined"], turns[0].start_s
    language = told.pop("language", None)
    told |= {"start_s": _tidy(begin), "end_s": _tidy(max(t.end_s for t in turns))}
    told |= {"candidates": mined.candidates, "kept": kept, "left_out": dict(sorted(mined.left_out.items()))}
    for place, turn in enumerate(turns):
        clip = mined.clips[turn]
        assert isinstance(clip, Clip)
        role = ROLES[place % 2]
        labels: dict[str, Any] = {"start_s": _tidy(turn.start_s), "end_s": _tidy(turn.end_s)}
        if place:
            labels["gap_s"] = _tidy(links[place - 1].gap_s)
            labels |= {"overlap_s": _tidy(links[place - 1].overlap_s)} if hears_overlap else {}
        part = Audio(
            len(made.audios), transcript=clip.heard.text, language=language, speaker=f"{base.id}#{turn.speaker}",
            words=clip.heard.words, labels=labels,
        )  # fmt: skip
        made.audios.append({"bytes": clip.data})
        typed: list[Part] = (
            [Text(clip.heard.text)] if keep_text and clip.heard.text and role == "assistant" else []
        )
        time = [_tidy(turn.start_s - begin), _tidy(turn.end_s - begin)]
        made.messages.append(Message(role, [*typed, part], more={"time": time}))
    if len(links) == 1:
        told |= {k: v for k, v in made.messages[1].audios[0].labels.items() if k in ("gap_s", "overlap_s")}
    return made


def _tidy(seconds: float) -> float:
    return round(seconds, 6)
