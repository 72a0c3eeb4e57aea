"""Files that are there whole or not at all, and values as JSON has them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_whole(path: Path, text: str) -> None:
    """Write a text file, UTF-8, beside its place and rename it into it; its folder exists."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def plain(value: Any, digits: int | None = None) -> Any:
    """Turn a value into what JSON has.

    Args:
        value: Mappings, sequences, numbers of NumPy and torch, paths.
        digits: Floats are rounded to so many; None leaves them.

    Returns:
        Dictionaries, lists, texts and numbers; those that are not finite are None.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(one, digits) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one, digits) for one in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist(), digits)
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return value if digits is None else round(value, digits)
    return str(value) if isinstance(value, Path) else value
