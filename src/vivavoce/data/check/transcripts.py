"""Checks of transcripts: against the language, the length of the recording and the times of words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from vivavoce.data.check.findings import Finding, short
from vivavoce.data.check.scripts import letters, scripts_of, spoken_s
from vivavoce.data.check.typed import normal_words
from vivavoce.data.conversation import Audio

SLACK_S = 0.1  # word times are rounded
LEAST_LETTERS = 4
_CODE = re.compile(r"[a-z]{2,3}([-_][A-Za-z0-9]{2,8})*")
_MARKS = re.compile(r"\[[^\]]*\]|<[^>]*>")  # [laughter], <noise>


def check_transcript(part: Audio, seconds: float | None, where: str) -> Iterator[Finding]:
    """Check what is known of a clip's words.

    Args:
        part: Of a row; its texts are text.
        seconds: Length of the part that counts; None if it is not known.
        where: Place of the part.
    """
    said = _MARKS.sub(" ", part.transcript or "")
    if part.language is not None:
        yield from _language(said, part.language, where)
    if seconds is not None and said.strip():
        yield from _speed(said, seconds, where)
    if part.words:
        yield from _words(part, said, seconds, where)


def _language(said: str, language: str, where: str) -> Iterator[Finding]:
    if not _CODE.fullmatch(language):
        yield Finding("language_code", f"language {short(language)!r}", "a code such as 'en'", where)
        return
    wanted, counts = scripts_of(language), letters(said)
    total = counts.total()
    if wanted is None or total < LEAST_LETTERS or 2 * sum(counts[s] for s in wanted) >= total:
        return
    most = counts.most_common(1)[0][0].lower()
    seen = f"{most} letters in {short(said, 30)!r}, language {language!r}"
    yield Finding("script_mismatch", seen, f"{' or '.join(sorted(wanted)).lower()} letters", where)


def _speed(said: str, seconds: float, where: str) -> Iterator[Finding]:
    least, most = spoken_s(said)
    size = letters(said).total()
    if seconds < least:
        seen = f"{size} letters in {seconds:.2f} s, {size / max(seconds, 0.01):.0f} a second"
        yield Finding("speech_too_fast", seen, f"{least:.1f} s or more", where)
    elif seconds > most:
        seen = f"{len(said.split())} words, {size} letters in {seconds:.1f} s"
        yield Finding("speech_too_slow", seen, f"at most {most:.1f} s", where)


def _words(part: Audio, said: str, seconds: float | None, where: str) -> Iterator[Finding]:
    assert part.words is not None
    end = float("inf") if seconds is None else seconds + SLACK_S
    outside = [w for w in part.words if not (w[1] >= 0 and w[2] <= end)]
    if outside:
        word, start, stop = outside[0]
        seen = f"{len(outside)} of {len(part.words)} words, such as {word!r} from {start:g} to {stop:g} s"
        wanted = "times from 0 on" if seconds is None else f"times within 0 and {seconds:.2f} s"
        yield Finding("words_outside", seen, wanted, where)
    bad = next((w for w in part.words if w[2] < w[1]), None) or next(
        (b for a, b in pairwise(part.words) if b[1] < a[1]), None
    )
    if bad:
        seen = f"{bad[0]!r} from {bad[1]:g} to {bad[2]:g} s"
        yield Finding("words_out_of_order", seen, "starts that never go back, and start <= end", where)
    told, timed = normal_words(said).replace(" ", ""), normal_words("".join(w for w, _, _ in part.words))
    if told and timed.replace(" ", "") != told:
        seen = f"words {short(' '.join(w for w, _, _ in part.words), 40)!r}, transcript {short(said, 40)!r}"
        yield Finding("words_differ", seen, "the same words", where)
