"""Rows for distillation: the student's and the teacher's chat, and what of them is learned."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tokens.conftest import llama_tokenizer, metaspace_tokenizer

from vivavoce.base.errors import ConfigError, ModelError, VocabularyError
from vivavoce.tokens.chat import render_chat
from vivavoce.training.distillation import prediction_mask
from vivavoce.training.distillation_rows import DistillationRow, collate_rows, distillation_row

TOKENIZER = llama_tokenizer()
TOKENIZER.add_tokens(["<|audio|>"], special_tokens=True)
HERE = TOKENIZER.convert_tokens_to_ids("<|audio|>")
EOT = TOKENIZER.eos_token_id
HEADER = "<|start_header_id|>assistant<|end_header_id|>\n\n"
CHATML = (
    "{% for m in messages %}<|start_header_id|>{{ m.role }}\n{{ m.content }}<|eot_id|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant\n{% endif %}"
)
# lets the answer run into what was asked
JOINS = "{% for m in messages %}{{ m.content }}{{ '<|eot_id|>' if m.role != 'user' }}{% endfor %}"
# tells the question otherwise once it is answered
FORGETS = (
    "{% for m in messages %}{{ m.content }}{{ '<|eot_id|>' if m.role == 'user' and loop.last else '|' }}"
    "{% endfor %}"
)


def clip(transcript: str | None, **more: Any) -> dict[str, Any]:
    return {"type": "audio", "path": "unread.wav", "transcript": transcript, **more}


def chat(*asked: str | dict[str, Any], answer: str = "rain is likely in Hanoi") -> list[dict[str, Any]]:
    parts = [{"type": "text", "text": p} if isinstance(p, str) else p for p in asked]
    return [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": answer},
    ]


def learned(ids: list[int], labels: list[int]) -> str:
    assert all(label in (-100, token) for token, label in zip(ids, labels, strict=True))
    return str(TOKENIZER.decode([label for label in labels if label != -100]))


def make(messages: list[dict[str, Any]], counts: list[int], **options: Any) -> DistillationRow:
    return distillation_row(TOKENIZER, messages, counts, HERE, **options)


WEATHER = chat("what is ", clip("the weather"), " today?")

words = st.text(st.sampled_from("ab the.,é東"), min_size=1, max_size=8).filter(str.strip)
asked_parts = st.lists(st.one_of(words, words.map(clip)), min_size=1, max_size=5)


@given(asked=asked_parts, answer=words, apart=st.booleans())
@settings(max_examples=60)
def test_both_sides_learn_the_same_answer(asked: list[Any], answer: str, apart: bool) -> None:
    messages = chat(*asked, answer=answer)
    counts = [i + 2 for i in range(sum(isinstance(p, dict) for p in asked))]
    row = make(messages, counts, apart=apart)
    assert learned(row.input_ids, row.labels) == f"{HEADER}{answer.strip()}<|eot_id|>"
    assert [t for t in row.labels if t != -100] == [t for t in row.teacher_labels if t != -100]
    assert row.teacher_ids[-1] == row.input_ids[-1] == EOT
    assert row.input_ids.count(HERE) == sum(counts)
    assert HERE not in row.teacher_ids


@given(asked=asked_parts, answer=words)
@settings(max_examples=30)
def test_the_student_hears_what_it_is_asked_at_inference(asked: list[Any], answer: str) -> None:
    messages = chat(*asked, answer=answer)
    counts = [3] * sum(isinstance(p, dict) for p in asked)
    prompt = render_chat(
        TOKENIZER,
        messages[:-1],
        counts,
        placeholder_id=HERE,
        loss_on="nothing",
        add_generation_prompt=True,
        apart=True,
    )
    assert make(messages, counts).input_ids[: len(prompt.input_ids)] == prompt.input_ids


def test_the_teacher_reads_the_transcripts_in_their_places() -> None:
    messages = chat("compare ", clip("starts here"), " and ", clip("ends here"))
    written = [messages[0], {"role": "user", "content": "compare starts here and ends here"}, messages[2]]
    wanted = TOKENIZER.apply_chat_template(written, return_dict=True)["input_ids"]
    assert make(messages, [4, 5]).teacher_ids == wanted


def test_text_after_a_clip_stands_alone_if_wanted() -> None:
    tokenizer = metaspace_tokenizer()
    tokenizer.add_tokens(["<|audio|>"], special_tokens=True)
    placeholder = tokenizer.convert_tokens_to_ids("<|audio|>")
    template = "{% for m in messages %}<s>{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<s>{% endif %}"

    def after(apart: bool) -> list[int]:
        row = distillation_row(
            tokenizer, chat(clip("weather"), "hello"), [2], placeholder, apart=apart, template=template
        )
        begin = len(row.input_ids) - row.input_ids[::-1].index(placeholder)
        return row.input_ids[begin : row.input_ids.index(tokenizer.eos_token_id, begin)]

    alone = tokenizer("hello", add_special_tokens=False)["input_ids"]
    assert after(apart=True) == alone
    assert after(apart=False) != alone


def test_a_limit_cuts_both_rows_after_the_same_token() -> None:
    whole, cut = make(WEATHER, [6]), make(WEATHER, [6], max_response_tokens=6)
    for side in ("", "teacher_"):
        ids, labels = ("input_ids", "labels") if not side else ("teacher_ids", "teacher_labels")
        start = next(i for i, label in enumerate(getattr(whole, labels)) if label != -100)
        assert getattr(cut, ids) == getattr(whole, ids)[: start + 6]
        assert getattr(cut, labels) == getattr(whole, labels)[: start + 6]
    assert make(WEATHER, [6], max_response_tokens=500) == whole


def test_without_the_header() -> None:
    row = make(WEATHER, [6], include_header=False)
    assert learned(row.input_ids, row.labels) == "rain is likely in Hanoi<|eot_id|>"
    assert learned(row.teacher_ids, row.teacher_labels) == "rain is likely in Hanoi<|eot_id|>"
    header = TOKENIZER(HEADER, add_special_tokens=False)["input_ids"]
    both = make(WEATHER, [6], include_header=False, max_response_tokens=2)
    assert both.input_ids == make(WEATHER, [6], max_response_tokens=2 + len(header)).input_ids


@pytest.mark.parametrize("template", [None, CHATML])
def test_the_end_is_learned_and_nothing_after_it(template: str | None) -> None:
    row = make(WEATHER, [6], keep_end=True, include_header=False, max_response_tokens=1, template=template)
    first = TOKENIZER("rain is likely in Hanoi", add_special_tokens=False)["input_ids"][0]
    assert [t for t in row.labels if t != -100] == [first, EOT]
    assert [t for t in row.teacher_labels if t != -100] == [first, EOT]
    assert row.input_ids[-1] == row.teacher_ids[-1] == EOT
    rest = make(WEATHER, [6], template=template)
    assert rest.input_ids[: len(row.input_ids)] == row.input_ids, "the answer in between is still read"
    long = make(WEATHER, [6], keep_end=True, max_response_tokens=500, template=template)
    assert long == make(WEATHER, [6], keep_end=True, template=template)
    assert long.labels == rest.labels[: len(long.labels)]


def test_the_newline_after_a_turn_is_learned_by_default() -> None:
    row = make(WEATHER, [6], template=CHATML)
    assert learned(row.input_ids, row.labels).endswith("Hanoi<|eot_id|>\n")


def test_after_audio() -> None:
    row = make(WEATHER, [6], loss_mask="after_audio")
    wanted = f" today?<|eot_id|>{HEADER}rain is likely in Hanoi<|eot_id|>"
    assert learned(row.input_ids, row.labels) == wanted
    sizes = [int(prediction_mask(torch.tensor([side])).sum()) for side in (row.labels, row.teacher_labels)]
    assert sizes[0] == sizes[1]


def test_everything_but_placeholders() -> None:
    row = make(WEATHER, [6], loss_mask="all")
    assert row.labels == [-100 if t == HERE else t for t in row.input_ids]


def test_a_message_keeps_no_loss_of_its_own() -> None:
    weighed = [{**m, "loss": 0.0 if m["role"] == "assistant" else 1.0} for m in WEATHER]
    assert make(weighed, [6], keep_end=True) == make(WEATHER, [6], keep_end=True)


def test_collated_rows_are_padded_on_the_right() -> None:
    rows = [make(WEATHER, [6]), make(chat(clip("hello world, the sound of music")), [2])]
    batch = collate_rows(rows, EOT)
    for before, ids, labels in (("", "input_ids", "labels"), ("teacher_", "teacher_ids", "teacher_labels")):
        for i, row in enumerate(rows):
            size = len(getattr(row, ids))
            assert batch[f"{before}input_ids"][i, :size].tolist() == getattr(row, ids)
            assert batch[f"{before}labels"][i, :size].tolist() == getattr(row, labels)
            assert set(batch[f"{before}input_ids"][i, size:].tolist()) <= {EOT}
            assert set(batch[f"{before}labels"][i, size:].tolist()) <= {-100}
            mask = batch[f"{before}attention_mask"][i]
            assert int(mask.sum()) == size and bool(mask[:size].all())
    with pytest.raises(ConfigError, match="no rows"):
        collate_rows([], EOT)


@pytest.mark.parametrize("transcript", [None, "", " ", 7])
def test_a_clip_without_transcript_is_refused(transcript: Any) -> None:
    with pytest.raises(ConfigError, match="audio part of message 1 has the transcript"):
        make(chat("say ", clip(transcript)), [4])


@pytest.mark.parametrize(
    ("messages", "counts", "options", "says"),
    [
        (WEATHER, [6], {"loss_mask": "assistant"}, "unknown loss_mask 'assistant'; known: last_assistant"),
        (WEATHER, [6], {"loss_mask": "after_audio", "keep_end": True}, "need loss_mask 'last_assistant'"),
        (WEATHER, [6], {"loss_mask": "all", "include_header": False}, "need loss_mask 'last_assistant'"),
        (WEATHER, [6], {"max_response_tokens": 0}, "max_response_tokens is 0"),
        (WEATHER, [6], {"loss_mask": "all", "max_response_tokens": 3}, "cuts a clip off"),
        (WEATHER, [6, 6], {}, "1 audio parts, the audio given has 2 entries"),
        (WEATHER[:2], [6], {}, "the last of 2 messages is no answer"),
        (WEATHER[2:], [], {}, "the last of 1 messages is no answer"),
        ([*WEATHER[:2], {**WEATHER[1], "role": "assistant"}], [6, 6], {}, "is no answer to learn"),
        (chat("hello"), [], {"loss_mask": "after_audio"}, "without audio"),
    ],
)
def test_what_cannot_be_learned_is_said(
    messages: list[Any], counts: list[int], options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        make(messages, counts, **options)


def test_templates_that_cannot_be_paired_are_refused() -> None:
    with pytest.raises(ModelError, match="question otherwise"):
        make(WEATHER, [6], template=FORGETS)
    with pytest.raises(ModelError, match="answer otherwise"):
        make(chat(clip("the sou"), answer="nd of music"), [6], template=JOINS)
    with pytest.raises(ModelError, match="places audio itself"):
        make(WEATHER, [6], template="{% for m in messages %}<|audio|>{{ m.content }}<|eot_id|>{% endfor %}")


def test_transcripts_cannot_hold_the_placeholder() -> None:
    with pytest.raises(VocabularyError, match="audio token"):
        make(chat(clip("see <|audio|> here")), [4])
