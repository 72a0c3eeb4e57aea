"""What is in a text that nobody would say aloud: code, tables, addresses, formulas, pictures."""

from __future__ import annotations

import re

_KINDS = {
    "code": re.compile(
        r"""
        ```|~~~
      | ^[ ]{4,}\S.*[;{}()=]\s*$ | ;\s*$
      | ^\s*(?:def|class)\s\w+.*:\s*$
      | ^\s*(?:import\s\w+$|from\s[\w.]+\simport\s|\#include\b|using\snamespace\b)
      | \b(?:const|let|var)\s\w+\s?= | \bfunction\s?\w*\( | \w\(\)
      | [\w\])]\s*(?:==|!=|&&|\|\||=>|->|::|\+=|\+\+|<<|>>)\s*[\w(\["']
      | \b(?:SELECT|DELETE)\b.*\bFROM\b
      | \b\w+\.\w+\( | \b\w+_\w+\(
      | `[^`\n]*[(){}\[\]=_.$/\\<>-][^`\n]*`
        """,
        re.MULTILINE | re.VERBOSE,
    ),
    "markup": re.compile(r"</?[A-Za-z][\w-]*(?:\s[^<>]*)?/?>|!?\[[^\]]*\]\([^)]*\)|\{\{|\{%"),
    "table": re.compile(
        r"""
        ^\s*\|.*\|\s*$
      | ^[\s|:+-]*-{3,}[\s|:+-]*\|[\s|:+-]*$
      | \t\S*\t
      | ^(?:[^,\n]+,){3,}[^,\n]+\n(?:[^,\n]+,){3,}
        """,
        re.MULTILINE | re.VERBOSE,
    ),
    "address": re.compile(
        r"\b(?:https?|ftp|file)://|\bwww\.\w|\b[\w.+-]+@[\w-]+\.\w|(?:^|\s)(?:~|\.{1,2})?/\w+/\w|\b[A-Z]:\\"
    ),
    "formula": re.compile(
        r"\$\$|\\(?:frac|sqrt|sum|int|begin|text|left|cdot|times|alpha|beta)\b|\$[^$\n]*[\\^_{}][^$\n]*\$"
        r"|\w\^\{|\w_\{|\\\(|\\\[|[\u2211\u222b\u221a\u2264\u2265\u2260\u221e\u2202\u2207]"
    ),
    "picture": re.compile(r"[\u2500-\u259f\u2600-\u27bf\U0001f300-\U0001faff]"),
    "number": re.compile(r"\d{13,}|\b(?=[0-9a-fA-F]*[a-fA-F])(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{12,}\b"),
}
_LEAST_LETTERS = 0.6


def unspeakable(text: str) -> tuple[str, str] | None:
    """What in a text cannot be said aloud.

    Returns:
        Its kind ("code", "markup", "table", "address", "formula", "picture", "number", "signs") and the place, or None.
    """
    for kind, pattern in _KINDS.items():
        found = pattern.search(text)
        if found:
            return kind, found.group().strip()[:40]
    seen = [c for c in text if not c.isspace()]
    marks = [c for c in seen if not c.isalnum() and c not in ".,?!'\u2019\"-"]
    if seen and len(marks) > (1 - _LEAST_LETTERS) * len(seen):
        return "signs", "".join(marks[:20])
    return None
