"""Penalties of ``generate`` count the words of a prompt: neither placeholders nor padding."""

from __future__ import annotations

import pytest
import torch
from tests.models.tiny import TEXT_VOCAB, alone, hearing_batch, hearing_model

PAD = 42  # a word that the answers of the model have, and no prompt of the batch


def model_and_batch(placeholder: int):
    model, batch = hearing_model(), hearing_batch()
    ids = batch["input_ids"]
    ids.masked_fill_(ids == 8, 28).masked_fill_(ids == 59, placeholder).masked_fill_(
        batch["attention_mask"] == 0, PAD
    )
    model.config.audio_in = model.config.audio_in.__class__(
        **{**vars(model.config.audio_in), "audio_token_id": placeholder}
    )
    return model, batch


def answers(model, inputs, **options):
    output = model.generate(**inputs, max_new_tokens=8, do_sample=False, pad_token_id=PAD, **options)
    return output[:, inputs["input_ids"].shape[1] :].tolist()


OPTIONS = [
    {"repetition_penalty": 1.8},
    {"encoder_repetition_penalty": 3.0},
    {"no_repeat_ngram_size": 1},
    {"encoder_no_repeat_ngram_size": 1},
    {"encoder_no_repeat_ngram_size": 1, "num_beams": 2},
    {"repetition_penalty": 1.8, "num_beams": 3},
    {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "do_sample": True, "top_k": 1},
]


@pytest.mark.parametrize("placeholder", [59, TEXT_VOCAB, TEXT_VOCAB + 40])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "+".join(o))
def test_placeholders_outside_the_vocabulary_and_padding_do_not_matter(placeholder, options):
    model, batch = model_and_batch(placeholder)
    options = {"do_sample": False, **options}
    together = model.generate(**batch, max_new_tokens=8, pad_token_id=PAD, **options)[:, -8:].tolist()
    plain = answers(model, batch)
    for row in range(3):
        single = model.generate(**alone(batch, row), max_new_tokens=8, pad_token_id=PAD, **options)
        assert single[0, -8:].tolist() == together[row]
    assert together != plain  # the options do something


@pytest.mark.parametrize("placeholder", [59, TEXT_VOCAB])
def test_the_penalty_is_on_words_only(placeholder):
    model, batch = model_and_batch(placeholder)
    row = alone(batch, 1)
    written = answers(model, row, repetition_penalty=1.8)[0]
    seen = set(row["input_ids"][0].tolist()) - {placeholder}
    ids = row["input_ids"]
    for token in written:
        with torch.no_grad():
            logits = model(**{**row, "input_ids": ids}).logits[0, -1]
        for word in seen:
            logits[word] = logits[word] * 1.8 if logits[word] < 0 else logits[word] / 1.8
        logits[59] = -torch.inf if placeholder == 59 else logits[59]
        assert int(logits.argmax()) == token
        seen.add(token)
        ids = torch.cat([ids, torch.tensor([[token]])], dim=1)


def test_the_placeholder_is_never_an_answer():
    model, batch = model_and_batch(59)
    with torch.no_grad():
        model.get_output_embeddings().weight[59] *= 50
    logits = model(**alone(batch, 0)).logits[0, -1]
    free = model(**alone(batch, 1)).logits[0, -1]
    assert 59 in (int(logits.argmax()), int(free.argmax()))
    assert all(59 not in answer for answer in answers(model, batch))
    sampled = model.generate(**batch, max_new_tokens=20, do_sample=True, pad_token_id=PAD)
    assert not (sampled[:, batch["input_ids"].shape[1] :] == 59).any()
