"""Recognisers that write down what is said in a clip: a model of this project, one of transformers, or pocketsphinx.

``service:NAME`` is a model that the context's service "asr" makes, ``transformers:FOLDER_OR_HUB_ID[@REVISION]`` any
that transformers' pipeline for speech recognition takes (Whisper, wav2vec 2.0), ``pocketsphinx`` the recogniser of
that package, whose small English model lies in its wheel: for trials without a download, with many errors.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from vivavoce.audio.resample import resample
from vivavoce.audio.threads import one_thread
from vivavoce.base.errors import ConfigError, MissingExtraError
from vivavoce.base.registry import Registry
from vivavoce.data.build.contract import Context
from vivavoce.data.build.texts.local_models import loading, split_name

RECOGNISERS = Registry(
    "recogniser",
    {
        "service": "vivavoce.data.build.mining.recognisers:service",
        "transformers": "vivavoce.data.build.mining.recognisers:TransformersRecogniser",
        "pocketsphinx": "vivavoce.data.build.mining.recognisers:SphinxRecogniser",
    },
    group="vivavoce.recognisers",
)
RATE_HZ = 16_000


class Recogniser(Protocol):
    """Writes down what is said."""

    def transcribe(self, waveform: np.ndarray, sample_rate: int) -> str:
        """The words in a mono waveform, float32 [S]; the same whatever came before."""


def make_recogniser(name: str, context: Context) -> Recogniser:
    """Make a recogniser by ``ENGINE`` or ``ENGINE:NAME``.

    Raises:
        ConfigError: There is no such engine or service, or it needs a name.
        MissingExtraError: Its package is not installed.
        ModelError: Its model cannot be loaded.
    """
    engine, _, rest = name.partition(":")
    made: Recogniser = RECOGNISERS.get(engine)(rest, context)
    return made


def service(name: str, context: Context) -> Any:
    """The context's own recogniser."""
    if not name:
        raise ConfigError("the recogniser is 'service', wanted service:NAME with a model's name.")
    return context.service("asr", name)


class TransformersRecogniser:
    """A model of transformers, greedy, on one thread.

    Args:
        name: Folder or hub id.
        context: With the device.

    Raises:
        ModelError: It cannot be loaded.
    """

    def __init__(self, name: str, context: Context) -> None:
        import transformers

        if not name:
            raise ConfigError("the recogniser is 'transformers', wanted transformers:FOLDER_OR_HUB_ID.")
        model, revision = split_name(name)
        with loading(f"the recogniser {name!r}"):
            make: Any = transformers.pipeline
            self._pipeline: Any = make(
                "automatic-speech-recognition", model, device=context.device, **revision
            )
        self._windowed = self._pipeline.model.config.model_type == "whisper"

    def transcribe(self, waveform: np.ndarray, sample_rate: int) -> str:
        """As `Recogniser.transcribe`."""
        samples = resample(waveform, sample_rate, RATE_HZ)
        # Whisper's way through clips of more than 30 s needs the times
        options = {"return_timestamps": True} if self._windowed and samples.size > 30 * RATE_HZ else {}
        with one_thread():
            found = self._pipeline({"raw": samples, "sampling_rate": RATE_HZ}, **options)
        return str(found["text"]).strip()


class SphinxRecogniser:
    """pocketsphinx with the English model of its wheel."""

    def __init__(self, name: str, context: Context) -> None:
        if name:
            raise ConfigError(
                f"the recogniser 'pocketsphinx' has no models to choose from, but {name!r} was named."
            )
        try:
            import pocketsphinx
        except ImportError as error:
            raise MissingExtraError(
                "the recogniser 'pocketsphinx' needs its package; run: pip install 'vivavoce[judge]'."
            ) from error
        self._decoder: Any = pocketsphinx.Decoder(samprate=RATE_HZ, cmn="batch", loglevel="FATAL")

    def transcribe(self, waveform: np.ndarray, sample_rate: int) -> str:
        """As `Recogniser.transcribe`."""
        samples = np.clip(resample(waveform, sample_rate, RATE_HZ), -1.0, 1.0)
        self._decoder.start_utt()
        self._decoder.process_raw((samples * 32767.0).astype("<i2").tobytes(), full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return "" if found is None else str(found.hypstr).strip()
