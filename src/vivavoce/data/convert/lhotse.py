"""Lhotse's manifests, read and written without lhotse: recordings with supervisions, and cuts.

A supervision is a segment of a recording with what is said in it; a cut is a stretch of a recording with its
supervisions. Times of supervisions count from the recording's start in a manifest of supervisions, from the cut's start
in a cut; times of alignments count from the recording's start in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from vivavoce.base.errors import DataError
from vivavoce.data.conversation import Audio, Conversation
from vivavoce.data.convert.contract import Format, Options, RowFault, Unfit, fault_of
from vivavoce.data.convert.json_rows import BadItem, Item, json_items
from vivavoce.data.convert.lhotse_cuts import Segments, cut_entry, read_cut, read_supervision
from vivavoce.data.convert.look import look
from vivavoce.data.convert.nemo import clips_only
from vivavoce.data.convert.outputs import Clips
from vivavoce.data.convert.sounds import length_of
from vivavoce.data.convert.texts import object_of

_SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz")
HOLDS = frozenset({"id", "user transcripts", "language", "speaker", "words", "labels", "spans"})


class LhotseFormat(Format):
    """Cuts, or recordings with their supervisions; written as cuts.

    By default every supervision is a row of its own (``segments="rows"``); with "parts" the supervisions of a cut stay
    together, an audio part each. A recording with several channels of which a cut has one is read as that channel. Keys
    of cuts, recordings and supervisions without a place of their own are kept in ``meta``. Mixed and padded cuts are
    faults.
    """

    name: ClassVar[str] = "lhotse"
    description: ClassVar[str] = "Lhotse cuts, or recordings and supervisions: JSON lines, gzipped or not"
    suffixes: ClassVar[tuple[str, ...]] = (".jsonl.gz", ".jsonl")
    holds: ClassVar[frozenset[str]] = HOLDS
    tasks: ClassVar[tuple[str, ...]] = ("asr",)
    settings: ClassVar[frozenset[str]] = frozenset({"segments", "audio"})

    def detect(self, path: Path) -> float:
        seen = look(path)
        if seen.kind == "folder":
            return 0.9 if _pair(path) else 0.0
        if seen.kind != "json":
            return 0.0
        is_cut = all("recording" in r or r.get("type", "").endswith("Cut") for r in seen.rows)
        is_recording = seen.all_have("sources", "sampling_rate")
        is_supervision = seen.all_have("recording_id", "start", "duration")
        return 0.95 if seen.rows and (is_cut or is_recording or is_supervision) else 0.0

    def items(self, path: Path, options: Options) -> Iterator[Item | BadItem]:
        pair = _pair(path)
        if path.is_dir() and pair is None:
            raise DataError(f"{path} has no manifests named *recordings* and *supervisions*.")
        if pair is not None:
            yield from _joined(*pair, options.encoding)
            return
        for item in json_items(path, options.encoding):
            if isinstance(item, Item) and isinstance(item.value, Mapping) and "recording_id" in item.value:
                raise DataError(
                    f"{path.name} holds supervisions; wanted their recordings beside, in a file of the same name "
                    "with 'recordings' in the place of 'supervisions'."
                )
            yield item

    def conversations(self, item: Item, options: Options) -> Iterable[Conversation | RowFault]:
        row = object_of(item.value)
        root = options.audio_root
        if "supervision" in row:
            yield read_supervision(row["supervision"], row["recording"], item, self.name, root)
        elif "sources" in row:
            yield from self._cut({"id": row.get("id"), "recording": row, "bare": True}, item, options)
        else:
            yield from self._cut(row, item, options)

    def _cut(self, row: Mapping[str, Any], item: Item, options: Options) -> Iterator[Conversation | RowFault]:
        segments = Segments(self.name, options.segments == "parts", options.audio_root)
        for made in read_cut(row, item, segments):
            yield fault_of(made, item) if isinstance(made, Exception) else made

    def read(self, path: Path, options: Options | None = None) -> Iterator[Conversation | RowFault]:
        from dataclasses import replace

        options, path = options or Options(), Path(path)
        root = options.audio_root or (path if path.is_dir() else path.parent)
        return super().read(path, replace(options, audio_root=root))

    def entries(
        self, row: Conversation, number: int, clips: Clips, options: Options
    ) -> Iterable[dict[str, Any]]:
        parts = list(row.audio_parts())
        if not parts:
            raise Unfit("no recording")
        if any(part.audio is None for part in parts):
            raise Unfit("an audio part has only tokens")
        known = row.meta.get(self.name, {})
        groups = [parts] if options.segments == "parts" and _same_recording(parts) else [[p] for p in parts]
        for i, group in enumerate(groups):
            path = clips.path(group[0], row, cut=False)
            length = length_of(group[0], row, clips.root)
            source = {"type": "file", "channels": list(range(length.num_channels)), "source": path}
            name = row.id if len(groups) == 1 else f"{row.id}-{i}"
            extra = known if len(groups) == 1 else {}
            yield cut_entry(name, group, source, length.num_samples, length.sample_rate, extra)

    def lost(self, row: Conversation, options: Options) -> set[str]:
        return super().lost(row, options) | clips_only(row)


def _same_recording(parts: list[Audio]) -> bool:
    return all(part.audio == parts[0].audio and part.end_s is not None for part in parts)


def _pair(path: Path) -> tuple[Path, Path] | None:
    """The recordings and the supervisions that belong together, given a folder or either file."""
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if "supervisions" in p.name and p.name.endswith(_SUFFIXES))
        path = files[0] if files else path / "supervisions.jsonl"
    if "supervisions" in path.name:
        pair = (path.with_name(path.name.replace("supervisions", "recordings")), path)
    elif "recordings" in path.name:
        pair = (path, path.with_name(path.name.replace("recordings", "supervisions")))
    else:
        return None
    return pair if pair[0].is_file() and pair[1].is_file() else None


def _joined(recordings: Path, supervisions: Path, encoding: str) -> Iterator[Item | BadItem]:
    """Supervisions with their recordings, in the order of the supervisions."""
    known: dict[str, Any] = {}
    for item in json_items(recordings, encoding):
        if isinstance(item, BadItem):
            yield item._replace(place=f"{item.place} of {recordings.name}")
        elif isinstance(item.value, Mapping):
            known[str(item.value.get("id"))] = item.value
    for item in json_items(supervisions, encoding):
        place = f"{item.place} of {supervisions.name}"
        if isinstance(item, BadItem):
            yield item._replace(place=place)
            continue
        value = item.value if isinstance(item.value, Mapping) else {}
        found = known.get(str(value.get("recording_id")))
        if found is None:
            reason = f"there is no recording {value.get('recording_id')!r} in {recordings.name}"
            yield BadItem(item.number, place, "missing audio", reason)
            continue
        yield Item(item.number, place, {"supervision": item.value, "recording": found})
