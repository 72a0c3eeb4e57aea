"""Models of transformers in this process: loading, and greedy answers that batching cannot change.

A batch is not quite its rows alone: padding and the size of matrices move the last digits. Where two tokens are almost
equally likely, that can change which one is written. So a batch watches the gap between the best two scores; a row
with a gap too small to be sure is made again alone. In float32 that is rare; in half precision it is most rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vivavoce.audio.threads import one_thread
from vivavoce.base.errors import ConfigError, MissingExtraError, ModelError, VivavoceError

SURE = {"float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}
"""Smallest gap that decides, as a share of the largest score."""


def check_dtype(dtype: str) -> None:
    """Refuse what is no precision.

    Raises:
        ConfigError: It is none of float32, bfloat16, float16.
    """
    if dtype not in SURE:
        raise ConfigError(f"dtype is {dtype!r}, wanted one of {', '.join(SURE)}")


def identity(name: str) -> list[Any]:
    """What tells a model's answers from those of another: its name, and for a folder its files."""
    folder = Path(name)
    if not folder.is_dir():
        return [name]
    files = sorted(p for p in folder.iterdir() if p.is_file())
    return [folder.name, [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in files]]


def split_name(name: str) -> tuple[str, dict[str, str]]:
    """A name with or without ``@REVISION`` as ``from_pretrained`` takes it."""
    given, _, revision = (name, "", "") if Path(name).exists() else name.partition("@")
    return given, {"revision": revision} if revision else {}


def load(auto: str, name: str, **options: Any) -> Any:
    """Load a part of a model by a class of transformers.

    Args:
        auto: The class ("AutoTokenizer").
        name: Folder or hub id, with ``@REVISION`` if wanted.
        options: Of ``from_pretrained``.

    Raises:
        ModelError: It cannot be loaded.
        MissingExtraError: It needs a package that is not installed.
    """
    import transformers

    given, revision = split_name(name)
    with loading(name, f" by {auto}"):
        return getattr(transformers, auto).from_pretrained(given, **revision, **options)


@contextmanager
def loading(name: str, way: str = "") -> Iterator[None]:
    """Turn whatever a library says when it cannot load a model into one error, which stops the run.

    Raises:
        ModelError: With its first line.
        MissingExtraError: A package is not installed.
    """
    try:
        yield
    except VivavoceError:
        raise
    except ImportError as error:
        raise MissingExtraError(f"{name} needs a package: {error}") from error
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(f"{name} cannot be loaded{way}: {reason}") from error


def load_weights(auto: str, name: str, dtype: str, device: str) -> Any:
    """Load a model for greedy writing.

    Args:
        auto: Class of transformers ("AutoModelForCausalLM").
        name: Folder or hub id.
        dtype: Of the weights.
        device: "cpu" or "cuda".

    Raises:
        ModelError: It cannot be loaded.
    """
    import torch

    model = load(auto, name, dtype=getattr(torch, dtype)).to(device).eval()
    settings = model.generation_config
    settings.update(
        do_sample=False, num_beams=1, temperature=None, top_p=None, top_k=None, repetition_penalty=None
    )
    settings.update(max_length=None, min_length=None, early_stopping=None, length_penalty=None)
    settings.update(forced_eos_token_id=None)  # else what is cut looks finished
    return model


@dataclass(frozen=True)
class Written:
    """What a model wrote.

    Attributes:
        ids: Without the end.
        finished: True if it ended by itself, False if it was cut at the length allowed.
        sure: True if no other token was nearly as good at any step.
    """

    ids: list[int]
    finished: bool
    sure: bool


def write_greedily(
    model: Any,
    prepare: Callable[[Sequence[int]], dict[str, Any]],
    count: int,
    max_new_tokens: int,
    dtype: str,
) -> list[Written]:
    """Write greedily for ``count`` prompts; each gets what it gets alone.

    Args:
        model: Causal (prompts padded left), or with encoder and decoder (padded right).
        prepare: Numbers of prompts -> inputs of ``generate`` for just these.
        count: Prompts.
        max_new_tokens: At most.
        dtype: The model's, which says how sure is sure.
    """
    if not count:
        return []
    made = _write(model, prepare(range(count)), max_new_tokens, SURE[dtype])
    if count == 1:
        return made
    return [
        w if w.sure else _write(model, prepare([i]), max_new_tokens, SURE[dtype])[0]
        for i, w in enumerate(made)
    ]


def _write(model: Any, inputs: dict[str, Any], max_new_tokens: int, smallest_gap: float) -> list[Written]:
    import torch
    from transformers import LogitsProcessor, LogitsProcessorList

    class Gaps(LogitsProcessor):
        """Remembers at each step which rows are sure of the best token."""

        def __init__(self) -> None:
            self.sure: list[list[bool]] = []
            self.start = 0

        def __call__(self, input_ids: Any, scores: Any) -> Any:
            if not self.sure:
                self.start = input_ids.shape[1]
            best = scores.float().topk(2, dim=-1).values
            largest = torch.where(scores.isinf(), 0.0, scores.float()).abs().amax(dim=-1)
            self.sure.append((best[:, 0] - best[:, 1] > smallest_gap * largest).tolist())
            return scores

    gaps = Gaps()
    ends = model.generation_config.eos_token_id
    ends = set() if ends is None else {ends} if isinstance(ends, int) else set(ends)
    with one_thread(model.device.type), torch.inference_mode():
        made = model.generate(
            **inputs, max_new_tokens=max_new_tokens, logits_processor=LogitsProcessorList([gaps]),
            return_dict_in_generate=False,
        )  # fmt: skip
    written = []
    for row, ids in enumerate(made[:, gaps.start :].tolist()):
        size = next((i for i, token in enumerate(ids) if token in ends), None)
        steps = len(ids) if size is None else size + 1
        sure = all(step[row] for step in gaps.sure[:steps])
        written.append(Written(ids[:size], size is not None, sure))
    return written
