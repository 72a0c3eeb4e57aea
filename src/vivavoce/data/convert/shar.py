"""Lhotse Shar folders: ``cuts.000000.jsonl.gz`` with ``recording.000000.tar``, read and written without lhotse.

An archive holds two members a cut, in the cuts' order: ``<id>.flac`` and ``<id>.json`` with the recording's manifest;
a cut without a recording has ``<id>.nodata`` and ``<id>.nometa``.
"""

from __future__ import annotations

import gzip
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from vivavoce.audio.files import audio_info
from vivavoce.base.errors import DataError
from vivavoce.data.conversation import Conversation
from vivavoce.data.convert.archives import ArchiveWriter, Damage, Member, is_inside, members
from vivavoce.data.convert.contract import Format, Options, RowFault, Unfit, fault_of
from vivavoce.data.convert.json_rows import BadItem, Item, json_items
from vivavoce.data.convert.lhotse import HOLDS
from vivavoce.data.convert.lhotse_cuts import Segments, cut_entry, read_cut
from vivavoce.data.convert.look import look
from vivavoce.data.convert.nemo import clips_only
from vivavoce.data.convert.outputs import Clips, Stage, safe_name
from vivavoce.data.convert.texts import object_of

_CUTS = re.compile(r"cuts(?:\.(\w+))?\.jsonl(?:\.gz)?")
_ARCHIVE = re.compile(r"recording(?:\.(\w+))?\.tar(?:\.gz)?")
_EMPTY = (".nodata", ".nometa")


class SharFormat(Format):
    """Cuts with their recordings in archives beside; other fields of a Shar folder are not read."""

    name: ClassVar[str] = "lhotse_shar"
    description: ClassVar[str] = "Lhotse Shar folder: cuts.*.jsonl.gz with recording.*.tar"
    suffixes: ClassVar[tuple[str, ...]] = ("",)
    holds: ClassVar[frozenset[str]] = HOLDS - {"spans"}
    tasks: ClassVar[tuple[str, ...]] = ("asr",)
    settings: ClassVar[frozenset[str]] = frozenset({"segments", "shard_rows"})
    audio: ClassVar[str] = "embed"

    def detect(self, path: Path) -> float:
        names = look(path).names
        return 0.98 if any(map(_CUTS.fullmatch, names)) and any(map(_ARCHIVE.fullmatch, names)) else 0.0

    def items(self, path: Path, options: Options) -> Iterator[Item | BadItem]:
        shards = {m[1] or "": p for p in sorted(path.iterdir()) if (m := _CUTS.fullmatch(p.name))}
        archives = {m[1] or "": p for p in path.iterdir() if (m := _ARCHIVE.fullmatch(p.name))}
        if not shards:
            raise DataError(f"{path} has no cuts.*.jsonl.gz.")
        number = 0
        for shard, cuts in shards.items():
            if shard not in archives:
                raise DataError(f"{path} has {cuts.name} and no recording.{shard}.tar.")
            for item in _shard_items(cuts, archives[shard], options.encoding):
                place = f"{item.place} of {cuts.name}"
                yield item._replace(number=number, place=place)
                number += 1

    def conversations(self, item: Item, options: Options) -> Iterable[Conversation | RowFault]:
        segments = Segments(self.name, options.segments == "parts", None)
        for made in read_cut(object_of(item.value), item, segments):
            yield fault_of(made, item) if isinstance(made, Exception) else made

    def entries(
        self, row: Conversation, number: int, clips: Clips, options: Options
    ) -> Iterable[tuple[dict[str, Any], bytes, str]]:
        parts = list(row.audio_parts())
        if not parts:
            raise Unfit("no recording")
        if any(part.audio is None for part in parts):
            raise Unfit("an audio part has only tokens")
        known = row.meta.get(self.name, {})
        for i, part in enumerate(parts):
            data, suffix = clips.data(part, row)
            info = audio_info(data)
            if info.num_samples is None:
                raise Unfit("a recording of unknown length")
            name = row.id if is_inside(f"{row.id}.flac") else safe_name(row.id)
            name = name if len(parts) == 1 else f"{name}-{i}"
            whole = replace(part, start_s=0.0, end_s=None)
            source = {"type": "shar", "channels": list(range(info.num_channels)), "source": ""}
            extra = known if len(parts) == 1 else {}
            yield cut_entry(name, [whole], source, info.num_samples, info.sample_rate, extra), data, suffix

    def save(self, entries: Iterator[Any], stage: Stage, options: Options) -> None:
        stage.main.mkdir()
        used: set[str] = set()
        for number in itertools.count():
            shard = list(itertools.islice(entries, 1))
            if not shard:
                break
            block = itertools.chain(shard, itertools.islice(entries, options.shard_rows - 1))
            _write_shard(stage.main, number, block, used)

    def lost(self, row: Conversation, options: Options) -> set[str]:
        return super().lost(row, options) | clips_only(row)


def _write_shard(folder: Path, number: int, entries: Iterable[Any], used: set[str]) -> None:
    cuts = folder / f"cuts.{number:06d}.jsonl.gz"
    with (
        cuts.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as lines,
        ArchiveWriter(folder / f"recording.{number:06d}.tar") as tar,
    ):
        for cut, data, suffix in entries:
            if cut["id"] in used:
                raise DataError(f"two cuts are called {cut['id']!r}; Shar needs every id once.")
            used.add(cut["id"])
            lines.write(f"{json.dumps(cut, ensure_ascii=False)}\n".encode())
            tar.add(f"{cut['id']}{suffix}", data)
            tar.add(f"{cut['id']}.json", f"{json.dumps(cut['recording'], ensure_ascii=False)}\n".encode())


def _shard_items(cuts: Path, archive: Path, encoding: str) -> Iterator[Item | BadItem]:
    """Cuts with their recordings inside, pair by pair."""
    files = members(archive)
    damage = ""
    for item in json_items(cuts, encoding):
        pair: list[Member] = []
        while len(pair) < 2 and not damage:
            member = next(files, None)
            if isinstance(member, Member):
                pair.append(member)
            else:
                damage = (
                    member.reason if isinstance(member, Damage) else f"{archive.name} has no more members"
                )
        if isinstance(item, BadItem):
            yield item
        elif damage:
            yield BadItem(item.number, item.place, "cut off", damage)
        else:
            yield _filled(item, pair, archive)


def _filled(item: Item, pair: list[Member], archive: Path) -> Item | BadItem:
    cut, (sound, manifest) = item.value, pair
    path = PurePosixPath(sound.name)
    name = str(path.with_suffix(""))
    if not isinstance(cut, Mapping) or str(cut.get("id")) != name:
        reason = f"{archive.name} has {name!r} where the cut is {_name(cut)!r}"
        return BadItem(item.number, item.place, "out of step", reason)
    if path.suffix in _EMPTY:
        return BadItem(item.number, item.place, "no sound", f"cut {name!r} has no recording")
    try:
        recording = json.loads(manifest.data.decode("utf-8"))
    except ValueError as error:
        return BadItem(item.number, item.place, "json", f"the manifest of {name!r} is broken JSON: {error}")
    source = {"type": "memory", "source": sound.data, "path": path.name}
    channels = [s.get("channels") for s in recording.get("sources") or () if isinstance(s, Mapping)]
    recording = dict(recording) | {"sources": [source | {"channels": channels[0] if channels else [0]}]}
    return item._replace(value=dict(cut) | {"recording": recording})


def _name(cut: Any) -> str:
    return str(cut.get("id")) if isinstance(cut, Mapping) else str(cut)[:40]
