"""Columns of codec codes with their text and description, as the data sets around SNAC have them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from vivavoce.data.conversation import Conversation
from vivavoce.data.convert.codes import (
    codec_spec,
    codes_of,
    lost_of_tokens,
    normal_tokens,
    tokens_of,
    true_samples,
)
from vivavoce.data.convert.contract import Format, Options, RowError, Unfit
from vivavoce.data.convert.json_rows import BadItem, Item
from vivavoce.data.convert.look import look
from vivavoce.data.convert.orpheus import column_names, lost_beside_speech, spoken
from vivavoce.data.convert.outputs import Clips, Stage
from vivavoce.data.convert.tables import table_items, write_table
from vivavoce.data.convert.texts import object_of, optional_text, rest, text_of

_TEXTS = ("text", "transcript", "transcription", "sentence")
_DESCRIPTIONS = ("description", "text_description", "desc", "caption")
_LENGTHS = ("playtime_sec", "duration", "audio_duration")
_USUAL = "snac_24khz"
_SPACED = "hash_list"
_CODES = re.compile(
    r"""\s*(#\s*\d|\[\s*"\#"|\[\s*(4097|50258|"4097"|128\d{3})\b|\[\s*\[\s*\d|<custom_token_)"""
)
_FIRST = {4097, 50_258, *range(128_256, 128_266 + 4096)}


class SnacColumnsFormat(Format):
    """A text, perhaps a description, and codes in any form that `tokens.readers` knows.

    Codes become tokens of the layout "orpheus". The true length is read from ``playtime_sec``; without it, frames
    count whole. Words for ``columns``: "text", "description", "codes", "length"; ``form`` names the form of the
    codes, ``codec`` their codec. Variants for writing: the separated forms.
    """

    name: ClassVar[str] = "snac_columns"
    description: ClassVar[str] = "text, description and a column of SNAC codes ('#' lists, 4097, 50258, ...)"
    suffixes: ClassVar[tuple[str, ...]] = (".parquet", ".jsonl", ".json", ".jsonl.gz", ".csv", ".tsv")
    holds: ClassVar[frozenset[str]] = frozenset({"id", "reply transcripts", "tokens", "speaker"})
    tasks: ClassVar[tuple[str, ...]] = ("tts", "describe_tts")
    variants: ClassVar[tuple[str, ...]] = ("hash_list", "separator_4097", "separator_50258")
    settings: ClassVar[frozenset[str]] = frozenset({"columns", "to_columns", "codec", "codec_hash", "form"})

    def detect(self, path: Path) -> float:
        seen = look(path)
        return 0.97 if seen.rows and find_codes(seen.rows[0]) else 0.0

    def items(self, path: Path, options: Options) -> Iterator[Item | BadItem]:
        return table_items(path, options.encoding)

    def conversations(self, item: Item, options: Options) -> Iterable[Conversation]:
        from vivavoce.tokens.readers import read_codes

        row, spec = object_of(item.value), codec_spec(options.codec or _USUAL)
        key = options.columns.get("codes") or find_codes(row)
        if not key or row.get(key) is None:
            raise RowError(
                "no sound", f"no column of codes among {', '.join(map(str, row))}; name it by columns."
            )
        reading = read_codes(row[key], spec, form=options.form)
        whole = reading.codes.num_samples[0]
        length_key = options.columns.get("length") or next(
            (n for n in _LENGTHS if row.get(n) is not None), ""
        )
        samples = true_samples(row.get(length_key), whole, spec)
        tokens = tokens_of(reading.codes, spec, samples, options.codec_hash)
        text_keys = _names(options, "text", _TEXTS)
        about = _names(options, "description", _DESCRIPTIONS)
        description = optional_text(row, *about)
        part = {"tokens": tokens, "speaker": optional_text(row, "speaker", "speaker_id")}
        part |= {"labels": {"description": description}} if description is not None else {}
        named = {n for n in (*text_keys, *about) if row.get(n) is not None}
        columns = rest(row, "id", key, length_key, "speaker", "speaker_id", *named)
        task = "describe_tts" if description is not None else "tts"
        yield spoken(item, text_of(row, *text_keys), part, self.name, columns, task)

    def save(self, entries: Iterator[Any], stage: Stage, options: Options) -> None:
        names = column_names(options.to_columns, "text", "description", "codes", "playtime_sec", "speaker")
        kinds = {"id": "string"} | dict.fromkeys(names.values(), "string")
        kinds |= {names["playtime_sec"]: "float"}
        kinds |= {names["codes"]: "string" if (options.variant or _SPACED) == _SPACED else "ints"}
        write_table(stage.main, entries, kinds)

    def entries(
        self, row: Conversation, number: int, clips: Clips, options: Options
    ) -> Iterable[dict[str, Any]]:
        from vivavoce.tokens.readers import to_separated

        names = column_names(options.to_columns, "text", "description", "codes", "playtime_sec", "speaker")
        parts = [part for part in row.audio_parts() if part.tokens and part.transcript]
        if not parts:
            raise Unfit("no tokens with a transcript")
        form = options.variant or self.variants[0]
        for i, part in enumerate(parts):
            codes, spec = codes_of(part, clips.root, options.codec or _USUAL)
            listed = to_separated(codes, spec, form)
            place = row.id if len(parts) == 1 else f"{row.id}-{i}"
            entry: dict[str, Any] = {} if place == str(number + i) else {"id": place}
            entry |= {
                names["text"]: part.transcript,
                names["codes"]: json.dumps(listed) if form == _SPACED else listed,
                names["playtime_sec"]: codes.num_samples[0] / spec.sample_rate,
            }
            about = {"description": part.labels.get("description"), "speaker": part.speaker}
            entry |= {names[word]: value for word, value in about.items() if value is not None}
            yield entry | dict(row.meta.get(self.name, {}))

    def task_of(self, row: Conversation, options: Options) -> str:
        described = any("description" in part.labels for part in row.audio_parts())
        return "describe_tts" if described else "tts"

    def lost(self, row: Conversation, options: Options) -> set[str]:
        found = lost_beside_speech(row, super().lost(row, options))
        found |= lost_of_tokens(row, options.codec_hash, whole=False)
        if any(part.audio is not None for part in row.audio_parts()):
            found = found | {"recordings"}
        return found - {"labels"} if _only_described(row) else found

    def survivor(self, row: Conversation, options: Options | None = None) -> Conversation:
        made = super().survivor(row, options)
        for part, given in zip(made.audio_parts(), row.audio_parts(), strict=True):
            part.audio = None
            part.labels = {k: v for k, v in given.labels.items() if k == "description"}
        normal_tokens(made, "orpheus", (options or Options()).codec_hash, whole=False)
        return made


def _only_described(row: Conversation) -> bool:
    return all(set(part.labels) <= {"description"} for part in row.audio_parts())


def _names(options: Options, word: str, usual: tuple[str, ...]) -> tuple[str, ...]:
    return (options.columns[word],) if word in options.columns else usual


def find_codes(row: Mapping[str, Any]) -> str:
    """The column whose value looks like a list of codes, "" for none; texts may look like that too."""
    found = [str(name) for name, value in row.items() if _looks_like_codes(value)]
    return next((name for name in found if name not in (*_TEXTS, *_DESCRIPTIONS)), "")


def _looks_like_codes(value: Any) -> bool:
    if isinstance(value, str):
        return bool(_CODES.match(value))
    first = value[0] if isinstance(value, list) and value else None
    if first in ("#", "4097", "50258") or (isinstance(first, int) and first in _FIRST):
        return True
    return isinstance(first, list) and bool(first) and isinstance(first[0], int)
