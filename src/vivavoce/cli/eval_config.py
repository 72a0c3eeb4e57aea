"""What an evaluation is asked for, from options and a YAML file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from vivavoce.base.errors import ConfigError
from vivavoce.base.records import read_record

if TYPE_CHECKING:
    from vivavoce.evaluation.run.settings import RunSettings
    from vivavoce.evaluation.tasks.task import Task


@dataclass(frozen=True)
class Plan:
    """An evaluation.

    Attributes:
        models: Names, folders or hub ids; at an endpoint the names it knows.
        tasks: Names of tasks and suites, or ``{NAME: {"data", "view", "metric", ...}}`` for one's own.
        systems: Which to ask; none for all that fit.
        out: Folder of the run.
        cascade: ``ASR+LLM``.
        retention: The language model before speech training.
        noise: Levels of a sweep, dB.
        limit: Most questions per task.
        source: "hub" or "twin".
        endpoint: Address with OpenAI's shapes.
        key_env: Environment variable with its key.
        seed: Of all that is drawn.
        device: For local models.
        batch_size: Answers written at a time.
        workers: Questions asked at once.
        aloud: Have spoken tasks answered aloud.
        listener: Recogniser for what was spoken.
        max_new_tokens: Of an answer.
        configs: Task -> configuration of its data set (a language).
        judge: Model that marks open answers, as in `RunSettings`; None leaves such metrics out.
        judge_endpoint: Its address and more, as in `RunSettings`.
        root: Where relative paths begin; the file's folder.
    """

    models: tuple[str, ...] = ()
    tasks: tuple[Any, ...] = ("nano",)
    systems: tuple[str, ...] = ()
    out: str | None = None
    cascade: str | None = None
    retention: str | None = None
    noise: tuple[float, ...] = ()
    limit: int | None = None
    source: str = "hub"
    endpoint: str | None = None
    key_env: str | None = None
    seed: int = 0
    device: str | None = None
    batch_size: int = 8
    workers: int | None = None
    aloud: bool = True
    listener: str | None = None
    max_new_tokens: int = 512
    configs: dict[str, str] = field(default_factory=dict)
    judge: str | None = None
    judge_endpoint: dict[str, Any] | None = None
    root: Path = Path()

    @property
    def called(self) -> str:
        """A name for the folder."""
        name = "models" if len(self.models) > 1 else self.models[0].rstrip("/").rpartition("/")[2]
        return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "model"

    def made_tasks(self) -> list[str | Task]:
        """Names of tasks, and tasks of one's own.

        Raises:
            ConfigError: One is neither, or has an unknown key.
        """
        return [task if isinstance(task, str) else self._own(task) for task in self.tasks]

    def _own(self, task: Any) -> Task:
        from vivavoce.evaluation.tasks.own import own
        from vivavoce.evaluation.tasks.task import TaskOptions

        row = dict(task) if isinstance(task, Mapping) else {}
        if len(row) == 1 and isinstance(inner := next(iter(row.values())), Mapping):
            row = {"name": str(next(iter(row))), **inner}
        if not isinstance(row.get("data"), str):
            raise ConfigError(
                f"task {task!r} is no name; wanted one, or {{data: FILE, view: asr, metric: wer}}."
            )
        row["data"] = str(self.root / row["data"])
        return own(TaskOptions(self.source, self.limit, self.seed, settings=row))

    def settings(self) -> RunSettings:
        """For the runner."""
        from vivavoce.evaluation.run.settings import RunSettings

        return RunSettings(
            limit=self.limit,
            seed=self.seed,
            batch_size=self.batch_size,
            workers=self.workers,
            aloud=self.aloud,
            cascade=self.cascade,
            listener=self.listener,
            base=self.retention,
            snr_db=self.noise,
            max_new_tokens=self.max_new_tokens,
            source=self.source,
            config=self.configs or None,
            device=self.device,
            key_env=self.key_env,
            judge=self.judge,
            judge_endpoint=self.judge_endpoint,
        )


def read_config(file: Path | None, given: Mapping[str, Any]) -> Plan:
    """Read a plan.

    Args:
        file: YAML with the fields of `Plan`; None for none.
        given: Options, which win over the file.

    Raises:
        ConfigError: The file cannot be read, a key is unknown, or no model is named.
    """
    record: dict[str, Any] = {}
    if file is not None:
        try:
            found = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f"cannot read {file}: {error}.") from error
        if not isinstance(found, Mapping):
            raise ConfigError(f"{file} is {type(found).__name__}; wanted keys such as models: and tasks:.")
        record = dict(found)
        if isinstance(record.get("models"), str):
            record["models"] = [record["models"]]
        if isinstance(record.get("tasks"), str):
            record["tasks"] = [record["tasks"]]
    record |= given
    if "root" in record:
        raise ConfigError("root is no key; paths in the file start at its folder.")
    plan = read_record(Plan, record, str(file or "eval"))
    root = Path() if file is None else file.resolve().parent
    models = plan.models
    if plan.endpoint:
        if any(model.startswith("openai:") for model in models):
            raise ConfigError(
                "a model is named openai:URL and --endpoint is given; one of the two is enough."
            )
        address = f"openai:{plan.endpoint.rstrip('/')}"
        models = tuple(f"{address}#{model}" for model in models) or (address,)
    if not models:
        raise ConfigError("no model; wanted one, such as: vivavoce eval nano")
    from dataclasses import replace

    return replace(plan, models=models, root=root)
