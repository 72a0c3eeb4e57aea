"""The doctor: rows and labels that would train badly without an error."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.check.bad_rows import good_row
from tests.inference import tiny
from tests.training.row_cases import distilled, heard, row, spoken_answer

from vivavoce.data.check.config import CheckConfig
from vivavoce.data.check.findings import Finding
from vivavoce.data.check.sets import check_set
from vivavoce.data.conversation import read_conversation
from vivavoce.training.doctor import Doctor, compare_labels, diagnose, doctor
from vivavoce.training.rendering import Rendering, render_row

PROCESSOR = tiny.embeddings_to_text().processor
SPEAKING = tiny.tokens_to_tokens().processor


def kinds(found: list[Finding]) -> list[str]:
    return [f.kind for f in found]


def changed(rendering: Rendering, processor: Any = PROCESSOR, **fields: Any) -> list[Finding]:
    """What is found in a good row's rendering with something changed."""
    return list(diagnose(row(), dataclasses.replace(rendering, **fields), processor))


def test_good_rows_are_fine() -> None:
    assert doctor([row(), row("only text")], PROCESSOR) == []
    assert doctor([row(answer=spoken_answer())], SPEAKING) == []
    assert doctor([row()], distilled(), "distill") == []
    assert doctor([row()], PROCESSOR, "next_token") == []
    assert doctor([row(answer="yes")], tiny.transcript_first().processor) == []


def test_findings_name_their_rows() -> None:
    bad = {
        "id": "b",
        "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes", "loss": 0}],
    }
    found = doctor([row(), bad, {"id": "c"}], PROCESSOR)
    assert [(f.kind, f.row, f.number) for f in found] == [
        ("nothing_learned", "b", 1),
        ("invalid_row", "2", 2),
    ]


def test_nothing_to_learn() -> None:
    [found] = doctor([row(loss=0)], PROCESSOR)
    assert (found.kind, found.seen.split(" of ")[0]) == ("nothing_learned", "none")
    [found] = doctor([row(answer="")], PROCESSOR)
    assert (found.kind, found.seen) == ("nothing_learned", "only the end of the turn is learned")


def test_an_answer_in_audio_for_a_model_that_does_not_speak() -> None:
    found = doctor([row(answer=spoken_answer()[1:])], PROCESSOR)
    assert kinds(found) == ["nothing_learned", "answer_audio_unused"]
    assert kinds(doctor([row(answer=spoken_answer())], PROCESSOR)) == ["answer_audio_unused"]


def test_rows_that_cannot_be_rendered() -> None:
    found = doctor([row("<|audio|>"), row({"type": "audio", "audio": "absent.wav"})], PROCESSOR)
    assert kinds(found) == ["cannot_render", "cannot_render"]
    assert "<|audio|>" in found[0].seen


def test_too_long() -> None:
    size = len(render_row(row(), PROCESSOR).input_ids)
    assert doctor([row()], PROCESSOR, max_tokens=size) == []
    [found] = doctor([row()], PROCESSOR, max_tokens=size - 1)
    assert (found.kind, found.seen) == ("too_long", f"{size} positions, 17 of them audio")


def test_a_loss_on_everything() -> None:
    good = render_row(row(), PROCESSOR)
    everything = [0.0 if token == PROCESSOR.audio_token_id else 1.0 for token in good.input_ids]
    assert kinds(changed(good, weights=everything)) == ["labels_equal_inputs"]
    assert kinds(changed(good, weights=everything, objective="next_token")) == []
    assert kinds(changed(good, weights=[1.0] * len(everything))) == [
        "loss_on_placeholder",
        "labels_equal_inputs",
    ]


def test_an_end_that_is_never_learned() -> None:
    good = render_row(row(), PROCESSOR)
    [found] = changed(good, weights=[*good.weights[:-1], 0.0])
    assert (found.kind, found.seen) == ("end_not_learned", "the last learned token is 'y'")


def test_a_generation_prompt_that_training_does_not_have() -> None:
    processor = distilled()
    processor.tokenizer.chat_template = tiny.LLAMA3.replace(
        "assistant<|end_header_id|>", "assistant<|end_header_id|>!"
    )
    [found] = doctor([row()], processor)
    assert found.kind == "prompt_differs"
    assert "at inference '!'" in found.seen


def test_students_and_teachers() -> None:
    processor = distilled()
    assert kinds(doctor([row("only text")], processor, "distill")) == ["teacher_equals_student"]
    assert kinds(doctor([row(heard(transcript=" "))], processor, "distill")) == ["cannot_render"]
    good = render_row(row(), processor, "distill")
    assert good.teacher_ids is not None
    other = [*good.teacher_ids[:-2], 65, good.teacher_ids[-1]]
    assert kinds(changed(good, processor, teacher_ids=other)) == ["teacher_differs"]
    fewer = [0.0] * (len(good.teacher_ids) - 3) + [1.0] * 3
    assert kinds(changed(good, processor, teacher_weights=fewer)) == ["teacher_differs"]


def test_a_model_that_writes_what_it_hears_needs_transcripts() -> None:
    processor = tiny.transcript_first().processor
    assert kinds(doctor([row(heard(transcript=None), answer="yes")], processor)) == ["no_transcript"]
    assert kinds(doctor([row(answer="yes zebra")], processor)) == ["unknown_words"]


def test_labels_that_are_right() -> None:
    for processor, made in ((PROCESSOR, row()), (SPEAKING, row(answer=spoken_answer(), loss={"audio": 0.5}))):
        found = render_row(made, processor)
        pairs = zip(found.input_ids, found.weights, strict=True)
        assert compare_labels(found, [i if w > 0 else -100 for i, w in pairs], processor) == []


def test_labels_that_are_wrong() -> None:
    good = render_row(row("Hear: "), PROCESSOR)
    ids, right = (
        good.input_ids,
        [i if w > 0 else -100 for i, w in zip(good.input_ids, good.weights, strict=True)],
    )
    assert kinds(compare_labels(good, ids)) == ["labels_equal_inputs"]
    shifted = compare_labels(good, [*right[1:], -100], PROCESSOR)
    assert kinds(shifted) == ["wrong_mask"] and shifted[0].wanted == "labels that are not shifted"
    asked = compare_labels(good, [*ids[:5], *right[5:]], PROCESSOR)
    assert asked[0].seen.startswith("5 positions are learned and should not be, from position 0 ('[')")
    lost = compare_labels(good, [*right[:-1], -100], PROCESSOR)
    assert (
        lost[0].seen
        == f"1 positions are not learned and should be, from position {len(ids) - 1} ('<|eot_id|>') on"
    )
    assert kinds(compare_labels(good, right[1:])) == ["wrong_mask"]
    everything = render_row(row("Hear: "), PROCESSOR, "next_token")
    assert compare_labels(everything, ids) == []


@given(st.sets(st.integers(0, 40), min_size=1))
@settings(max_examples=20)
def test_any_other_span_is_found(places: set[int]) -> None:
    good = render_row(row("Hear: "), PROCESSOR)
    wrong = {p % len(good.input_ids) for p in places}
    learned = [(w > 0) != (i in wrong) for i, w in enumerate(good.weights)]
    labels = [token if yes else -100 for token, yes in zip(good.input_ids, learned, strict=True)]
    assert compare_labels(good, labels)


@pytest.mark.parametrize("workers", [0, 1])
def test_it_looks_at_the_rows_of_a_set(workers: int) -> None:
    made = [good_row("a"), good_row("b", seed=1)]
    made[1]["messages"][1]["content"][0]["text"] = "x" * 400
    look = Doctor(PROCESSOR, "sft", max_tokens=200)
    config = CheckConfig(recordings="none")
    report = check_set(made, config, doctor=look, workers=workers)
    assert report.tally.counts["too_long"] == 1
    assert report.tally.counts["answer_audio_unused"] == 2
    assert report.tally.examples["too_long"][0].row == "b"


def test_processors_can_be_sent_to_workers() -> None:
    look = Doctor(tiny.tokens_to_tokens().processor, "next_token", 10)
    made = pickle.loads(pickle.dumps(look))
    assert kinds(made(row())) == kinds(look(row())) == ["too_long"]
    assert read_conversation(row().row(), 0) == row()
