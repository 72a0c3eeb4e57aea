"""Recordings in the place of a person's: what is tested is not among them, and the ears can learn them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from domain import DIGITS, all_items, held_out_facts, held_out_questions
from hearing import read_recordings
from make_tokenizer import build
from record_synthetic import main, texts


def test_texts_are_digits_and_questions_that_nobody_is_tested_on() -> None:
    said, items = texts(200), all_items()
    never = {i.question for i in items if i.fact in held_out_facts(items)} | held_out_questions(items)
    assert said[:10] == DIGITS and len(set(said)) == 210 and said == texts(200)
    assert not set(said) & never and set(said[10:]) <= {i.question for i in items}


@pytest.mark.skipif(not shutil.which("flite"), reason="needs flite")
def test_what_is_recorded_can_be_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["x", "--voice", "flite:rms", "--sentences", "2", "--out", str(tmp_path)])
    main()
    rows = read_recordings(tmp_path, set(build().get_vocab()))
    assert [text for _, text in rows] == texts(2) and all(len(wave) > 3000 for wave, _ in rows)
