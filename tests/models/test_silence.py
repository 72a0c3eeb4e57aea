"""Silence around every clip: what the ears get of a clip is what they get of one that has it already."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.models.pairs import assistant, ears
from tests.models.test_batches import ROWS

from vivavoce.audio.forced_alignment import Heard, align_words
from vivavoce.base.errors import ConfigError
from vivavoce.models.clips import ClipReader
from vivavoce.models.config import EmbeddingsIn
from vivavoce.models.processor import SpeechProcessor

SILENCE = np.zeros(1600, np.float32)


def reader(name: str, silence_s: float, **more: object) -> ClipReader:
    return ClipReader(EmbeddingsIn(**ears(name, audio_token_id=1, silence_s=silence_s, **more)))


def waves(*samples: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(0.1 * rng.standard_normal(n)).astype(np.float32) for n in samples]


@pytest.mark.parametrize(
    "name", ["whisper + stack, norm mid", "hubert + stack", "beats + qformer of any tail"]
)
def test_clips_are_read_as_if_the_silence_were_theirs(name):
    clips = waves(3000, 100, 9000)
    got = reader(name, 0.1).read(clips)
    wanted = reader(name, 0.0).read([np.concatenate([SILENCE, clip, SILENCE]) for clip in clips])
    assert torch.equal(got.features, wanted.features) and torch.equal(got.lengths, wanted.lengths)
    assert got.positions == wanted.positions and got.chunks == wanted.chunks
    assert (got.lengths > reader(name, 0.0).read(clips).lengths).all()


def test_a_batch_with_silence_gives_each_what_it_gets_alone():
    made = assistant("whisper + stack, norm mid", silence_s=0.07)
    batch = made.processor.apply_chat_template(ROWS, add_generation_prompt=True)
    with torch.no_grad():
        together = made.model(**batch).logits
        for row, messages in enumerate(ROWS):
            single = made.processor.apply_chat_template(messages, add_generation_prompt=True)
            real = batch["attention_mask"][row].bool()
            assert batch["input_ids"][row][real].tolist() == single["input_ids"][0].tolist()
            assert (together[row, real] - made.model(**single).logits[0]).abs().max() < 1e-4


def test_it_is_saved_with_the_model(tmp_path):
    assistant(silence_s=0.07).processor.save_pretrained(tmp_path)
    assert SpeechProcessor.from_pretrained(tmp_path).clip_reader.silence_samples == 1120


def test_words_keep_their_times():
    class Recogniser:
        blank, separator, whole_words = 0, None, False

        def spell(self, word):
            return [len(word)]

        def hear(self, waveform, sample_rate):
            best = [1, 0, 0, 2, 2, 0]
            return Heard(np.log(np.eye(3)[best] + 1e-9), 0.1, -self.silence_s)

    ears, wave = Recogniser(), np.ones(600, np.float32)
    ears.silence_s = 0.0
    assert align_words(ears, wave, 1000, ["a", "bc"]) == [(0.0, 0.1), pytest.approx((0.3, 0.5))]
    ears.silence_s = 0.2
    assert align_words(ears, wave, 1000, ["a", "bc"]) == [(0.0, 0.0), pytest.approx((0.1, 0.3))]


def test_silence_that_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="silence_s is -1, wanted 0 to 10 seconds"):
        reader("hubert + stack", -1)
