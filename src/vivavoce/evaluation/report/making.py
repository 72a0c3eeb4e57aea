"""Make the report of a folder: score, judge, write ``report.json`` and ``report.html``."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from vivavoce.evaluation.report.page import report_page
from vivavoce.evaluation.report.report import Report, read_report


def make_report(folder: Path) -> Report:
    """Report on the run in a folder, or on the runs of several models side by side in it.

    Raises:
        DataError: There are none, or they are damaged.
    """
    report = read_report(folder)
    write_whole(folder / "report.json", to_json(report.record()))
    write_whole(folder / "report.html", report_page(report))
    return report


def to_json(value: Any) -> str:
    """JSON; numbers that it does not have (NaN, infinity) become null."""
    return json.dumps(_plain(value), ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
