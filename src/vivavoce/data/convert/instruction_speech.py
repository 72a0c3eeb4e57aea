"""Jan-Llama3's instruction-speech rows: a prompt as text and as sound tokens, and its answer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from vivavoce.data.conversation import Audio, Conversation, Message
from vivavoce.data.convert.chat_messages import conversation, id_entry
from vivavoce.data.convert.codes import codec_spec, codes_of, lost_of_tokens, normal_tokens, tokens_of
from vivavoce.data.convert.contract import Format, Options, RowError, Unfit
from vivavoce.data.convert.json_rows import BadItem, Item
from vivavoce.data.convert.look import look
from vivavoce.data.convert.outputs import Clips, Stage, is_json
from vivavoce.data.convert.sounds import as_recording
from vivavoce.data.convert.tables import table_items, write_table
from vivavoce.data.convert.texts import object_of, optional_text, rest, text_of
from vivavoce.data.convert.ultravox import recording
from vivavoce.tokens.naming import STYLES

if TYPE_CHECKING:
    from vivavoce.codecs.contract import CodecSpec, Codes

_SPAN = re.compile(r"<\|sound_start\|>((?:<\|sound_\d+\|>)*)<\|sound_end\|>")
_CODE = re.compile(r"<\|sound_(\d+)\|>")
_ANY = re.compile(r"<\|(?:sound|duration)_\w+\|>")
_CONVOS = ("sound_convo", "conversations")
_LAYOUT, _ENCODEC, _WHISPER = "interleaved", "encodec_24khz", "whispervq"


class InstructionSpeechFormat(Format):
    """Two shapes of rows.

    Variants: "convo" (``sound_convo`` with sound tokens as text, ``text_convo`` with the same words) and
    "columns" (``prompt``, ``answer``, ``length`` and ``tokens`` or ``audio``). ``codec`` names the codec of the
    tokens: EnCodec's two codebooks by default, WhisperVQ for rows with ``text_prompt``. ``form`` spells sound
    tokens when writing: "sound" (``<|sound_7|>``) or "sound_padded" (``<|sound_0007|>``); what was read is
    written again as it was.
    """

    name: ClassVar[str] = "instruction_speech"
    description: ClassVar[str] = (
        "Jan-Llama3 rows: sound_convo and text_convo, or prompt, answer, audio, tokens"
    )
    suffixes: ClassVar[tuple[str, ...]] = (".parquet", ".jsonl", ".json", ".jsonl.gz")
    holds: ClassVar[frozenset[str]] = frozenset(
        {"id", "roles", "typed text", "part order", "user transcripts", "reply transcripts", "tokens"}
    )
    variants: ClassVar[tuple[str, ...]] = ("convo", "columns")
    settings: ClassVar[frozenset[str]] = frozenset({"codec", "codec_hash", "form", "audio"})

    def detect(self, path: Path) -> float:
        seen = look(path)
        if "sound_convo" in seen.columns:
            return 0.95
        answered = {"prompt", "answer"} <= seen.columns and seen.columns & {"audio", "tokens"}
        texts = [str(m.get("content")) for m in seen.messages("conversations")]
        return 0.95 if answered or any(map(_SPAN.search, texts)) else 0.0

    def items(self, path: Path, options: Options) -> Iterator[Item | BadItem]:
        return table_items(path, options.encoding)

    def conversations(self, item: Item, options: Options) -> Iterable[Conversation]:
        row = object_of(item.value)
        spec = codec_spec(options.codec or (_WHISPER if "text_prompt" in row else _ENCODEC))
        key = next((k for k in _CONVOS if isinstance(row.get(k), list)), "")
        if key:
            messages, spelled = _read_convo(row[key], row.get("text_convo"), spec, options)
            prompt = optional_text(row, "text_prompt") if key == "conversations" else None
            if prompt is not None and messages and isinstance(messages[0]["content"], list):
                messages[0]["content"][0].setdefault("transcript", prompt)
            columns = rest(row, "id", key, "text_convo")
            if key != _CONVOS[0]:
                columns["convo"] = key
        else:
            messages, spelled = _read_columns(row, spec, options), ""
            columns = rest(row, "id", "prompt", "answer", "length", "tokens", "audio", "text_prompt")
        if spelled and spelled != _usual_spelling(spec):
            columns["spelling"] = spelled
        yield conversation(item, messages, self.name, columns)

    def audio_mode(self, path: Path, options: Options) -> str:
        return options.audio or ("keep" if is_json(path) else "embed")

    def held(self, options: Options) -> frozenset[str]:
        return (
            self.holds if options.variant != "columns" else self.holds - {"reply transcripts", "part order"}
        )

    def save(self, entries: Iterator[Any], stage: Stage, options: Options) -> None:
        columns = {"id": "string"}
        if (options.variant or self.variants[0]) == "columns":
            columns |= {
                "prompt": "string",
                "answer": "string",
                "length": "int",
                "tokens": "ints",
                "audio": "audio",
            }
        write_table(stage.main, entries, columns)

    def entries(
        self, row: Conversation, number: int, clips: Clips, options: Options
    ) -> Iterable[dict[str, Any]]:
        known = dict(row.meta.get(self.name, {}))
        spelling = options.form if options.form in STYLES else known.pop("spelling", "")
        known.pop("spelling", None)
        codec = options.codec or (_WHISPER if "text_prompt" in known else _ENCODEC)
        entry: dict[str, Any] = id_entry(row, number)
        if (options.variant or self.variants[0]) == "columns":
            yield entry | _write_columns(row, clips, codec) | known
            return
        key = known.pop("convo", _CONVOS[0])
        sound = [{"role": m.role, "content": _sound_text(m, clips, codec, spelling)} for m in row.messages]
        entry[key] = sound
        if key == _CONVOS[0]:
            entry["text_convo"] = [{"role": m.role, "content": _plain_text(m)} for m in row.messages]
        yield entry | known

    def survivor(self, row: Conversation, options: Options | None = None) -> Conversation:
        made = super().survivor(row, options)
        for part in made.audio_parts():
            part.audio = None if part.tokens else part.audio
        normal_tokens(made, _LAYOUT, (options or Options()).codec_hash, whole=True)
        return made

    def lost(self, row: Conversation, options: Options) -> set[str]:
        both = any(part.tokens and part.audio is not None for part in row.audio_parts())
        found = super().lost(row, options) | lost_of_tokens(row, options.codec_hash, whole=True)
        return found | ({"recordings"} if both else set())


def _usual_spelling(spec: CodecSpec) -> str:
    return "sound" if spec.name == _ENCODEC else "sound_padded"


def _read_convo(
    given: Sequence[Any], texts: Any, spec: CodecSpec, options: Options
) -> tuple[list[dict[str, Any]], str]:
    """Messages with sound tokens in their text, and how these are spelled."""
    spelled = ""
    messages = []
    plain = texts if isinstance(texts, list) and len(texts) == len(given) else [None] * len(given)
    for i, (message, twin) in enumerate(zip(map(object_of, given), plain, strict=True)):
        content = text_of(message, "content")
        parts, found = _read_text(content, spec, options)
        spelled = spelled or found
        sounds = [part for part in parts if part["type"] == "audio"]
        if sounds and isinstance(twin, Mapping) and twin.get("content") is not None:
            typed_text = "".join(p["text"] for p in parts if p["type"] == "text")
            said = str(twin["content"])
            if len(sounds) > 1 or not _around(parts, said):
                raise RowError("malformed", f"message {i} of text_convo does not fit the one with sounds.")
            before = len(parts[0].get("text", "")) if parts[0]["type"] == "text" else 0
            after = len(typed_text) - before
            sounds[0]["transcript"] = said[before : len(said) - after]
        messages.append({"role": message.get("role"), "content": parts})
    return messages, spelled


def _around(parts: Sequence[Mapping[str, Any]], said: str) -> bool:
    """Whether the typed words of a message stand around what is said in its twin."""
    first = parts[0].get("text", "") if parts[0]["type"] == "text" else ""
    last = parts[-1].get("text", "") if parts[-1]["type"] == "text" else ""
    return said.startswith(first) and said.endswith(last) and len(said) >= len(first) + len(last)


def _read_text(content: str, spec: CodecSpec, options: Options) -> tuple[list[dict[str, Any]], str]:
    from vivavoce.tokens.layouts import build_layout

    parts: list[dict[str, Any]] = []
    at, spelled = 0, ""
    for span in _SPAN.finditer(content):
        if content[at : span.start()]:
            parts.append({"type": "text", "text": content[at : span.start()]})
        digits = _CODE.findall(span[1])
        spelled = spelled or ("sound_padded" if any(len(d) == 4 and d[0] == "0" for d in digits) else "")
        codes = build_layout(_LAYOUT, spec).unflatten([int(d) for d in digits], spec.frame_samples)
        if not digits:
            raise RowError("no sound", "a span of sound tokens is empty.")
        tokens = tokens_of(codes, spec, codes.num_samples[0], options.codec_hash, _LAYOUT)
        parts.append({"type": "audio", "tokens": tokens})
        spelled = spelled or "sound"
        at = span.end()
    if content[at:]:
        parts.append({"type": "text", "text": content[at:]})
    odd = next((m[0] for p in parts if p["type"] == "text" and (m := _ANY.search(p["text"]))), "")
    if odd:
        raise RowError(
            "sound tokens", f"{odd} stands outside a whole span of sound tokens, or is a run length."
        )
    return parts, spelled


def _read_columns(row: Mapping[str, Any], spec: CodecSpec, options: Options) -> list[dict[str, Any]]:
    part: dict[str, Any] = {"type": "audio", "audio": as_recording(row.get("audio"))}
    part["transcript"] = text_of(row, "text_prompt", "prompt")
    if row.get("tokens") is not None:
        found = row["tokens"]
        nested = isinstance(found, list) and bool(found) and isinstance(found[0], list)
        if nested and len(found) == 1 and isinstance(found[0][0], list):
            found = found[0]
        from vivavoce.tokens.readers import read_codes

        form = "levels" if nested and spec.num_levels > 1 else "flat"
        codes = read_codes(found, spec, form=form).codes
        part["tokens"] = tokens_of(codes, spec, codes.num_samples[0], options.codec_hash, _LAYOUT)
    elif part["audio"] is None:
        raise RowError("no sound", "neither audio nor tokens in the row.")
    return [
        {"role": "user", "content": [part]},
        {"role": "assistant", "content": text_of(row, "answer")},
    ]


def _write_columns(row: Conversation, clips: Clips, codec: str) -> dict[str, Any]:
    if [m.role for m in row.messages] != ["user", "assistant"] or row.messages[1].audios:
        raise Unfit("not one spoken question and one typed answer")
    asked = row.messages[0].parts
    if len(asked) != 1 or not isinstance(asked[0], Audio) or asked[0].transcript is None:
        raise Unfit("not one recording with a transcript as the question")
    prompt = asked[0].transcript
    made: dict[str, Any] = {"prompt": prompt, "answer": row.messages[1].text, "length": len(prompt)}
    if asked[0].tokens:
        made["tokens"] = _ids(*codes_of(asked[0], clips.root, codec))
    else:
        made["audio"] = recording(asked[0], row, clips)
    return made


def _ids(codes: Codes, spec: CodecSpec) -> list[int]:
    from vivavoce.tokens.layouts import build_layout

    return build_layout(_LAYOUT, spec).flatten(codes)


def _sound_text(message: Message, clips: Clips, codec: str, spelling: str) -> str:
    pieces = []
    for part in message.parts:
        if isinstance(part, Audio):
            if not part.tokens:
                raise Unfit("a recording without tokens; tokenize it first")
            codes, spec = codes_of(part, clips.root, codec)
            style = STYLES[spelling or _usual_spelling(spec)]
            names = [style.numbered(number) for number in _ids(codes, spec)]
            pieces.append("".join([style.start, *names, style.end]))
        elif _ANY.search(part.text):
            raise Unfit("a text has sound tokens in it")
        else:
            pieces.append(part.text)
    return "".join(pieces)


def _plain_text(message: Message) -> str:
    if len(message.audios) > 1:
        raise Unfit("several recordings in a turn")
    if any(part.transcript is None for part in message.audios):
        raise Unfit("a recording without a transcript")
    return message.words
