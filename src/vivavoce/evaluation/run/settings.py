"""Settings of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vivavoce.base.errors import ConfigError


@dataclass(frozen=True)
class RunSettings:
    """How an evaluation is run.

    Attributes:
        limit: Most questions per task; None for all.
        seed: Of what tasks draw, of noise, and of which question's audio stands in for another's.
        batch_size: Questions whose answers are written together; what a killed run loses at most.
        workers: Questions asked at once, which then share forwards of the model; None for one on a CPU, 8 on a GPU or
            with an endpoint. Latency is that of so many at once.
        aloud: Have spoken tasks answered aloud, where the model speaks.
        cascade: ``ASR+LLM``, see `recognisers` and `answerers`; None for pocketsphinx or else the model's own ears,
            and the model's own language model.
        listener: Who writes down what was spoken in tasks of kind "speak"; a recogniser, None as for ``cascade``.
        base: The language model before speech training, a model or endpoint; None to find it by the model's record.
        snr_db: Noise levels of a sweep; every task with audio is asked again at each.
        max_new_tokens: Of an answer.
        source: As in `TaskOptions`.
        cache: As in `TaskOptions`.
        config: Task -> configuration of its data set (a language).
        device: For local models.
        key_env: Environment variable with the key of endpoints.
        judge: Marks open answers, as in `RubricJudge` ("endpoint:MODEL"); None leaves such metrics out.
        judge_endpoint: Its address, as in `RubricJudge`.
        probes: Measure losses for the diagnosis, where the model is local.
    """

    limit: int | None = None
    seed: int = 0
    batch_size: int = 8
    workers: int | None = None
    aloud: bool = True
    cascade: str | None = None
    listener: str | None = None
    base: str | None = None
    snr_db: tuple[float, ...] = ()
    max_new_tokens: int = 512
    source: str = "hub"
    cache: Path | None = None
    config: Mapping[str, str] | None = None
    device: str | None = None
    key_env: str | None = None
    judge: str | None = None
    judge_endpoint: Mapping[str, Any] | None = None
    probes: bool = True

    def __post_init__(self) -> None:
        if self.batch_size < 1 or (self.workers is not None and self.workers < 1) or self.max_new_tokens < 1:
            raise ConfigError(
                f"batch_size is {self.batch_size}, workers {self.workers}, max_new_tokens {self.max_new_tokens}; "
                "wanted 1 or more."
            )
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit is {self.limit}; wanted 1 or more questions per task, or None for all.")
