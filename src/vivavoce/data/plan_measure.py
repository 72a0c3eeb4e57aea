"""Measure a pipeline's own stages on a few of its rows, in this process with one thread: the rates of a plan.

Rows are taken evenly from the whole source. The first goes through all stages once before the clock runs, so that
loading models is not counted, and answers are not cached.
"""

from __future__ import annotations

import copy
import os
import platform
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vivavoce.audio.files import audio_info
from vivavoce.base.errors import ConfigError, DataError
from vivavoce.data.build.contract import Context
from vivavoce.data.build.pipeline import Chain, Parcel, Pipeline, stage_needs, start
from vivavoce.data.conversation import Conversation
from vivavoce.data.manifest import write_set
from vivavoce.data.plan import HOUR_S, codec_spec, stage_settings
from vivavoce.data.plan_rates import SOURCE, STORE, Form, Rate, Rates
from vivavoce.data.recordings import hoist, read_bytes, source_of
from vivavoce.data.shards import num_bytes, read_shard, write_shard


def measure_rates(pipeline: Pipeline, context: Context, count: int, command: str) -> Rates:
    """Run ``count`` rows of the source through every stage.

    Args:
        pipeline: Its source must be there.
        context: With the device; its cache is not used.
        count: Rows; as many as the source has at most.
        command: By which this was called, to be kept with the rates.

    Returns:
        A rate for reading, for each stage and for writing, and the form of the source's recordings.

    Raises:
        ConfigError: The count is 0 or less, or the source is empty.
        DataError: A stage made nothing of the rows, or no audio came of them.
    """
    import torch

    if count < 1:
        raise ConfigError(f"the rows to measure are {count}, wanted 1 or more.")
    context = replace(context, seed=pipeline.seed, cache=None, root=context.root.absolute())
    source = pipeline.make_source(context)
    total = min(len(source), pipeline.rows or len(source))
    if not total:
        raise ConfigError(f"the source has no rows: {dict(pipeline.source)}.")
    numbers = sorted({i * total // count for i in range(count)})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _measured(pipeline, context, source, numbers, command)
    finally:
        torch.set_num_threads(threads)


@dataclass
class _Step:
    """What a stage took, and what is there after it."""

    cpu_s: float
    wall_s: float
    rows: int
    seconds: float
    audio_bytes: int
    shard_bytes: int
    tokens: int


class _Clock:
    """Processor seconds of this process and its children, and seconds by the clock, since it was made."""

    def __init__(self) -> None:
        self._cpu, self._wall = _cpu_s(), time.perf_counter()

    def read(self) -> tuple[float, float]:
        return _cpu_s() - self._cpu, time.perf_counter() - self._wall


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def _measured(
    pipeline: Pipeline, context: Context, source: Any, numbers: Sequence[int], command: str
) -> Rates:
    chain = Chain(pipeline, context)
    chain.run(source.rows(numbers[0], numbers[0] + 1), numbers[0])
    rate_hz = _token_rate(pipeline)
    clock = _Clock()
    parcel = start([row for number in numbers for row in source.rows(number, number + 1)], 0)
    steps = [_step(clock.read(), parcel, context, rate_hz, SOURCE)]
    for number, record in enumerate(pipeline.stages):
        clock = _Clock()
        parcel = chain.run_stage(number, parcel)
        steps.append(_step(clock.read(), parcel, context, rate_hz, record["type"]))
    first = next((step.seconds for step in steps if step.seconds), 0.0)
    if not first:
        raise DataError("no row has audio, at the end of the pipeline either; a plan counts hours of audio.")
    about: dict[str, Any] = {
        "basis": "measured", "date": time.strftime("%Y-%m-%d"), "hardware": hardware(context.device),
        "command": command, "source": f"{len(numbers)} rows, {first / HOUR_S:.4g} h",
    }  # fmt: skip
    rates = [_rate(SOURCE, {"type": pipeline.source["type"]}, None, steps[0], first, "cpu", about)]
    for number, record in enumerate(pipeline.stages):
        needs = stage_needs(record)
        device = "cuda" if context.device == "cuda" and needs.gpus else "cpu"
        settings = stage_settings(record, f"stages[{number}]")
        rates.append(
            _rate(
                record["type"], settings, steps[number], steps[number + 1], first, device, about, needs.gpus
            )
        )
    hours = steps[-1].seconds / HOUR_S or first / HOUR_S
    rates.append(Rate(STORE, cpu_s=_store_s(parcel, context) / hours, **about))
    forms: tuple[Form, ...] = ()
    if steps[0].seconds:
        forms = (Form("as it is here", steps[0].audio_bytes / (steps[0].seconds / HOUR_S), **about),)
    return Rates(tuple(rates), forms)


def _rate(
    stage: str, match: dict[str, Any], before: _Step | None, after: _Step, first: float, device: Any,
    about: dict[str, Any], gpus: float = 0.0,
) -> Rate:  # fmt: skip
    """Seconds and bytes of a stage by the hour.

    Args:
        stage, match, device, about: Of the rate.
        before, after: What came in and what goes out; None if nothing came in.
        first: Seconds of audio where there first was any.
        gpus: Share of a GPU.
    """
    came = (before.seconds if before else 0.0) or first
    went = after.seconds or first
    hours_in, hours_out = came / HOUR_S, went / HOUR_S
    tokens = after.tokens - (before.tokens if before else 0)
    grown = after.shard_bytes - after.audio_bytes
    if before is not None:
        grown -= round((before.shard_bytes - before.audio_bytes) * went / came)
    coded = tokens > 0 and grown > 0
    same = before is not None and before.rows == after.rows
    return Rate(
        stage,
        match=match,
        device=device,
        cpu_s=after.cpu_s / hours_in,
        gpu_s=after.wall_s * gpus / hours_in if device == "cuda" else 0.0,
        keeps=went / came,
        rows_per_hour=None if same else after.rows / hours_out,
        audio_bytes=after.audio_bytes / hours_out if after.seconds else None,
        other_bytes=0.0 if coded else grown / hours_out,
        token_bytes=grown / tokens if coded else 0.0,
        **about,
    )


def _step(used: tuple[float, float], parcel: Parcel, context: Context, rate_hz: int, name: str) -> _Step:
    """Weigh the rows that are there after a stage, as a shard would hold them."""
    if not parcel.kept:
        kinds = Counter(f"{line['stage']}: {line['kind']}" for line in parcel.aside)
        told = ", ".join(f"{kind} {n}" for kind, n in kinds.items())
        first = f"; the first: {parcel.aside[0]['reason']}" if parcel.aside else ""
        raise DataError(f"nothing is left after {name} ({told}{first}). Measure other rows, or more.")
    rows = [hoist(copy.deepcopy(row), context.root) for _, row in parcel.kept]
    seconds, tokens = 0.0, 0
    for row in rows:
        for part in row.audio_parts():
            ids = (part.tokens or {}).get("ids") or ()
            tokens += len(ids)
            if part.audio is not None:
                end = part.end_s
                length = audio_info(read_bytes(source_of(part, row))).duration_s or end or 0.0
                seconds += (length if end is None else min(length, end)) - part.start_s
            elif part.tokens:
                seconds += part.tokens["num_samples"] / rate_hz
    with tempfile.TemporaryDirectory() as folder:
        size = write_shard(Path(folder) / "rows.parquet", rows)
    return _Step(*used, len(rows), seconds, sum(map(num_bytes, rows)), size, tokens)


def _store_s(parcel: Parcel, context: Context) -> float:
    """Processor seconds of writing rows twice, as a block and into the set, as a run does."""
    rows: list[Conversation] = [copy.deepcopy(row) for _, row in parcel.kept]
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        block = Path(folder) / "block.parquet"
        write_shard(block, [hoist(row, context.root) for row in rows])
        write_set(Path(folder) / "set", read_shard(block))
    return clock.read()[0]


def _token_rate(pipeline: Pipeline) -> int:
    """Samples per second of the codes that rows have in the end, Hz; 1 if they have none."""
    for number, record in reversed(list(enumerate(pipeline.stages))):
        if record["type"] == "tokenize":
            settings = stage_settings(record, f"stages[{number}]")
            return codec_spec(settings["codec"], settings["options"]).sample_rate
    return 1


def hardware(device: str) -> str:
    """The machine in a few words."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass  # not Linux; what Python knows must do
    told = f"1 of {os.cpu_count()} cores, {model}"
    if device == "cuda":
        import torch

        told += f", {torch.cuda.get_device_name()}"
    return told
