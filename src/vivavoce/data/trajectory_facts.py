"""What is in a set of emotional-trajectory dialogues, and what is wrong with it.

Counting costs nothing; recordings are looked at by their headers only.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vivavoce.audio.files import AudioInfo, audio_info
from vivavoce.audio.joining import CROP_S, GAP_S
from vivavoce.base.errors import VivavoceError
from vivavoce.data.dialogues import Dialogue
from vivavoce.data.trajectory_files import WRONG_ENCODING, Fault
from vivavoce.data.trajectory_rows import WRONG_NUMBERS
from vivavoce.tokens.trajectory import EMOTIONS, language_of, sound_marks, without_sound_marks

# fastest and slowest speech that is believed: Chinese characters, or letters of other scripts, per second
FASTEST = {"zh": 10.0, "en": 30.0}
SLOWEST = {"zh": 1.0, "en": 3.0}
PAUSE_S = 3.0  # silence that a slow recording may have besides
SHORTEST_S = 0.3
EXAMPLES = 3

Probed = Mapping[str, AudioInfo | VivavoceError | None]


@dataclass(frozen=True)
class Range:
    """Least, mean and most of some numbers."""

    least: float
    mean: float
    most: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Range | None:
        """The range of numbers, None for none."""
        return cls(min(numbers), sum(numbers) / len(numbers), max(numbers)) if numbers else None

    def __str__(self) -> str:
        return f"{self.least:.4g} to {self.most:.4g}, mean {self.mean:.4g}"


@dataclass(frozen=True)
class AudioFacts:
    """The recordings that the user turns name.

    Attributes:
        present: Readable ones.
        missing: Names without a file.
        unreadable: Files that are no recordings.
        hours: Length of the readable ones together.
        turn_s: Their lengths in seconds.
        sample_rates: Hz -> how many.
    """

    present: int
    missing: int
    unreadable: int
    hours: float
    turn_s: Range | None
    sample_rates: dict[int, int]


@dataclass(frozen=True)
class TrajectoryFacts:
    """What is in a set of dialogues.

    Attributes:
        dialogues: Usable ones.
        faults: Rows that are not.
        turns: Number of user turns -> dialogues.
        languages: "zh", "en" -> dialogues.
        tasks: Name -> dialogues.
        emotions: Turn, from 1 -> label -> how often; "none" counts turns without a known label.
        sequences: "happy -> sad -> neutral" -> dialogues, the most frequent first.
        target_characters: Length of the answers to learn.
        sound_marks: Mark in square brackets -> how often, in the user's turns.
        audio: Of the user turns.
    """

    dialogues: int
    faults: int
    turns: dict[int, int]
    languages: dict[str, int]
    tasks: dict[str, int]
    emotions: dict[int, dict[str, int]]
    sequences: dict[str, int]
    target_characters: Range | None
    sound_marks: dict[str, int]
    audio: AudioFacts

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        audio = self.audio
        lines = [
            f"dialogues   {self.dialogues}, and {self.faults} rows left out",
            f"turns       {_counts(self.turns)}",
            f"languages   {_counts(self.languages)}",
            f"tasks       {_counts(self.tasks)}",
            *(f"emotions {n}  {_counts(counts)}" for n, counts in self.emotions.items()),
            f"sequences   {len(self.sequences)} distinct; {_counts(dict(list(self.sequences.items())[:3]))}",
            f"target      {self.target_characters or 'none'} characters",
            f"sounds      {sum(self.sound_marks.values())} marks; {_counts(self.sound_marks)}",
            f"audio       {audio.present} present, {audio.missing} missing, {audio.unreadable} unreadable; "
            f"{audio.hours:.2f} h",
        ]
        if audio.turn_s:
            lines.append(f"turn        {audio.turn_s} s; {_counts(audio.sample_rates)} Hz")
        return "\n".join(lines)


@dataclass(frozen=True)
class Problem:
    """Something that is wrong with one or more rows.

    Attributes:
        kind: What.
        count: How often.
        examples: The first few, with the dialogue's id.
    """

    kind: str
    count: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind}: {self.count}, such as {'; '.join(self.examples)}"


def probe(dialogues: Iterable[Dialogue]) -> dict[str, AudioInfo | VivavoceError | None]:
    """The header of each recording of the user turns: what it says, the error, or None if there is no file."""
    probed: dict[str, AudioInfo | VivavoceError | None] = {}
    for path in (turn.path for dialogue in dialogues for turn in dialogue.turns if turn.path):
        if path in probed:
            continue
        try:
            probed[path] = audio_info(path) if Path(path).exists() else None
        except (VivavoceError, OSError, ValueError) as error:
            probed[path] = error if isinstance(error, VivavoceError) else VivavoceError(str(error))
    return probed


def describe(dialogues: Sequence[Dialogue], faults: Sequence[Fault], probed: Probed) -> TrajectoryFacts:
    """Count what is in a set of dialogues.

    Args:
        dialogues: The usable ones.
        faults: Of the others.
        probed: As ``probe`` gives it.
    """
    emotions: dict[int, Counter[str]] = defaultdict(Counter)
    for dialogue in dialogues:
        for i, turn in enumerate(dialogue.turns, 1):
            emotions[i][turn.emotion or "none"] += 1
    marks = Counter(mark for d in dialogues for text in d.texts for mark in sound_marks(text))
    sequences = Counter(" -> ".join(d.emotions) for d in dialogues if d.emotions)
    infos = [info for info in probed.values() if isinstance(info, AudioInfo)]
    seconds = [info.duration_s for info in infos if info.duration_s is not None]
    audio = AudioFacts(
        present=len(infos),
        missing=sum(info is None for info in probed.values()),
        unreadable=sum(isinstance(info, VivavoceError) for info in probed.values()),
        hours=sum(seconds) / 3600,
        turn_s=Range.of(seconds),
        sample_rates=dict(Counter(info.sample_rate for info in infos).most_common()),
    )
    order = [*EMOTIONS, "none"]
    return TrajectoryFacts(
        dialogues=len(dialogues),
        faults=len(faults),
        turns=dict(sorted(Counter(len(d.turns) for d in dialogues).items())),
        languages=dict(Counter(d.language for d in dialogues).most_common()),
        tasks=dict(Counter(d.task for d in dialogues).most_common()),
        emotions={n: {e: emotions[n][e] for e in order if emotions[n][e]} for n in sorted(emotions)},
        sequences=dict(sequences.most_common()),
        target_characters=Range.of([len(d.target) for d in dialogues if d.target]),
        sound_marks=dict(marks.most_common()),
        audio=audio,
    )


def check(dialogues: Sequence[Dialogue], faults: Sequence[Fault], probed: Probed) -> list[Problem]:
    """List what is wrong, by kind; [] for nothing. Arguments as ``describe``."""
    found: dict[str, list[str]] = defaultdict(list)
    for fault in faults:
        found[fault.kind].append(f"{fault.place} {fault.id} {fault.reason}".replace("  ", " "))
    ids = Counter(d.id for d in dialogues if d.id)
    for dialogue in dialogues:
        if not dialogue.id:
            found["no id"].append(dialogue.place)
        elif ids[dialogue.id] > 1:
            found["duplicate id"].append(f"{dialogue.id}, {dialogue.place}")
        for kind, detail in [*_text_problems(dialogue), *_audio_problems(dialogue, probed)]:
            found[kind].append(f"{dialogue.name} {detail}".strip())
    return [Problem(kind, len(said), tuple(said[:EXAMPLES])) for kind, said in found.items()]


def _text_problems(dialogue: Dialogue) -> Iterator[tuple[str, str]]:
    numbers = [turn.number for turn in dialogue.turns]
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        yield WRONG_NUMBERS, f"has turns {', '.join(map(str, numbers))}"
    some = any(turn.emotion_given for turn in dialogue.turns)
    for i, turn in enumerate(dialogue.turns, 1):
        if not turn.text:
            yield "empty text", f"turn {i}"
        if not turn.reply:
            yield ("no answer", "") if turn is dialogue.turns[-1] else ("empty reply", f"turn {i}")
        if turn.emotion is None and turn.emotion_given:
            yield "unknown emotion", f"turn {i} {turn.emotion_given!r}"
        elif turn.emotion is None and some:
            yield "no emotion", f"turn {i}"
        for text in (turn.text, turn.reply):
            if "\ufffd" in text or _is_mojibake(text):
                yield WRONG_ENCODING, f"turn {i} {text[:20]!r}"


def _is_mojibake(text: str) -> bool:
    """Whether a text is UTF-8 that was once read as Latin-1 or Windows' form of it."""
    for encoding in ("latin-1", "cp1252"):
        try:
            return text.encode(encoding).decode("utf-8") != text
        except UnicodeError:
            continue
    return False


def _audio_problems(dialogue: Dialogue, probed: Probed) -> Iterator[tuple[str, str]]:
    seconds: list[float] = []
    for i, turn in enumerate(dialogue.turns, 1):
        info = probed.get(turn.path)
        if not turn.path:
            yield "no audio named", f"turn {i}"
        elif info is None:
            yield "missing audio", turn.path
        elif isinstance(info, VivavoceError):
            yield "unreadable audio", str(info)
        elif info.duration_s is not None:
            seconds.append(info.duration_s)
            least, most = spoken_s(turn.text)
            if info.duration_s < least:
                yield (
                    "audio too short for its text",
                    f"turn {i} {info.duration_s:.2f} s, {least:.1f} s or more",
                )
            elif info.duration_s > most:
                yield "audio too long for its text", f"turn {i} {info.duration_s:.1f} s, at most {most:.1f} s"
    joined = sum(seconds) + GAP_S * len(seconds)
    if len(seconds) == len(dialogue.turns) and joined > CROP_S:
        yield f"longer than {CROP_S:g} s when joined", f"{joined:.1f} s"


def spoken_s(text: str) -> tuple[float, float]:
    """Shortest and longest time in seconds that a transcript can believably take; inf without words."""
    said = without_sound_marks(text)
    language = language_of(said)
    if language is None:
        return SHORTEST_S, float("inf")
    size = len(re.findall(r"[\u4e00-\u9fff]" if language == "zh" else r"[^\W\d_]", said))
    return max(SHORTEST_S, size / FASTEST[language]), size / SLOWEST[language] + PAUSE_S


def _counts(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items()) or "none"
