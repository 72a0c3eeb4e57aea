"""A batch gives each conversation what it gets alone, for every pair of encoder and connector."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.inference.tiny import user
from tests.models.pairs import CONTEXT_S, PAIRS, assistant

RATE = 16_000


def clip(samples: int, seed: int = 0, rate: int = RATE) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    loud = 0.02 + 0.2 * rng.random()
    wave = (loud * rng.standard_normal(samples)).astype(np.float32)
    return {"type": "audio", "audio": wave, "sampling_rate": rate}


SECOND_CHUNK = round(CONTEXT_S * RATE) + 1  # one sample more than one pass takes
ROWS = [
    [user("Say ", clip(1441))],  # 10 log-mel frames, 9 if the end is mirrored
    [user(clip(320, 1), " or ", clip(2561, 2), "?"), {"role": "assistant", "content": "b"}, user("why")],
    [user("only text, and rather a lot of it, so that the others are padded")],
    [user(clip(SECOND_CHUNK, 3)), {"role": "assistant", "content": "c"}, user(clip(2 * SECOND_CHUNK + 5000, 4))],
    [user("hear ", clip(100, 5), clip(5000, 6), " now")],
    [user(clip(4700, 7), clip(1300, 8), clip(2400, 9))],  # nearly as long as others, so that they are heard together
]  # fmt: skip

everywhere = pytest.mark.parametrize("name", PAIRS)


def batch_of(processor, side="left"):
    return processor.apply_chat_template(ROWS, add_generation_prompt=True, padding_side=side)


def alone_of(processor, row):
    return processor.apply_chat_template(ROWS[row], add_generation_prompt=True)


@everywhere
@pytest.mark.parametrize("side", ["left", "right"])
def test_logits_of_a_batch_are_those_of_single_runs(name, side):
    made = assistant(name)
    model, processor = made.model, made.processor
    batch = batch_of(processor, side)
    pad = int((batch["attention_mask"] == 0).sum())
    assert pad > 20 and batch["attention_mask"][:, 0 if side == "left" else -1].tolist().count(0) >= 3
    with torch.no_grad():
        together = model(**batch).logits
        for row in range(len(ROWS)):
            inputs = alone_of(processor, row)
            real = batch["attention_mask"][row].bool()
            assert batch["input_ids"][row][real].tolist() == inputs["input_ids"][0].tolist()
            single = model(**inputs).logits[0]
            assert (together[row, real] - single).abs().max() < 1e-4
            assert single.std() > 0.3


@pytest.mark.parametrize("side", ["left", "right"])
def test_text_models_that_count_positions_from_the_first_token_on(side):
    made = assistant(text={"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 512})
    model, batch = made.model, batch_of(made.processor, side)
    with torch.no_grad():
        together = model(**batch).logits
        for row in range(len(ROWS)):
            single = model(**alone_of(made.processor, row)).logits[0]
            assert (together[row, batch["attention_mask"][row].bool()] - single).abs().max() < 1e-4


@everywhere
def test_the_audio_matters(name):
    """Else the test above would pass with ears that are cut off."""
    made = assistant(name)
    with torch.no_grad():
        for row in (0, 1, 3, 4, 5):
            inputs = alone_of(made.processor, row)
            heard = made.model(**inputs).logits[0, -1]
            last = inputs["input_features"].clone()
            last[-1] = last[-1].flip(-1) * 0.5
            changed = made.model(**{**inputs, "input_features": last}).logits[0, -1]
            assert (heard - changed).abs().max() > 1e-3


@everywhere
def test_hearing_in_groups_changes_nothing(name):
    made = assistant(name)
    inputs = batch_of(made.processor)
    features, lengths = inputs["input_features"], inputs["feature_lengths"]
    assert len(lengths) >= 10
    model, heard, gradients = made.model, [], []
    for at_once in (1, 2, 8):
        model.hear_at_once = at_once
        model.zero_grad()
        found = model.hear(features, lengths)
        weights = torch.randn(found.embeddings.shape, generator=torch.Generator().manual_seed(0))
        valid = torch.arange(found.embeddings.shape[1]) < found.counts[:, None]
        (found.embeddings * weights)[valid].sum().backward()
        heard.append((found.embeddings.detach()[valid], found.counts, found.frames))
        gradients.append({k: p.grad for k, p in model.named_parameters() if p.grad is not None})
    for (embeddings, counts, frames), grads in zip(heard[1:], gradients[1:], strict=True):
        assert torch.equal(counts, heard[0][1]) and torch.equal(frames, heard[0][2])
        assert (embeddings - heard[0][0]).abs().max() < 1e-4
        assert grads.keys() == gradients[0].keys() and len(grads) > 10
        for key, grad in grads.items():
            scale = gradients[0][key].abs().max().clamp(min=1e-2)
            assert ((grad - gradients[0][key]).abs().max() / scale) < 1e-3, key


@everywhere
def test_greedy_answers_of_a_mixed_batch_are_those_of_single_runs(name):
    made = assistant(name)
    batch = batch_of(made.processor)
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": made.processor.pad_id}
    together = made.model.generate(**batch, **options)[:, batch["input_ids"].shape[1] :]
    answers = set()
    for row in range(len(ROWS)):
        inputs = alone_of(made.processor, row)
        single = made.model.generate(**inputs, **options)[0, inputs["input_ids"].shape[1] :]
        assert together[row, : len(single)].tolist() == single.tolist()
        answers.add(tuple(single.tolist()))
    assert len(answers) > 2


@pytest.mark.parametrize("name", ["whisper + stack, norm mid", "whisper and beats + qformer"])
def test_beams_of_rows_with_several_clips_are_those_of_single_runs(name):
    made = assistant(name)
    batch = batch_of(made.processor)
    options = {"max_new_tokens": 5, "do_sample": False, "num_beams": 3, "pad_token_id": made.processor.pad_id}
    together = made.model.generate(**batch, **options, num_return_sequences=2)
    greedy = made.model.generate(**batch, **{**options, "num_beams": 1})
    assert not torch.equal(together[::2, -5:], greedy[:, -5:])
    for row in range(len(ROWS)):
        inputs = alone_of(made.processor, row)
        single = made.model.generate(**inputs, **options, num_return_sequences=2)
        length = inputs["input_ids"].shape[1]
        wanted = single[:, length:].tolist()
        found = together[2 * row : 2 * row + 2, batch["input_ids"].shape[1] :][:, : len(wanted[0])].tolist()
        assert found == wanted
