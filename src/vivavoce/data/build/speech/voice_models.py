"""Text-to-speech models of transformers as voices; one text at a time, from its own seed.

On a CPU they run on one thread: with more, the last digits would hang on how many there are. Workers use the cores.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vivavoce.audio.threads import one_thread
from vivavoce.base.errors import AudioError, ConfigError
from vivavoce.data.build.speech.voices import Setup, Voice
from vivavoce.data.build.texts.local_models import load, loading, split_name


class ModelVoice(Voice):
    """A voice of a text-to-speech model: ``MODEL`` or ``MODEL#SPEAKER``; hub ids may have ``@REVISION``.

    The speaker is a number for VITS, a preset for Bark ("v2/en_speaker_3"), and the .npy file of a speaker's vector
    for SpeechT5.
    """

    def __init__(self, engine: str, name: str, setup: Setup) -> None:
        super().__init__(engine, name, setup)
        self._model, _, self._speaker = name.partition("#")
        self._config = load("AutoConfig", self._model)
        self._kind = self._config.model_type
        self.tunes = frozenset({"speed"} if self._kind == "vits" else ())
        self._options = self._speaker_options() if self._speaker else {}
        self._pipe()

    def say(self, text: str, seed: int, speed: float = 1.0, pitch: float = 1.0) -> tuple[np.ndarray, int]:
        import torch

        pipe = self._pipe()
        if self._kind == "vits":
            _check_readable(pipe.tokenizer, text)
            pipe.model.speaking_rate = self._config.speaking_rate * speed
        devices = [pipe.device] if pipe.device.type == "cuda" else []
        with one_thread(pipe.device.type), torch.random.fork_rng(devices), torch.inference_mode():
            torch.manual_seed(seed)
            made = pipe(text, **self._options)
        waveform = np.asarray(made["audio"], np.float32)
        if waveform.ndim > 1:
            waveform = waveform.reshape(-1, waveform.shape[-1]).mean(axis=0)
        return waveform, int(made["sampling_rate"])

    def _pipe(self) -> Any:
        """The pipeline, loaded once for all voices of the model."""
        if self._model not in self.setup.loaded:
            from transformers import pipeline

            given, revision = split_name(self._model)
            with loading(self._model, " as a text-to-speech model"):
                made = pipeline(
                    "text-to-audio",
                    model=given,
                    device=self.setup.context.device,
                    revision=revision.get("revision"),
                )
            made.model.eval()
            self.setup.loaded[self._model] = made
        return self.setup.loaded[self._model]

    def _speaker_options(self) -> dict[str, Any]:
        """What the pipeline is given for the speaker."""
        if self._kind == "vits":
            known = self._config.num_speakers
            if known < 2 or not self._speaker.isdigit() or int(self._speaker) >= known:
                raise ConfigError(
                    f"{self._model} has {known} speakers; {self._speaker!r} is none of 0 to {known - 1}."
                )
            return {"forward_params": {"speaker_id": int(self._speaker)}}
        if self._kind == "bark":
            return {"preprocess_params": {"voice_preset": self._speaker}}
        if self._kind == "speecht5":
            import torch

            path = self.setup.context.root / self._speaker
            try:
                vector = np.load(path, allow_pickle=False)
            except (OSError, ValueError) as error:
                raise ConfigError(f"{path} is not the .npy file of a speaker's vector: {error}") from error
            return {
                "forward_params": {
                    "speaker_embeddings": torch.from_numpy(vector.astype(np.float32)).reshape(1, -1)
                }
            }
        raise ConfigError(
            f"how to choose a speaker of a {self._kind} model is unknown; leave out #{self._speaker}."
        )


def _check_readable(tokenizer: Any, text: str) -> None:
    """Refuse text of which a VITS tokenizer would drop letters or digits without a word.

    Raises:
        AudioError: With the first of them.
    """
    if getattr(tokenizer, "phonemize", False) or getattr(tokenizer, "is_uroman", False):
        return
    known = tokenizer.get_vocab()
    for character in text:
        if character.isalnum() and character not in known and character.lower() not in known:
            raise AudioError(
                f"the voice cannot read {character!r} in {text[:60]!r} and would leave it out; set spoken_form: true, "
                "or filter such texts."
            )
