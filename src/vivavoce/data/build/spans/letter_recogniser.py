"""A recogniser over letters for forced alignment: CTC models of transformers."""

from __future__ import annotations

from typing import Any

import numpy as np

from vivavoce.audio.forced_alignment import Heard
from vivavoce.data.build.texts.local_models import loading


class LetterRecogniser:
    """A CTC model of transformers (Wav2Vec2, HuBERT, WavLM, ...), loaded when made.

    Args:
        source: Folder or hub id, with ``@REVISION`` if it is to be one.
        device: "cpu" or "cuda".

    Raises:
        ModelError: It is no CTC model with a tokenizer over letters.
    """

    whole_words = False

    def __init__(self, source: str, device: str = "cpu") -> None:
        import torch
        from transformers import AutoModelForCTC, AutoProcessor

        name, _, revision = source.partition("@")
        more: dict[str, Any] = {"revision": revision} if revision else {}
        with loading(f"aligner {source!r}"):
            processor = AutoProcessor.from_pretrained(name, **more)
            self.model = AutoModelForCTC.from_pretrained(name, dtype=torch.float32, **more).eval().to(device)
        self.extractor, self.tokenizer, self.device = processor.feature_extractor, processor.tokenizer, device
        vocabulary = self.tokenizer.get_vocab()
        self.blank = self.tokenizer.pad_token_id
        self.separator = vocabulary.get(getattr(self.tokenizer, "word_delimiter_token", None) or "|")
        special = set(self.tokenizer.all_special_tokens)
        self._tokens = {
            t: i for t, i in vocabulary.items() if t not in special and i not in (self.blank, self.separator)
        }
        self.rate = self.extractor.sampling_rate

    def spell(self, word: str) -> list[int]:
        """Letters that the model knows, in the case it knows them in."""
        found = []
        for letter in word:
            known = next(
                (self._tokens[c] for c in (letter, letter.lower(), letter.upper()) if c in self._tokens), None
            )
            found += [] if known is None else [known]
        return found

    def hear(self, waveform: np.ndarray, sample_rate: int) -> Heard:
        """Listen to float32 [S] at any rate."""
        import torch

        from vivavoce.audio.resample import resample

        wave = resample(waveform, sample_rate, self.rate)
        values = self.extractor(wave, sampling_rate=self.rate, return_tensors="pt")
        values = {k: v.to(self.device) for k, v in values.items()}
        with torch.inference_mode():
            log_probs = self.model(**values).logits[0].float().log_softmax(-1).cpu().numpy()
        return Heard(log_probs, len(wave) / self.rate / len(log_probs))
