"""Multiple choice: which letter an answer in free words means, by rules in a fixed order."""

# ruff: noqa: RUF001  (Chinese punctuation is meant)

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from vivavoce.base.errors import DataError
from vivavoce.evaluation.items import Item, checked
from vivavoce.evaluation.metrics.answers import squad_form
from vivavoce.evaluation.resampling import Bootstrap
from vivavoce.evaluation.scores import Score, mean_score

RULES = ("stated", "alone", "leading", "only_letter", "text")
"""Rules in their order; ``Score.counts`` has "read_stated" and so on, and "unread"."""

_MARKS = r"[\s*_`\"'“”‘’(（\[【]*"
_STATED = (
    rf"(?:answers?|options?|choices?)(?:\s+(?:is|should\s+be|would\s+be|to\s+choose\s+is)|\s*[:：=])\s*:?\s*"
    rf"(?:(?:the\s+)?(?:option|choice|letter|answer)\s+)?{_MARKS}",
    rf"(?:答案|选项|正确选项|选择|应选|故选|我选|选)(?:应该|应当)?(?:是|为)?[:：]?{_MARKS}",
)
_NEGATED = re.compile(r"(?:\bnot|\bn't|\bnever|不是|并非|不)\s*$", re.IGNORECASE)


def read_choice(text: str, letters: str, choices: Sequence[str] = ()) -> tuple[str | None, str]:
    """Find the letter that an answer means.

    1. stated: "the answer is (B)", "Answer: B", "答案是B"; of several that differ, the last.
    2. alone: the letter is all there is, whatever marks stand around it.
    3. leading: it begins with "B." or "(B)" or "B:".
    4. only_letter: one letter, and only one, stands in brackets, in bold or after "option".
    5. text: the words of one choice, and of only one that is not part of another found, stand in the answer.

    Args:
        text: What the system wrote.
        letters: Allowed ones, "ABCD".
        choices: Texts in the order of the letters, for the last rule.

    Returns:
        The letter and the rule that found it; (None, "unread") for none.
    """
    either, end = f"([{letters}{letters.lower()}])", r"(?![A-Za-z0-9'’])"
    stated = []
    for pattern in _STATED:
        for found in re.finditer(pattern + either + end, text, re.IGNORECASE):
            # "the answer is a good one": a small letter before further words is no choice
            small = found[1].islower() and re.match(r"\s+\w", text[found.end() :])
            if not small and not _NEGATED.search(text[: found.start()]):
                stated.append((found.start(), found[1].upper()))
    if stated:
        return max(stated)[1], "stated"
    bare = re.fullmatch(rf"\W*{either}\W*", text)
    if bare:
        return bare[1].upper(), "alone"
    leading = re.match(rf"{_MARKS}([{letters}])\s*[\])）】.:：、,，*](?!\s*(?:or|and|或|和)(?![a-z]))", text)
    if leading:
        return leading[1], "leading"
    marked = re.findall(
        rf"[(（\[【]([{letters}])[)）\]】]|\*\*([{letters}])\*\*|(?:[Oo]ption|[Cc]hoice|选项)\s*([{letters}]){end}",
        text,
    )
    named = {letter for row in marked for letter in row if letter}
    if len(named) == 1:
        return named.pop(), "only_letter"
    found_texts = _choices_in(text, choices)
    if len(found_texts) == 1:
        return letters[found_texts[0]], "text"
    return None, "unread"


def _choices_in(text: str, choices: Sequence[str]) -> list[int]:
    """Numbers of the choices whose words stand in the text, without those that are part of a longer one found."""
    whole = f" {squad_form(text)} "
    forms = [squad_form(choice) for choice in choices]
    spaced = [f if re.search(r"[\u0e00-\u0eff\u3040-\u9fff]", f) else f" {f} " for f in forms]
    inside = [i for i, form in enumerate(spaced) if form.strip() and form in whole]
    return [i for i in inside if not any(i != j and spaced[i].strip() in spaced[j] for j in inside)]


@dataclass(frozen=True)
class MultipleChoice:
    """Share of right letters; an answer that cannot be read is wrong and counted ("unread").

    Attributes:
        letters: Allowed ones for items without ``choices``; those with choices allow as many as they have.
        bootstrap: How the interval is drawn.
    """

    letters: str = "ABCD"
    bootstrap: Bootstrap = field(default_factory=Bootstrap)

    name = "multiple_choice"

    def score(self, items: Sequence[Item]) -> Score:
        """Score items whose reference is a letter.

        Raises:
            DataError: No items, or a reference that is no allowed letter.
        """
        items = checked(items, self.name)
        counts: Counter[str] = Counter()
        values = []
        for item in items:
            letters = string.ascii_uppercase[: len(item.choices)] if item.choices else self.letters
            right = item.references[0].strip().upper()
            if len(right) != 1 or right not in letters:
                raise DataError(
                    f"{self.name}: the reference of item {item.id!r} is {item.references[0]!r}, wanted a letter of "
                    f"{letters}."
                )
            found, rule = read_choice(item.hypothesis or "", letters, item.choices)
            counts[
                "no_answer" if item.hypothesis is None else "unread" if found is None else f"read_{rule}"
            ] += 1
            values.append(float(found == right))
        settings = {"rules": list(RULES), "letters": self.letters}
        return mean_score(self.name, items, values, counts, settings, bootstrap=self.bootstrap)
