"""Word times: units that lose nothing, CTC's best path, the sources and the guess."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.data.build.stand_ins import needs

from vivavoce.audio.forced_alignment import align_words, best_path, speech_ends
from vivavoce.audio.synthesis import synthesize
from vivavoce.base.errors import DataError, ModelError
from vivavoce.data.build.contract import Context
from vivavoce.data.build.spans.alignment import Aligner, guess
from vivavoce.data.build.spans.letter_recogniser import LetterRecogniser
from vivavoce.data.build.spans.word_units import Timed, from_words, pieces, units_of
from vivavoce.data.conversation import Audio

TEXTS = [
    "",
    "  ",
    "Go",
    " A  b\nc ",
    "well - known, isn't it?",
    "\u6f6e\u6c34\u6765\u4e86\u3002 and 33 more",
    "\u00bfQu\u00e9 tal?",
]


@pytest.mark.parametrize("text", TEXTS)
def test_nothing_of_a_text_is_lost(text: str) -> None:
    ranges = pieces(text)
    assert "".join(text[a:b] for a, b in ranges) == text
    spoken = [(a, b) for a, b in ranges if any(c.isalnum() for c in text[a:b])]
    units = units_of(text, [Timed(a, b, float(i), i + 0.5) for i, (a, b) in enumerate(spoken)])
    assert (units is None) == (not spoken)
    if units is not None:
        assert "".join(unit.text for unit in units) == text and len(units) == len(spoken)
        assert [unit.start_s for unit in units] == [float(i) for i in range(len(spoken))]


def test_units_share_what_shares_a_time() -> None:
    text = "out of the - sun"
    units = units_of(text, [Timed(0, 3, 0.0, 0.3), Timed(4, 12, 0.3, 0.9), Timed(13, 16, 0.8, 1.5)])
    assert units is not None
    assert [(u.text, u.start_s, u.end_s) for u in units] == [
        ("out ", 0.0, 0.3),
        ("of the - ", 0.3, 0.8),
        ("sun", 0.8, 1.5),
    ]
    assert units_of(text, [Timed(0, 3, 0.5, 0.8), Timed(4, 6, 0.2, 0.4)]) is None


def test_words_that_are_cut_otherwise() -> None:
    text = "to New York-based friends"
    timed = from_words(
        text, [("to", 0.0, 0.2), ("NewYork", 0.2, 0.8), ("based", 0.8, 1.2), ("friends", 1.2, 1.9)]
    )
    units = units_of(text, timed or [])
    assert units is not None
    assert [(u.text, u.start_s) for u in units] == [("to ", 0.0), ("New York-based ", 0.2), ("friends", 1.2)]


def test_given_words() -> None:
    text = "Caf\u00e9 \u2014 \u201cit isn't\u201d 33!"
    words = [("CAFE\u0301", 0.0, 0.5), ("it", 0.5, 0.7), ("isnt", 0.7, 1.0), ("33", 1.0, 2.0)]
    assert from_words(text, words[:1]) is None
    found = from_words(text, [("caf\u00e9", 0.0, 0.5), *words[1:]])
    assert found is not None and [text[t.first : t.end] for t in found] == ["Caf\u00e9", "it", "isn't", "33"]
    assert from_words(text, [*words[1:]]) is None


@pytest.mark.parametrize("targets", [[1], [1, 1], [1, 2, 1], [2, 2, 1]])
def test_best_path_is_the_best_of_all(targets: list[int]) -> None:
    rng = np.random.default_rng(len(targets))
    for frames in range(1, 7):
        scores = rng.normal(size=(frames, 3))
        paths = []
        for path in itertools.product(range(3), repeat=frames):
            merged = [token for token, _ in itertools.groupby(path) if token]
            if merged == targets:
                paths.append((sum(scores[f, t] for f, t in enumerate(path)), path))
        found = best_path(scores, targets, 0)
        assert (found is None) == (not paths)
        if found is not None:
            made = np.zeros(frames, int)
            for token, (a, b) in zip(targets, found, strict=True):
                made[a:b] = token
            assert tuple(made) == max(paths)[1]
    with pytest.raises(DataError, match="none of them blank"):
        best_path(np.zeros((3, 3)), [1, 0], 0)


def save_ctc(folder: Path) -> Path:
    """A small Wav2Vec2 with random weights over letters."""
    import json

    from transformers import (
        Wav2Vec2Config,
        Wav2Vec2CTCTokenizer,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2ForCTC,
        Wav2Vec2Processor,
    )

    folder.mkdir()
    (folder / "letters.json").write_text(
        json.dumps({c: i for i, c in enumerate(["<pad>", "<unk>", "|", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'"])})
    )
    tokenizer = Wav2Vec2CTCTokenizer(
        str(folder / "letters.json"), pad_token="<pad>", bos_token=None, eos_token=None
    )
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        conv_dim=(8, 8), conv_stride=(20, 16), conv_kernel=(20, 16), num_feat_extract_layers=2,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, pad_token_id=0,
    )  # fmt: skip
    Wav2Vec2ForCTC(config).save_pretrained(folder)
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(folder)
    return folder


def test_letters_of_a_model(tmp_path: Path) -> None:
    recogniser = LetterRecogniser(str(save_ctc(tmp_path / "ctc")))
    assert recogniser.spell("Isn't,") == [3 + "ABCDEFGHIJKLMNOPQRSTUVWXYZ'".index(c) for c in "ISN'T"]
    assert (recogniser.blank, recogniser.separator) == (0, 2) and recogniser.spell("33") == []
    wave = np.random.default_rng(0).normal(size=24_300).astype(np.float32) * 0.1
    heard = recogniser.hear(wave, 24_000)
    assert heard.log_probs.shape[1] == 30 and np.allclose(np.exp(heard.log_probs).sum(1), 1, atol=1e-5)
    assert heard.frame_s * len(heard.log_probs) == pytest.approx(1.0125)
    spans = align_words(recogniser, wave, 24_000, ["The", "-", "tide", "goes"])
    assert spans is not None and spans[1] is None
    known = [span for span in spans if span is not None]
    assert len(known) == 3 and all(a < b <= 1.0125 + 1e-9 for a, b in known)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(known))
    assert align_words(recogniser, wave, 24_000, ["The", "33"]) is None
    assert align_words(recogniser, wave, 24_000, ["tide"] * 20) is None
    with pytest.raises(ModelError, match="cannot be loaded"):
        LetterRecogniser(str(tmp_path))


def test_flite_and_the_guess() -> None:
    """Sounds of flite become words by the lexicon; the guess is never as far off as equal words would be."""
    needs("flite")
    text = "When the river froze, the children walked to school across the ice."
    waveform, rate = synthesize(text, "flite:slt")
    part = Audio(0, transcript=text, speaker="flite:slt", language="en")
    true = Aligner(["synthesizer"], None, Context()).align(part, waveform, rate)
    guessed = Aligner(["uniform"], None, Context()).align(part, waveform, rate)
    assert true is not None and guessed is not None and (true[0], guessed[0]) == ("synthesizer", "uniform")
    assert (
        [u.text for u in true[1]]
        == [u.text for u in guessed[1]]
        == [t + " " for t in text.split()[:-1]] + ["ice."]
    )
    starts = np.array([u.start_s for u in true[1]])
    equal = np.linspace(*speech_ends(waveform, rate), len(starts) + 1)[:-1]
    off = np.abs(np.array([u.start_s for u in guessed[1]]) - starts)
    assert off.mean() < 0.2 and off.max() < np.abs(equal - starts).max()
    assert true[1][4].start_s - true[1][3].end_s > 0.05  # the comma


@pytest.mark.parametrize(
    ("text", "language"),
    [("One two, three.", "en"), ("Eins, zwei drei", "de"), ("\u4f60\u597d\u3002\u6f6e\u6c34", "zh"), ("a", None)],
)  # fmt: skip
def test_guess_fills_the_time(text: str, language: str | None) -> None:
    timed = guess(text, language, 1.0, 3.0)
    assert timed[0].start_s == 1.0 and timed[-1].end_s == pytest.approx(3.0)
    assert all(a.start_s < a.end_s <= b.start_s + 1e-9 for a, b in itertools.pairwise(timed))
    assert guess("...", language, 0.0, 1.0) == []


def test_speech_ends() -> None:
    wave = np.zeros(1000, np.float32)
    assert speech_ends(wave, 1000) == (0.0, 1.0)
    wave[300:700] = 0.5
    wave[100:200] = 0.001
    assert speech_ends(wave, 1000) == (0.3, 0.7)
    assert speech_ends(wave, 1000, below_db=60.0) == (0.1, 0.7)


def test_a_model_is_loaded_once_before_the_first_row() -> None:
    made: list[Any] = []

    class Deaf:
        blank, separator, whole_words = 0, None, True

        def __init__(self, name: str) -> None:
            made.append(name)

        def spell(self, word: str) -> list[int]:
            return []

    context = Context(services={"aligner": Deaf})
    Aligner(["given"], "service:any", context)
    assert not made
    aligner = Aligner(["aligner"], "service:any", context)
    assert made == ["any"]
    for _ in range(2):
        assert aligner.align(Audio(0, transcript="hello"), np.ones(100, np.float32), 1000) is None
    assert made == ["any"]
