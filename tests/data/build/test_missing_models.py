"""A model that cannot be had stops the run with one error before any row is touched; GPUs are asked for by settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.data.build.engine import PLAIN
from tests.data.build.stand_ins import save_llama

from vivavoce.base.errors import CodecError, ModelError, VivavoceError
from vivavoce.data.build import BUILDERS
from vivavoce.data.build.contract import Context, Needs
from vivavoce.data.build.pipeline import Pipeline, stage_needs
from vivavoce.data.build.run import build
from vivavoce.data.build.sources import TextSource
from vivavoce.inference.services import SERVICES

GONE = "transformers:not/a/folder"
STAGES: dict[str, tuple[dict[str, Any], type[VivavoceError]]] = {
    "codec": ({"type": "tokenize", "codec": "snac_25khz"}, CodecError),
    "folder of a codec": ({"type": "tokenize", "codec": "."}, VivavoceError),
    "codec of cuts": ({"type": "interleave", "codec": "snac_25khz"}, CodecError),
    "aligner": ({"type": "interleave", "align": ["aligner"], "aligner": GONE}, ModelError),
    "service aligner": ({"type": "interleave", "align": ["aligner"], "aligner": "service:gone"}, ModelError),
    "voice": ({"type": "speak", "voices": [GONE]}, ModelError),
    "service voice": ({"type": "speak", "voices": ["service:gone"]}, ModelError),
    "check": ({"type": "speak", "check": "gone"}, ModelError),
    "voice of instruct": ({"type": "instruct", "speak": {"voices": [GONE]}}, ModelError),
    "continue": ({"type": "continue", "model": GONE}, ModelError),
    "service continue": ({"type": "continue", "model": "service:gone"}, ModelError),
    "judge": ({"type": "judge", "model": GONE}, ModelError),
    "describe": ({"type": "describe", "model": GONE}, ModelError),
    "translate": ({"type": "translate", "model": GONE, "source": "en", "target": "de"}, ModelError),
    "recogniser": ({"type": "mine", "vad": "energy", "transcripts": GONE}, ModelError),
    "service recogniser": ({"type": "mine", "vad": "energy", "transcripts": "service:gone"}, ModelError),
}


@pytest.mark.parametrize("what", STAGES)
def test_what_is_missing_stops_the_run_before_any_row(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if it is the last stage that lacks it."""
    stage, error = STAGES[what]
    touched: list[int] = []
    monkeypatch.setattr(TextSource, "rows", lambda self, first, stop: touched.append(first))
    augment = {"type": "augment", "effects": [{"type": "gain"}]}
    pipeline = Pipeline(source={"type": "text", "texts": PLAIN}, stages=(augment, stage))
    with pytest.raises(error) as told:
        build(pipeline, tmp_path / "set", Context(services=SERVICES), workers=0)
    assert len(str(told.value)) > 20 and not touched and not (tmp_path / "set").exists()


def test_damaged_weights_stop_the_run(tmp_path: Path) -> None:
    """They are read when an answer is wanted that is not kept; no row is blamed for them."""
    folder = save_llama(tmp_path / "llm")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    stage = {"type": "continue", "model": f"transformers:{folder}"}
    with pytest.raises(ModelError, match="cannot be loaded"):
        build(Pipeline(source={"type": "text", "texts": PLAIN}, stages=(stage,)), tmp_path / "set", workers=0)
    assert not (tmp_path / "set").exists()


def test_a_worker_tells_what_is_missing(tmp_path: Path) -> None:
    pipeline = Pipeline(source={"type": "text", "texts": PLAIN}, stages=(STAGES["codec"][0],))
    with pytest.raises(CodecError, match="no codec 'snac_25khz'"):
        build(pipeline, tmp_path / "set", workers=1)


@pytest.mark.parametrize(
    ("stage", "needs"),
    [
        ({"type": "mine"}, Needs(model=True)),
        ({"type": "mine", "transcripts": "pocketsphinx"}, Needs(model=True)),
        ({"type": "mine", "transcripts": GONE}, Needs(gpus=0.25, model=True)),
        ({"type": "speak", "voices": ["espeak", "flite"]}, Needs(model=True)),
        ({"type": "speak", "voices": ["espeak", GONE]}, Needs(gpus=1.0, model=True)),
        ({"type": "speak", "check": "nano"}, Needs(gpus=1.0, model=True)),
        ({"type": "interleave", "aligner": GONE}, Needs(model=True)),
        ({"type": "interleave", "align": ["aligner"], "aligner": GONE}, Needs(gpus=1.0, model=True)),
        ({"type": "judge", "model": "endpoint:any"}, Needs(model=True)),
        ({"type": "judge", "model": "service:any"}, Needs(gpus=1.0, model=True)),
        ({"type": "describe"}, Needs()),
        ({"type": "translate", "model": "endpoint:any", "source": "en", "target": "de", "speak": {"voices": [GONE]}},
         Needs(gpus=1.0, model=True)),
        ({"type": "tokenize"}, Needs(gpus=1.0, model=True)),
        ({"type": "augment"}, Needs()),
    ],
)  # fmt: skip
def test_a_gpu_is_asked_for_where_settings_load_a_model_on_it(stage: dict[str, Any], needs: Needs) -> None:
    assert stage_needs(stage) == needs


def test_every_builder_says_what_it_needs() -> None:
    assert all(callable(BUILDERS.get(name).needs) for name in BUILDERS)
