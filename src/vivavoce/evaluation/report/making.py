"""Make the report of a folder: score, judge, write ``report.json`` and ``report.html``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vivavoce.base.whole_files import plain, write_whole
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
    return json.dumps(plain(value), ensure_ascii=False, indent=1, allow_nan=False) + "\n"
