"""A whole run: rows, model, training, and what is left in its folder.

| in the folder | what |
|---|---|
| `config.json` | the resolved recipe, versions and command |
| `data/` | sets that pipelines of the recipe made |
| `checkpoints/` | what the run goes on from |
| `metrics.jsonl`, `report.html`, `loss.png` | numbers, as they came and on one page |
| `samples/step-*/` | what the model said then |
| `model/` | the trained model, for every command that takes one |
"""

from __future__ import annotations

import json
import math
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

import vivavoce
from vivavoce.base.errors import ConfigError, VivavoceError
from vivavoce.base.records import read_record, write_record
from vivavoce.base.whole_files import write_whole
from vivavoce.data.build.pipeline import changes
from vivavoce.data.conversation import Conversation
from vivavoce.data.reader import DataSource
from vivavoce.models.config import EmbeddingsIn
from vivavoce.models.lora import is_adapter
from vivavoce.training.config import SetSettings, TrainConfig
from vivavoce.training.cross_entropy import ends_in_head
from vivavoce.training.held_out import HeldOut
from vivavoce.training.loader import Loader, all_rows, rows_of_rank, told_rows
from vivavoce.training.loop import Trainer
from vivavoce.training.memory import check_memory
from vivavoce.training.metrics_log import check_trackers
from vivavoce.training.models import build_model
from vivavoce.training.objectives import OBJECTIVES
from vivavoce.training.optimizers import OPTIMIZERS
from vivavoce.training.packed_attention import use_packed_attention
from vivavoce.training.parallel import gathered_state, spread
from vivavoce.training.processors import load_processor
from vivavoce.training.report import write_report
from vivavoce.training.samples import Said, answer_rows, write_samples
from vivavoce.training.schedules import build_schedule
from vivavoce.training.sets import check_sets, prepare_sets
from vivavoce.training.trainable import Trainable, Trained, choose
from vivavoce.training.updates import Progress, deciding, writing_results
from vivavoce.training.world import World

Echo = Callable[[str], None]
MANY_PASSES = 10  # over the rows, above which a run is told so


@dataclass
class Run:
    """A run that is ready to train.

    Attributes:
        config: Its recipe.
        folder: Where everything goes.
        world: Of ranks.
        sets, held_out: With paths.
        model, processor: Built, with what is trained chosen, spread over the world.
        trained: What is trained.
        loader: Training rows, without end.
        steps: Updates in all.
        mode: How the model is spread.
    """

    config: TrainConfig
    folder: Path
    world: World
    sets: Sequence[SetSettings]
    held_out: Sequence[SetSettings]
    model: Any
    processor: Any
    trained: Trained
    loader: Loader
    steps: int
    mode: str

    @property
    def can_answer(self) -> bool:
        """Whether this process has the whole model and is the one to ask."""
        return self.world.is_first and self.mode in ("none", "replicate")


def prepare(config: TrainConfig, folder: Path, world: World, echo: Echo = lambda line: None) -> Run:
    """Make rows and model of a run, and refuse what cannot train; what takes long comes last.

    Raises:
        VivavoceError: Settings, rows or model that do not go together; nothing was trained then.
    """
    settings = check_settings(config, world)
    rendering = OBJECTIVES.get(str(config.objective["type"])).rendering
    fault = world.gather(_claim(folder, config) if world.is_first else "")[0]
    if fault:
        raise ConfigError(fault)
    check_sets(config.data.sets)
    check_sets(config.data.held_out)
    check_memory(config, world)
    sets = prepare_sets(config.data.sets, folder, world, echo)
    held_out = prepare_sets(config.data.held_out, folder, world, echo)
    echo("the model")
    model, processor = build_model(config.model, folder, config.seed, world)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        trained = choose(model, settings)
    use_packed_attention(model.language_model)
    model.config.use_cache = False
    ends_in_head(
        model.eval().language_model
    )  # found out by a pass, while the model is whole and draws no dropout
    loader = Loader(
        sets, config.data, config.batch, processor, rendering, config.seed, world.rank, world.size
    )
    steps = config.steps or max(1, math.ceil(loader.rows_a_pass * config.epochs / config.batch.rows))
    build_schedule(config.schedule, steps)
    passes = steps * config.batch.rows / loader.rows_a_pass
    if passes > max(MANY_PASSES, 0 if config.steps else config.epochs):
        trained.findings.append(
            f"the rows are seen {passes:,.0f} times: {steps:,} updates of {config.batch.rows}, and "
            f"{loader.rows_a_pass:,} rows; give it more rows, or fewer steps."
        )
    parallel = config.parallel
    mode = spread(
        model,
        world,
        parallel.mode,
        activation_checkpointing=parallel.activation_checkpointing,
        compile=parallel.compile,
        autocast=parallel.autocast,
    )
    return Run(config, folder, world, sets, held_out, model, processor, trained, loader, steps, mode)


def check_settings(config: TrainConfig, world: World) -> Trainable:
    """Read every setting that is read late, before anything is made.

    Returns:
        What is trained.

    Raises:
        ConfigError: Unknown names, values out of range, or settings that do not go together.
        MissingExtraError: A tracker is not installed.
    """
    record = dict(config.objective)
    read_record(OBJECTIVES.get(str(record.pop("type"))).config_class, record, "objective")
    OPTIMIZERS.get(config.optimizer.type)
    build_schedule(config.schedule, config.steps or 1000)
    rows_of_rank(config.batch, world.size)
    check_trackers(config.keep.trackers)
    if config.objective["type"] == "distill" and config.model.start is not None:
        ears = load_processor(config.model.start).ears
        if not isinstance(ears, EmbeddingsIn):
            raise ConfigError(
                f"objective.type is 'distill', which teaches ears by embeddings, and {config.model.start} "
                f"{'does not hear' if ears is None else 'hears by codec tokens'}; take 'sft'."
            )
    return read_record(Trainable, config.train, "train")


def train(
    config: TrainConfig,
    folder: Path,
    world: World | None = None,
    report: Callable[[Progress], None] | None = None,
    echo: Echo = lambda line: None,
) -> dict[str, Any]:
    """Train a recipe, or go on with it; the same call after any stop ends with the same weights.

    Args:
        config: The recipe.
        folder: Of the run.
        world: Of ranks; by default what the launcher says.
        report: Told how far the run is.
        echo: Told what is done before and after, line by line.

    Returns:
        The last metrics, with ``step``, ``steps``, ``rows`` (what became of the rows, in sentences) and, at the end,
        ``exact`` (share of sampled answers that are right to the last token) and ``model`` (its folder).

    Raises:
        VivavoceError: What is wrong with recipe, rows or model.
    """
    world = world or World.from_environment()
    run = prepare(config, folder, world, echo)
    if world.is_first:
        _write_config(run)
    for finding in run.trained.findings:
        echo(f"warning: {finding}")
    measure = sample = None
    if run.held_out:
        held_out = HeldOut(config, run.held_out, run.processor, world)

        def measure(step: int) -> Mapping[str, Any]:
            return held_out.measure(run.model)

    if config.keep.sample_every > 0 and run.can_answer:

        def sample(step: int) -> None:
            answer(run, step)

    trainer = Trainer(
        config, folder, run.model, run.processor, run.loader, world, run.steps, measure, sample, report, echo
    )
    values: dict[str, Any] = dict(trainer.run())
    totals, faults = all_rows(run.loader, world)
    values |= {"step": trainer.step, "steps": run.steps, "rows": told_rows(totals, faults[:5])}
    if trainer.stopped:
        return values
    with writing_results(folder):
        values |= _finish(run, values, echo)
    return values


def answer(run: Run, step: int) -> tuple[list[Said], list[dict[str, Any]]]:
    """Have the model answer its sample rows.

    Returns:
        Answers, and what `report.write_report` takes of them, with what was written.
    """
    before = run.model.config.use_cache
    run.model.config.use_cache = True
    try:
        said = answer_rows(run.model, run.processor, _sample_rows(run))
    finally:
        run.model.config.use_cache = before
    return said, write_samples(run.folder, said, step)


def _finish(run: Run, values: Mapping[str, Any], echo: Echo) -> dict[str, Any]:
    """Save the model, have it answer some rows, and write the report."""
    place = run.folder / "model"
    state = gathered_state(run.model, run.world) if run.mode in ("fsdp", "hsdp") else None
    found: dict[str, Any] = {}
    if run.world.is_first:
        save_model(run, place, state)
        found["model"] = str(place)
    samples: list[dict[str, Any]] = []
    if run.config.keep.sample_every >= 0 and run.can_answer:
        said, samples = answer(run, run.steps)
        if said:
            found["exact"] = sum(one.exact for one in said) / len(said)
    if run.world.is_first:
        facts = {
            "updates": f"{values['step']:,}",
            "trained": str(run.trained),
            "tokens learned from": f"{values.get('tokens', 0):,.0f}",
            "audio": f"{values.get('audio_s', 0) / 3600:.2f} h",
            "loss": f"{values.get('loss', math.nan):.4f}",
        }
        if "held_out/loss" in values:
            facts["loss on held-out rows"] = f"{values['held_out/loss']:.4f}"
        if values.get("skipped_steps"):
            facts["updates without a finite gradient"] = f"{values['skipped_steps']:,.0f}"
        if "exact" in found:
            facts["answers right to the last token"] = f"{found['exact']:.0%} of {len(samples)}"
        write_report(run.folder, run.config.description or run.config.name, facts, samples, values["rows"])
        echo(f"model: {place}")
    run.world.barrier()
    return found


def save_model(run: Run, place: Path, state: Mapping[str, Any] | None = None) -> None:
    """Write model and processor as a folder that every command takes."""
    model = run.model
    model.config.use_cache = True
    text_trained = any(
        p.requires_grad for n, p in model.named_parameters() if n.startswith("language_model.")
    )
    only_adapters = all(
        is_adapter(n)
        for n, p in model.named_parameters()
        if p.requires_grad and n.startswith("language_model.")
    )
    merged = model.config.text_model_ref is not None and text_trained and not only_adapters
    if merged:
        model.config.text_model_ref = None
    part = place.with_name(f".{place.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    model.save_pretrained(part, **({"state_dict": state} if state is not None else {}))
    run.processor.save_pretrained(part)
    shutil.rmtree(place, ignore_errors=True)
    part.rename(place)


def _sample_rows(run: Run) -> list[tuple[Conversation, Path | None]]:
    """The first rows that are held out, or else of training."""
    rows: list[tuple[Conversation, Path | None]] = []
    for one in run.held_out or run.sets:
        source = DataSource(str(one.path), one.name)
        for number in range(min(len(source), run.config.keep.sample_rows - len(rows))):
            with suppress(VivavoceError):
                rows.append((source[number], source.root))
    return rows


def _claim(folder: Path, config: TrainConfig) -> str:
    """Make the folder of a run; why it cannot be, "" if it can."""
    path = folder / "config.json"
    if folder.exists() and not folder.is_dir():
        return f"{folder} is a file; wanted a folder for the run."
    if path.is_file() and (folder / "checkpoints").is_dir():
        before = deciding(json.loads(path.read_text(encoding="utf-8"))["recipe"])
        now = deciding(write_record(config))
        if before != now:
            return (
                f"{folder} holds another run ({changes(before, now)}); choose another folder, or remove it."
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"{folder} cannot be made: {error}."
    return ""


def _write_config(run: Run) -> None:
    """Write what this run is and what it runs on."""
    record = {
        "recipe": write_record(run.config),
        "steps": run.steps,
        "mode": run.mode,
        "processes": run.world.size,
        "device": str(run.world.device),
        "versions": {
            "vivavoce": vivavoce.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
    }
    text = json.dumps(record, indent=2, ensure_ascii=False, default=str) + "\n"
    write_whole(run.folder / "config.json", text)
