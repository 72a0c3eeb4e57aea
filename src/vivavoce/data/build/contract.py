"""What a builder is: a pure function of a batch of conversations, told everything by its config and a seed.

A row that a builder cannot use becomes a `Fault` and goes to quarantine with its reason; nothing is dropped silently.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from vivavoce.base.errors import ConfigError
from vivavoce.data.conversation import Conversation


@dataclass(frozen=True)
class Fault:
    """Why a row was put aside.

    Attributes:
        kind: A short word that is counted ("unreadable", "too_long", "garbled").
        reason: One sentence for people.
        filtered: True if a rule of the pipeline left the row out, False if something is wrong with it.
    """

    kind: str
    reason: str
    filtered: bool = False


Made = Sequence[Conversation] | Fault


@dataclass(frozen=True)
class Needs:
    """What one worker of a builder takes, for engines that place workers.

    Attributes:
        cpus: Cores.
        gpus: Share of a GPU, where the context's device is one.
        model: True if it loads a model, so that workers are kept and not made anew.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    model: bool = False

    @classmethod
    def of_models(cls, *names: str | None, gpus: float = 1.0) -> Needs:
        """What a worker with models takes, named ``ENGINE:NAME``.

        Args:
            names: Those of transformers and of services want a GPU; a server's, synthesizers and None do not.
            gpus: The share that they want.
        """
        wanted = any((name or "").partition(":")[0] in ("transformers", "service") for name in names)
        return cls(gpus=gpus if wanted else 0.0, model=True)


@dataclass(frozen=True)
class Context:
    """What a builder is given beside its config.

    Attributes:
        seed: Of the whole pipeline.
        root: Where relative paths of recordings start.
        cache: Folder for answers worth keeping (continuations, ...), shared between runs; None for no cache.
        device: "cpu" or "cuda".
        services: Name -> function that makes a model from its name, for models of rooms to the right of this one
            ("tts", "asr", "llm").
    """

    seed: int = 0
    root: Path = field(default_factory=Path)
    cache: Path | None = None
    device: str = "cpu"
    services: Mapping[str, Callable[..., Any]] = field(default_factory=dict)

    def rng(self, *names: object) -> random.Random:
        """Random numbers that depend on the seed and the names only: use the row's id, never its place."""
        return random.Random(self.number(*names))

    def number(self, *names: object) -> int:
        """A 64-bit number that depends on the seed and the names only."""
        text = "\x1f".join(map(str, (self.seed, *names)))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")

    def service(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Make a model by a service.

        Raises:
            ConfigError: The caller gave no such service.
        """
        self.require(name)
        return self.services[name](*arguments, **options)

    def require(self, name: str) -> None:
        """Make sure that there is a service, before work begins.

        Raises:
            ConfigError: The caller gave no such service.
        """
        if name not in self.services:
            raise ConfigError(
                f"this pipeline needs the service {name!r}, which was not given; run it by `vivavoce data`."
            )


class Builder(Protocol):
    """A stage of a pipeline.

    A class with this shape stands in the table BUILDERS; ``__init__`` takes its config (a frozen dataclass, named by
    ``config_class``) and a context, and loads its models: all builders of a pipeline are made before the first row, for
    a model that is not there must stop the run and not put rows aside. Where answers are kept, weights may wait until
    one is wanted that is not. Calls must not depend on how rows are put into batches.

    Attributes:
        config_class: Its settings.
        version: Raised when the same settings give other rows; part of what names a result.
        batch_rows: Rows of one call; 1 or more.
    """

    config_class: ClassVar[type]
    version: ClassVar[int]
    batch_rows: ClassVar[int]

    @staticmethod
    def needs(config: Any) -> Needs:
        """What a worker takes with these settings."""

    def __call__(self, rows: Sequence[Conversation]) -> list[Made]:
        """Turn each row into any number of rows, or a fault; as many results as rows, in order.

        May raise VivavoceError or OSError instead: the rows are then tried one by one, and those that fail alone
        become faults.
        """


class Source(Protocol):
    """Where a pipeline's rows come from; in the table SOURCES, made like a builder.

    ``rows`` can be started again at any row and gives the same rows each time.
    """

    config_class: ClassVar[type]
    version: ClassVar[int]

    def __len__(self) -> int:
        """Rows in all."""

    def rows(self, start: int, stop: int) -> list[Conversation | Fault]:
        """Rows [start, stop); what cannot be read is a fault."""

    def fingerprint(self) -> str:
        """Hash of what is read, so that a changed file is not mistaken for the old one."""
