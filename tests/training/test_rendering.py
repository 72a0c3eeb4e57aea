"""What a model reads of a row is what it is asked at inference and what training learns."""

from __future__ import annotations

from typing import Any

import pytest
from tests.inference import tiny
from tests.training.row_cases import ASKED, SAID, distilled, heard, marked, row, spoken_answer, stored

from vivavoce.base.errors import AudioError, ConfigError, LayoutError, ModelError
from vivavoce.data.conversation import read_conversation
from vivavoce.training.distillation_rows import distillation_row
from vivavoce.training.rendering import Rendering, render_row

HEARING = {
    "embeddings": lambda: tiny.embeddings_to_text().processor,
    "embeddings by a plain template": distilled,
    "embeddings with text around": marked,
    "embeddings and codes": lambda: tiny.embeddings_to_tokens().processor,
    "codes": lambda: tiny.tokens_to_text().processor,
    "codes and codes": lambda: tiny.tokens_to_tokens().processor,
}


def learned(rendering: Rendering, processor: Any) -> str:
    return str(processor.tokenizer.decode(rendering.learned()))


def question(seconds: float = 1.3) -> list[dict[str, Any]]:
    """The messages up to the answer, as a user of the model gives them."""
    part = {"type": "audio", "audio": stored(heard(seconds)), "sampling_rate": 16_000}
    return [
        {
            "role": "user",
            "content": [{"type": "text", "text": "Hear: "}, part, {"type": "text", "text": "then say"}],
        }
    ]


@pytest.mark.parametrize("make", HEARING.values(), ids=HEARING)
def test_what_is_trained_is_what_is_asked_at_inference(make: Any) -> None:
    processor = make()
    found = render_row(row("Hear: ", heard(), "then say"), processor, encode=True)
    asked = processor.prepare(question())["input_ids"]
    assert found.input_ids[: len(asked)] == found.asked_ids == asked
    assert not any(found.weights[: len(asked)])
    assert learned(found, processor) == SAID + processor.tokenizer.eos_token


@pytest.mark.parametrize("make", HEARING.values(), ids=HEARING)
def test_clips_are_counted_rightly_without_their_codec(make: Any) -> None:
    processor = make()
    conversation = row(heard(1.0), answer=spoken_answer())
    made = render_row(conversation, processor, encode=True)
    counted = render_row(conversation, processor)
    assert len(counted.input_ids) == len(made.input_ids)
    assert counted.weights == made.weights
    assert [c.positions for c in counted.clips] == [c.positions for c in made.clips]
    assert [c.known for c in counted.clips] == [c.how != "tokens" for c in counted.clips]
    assert counted.asked_ids == counted.input_ids[: len(counted.asked_ids or ())]


@pytest.mark.parametrize("make", HEARING.values(), ids=HEARING)
def test_spans_name_the_part_of_the_row(make: Any) -> None:
    """Also behind a spoken answer that the model has no place for."""
    first, second = row(heard(1.0), answer=spoken_answer()).messages, row(heard(0.5)).messages
    conversation = row()
    conversation.messages = [*first, *second]
    found = render_row(conversation, make())
    used = [clip for clip in found.clips if clip.how != "unused"]
    assert [(s.index, s.length, s.message) for s in found.spans] == [
        (c.index, c.positions, c.message) for c in used
    ]
    assert found.spans[-1].index == 2


def test_a_spoken_answer_is_learned_by_its_own_weight() -> None:
    processor = tiny.tokens_to_tokens().processor
    found = render_row(row(answer=spoken_answer(), loss={"audio": 0.25}), processor, encode=True)
    [_, span] = found.spans
    inside = found.weights[span.start : span.start + span.length]
    assert set(inside) == {0.25}
    codes = processor.audio_ids(stored(spoken_answer()[1]))
    assert found.input_ids[span.start : span.start + span.length] == codes
    assert found.weights[span.start - 1] == found.weights[-1] == 1.0
    assert not any(found.weights[: found.spans[0].start + found.spans[0].length])


def test_a_template_that_places_clips_takes_spoken_answers_too() -> None:
    """By embeddings in and codes out: the same weights as by a template that knows nothing of audio."""
    processor = tiny.embeddings_to_tokens().processor
    conversation = row(answer=spoken_answer(), loss={"text": 1.0, "audio": 0.5})
    placed = render_row(conversation, processor)
    processor.tokenizer.chat_template = tiny.LLAMA3
    plain = render_row(conversation, processor)
    for found in (placed, plain):
        [ear, mouth] = found.spans
        assert (ear.embedded, mouth.embedded) == (True, False)
        assert set(found.weights[mouth.start : mouth.start + mouth.length]) == {0.5}
        assert found.weights[mouth.start - 1] == 1.0
    assert placed.learned() == plain.learned()


def test_answers_before_the_last_are_learned_unless_the_row_says_no() -> None:
    messages = [
        {"role": "user", "content": "one"}, {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"}, {"role": "assistant", "content": "four"},
    ]  # fmt: skip
    for processor in (tiny.embeddings_to_text().processor, tiny.tokens_to_text().processor):
        both = render_row(read_conversation({"messages": messages}, 0), processor)
        assert learned(both, processor) == "two<|eot_id|>four<|eot_id|>"
        quiet = [messages[0], {**messages[1], "loss": 0}, *messages[2:]]
        last = render_row(read_conversation({"messages": quiet}, 0), processor)
        assert learned(last, processor) == "four<|eot_id|>"
        assert last.input_ids == both.input_ids
        half = [messages[0], {**messages[1], "loss": 0.5}, *messages[2:]]
        weighed = render_row(read_conversation({"messages": half}, 0), processor)
        first = len(both.learned()) - len(last.learned())
        assert [w for w in weighed.weights if w] == [0.5] * first + [1.0] * len(last.learned())


def test_a_model_that_writes_what_it_hears_learns_the_transcript() -> None:
    processor = tiny.transcript_first().processor
    found = render_row(row(answer="yes"), processor)
    asked = processor.prepare([{"role": "user", "content": [tiny.clip(1.3)]}])["input_ids"]
    assert found.input_ids[: len(asked)] == asked == found.asked_ids
    assert learned(found, processor).split() == [*ASKED.split(), "<|assistant|>", "yes", "<|end|>"]


def test_everything_but_embeddings_is_learned_by_next_token() -> None:
    for make in HEARING.values():
        found = render_row(row("Hear: ", heard()), make(), "next_token")
        embedded = {i for s in found.spans if s.embedded for i in range(s.start, s.start + s.length)}
        assert [i for i, w in enumerate(found.weights) if not w] == sorted(embedded)


def test_codes_of_the_row_are_used_and_their_recording_is_not_read() -> None:
    processor = tiny.tokens_to_tokens().processor
    vocabulary = processor.vocabulary_in
    ids = list(range(0, 7 * 16, 16)) * 3
    tokens = {"codec": "nano", "layout": "orpheus", "num_samples": 6000, "ids": ids}
    part = {"type": "audio", "audio": "absent.wav", "tokens": tokens}
    found = render_row(row(part), processor)
    [clip] = found.clips
    assert (clip.known, clip.positions, clip.seconds) == (True, 23, 0.25)
    [span] = found.spans
    inside = found.input_ids[span.start : span.start + span.length]
    assert inside == [vocabulary.start_id, *(vocabulary.first_code_id + i for i in ids), vocabulary.end_id]
    with pytest.raises(AudioError, match=r"absent\.wav"):  # in another layout they would have to be made anew
        render_row(row({**part, "tokens": {**tokens, "layout": "interleaved"}}), processor)
    with pytest.raises(LayoutError):
        render_row(row({**part, "tokens": {**tokens, "ids": ids[:-1]}}), processor)


def test_codes_of_other_weights_are_refused() -> None:
    processor = tiny.tokens_to_tokens().processor
    tokens = {"codec": "x", "codec_hash": "ffff", "layout": "orpheus", "num_samples": 1, "ids": [0]}
    record = {**processor.ears.vocabulary, "codec_weights": "abcd"}
    object.__setattr__(processor.ears, "vocabulary", record)
    processor.__dict__.pop("vocabulary_in", None)
    with pytest.raises(ModelError, match=r"ffff.*abcd"):
        render_row(row({"type": "audio", "tokens": tokens}), processor)


def test_a_part_of_a_recording_is_what_counts() -> None:
    processor = tiny.embeddings_to_text().processor
    whole, part = heard(2.0), heard(2.0, start=0.5, end=1.0)
    assert render_row(row(part), processor).clips[0].seconds == 0.5
    assert render_row(row(whole), processor).clips[0].seconds == 2.0


def test_student_and_teacher() -> None:
    processor = distilled()
    conversation = row("Hear: ", heard(), " and say.")
    found = render_row(conversation, processor, "distill")
    [clip] = found.clips
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Hear: "},
                                     {"type": "audio", "audio": "x", "transcript": ASKED},
                                     {"type": "text", "text": " and say."}]},
        {"role": "assistant", "content": SAID},
    ]  # fmt: skip
    by_hand = distillation_row(
        processor.tokenizer, messages, [clip.positions], processor.audio_token_id, apart=False
    )
    assert (found.input_ids, found.teacher_ids) == (by_hand.input_ids, by_hand.teacher_ids)
    assert found.learned() == [label for label in by_hand.labels if label != -100]
    assert found.learned("teacher") == found.learned()
    assert f"Hear: {ASKED} and say." in processor.tokenizer.decode(found.teacher_ids)
    [span] = found.spans
    assert set(found.input_ids[span.start : span.start + span.length]) == {processor.audio_token_id}


def test_models_that_read_aloud() -> None:
    processor = tiny.text_to_tokens().processor
    answer = [{**heard(0.7, 24_000), "transcript": SAID, "speaker": "leo"}]
    found = render_row(row("Say it.", answer=answer), processor)
    text = processor.tokenizer.decode(found.input_ids)
    roles = processor.vocabulary_out.roles
    assert f"leo: {SAID}<|eot_id|>" in text
    assert found.input_ids[: len(found.asked_ids or ())] == found.asked_ids
    assert found.input_ids[-1] == roles["end_of_ai"]
    [span] = found.spans
    assert found.input_ids[span.start] == processor.vocabulary_out.start_id == (found.asked_ids or [])[-1]
    assert found.weights == [0.0] * (span.start + 1) + [1.0] * span.length
    with pytest.raises(ModelError, match="no assistant turn with audio"):
        render_row(row("Say it."), processor)


def test_what_cannot_be_rendered_is_said() -> None:
    with pytest.raises(ConfigError, match="objective is 'guess'"):
        render_row(row(), tiny.embeddings_to_text().processor, "guess")
    with pytest.raises(ModelError, match="does not hear"):
        render_row(row(), tiny.text_to_tokens().processor)
    with pytest.raises(ModelError, match="hears otherwise"):
        render_row(row(), tiny.tokens_to_text().processor, "distill")
    with pytest.raises(ModelError, match="places audio itself"):
        render_row(row(), tiny.embeddings_to_text().processor, "distill")
    with pytest.raises(ConfigError, match=r"contains <\|audio\|>"):
        render_row(row("<|audio|>"), tiny.embeddings_to_text().processor)
    forgets = tiny.embeddings_to_text().processor
    forgets.tokenizer.chat_template = (
        "{% for m in messages %}{{ m.content if m.content is string else '<|audio|>' }}"
        "{{ '!' if m.role == 'user' and loop.last else '?' }}<|eot_id|>{% endfor %}"
    )
    with pytest.raises(ModelError, match="otherwise once it is answered"):
        render_row(row(), forgets)
