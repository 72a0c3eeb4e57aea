"""Several voices in one set: texts that leave tests out, even draws, rows that name their voice."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
import torch
from judge import kind_of
from make_voices import plan
from outside_words import CARRIER, WORDS
from prepare_voice import read_names, read_times
from speaking import SpeakingData
from speech_plans import plan_spoken
from transformers import AutoTokenizer

import vivavoce
from vivavoce.tokens.phones import default_lexicon

BUNDLE = Path(vivavoce.__file__).parent / "bundle" / "nano"


def test_texts_leave_out_what_is_tested_and_some_stand_alone() -> None:
    pytest.importorskip("pocketsphinx")
    texts = [job["text"] for job in plan("flite:awb", 200, 0.3, seed=0, left_out=set())]
    left_out = set(texts[:50])
    jobs = plan("flite:awb", 200, 0.3, seed=0, left_out=left_out)
    assert len(jobs) == 200 and not left_out & {job["text"] for job in jobs}
    assert 0.2 < sum(job["kind"] == "short" for job in jobs) / 200 < 0.4
    assert jobs == plan("flite:awb", 200, 0.3, seed=0, left_out=left_out)


def test_further_texts_for_the_voices_are_new_and_within_the_grammars() -> None:
    pytest.importorskip("pocketsphinx")
    texts = [job["text"] for job in plan_spoken(set(), 60)]
    left_out = set(texts[:20])
    jobs = plan_spoken(left_out, 60)
    again = [job["text"] for job in jobs]
    assert len(set(again)) == 60 and not left_out & set(again) and set(texts[20:]) <= set(again)
    assert all(kind_of(text) for text in again) and jobs == plan_spoken(left_out, 60)
    assert {job["split"] for job in jobs} == {"test_spoken"}


def test_the_first_voice_is_the_default_and_no_two_share_a_name() -> None:
    assert read_names(["flite:slt=default", "flite:awb=awb"]) == {"flite:slt": "default", "flite:awb": "awb"}
    for wrong in (["flite:awb=awb"], ["flite:slt=default", "flite:awb=default"]):
        with pytest.raises(SystemExit, match="default"):
            read_names(wrong)
    assert read_times(["pau:0.2", "g:0.25"]) == [("pau", 0.2), ("g", 0.25)]


def test_voices_are_drawn_alike_however_many_rows_they_have(tmp_path: Path) -> None:
    row = {
        "text": "go", "split": "voice", "phones": [14, 26], "ends_s": [0.1, 0.2], "word_of": [0, 0], "borders": [3],
        "codes": torch.zeros(3, 7, dtype=torch.int16),
    }  # fmt: skip
    items = [{**row, "voice": "default"}] * 9 + [{**row, "voice": "awb"}] + [{**row, "split": "test_spoken"}]
    stored = {"items": items, "frame_s": 2048 / 24_000, "voices": ["default", "awb"]}
    torch.save(stored, tmp_path / "voices.pt")
    data = SpeakingData(tmp_path / "voices.pt", AutoTokenizer.from_pretrained(BUNDLE))
    assert data.voice_config.voices == ("default", "awb") and data.voice_config.own_pace
    assert [len(data.rows[voice]) for voice in (0, 1)] == [9, 1]
    assert Counter(data.batch(random.Random(0), 8).voices.tolist()) == {0: 4, 1: 4}
    torch.save({**stored, "items": items[:1], "voices": ["default"]}, tmp_path / "one.pt")
    one = SpeakingData(tmp_path / "one.pt", AutoTokenizer.from_pretrained(BUNDLE))
    assert not one.voice_config.own_pace


def test_words_outside_are_in_no_lexicon_and_sound_different() -> None:
    assert len(WORDS) >= 50 and len(set(WORDS.values())) == len(WORDS)
    assert not [word for word in WORDS if word in default_lexicon()]
    assert all(word in default_lexicon() for word in CARRIER.format("").split())
