"""The runner: every task to every system, batch by batch, into a folder that a stopped run goes on in.

A batch's lines are written in one piece when all its answers are there, so a killed run loses at most one batch per
system. A line that was torn by the kill is cut off before anything is added.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vivavoce.audio.files import write_audio
from vivavoce.base.errors import ConfigError, VivavoceError
from vivavoce.evaluation.results import (
    Outcome,
    RunRecord,
    TaskRecord,
    read_outcomes,
    read_run,
    write_line,
    write_run,
)
from vivavoce.evaluation.run.answerers import Local
from vivavoce.evaluation.run.environment import hardware, package_versions
from vivavoce.evaluation.run.judging import judge_answers
from vivavoce.evaluation.run.noise import noisy
from vivavoce.evaluation.run.settings import RunSettings
from vivavoce.evaluation.run.stored import StoredCase, batches, stored_cases
from vivavoce.evaluation.run.systems import APPLIES, Given, System
from vivavoce.evaluation.run.team import Team, make_team
from vivavoce.evaluation.tasks import expand, make_task
from vivavoce.evaluation.tasks.task import Task, TaskOptions, safe_id
from vivavoce.inference.assistant import Assistant

ITEM_FAULTS = (VivavoceError, RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, OSError)
"""What may go wrong with one question without ending the run."""


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    task: str
    system: str
    done: int
    total: int


Report = Callable[[Progress], None]
TaskLike = str | Task | Mapping[str, Any]
"""A name of a task or suite, a task, or the record of the user's own (`tasks.own.OwnTask`)."""


def run_evaluation(
    model: str | Assistant,
    tasks: Sequence[TaskLike],
    systems: Sequence[str],
    out: Path,
    settings: RunSettings | None = None,
    progress: Report | None = None,
) -> None:
    """Put tasks to a model and to what it is compared with; answers that are in the folder are not asked for again.

    Args:
        model: Name, folder, hub id, ``openai:URL[#MODEL]``, or an assistant.
        tasks: See `TaskLike`.
        systems: Rows of `APPLIES`; none for all that fit.
        out: The run's folder; see `results`.
        settings: How.
        progress: Called after each batch.

    Raises:
        ConfigError: Unknown names, nothing to do, or the folder holds a run of another model, seed or limit, or is
            being written by another process.
        ModelError: The model cannot be loaded.
    """
    settings, out = settings or RunSettings(), Path(out)
    made = _tasks(tasks, settings)
    if unknown := [name for name in systems if name not in APPLIES]:
        raise ConfigError(f"unknown system {unknown[0]!r}; wanted some of {', '.join(APPLIES)}.")
    name = model if isinstance(model, str) else model.name
    out.mkdir(parents=True, exist_ok=True)
    with _alone(out):
        record = _begin(name, made, out, settings)
        stored = {task.name: stored_cases(task, out, settings.limit) for task in made}
        team = make_team(model, made, stored, systems, settings)
        record = dataclasses.replace(
            record,
            systems={**record.systems, **{s.name: s.words for s in team.systems}},
            no_base=team.no_base,
            model_facts=team.facts,
        )
        write_run(record, out)
        pairs = [(t, s) for t in made for s in team.systems if t.kind in APPLIES[s.name]]
        with ExitStack() as stack:
            if (settings.workers or team.model.parallel) > 1:
                for answerer in {id(a): a for a in (team.model, team.base) if isinstance(a, Local)}.values():
                    stack.enter_context(answerer.together())
            for task, system in pairs:
                _fill(task, system, team, stored[task.name], out, settings, progress)
        if settings.judge:
            judge_answers(made, out, settings)
        if settings.probes:
            team.probe(made, stored, out)


def run_evaluations(
    models: Sequence[str],
    tasks: Sequence[TaskLike],
    systems: Sequence[str],
    out: Path,
    settings: RunSettings | None = None,
    progress: Report | None = None,
) -> dict[str, Path]:
    """Evaluate several models side by side; gives the folder of each.

    Raises:
        ConfigError: As `run_evaluation`; or two models whose folders would be the same.
    """
    folders = {model: Path(out) / safe_id(model.rpartition("/")[2] or model) for model in models}
    if len(set(folders.values())) < len(models):
        folders = {model: Path(out) / safe_id(model) for model in models}
    if len(set(folders.values())) < len(models):
        raise ConfigError(f"two of the models {', '.join(models)} have one name; evaluate them in two runs.")
    for model, folder in folders.items():
        run_evaluation(model, tasks, systems, folder, settings, progress)
    return folders


def _tasks(tasks: Sequence[TaskLike], settings: RunSettings) -> list[Task]:
    made: list[Task] = [task for task in tasks if isinstance(task, Task)]
    for line in (task for task in tasks if isinstance(task, Mapping)):
        made.append(make_task("own", TaskOptions(limit=settings.limit, seed=settings.seed, settings=line)))
    names = [task for task in tasks if isinstance(task, str)]
    for name in expand(names) if names else []:
        config = (settings.config or {}).get(name)
        options = TaskOptions(settings.source, settings.limit, settings.seed, settings.cache, config)
        made.append(make_task(name, options))
    if not made:
        expand([])
    for task in list(made):
        if task.kind in ("transcribe", "listen", "choose"):
            made += [noisy(task, level, settings.seed) for level in settings.snr_db]
    if len({task.name for task in made}) < len(made):
        raise ConfigError("two tasks have one name; give each its own.")
    return made


def _begin(model: str, tasks: Sequence[Task], out: Path, settings: RunSettings) -> RunRecord:
    """The record of this run, joined to what the folder has of the same one."""
    # what answers do not hang on may change between two runs into one folder
    loose = {"batch_size", "cache", "probes", "device", "key_env"}
    plain: dict[str, Any] = {k: v for k, v in asdict(settings).items() if k not in loose}
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}
    record = RunRecord(
        model,
        {task.name: task.record() for task in tasks},
        settings=plain,
        seed=settings.seed,
        date=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        hardware=hardware(),
        versions=package_versions(),
    )
    if not (out / "run.json").is_file():
        write_run(record, out)
        return record
    before = read_run(out)
    compared = {"limit", "seed", "max_new_tokens", "cascade", "base", "listener"}
    unlike = [k for k in compared if before.settings.get(k) != plain.get(k)]
    unlike += ["model"] if before.model != model else []
    unlike += [
        f"task {n}" for n, t in record.tasks.items() if n in before.tasks and not _same(before.tasks[n], t)
    ]
    if unlike:
        raise ConfigError(
            f"{out} holds a run with another {', '.join(sorted(unlike))}; choose another folder, or delete it."
        )
    return dataclasses.replace(record, tasks={**before.tasks, **record.tasks}, systems=before.systems)


def _same(a: TaskRecord, b: TaskRecord) -> bool:
    return (a.kind, a.prompt, a.source, a.twin) == (b.kind, b.prompt, b.source, b.twin)


def _fill(
    task: Task,
    system: System,
    team: Team,
    cases: Sequence[StoredCase],
    out: Path,
    settings: RunSettings,
    progress: Report | None,
) -> None:
    """Ask what is not answered yet."""
    path = out / "items" / task.name / f"{system.name}.jsonl"
    cut_torn_line(path)
    done = read_outcomes(path) if path.is_file() else {}
    able = [case for case in cases if team.can(system, task, case)]
    count = len([case for case in able if case.question.id in done])
    workers = settings.workers or system.parallel
    for batch in batches(able, settings.batch_size):
        left = [case for case in batch if case.question.id not in done]
        if not left:
            continue
        asked = [(system, task, case, team, out) for case in left]
        if workers > 1:
            with ThreadPoolExecutor(workers) as pool:
                rows = list(pool.map(_ask, asked))
        else:
            rows = [_ask(one) for one in asked]
        append(path, rows)
        count += len(rows)
        if progress is not None:
            progress(Progress(task.name, system.name, count, len(able)))


def _ask(asked: tuple[System, Task, StoredCase, Team, Path]) -> Outcome:
    """One answer, or what went wrong with it."""
    system, task, case, team, out = asked
    began = time.perf_counter()
    try:
        given = system.answer(case, task)
        outcome = _keep_sound(given, task, system, out)
        if task.kind == "speak" and given.sound is not None:
            return dataclasses.replace(outcome, hypothesis=team.listener(task).hear(*given.sound))
        return outcome
    except ITEM_FAULTS as error:
        seconds = round(time.perf_counter() - began, 5)
        return Outcome(case.question.id, error=f"{type(error).__name__}: {error}"[:500], total_s=seconds)


def _keep_sound(given: Given, task: Task, system: System, out: Path) -> Outcome:
    if given.sound is None or system.name == "original" or not len(given.sound.waveform):
        return given.outcome
    name = f"audio/{task.name}/{system.name}/{given.outcome.id}.flac"
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    write_audio(out / name, *given.sound)
    return dataclasses.replace(given.outcome, audio=name)


def append(path: Path, rows: Sequence[Outcome]) -> None:
    """Add lines in one write, and see them on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(write_line(row) for row in rows).encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        while data:
            data = data[os.write(descriptor, data) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cut_torn_line(path: Path) -> None:
    """Take away what stands after the last end of line: half a line of a run that was killed."""
    if not path.is_file():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with path.open("r+b") as file:
            file.truncate(whole)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Only one process writes a folder; the system lets go of the lock when a process ends, however it does."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                f"{out} is being written by another evaluation; wait, or choose another."
            ) from None
        yield
