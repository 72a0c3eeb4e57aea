"""Dialogues as messages: order, roles, and what becomes of turns that stand side by side."""

# ruff: noqa: RUF001  (Chinese punctuation is meant)

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from vivavoce.tokens.trajectory_messages import dialogue_text, merge_turns, turn_messages


def clip(name: str) -> dict:
    return {"type": "audio", "audio": name}


def text(words: str) -> dict:
    return {"type": "text", "text": words}


def test_roles_are_kept_and_the_question_stands_with_the_last_clip() -> None:
    clips = [clip("a"), clip("b"), clip("c")]
    assert turn_messages(clips, ["Oh!", "I see."], question="How?") == [
        {"role": "user", "content": [clip("a")]},
        {"role": "assistant", "content": "Oh!"},
        {"role": "user", "content": [clip("b")]},
        {"role": "assistant", "content": "I see."},
        {"role": "user", "content": [clip("c"), text("How?")]},
    ]
    typed = turn_messages(clips[:2], ["Oh!"], ["one", "two"], "How?")
    assert [m["content"] for m in typed] == [[clip("a"), text("one")], "Oh!", [clip("b"), text("two\nHow?")]]
    apart = turn_messages(clips[:1], question="How?", question_apart=True)
    assert [m["content"] for m in apart] == [[clip("a")], "How?"]
    assert turn_messages([text("typed")], question="How?") == [{"role": "user", "content": "typed\nHow?"}]


@given(st.lists(st.sampled_from(["", "yes"]), min_size=0, max_size=5))
def test_merging_makes_roles_alternate_and_loses_nothing(replies: list[str]) -> None:
    clips = [clip(str(i)) for i in range(len(replies) + 1)]
    merged = merge_turns(turn_messages(clips, replies, question="How?"), "en")
    assert all(a["role"] != b["role"] for a, b in pairwise(merged))
    parts = [p for m in merged for p in (m["content"] if m["role"] == "user" else [])]
    assert [p for p in parts if p["type"] == "audio"] == clips
    assert parts[-1] == text("How?")


def test_merged_turns_are_numbered_through_the_dialogue() -> None:
    messages = turn_messages([clip("a"), clip("b"), clip("c")], ["", "嗯"], question="如何？")
    assert merge_turns(messages, "zh") == [
        {"role": "user", "content": [text("第1轮："), clip("a"), text("\n第2轮："), clip("b")]},
        {"role": "assistant", "content": "嗯"},
        {"role": "user", "content": [clip("c"), text("如何？")]},
    ]


def test_the_text_of_a_dialogue_has_a_line_per_message() -> None:
    assert dialogue_text(["a", "b"], ["r"], "q") == "a\nr\nb\nq"
    assert dialogue_text([], ["r"], "") == "r"
    assert dialogue_text(["a", ""], ["r"], "q") == "a\nr\nq"
