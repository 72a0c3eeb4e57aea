"""`augment`: the same whatever the batches, who is changed, what is told, and what of a row stays true."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from tests.data.build.recorded_rows import RATE, heard, recorded, save_voices, voice
from tests.data.build.stand_ins import ask, assert_pure, check_settings, run

from vivavoce.base.errors import ConfigError
from vivavoce.data.build.contract import Context, Fault
from vivavoce.data.build.sounds.augment import DEFAULT
from vivavoce.data.conversation import Audio, Conversation, Message, Text
from vivavoce.data.recordings import encode_flac

CODES = {"codec": "nano", "codec_hash": "1", "layout": "orpheus", "num_samples": 24_000, "ids": [1, 2, 3]}


def one(settings: dict[str, Any], row: Conversation, root: Path = Path()) -> Conversation:
    (result,) = run("augment", settings, Context(seed=3, root=root), [row])
    assert not isinstance(result, Fault), result
    (made,) = result
    return made


def effect(name: str, **settings: Any) -> dict[str, Any]:
    return {"effects": [{"type": name, **settings}]}


def told(row: Conversation, message: int = 0) -> list[dict[str, Any]]:
    return row.messages[message].audios[0].labels["augment"]["effects"]


def test_everything_is_pure_and_nothing_but_the_recording_changes(tmp_path: Path) -> None:
    save_voices(tmp_path / "voices")
    rows = [recorded(i) for i in range(14)] + [ask(90, "typed", "yes")]
    everything = [
        {"type": "speed", "p": 0.5}, {"type": "speed", "p": 0.5, "keep_pitch": True},
        {"type": "mix", "folder": "voices", "p": 0.5}, {"type": "room", "p": 0.5},
        {"type": "room", "folder": "voices", "p": 0.2},
        {"type": "noise", "p": 0.9, "folder": "voices", "kinds": ["white", "pink", "brown", "hum", "impulses", "chords",
                                                                  "babble", "recordings"]},
        {"type": "band", "p": 0.5}, {"type": "codec", "p": 0.7}, {"type": "gain", "p": 0.5, "clip": True},
        {"type": "clip", "p": 0.3}, {"type": "gain"}, {"type": "dropouts", "p": 0.5},
    ]  # fmt: skip
    settings = {"effects": everything, "copies": 2, "keep": True, "unheard": {"share": 0.3}}
    context = Context(seed=1, root=tmp_path)
    results = assert_pure("augment", settings, context, rows, sizes=(1, 4))
    done = set()
    for row, made in zip(rows, results, strict=True):
        if not row.audios:
            assert made == [row]
            continue
        assert made[0] == row and [m.id for m in made[1:3]] == [f"{row.id}/augmented{i}" for i in (0, 1)]
        for new in made[1:3]:
            wave, part = heard(new)
            assert np.isfinite(wave).all() and len(new.audios) == 1
            assert part.transcript == row.messages[0].audios[0].transcript
            assert new.messages[1:] == row.messages[1:] and (new.license, new.source, new.meta) == (
                row.license, row.source, row.meta,
            )  # fmt: skip
            done |= {step["type"] for step in told(new)}
        assert made[1].audios != made[2].audios
    assert done >= {step["type"] for step in everything}
    other = run("augment", settings, Context(seed=2, root=tmp_path), rows)
    assert [r[1].audios for r in other[:14]] != [r[1].audios for r in results[:14]]


def test_the_default_changes_most_rows_and_keeps_their_names() -> None:
    rows = [recorded(i) for i in range(40)]
    made = run("augment", {}, Context(), rows)
    assert [r[0].id for r in made] == [row.id for row in rows] and {len(r) for r in made} == {1}
    counts: dict[str, int] = {}
    for (row,) in made:
        for step in row.messages[0].audios[0].labels.get("augment", {}).get("effects", ()):
            counts[step["type"]] = counts.get(step["type"], 0) + 1
    for step in DEFAULT:  # a gain of nothing, or no dropout in a short clip, leaves some out
        assert abs(counts.get(step["type"], 0) - 40 * step["p"]) < 11


def test_a_copy_that_is_no_other_is_left_out() -> None:
    settings = {"effects": [{"type": "gain", "p": 0.5, "db": [-6, -6]}], "copies": 4}
    for i in range(12):
        ((*made,),) = run("augment", settings, Context(), [recorded(i)])
        plain = [m for m in made if "augment" not in m.messages[0].audios[0].labels]
        assert len(plain) <= 1 and len({m.id for m in made}) == len(made)
        ((*kept,),) = run("augment", {**settings, "keep": True}, Context(), [recorded(i)])
        assert kept[0] == recorded(i) and all("augment" in m.messages[0].audios[0].labels for m in kept[1:])


def dialogue(**more: Any) -> Conversation:
    """A question and an answer, both spoken, and one more question that is a part of the first recording."""
    row = recorded(0, tokens=dict(CODES), words=[("is", 0.1, 0.4), ("rain", 0.5, 0.9)], **more)
    row.audios.append({"bytes": encode_flac(voice(1.0, 220), RATE)})
    answer = Audio(1, transcript="Yes.", speaker="b", tokens=dict(CODES))
    row.messages[1:] = [
        Message("assistant", [Text("Yes."), answer]), Message("user", [Audio(0, 0.5, 1.25, "rain")]),
        Message("assistant", [Text("Yes.")]),
    ]  # fmt: skip
    return row


def test_roles_that_are_not_named_stay_as_they_are_with_their_codes() -> None:
    row = dialogue()
    made = one(effect("gain", db=[-6, -6]), row)
    assert made.messages[1].text == "Yes." and made.messages[1].audios[0].tokens == CODES
    assert np.array_equal(heard(made, 1, 1)[0], heard(row, 1, 1)[0])
    assert len(heard(made, 2)[0]) == 0.75 * RATE and len(made.audios) == 3
    answer = one({**effect("gain", db=[-6, -6]), "roles": ["assistant"]}, row)
    assert answer.messages[0] == row.messages[0] and "augment" in answer.messages[1].audios[0].labels
    assert answer.messages[1].audios[0].tokens is None and answer.messages[1].text == "Yes."


def test_stale_codes_never_survive() -> None:
    row = dialogue()
    made = one(effect("gain", db=[-6, -6]), row)
    part = made.messages[0].audios[0]
    assert part.tokens is None and part.labels["augment"]["codes_dropped"] == "nano"
    assert "codes_dropped" not in made.messages[2].audios[0].labels["augment"]  # had none
    (fault,) = run("augment", {**effect("gain"), "tokens": "fault"}, Context(), [row])
    assert isinstance(fault, Fault) and fault.kind == "stale_codes"
    untouched = one({**effect("gain", p=0.0), "tokens": "fault"}, row)
    assert untouched == row and untouched.messages[0].audios[0].tokens == CODES  # still true
    many = run("augment", {"copies": 3}, Context(), [dialogue() for _ in range(3)])
    for new in (new for result in many for new in result):
        for part in (part for m in new.messages if m.role == "user" for part in m.audios):
            assert part.tokens is None or "augment" not in part.labels


@pytest.mark.parametrize("keep_pitch", [False, True])
def test_speed_scales_length_and_word_times_exactly(keep_pitch: bool) -> None:
    words = [("is", 0.1, 0.4), ("rain", 0.5, 0.9), ("likely", 0.9, 1.0)]
    row = recorded(1, words=words)
    row.messages[0].audios[0].start_s, row.messages[0].audios[0].end_s = 0.25, 1.25
    made = one(effect("speed", factor=[1.25, 1.25], keep_pitch=keep_pitch), row)
    wave, part = heard(made)
    assert len(wave) == 12_800 and part.words == [(w, a / 1.25, b / 1.25) for w, a, b in words]
    assert told(made) == [{"type": "speed", "factor": 1.25, "keep_pitch": keep_pitch}]
    twice = one({"effects": [{"type": "speed", "factor": [f, f]} for f in (1.25, 0.8)]}, row)
    assert len(heard(twice)[0]) == RATE
    assert np.allclose([b for _, _, b in heard(twice)[1].words or ()], [0.4, 0.9, 1.0], rtol=1e-12)
    drawn = one(
        effect("speed", factor=[0.9, 1.1], keep_pitch=keep_pitch), recorded(2, words=words, rate=22_050)
    )
    factor = told(drawn)[0]["factor"]
    assert len(heard(drawn)[0]) == np.ceil(33_075 / factor - 1e-9)
    assert heard(drawn)[1].words == [(w, a / factor, b / factor) for w, a, b in words]
    timed = recorded(0)
    timed.messages[0].more["time"] = [0.0, 1.5]
    (fault,) = run("augment", effect("speed"), Context(), [timed])
    assert isinstance(fault, Fault) and fault.kind == "timed"


def test_all_other_effects_keep_the_length() -> None:
    for name in ("band", "clip", "codec", "dropouts", "gain", "noise", "room"):
        for kind in ("mp3", "ogg", "opus", "mu-law", "low-rate") if name == "codec" else (None,):
            for size in (RATE, 12_345):
                settings = effect(name, **({"kinds": [kind]} if kind else {}))
                assert len(heard(one(settings, recorded(0, voice(1.0)[:size])))[0]) == min(size, RATE)


@pytest.mark.parametrize("size", [1, 2, 50, 4000])
def test_silence_and_tiny_and_many_channelled_recordings(size: int) -> None:
    everything = [{"type": s["type"], "p": 1} for s in DEFAULT] + [{"type": "clip"}]
    for seed in range(6):
        for wave in (np.zeros(size, np.float32), 0.2 * np.ones(size, np.float32)):
            row = recorded(seed, wave)
            ((made,),) = run("augment", {"effects": everything}, Context(seed=seed), [row])
            out = heard(made)[0]
            assert np.isfinite(out).all() and abs(len(out) - size) <= 0.12 * size + 1
            assert wave.any() or np.abs(out).max() < 1e-3
    file = io.BytesIO()
    soundfile.write(file, np.stack([voice(0.5, 100 + k) for k in range(8)], 1), RATE, format="WAV")
    row = recorded(0)
    row.audios = [{"bytes": file.getvalue()}]
    assert len(heard(one(effect("noise"), row))[0]) == 0.5 * RATE


def test_peaks_stay_below_full_scale_and_labels_say_by_how_much() -> None:
    loud = recorded(0, voice(1.0) / 0.31)
    made = one(effect("noise", kinds=["white"], snr_db=[0, 0]), loud)
    wave = heard(made)[0]
    limit = told(made)[-1]
    assert (
        np.abs(wave).max() == pytest.approx(0.99, abs=1e-4) and limit["type"] == "limit" and limit["db"] < 0
    )


def test_rows_that_cannot_be_used() -> None:
    only_codes, missing, long = recorded(0), recorded(1), recorded(2, voice(3.0))
    only_codes.messages[0].parts = [Audio(tokens=dict(CODES))]
    missing.messages[0].audios[0].audio = "nowhere.wav"
    made = run("augment", {"max_seconds": 2}, Context(), [only_codes, missing, long, recorded(3)])
    kinds = [r.kind if isinstance(r, Fault) else "made" for r in made]
    assert kinds == ["no_recording", "unreadable", "too_long", "made"]
    assert made[2].filtered and not made[0].filtered


def test_a_second_stage_adds_to_what_is_told() -> None:
    once = one(effect("gain", db=[-6, -6]), recorded(0))
    twice = one(effect("band", kinds=["am"]), copy.deepcopy(once))
    assert told(twice) == [{"type": "gain", "db": -6.0}, {"type": "band", "kind": "am"}]


def test_all_wrong_settings_are_told_at_once(tmp_path: Path) -> None:
    effects = [
        {"type": "noise", "snr_db": [30, 5], "kinds": ["babble", "purple"], "p": 2},
        {"type": "room", "rt60_s": [0.2]}, {"type": "speed", "factor": [0.1, 1.0]}, {"type": "nois"},
        {"type": "gain", "decibel": 3}, {"type": "band", "kinds": []}, {"type": "mix"},
        {"type": "codec", "kinds": ["aac"], "compression": [0, 1.5]}, {"p": 1},
    ]  # fmt: skip
    unheard = {"share": -1, "answers": {"en": []}, "level_db": [-90, 0], "kinds": ["babble"]}
    settings = {"effects": effects, "copies": 0, "roles": ["tool"], "tokens": "hide", "unheard": unheard}
    with pytest.raises(ConfigError) as caught:
        check_settings("augment", {**settings, "tokens": "drop"})
    for text in (
        "snr_db is [30.0, 5.0]", "'purple'", "p is 2", "rt60_s is [0.2]", "factor is [0.1, 1.0]", "did you mean",
        "decibel is unknown", "kinds is empty", "wanted a folder", "'aac'", "compression is [0.0, 1.5]",
        "effects[8]", "copies 0", "'tool'", "share is -1", "answers.en", "level_db is [-90.0, 0.0]", "needs a folder",
    ):  # fmt: skip
        assert text.lower() in str(caught.value).lower(), text
    for name, wanted in (("none", "no recordings"), ("empty", "no recordings")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(ConfigError, match=wanted):
            run("augment", effect("mix", folder=name), Context(root=tmp_path), [])
