"""The numbers of several servers as one page for Prometheus."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def summed(pages: Sequence[str], without: Collection[str] = ()) -> str:
    """Add up the numbers of pages that have the same ones.

    Counters, histograms and gauges of queues all add up over servers.

    Args:
        pages: In Prometheus' text format.
        without: Names of metrics to leave out.
    """
    heads: dict[str, list[str]] = {}  # metric -> its lines of help and type
    values: dict[str, dict[str, float]] = {}  # metric -> name with labels -> number
    for page in pages:
        metric = ""
        for line in page.splitlines():
            if line.startswith("# "):
                metric = line.split(" ", 3)[2]
                head = heads.setdefault(metric, [])
                if line not in head:
                    head.append(line)
            elif line:
                name, _, number = line.rpartition(" ")
                row = values.setdefault(metric, {})
                row[name] = row.get(name, 0.0) + float(number)
    lines = []
    for metric, head in heads.items():
        if metric not in without:
            lines += [*head, *(f"{name} {number:g}" for name, number in values.get(metric, {}).items())]
    return "".join(f"{line}\n" for line in lines)
