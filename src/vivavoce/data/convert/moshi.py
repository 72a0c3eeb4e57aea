"""Moshi's training data: stereo files, the model left and the user right, with times of words beside.

``train.jsonl`` has ``{"path", "duration"}`` a line; ``a.json`` beside ``a.wav`` has
``{"alignments": [[word, [start, end], "SPEAKER_MAIN"], ...]}``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vivavoce.audio.files import write_audio
from vivavoce.audio.resample import resample
from vivavoce.data.conversation import Audio, Conversation, Message, read_conversation
from vivavoce.data.convert.contract import Format, Options, RowError, Unfit
from vivavoce.data.convert.json_rows import BadItem, Item, json_items
from vivavoce.data.convert.look import look
from vivavoce.data.convert.outputs import Clips, Stage, safe_name, write_json
from vivavoce.data.convert.sounds import read_channels
from vivavoce.data.convert.texts import object_of, rest, seconds_of, text_of
from vivavoce.data.recordings import encode_flac, read_bytes

MAIN, OTHER = "SPEAKER_MAIN", "SPEAKER_USER"
RATE_HZ = 24_000
GAP_S = 0.24  # between turns of which no time is known: three frames of Mimi
_TURN_KEYS = ("transcript", "language", "speaker", "labels")


@dataclass
class _Turn:
    """A turn as it is laid on the time line."""

    message: Message
    part: Audio
    waveform: np.ndarray
    start: int

    @property
    def stop(self) -> int:
        return self.start + len(self.waveform)


class MoshiFormat(Format):
    """Stereo files and times of words.

    A conversation of recordings is laid on one time line: at ``time`` of its messages where they have one, else
    each turn 0.24 s after the one before. Replies must have times of words, which Moshi learns. The word file gets
    a further key ``turns``, which Moshi does not look at and from which we read the turns again; without it a file
    is read as two tracks from its beginning to its end, the user's and the assistant's, task "duplex".
    """

    name: ClassVar[str] = "moshi"
    description: ClassVar[str] = (
        "Moshi fine-tuning: stereo files (left model, right user) with times of words"
    )
    suffixes: ClassVar[tuple[str, ...]] = (".jsonl",)
    holds: ClassVar[frozenset[str]] = frozenset(
        {
            "id",
            "roles",
            "user transcripts",
            "reply transcripts",
            "language",
            "speaker",
            "words",
            "labels",
            "times",
        }
    )
    tasks: ClassVar[tuple[str, ...]] = ("chat", "duplex")
    audio: ClassVar[str] = "copy"

    def detect(self, path: Path) -> float:
        seen = look(path)
        return 0.9 if seen.kind == "json" and seen.all_have("path", "duration") else 0.0

    def items(self, path: Path, options: Options) -> Iterator[Item | BadItem]:
        root = options.audio_root or path.parent
        for item in json_items(path, options.encoding):
            yield item._replace(value=(root, item.value)) if isinstance(item, Item) else item

    def conversations(self, item: Item, options: Options) -> Iterable[Conversation]:
        root, value = item.value
        row = object_of(value)
        name = text_of(row, "path")
        if "://" in name:
            raise RowError("network address", f"{name} is an address on the network; download it.")
        if not (root / name).is_file():
            raise RowError("missing audio", f"there is no recording {name} in {root.name or root}.")
        waves, rate = read_channels(read_bytes(name, root))
        if len(waves) != 2:
            raise RowError("channels", f"{name} has {len(waves)} channels, wanted 2: model and user.")
        words = _read_words(root / Path(name).with_suffix(".json"))
        turns = words.get("turns")
        made = _turns(turns, waves, rate, words) if isinstance(turns, list) else _tracks(waves, rate, words)
        task = "chat" if isinstance(turns, list) else "duplex"
        meta = rest(row, "path", "duration")
        known = words.get("id") or Path(name).with_suffix("").as_posix()
        yield read_conversation(
            {"id": str(known), "messages": made, "task": task, "meta": {self.name: meta} if meta else None},
            item.number,
        )

    def entries(
        self, row: Conversation, number: int, clips: Clips, options: Options
    ) -> Iterable[tuple[str, np.ndarray, int, dict[str, Any], dict[str, Any]]]:
        turns, rate = _lay(row, clips)
        stereo = np.zeros((2, max(turn.stop for turn in turns)), dtype=np.float32)
        alignments: list[list[Any]] = []
        for turn in turns:
            is_reply = turn.message.role == "assistant"
            stereo[0 if is_reply else 1, turn.start : turn.stop] += turn.waveform
            begin = turn.start / rate
            for word, start, end in turn.part.words or ():
                label = MAIN if is_reply else OTHER
                alignments.append([word, [round(begin + start, 6), round(begin + end, 6)], label])
        alignments.sort(key=lambda word: word[1])
        words: dict[str, Any] = {"alignments": alignments}
        if row.task != "duplex":
            words |= {"id": row.id, "turns": [_turn_entry(turn, rate) for turn in turns]}
        name = clips.unique(safe_name(row.id), ".wav")
        columns = dict(row.meta.get(self.name, {}))
        yield name, stereo, rate, words, columns

    def save(self, entries: Iterator[Any], stage: Stage, options: Options) -> None:
        folder = stage.beside("stereo")

        def lines() -> Iterator[dict[str, Any]]:
            for file, stereo, rate, words, columns in entries:
                name = f"{folder}/{file}"
                path = stage.folder / name
                path.parent.mkdir(exist_ok=True)
                write_audio(path, stereo, rate)
                text = json.dumps(words, ensure_ascii=False)
                path.with_suffix(".json").write_text(f"{text}\n", encoding="utf-8")
                yield {"path": name, "duration": stereo.shape[1] / rate} | columns

        write_json(stage.main, lines())


def _lay(row: Conversation, clips: Clips) -> tuple[list[_Turn], int]:
    """The turns of a conversation on one time line, and its sample rate in Hz.

    Raises:
        Unfit: A turn is typed, of another role, or a reply has no times of words.
        AudioError: A recording cannot be read.
    """
    found = []
    for message in row.messages:
        if message.role not in ("user", "assistant"):
            raise Unfit("a message that is neither the user's nor the assistant's")
        if len(message.audios) != 1 or message.audios[0].audio is None:
            raise Unfit("a turn that is not one recording")
        part = message.audios[0]
        if message.role == "assistant" and part.words is None:
            raise Unfit("a reply without times of words; align it first")
        found.append((message, part, *clips.waveform(part, row)))
    if not any(message.role == "assistant" for message, *_ in found):
        raise Unfit("no reply")
    rates = {rate for *_, rate in found}
    rate = rates.pop() if len(rates) == 1 else RATE_HZ
    turns: list[_Turn] = []
    free = 0
    for message, part, wave, own in found:
        wave = wave if own == rate else resample(wave, own, rate)
        time = message.more.get("time")
        start = round(_begin(time) * rate) if time is not None else free
        turns.append(_Turn(message, part, wave, start))
        free = turns[-1].stop + round(GAP_S * rate)
    _check_overlap(turns)
    return turns, rate


def _begin(time: Any) -> float:
    if not isinstance(time, list | tuple) or not time or not isinstance(time[0], int | float) or time[0] < 0:
        raise Unfit("a message whose time is not [start, end]")
    return float(time[0])


def _check_overlap(turns: list[_Turn]) -> None:
    for role in ("user", "assistant"):
        own = sorted((t.start, t.stop) for t in turns if t.message.role == role)
        if any(b[0] < a[1] for a, b in pairwise(own)):
            raise Unfit("two turns of one speaker at the same time")


def _turn_entry(turn: _Turn, rate: int) -> dict[str, Any]:
    part = turn.part.row()
    made = {"role": turn.message.role, "start": turn.start / rate, "end": turn.stop / rate}
    return made | {k: part[k] for k in (*_TURN_KEYS, "words") if k in part}


def _read_words(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RowError("no words", f"there is no {path.name} with times of words.") from error
    except (OSError, ValueError) as error:
        raise RowError("json", f"{path.name} cannot be read: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("alignments"), list):
        raise RowError("malformed", f"{path.name} has no list of alignments.")
    return found


def _labelled(words: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    """The words of the model and of anybody else, as [word, start, end]."""
    found: tuple[list[Any], list[Any]] = ([], [])
    for word in words["alignments"]:
        try:
            text, (start, end), label = word
            made = [str(text), float(start), float(end)]
        except (TypeError, ValueError) as error:
            raise RowError(
                "malformed", f"{str(word)[:60]!r} is not [word, [start, end], speaker]."
            ) from error
        found[0 if label == MAIN else 1].append(made)
    return found


def _tracks(waves: np.ndarray, rate: int, words: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Two messages over the whole time."""
    main, other = _labelled(words)
    seconds = waves.shape[1] / rate
    made = []
    for role, wave, said in (("user", waves[1], other), ("assistant", waves[0], main)):
        part: dict[str, Any] = {
            "type": "audio",
            "audio": {"bytes": encode_flac(wave, rate), "path": f"{role}.flac"},
        }
        if said or role == "assistant":
            part |= {"words": said, "transcript": " ".join(word.strip() for word, _, _ in said)}
        made.append({"role": role, "content": [part], "time": [0.0, seconds]})
    return made


def _turns(turns: list[Any], waves: np.ndarray, rate: int, words: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The turns that our own files tell of."""
    made = []
    for turn in map(object_of, turns):
        start, end = seconds_of(turn, "start"), seconds_of(turn, "end")
        role = turn.get("role")
        if role not in ("user", "assistant") or start is None or end is None or end <= start:
            raise RowError("malformed", f"turn {str(turn)[:60]!r} has no role, start and end.")
        wave = waves[0 if role == "assistant" else 1, round(start * rate) : round(end * rate)]
        if not wave.size:
            raise RowError("malformed", f"the recording ends before the turn at {start:g} s.")
        sound = {"bytes": encode_flac(wave, rate), "path": f"{role}.flac"}
        part = {"type": "audio", "audio": sound} | {k: turn[k] for k in (*_TURN_KEYS, "words") if k in turn}
        made.append({"role": role, "content": [part], "time": [start, end]})
    if not made:
        raise RowError("malformed", "the list of turns is empty.")
    return made
