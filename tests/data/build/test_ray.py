"""The Ray engine gives what the local one gives, with rows that fail, rows that kill, and errors that stop the run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from tests.data.build.engine import CONTEXT, PLAIN, make, speaking

from vivavoce.base.errors import ConfigError
from vivavoce.data.build.run import build
from vivavoce.data.manifest import read_set

ray = pytest.importorskip("ray")


@pytest.fixture(autouse=True)
def findable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's processes find the package and the tests as this one does."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))


@pytest.mark.slow
def test_ray_gives_what_the_local_engine_gives(tmp_path: Path) -> None:
    """Speech and codes, rows put aside of each kind, one that kills its process."""
    texts = [*PLAIN, "value", "!!!", "x" * 2000, "say eleven", "kill this", "say twelve"]
    stages = (*speaking().stages, {"type": "tokenize", "codec": "nano"})
    pipeline = speaking(texts, stages=stages, license="cc0-1.0")
    local = make(tmp_path / "local", pipeline, workers=1)
    told: list[int] = []
    made = make(tmp_path / "ray", pipeline, 2, engine="ray", report=lambda done, *_: told.append(done))
    assert made.manifest.content_hash == local.manifest.content_hash and local.manifest.audio_tokens
    assert made.kinds == local.kinds and local.kinds["source: crashed"] == 1
    aside = [(tmp_path / name / "put_aside.jsonl").read_bytes() for name in ("local", "ray")]
    assert aside[0] == aside[1] and len(aside[0].splitlines()) == 4
    assert told == sorted(told) and told[-1] == 16
    assert {row.license for row in read_set(tmp_path / "ray")} == {"cc0-1.0"}
    assert not ray.is_initialized()  # what was started is stopped


@pytest.mark.slow
def test_an_error_that_stops_the_run_is_ours_and_finished_blocks_stay(tmp_path: Path) -> None:
    pipeline = speaking([*PLAIN[:6], "settings"])
    with pytest.raises(ConfigError, match=r"^the voice is set wrongly\.$"):
        build(pipeline, tmp_path / "set", CONTEXT, workers=1, engine="ray")
    assert not ray.is_initialized()
