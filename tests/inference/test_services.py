"""The aligner of the embedded model: it spells its vocabulary, hears words in order, and refuses other models."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from vivavoce.audio.forced_alignment import align_words
from vivavoce.audio.synthesis import has_synthesizer, synthesize
from vivavoce.audio.timed_speech import time_speech
from vivavoce.base.errors import ModelError
from vivavoce.inference import services

SENTENCES = ("what is the capital of france", "how many legs does a spider have", "what is seven plus five")


def test_spelling() -> None:
    aligner = services.SERVICES["aligner"]("nano")
    tokenizer = aligner.assistant.processor.tokenizer
    assert tokenizer.convert_ids_to_tokens(aligner.spell("What?")) == ["what"]
    assert tokenizer.convert_ids_to_tokens(aligner.spell("33")) == ["thirty", "three"]
    assert aligner.spell("lighthouse") == [] and aligner.spell("\u6f6e") == []


def test_words_are_heard_in_order_and_near_their_times() -> None:
    if not has_synthesizer("espeak"):
        pytest.skip("espeak is not installed")
    aligner = services.Aligner("nano")
    errors = []
    for text in SENTENCES:
        waveform, rate = synthesize(text, "espeak:en-us")
        heard = aligner.hear(waveform, rate)
        assert np.allclose(np.exp(heard.log_probs).sum(1), 1, atol=1e-4)
        seconds = len(waveform) / rate - 2 * heard.start_s  # silence on both sides
        assert abs(len(heard.log_probs) * heard.frame_s - seconds) < 2 * heard.frame_s
        found = align_words(aligner, waveform, rate, text.split())
        assert found is not None and all(a[1] == b[0] for a, b in pairwise(found))  # type: ignore[index]
        places = np.cumsum([0, *(len(word) + 1 for word in text.split())])
        starts = {first: start for first, start, _ in time_speech(text, "espeak:en-us").words}
        errors += [
            abs(span[0] - starts[place])  # type: ignore[index]
            for place, span in zip(places, found, strict=False)
            if place in starts
        ]
    assert np.median(errors) < 0.2


def test_models_without_such_ears(monkeypatch: pytest.MonkeyPatch) -> None:
    class Model:
        audio_encoder = None

    class Deaf:
        model, name = Model(), "deaf"

    monkeypatch.setattr(services, "_loaded", lambda name: Deaf())
    with pytest.raises(ModelError, match="deaf cannot align"):
        services.Aligner("deaf")
