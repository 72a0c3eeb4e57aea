"""`converse`: the true turns are where the voices are; mined again, the conversation comes back."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tests.data.build.stand_ins import assert_pure, check_settings, needs, run

from vivavoce.audio.files import read_audio
from vivavoce.audio.speaker_turns import read_rttm, rttm_lines
from vivavoce.base.errors import ConfigError
from vivavoce.data.build.contract import Context, Fault
from vivavoce.data.build.mining.given_turns import given_turns
from vivavoce.data.conversation import Audio, Conversation, Message, Text
from vivavoce.data.recordings import encode_flac

RATE = 8000
SILENT = {"noise_db": None, "sample_rate": RATE}


def spoken(number: int, *seconds: float, edge_s: float = 0.3) -> Conversation:
    """A row of clips with silence at their edges: the user's loud, the assistant's less so."""
    row = Conversation(f"row/{number}", [], license="cc0-1.0", source="made up", meta={"number": number})
    for i, length_s in enumerate(seconds):
        edge = np.zeros(round(edge_s * RATE), np.float32)
        tone = np.full(round(length_s * RATE), (0.5, 0.25)[i % 2], np.float32)
        row.audios.append({"bytes": encode_flac(np.concatenate([edge, tone, edge]), RATE)})
        words = [("a", edge_s, edge_s + length_s / 2), ("b", edge_s + length_s / 2, edge_s + length_s)]
        part = Audio(i, transcript=f"a b {i}", language="en", speaker="xy"[i % 2], words=words)
        row.messages.append(Message(("user", "assistant")[i % 2], [part]))
    return row


def test_turns_are_where_the_voices_are() -> None:
    rows = [spoken(i, 1.0, 2.0, 0.5, 1.5, 1.0) for i in range(12)]
    settings = {**SILENT, "overlap_share": 0.5, "gap_s": [0.2, 0.6], "overlap_s": [0.1, 0.4]}
    made = assert_pure("converse", settings, Context(seed=1), rows)
    gaps = []
    for result in made:
        (row,) = result
        (part,) = row.audio_parts()
        turns = given_turns(part)
        assert [t.turn.speaker for t in turns] == list("xyxyx") and [t.text for t in turns] == [
            f"a b {i}" for i in range(5)
        ]
        sound, rate = read_audio(row.audios[0]["bytes"])
        wanted = np.zeros(sound.size)
        for number, given in enumerate(turns):
            start, stop = (round(t * rate) for t in given.turn[:2])
            wanted[start:stop] += (0.5, 0.25)[number % 2]
            assert given.words[0][1] == given.turn.start_s and given.words[1][2] == given.turn.end_s
        assert np.abs(sound - wanted).max() < 1e-4
        gaps += [b.turn.start_s - a.turn.end_s for a, b in pairwise(turns)]
        assert turns[0].turn.start_s == 0.5 and sound.size == round((turns[-1].turn.end_s + 0.5) * rate)
        assert (row.license, row.source, row.meta["number"]) == ("cc0-1.0", "made up", int(row.id[4:]))
        assert part.transcript == " ".join(f"a b {i}" for i in range(5)) and len(part.words or ()) == 10
    early = [gap for gap in gaps if gap < 0]
    assert 0.3 < len(early) / len(gaps) < 0.7
    assert min(early) >= -0.4001 and max(early) <= -0.0999
    assert all(0.1999 <= gap <= 0.6001 for gap in gaps if gap >= 0)


def test_overlap_is_at_most_half_of_a_turn() -> None:
    settings = {**SILENT, "overlap_share": 1.0, "overlap_s": [5, 5]}
    (row,) = run("converse", settings, Context(), [spoken(0, 1.0, 3.0, 2.0)])[0]
    first, second, third = (g.turn for g in given_turns(next(row.audio_parts())))
    assert first.end_s - second.start_s == pytest.approx(
        0.5
    ) and second.end_s - third.start_s == pytest.approx(1.0)


def test_true_turns_as_rttm(tmp_path: Path) -> None:
    (row,) = run("converse", SILENT, Context(), [spoken(0, 1.0, 2.0)])[0]
    turns = [g.turn for g in given_turns(next(row.audio_parts()))]
    (tmp_path / "a.rttm").write_text("\n".join(rttm_lines(turns, "a")))
    for one, other in zip(read_rttm(tmp_path / "a.rttm"), turns, strict=True):
        assert one[:2] == pytest.approx(other[:2], abs=2e-3) and one.speaker == other.speaker


def test_what_cannot_be_joined() -> None:
    typed = spoken(0, 1.0, 1.0)
    typed.messages[1].parts = [Text("typed")]
    made = run("converse", {"min_turns": 3}, Context(), [typed, spoken(1, 1.0, 1.0)])
    assert [r.kind for r in made if isinstance(r, Fault)] == ["not_spoken", "few_turns"]
    for settings, message in (
        ({"gap_s": [1.0, 0.5]}, r"gap_s is \[1.0, 0.5\]"),
        ({"overlap_share": 2}, "overlap_share is 2"),
        ({"noise_db": 3}, "noise_db is 3"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_settings("converse", settings)


def test_a_conversation_comes_back() -> None:
    """Spoken by two voices, joined, and mined by voice activity and diarisation as if nobody knew."""
    needs("espeak", "flite")
    texts = [
        "Which bus goes to the central station from here?", "You can take number twelve on the other side.",
        "How long does the ride take at this time of day?", "It takes about twenty minutes, or half an hour.",
    ]  # fmt: skip
    typed = [Message(("user", "assistant")[i % 2], [Text(text)]) for i, text in enumerate(texts)]
    row = Conversation("bus", typed, license="cc0-1.0", source="made up")
    voices = {"voices": ["flite:slt"], "assistant_voices": ["flite:rms"], "roles": ["user", "assistant"]}
    (said,) = run("speak", voices, Context(), [row])[0]
    (talk,) = run("converse", {}, Context(), [said])[0]
    mining = {"vad": "energy", "speakers": 2, "transcripts": "given", "rules": {"min_answer_s": 1.0}}
    pairs = run("mine", mining, Context(), [talk])[0]
    assert [m.audios[0].transcript for pair in pairs for m in pair.messages] == texts
    assert {(pair.license, pair.source) for pair in pairs} == {("cc0-1.0", "made up")}
    (whole,) = run("mine", {**mining, "form": "dialogue"}, Context(), [talk])[0]
    assert [p.transcript for p in whole.audio_parts()] == texts
