"""Imports only point left: the syntax trees of all rooms, with late and type-only imports and names in tables."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "vivavoce"
ORDER = "base audio codecs tokens data models inference training evaluation serving cli".split()
ROOMS = sorted({p.relative_to(PACKAGE).parts[0] for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE})

# Beyond the order: a module prefix that a room may never import, and what of it is allowed all the same.
NEVER: dict[str, list[tuple[str, tuple[str, ...]]]] = {
    "base": [("torch", ()), ("transformers", ()), ("numpy", ())],
    "tokens": [
        ("vivavoce.codecs", ("vivavoce.codecs.contract",)),
        ("vivavoce.audio.files", ()),
        ("vivavoce.audio.decoding", ()),
    ],
    "models": [("vivavoce.data", ())],
    "inference": [("vivavoce.data", ())],
    "serving": [("vivavoce.training", ()), ("vivavoce.data", ())],
}
DOOR_NAMES = {"__version__"}  # what a room may take from the package's front door
TABLE_ROW = re.compile(r"(vivavoce(?:\.\w+)+):\w+")


def imported(source: str, package: str) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of everything a module imports, and of "module:name" strings in its tables."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            row = TABLE_ROW.fullmatch(node.value)
            if row:
                yield node.lineno, row[1]


def faults(room: str, source: str, package: str | None = None) -> list[str]:
    """Say which imports of a module in ``room`` are against the order, one line each."""
    found = []
    for line, name in imported(source, package or f"vivavoce.{room}"):
        other = name.partition(".")[2].partition(".")[0]
        if name.startswith("vivavoce.") and other in ORDER and ORDER.index(other) > ORDER.index(room):
            found.append(f"line {line}: {room} imports {name}, which is to its right")
        elif (
            name.startswith("vivavoce.") and other not in ORDER and other not in DOOR_NAMES and room != "cli"
        ):
            found.append(f"line {line}: {room} imports {name} through the front door")
        for prefix, allowed in NEVER.get(room, []):
            inside = any(name == a or name.startswith(f"{a}.") for a in allowed)
            if (name == prefix or name.startswith(f"{prefix}.")) and not inside:
                found.append(f"line {line}: {room} may never import {name}")
    return found


def test_every_room_is_in_the_order() -> None:
    assert set(ROOMS) <= set(ORDER), "a folder with code that ARCHITECTURE.md does not know"


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_left(room: str) -> None:
    found = []
    for path in sorted((PACKAGE / room).rglob("*.py")):
        relative = path.relative_to(PACKAGE.parent)
        package = ".".join(relative.parent.parts)
        found += [f"{relative} {f}" for f in faults(room, path.read_text(encoding="utf-8"), package)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("audio", "import vivavoce.codecs.contract"),
        ("base", "from vivavoce.audio import files"),
        ("base", "import torch"),
        ("base", "def late():\n    import torch.nn"),
        ("codecs", "from vivavoce import tokens"),
        ("codecs", "from ..tokens import layouts"),
        ("tokens", "from vivavoce.codecs.snac import model"),
        ("tokens", "from vivavoce.audio.files import read_audio"),
        ("models", "if TYPE_CHECKING:\n    from vivavoce.inference.session import Session"),
        ("models", "from vivavoce.data import conversation"),
        ("inference", "def late():\n    from vivavoce.data.shards import read"),
        ("training", "import vivavoce.evaluation as e"),
        ("serving", "from vivavoce.training.loop import train"),
        ("inference", "TABLE = {'x': 'vivavoce.cli.main:main'}"),
        ("models", "from vivavoce import load"),
    ],
)
def test_the_check_sees(room: str, source: str) -> None:
    assert len(faults(room, source)) >= 1


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("tokens", "from vivavoce.codecs.contract import Codes"),
        ("cli", "import vivavoce\nfrom vivavoce import load"),
        ("models", "from vivavoce import __version__\nfrom vivavoce.audio.features import LogMel"),
        ("audio", "from . import resample\nfrom .files import read_audio\nimport numpy"),
        ("serving", "from vivavoce.inference.session import Session"),
    ],
)
def test_the_check_allows(room: str, source: str) -> None:
    assert faults(room, source) == []
