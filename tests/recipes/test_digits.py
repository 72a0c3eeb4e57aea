"""Digits in many accents, and what the ears make of them: complete tables, honest splits, equal draws."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from accents import PHONEMES, RESPELLED, accented
from domain import DIGITS, all_items, held_out_facts, held_out_questions
from hearing import HEAR_RATE, OWN, SILENCE_S, WIDTH_STEP, HearingData, cut_ends
from make_digits import CARRIERS, plan
from make_speech import write_shards
from make_tokenizer import build
from network import ctc_loss
from speech_data import SpeechShards
from speech_plans import HELD_OUT_VOICES
from tests.recipes.tones import tone

from vivavoce.audio.files import write_audio
from vivavoce.base.errors import DataError
from vivavoce.models.clips import ClipReader
from vivavoce.models.config import EmbeddingsIn
from vivavoce.tokens.phones import default_lexicon, phone_ids


class Words:
    """A tokenizer that gives each word a number."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def convert_tokens_to_ids(self, tokens):
        one = lambda token: self.known.setdefault(token, 1 + len(self.known))  # noqa: E731
        return one(tokens) if isinstance(tokens, str) else [one(token) for token in tokens]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("speech")
    row = {"split": "train", "voice": "flite:slt", "answer": "x", "seed": 1}
    rows = [{**row, "kind": kind, "text": "what is one plus one"} for kind in ("talk", "digit")]
    write_shards([*rows, {**rows[0], "split": "unknown", "kind": "unknown"}], tone, root / "first", 1)
    write_shards(plan(0.01), tone, root / "more", 1)
    people = root / "people"
    people.mkdir()
    for digit in range(10):
        write_audio(people / f"{digit}_lucas_0.wav", np.full(800, 0.1, np.float32), HEAR_RATE)
    return root


@pytest.fixture(scope="module")
def data(folder: Path) -> HearingData:
    return HearingData(folder / "first", folder / "people", Words(), ("lucas",), 0.5, folder / "more")


def test_every_accent_says_every_digit() -> None:
    assert list(PHONEMES) == DIGITS
    for language, words in RESPELLED.items():
        assert len(words.split()) == 10, language
    rng = random.Random(0)
    said = {accented("six", rng) for _ in range(500)}
    assert len({language for language, _ in said}) > 20
    assert any(text.startswith("[[") for _, text in said) and all(text for _, text in said)


def test_plan_is_balanced_repeatable_and_leaves_held_out_voices_alone() -> None:
    jobs = plan(0.2)
    assert jobs == plan(0.2)
    digits = Counter(job["text"] for job in jobs if job["kind"] == "digit")
    assert set(digits) == set(DIGITS) and max(digits.values()) == min(digits.values())
    kept = {voice.split(":")[1].split("+")[-1] for voice in HELD_OUT_VOICES}
    assert not kept & {job["voice"].split(":")[1].split("+")[-1] for job in jobs}
    assert {job["text"] for job in jobs if job["kind"] == "carrier"} == set(CARRIERS)


def test_shards_that_are_complete_are_not_made_again(tmp_path: Path) -> None:
    jobs = plan(0.06)
    write_shards(jobs, tone, tmp_path, 1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "001.jsonl").unlink()
    (tmp_path / "000.i16").write_bytes(b"kept")
    write_shards(jobs, tone, tmp_path, 1)
    assert (tmp_path / "000.i16").read_bytes() == b"kept"
    assert (tmp_path / "001.i16").read_bytes() == before["001.i16"]
    assert len(SpeechShards(tmp_path).rows) == len(jobs)


def test_sums_around_real_digits_keep_to_what_is_trained(data: HearingData) -> None:
    items = all_items()
    never = {i.question for i in items if i.fact in held_out_facts(items)} | held_out_questions(items)
    drawn = [data._person(random.Random(seed))[1] for seed in range(300)]
    sums = {text for text in drawn if not set(text.split()) <= set(DIGITS)}
    assert 15 < sum(text in sums for text in drawn) < 90
    assert not sums & never and sums <= {i.question for i in items}


def test_recordings_of_ones_own_are_one_more_person(folder: Path, tmp_path: Path) -> None:
    """Sentences as they are; ten digits give strings and sums too."""
    sound = lambda name, text: (  # noqa: E731
        write_audio(tmp_path / f"{name}.wav", np.full(1600, 0.1, np.float32), HEAR_RATE),
        (tmp_path / f"{name}.txt").write_text(text),
    )
    tokenizer = build()
    speech, digits = folder / "first", folder / "people"
    sound("a", "What is one plus one?")
    first = HearingData(speech, None, tokenizer, own=tmp_path)
    assert first.speakers == (OWN,) and first._person(random.Random(0))[1] == "what is one plus one"
    for number, digit in enumerate(DIGITS):
        sound(digit, digit if number % 2 else str(number))
    both = HearingData(speech, digits, tokenizer, ("lucas",), own=tmp_path)
    assert both.speakers == ("lucas", OWN) and len(both.own) == 1
    alone = HearingData(speech, None, tokenizer, own=tmp_path)
    drawn = Counter(alone._person(random.Random(seed))[1] for seed in range(300))
    assert 100 < drawn.pop("what is one plus one") < 200
    assert set(DIGITS) <= set(drawn) and max(len(text.split()) for text in drawn) == 5
    sound("z", "supercalifragilistic")
    with pytest.raises(DataError, match=r"z\.wav: 'supercalifragilistic'"):
        HearingData(speech, None, tokenizer, own=tmp_path)


def test_equal_seeds_give_equal_batches(data: HearingData) -> None:
    first, second = (data.batch(random.Random(3), 12, 1.0) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.features, b.features) and torch.equal(a.lengths, b.lengths)
        assert a.transcripts == b.transcripts and 0 <= a.features.shape[2] - int(a.lengths.max()) < WIDTH_STEP
        assert torch.isfinite(a.features).all()
    assert [len(batch.transcripts) for batch in first] == [6, 3, 3]


def test_little_is_cut_off_the_ends() -> None:
    rng, wave = random.Random(0), np.arange(1, 4001)
    cuts = [cut_ends(wave, rng) for _ in range(200)]
    assert all(np.array_equal(cut, np.arange(cut[0], cut[-1] + 1)) for cut in cuts)
    assert 0.3 < np.mean([len(cut) == 4000 for cut in cuts]) < 0.45
    assert 650 < 4000 - min(map(len, cuts)) <= 2 * 480
    assert len(cut_ends(wave.repeat(20), random.Random(1), 1.0)) >= 80_000 - 2 * 800


def test_clips_are_read_as_the_product_reads_them(data: HearingData) -> None:
    """With the same silence around them, frame for frame."""
    parts = {"encoder": {"type": "mel_ctc", "vocab_size": 9}, "connector": {"type": "stack", "encoder_size": 256,
             "text_size": 8, "stack_factor": 2, "hidden_size": 8}}  # fmt: skip
    reader = ClipReader(EmbeddingsIn(**parts, audio_token_id=1, silence_s=SILENCE_S))
    wave = (0.1 * np.random.default_rng(0).standard_normal(5001)).astype(np.float32)
    assert torch.equal(torch.from_numpy(data._features(wave)), reader.read([wave]).features[0])


def test_phones_of_a_batch_are_those_of_its_words(data: HearingData, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = [(np.zeros(8000, np.float32), text) for text in ("six two", "")]  # the second is to be refused
    assert data._collate(drawn, random.Random(0), 0.0).phones is None
    monkeypatch.setattr(data, "lexicon", default_lexicon())
    phones = data._collate(drawn, random.Random(0), 0.0).phones
    assert phones == [[1 + i for i in phone_ids("s ih k s t uw".split())], []]


def test_ctc_loss_is_the_mean_per_target_and_an_empty_target_wants_blanks() -> None:
    logits = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0))
    frames = torch.tensor([7, 5])
    both = ctc_loss(logits, frames, [[1, 2], []], blank=0)
    first = F.ctc_loss(
        logits[:1].log_softmax(-1).transpose(0, 1), torch.tensor([[1, 2]]), frames[:1], torch.tensor([2]),
        reduction="sum",
    )  # fmt: skip
    blanks = -logits[1, :5].log_softmax(-1)[:, 0].sum()
    assert float(both) == pytest.approx(float(first / 2 + blanks / 4) / 2, rel=1e-5)
