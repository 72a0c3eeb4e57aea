"""A pipeline whose voice obeys its texts, so that engines can be tried: some rows fail, stop, or kill their process."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from vivavoce.base.errors import ConfigError
from vivavoce.data.build.contract import Context
from vivavoce.data.build.pipeline import Pipeline
from vivavoce.data.build.run import Outcome, build
from vivavoce.data.manifest import read_set

os.environ.setdefault("TEST_PROCESS", str(os.getpid()))  # inherited by all that work for it


class Obedient:
    """A service "tts" that does what the text says; it kills only processes made for work."""

    def __init__(self, name: str, voice: str | None = None) -> None:
        self.name = name

    def say(self, text: str, seed: int) -> tuple[np.ndarray, int]:
        order = text.split()[0]
        if order in ("kill", "exit") and os.environ["TEST_PROCESS"] != str(os.getpid()):
            os.kill(os.getpid(), signal.SIGKILL) if order == "kill" else os._exit(3)
        if order == "slow":
            time.sleep(0.2)
        if order == "value":
            raise ValueError("this text is worth nothing")
        if order == "assert":
            raise AssertionError
        if order == "settings":
            raise ConfigError("the voice is set wrongly.")
        return 0.3 * np.sin(0.1 * (1 + seed % 7) * np.arange(80 * len(text))).astype(np.float32), 8000


CONTEXT = Context(services={"tts": Obedient})
PLAIN = tuple(f"say {word}" for word in "one two three four five six seven eight nine ten".split())


def speaking(texts: Any = PLAIN, **more: Any) -> Pipeline:
    """A pipeline that speaks texts, in blocks of three."""
    stages = ({"type": "speak", "voices": ["service:obedient"], "sample_rate": 8000},)
    return Pipeline(
        **{"source": {"type": "text", "texts": tuple(texts)}, "stages": stages, "block_rows": 3, **more}
    )


def make(out: Path, pipeline: Pipeline | None = None, workers: int = 0, **more: Any) -> Outcome:
    """Build, and check that the numbers add up and that nothing else is left in the folder."""
    made = build(pipeline or speaking(), out, CONTEXT, workers=workers, **more)
    assert_complete(out, made)
    return made


def assert_complete(out: Path, made: Outcome) -> None:
    """Every row of the source is in the set or was put aside, and only the set is in its folder."""
    manifest = made.manifest
    aside = (out / "put_aside.jsonl").read_text().splitlines() if manifest.put_aside else []
    assert manifest.source_rows == manifest.passed + len(aside)
    assert len(aside) == sum(manifest.put_aside.values())
    assert manifest.rows == len(list(read_set(out))) == sum(shard.rows for shard in manifest.shards)
    wanted = {"manifest.json", *(["put_aside.jsonl"] if aside else []), *(s.file for s in manifest.shards)}
    assert {path.name for path in out.iterdir()} == wanted
