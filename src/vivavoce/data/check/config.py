"""What a set is checked against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vivavoce.base.errors import ConfigError
from vivavoce.data.check.findings import EXAMPLES

if TYPE_CHECKING:
    from vivavoce.codecs.contract import CodecSpec

RECORDINGS = ("all", "headers", "none")
DISTILL = "distill"
# tasks whose question and answer are made from a clip and its transcript, so rows need no turns of their own
VIEWS = ("asr", "tts", "describe_tts", "interleave")
# tasks in which everything is learned, the user's side too
LEARN_ALL = ("interleave", "pretrain", "next_token")


@dataclass(frozen=True)
class CheckConfig:
    """What a set is checked against; nothing of it is needed.

    Attributes:
        task: What the set is for, instead of each row's own task: a task of rows, or "distill", which needs a
            transcript for every clip and answers in text.
        sample_rate: Wanted rate of recordings, Hz.
        codec: Numbers of the codec that the model was made for; codes of others are errors.
        max_tokens: Most tokens of a row; needs a tokenizer.
        recordings: "all" decodes and compares them, "headers" reads their headers only, "none" leaves them alone.
        examples: Findings that are told in full of each kind.
    """

    task: str | None = None
    sample_rate: int | None = None
    codec: CodecSpec | None = None
    max_tokens: int | None = None
    recordings: str = "all"
    examples: int = EXAMPLES

    def __post_init__(self) -> None:
        faults = []
        if self.recordings not in RECORDINGS:
            faults.append(
                f"recordings is {self.recordings!r}, wanted one of {', '.join(map(repr, RECORDINGS))}"
            )
        if self.sample_rate is not None and self.sample_rate < 1:
            faults.append(f"sample_rate is {self.sample_rate}, wanted Hz such as 16000")
        if self.max_tokens is not None and self.max_tokens < 1:
            faults.append(f"max_tokens is {self.max_tokens}, wanted 1 or more")
        if self.examples < 0:
            faults.append(f"examples is {self.examples}, wanted 0 or more")
        if faults:
            raise ConfigError("; ".join(faults) + ".")

    def task_of(self, row_task: str) -> str:
        """The task that a row is checked for."""
        return self.task or row_task
