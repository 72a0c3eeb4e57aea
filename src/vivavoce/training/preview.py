"""A row as it is trained on, for people: parts, recordings, tokens with their loss, and what a teacher reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from vivavoce.base.errors import AudioError, MissingExtraError, VivavoceError
from vivavoce.data.check.findings import Finding
from vivavoce.data.check.turns import audio_places
from vivavoce.data.conversation import Audio, Conversation
from vivavoce.data.recordings import encode_flac, read_waveform
from vivavoce.training.doctor import diagnose, not_rendered
from vivavoce.training.rendering import Rendering, render_row

ENVELOPE = 240  # points of a drawn waveform
PLAY_RATE = 24_000  # Hz; recordings of a higher rate are resampled to be played from a page
_CONTEXT, _CHARACTER = 4, 4  # tokens; a character has four bytes at most


@dataclass(frozen=True)
class Piece:
    """Neighbouring positions that are one thing: a token of text, or a clip.

    Attributes:
        kind: "text", or the clip's "embeddings" or "tokens".
        text: As people read it; "" for embeddings.
        ids: Token ids of the positions.
        weight: Largest loss weight of them.
        start: First position.
        clip: Index of the clip; None for text.
        special: It is a special token.
    """

    kind: str
    text: str
    ids: tuple[int, ...]
    weight: float
    start: int
    clip: int | None = None
    special: bool = False


@dataclass(frozen=True)
class ClipView:
    """A clip of a row, with what is known and heard of it.

    Attributes:
        place: "message 1, part 0".
        part: The audio part.
        how: "embeddings", "tokens" or "unused"; "" without a model.
        positions: In the sequence.
        known: False if its tokens were not made, only counted.
        seconds: Length of the part that counts; None if there is no recording that can be read.
        sample_rate: Hz of the recording; 0 without one.
        envelope: Least and largest sample of equal stretches, for drawing.
        flac: The part as a FLAC file, b"" without one.
        fault: Why the recording cannot be read; "".
    """

    place: str
    part: Audio
    how: str = ""
    positions: int = 0
    known: bool = True
    seconds: float | None = None
    sample_rate: int = 0
    envelope: tuple[tuple[float, float], ...] = ()
    flac: bytes = b""
    fault: str = ""


@dataclass
class Preview:
    """A row for people.

    Attributes:
        row: The conversation.
        number: Its place in the set.
        clips: Its audio parts, in order.
        findings: What is wrong with it.
        rendering: What a model reads; None without a model, or if it cannot.
        pieces: The same, piece by piece.
        teacher: What a teacher reads, piece by piece.
    """

    row: Conversation
    number: int
    clips: list[ClipView]
    findings: list[Finding] = field(default_factory=list)
    rendering: Rendering | None = None
    pieces: list[Piece] = field(default_factory=list)
    teacher: list[Piece] = field(default_factory=list)

    def numbers(self) -> dict[str, int]:
        """Positions: all of them, those of audio, those that are learned."""
        if self.rendering is None:
            return {}
        return {
            "positions": len(self.rendering.input_ids),
            "audio_positions": sum(span.length for span in self.rendering.spans),
            "learned": len(self.rendering.learned()),
        }

    def as_dict(self) -> dict[str, Any]:
        """For JSON, without recordings."""
        made: dict[str, Any] = {
            "id": self.row.id,
            "number": self.number,
            "messages": [
                {"role": m.role, "text": m.text, "words": m.words, "loss": m.loss} for m in self.row.messages
            ],
            "clips": [
                {k: v for k, v in asdict(clip).items() if k not in ("part", "envelope", "flac")}
                | {"transcript": clip.part.transcript}
                for clip in self.clips
            ],
            "findings": [asdict(f) | {"severity": f.severity} for f in self.findings],
        }
        if self.rendering is not None:
            made |= {
                "objective": self.rendering.objective,
                **self.numbers(),
                "input_ids": self.rendering.input_ids,
                "loss_weights": self.rendering.weights,
                "spans": [asdict(span) for span in self.rendering.spans],
                "pieces": [asdict(piece) for piece in self.pieces],
                "teacher_ids": self.rendering.teacher_ids,
                "teacher_loss_weights": self.rendering.teacher_weights or None,
            }
        return made


def preview_row(
    conversation: Conversation,
    number: int = 0,
    processor: Any = None,
    objective: str = "sft",
    *,
    root: Path | None = None,
    findings: Sequence[Finding] = (),
    max_tokens: int | None = None,
    sound: bool = False,
) -> Preview:
    """Show a row as a model reads it.

    Args:
        conversation: The row.
        number: Its place in the set.
        processor: Of the model, a ``SpeechProcessor``; None shows the row's parts only.
        objective: As in ``rendering.render_row``.
        root: Where relative paths of recordings start.
        findings: What was found in the row already; the doctor's are added.
        max_tokens: Most positions of a row.
        sound: Keep the recordings, for a page that plays them.

    A row that the model cannot read is shown without tokens, with the finding that says why.
    """
    made = Preview(conversation, number, [], list(findings))
    if processor is not None:
        _render(made, processor, objective, root, max_tokens)
    clips = made.rendering.clips if made.rendering is not None else ()
    for i, (place, part) in enumerate(audio_places(conversation)):
        used = (
            {"how": clips[i].how, "positions": clips[i].positions, "known": clips[i].known} if clips else {}
        )
        made.clips.append(_view(place, part, conversation, root, sound, used))
    return made


def _render(made: Preview, processor: Any, objective: str, root: Path | None, max_tokens: int | None) -> None:
    try:
        try:
            found = render_row(made.row, processor, objective, root=root, encode=True)
        except VivavoceError:  # the codec may not be here; then clips are counted only
            found = render_row(made.row, processor, objective, root=root)
    except (VivavoceError, OSError) as error:
        made.findings.append(not_rendered(error))
        return
    made.rendering = found
    made.findings += diagnose(made.row, found, processor, max_tokens)
    tokenizer = processor.tokenizer
    made.pieces = list(pieces(found.input_ids, found.weights, tokenizer, found))
    if found.teacher_ids is not None:
        made.teacher = list(pieces(found.teacher_ids, found.teacher_weights, tokenizer))


def pieces(
    ids: Sequence[int], weights: Sequence[float], tokenizer: Any, rendering: Rendering | None = None
) -> Iterator[Piece]:
    """Cut a sequence into tokens and clips.

    Args:
        ids: L token ids.
        weights: L loss weights.
        tokenizer: Of the model.
        rendering: With the places of clips; None for text alone.
    """
    at = 0
    for span in rendering.spans if rendering is not None else ():
        yield from _words(ids, weights, at, span.start, tokenizer)
        at = span.start + span.length
        inside = tuple(ids[span.start : at])
        text = "" if span.embedded else str(tokenizer.decode(list(inside)))
        kind = "embeddings" if span.embedded else "tokens"
        yield Piece(kind, text, inside, max(weights[span.start : at], default=0.0), span.start, span.index)
    yield from _words(ids, weights, at, len(ids), tokenizer)


def _words(
    ids: Sequence[int], weights: Sequence[float], start: int, stop: int, tokenizer: Any
) -> Iterator[Piece]:
    """Tokens of text; tokens that are parts of one character stay together.

    Each is decoded behind the few before it, because tokenizers write a space before some tokens and not others.
    """
    special = set(tokenizer.all_special_ids)

    def read(begin: int, end: int) -> str:
        return str(tokenizer.decode(list(ids[begin:end]), skip_special_tokens=False))

    held = start
    for at in range(start + 1, stop + 1):
        before = max(start, held - _CONTEXT)
        text = read(before, at)
        if text.endswith("\ufffd") and at < stop and at - held < _CHARACTER:
            continue
        known = read(before, held) if held > before else ""
        shown = text[len(known) :] if text.startswith(known) else read(held, at)
        inside = tuple(ids[held:at])
        yield Piece("text", shown, inside, max(weights[held:at]), held, None, inside[0] in special)
        held = at


def runs(found: Sequence[Piece]) -> Iterator[tuple[str, list[Piece]]]:
    """Pieces that look alike, together: "audio", "learned" or "read"."""
    for look, group in groupby(found, key=look_of):
        yield look, list(group)


def look_of(piece: Piece) -> str:
    """How a piece is shown: "audio", "learned audio", "learned" or "read"."""
    learned = "learned" if piece.weight > 0 else ""
    if piece.kind == "text":
        return learned or "read"
    return f"{learned} audio".strip()


def _view(
    place: str, part: Audio, conversation: Conversation, root: Path | None, sound: bool, used: dict[str, Any]
) -> ClipView:
    if part.audio is None:
        return ClipView(place, part, **used)
    try:
        wave, rate = read_waveform(part, conversation, None, root)
    except (AudioError, MissingExtraError, OSError) as error:
        return ClipView(place, part, fault=str(error), **used)
    flac = b""
    if sound:
        played, at = (wave, rate) if rate <= PLAY_RATE else (_resampled(wave, rate), PLAY_RATE)
        flac = encode_flac(np.clip(played, -1, 1), at)
    return ClipView(
        place, part, seconds=wave.size / rate, sample_rate=rate, envelope=envelope(wave), flac=flac, **used
    )


def _resampled(wave: np.ndarray, rate: int) -> np.ndarray:
    from vivavoce.audio.resample import resample

    return resample(wave, rate, PLAY_RATE)


def envelope(wave: np.ndarray, points: int = ENVELOPE) -> tuple[tuple[float, float], ...]:
    """Least and largest sample of equal stretches of a waveform, float [S] with S >= 1."""
    edges = np.linspace(0, wave.size, min(points, wave.size) + 1).astype(int)
    return tuple((float(wave[a:b].min()), float(wave[a:b].max())) for a, b in pairwise(edges))
