"""Names of audio tokens in a tokenizer, as published models spell them.

The naming trap: ``<|sound_7|>`` and ``<|sound_0007|>`` are both in use for the same code. A string in the
wrong spelling does not fail, it falls into ordinary text pieces. So the spelling is always read from the
tokenizer (`vocabulary.detect_vocabulary`) and never from code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from vivavoce.base.errors import ConfigError


@dataclass(frozen=True)
class NameStyle:
    """How audio tokens are spelled and in which order they are added.

    Attributes:
        prefix: Text before the number of a code token.
        suffix: Text after it.
        width: Digits of the number, zero-padded; 0 for plain decimals.
        first_number: Number printed for code id 0.
        start: Start-of-audio token, or "" when it is the numbered token ``roles["start"]``.
        end: End-of-audio token, or "" when it is the numbered token ``roles["end"]``.
        roles: Role -> number, for styles whose control tokens are numbered like the codes; all of them, start
            and end among them, then.
        spare: Unused numbered tokens added after the last code.
    """

    prefix: str
    suffix: str
    width: int = 0
    first_number: int = 0
    start: str = ""
    end: str = ""
    roles: Mapping[str, int] = field(default_factory=dict)
    spare: int = 0

    def __post_init__(self) -> None:
        numbered = {"start", "end"} <= set(self.roles)
        named = bool(self.start and self.end)
        if numbered == named or (self.roles and (self.start or self.end)):
            raise ConfigError(
                "a name style needs both start and end, either as names or as numbers in roles; "
                f"got start={self.start!r}, end={self.end!r}, roles={sorted(self.roles)}."
            )

    def numbered(self, number: int) -> str:
        """The token with this number."""
        return f"{self.prefix}{number:0{self.width}d}{self.suffix}"

    def pattern(self) -> re.Pattern[str]:
        """Matches one numbered token in any width; group 1 holds the digits."""
        return re.compile(f"{re.escape(self.prefix)}([0-9]+){re.escape(self.suffix)}")

    def role_token(self, role: str) -> str:
        """The token of ``start``, ``end`` or another role of this style."""
        named = {"start": self.start, "end": self.end}.get(role, "")
        return named or self.numbered(self.roles[role])

    def place(self, number: int) -> int:
        """Position of a numbered token among all audio tokens, in the order of their ids."""
        return number if self.roles else sum(map(bool, (self.start, self.end))) + number - self.first_number

    def role_place(self, role: str) -> int:
        """Position of the token of a role."""
        if role == "start" and self.start:
            return 0
        if role == "end" and self.end:
            return 1
        return self.place(self.roles[role])

    def num_tokens(self, num_codes: int) -> int:
        """How many tokens the style adds for this many codes."""
        return self.place(self.first_number + num_codes + self.spare)

    def tokens(self, num_codes: int) -> list[tuple[str, bool]]:
        """All tokens in the order of their ids, each with True if it is a control token."""
        named = [(name, True) for name in (self.start, self.end) if name]
        control = set(self.roles.values())
        first = 0 if self.roles else self.first_number
        last = self.first_number + num_codes + self.spare
        return named + [(self.numbered(n), n in control) for n in range(first, last)]


# Orpheus-TTS 0.1: <custom_token_n> has id L + n, L the length of the text tokenizer; codes from L + 10
_ORPHEUS_ROLES = {
    "start": 1,
    "end": 2,
    "start_of_human": 3,
    "end_of_human": 4,
    "start_of_ai": 5,
    "end_of_ai": 6,
    "pad": 7,
}

STYLES: Mapping[str, NameStyle] = MappingProxyType(
    {
        "sound": NameStyle("<|sound_", "|>", 0, 0, "<|sound_start|>", "<|sound_end|>"),
        "sound_padded": NameStyle("<|sound_", "|>", 4, 0, "<|sound_start|>", "<|sound_end|>"),
        "orpheus": NameStyle("<custom_token_", ">", first_number=10, roles=_ORPHEUS_ROLES, spare=1),
    }
)

DEFAULT_STYLE: Mapping[str, str] = MappingProxyType({"interleaved": "sound", "orpheus": "orpheus"})


def name_style(style: str | NameStyle | None, layout: str) -> NameStyle:
    """Find a style by name, or the usual one of a layout.

    Raises:
        ConfigError: no style of that name.
    """
    if isinstance(style, NameStyle):
        return style
    name = DEFAULT_STYLE.get(layout, "sound") if style is None else style
    if name not in STYLES:
        raise ConfigError(f"unknown token name style {name!r}; known: {', '.join(STYLES)}.")
    return STYLES[name]
