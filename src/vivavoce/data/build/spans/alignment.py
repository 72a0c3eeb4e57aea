"""When the words of a recording are said: from what is known, in the order of trust that a pipeline asks for.

| source | where times come from |
|---|---|
| `given` | ``words`` of the audio part, which must spell its transcript |
| `synthesizer` | espeak-ng or flite speaks the text again and tells; the recording must last as long |
| `aligner` | a recogniser trained with CTC, which is forced to spell the transcript |
| `uniform` | a guess: sounds of equal length from where the recording gets loud to where it gets quiet |
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from difflib import SequenceMatcher
from typing import Any

import numpy as np

from vivavoce.audio.forced_alignment import align_words, speech_ends
from vivavoce.audio.timed_speech import time_speech
from vivavoce.base.errors import AudioError, ConfigError, MissingExtraError, VocabularyError
from vivavoce.data.build.contract import Context
from vivavoce.data.build.spans.letter_recogniser import LetterRecogniser
from vivavoce.data.build.spans.word_units import Timed, Unit, from_words, pieces, units_of
from vivavoce.data.build.speech.languages import primary
from vivavoce.data.conversation import Audio
from vivavoce.tokens.phones import spoken_words, words_to_phones

SOURCES = ("given", "synthesizer", "aligner", "uniform")
# of the guess, in sounds; fitted to espeak-ng and flite
BREAKS = dict.fromkeys(",\uff0c\u3001", 2.0) | dict.fromkeys(".!?\u3002\uff01\uff1f", 4.0)
LAST = 2.0  # by which the word before a break is longer
LENGTH_S = 0.002  # how far a recording may be from what the synthesizer says now, and be the same


class Aligner:
    """Finds word times.

    Args:
        order: Sources to try, best first.
        model: Of the source "aligner": ``transformers:FOLDER_OR_HUB_ID[@REVISION]`` or ``service:NAME``.
        context: For the service and the device.

    Raises:
        ConfigError: No such source, or "aligner" without a model.
        ModelError: The model cannot be loaded.
    """

    def __init__(self, order: Sequence[str], model: str | None, context: Context) -> None:
        check_order(order, model)
        self.order = tuple(order)
        self._recogniser: Any = _recogniser(model or "", context) if "aligner" in order else None

    def align(
        self, part: Audio, waveform: np.ndarray | None, sample_rate: int
    ) -> tuple[str, list[Unit]] | None:
        """Cut a part's transcript into timed units.

        Args:
            part: With a transcript.
            waveform: What counts of its recording, float32 [S]; None if there are only codes.
            sample_rate: Hz; without a waveform of anything.

        Returns:
            The source that knew, and its units; None if none did.
        """
        for source in self.order:
            timed = getattr(self, f"_{source}")(part, waveform, sample_rate)
            units = units_of(part.transcript or "", timed) if timed else None
            if units is not None:
                return source, units
        return None

    def _given(self, part: Audio, waveform: np.ndarray | None, sample_rate: int) -> list[Timed] | None:
        return from_words(part.transcript or "", part.words) if part.words else None

    def _synthesizer(self, part: Audio, waveform: np.ndarray | None, sample_rate: int) -> list[Timed] | None:
        engine = (part.speaker or "").partition(":")[0]
        if waveform is None or engine not in ("espeak", "flite") or "spoken" in part.labels:
            return None
        text = (part.transcript or "").strip()
        speed, pitch = part.labels.get("speed", 1.0), part.labels.get("pitch", 1.0)
        try:
            said = time_speech(text, part.speaker or "", speed=speed, pitch=pitch)
        except (AudioError, MissingExtraError):
            return None
        if abs(said.duration_s - len(waveform) / sample_rate) > LENGTH_S:
            return None
        before = len(part.transcript or "") - len((part.transcript or "").lstrip())
        if said.words:
            ends = [first for first, _, _ in said.words[1:]]
            timed = [Timed(f, e, a, b) for (f, a, b), e in zip(said.words, [*ends, len(text)], strict=True)]
        else:
            timed = _by_sounds(text, said.sounds)
        return [Timed(t.first + before, t.end + before, t.start_s, t.end_s) for t in timed]

    def _aligner(self, part: Audio, waveform: np.ndarray | None, sample_rate: int) -> list[Timed] | None:
        if waveform is None:
            return None
        transcript = part.transcript or ""
        ranges = pieces(transcript)
        words = [transcript[a:b].strip() for a, b in ranges]
        found = align_words(self._recogniser, waveform, sample_rate, words)
        if found is None:
            return None
        return [Timed(a, b, *span) for (a, b), span in zip(ranges, found, strict=True) if span is not None]

    def _uniform(self, part: Audio, waveform: np.ndarray | None, sample_rate: int) -> list[Timed] | None:
        if waveform is None:
            return None
        return guess(part.transcript or "", part.language, *speech_ends(waveform, sample_rate))


def _recogniser(model: str, context: Context) -> Any:
    kind, _, name = model.partition(":")
    return (
        LetterRecogniser(name, context.device) if kind == "transformers" else context.service("aligner", name)
    )


def check_order(order: Sequence[str], model: str | None) -> None:
    """Refuse an order that cannot work.

    Raises:
        ConfigError: Says what is wrong.
    """
    wrong = [name for name in order if name not in SOURCES]
    if wrong or not order:
        raise ConfigError(
            f"align has {wrong[0]!r}, wanted some of {', '.join(SOURCES)}" if wrong else "align is empty"
        )
    if "aligner" in order and (model or "").partition(":")[0] not in ("transformers", "service"):
        raise ConfigError(f"aligner is {model!r}, wanted 'transformers:FOLDER_OR_HUB_ID' or 'service:NAME'")


def guess(transcript: str, language: str | None, start_s: float, end_s: float) -> list[Timed]:
    """Share time out by sounds: phones of English words, letters of others.

    Args:
        transcript: Any text.
        language: Code; None counts as English if it reads as such.
        start_s, end_s: When it is said.
    """
    said, quiet = _lengths(transcript, language)
    ranges = [(a, b) for a, b in pieces(transcript) if sum(said[a:b])]
    if not ranges:
        return []
    lengths = [(sum(said[a:b]), sum(quiet[a:b])) for a, b in ranges]
    sound_s = (end_s - start_s) / (sum(map(sum, lengths)) - lengths[-1][1])
    made, at = [], start_s
    for (a, b), (length, pause) in zip(ranges, lengths, strict=True):
        made.append(Timed(a, b, at, at + length * sound_s))
        at += (length + pause) * sound_s
    return made


def _lengths(transcript: str, language: str | None) -> tuple[list[float], list[float]]:
    """How long each character is said, and how long the break after it lasts, in sounds."""
    said, quiet = [0.0] * len(transcript), [0.0] * len(transcript)
    items = None
    if primary(language or "en") == "en":
        with suppress(VocabularyError):
            items = spoken_words(transcript)
    if items is not None:
        for item, phones in zip(items, words_to_phones([item.word for item in items]), strict=True):
            is_last = bool(item.mark) or item is items[-1]
            said[item.start] += len(phones) + LAST * is_last
            quiet[item.end - 1] += BREAKS.get(item.mark, 0.0)
        return said, quiet
    spoken = -1
    for i, character in enumerate(transcript):
        if character.isalnum():
            said[i], spoken = 1.0, i
        elif spoken >= 0 and character in BREAKS and not transcript[i + 1 : i + 2].isalnum():
            said[spoken] = 1.0 + LAST
            quiet[i] = BREAKS[character]
    if spoken >= 0:
        said[spoken] = 1.0 + LAST
    return said, quiet


def _by_sounds(text: str, sounds: Sequence[tuple[str, float, float]]) -> list[Timed]:
    """Give each word the times of the sounds that it is made of, as near as the lexicon tells."""
    try:
        items = spoken_words(text)
    except VocabularyError:
        return []
    wanted = [
        (phone, n) for n, phones in enumerate(words_to_phones([i.word for i in items])) for phone in phones
    ]
    changes = SequenceMatcher(None, [p for p, _ in wanted], [name for name, _, _ in sounds], autojunk=False)
    spans: dict[int, tuple[float, float]] = {}
    for _, left, left_end, right, right_end in changes.get_opcodes():
        for (_, number), (_, start, end) in zip(wanted[left:left_end], sounds[right:right_end], strict=False):
            spans[number] = (spans.get(number, (start, end))[0], end)
    return [Timed(items[n].start, items[n].end, *spans[n]) for n in sorted(spans)]
