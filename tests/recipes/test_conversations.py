"""Measuring memory: conversations of every kind and length, and what counts as right."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace

import conversations
import pytest
from conversations import KINDS, draw, hold
from domain import all_items, held_out_facts
from follow_ups import Turn, held_out_steps, needs_before, opening, reply
from speech_plans import HELD_OUT_VOICES
from tables import memory_rows


@pytest.mark.parametrize("kind", KINDS)
def test_conversations_of_every_kind(kind: str) -> None:
    rng, unseen = random.Random(0), held_out_facts(all_items())
    for count in (2, 3, 4, 5, 6):
        turns = draw(rng, kind, count)
        assert len(turns) == count
        for i, turn in enumerate(turns):
            made = reply(turns[:i], turn.question) if needs_before(turn.question) else opening(turn.question)
            assert made is not None and made.answer == turn.answer
        assert (turns[-1].fact in held_out_steps() | unseen) == (kind == "new step")
        assert not {turn.fact for turn in turns[:-1]} & (held_out_steps() | unseen)
        assert needs_before(turns[-1].question) == (kind != "sums in plain words")


class Talker:
    """A session that knows the domain, but adds in steps what it should multiply."""

    def __init__(self, assistant: object) -> None:
        self.turns: list[Turn] = []
        self.question = ""

    def feed_text(self, text: str) -> None:
        self.question = text

    def respond(self):
        made = reply(self.turns, self.question) if needs_before(self.question) else opening(self.question)
        assert made is not None
        self.turns.append(made)
        said = "no idea" if "times" in self.question else made.answer.capitalize() + "."
        yield from (SimpleNamespace(text=piece) for piece in (said[:3], said[3:], None))


def test_each_new_voice_has_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who never hears rms rightly: the table says so of that voice alone."""

    class Listener(Talker):
        def feed_audio(self, text: str, voice: str) -> None:
            self.question = text
            self.deaf = voice == "flite:rms"

        def respond(self):
            yield from (
                super().respond() if not getattr(self, "deaf", False) else [SimpleNamespace(text="what")]
            )

    monkeypatch.setattr(conversations, "Session", Listener)
    monkeypatch.setattr(conversations, "synthesize", lambda text, voice: (text, voice))
    monkeypatch.setattr(conversations.vivavoce, "load", lambda name: None)
    out = tmp_path / "memory.json"
    monkeypatch.setattr("sys.argv", ["", "--kinds", "next,again", "--n", "24", "--json", str(out)])
    conversations.main()
    figures = {x["name"]: x for x in json.loads(out.read_text())["figures"]}
    by_voice = {voice: figures[f"all turns, new voice {voice}"] for voice in HELD_OUT_VOICES}
    assert [x["n"] for x in by_voice.values()] == [4] * 4
    assert by_voice["flite:rms"]["value"] == 0.0
    assert figures["all turns, spoken, new voices"]["value"] == pytest.approx(
        sum(x["value"] for x in by_voice.values()) / 4
    )
    rows = memory_rows(figures)
    assert sum(line.startswith("| ... by ") for line in rows) == 4
    assert {line.count("|") for line in rows} == {5}


def test_right_is_the_answer_without_its_punctuation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversations, "Session", Talker)
    turns = [opening("what is seven plus five")]
    for question in ("and minus four", "and times two", "plus one"):
        turns.append(reply(turns, question))  # type: ignore[arg-type]
    assert hold(None, turns, None, random.Random(0)) == [True, True, False, True]
