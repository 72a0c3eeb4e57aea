"""What is measured of a codec: exact use of codebooks, quality of a perfect one, words lost."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from vivavoce.audio.files import write_audio
from vivavoce.base.errors import DataError
from vivavoce.codecs.contract import Codec, CodecSpec, Codes
from vivavoce.evaluation.items import Sound
from vivavoce.evaluation.report.codec import Clip, measure_codec, recorded_clips
from vivavoce.evaluation.report.codec_page import write_codec_report

RATE = 16_000


class Alternating(Codec):
    """Gives its input back, times a gain; codes go 0, 1, 0, 1 at level 0 and stay 3 at level 1."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.spec = CodecSpec("alternating", RATE, 1600, (1, 1), 8, 0, True)
        self.gain = torch.nn.Parameter(torch.tensor(gain))
        self.heard: list[torch.Tensor] = []

    def encode(self, waveform, lengths=None):
        self.heard.append(waveform)
        frames = self.spec.num_frames(waveform.shape[-1])
        level = torch.arange(frames)[None] % 2
        return Codes([level, torch.full_like(level, 3)], [waveform.shape[-1]])

    def decode(self, codes):
        return self.gain * self.heard[-1]

    def stream_encoder(self):
        raise NotImplementedError

    def stream_decoder(self):
        raise NotImplementedError


def clips(count: int = 12) -> list[Clip]:
    rng = np.random.default_rng(0)
    time = np.arange(RATE) / RATE
    waves = [0.1 * np.sin(2 * np.pi * 300 * time) + 0.05 * rng.standard_normal(RATE) for _ in range(count)]
    return [Clip(f"c{i}", Sound(w.astype(np.float32), RATE), "red green") for i, w in enumerate(waves)]


def test_codebook_use_rates_and_speed_are_exact(tmp_path):
    report = measure_codec(Alternating(), clips(), tmp_path)
    first, second = report.levels
    assert (first.codes, first.used, first.size) == (120, 2, 8)
    assert (first.entropy_bits, second.entropy_bits) == (pytest.approx(1.0), 0.0)
    assert second.used == 1
    assert report.kbit_per_second == pytest.approx(
        20 * 3 / 1000
    )  # two levels of 10 codes a second, 3 bits each
    assert report.entropy_kbit_per_second == pytest.approx(10 / 1000)
    assert report.seconds == pytest.approx(12.0)
    assert 0 < report.encode_rtf < 1
    assert "wer: no recogniser is there" in report.unscored


def test_a_perfect_codec_and_a_worse_one(tmp_path):
    perfect = measure_codec(Alternating(), clips(), tmp_path / "a").scores
    worse = measure_codec(Alternating(0.5), clips(), tmp_path / "b").scores
    assert perfect["mel_distance"].value == 0.0
    assert perfect["stoi"].value == pytest.approx(1.0)
    assert worse["mel_distance"].value == pytest.approx(20 * np.log10(2), rel=1e-3)
    assert perfect["mel_distance"].n == 12


def test_words_are_counted_before_and_after(tmp_path):
    def hear(wave: np.ndarray, rate: int) -> str:
        return "red green" if np.abs(wave).max() > 0.15 else "red"

    report = measure_codec(Alternating(0.1), clips(), tmp_path, "by hand", hear, "an ear 1.0")
    assert report.scores["wer original"].value == 0.0
    assert report.scores["wer reconstruction"].value == 0.5
    assert report.scores["wer original"].settings["recogniser"] == "an ear 1.0"
    assert report.verdict.claim == "worse"
    assert (
        "the reconstruction, heard by an ear 1.0, loses to the original by 50.0 points"
        in report.verdict.words
    )
    page = write_codec_report(report, tmp_path).read_text()
    assert page.count("<audio") == 24
    assert "2 of 8 (25%)" in page
    assert "http" not in page.replace("http-equiv", "")
    record = json.loads((tmp_path / "report.json").read_text())
    assert record["scores"]["wer original"]["interval"] == [0.0, 0.0]
    assert record["levels"][0]["used"] == 2


def test_recordings_and_their_words(tmp_path):
    for name, seconds in (("b", 0.5), ("a", 1.0)):
        write_audio(tmp_path / f"{name}.wav", np.zeros(int(8000 * seconds), np.float32), 8000)
    (tmp_path / "a.txt").write_text("red green\n")
    found = recorded_clips(tmp_path, RATE)
    assert [(c.id, c.words, len(c.sound.waveform)) for c in found] == [
        ("000_a", "red green", RATE), ("001_b", None, RATE // 2),
    ]  # fmt: skip
    assert len(recorded_clips(tmp_path, RATE, 1)) == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no recordings"):
        recorded_clips(tmp_path / "empty", RATE)
