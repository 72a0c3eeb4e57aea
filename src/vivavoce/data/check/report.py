"""What a check of a set found, for programs and for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vivavoce.data.check.findings import Tally
from vivavoce.data.check.kinds import KINDS, SEVERITIES
from vivavoce.data.check.rows import Facts


@dataclass
class Report:
    """Findings of a set.

    Attributes:
        name: Of the set.
        tally: Findings by kind, with examples.
        facts: What is in the set.
        against: The set it was compared with.
    """

    name: str
    tally: Tally
    facts: Facts
    against: str | None = None

    @property
    def ok(self) -> bool:
        """Whether there is no error; warnings may be meant."""
        return self.tally.number("error") == 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "set": self.name,
            "ok": self.ok,
            **{f"{severity}s": self.tally.number(severity) for severity in SEVERITIES},
            "facts": self.facts.as_dict(),
            "against": self.against,
            "findings": self.tally.as_list(),
        }

    def fact_lines(self) -> Iterator[tuple[str, str]]:
        """What is in the set: name and words."""
        facts = self.facts
        yield "rows", f"{facts.rows:,}, {facts.faulty:,} of them with errors"
        yield "clips", f"{facts.clips:,}, {length(facts.seconds)}; {facts.learned_audio:,} in answers"
        for name, counts in (
            ("tasks", facts.tasks),
            ("languages", facts.languages),
            ("licences", facts.licences),
            ("rates", {f"{rate} Hz": n for rate, n in facts.sample_rates.most_common()}),
            ("codecs", {" ".join(filter(None, key[1:])): n for key, n in facts.codecs.most_common()}),
        ):
            if counts:
                yield name, counted(dict(counts))
        if facts.clips:
            yield "speakers", str(facts.as_dict()["speakers"])

    def summary(self) -> str:
        """One line."""
        numbers = {severity: self.tally.number(severity) for severity in SEVERITIES}
        said = ", ".join(f"{n:,} {severity}{'' if n == 1 else 's'}" for severity, n in numbers.items() if n)
        return f"{'no errors' if self.ok else 'not ready'}: {said or 'nothing found'}"

    def lines(self) -> Iterator[str]:
        """The findings as plain text, kind by kind."""
        for kind in self.tally.kinds():
            about = KINDS[kind]
            count, rows = self.tally.counts[kind], self.tally.rows[kind]
            yield f"{about.severity}  {kind}  {count:,} in {rows:,} row{'' if rows == 1 else 's'}: {about.why}"
            for finding in self.tally.examples.get(kind, ()):
                yield f"    {finding}"
            yield f"    next: {about.next_step}"

    def __str__(self) -> str:
        facts = [f"{name:10} {words}" for name, words in self.fact_lines()]
        return "\n".join([self.name, *facts, *self.lines(), self.summary()])


def counted(counts: Mapping[str, int], most: int = 6) -> str:
    """Counts as words, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    more = f", and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(f"{name or 'none'}: {n:,}" for name, n in ordered[:most]) + more


def length(seconds: float) -> str:
    """A length of time in the unit that people would use."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.2f} h"
