"""Finds golden folders: one per kind, directly under each root, described by their README.json.

A root holds ``snac/``, ``jan_llama3/`` and so on, or is such a folder itself. A folder says its kind by its
name; under another name it is recognised by a file only that kind has.
"""

from __future__ import annotations

from pathlib import Path

STORED = Path(__file__).parent / "data"

# where to look; conftest.py replaces it when ``--goldens`` is given
ROOTS: list[Path] = [STORED]

# kind -> pattern of a file that only this kind has
SIGNATURES = {
    "snac": "*/lengths.json",
    "jan_llama3": "encodec_codes.json",
    "ultravox": "checkpoint_keys.json",
    "salmonn": "qformer/config.json",
}

# kind -> module beside this one that checks it; a kind without one fails in test_kinds.py
CHECKS = {
    "snac": "test_snac.py",
    "jan_llama3": "test_jan_llama3.py",
    "salmonn": "test_salmonn.py",
    "ultravox": "test_ultravox.py",
}

# what the check of a kind covers, directly under its folder; None: the check discovers everything by itself
COVERED: dict[str, frozenset[str] | None] = {
    "snac": None,
    "jan_llama3": frozenset(
        {
            "README.json",
            "adam_mini",  # test_adam_mini.py
            "encodec_codes.json",
            "encodec_decoded.safetensors",
            "encodec_tiny",
            "resampled.safetensors",
            "wav",
        }
    ),
    "salmonn": frozenset({"README.json", "beats", "qformer", "whole"}),  # whole: test_salmonn_whole.py
    "ultravox": None,
}

# kind -> {entry: why it is skipped}
NOT_YET: dict[str, dict[str, str]] = {}


def all_folders() -> list[Path]:
    """Every golden folder under the roots, of known and unknown kinds."""
    found: list[Path] = []
    for root in ROOTS:
        inside = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith((".", "__")))
        found += [root] if (root / "README.json").is_file() else inside
    return found


def kind_of(folder: Path) -> str | None:
    """Name the kind of a golden folder, or None if it is not one of the known kinds."""
    if folder.name in SIGNATURES:
        return folder.name
    kinds = [kind for kind, pattern in SIGNATURES.items() if any(folder.glob(pattern))]
    return kinds[0] if len(kinds) == 1 else None


def golden_folders(kind: str) -> list[Path]:
    """The folders of one kind; call it while tests are collected, to parametrise over them."""
    return [folder for folder in all_folders() if kind_of(folder) == kind]


def label(folder: Path) -> str:
    """A short test id that tells equal names under different roots apart."""
    return folder.name if folder.parent == STORED else f"{folder.parent.name}/{folder.name}"


def unchecked(folder: Path) -> list[str]:
    """Say what in ``folder`` no test looks at, in sentences; empty if all of it is covered."""
    kind = kind_of(folder)
    if kind is None:
        known = ", ".join(SIGNATURES)
        return [f"{folder} is of no known kind ({known}); add it to tests/goldens/discovery.py with a check."]
    if kind not in CHECKS:
        return [f"{folder} is of kind {kind!r}, which has no check yet; add tests/goldens/test_{kind}.py."]
    covered = COVERED[kind]
    if covered is None:
        return []
    skipped = NOT_YET.get(kind, {})
    names = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
    return [
        f"{folder / n} is not read by {CHECKS[kind]}." for n in names if n not in covered and n not in skipped
    ]
