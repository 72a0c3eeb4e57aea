"""Documents are what rows render to, with what the encoder hears and what every token is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.data.check.bad_rows import sound
from tests.inference import tiny
from tests.training.row_cases import ASKED, SAID, distilled, heard, marked, row, spoken_answer

from vivavoce.audio.files import read_audio
from vivavoce.base.errors import AudioError, DataError
from vivavoce.data.conversation import Conversation, read_conversation
from vivavoce.data.reader.decoding import without_bytes
from vivavoce.data.reader.reading import Sample
from vivavoce.models.config import EmbeddingsIn
from vivavoce.training.documents import Document, make_document
from vivavoce.training.packing import make_batch
from vivavoce.training.rendering import render_row

MAKERS = {
    "embeddings": lambda: tiny.embeddings_to_text().processor,
    "embeddings by a plain template": distilled,
    "embeddings with text around": marked,
    "embeddings and codes": lambda: tiny.embeddings_to_tokens().processor,
    "codes": lambda: tiny.tokens_to_text().processor,
    "codes and codes": lambda: tiny.tokens_to_tokens().processor,
}


def sample(conversation: Conversation, rate: int | None = None) -> Sample:
    """The row without its recordings, and these decoded, at their own rate if none is given."""
    parts = list(conversation.audio_parts())
    waves = [
        None if p.audio is None else read_audio(p.audio["bytes"], rate, p.start_s, p.end_s) for p in parts
    ]
    return Sample(None, "set", without_bytes(conversation), waves, 0)  # type: ignore[arg-type]


def dialogue(rate: int = 16_000) -> Conversation:
    """Two turns, the first with two clips, with spoken answers."""
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [heard(0.9, rate), {"type": "text", "text": "and"}, heard(0.4, rate, 1)]},
        {"role": "assistant", "content": spoken_answer(0.5)},
        {"role": "user", "content": [{"type": "text", "text": "now"}, heard(1.3, rate, 2)]},
        {"role": "assistant", "content": spoken_answer(0.7)},
    ]
    return read_conversation({"id": "talk", "messages": messages, "license": "cc0-1.0"}, 0)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("objective", ["sft", "next_token"])
def test_a_document_is_what_its_row_renders_to(make: Any, objective: str) -> None:
    """Several turns and clips; waveforms at the files' rate, of which none is the model's."""
    processor, conversation = make(), dialogue(22_050)
    found = make_document(sample(conversation), processor, objective)
    wanted = render_row(conversation, processor, objective, encode=True)
    assert found.input_ids.tolist() == wanted.input_ids
    assert found.weights.tolist() == [0.0, *wanted.weights[1:]]
    assert (found.id, found.source) == ("talk", "set")
    seconds = [c.seconds for c in wanted.clips if c.how != "unused"]
    assert found.audio_s == pytest.approx(sum(s or 0 for s in seconds))
    assert {(d.dtype.name, d.shape) for d in (found.input_ids, found.weights, found.kinds)} == {
        (name, (len(found),)) for name in ("int64", "float32", "int8")
    }


@pytest.mark.parametrize("make", [m for n, m in MAKERS.items() if n.startswith("emb")])
def test_the_encoder_hears_what_it_hears_at_inference(make: Any) -> None:
    processor, conversation = make(), dialogue(22_050)
    found = make_document(sample(conversation), processor)
    asked = []
    for message in conversation.messages[:4]:
        parts = [
            p.row() if not hasattr(p, "audio") else {"type": "audio", "audio": p.audio["bytes"]}
            for p in message.parts
        ]
        asked.append({"role": message.role, "content": parts if message.role == "user" else message.text})
    prepared = processor.prepare(asked)
    assert found.features is not None
    assert torch.equal(found.features.features, prepared["input_features"])
    assert torch.equal(found.features.lengths, prepared["feature_lengths"])
    before = processor.prepare(asked[:2])["input_ids"]
    assert found.input_ids[: len(before)].tolist() == before
    placeholders = int((found.input_ids == processor.audio_token_id).sum())
    assert int((found.kinds == -1).sum()) == placeholders == sum(found.features.positions) > 10
    assert not found.weights[found.kinds == -1].any()


def test_a_model_reads_documents_of_several_turns() -> None:
    for make in (tiny.embeddings_to_text, tiny.embeddings_to_tokens, tiny.tokens_to_tokens):
        assistant = make()
        document = make_document(sample(dialogue()), assistant.processor)
        logits = assistant.model(**make_batch([document]).inputs()).logits
        assert logits.shape[1] == len(document) and bool(logits.isfinite().all())


def spans(document: Document, first: int) -> list[np.ndarray]:
    """Kinds of each run of audio tokens of a document."""
    audio = np.flatnonzero(document.kinds >= first)
    return np.split(document.kinds[audio], np.flatnonzero(np.diff(audio) > 1) + 1)


@pytest.mark.parametrize("layout", ["orpheus", "interleaved"])
def test_kinds_tell_the_slot_of_every_code(layout: str) -> None:
    processor = (tiny.tokens_to_tokens if layout == "orpheus" else tiny.tokens_to_text)().processor
    vocabulary = processor.vocabulary_in
    document = make_document(sample(dialogue()), processor, "next_token")
    ids = document.input_ids
    marks = np.isin(ids, [vocabulary.start_id, vocabulary.end_id])
    codes = (ids >= vocabulary.first_code_id) & (ids < vocabulary.first_code_id + vocabulary.num_codes)
    assert np.array_equal(document.kinds == 1, marks)
    assert np.array_equal(document.kinds >= 2, codes)
    assert not document.kinds[~marks & ~codes].any()
    period = vocabulary.flattening.period
    assert period == {"orpheus": 7, "interleaved": len(vocabulary.flattening.slots)}[layout]
    for span in spans(document, 1):
        assert span[0] == span[-1] == 1
        assert span[1:-1].tolist() == [2 + s for s in range(period)] * ((len(span) - 2) // period)
    if layout == "orpheus":  # an id tells its slot
        slots = (ids[codes] - vocabulary.first_code_id) // vocabulary.codebook_size
        assert np.array_equal(document.kinds[codes], 2 + slots)


def test_ears_and_voice_have_their_own_frames() -> None:
    processor = tiny.embeddings_to_tokens().processor
    document = make_document(sample(dialogue()), processor)
    assert [set(span) for span in spans(document, 1)] == [{1, *range(2, 9)}] * 2
    assert (document.kinds == -1).sum() == sum(document.features.positions)  # type: ignore[union-attr]


def test_models_that_read_aloud() -> None:
    processor = tiny.text_to_tokens().processor
    spoken = {**heard(0.7, 24_000), "transcript": SAID}
    document = make_document(sample(row("Say it.", answer=[spoken])), processor)
    start = document.input_ids.tolist().index(processor.vocabulary_out.start_id)
    assert document.kinds[start] == document.kinds[-2] == 1 and document.kinds[-1] == 0
    assert document.kinds[start + 1 : -2].tolist() == [2 + i % 7 for i in range(len(document) - start - 3)]
    assert not document.weights[: start + 1].any() and document.weights[start + 1 :].all()
    assert document.audio_s == pytest.approx(0.7) and document.features is None


def test_student_and_teacher() -> None:
    processor = distilled()
    document = make_document(sample(row("Hear: ", heard(), " and say.")), processor, "distill")
    assert document.teacher is not None
    ids, weights = document.teacher
    assert processor.tokenizer.decode(ids).count(ASKED) == 1
    assert np.array_equal(ids[weights > 0], document.input_ids[document.weights > 0])
    assert document.features is not None


def test_codes_of_the_row_need_no_waveform() -> None:
    processor = tiny.tokens_to_tokens().processor
    ids = list(range(0, 7 * 16, 16)) * 3
    tokens = {"codec": "nano", "layout": "orpheus", "num_samples": 6000, "ids": ids}
    bare = row({"type": "audio", "audio": "absent.wav", "tokens": tokens})
    document = make_document(Sample(None, "set", bare, [None], 0), processor)  # type: ignore[arg-type]
    assert (document.kinds >= 2).sum() == len(ids) and document.audio_s == 0.25
    with pytest.raises(AudioError, match=r"absent\.wav"):
        make_document(
            Sample(None, "set", row({"type": "audio", "audio": "absent.wav"}), [None], 0), processor
        )  # type: ignore[arg-type]


def test_the_first_token_is_never_learned_and_nothing_to_learn_is_an_error() -> None:
    processor = tiny.tokens_to_text().processor
    document = make_document(sample(row("one")), processor, "next_token")
    assert document.weights[0] == 0 and document.weights[1:].all()
    with pytest.raises(DataError, match="'r' has nothing to learn"):
        make_document(sample(row("one", loss=0)), processor)


def test_given_waveforms_are_used() -> None:
    """Not the recording that the row names, which may be gone by then."""
    processor = tiny.embeddings_to_text().processor
    assert isinstance(processor.ears, EmbeddingsIn)
    wave = sound(0.8, 16_000, seed=9)
    given = Sample(None, "set", row(heard(1.3)), [(wave, 16_000)], 0)  # type: ignore[arg-type]
    document = make_document(given, processor)
    assert document.audio_s == pytest.approx(0.8)
    assert torch.equal(document.features.features, processor.clip_reader.read([wave]).features)  # type: ignore[union-attr]
