"""Rows in which nothing is heard: how many, of what form, and that a check finds nothing wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.data.build.recorded_rows import RATE, heard, recorded, save_voices, voice
from tests.data.build.stand_ins import assert_pure, run

from vivavoce.audio.augment import rms
from vivavoce.base.errors import ConfigError
from vivavoce.data.build.contract import Context
from vivavoce.data.build.sounds.unheard import ANSWERS
from vivavoce.data.check.sets import check_set
from vivavoce.data.conversation import Audio, Conversation, Message, Text
from vivavoce.data.manifest import write_set


def unheard(rows: list[Conversation], root: Path = Path(), **settings: Any) -> list[Conversation]:
    made = run(
        "augment", {"effects": [], "keep": True, "copies": 0, "unheard": settings}, Context(root=root), rows
    )
    return [row for result in made for row in result if row.id.endswith("/unheard")]


def test_share_and_form() -> None:
    rows = [recorded(i, words=[("is", 0.1, 0.2)], labels={"emotion": "sad"}) for i in range(300)]
    settings = {"effects": [], "copies": 1, "unheard": {"share": 0.2}}
    results = assert_pure("augment", settings, Context(seed=5), rows, elsewhere=False, sizes=(7,))
    assert [r[0] for r in results] == rows
    found = [r[1] for r in results if len(r) > 1]
    assert 300 * 0.2 - 21 < len(found) < 300 * 0.2 + 21
    for row in found:
        wave, part = heard(row)
        assert len(wave) == 1.5 * RATE and 1e-3 < np.abs(wave).max() < 1
        assert (part.transcript, part.words, part.speaker) == ("", None, None) and part.language == "en"
        assert list(part.labels) == ["augment"] and row.messages[1].text in ANSWERS
        told = part.labels["augment"]["unheard"]
        wanted = told.get("level_db", -50.0)
        assert 20 * np.log10(rms(wave)) == pytest.approx(wanted, abs=0.3)
        assert row.license == "cc0-1.0" and row.task == "chat"
    assert len({row.messages[1].text for row in found}) == len(ANSWERS)
    assert len({row.messages[0].audios[0].labels["augment"]["unheard"]["kind"] for row in found}) == 6
    assert not unheard(rows, share=0.0) and len(unheard(rows, share=1.0)) == 300


def test_they_pass_a_check(tmp_path: Path) -> None:
    save_voices(tmp_path / "voices")
    kinds = ["white", "pink", "brown", "hum", "impulses", "chords", "silence", "babble", "recordings"]
    rows = [recorded(i, voice(0.3 + i / 20)) for i in range(40)]
    made = unheard(rows, tmp_path, share=1.0, kinds=kinds, folder="voices", level_db=[-50, -15])
    assert len({row.messages[0].audios[0].labels["augment"]["unheard"]["kind"] for row in made}) == 9
    write_set(tmp_path / "set", made, [])
    report = check_set(tmp_path / "set")
    assert report.ok and report.facts.rows == 40
    found = {finding["kind"] for finding in report.as_dict()["findings"]}
    assert found <= {"quiet", "band_limited", "no_speaker", "duplicate_text"}


def test_babble_is_far_and_of_many(tmp_path: Path) -> None:
    save_voices(tmp_path / "voices", 2)
    with pytest.raises(ConfigError, match="less than 3"):
        unheard([], tmp_path, kinds=["babble"], folder="voices")
    save_voices(tmp_path / "voices", 4)
    row = recorded(0, (0.1 * np.random.default_rng(0).standard_normal(2 * RATE)).astype(np.float32))
    (made,) = unheard([row], tmp_path, share=1.0, kinds=["babble"], folder="voices", level_db=[-30, -30])
    wave, part = heard(made)
    power = np.abs(np.fft.rfft(wave)) ** 2
    assert power[2 * 3500 :].sum() < 1e-3 * power.sum() and part.labels["augment"]["unheard"]["voices"] == 8
    assert 20 * np.log10(rms(wave)) == pytest.approx(-30, abs=0.1)


def test_a_dialogue_ends_where_nothing_is_heard_and_typed_words_do_not_tell() -> None:
    row = recorded(0, tokens={"codec": "nano", "ids": [1], "layout": "orpheus", "num_samples": 3})
    first = row.messages[0].audios[0]
    row.messages.insert(0, Message("system", [Text("Be kind.")]))
    row.messages[1].parts = [Text("Answer. "), first, Text(f"I said: {first.transcript}")]
    row.messages += [Message("user", [Audio(0, 0.5, 1.0, "rain")]), Message("assistant", [Text("Yes.")])]
    lengths = set()
    for seed in range(8):
        settings = {"effects": [], "keep": True, "copies": 0, "unheard": {"share": 1.0}}
        ((kept, made),) = run("augment", settings, Context(seed=seed), [row])
        lengths.add(len(made.messages))
        assert kept == row and made.messages[-1].text in ANSWERS and made.messages[0].text == "Be kind."
        turn = made.messages[-2]
        if len(made.messages) == 3:
            assert [type(p) for p in turn.parts] == [Text, Audio] and turn.text == "Answer. "
            assert (
                turn.audios[0].tokens is None and turn.audios[0].labels["augment"]["codes_dropped"] == "nano"
            )
            assert len(made.audios) == 1
        else:
            assert made.messages[1] == row.messages[1] and len(heard(made, 3)[0]) == 0.5 * RATE
            assert made.messages[1].audios[0].tokens is not None  # that recording is as it was
    assert lengths == {3, 5}


def test_answers_are_in_the_language_of_the_clip() -> None:
    rows = [recorded(i, language=language) for i, language in enumerate(("en", "vi", "vi-VN", "de", None))]
    answers = {"en": ["Pardon?"], "vi": ["Xin lỗi?"]}
    made = unheard(rows, share=1.0, answers=answers)
    assert [(row.id[:5], row.messages[1].text) for row in made] == [
        ("row/0", "Pardon?"), ("row/1", "Xin lỗi?"), ("row/2", "Xin lỗi?"), ("row/4", "Pardon?"),
    ]  # fmt: skip
    bare = recorded(9, answer=None)
    (made_bare,) = unheard([bare], share=1.0)
    assert [m.role for m in made_bare.messages] == ["user", "assistant"]
