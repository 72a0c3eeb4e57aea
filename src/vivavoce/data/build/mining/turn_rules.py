"""Which turns of a recording are one, and which two are a request and its response: by times alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from vivavoce.audio.speaker_turns import SpeakerTurn
from vivavoce.base.errors import ConfigError

TOUCH_S = 1e-6  # shorter than any true overlap


@dataclass(frozen=True)
class TurnRules:
    """What makes a turn, a pair and a dialogue.

    Attributes:
        pause_s: Turns of one speaker with a shorter pause and nobody else between them are one turn.
        backchannel_s: A turn this short in the midst of another's turn ("mhm") is no turn; the other goes on.
        min_request_s, max_request_s: Length of a request.
        min_answer_s, max_answer_s: Length of an answer, and of every turn of a dialogue the longest.
        min_gap_s, max_gap_s: From the end of a turn to the start of the next; below 0 the next begins before the end.
        max_overlap: Share of the time from the first start to the last end in which two or more speak.
        min_words: Of each turn, where it has a transcript.
        min_swing_db: Least distance between loud and quiet moments of a turn; steady noise and dense music have
            less than speech. 0 for no such rule.
        main_share: Least share of the two main speakers in all that is said; 0 for no such rule.
        reuse_turns: An answer may also be the request of the next pair; else each turn stands in one row at most.
        min_turns: Of a dialogue.
        max_dialogue_s: Of a dialogue; longer ones are cut between turns.
    """

    pause_s: float = 1.0
    backchannel_s: float = 0.7
    min_request_s: float = 1.0
    max_request_s: float = 20.0
    min_answer_s: float = 2.0
    max_answer_s: float = 40.0
    min_gap_s: float = -0.2
    max_gap_s: float = 1.5
    max_overlap: float = 0.1
    min_words: int = 2
    min_swing_db: float = 10.0
    main_share: float = 0.8
    reuse_turns: bool = False
    min_turns: int = 4
    max_dialogue_s: float = 100.0

    def __post_init__(self) -> None:
        faults = [
            f"{low} is {getattr(self, low):g} and {high} {getattr(self, high):g}, wanted no less"
            for low, high in (
                ("min_request_s", "max_request_s"),
                ("min_answer_s", "max_answer_s"),
                ("min_gap_s", "max_gap_s"),
            )
            if getattr(self, low) > getattr(self, high)
        ]
        names = ("pause_s", "backchannel_s", "min_request_s", "min_answer_s", "min_swing_db", "min_words")
        faults += [f"{n} is {getattr(self, n):g}, wanted 0 or more" for n in names if getattr(self, n) < 0]
        for name in ("max_overlap", "main_share"):
            if not 0 <= getattr(self, name) <= 1:
                faults.append(f"{name} is {getattr(self, name):g}, wanted 0 to 1")
        if self.min_turns < 2 or self.max_dialogue_s <= 0:
            faults.append("wanted min_turns of 2 or more and max_dialogue_s above 0")
        if faults:
            raise ConfigError("; ".join(faults))


class Exchange(NamedTuple):
    """Two neighbouring turns of two speakers.

    Attributes:
        request, answer: The turns.
        gap_s: From the request's end to the answer's start; negative if the answer began before.
        overlap_s: Seconds within the exchange in which two or more speak, backchannels included.
    """

    request: SpeakerTurn
    answer: SpeakerTurn
    gap_s: float
    overlap_s: float


def whole_turns(
    found: Iterable[SpeakerTurn], rules: TurnRules, pause_s: float | None = None
) -> list[SpeakerTurn]:
    """Join what belongs together and drop backchannels; in the order of starts.

    Args:
        found: As a diariser gives them.
        rules: Of turns.
        pause_s: Instead of the rules'.
    """
    pause_s = rules.pause_s if pause_s is None else pause_s
    turns = _joined(_without_asides(sorted(found), rules.backchannel_s), pause_s)
    kept = [
        turn for i, turn in enumerate(turns) if not _is_backchannel(turns, i, rules.backchannel_s, pause_s)
    ]
    return _joined(kept, pause_s)


def exchanges(turns: Sequence[SpeakerTurn], found: Sequence[SpeakerTurn]) -> list[Exchange]:
    """Every two neighbours that are by two speakers.

    Args:
        turns: As `whole_turns` gives them.
        found: As a diariser gives them, for the overlap.
    """
    pairs = [(a, b) for a, b in pairwise(turns) if a.speaker != b.speaker]
    return [
        Exchange(a, b, b.start_s - a.end_s, overlap_s(found, a.start_s, max(a.end_s, b.end_s)))
        for a, b in pairs
    ]


def refusal(exchange: Exchange, found: Sequence[SpeakerTurn], rules: TurnRules) -> str | None:
    """The rule that an exchange breaks, by name; None if it breaks none."""
    request, answer = exchange.request, exchange.answer
    if not rules.min_request_s <= _length(request) <= rules.max_request_s:
        return "request_length"
    if not rules.min_answer_s <= _length(answer) <= rules.max_answer_s:
        return "answer_length"
    return link_refusal(exchange, found, rules)


def link_refusal(exchange: Exchange, found: Sequence[SpeakerTurn], rules: TurnRules) -> str | None:
    """The rule about what is between two turns that an exchange breaks; None if it breaks none."""
    request, answer = exchange.request, exchange.answer
    if exchange.gap_s > rules.max_gap_s + TOUCH_S:
        return "gap"
    start_s, end_s = request.start_s, max(request.end_s, answer.end_s)
    if exchange.gap_s < rules.min_gap_s - TOUCH_S:
        return "overlap"
    if exchange.overlap_s > rules.max_overlap * (end_s - start_s) + TOUCH_S:
        return "overlap"
    speakers = {request.speaker, answer.speaker}
    others = (t for t in found if t.speaker not in speakers)
    if any(min(t.end_s, end_s) - max(t.start_s, start_s) > TOUCH_S for t in others):
        return "third_voice"
    return None


def overlap_s(found: Iterable[SpeakerTurn], start_s: float, end_s: float) -> float:
    """Seconds between two moments in which two or more speakers speak."""
    inside = [t for t in found if t.start_s < end_s and t.end_s > start_s]
    if len({turn.speaker for turn in inside}) < 2:
        return 0.0
    cuts = sorted({start_s, end_s, *(min(max(t, start_s), end_s) for turn in inside for t in turn[:2])})
    total = 0.0
    for begin, end in pairwise(cuts):
        middle = (begin + end) / 2
        if len({turn.speaker for turn in inside if turn.start_s < middle < turn.end_s}) > 1:
            total += end - begin
    return total


def main_share(found: Iterable[SpeakerTurn]) -> float:
    """Share of the two speakers who say most in the seconds of all; 0 for none."""
    seconds: dict[str, float] = {}
    for turn in found:
        seconds[turn.speaker] = seconds.get(turn.speaker, 0.0) + _length(turn)
    total = sum(seconds.values())
    return sum(sorted(seconds.values())[-2:]) / total if total > 0 else 0.0


def _length(turn: SpeakerTurn) -> float:
    return turn.end_s - turn.start_s


def _joined(turns: Sequence[SpeakerTurn], pause_s: float) -> list[SpeakerTurn]:
    made: list[SpeakerTurn] = []
    for turn in turns:
        last = made[-1] if made else None
        if (
            last is not None
            and last.speaker == turn.speaker
            and turn.start_s - last.end_s <= pause_s + TOUCH_S
        ):
            made[-1] = last._replace(end_s=max(last.end_s, turn.end_s))
        else:
            made.append(turn)
    return made


def _without_asides(turns: Sequence[SpeakerTurn], longest_s: float) -> list[SpeakerTurn]:
    """Drop short turns that lie wholly within another's, before they are joined to what is none of theirs."""
    last: dict[str, float] = {}  # until when each speaker spoke
    kept = []
    for turn in turns:
        within = any(end_s >= turn.end_s for name, end_s in last.items() if name != turn.speaker)
        if within and _length(turn) <= longest_s:
            continue
        last[turn.speaker] = max(turn.end_s, last.get(turn.speaker, turn.end_s))
        kept.append(turn)
    return kept


def _is_backchannel(turns: Sequence[SpeakerTurn], number: int, longest_s: float, pause_s: float) -> bool:
    """Whether a short turn stands between two of another speaker, who did not really stop."""
    if not 0 < number < len(turns) - 1 or _length(turns[number]) > longest_s:
        return False
    before, turn, after = turns[number - 1 : number + 2]
    goes_on = after.speaker == before.speaker != turn.speaker
    return goes_on and after.start_s - before.end_s <= pause_s + TOUCH_S
