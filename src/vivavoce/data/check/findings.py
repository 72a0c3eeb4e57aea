"""A finding: one thing that is wrong in one place, with what was seen and what was wanted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from vivavoce.data.check.kinds import KINDS, SEVERITIES

EXAMPLES = 5


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: In ``KINDS``.
        seen: What is there.
        wanted: What should be there.
        place: Where in the row, such as "message 1, part 0"; "" for the whole row or set.
        row: Id of the row; "" for the set.
        number: Place of the row in the set, from 0; -1 for the set.
    """

    kind: str
    seen: str
    wanted: str
    place: str = ""
    row: str = ""
    number: int = -1

    @property
    def severity(self) -> str:
        return KINDS[self.kind].severity

    def __str__(self) -> str:
        where = ", ".join(
            part for part in (f"row {self.row!r}" if self.number >= 0 else "", self.place) if part
        )
        return (
            f"{where}: {self.seen}; wanted {self.wanted}" if where else f"{self.seen}; wanted {self.wanted}"
        )


def short(value: Any, length: int = 60) -> str:
    """A value as text that fits into a message."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= length else f"{text[: length - 3]}..."


@dataclass
class Tally:
    """Findings counted by kind, with the first examples of each; adding tallies in any order gives the same.

    Attributes:
        most: Examples that are kept of a kind.
        counts: Kind -> how often.
        rows: Kind -> in how many rows.
        examples: Kind -> findings, by the place of their rows.
    """

    most: int = EXAMPLES
    counts: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Finding]] = field(default_factory=dict)

    def add_row(self, findings: Iterable[Finding]) -> None:
        """Add all findings of one row, or one finding of the set."""
        kinds = set()
        for finding in findings:
            self.counts[finding.kind] += 1
            kinds.add(finding.kind)
            self._keep([finding])
        self.rows.update(kinds)

    def add(self, other: Tally) -> None:
        """Add what another tally counted."""
        self.counts.update(other.counts)
        self.rows.update(other.rows)
        for found in other.examples.values():
            self._keep(found)

    def add_many(self, kind: str, count: int, examples: list[Finding]) -> None:
        """Add ``count`` rows with one finding each, of which only some are told."""
        self.counts[kind] += count
        self.rows[kind] += count
        self._keep(examples)

    def _keep(self, found: list[Finding]) -> None:
        if not found or not self.most:
            return
        kept = self.examples.setdefault(found[0].kind, [])
        if len(kept) >= self.most and found[0].number >= kept[-1].number:
            return
        kept += found
        kept.sort(key=lambda f: f.number)
        del kept[self.most :]

    def number(self, severity: str) -> int:
        """Findings of a severity."""
        return sum(n for kind, n in self.counts.items() if KINDS[kind].severity == severity)

    def kinds(self) -> list[str]:
        """Kinds that were found: errors first, then by how often, then by name."""
        order = SEVERITIES.index
        return sorted(self.counts, key=lambda k: (order(KINDS[k].severity), -self.counts[k], k))

    def as_list(self) -> list[dict[str, Any]]:
        """For JSON."""
        return [
            {
                "kind": kind,
                "severity": KINDS[kind].severity,
                "count": self.counts[kind],
                "rows": self.rows[kind],
                "why": KINDS[kind].why,
                "next_step": KINDS[kind].next_step,
                "examples": [
                    {k: v for k, v in asdict(f).items() if k != "kind"} for f in self.examples.get(kind, ())
                ],
            }
            for kind in self.kinds()
        ]
