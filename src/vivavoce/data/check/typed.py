"""Checks of typed text: placeholders and sound tokens that were meant as audio, and text that is broken."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from vivavoce.data.check.findings import Finding, short
from vivavoce.data.conversation import Conversation, Message, Text
from vivavoce.tokens.naming import STYLES

# what published models and tools write where audio goes
PLACEHOLDER = re.compile(r"<\|?/?(?:audio(?:_(?:\d+|bos|eos|pad))?|speech(?:here)?|sound)\|?>", re.IGNORECASE)
_HTML = re.compile(r"<audio>.*?</audio>", re.IGNORECASE | re.DOTALL)
_SOUND = "|".join(
    dict.fromkeys(
        name
        for style in STYLES.values()
        for name in (
            *map(re.escape, filter(None, (style.start, style.end))),
            f"{re.escape(style.prefix)}[0-9]+{re.escape(style.suffix)}",
        )
    )
)
SOUND_TOKEN = re.compile(_SOUND)
_RUN = re.compile(rf"(?:{_SOUND})+")
LEAST_WORDS = 3


def check_typed(conversation: Conversation, tokenizer: Any = None) -> Iterator[Finding]:
    """Check the text that is typed in a row.

    Args:
        conversation: The row.
        tokenizer: Hugging Face tokenizer of the model; with it, special tokens are found, and sound tokens that it
            does not keep whole.
    """
    special = set(getattr(tokenizer, "all_special_tokens", ()) or ())
    clips = sum(1 for _ in conversation.audio_parts())
    for i, message in enumerate(conversation.messages):
        for j, part in enumerate(message.parts):
            if not isinstance(part, Text):
                continue
            where = f"message {i}, part {j}"
            yield from _placeholders(part.text, where, clips)
            yield from _sound_tokens(part.text, where, tokenizer)
            yield from _broken(part.text, where)
            yield from _special(part.text, where, special)
        if message.role != "assistant":
            yield from _told(message, f"message {i}")
    used = {part.audio for part in conversation.audio_parts() if isinstance(part.audio, int)}
    for n in sorted(set(range(len(conversation.audios))) - used):
        seen = f"{clips} audio parts, none names recording {n} of {len(conversation.audios)}"
        yield Finding("unused_recording", seen, "every recording in its place")


def normal_words(text: str) -> str:
    """Letters and digits of a text, lower case, with single spaces: equal for texts that sound equal."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(c if unicodedata.category(c)[0] in "LNM" else " " for c in plain).split())


def _placeholders(text: str, where: str, clips: int) -> Iterator[Finding]:
    found = PLACEHOLDER.findall(_HTML.sub("", text))
    if found:
        names = ", ".join(dict.fromkeys(found))
        seen = f"{len(found)} times {names} typed in a row with {clips} audio parts"
        yield Finding("placeholder_in_text", seen, "an audio part in each place, nothing typed", where)


def _sound_tokens(text: str, where: str, tokenizer: Any) -> Iterator[Finding]:
    for run in _RUN.findall(text):
        names = len(SOUND_TOKEN.findall(run))
        yield Finding(
            "sound_tokens_in_text", f"{names} sound tokens, {short(run, 40)}", "codes in an audio part", where
        )
        if tokenizer is None:
            continue
        ids = tokenizer(run, add_special_tokens=False)["input_ids"]
        if len(ids) != names:
            bad = _first_split(run, tokenizer)
            seen = f"{names} sound tokens become {len(ids)} tokens; {bad!r} falls into pieces"
            yield Finding("sound_tokens_split", seen, f"{names} tokens", where)


def _first_split(run: str, tokenizer: Any) -> str:
    """The first sound token that is more than one token."""
    for name in SOUND_TOKEN.findall(run):
        if len(tokenizer(name, add_special_tokens=False)["input_ids"]) != 1:
            return str(name)
    return short(run, 40)


def _broken(text: str, where: str) -> Iterator[Finding]:
    bad = next(
        (c for c in text if c == "\ufffd" or (unicodedata.category(c) == "Cc" and c not in "\n\t\r")), None
    )
    if bad is not None:
        at = text.index(bad)
        seen = f"character U+{ord(bad):04X} in {short(ascii(text[max(0, at - 10) : at + 10]), 40)}"
        yield Finding("broken_text", seen, "readable text", where)


def _special(text: str, where: str, special: set[str]) -> Iterator[Finding]:
    found = sorted(token for token in special if token in text and not PLACEHOLDER.fullmatch(token))
    found = [token for token in found if not SOUND_TOKEN.fullmatch(token)]
    if found:
        seen = f"special tokens of the tokenizer: {', '.join(map(repr, found))}"
        yield Finding("special_token_in_text", seen, "plain text", where)


def _told(message: Message, where: str) -> Iterator[Finding]:
    typed = f" {normal_words(message.text)} "
    for part in message.audios:
        said = normal_words(part.transcript or "")
        long = len(said.split()) >= LEAST_WORDS or sum(not c.isascii() for c in said) >= 2 * LEAST_WORDS
        if long and (f" {said} " in typed or (not said.isascii() and said in typed)):
            seen = f"the transcript {short(part.transcript or '', 40)!r} typed beside the clip"
            yield Finding("transcript_beside_audio", seen, "the words in the clip only", where)
