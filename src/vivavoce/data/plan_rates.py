"""What an hour of audio costs each stage: rates that were measured, and rates that are assumed and say so.

The package's own table is `plan_rates.yaml` beside this file; a user's file has the same form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from vivavoce.base.errors import ConfigError
from vivavoce.base.records import read_record
from vivavoce.data.build import BUILDERS

SOURCE, STORE = "source", "store"  # what a pipeline does beside its stages: read rows, write shards
TABLE = Path(__file__).with_suffix(".yaml")
Basis = Literal["measured", "assumed"]
FIGURES = ("cpu_s", "gpu_s", "keeps", "rows_per_hour", "audio_bytes", "other_bytes", "token_bytes")


@dataclass(frozen=True)
class Rate:
    """What a stage takes and makes.

    Attributes:
        stage: Name in BUILDERS, or "source" or "store".
        basis: "measured", or "assumed" where nobody has.
        match: Settings of the stage for which it holds. A text may be a pattern ("transformers:*"), a list gives
            several; of a setting that is a list every item must fit.
        device: "cpu" or "cuda".
        cpu_s, gpu_s: Seconds of one core and of one GPU per hour of audio that comes in. Before there is audio (texts
            that are spoken later) per hour of what is made of it.
        keeps: Hours that go out per hour that comes in.
        rows_per_hour: Rows per hour that goes out; None if a row stays a row.
        audio_bytes: Bytes of recordings per hour that goes out; None if they are as they came in.
        other_bytes, token_bytes: Bytes of a shard that the stage adds beside recordings (below 0 takes away), per hour
            that goes out and per token.
        assumed: Names of the above that are assumed although the rate is measured.
        date, hardware, command: Of the measurement.
        source: Where an assumption comes from; more about a measurement.
    """

    stage: str
    basis: Basis
    match: Mapping[str, Any] = field(default_factory=dict)
    device: Literal["cpu", "cuda"] = "cpu"
    cpu_s: float = 0.0
    gpu_s: float = 0.0
    keeps: float = 1.0
    rows_per_hour: float | None = None
    audio_bytes: float | None = None
    other_bytes: float = 0.0
    token_bytes: float = 0.0
    assumed: tuple[str, ...] = ()
    date: str = ""
    hardware: str = ""
    command: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        faults = [
            f"{name} is {value}, wanted 0 or more"
            for name in FIGURES
            if (value := getattr(self, name)) is not None
            and not (0 <= value < float("inf") or name == "other_bytes")
        ]
        if self.stage not in (SOURCE, STORE) and self.stage not in BUILDERS:
            faults.append(f"stage is {self.stage!r}, wanted {SOURCE}, {STORE}, {', '.join(BUILDERS)}")
        faults += _unproved(self)
        if (self.basis == "assumed" or self.assumed) and not self.source:
            faults.append("an assumption wants source: where it comes from")
        wrong = [name for name in self.assumed if name not in FIGURES]
        faults += [f"assumed has {wrong}, wanted some of {', '.join(FIGURES)}"] if wrong else []
        if faults:
            raise ConfigError("; ".join(faults))

    def fits(self, settings: Mapping[str, Any]) -> bool:
        """Whether it is for a stage with these settings."""
        return all(name in settings and _same(wanted, settings[name]) for name, wanted in self.match.items())

    def told(self) -> str:
        """In a few words where it is from."""
        if self.basis == "assumed":
            return f"assumed: {self.source}"
        told = f"measured {self.date} on {self.hardware}: {self.command}"
        if not self.assumed:
            return f"{told}; {self.source}" if self.source else told
        return f"{told}; assumed: {', '.join(self.assumed)}: {self.source}"


@dataclass(frozen=True)
class Form:
    """A form in which source recordings are kept.

    Attributes:
        name: For people.
        audio_bytes: Per hour.
        basis, date, hardware, command, source: As of `Rate`.
    """

    name: str
    audio_bytes: float
    basis: Basis
    date: str = ""
    hardware: str = ""
    command: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        faults = _unproved(self)
        if not self.audio_bytes > 0:
            faults.append(f"audio_bytes is {self.audio_bytes}, wanted more than 0")
        if self.basis == "assumed" and not self.source:
            faults.append("an assumption wants source: where it comes from")
        if faults:
            raise ConfigError("; ".join(faults))

    def told(self) -> str:
        """In a few words where it is from."""
        if self.basis == "assumed":
            return f"assumed: {self.source}"
        more = f"; {self.source}" if self.source else ""
        return f"measured {self.date} on {self.hardware}: {self.command}{more}"


@dataclass(frozen=True)
class Rates:
    """A table of rates.

    Attributes:
        rates: Of stages.
        forms: Of source recordings; the first is the one that they are kept in.
    """

    rates: tuple[Rate, ...] = ()
    forms: tuple[Form, ...] = ()

    def find(self, stage: str, settings: Mapping[str, Any], device: str) -> Rate | None:
        """The rate with the most settings that match; of several the last."""
        found = [
            (len(rate.match), number, rate)
            for number, rate in enumerate(self.rates)
            if (rate.stage, rate.device) == (stage, device) and rate.fits(settings)
        ]
        return max(found, key=lambda entry: entry[:2])[2] if found else None


def load_rates(path: Path) -> Rates:
    """Read a table: YAML with ``rates`` and ``forms``.

    Raises:
        ConfigError: It cannot be read, or entries are wrong; all at once.
    """
    try:
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(record, Mapping) or not record or not set(record) <= {"rates", "forms"}:
        raise ConfigError(f"{path} holds no rates; wanted rates: [...] and forms: [...], or one of the two.")
    faults: list[str] = []
    rates = _entries(Rate, record, "rates", path, faults)
    forms = _entries(Form, record, "forms", path, faults)
    if faults:
        raise ConfigError("; ".join(faults) + ".")
    return Rates(tuple(rates), tuple(forms))


@cache
def own_rates() -> Rates:
    """The package's table."""
    return load_rates(TABLE)


def _entries(cls: Any, record: Mapping[str, Any], name: str, path: Path, faults: list[str]) -> list[Any]:
    entries, found = record.get(name) or [], []
    if not isinstance(entries, list):
        faults.append(f"{path.name}: {name} is {entries!r}, wanted a list")
        return []
    for number, entry in enumerate(entries):
        try:
            found.append(read_record(cls, _dated(entry), f"{path.name}: {name}[{number}]"))
        except ConfigError as error:
            faults.append(str(error).rstrip("."))
    return found


def _dated(entry: Any) -> Any:
    """YAML reads a date as one; ours are text."""
    return (
        {k: str(v) if k == "date" else v for k, v in entry.items()} if isinstance(entry, Mapping) else entry
    )


def _unproved(rate: Rate | Form) -> list[str]:
    missing = [name for name in ("date", "hardware", "command") if not getattr(rate, name)]
    if rate.basis == "measured" and missing:
        return [f"a measurement wants {', '.join(missing)}; or say basis: assumed, with source"]
    return []


def _same(wanted: Any, value: Any) -> bool:
    if wanted == value or (isinstance(value, tuple) and list(value) == wanted):
        return True
    choices: Sequence[Any] = wanted if isinstance(wanted, list | tuple) else (wanted,)
    if isinstance(value, list | tuple):
        return bool(value) and all(_same(wanted, item) for item in value)
    return any(
        choice == value or (isinstance(choice, str) and isinstance(value, str) and fnmatchcase(value, choice))
        for choice in choices
    )
