"""Name tables import late, list what they know, and take rows from outside."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from vivavoce.base import registry
from vivavoce.base.errors import ConfigError
from vivavoce.base.registry import Registry


def test_rows_are_imported_when_asked_for() -> None:
    table = Registry("thing", {"fraction": "fractions:Fraction", "broken": "no_such_module_here:x"})
    from fractions import Fraction

    assert table.get("fraction") is Fraction
    assert list(table) == ["broken", "fraction"] and "fraction" in table and "other" not in table
    with pytest.raises(ModuleNotFoundError, match="no_such_module_here"):
        table.get("broken")


def test_an_unknown_name_gets_the_nearest_and_the_list() -> None:
    table = Registry("codec", {"snac": "a:b", "mimi": "a:b"})
    with pytest.raises(
        ConfigError, match=r"unknown codec 'snak'\. Did you mean 'snac'\? Known: mimi, snac\."
    ):
        table.get("snak")
    with pytest.raises(ConfigError, match=r"unknown codec 'zzz'\. Known: mimi, snac\."):
        table.get("zzz")


def test_outside_packages_add_rows_but_do_not_replace_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def entries(group: str) -> list[EntryPoint]:
        assert group == "vivavoce.things"
        return [EntryPoint("theirs", "fractions:Fraction", group), EntryPoint("ours", "json:loads", group)]

    monkeypatch.setattr(registry, "entry_points", entries)
    from fractions import Fraction

    table = Registry("thing", {"ours": "json:dumps"}, group="vivavoce.things")
    assert list(table) == ["ours", "theirs"] and "theirs" in table
    assert table.get("theirs") is Fraction
    import json

    assert table.get("ours") is json.dumps
