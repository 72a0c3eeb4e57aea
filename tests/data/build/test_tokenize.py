"""`tokenize`: published codes, the same in any batch, what becomes of recordings, and what is put aside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.data.build.stand_ins import assert_pure, check_settings, run

from vivavoce.audio.files import write_audio
from vivavoce.base.errors import ConfigError
from vivavoce.codecs.loading import load_codec
from vivavoce.data.build.contract import Context, Fault
from vivavoce.data.build.pipeline import Pipeline
from vivavoce.data.build.run import build
from vivavoce.data.conversation import Audio, Conversation, Message, Text
from vivavoce.data.manifest import read_set
from vivavoce.data.recordings import encode_flac
from vivavoce.tokens.layouts import build_layout

GOLDEN = Path(__file__).parents[2] / "goldens" / "data" / "jan_llama3"
ENCODEC = {"codec": str(GOLDEN / "encodec_tiny"), "layout": "interleaved"}
NANO = {"codec": "nano"}


def sound(num_samples: int, seed: int) -> np.ndarray:
    """Buzz and noise, float32 [S]."""
    rng = np.random.default_rng(seed)
    buzz = np.mod(np.cumsum(np.full(num_samples, 0.004 + 0.002 * (seed % 5))), 1.0) - 0.5
    return (0.2 * buzz + 0.02 * rng.standard_normal(num_samples)).astype(np.float32)


def spoken(number: int, *clips: np.ndarray, rate: int = 24_000) -> Conversation:
    """A row with a recording in each turn, user and assistant by turns."""
    audios = [{"bytes": encode_flac(clip, rate)} for clip in clips]
    messages = [
        Message(("user", "assistant")[i % 2], [Text(f"turn {i}"), Audio(i, transcript=f"words {i}")])
        for i in range(len(clips))
    ]
    return Conversation(f"row/{number}", messages, audios, license="cc0-1.0")


LENGTHS = (3000, 24_000, 7001, 30_720, 12_345, 1, 9000, 24_000, 40_000, 5000)


def clips_of(number: int) -> tuple[np.ndarray, np.ndarray]:
    return sound(LENGTHS[number], number), sound(40_001 - LENGTHS[number], number + 50)


def one(result: Any) -> Conversation:
    assert not isinstance(result, Fault), result
    assert len(result) == 1
    return result[0]


def tokens(row: Conversation) -> list[Any]:
    return [part.tokens for part in row.audio_parts()]


def test_codes_of_published_pipelines() -> None:
    items = json.loads((GOLDEN / "encodec_codes.json").read_text())["items"]
    rows = [
        Conversation(str(i), [Message("user", [Audio(item["file"])])])
        for i, item in enumerate(items)
        if not item["file"].startswith("wav/silence")
    ]
    assert len(rows) >= 8
    results = run("tokenize", ENCODEC, Context(root=GOLDEN), rows)
    for row, result in zip(rows, results, strict=True):
        [found] = tokens(one(result))
        codes = items[int(row.id)]["codes"]
        assert found["ids"] == [c for pair in zip(*codes, strict=True) for c in pair], row.messages[0]
        assert found["codec"] == "encodec_24khz" and found["layout"] == "interleaved"


@pytest.mark.parametrize("settings", [ENCODEC, NANO], ids=["encodec", "nano"])
def test_codes_do_not_hang_on_batches(settings: dict[str, Any]) -> None:
    rows = [spoken(i, *clips_of(i)) for i in range(len(LENGTHS))]
    results = assert_pure("tokenize", settings, Context(), rows, settings is ENCODEC, sizes=(1, 4))
    codec = load_codec(settings["codec"])
    layout = build_layout(settings.get("layout", "orpheus"), codec.spec)
    for number in (1, 3, 5):
        for found, clip in zip(tokens(one(results[number])), clips_of(number), strict=True):
            stored = (np.rint(clip * 32768) / 32768).astype(np.float32)
            alone = codec.encode(torch.from_numpy(stored)[None, None])
            assert found == {
                "codec": codec.spec.name, "codec_hash": codec.spec.weights, "num_samples": len(clip),
                "layout": layout.name, "ids": layout.flatten(alone),
            }  # fmt: skip


def test_whole_blocks_become_shards(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(70):
        write_audio(tmp_path / "in" / f"{i:02d}.flac", sound(2000 + 137 * i, i), 24_000)
    stages = [{"type": "tokenize", **ENCODEC, "keep_audio": False, "max_seconds": 0.45}]
    pipeline = Pipeline(source={"type": "recordings", "folder": str(tmp_path / "in")}, stages=stages)
    outcome = build(pipeline, tmp_path / "out", workers=0)
    codec = load_codec(ENCODEC["codec"])
    assert outcome.manifest.codecs == {"encodec_24khz": codec.spec.weights} and outcome.manifest.rows == 65
    assert outcome.kinds == {"tokenize: too_long": 5}
    made = list(read_set(tmp_path / "out"))
    assert [len(tokens(row)[0]["ids"]) for row in made] == [
        2 * -(-(2000 + 137 * i) // 320) for i in range(65)
    ]
    assert outcome.manifest.audio_tokens == sum(len(tokens(row)[0]["ids"]) for row in made)
    assert not any(row.audios for row in made)


def test_roles_and_recordings() -> None:
    row = spoken(0, sound(5000, 0), sound(6000, 1), sound(7000, 2))
    row.messages[0].parts[1].start_s, row.messages[0].parts[1].end_s = 0.05, 0.15
    [result] = run("tokenize", {**ENCODEC, "roles": ["user"]}, Context(), [row])
    made = one(result)
    assert [t and t["num_samples"] for t in tokens(made)] == [2400, None, 7000]
    assert made.audios == row.audios and [p.audio for p in made.audio_parts()] == [0, 1, 2]
    assert [p.start_s for p in made.audio_parts()] == [0.05, 0.0, 0.0]
    [result] = run("tokenize", {**ENCODEC, "roles": ["user"], "keep_audio": False}, Context(), [row])
    dropped = one(result)
    assert tokens(dropped) == tokens(made)
    assert dropped.audios == [row.audios[1]] and [p.audio for p in dropped.audio_parts()] == [None, 0, None]
    first = next(dropped.audio_parts())
    assert (first.start_s, first.end_s, first.transcript) == (0.0, None, "words 0")
    assert [m.text for m in dropped.messages] == ["turn 0", "turn 1", "turn 2"]


def test_other_rates_are_resampled() -> None:
    clip = sound(8000, 3)
    settings = [{**ENCODEC}, {**ENCODEC, "resampler": "soxr"}]
    results = [run("tokenize", s, Context(), [spoken(0, clip, rate=16_000)]) for s in settings]
    found = [tokens(one(result))[0] for [result] in results]
    assert [t["num_samples"] for t in found] == [12_000, 12_000]
    assert found[0]["ids"] != found[1]["ids"]


def test_codes_that_are_there() -> None:
    [first] = run("tokenize", ENCODEC, Context(), [spoken(0, sound(5000, 0))])
    row = one(first)
    mark = {**tokens(row)[0], "ids": [1, 2]}
    next(row.audio_parts()).tokens = mark
    assert tokens(one(run("tokenize", ENCODEC, Context(), [row])[0])) == [mark]
    [again] = run("tokenize", {**ENCODEC, "existing": "replace"}, Context(), [row])
    assert tokens(one(again)) == tokens(
        one(run("tokenize", ENCODEC, Context(), [spoken(0, sound(5000, 0))])[0])
    )
    for key, other in (("codec", "mimi"), ("codec_hash", "0" * 16), ("layout", "orpheus")):
        next(row.audio_parts()).tokens = {**mark, key: other}
        [result] = run("tokenize", ENCODEC, Context(), [row])
        assert len(tokens(one(result))[0]["ids"]) == 32, key
    next(row.audio_parts()).audio = None
    [fault] = run("tokenize", ENCODEC, Context(), [row])
    assert isinstance(fault, Fault) and fault.kind == "other_codec" and not fault.filtered
    next(row.audio_parts()).tokens = mark
    assert tokens(one(run("tokenize", {**ENCODEC, "existing": "replace"}, Context(), [row])[0])) == [mark]


def test_what_is_put_aside() -> None:
    quiet = np.full(4000, 10 ** (-72 / 20), np.float32)
    text = Conversation("text", [Message("user", [Text("hello")])])
    missing = Conversation("missing", [Message("user", [Audio("not_there.wav")])])
    rows = [
        spoken(0, sound(4000, 0)), spoken(1, quiet), spoken(2, sound(30_000, 1)), text, missing,
        spoken(5, sound(4000, 2), np.zeros(500, np.float32)),
    ]  # fmt: skip
    found = assert_pure("tokenize", {**ENCODEC, "max_seconds": 1.0}, Context(), rows, elsewhere=False)
    kinds = [r.kind if isinstance(r, Fault) else "made" for r in found]
    assert kinds == ["made", "silent", "too_long", "made", "unreadable", "silent"]
    assert [r.filtered for r in found if isinstance(r, Fault)] == [False, True, False, False]
    assert "message 1" in found[5].reason and "1.2 s" in found[2].reason
    assert one(found[3]).row() == text.row()
    louder = {**ENCODEC, "silence_db": -80.0}
    assert not isinstance(run("tokenize", louder, Context(), [spoken(1, quiet)])[0], Fault)


@pytest.mark.parametrize(
    "wrong",
    [
        {"roles": ["users"]}, {"roles": []}, {"layout": "orfeus"}, {"resampler": "linear"}, {"existing": "drop"},
        {"max_seconds": 0.0}, {"silence_db": 3.0}, {"codek": "nano"},
    ],
)  # fmt: skip
def test_wrong_settings(wrong: dict[str, Any]) -> None:
    check_settings("tokenize", ENCODEC)
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        check_settings("tokenize", {**ENCODEC, **wrong})
