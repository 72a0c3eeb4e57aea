"""Plan how a pipeline is made at scale, before any machine is hired: rows, processor time, storage, tokens, cost.

A plan is arithmetic on rates (`plan_rates.py`): every figure grows linearly with the hours of audio. It says of each
stage whether its rate was measured or is assumed. Machines that wait, fail or start are not in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vivavoce.base.errors import ConfigError, VivavoceError
from vivavoce.base.records import read_record, write_record
from vivavoce.codecs.contract import CodecSpec
from vivavoce.codecs.published import HUB_IDS, USUAL, published_specs
from vivavoce.data.build import BUILDERS
from vivavoce.data.build.pipeline import Pipeline
from vivavoce.data.plan_rates import SOURCE, STORE, Rate, Rates, own_rates

HOUR_S = 3600
ENCODEC_KBPS = 0.75  # of one codebook at 24 kHz


@dataclass(frozen=True)
class Resources:
    """What there is to work with.

    Attributes:
        cores, gpus: Of all machines together.
        core_hour_price, gpu_hour_price: In any currency; None leaves it out of the cost.
    """

    cores: int = 1
    gpus: int = 0
    core_hour_price: float | None = None
    gpu_hour_price: float | None = None

    def __post_init__(self) -> None:
        faults = [f"cores is {self.cores}, wanted 1 or more"] if self.cores < 1 else []
        faults += [f"gpus is {self.gpus}, wanted 0 or more"] if self.gpus < 0 else []
        for name in ("core_hour_price", "gpu_hour_price"):
            price = getattr(self, name)
            if price is not None and not 0 <= price < float("inf"):
                faults.append(f"{name} is {price}, wanted 0 or more")
        if faults:
            raise ConfigError("; ".join(faults) + ".")

    def cost(self, cpu_hours: float, gpu_hours: float) -> float | None:
        """What hours cost by the prices that are known; None if none that is needed is."""
        priced = [(cpu_hours, self.core_hour_price), (gpu_hours, self.gpu_hour_price)]
        known = [hours * price for hours, price in priced if price is not None]
        return sum(known) if known else None


@dataclass(frozen=True)
class PlannedStage:
    """A stage and what it takes.

    Attributes:
        name: "source", a builder, or "store".
        device: "cpu" or "cuda".
        hours_in, hours_out: Of audio.
        rows_out: None if not known.
        cpu_hours, gpu_hours: Of one core and of one GPU.
        wall_hours: With all cores and GPUs for this stage alone.
        cost: None without prices.
        basis: "measured" or "assumed", and which figures of a measured rate are assumed.
        told: Where the rate is from.
    """

    name: str
    device: str
    hours_in: float
    hours_out: float
    rows_out: float | None
    cpu_hours: float
    gpu_hours: float
    wall_hours: float
    cost: float | None
    basis: str
    told: str


@dataclass(frozen=True)
class Stored:
    """Something on a disk."""

    what: str
    num_bytes: float
    told: str


@dataclass(frozen=True)
class Coded:
    """Tokens of a codec and layout for the hours that are encoded."""

    codec: str
    layout: str
    tokens_per_s: float
    tokens: float


@dataclass(frozen=True)
class Plan:
    """What making ``hours`` takes.

    Attributes:
        name: Of the pipeline.
        hours: Of audio at its beginning.
        resources: As given.
        stages: In order, reading and writing included.
        storage: Source recordings in every form that is known (choose one), then what is made.
        tokens: That the pipeline's `tokenize` stages make.
        layouts: What other codecs would make of the same audio.
        cpu_hours, gpu_hours, wall_hours, cost: Of all. Stages work at once, so wall time is the greater of the cores'
            and the GPUs'.
    """

    name: str
    hours: float
    resources: Resources
    stages: tuple[PlannedStage, ...]
    storage: tuple[Stored, ...]
    tokens: tuple[Coded, ...]
    layouts: tuple[Coded, ...]
    cpu_hours: float
    gpu_hours: float
    wall_hours: float
    cost: float | None


@dataclass
class _Flow:
    """What passes from stage to stage: hours, rows, bytes per hour."""

    hours: float
    rows: float | None
    audio_bytes: float
    other_bytes: float = 0.0
    tokens: list[Coded] = field(default_factory=list)
    token_bytes: float = 0.0


def make_plan(
    pipeline: Pipeline,
    hours: float,
    resources: Resources | None = None,
    rates: Sequence[Rates] = (),
    rows: float | None = None,
) -> Plan:
    """Plan a pipeline.

    Args:
        pipeline: Its source need not be there.
        hours: Of audio in the source; where that is text, of the speech that is made of it.
        resources: One core if None.
        rates: Tables that come before the package's own; the first that has a rate counts.
        rows: Rows of the source, if known.

    Raises:
        ConfigError: Hours or rows of 0 or less, or a stage without a rate.
    """
    if not 0 < hours < float("inf"):
        raise ConfigError(f"hours is {hours:g}, wanted more than 0: the hours of audio in the source.")
    if rows is not None and not 0 < rows < float("inf"):
        raise ConfigError(f"rows is {rows:g}, wanted more than 0: the rows of the source.")
    resources, tables = resources or Resources(), [*rates, own_rates()]
    form = next(form for table in tables for form in table.forms)
    flow = _Flow(hours, rows, form.audio_bytes)
    made = [_pass(flow, SOURCE, dict(pipeline.source), tables, resources)]
    for number, record in enumerate(pipeline.stages):
        settings = stage_settings(record, f"stages[{number}]")
        made.append(_pass(flow, record["type"], settings, tables, resources))
        if record["type"] == "tokenize":
            spec = codec_spec(settings["codec"], settings["options"])
            flow.tokens.append(_coded(spec, settings["layout"], flow.hours))
            flow.audio_bytes *= bool(settings["keep_audio"])
    made.append(_pass(flow, STORE, {}, tables, resources))
    cpu, gpu = (sum(getattr(stage, name) for stage in made) for name in ("cpu_hours", "gpu_hours"))
    storage = []
    if pipeline.source["type"] != "text":
        forms = {f.name: f for table in reversed(tables) for f in table.forms}
        forms = {form.name: form, **forms}
        storage = [Stored(f"source: {f.name}", f.audio_bytes * hours, f.told()) for f in forms.values()]
    shards = (flow.audio_bytes + flow.other_bytes) * flow.hours + flow.token_bytes
    storage += [
        Stored("finished blocks, until shards are written", shards, "as large as the shards"),
        Stored("shards", shards, "by the rates above"),
    ]
    coded_hours = made[-1].hours_out
    layouts = tuple(_coded(spec, _usual_layout(spec), coded_hours) for spec in published_specs())
    return Plan(
        pipeline.name, hours, resources, tuple(made), tuple(storage), tuple(flow.tokens), layouts, cpu, gpu,
        _wall(cpu, gpu, resources), resources.cost(cpu, gpu),
    )  # fmt: skip


def stage_settings(record: Any, where: str) -> dict[str, Any]:
    """All settings of a stage, defaults included, with a codec by its full name."""
    cls = BUILDERS.get(record["type"]).config_class
    settings = write_record(read_record(cls, {k: v for k, v in record.items() if k != "type"}, where))
    if record["type"] == "tokenize":
        settings["codec"] = USUAL.get(settings["codec"], settings["codec"])
    return dict(settings)


def codec_spec(name: str, options: Any) -> CodecSpec:
    """The numbers of a codec; one that is known by name is not loaded.

    Raises:
        ConfigError: It is neither known nor a folder here.
    """
    wanted = USUAL.get(name, name)
    for spec in published_specs():
        if wanted in (spec.name, HUB_IDS.get(spec.name)):
            levels = options.get("num_quantizers")
            if "bandwidth" in options:
                levels = round(options["bandwidth"] / ENCODEC_KBPS)
            return replace(spec, strides=(1,) * levels) if levels else spec
    if not Path(name).is_dir():
        known = ", ".join(spec.name for spec in published_specs())
        raise ConfigError(f"the codec {name!r} is not known: {known}; give a folder to plan for another.")
    from vivavoce.codecs.loading import load_codec

    try:
        return load_codec(name, **options).spec
    except VivavoceError as error:
        raise ConfigError(f"the codec {name!r} cannot be loaded to count its tokens: {error}") from error


def _pass(
    flow: _Flow, name: str, settings: dict[str, Any], tables: Sequence[Rates], resources: Resources
) -> PlannedStage:
    """Let the flow through a stage, and say what that took."""
    rate = _rate(name, settings, tables, resources)
    came = flow.hours
    flow.hours *= rate.keeps
    if rate.rows_per_hour is not None and not (name == SOURCE and flow.rows is not None):
        flow.rows = flow.hours * rate.rows_per_hour
    elif flow.rows is not None and name not in (SOURCE, STORE):
        flow.rows *= rate.keeps
    if rate.audio_bytes is not None and name not in (SOURCE, STORE):
        flow.audio_bytes = rate.audio_bytes
    flow.other_bytes += rate.other_bytes
    if name == "tokenize" and rate.token_bytes:
        spec = codec_spec(settings["codec"], settings["options"])
        flow.token_bytes += rate.token_bytes * spec.tokens_per_second * HOUR_S * flow.hours
    else:
        flow.token_bytes *= rate.keeps
    cpu, gpu = rate.cpu_s * came / HOUR_S, rate.gpu_s * came / HOUR_S
    basis = rate.basis + (f", assumed {', '.join(rate.assumed)}" if rate.assumed else "")
    return PlannedStage(
        name, rate.device, came, flow.hours, flow.rows, cpu, gpu, _wall(cpu, gpu, resources),
        resources.cost(cpu, gpu), basis, rate.told(),
    )  # fmt: skip


def _rate(name: str, settings: dict[str, Any], tables: Sequence[Rates], resources: Resources) -> Rate:
    """The rate of a stage: for a GPU where there are any and one is known, else for cores."""
    for device in ("cuda", "cpu") if resources.gpus else ("cpu",):
        for table in tables:
            found = table.find(name, settings, device)
            if found is not None:
                return found
    plain = {k: v for k, v in settings.items() if isinstance(v, str | int | float) and len(str(v)) < 60}
    told = ", ".join(f"{k}={v}" for k, v in plain.items()) or "these settings"
    only_gpu = any(table.find(name, settings, "cuda") for table in tables)
    more = " There is one for GPUs: --gpus N." if only_gpu else ""
    raise ConfigError(
        f"there is no rate for the stage {name!r} with {told}; "
        f"measure it by --measure on a few rows of the source, or give it in --rates FILE.{more}"
    )


def _wall(cpu_hours: float, gpu_hours: float, resources: Resources) -> float:
    return max(cpu_hours / resources.cores, gpu_hours / resources.gpus if resources.gpus else gpu_hours)


def _coded(spec: CodecSpec, layout: str, hours: float) -> Coded:
    return Coded(spec.name, layout, spec.tokens_per_second, spec.tokens_per_second * HOUR_S * hours)


def _usual_layout(spec: CodecSpec) -> str:
    return "interleaved" if len(set(spec.strides)) == 1 else "orpheus"
