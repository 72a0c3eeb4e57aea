"""One cut of Lhotse as conversations, and recordings of a conversation as a cut.

What a cut says beyond what we would write for the same row is kept in ``meta`` and written again, so a manifest that
goes through us comes out with all its keys.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from vivavoce.base.errors import VivavoceError
from vivavoce.data.conversation import Audio, Conversation, read_conversation
from vivavoce.data.convert.contract import RowError
from vivavoce.data.convert.json_rows import Item
from vivavoce.data.convert.sounds import channel_flac
from vivavoce.data.convert.texts import object_of, optional_text, seconds_of, text_of
from vivavoce.data.recordings import read_bytes

_CLOSE_S = 1e-3
_OVERHANG_S = 0.05
_SCORES = "word_scores"


@dataclass(frozen=True)
class Segments:
    """How to read cuts.

    Attributes:
        form: Key in ``meta``.
        together: Keep the supervisions of a cut in one row.
        root: Where relative paths start.
    """

    form: str
    together: bool
    root: Path | None


@dataclass(frozen=True)
class _Sound:
    """A cut's recording: what parts name, where the cut begins in it, and where it ends (None at its end).

    Attributes:
        length_s: Of the cut.
        clock_s: Where the cut begins in the recording, also if one channel was taken out.
        is_new: One channel of the cut, taken out of the recording.
    """

    source: Any
    start_s: float
    end_s: float | None
    length_s: float
    clock_s: float
    is_new: bool = False


def read_cut(cut: Mapping[str, Any], item: Item, segments: Segments) -> Iterator[Conversation | Exception]:
    """The rows of a cut; segments that cannot be used are errors between them.

    Raises:
        RowError: The cut as a whole cannot be used.
    """
    name = str(cut.get("id") or item.number)
    sound = _sound(cut, name, segments.root)
    given = [object_of(s) for s in cut.get("supervisions") or ()]
    if len(given) <= 1 or segments.together:
        alone = len(given) <= 1
        parts = [_part(s, sound, alone) for s in given] or [_part({}, sound, True)]
        whole = {"id": name, "messages": [{"role": "user", "content": parts}], "task": "asr"}
        made = read_conversation(whole, item.number)
        extra = _beyond(cut, made, sound)
        made.meta = {segments.form: extra} if extra else {}
        yield made
        return
    for i, supervision in enumerate(given):
        try:
            part = _part(supervision, sound, False)
            row: dict[str, Any] = {
                "id": str(supervision.get("id") or f"{name}-{i}"),
                "messages": [{"role": "user", "content": [part]}],
                "task": "asr",
                "meta": {segments.form: {"cut_id": name}},
            }
            yield read_conversation(row, item.number)
        except (VivavoceError, ValueError, TypeError, LookupError, AttributeError) as error:
            yield error


def read_supervision(
    supervision: Mapping[str, Any], recording: Mapping[str, Any], item: Item, form: str, root: Path | None
) -> Conversation:
    """A supervision of a recording as a row.

    Raises:
        RowError: The recording or a time cannot be used.
    """
    supervision = object_of(supervision)
    start, length = seconds_of(supervision, "start") or 0.0, seconds_of(supervision, "duration")
    cut = {
        "id": supervision.get("id"),
        "start": start,
        "duration": length,
        "channel": supervision.get("channel", 0),
        "recording": recording,
    }
    sound = _sound(cut, str(supervision.get("id") or item.number), root)
    part = _part(dict(supervision) | {"start": 0.0}, sound, True)
    row = {"messages": [{"role": "user", "content": [part]}], "task": "asr"}
    row["id"] = str(supervision.get("id") or item.number)
    return read_conversation(row, item.number)


def cut_entry(
    name: str,
    parts: Sequence[Audio],
    source: Mapping[str, Any],
    num_samples: int,
    sample_rate: int,
    known: Mapping[str, Any],
) -> dict[str, Any]:
    """A cut with a supervision per part.

    Args:
        name: Id of the cut.
        parts: Of one recording; the span of a single part is the cut's.
        source: The recording's source.
        num_samples: Of the whole recording.
        sample_rate: Hz.
        known: What ``meta`` has kept.
    """
    whole_s = num_samples / sample_rate
    stem = PurePosixPath(source["source"]).stem if source["source"] else name
    recording: dict[str, Any] = {
        "id": stem,
        "sources": [dict(source)],
        "sampling_rate": sample_rate,
        "num_samples": num_samples,
        "duration": whole_s,
    } | dict(known.get("recording", {}))
    alone = len(parts) == 1
    start = parts[0].start_s if alone else 0.0
    end = whole_s if not alone or parts[0].end_s is None else parts[0].end_s
    channels = list(source["channels"])
    cut: dict[str, Any] = {
        "id": name,
        "start": start,
        "duration": _rounded(end - start, whole_s),
        "channel": channels[0] if len(channels) == 1 else channels,
        "supervisions": [],
        "recording": recording,
        "type": "MonoCut" if len(channels) == 1 else "MultiCut",
    }
    cut |= dict(known.get("cut", {}))
    extra = list(known.get("supervisions", ()))
    for i, part in enumerate(parts):
        base = cut["start"]
        begin = 0.0 if alone else round(part.start_s - base, 8)
        length = cut["duration"] if alone else round((part.end_s or whole_s) - part.start_s, 8)
        label = name if alone else f"{name}-{i}"
        more = extra[i] if i < len(extra) else {}
        where = (label, str(recording["id"]), begin, length, cut["channel"])
        supervision = _supervision(part, *where, clock_s=cut["start"] + begin)
        if i < len(extra) or not alone or len(supervision) > 5:
            cut["supervisions"].append(supervision | more)
    return cut


def recording_source(recording: Mapping[str, Any]) -> tuple[Any, list[int]]:
    """What a recording is read from, and its channels.

    Raises:
        RowError: It is several files, the output of a command, or changed while it is read.
    """
    sources = recording.get("sources")
    if not isinstance(sources, list) or len(sources) != 1 or not isinstance(sources[0], Mapping):
        raise RowError("malformed", f"recording {recording.get('id')!r} has not one source.")
    if recording.get("transforms"):
        raise RowError("transforms", f"recording {recording.get('id')!r} is changed while it is read.")
    kind, value = sources[0].get("type"), sources[0].get("source")
    channels = [int(c) for c in sources[0].get("channels") or [0]]
    if kind == "file" or kind == "url":
        return text_of(sources[0], "source"), channels
    if kind == "memory" and isinstance(value, str | bytes):
        try:
            data = base64.b64decode(value, validate=True) if isinstance(value, str) else value
        except (binascii.Error, ValueError) as error:
            raise RowError("malformed", f"recording {recording.get('id')!r} is no base64.") from error
        return {"bytes": data, "path": sources[0].get("path")}, channels
    raise RowError("no sound", f"recording {recording.get('id')!r} is of type {kind!r}, wanted a file.")


def _sound(cut: Mapping[str, Any], name: str, root: Path | None) -> _Sound:
    kind = cut.get("type", "MonoCut")
    if kind not in ("MonoCut", "MultiCut", "Cut"):
        raise RowError("mixed cut", f"cut {name!r} is a {kind}; export its audio with lhotse first.")
    if cut.get("recording") is None:
        raise RowError("no sound", f"cut {name!r} has no recording.")
    recording = object_of(cut["recording"])
    source, channels = recording_source(recording)
    whole = seconds_of(recording, "duration")
    start = seconds_of(cut, "start") or 0.0
    length = seconds_of(cut, "duration")
    whole = start + (length or 0.0) if whole is None else whole
    length = whole - start if length is None else length
    is_whole = start == 0.0 and abs(start + length - whole) < _CLOSE_S
    end = None if is_whole else round(start + length, 8)
    channel = cut.get("channel")
    if isinstance(channel, int) and len(channels) > 1:
        if channel not in channels:
            raise RowError("malformed", f"cut {name!r} is of channel {channel} of {channels}.")
        data = channel_flac(read_bytes(source, root), channels.index(channel), start, end)
        return _Sound({"bytes": data, "path": f"{name}.flac"}, 0.0, None, length, start, True)
    if isinstance(channel, list) and sorted(channel) != sorted(channels):
        raise RowError("malformed", f"cut {name!r} has channels {channel} of {channels}; wanted one or all.")
    return _Sound(source, start, end, length, start)


def _part(supervision: Mapping[str, Any], sound: _Sound, alone: bool) -> dict[str, Any]:
    """A supervision as an audio part; of the whole cut if it is ``alone``.

    Raises:
        RowError: It reaches beyond the cut, so that its text is more than what is heard, or its words are elsewhere.
    """
    begin = _number(supervision, "start") or 0.0
    length = _number(supervision, "duration")
    name = supervision.get("id")
    if length is None and not alone:
        raise RowError("malformed", f"supervision {name!r} has no duration.")
    length = sound.length_s if length is None else length
    if begin < -_OVERHANG_S or begin + length > sound.length_s + _OVERHANG_S:
        raise RowError("overhang", f"supervision {name!r} is from {begin:g} s on for {length:g} s, in a cut of "
                       f"{sound.length_s:g} s.")  # fmt: skip
    start, end, origin = sound.start_s, sound.end_s, 0.0
    if not alone:
        origin, start = begin, round(max(0.0, sound.start_s + begin), 8)
        end = round(start + length, 8)
    labels = dict(supervision.get("custom") or {})
    labels |= {"gender": supervision["gender"]} if supervision.get("gender") else {}
    part: dict[str, Any] = {"type": "audio", "audio": sound.source, "start": start, "end": end}
    part |= {name: optional_text(supervision, name) for name in ("language", "speaker")}
    part["transcript"] = optional_text(supervision, "text")
    alignment = dict(supervision.get("alignment") or {})
    clock = sound.clock_s if _is_recording_time(alignment, begin, length, sound) else 0.0
    moved = {
        kind: [[w[0], round(w[1] - clock - origin, 8), *w[2:]] for w in items]
        for kind, items in alignment.items()
    }
    words = moved.pop("word", None)
    labels |= {"alignment": moved} if moved else {}
    if words is not None:
        part["words"] = [[w[0], w[1], round(w[1] + w[2], 8)] for w in words]
        scores = [w[3] if len(w) > 3 else None for w in words]
        labels |= {_SCORES: scores} if any(s is not None for s in scores) else {}
    return part | {"labels": labels}


def _is_recording_time(alignment: Mapping[str, Any], begin: float, length: float, sound: _Sound) -> bool:
    """Whether an alignment counts from the recording's start, as Lhotse has it, or from the cut's, as others do."""
    middles = [w[1] + w[2] / 2 for items in alignment.values() for w in items]
    least, most = begin - _OVERHANG_S, begin + length + _OVERHANG_S
    by_cut = sum(least <= m <= most for m in middles)
    by_recording = sum(least <= m - sound.clock_s <= most for m in middles)
    if 2 * max(by_cut, by_recording) < len(middles):
        raise RowError("word times", f"most aligned items lie outside their supervision of {length:g} s.")
    return by_recording >= by_cut


def _number(row: Mapping[str, Any], name: str) -> float | None:
    """A column of seconds that may be negative."""
    value = row.get(name)
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9):
        return None if value is None else float(value)
    raise RowError("malformed", f"{name} is {str(value)[:60]!r}, wanted seconds.")


def _supervision(
    part: Audio, name: str, recording: str, start: float, length: float, channel: Any, clock_s: float
) -> dict[str, Any]:
    made: dict[str, Any] = {
        "id": name, "recording_id": recording, "start": start, "duration": length, "channel": channel,
    }  # fmt: skip
    found = {"text": part.transcript, "language": part.language, "speaker": part.speaker}
    made |= {k: v for k, v in found.items() if v is not None}
    labels = dict(part.labels)
    made |= {"gender": labels.pop("gender")} if "gender" in labels else {}
    alignment = {
        kind: [[w[0], round(w[1] + clock_s, 8), *w[2:]] for w in items]
        for kind, items in dict(labels.pop("alignment", {})).items()
    }
    scores = labels.pop(_SCORES, None) or [None] * len(part.words or ())
    if part.words is not None:
        times = zip(part.words, scores, strict=True)
        alignment["word"] = [[w, round(a + clock_s, 8), round(b - a, 8), score] for (w, a, b), score in times]
    made |= {"custom": labels} if labels else {}
    return made | ({"alignment": alignment} if alignment else {})


def _rounded(length: float, whole: float) -> float:
    return whole if abs(length - whole) < 1e-9 else round(length, 8)


def _beyond(cut: Mapping[str, Any], row: Conversation, sound: _Sound) -> dict[str, Any]:
    """What a cut says that we would not write for the row made of it."""
    if cut.get("bare") or not isinstance(sound.source, str | Mapping):
        return {}
    recording = cut["recording"]
    samples, rate = recording.get("num_samples"), recording.get("sampling_rate")
    if not isinstance(samples, int) or not isinstance(rate, int) or samples < 1 or rate < 1:
        return {}
    given = recording["sources"][0]
    source = {
        "type": "file",
        "channels": given.get("channels") or [0],
        "source": given.get("source") if given.get("type") == "file" else "",
    }
    same = not sound.is_new
    ours = cut_entry(row.id, list(row.audio_parts()), source, samples, rate, {})
    extra: dict[str, Any] = {
        "cut": _more(cut, ours, "id", "supervisions", "recording"),
        "recording": _more(recording, ours["recording"], "sources") if same else {},
    }
    begin = float(cut.get("start") or 0.0)
    if "start" in extra["cut"] and not same:
        extra["cut"] = {k: v for k, v in extra["cut"].items() if k not in ("start", "duration", "channel")}
    elif len(row.messages[0].audios) > 1 and begin:
        extra["cut"] |= {"start": cut["start"], "duration": cut["duration"]}
    full = cut_entry(row.id, list(row.audio_parts()), source, samples, rate, extra)
    rows = [
        _more(theirs, made, "alignment")
        for theirs, made in zip(cut.get("supervisions") or (), _padded(full["supervisions"]), strict=False)
    ]
    if any(rows) or len(rows) != len(full["supervisions"]):
        extra["supervisions"] = rows
    return {k: v for k, v in extra.items() if v}


def _padded(rows: Sequence[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    yield from rows
    while True:
        yield {}


def _more(theirs: Mapping[str, Any], ours: Mapping[str, Any], *known: str) -> dict[str, Any]:
    """The keys of theirs that ours lacks or has otherwise."""
    return {k: v for k, v in theirs.items() if k not in known and v is not None and ours.get(k) != v}
