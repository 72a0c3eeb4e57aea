"""Records from JSON: types are fitted, faults are named."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from vivavoce.base.errors import ConfigError
from vivavoce.base.records import read_record, set_dotted, write_record


@dataclass(frozen=True)
class Inner:
    width: int = 1


@dataclass(frozen=True)
class Sample:
    size: int
    rate: float = 1.0
    name: str | None = None
    kind: Literal["a", "b"] = "a"
    strides: tuple[int, ...] = ()
    flag: bool = False
    table: dict[str, Any] = field(default_factory=dict)


def test_json_types_are_fitted():
    sample = read_record(
        Sample, {"size": 3.0, "rate": 2, "strides": [4, 2, 1], "kind": "b", "name": "x"}, "s"
    )
    assert sample == Sample(3, 2.0, "x", "b", (4, 2, 1))
    assert isinstance(sample.size, int) and isinstance(sample.rate, float)
    assert read_record(Sample, write_record(sample), "s") == sample
    assert read_record(Sample, sample, "s") is sample


def test_numbers_as_people_write_them_are_numbers():
    """By YAML's rules 1e-3 and 2.5e4 are text."""
    assert read_record(Sample, {"size": "1e5", "rate": "1e-3", "strides": ["2e0"]}, "s") == Sample(
        100_000, 0.001, strides=(2,)
    )
    assert read_record(Sample, {"size": 1, "name": "1e5"}, "s").name == "1e5"
    with pytest.raises(ConfigError, match=r"s\.size is '25e-1', wanted int"):
        read_record(Sample, {"size": "25e-1"}, "s")


@pytest.mark.parametrize(
    ("record", "part"),
    [
        ({"size": 2.5}, "s.size is 2.5, wanted int"),
        ({"size": True}, "s.size is True, wanted int"),
        ({"size": 1, "flag": 1}, "s.flag is 1, wanted bool"),
        ({"size": 1, "strides": [1, "2"]}, "s.strides is [1, '2'], wanted a list of int"),
        ({"size": 1, "strides": 4}, "wanted a list"),
        ({"size": 1, "name": 4}, "wanted str or null"),
        ({"size": 1, "kind": "c"}, "one of 'a', 'b'"),
        ({"size": 1, "table": []}, "wanted an object"),
        ({"syze": 1}, "did you mean 'size'"),
        ({}, "s.size is missing"),
        ([], "wanted an object"),
    ],
)
def test_faults_are_named(record, part):
    with pytest.raises(ConfigError) as caught:
        read_record(Sample, record, "s")
    assert part in str(caught.value)


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    rows: tuple[Inner, ...] = ()
    maybe: Inner | None = None


def test_records_inside_records():
    outer = Outer(Inner(2), (Inner(3), Inner()), Inner(4))
    assert read_record(Outer, write_record(outer), "o") == outer
    assert read_record(Outer, {"maybe": None}, "o") == Outer()
    with pytest.raises(ConfigError) as caught:
        read_record(
            Outer, {"inner": {"widht": 1}, "rows": [{}, {"width": "x"}], "maybe": {"width": None}}, "o"
        )
    for part in (
        "o.inner.widht is unknown, did you mean 'width'?",
        "o.rows.1.width is 'x'",
        "o.maybe.width is None",
    ):
        assert part in str(caught.value)


def test_values_are_set_by_dotted_keys():
    record = {"a": {"b": [{"c": 1}]}}
    for key, value in (("a.b.0.c", 2), ("x.y", 3), ("z", 4)):
        set_dotted(record, key, value)
    assert record == {"a": {"b": [{"c": 2}]}, "x": {"y": 3}, "z": 4}
    for key, part in (
        ("z.y", "z is 4 and has no keys"),
        ("a.b.1", "there are 1 of these"),
        ("a.b.c", "there are 1"),
    ):
        with pytest.raises(ConfigError, match=part):
            set_dotted(record, key, 0)
