"""Described speech: a text, a sentence about the voice, and the measurements that the sentence was made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from vivavoce.data.build.descriptions.scales import MEASURED
from vivavoce.data.conversation import Conversation
from vivavoce.data.convert.chat_messages import conversation, id_entry
from vivavoce.data.convert.contract import Format, Options, Unfit
from vivavoce.data.convert.json_rows import BadItem, Item
from vivavoce.data.convert.look import look
from vivavoce.data.convert.orpheus import column_names, lost_beside_speech, spoken
from vivavoce.data.convert.outputs import Clips, Stage, is_json
from vivavoce.data.convert.snac_columns import find_codes
from vivavoce.data.convert.sounds import as_recording
from vivavoce.data.convert.tables import table_items, write_table
from vivavoce.data.convert.texts import object_of, optional_text, rest, seconds_of, text_of
from vivavoce.data.convert.ultravox import recording

DESCRIBED = "describe_tts"
PARLER_LABELS = (
    "utterance_pitch_mean", "utterance_pitch_std", "snr", "c50", "speaking_rate", "phonemes", "gender", "pitch",
    "noise", "reverberation", "speech_monotony", "stoi", "si-sdr", "pesq", "sdr_noise", "pesq_speech_quality",
)  # fmt: skip
LABELS = tuple(dict.fromkeys((*PARLER_LABELS, *MEASURED)))  # theirs, and what `describe` measures beside them
_TEXTS = ("text", "transcript", "original_text")


class ParlerFormat(Format):
    """Rows of Parler-TTS and dataspeech: ``text``, ``audio``, ``text_description`` and measured columns.

    The description and the measurements are labels of the recording. Rows without sound, as published sets have
    them, are read as a typed text with the labels in ``meta``. Words for ``columns``: "text", "audio",
    "description", "speaker", "start", "end" (seconds).
    """

    name: ClassVar[str] = "parler"
    description: ClassVar[str] = "Parler-TTS and dataspeech rows: text, audio, text_description, measurements"
    suffixes: ClassVar[tuple[str, ...]] = (".parquet", ".jsonl", ".json", ".jsonl.gz")
    holds: ClassVar[frozenset[str]] = frozenset({"id", "reply transcripts", "speaker", "labels"})
    tasks: ClassVar[tuple[str, ...]] = (DESCRIBED,)
    settings: ClassVar[frozenset[str]] = frozenset({"columns", "to_columns", "audio"})

    def detect(self, path: Path) -> float:
        seen = look(path)
        if "text_description" not in seen.columns or not seen.columns & set(_TEXTS):
            return 0.0
        return 0.5 if seen.rows and find_codes(seen.rows[0]) else 0.95

    def items(self, path: Path, options: Options) -> Iterator[Item | BadItem]:
        return table_items(path, options.encoding)

    def conversations(self, item: Item, options: Options) -> Iterable[Conversation]:
        row, names = object_of(item.value), _columns(options.columns)
        text_keys = (names["text"],) if "text" in options.columns else _TEXTS
        text = text_of(row, *text_keys)
        labels = {k: row[k] for k in LABELS if row.get(k) is not None}
        description = optional_text(row, names["description"])
        labels |= {"description": description} if description is not None else {}
        used = next(k for k in text_keys if row.get(k) is not None)
        speaker = optional_text(row, names["speaker"])
        columns = rest(row, "id", used, *names.values(), *LABELS)
        audio = as_recording(row.get(names["audio"]))
        if audio is None:
            columns |= {k: v for k, v in (("labels", labels), ("speaker", speaker)) if v}
            messages = [{"role": "user", "content": text}]
            yield conversation(item, messages, self.name, columns, task=DESCRIBED)
            return
        part = {"audio": audio, "labels": labels, "speaker": speaker}
        if names["start"] in row and names["end"] in row:
            part |= {"start": seconds_of(row, names["start"]) or 0.0, "end": seconds_of(row, names["end"])}
        yield spoken(item, text, part, self.name, columns, DESCRIBED)

    def audio_mode(self, path: Path, options: Options) -> str:
        return options.audio or ("keep" if is_json(path) else "embed")

    def save(self, entries: Iterator[Any], stage: Stage, options: Options) -> None:
        names = _columns(options.to_columns)
        kinds = {"id": "string"} | {names[n]: "string" for n in ("text", "description", "speaker")}
        write_table(stage.main, entries, kinds | {names["audio"]: "audio"})

    def entries(
        self, row: Conversation, number: int, clips: Clips, options: Options
    ) -> Iterable[dict[str, Any]]:
        names = _columns(options.to_columns)
        parts = list(row.audio_parts())
        known = dict(row.meta.get(self.name, {}))
        labels, speaker = dict(known.pop("labels", {})), known.pop("speaker", None)
        if len(parts) > 1:
            raise Unfit("several recordings in a row")
        if parts:
            text, labels, speaker = parts[0].transcript, dict(parts[0].labels), parts[0].speaker
        else:
            text = row.messages[0].text if [m.role for m in row.messages] == ["user"] else None
        if not text:
            raise Unfit("no transcript")
        if any(isinstance(value, dict | list) for value in labels.values()):
            raise Unfit("labels inside labels, which have no column")
        entry: dict[str, Any] = id_entry(row, number) | {names["text"]: text}
        entry |= {names["audio"]: recording(parts[0], row, clips)} if parts else {}
        description = labels.pop("description", None)
        entry |= {names["description"]: description} if description is not None else {}
        entry |= {names["speaker"]: speaker} if speaker is not None else {}
        yield entry | labels | known

    def lost(self, row: Conversation, options: Options) -> set[str]:
        if not any(row.audio_parts()):
            return super().lost(row, options) - {"typed text"}
        odd = any(set(part.labels) - {*LABELS, "description"} for part in row.audio_parts())
        return lost_beside_speech(row, super().lost(row, options)) | ({"labels"} if odd else set())

    def survivor(self, row: Conversation, options: Options | None = None) -> Conversation:
        made = super().survivor(row, options)
        for part in made.audio_parts():
            part.labels = {k: v for k, v in part.labels.items() if k in (*LABELS, "description")}
        return made


def _columns(given: Any) -> dict[str, str]:
    usual = {"description": "text_description", "speaker": "speaker_id"}
    names = column_names(given, "text", "audio", "description", "speaker", "start", "end")
    return {word: given.get(word, usual.get(word, name)) for word, name in names.items()}
