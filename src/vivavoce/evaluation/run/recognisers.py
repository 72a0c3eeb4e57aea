"""Recognisers of speech by name, for cascades and for listening to what was spoken.

``self`` (the model's own ears), ``pocketsphinx``, ``hf:FOLDER_OR_HUB_ID`` (transformers), ``openai:URL[#MODEL]``, or
a model of this project by name or folder.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from vivavoce.audio.resample import resample
from vivavoce.base.errors import ConfigError, MissingExtraError
from vivavoce.evaluation.items import Sound
from vivavoce.evaluation.run.answerers import Answerer, make_answerer

RATE = 16_000
PAD_S = 0.3
PEAK = 0.6
FAINT = 4.0 / 32768  # frames of digital silence have no logarithm


@dataclass(frozen=True)
class Recogniser:
    """Writes down speech.

    Attributes:
        name: With version, for the record.
        hear: (float32 [S], Hz) -> words.
        own: Whether these are the ears of the model under test.
    """

    name: str
    hear: Callable[[np.ndarray, int], str]
    own: bool = False


def default_recogniser(own: Answerer | None) -> tuple[str, str]:
    """(recogniser, why) where none was asked for.

    Raises:
        MissingExtraError: pocketsphinx is absent and the model does not hear.
    """
    if find_spec("pocketsphinx"):
        return "pocketsphinx", "the default, as it is installed and has nothing to do with the model"
    if own is not None and own.hears:
        return "self", "the default without pocketsphinx; the model's own ears are no independent recogniser"
    raise MissingExtraError("no recogniser for the cascade; run: pip install 'vivavoce[judge]', or name one.")


def make_recogniser(
    spec: str, own: Answerer | None = None, grammar: str | None = None, device: str | None = None,
    key_env: str | None = None,
) -> Recogniser:  # fmt: skip
    """A recogniser by name.

    Args:
        spec: See above.
        own: The model under test, for "self".
        grammar: JSGF; pocketsphinx is held to it.
        device: For local models.
        key_env: Environment variable with the key of endpoints.

    Raises:
        ConfigError: Unknown, or "self" without a model that hears.
        MissingExtraError: pocketsphinx is absent.
    """
    if spec == "self":
        if own is None or not own.hears:
            raise ConfigError("the recogniser is 'self', and the model does not hear; name another.")
        return Recogniser(f"{own.name}'s own ears", _ears(own), own=True)
    if spec == "pocketsphinx":
        return _pocketsphinx(grammar)
    if spec.startswith("hf:"):
        return _transformers(spec[3:], device)
    other = make_answerer(spec, 512, 0, device, key_env)
    return Recogniser(other.name, _ears(other))


def _ears(answerer: Answerer) -> Callable[[np.ndarray, int], str]:
    return lambda wave, rate: answerer.transcribe(Sound(wave, rate)).text or ""


def _pocketsphinx(grammar: str | None) -> Recogniser:
    try:
        import pocketsphinx
    except ImportError as error:
        raise MissingExtraError(
            "pocketsphinx is not installed; run: pip install 'vivavoce[judge]'"
        ) from error
    held = {"lm": None} if grammar else {}
    # "batch" normalises every recording by itself; the default drifts from one to the next
    decoder = pocketsphinx.Decoder(samprate=RATE, cmn="batch", loglevel="FATAL", **held)
    alone = threading.Lock()
    if grammar:
        decoder.add_jsgf_string("domain", grammar.encode())
        decoder.activate_search("domain")

    def hear(wave: np.ndarray, rate: int) -> str:
        padded = resample(np.pad(np.asarray(wave, np.float32), round(PAD_S * rate)), rate, RATE)
        padded = padded * (PEAK / max(1e-3, float(np.abs(padded).max())))
        noise = np.random.default_rng(0).standard_normal(len(padded)) * FAINT
        samples = (np.clip(padded + noise, -1, 1) * 32767).astype(np.int16)
        with alone:
            decoder.start_utt()
            decoder.process_raw(samples.tobytes(), full_utt=True)
            decoder.end_utt()
            found = decoder.hyp()
        return str(found.hypstr) if found else ""

    said = " with the task's grammar" if grammar else ""
    return Recogniser(f"pocketsphinx {version('pocketsphinx')}{said}", hear)


def _transformers(name: str, device: str | None) -> Recogniser:
    import transformers

    made: Any = transformers.pipeline("automatic-speech-recognition", model=name, device=device or "cpu")
    wanted = int(made.feature_extractor.sampling_rate)

    def hear(wave: np.ndarray, rate: int) -> str:
        # at the model's own rate and as an array: nothing has to be decoded or resampled there
        heard = made({"raw": resample(wave, rate, wanted), "sampling_rate": wanted})
        return str(heard["text"]).strip()

    shown = Path(name).name if Path(name).exists() else name
    return Recogniser(f"{shown} by transformers {transformers.__version__}", hear)
