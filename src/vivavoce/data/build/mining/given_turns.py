"""What is known of who says what in a long recording: turns under the label ``turns``, or times of words.

``labels["turns"]`` is a list of ``{"start", "end", "speaker", "text"}`` with ``words`` if they are known; times in
seconds of the recording.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vivavoce.audio.speaker_turns import SpeakerTurn
from vivavoce.base.errors import DataError
from vivavoce.data.conversation import Audio, Word

LABEL = "turns"
INSIDE, OUTSIDE = 0.8, 0.2  # share of a given turn's time from which, and up to which, it counts as heard


@dataclass(frozen=True)
class GivenTurn:
    """A turn that is known.

    Attributes:
        turn: When, and by whom.
        text: What is said.
        words: (word, start, end) in seconds of the recording; empty if their times are not known.
    """

    turn: SpeakerTurn
    text: str
    words: tuple[Word, ...] = ()

    def row(self) -> dict[str, Any]:
        """As it stands in a label."""
        start_s, end_s, speaker = self.turn
        made: dict[str, Any] = {"start": start_s, "end": end_s, "speaker": speaker, "text": self.text}
        return made | ({"words": [list(w) for w in self.words]} if self.words else {})


@dataclass(frozen=True)
class Heard:
    """What is said in a stretch of a recording.

    Attributes:
        text: Words; None if they cannot be told from what is given.
        words: (word, start, end) in seconds from the stretch's start; None if not known.
        reason: Why there is no text: "no_transcript", "two_voices", "transcript_differs".
    """

    text: str | None
    words: list[Word] | None = None
    reason: str = field(default="no_transcript", compare=False)


def given_turns(part: Audio) -> list[GivenTurn]:
    """The turns that a recording's labels tell, in order of time; none if there is no such label.

    Raises:
        DataError: The label is not as this file says.
    """
    listed = part.labels.get(LABEL, [])
    try:
        made = [
            GivenTurn(
                SpeakerTurn(float(t["start"]), float(t["end"]), str(t["speaker"])),
                str(t.get("text", "")),
                tuple((str(w), float(a), float(b)) for w, a, b in t.get("words", ())),
            )
            for t in listed
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"labels.turns is not a list of {{start, end, speaker, text}}: {type(error).__name__} {error}."
        ) from error
    wrong = next((g.turn for g in made if not 0 <= g.turn.start_s < g.turn.end_s), None)
    if wrong is not None:
        raise DataError(f"labels.turns has a turn from {wrong.start_s} to {wrong.end_s} s.")
    return sorted(made, key=lambda g: g.turn)


def said_in(
    span: SpeakerTurn, given: Sequence[GivenTurn], words: Sequence[Word], backchannel_s: float
) -> Heard:
    """What is said in a turn that was found, by what is given.

    A given turn counts if nearly all of it lies within the stretch. Where much of it does and much does not, the words
    would not be those that are heard, and where another voice says more than a backchannel, they would not be all.

    Args:
        span: A turn that was found.
        given: Turns that are known.
        words: Times of words of the whole recording; used where no turns are given.
        backchannel_s: Turns this short, by another voice than the main one, are passed over.
    """
    if not given:
        inside = [w for w in words if span.start_s <= (w[1] + w[2]) / 2 < span.end_s]
        return _words(inside, span) if inside else Heard(None)
    near = [g for g in given if _shared(span, g.turn) > OUTSIDE * _length(g.turn)]
    seconds: dict[str, float] = {}
    for g in near:
        seconds[g.turn.speaker] = seconds.get(g.turn.speaker, 0.0) + _shared(span, g.turn)
    if not near:
        return Heard(None)
    main = max(sorted(seconds), key=lambda name: seconds[name])
    if any(g.turn.speaker != main and _length(g.turn) > backchannel_s for g in near):
        return Heard(None, reason="two_voices")
    own = [g for g in near if g.turn.speaker == main]
    if any(_shared(span, g.turn) < INSIDE * _length(g.turn) for g in own):
        return Heard(None, reason="transcript_differs")
    if all(g.words for g in own):
        found = _words([w for g in own for w in g.words], span)
        return Heard(" ".join(g.text for g in own), found.words)
    return Heard(" ".join(g.text for g in own))


def _words(inside: Sequence[Word], span: SpeakerTurn) -> Heard:
    """Words with times from the stretch's start, cut at its edges."""
    length = _length(span)
    times = [
        (w, min(max(a - span.start_s, 0.0), length), min(max(b - span.start_s, 0.0), length))
        for w, a, b in inside
    ]
    return Heard(
        " ".join(w.strip() for w, _, _ in inside), [(w, round(a, 4), round(b, 4)) for w, a, b in times]
    )


def _length(turn: SpeakerTurn) -> float:
    return turn.end_s - turn.start_s


def _shared(one: SpeakerTurn, other: SpeakerTurn) -> float:
    return max(0.0, min(one.end_s, other.end_s) - max(one.start_s, other.start_s))
