"""The model class: batch = alone, generate, storage, and refusals."""

from __future__ import annotations

import pytest
import torch
from tests.models.tiny import PLACEHOLDER, alone, hearing_batch, hearing_model
from transformers.generation.streamers import BaseStreamer

from vivavoce.base.errors import ModelError
from vivavoce.models.merge import expand_clips


def logits_of(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("indexed", [True, False])
def test_batch_equals_alone(side, indexed):
    model, batch = hearing_model(), hearing_batch(side=side)
    mask = batch["attention_mask"].bool()
    inputs = batch if indexed else {k: v for k, v in batch.items() if k != "audio_batch_index"}
    together = logits_of(model, inputs)
    for row in range(3):
        single = logits_of(model, alone(batch, row))
        assert (together[row, mask[row]] - single[0]).abs().max() < 1e-5
        assert single.abs().max() > 0.1


def test_audio_changes_the_answer_and_only_from_its_place_on():
    model, batch = hearing_model(), hearing_batch()
    single = alone(batch, 1)
    before = logits_of(model, single)
    changed = dict(single, input_features=single["input_features"].clone())
    changed["input_features"][1] *= -1  # the second clip of the row
    after = logits_of(model, changed)
    assert torch.equal(before[0, :4], after[0, :4])
    assert (before[0, -1] - after[0, -1]).abs().max() > 1e-3


@pytest.mark.parametrize("side", ["left"])
def test_generate_equals_the_token_by_token_argmax_and_hears_once(side, monkeypatch):
    model, batch = hearing_model(), hearing_batch(side=side)
    calls = []
    hear = model.hear
    monkeypatch.setattr(model, "hear", lambda *a, **k: (calls.append(1), hear(*a, **k))[1])
    output = model.generate(**batch, max_new_tokens=5, do_sample=False, pad_token_id=0)
    assert len(calls) == 1
    for row in range(3):
        inputs = alone(batch, row)
        for step in range(5):
            best = int(logits_of(model, inputs)[0, -1].argmax())
            assert best == int(output[row, batch["input_ids"].shape[1] + step])
            inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([[best]])], dim=1)


def test_generate_without_cache_and_with_beams_and_several_answers():
    model, batch = hearing_model(), hearing_batch()
    cached = model.generate(**batch, max_new_tokens=4, do_sample=False, pad_token_id=0)
    plain = model.generate(**batch, max_new_tokens=4, do_sample=False, use_cache=False, pad_token_id=0)
    assert torch.equal(cached, plain)
    beams = model.generate(**batch, max_new_tokens=4, do_sample=False, num_beams=3, pad_token_id=0)
    for row in range(3):
        single = model.generate(
            **alone(batch, row), max_new_tokens=4, do_sample=False, num_beams=3, pad_token_id=0
        )
        assert beams[row, -4:].tolist() == single[0, -4:].tolist()
    several = model.generate(
        **batch, max_new_tokens=3, do_sample=True, num_return_sequences=2, pad_token_id=0
    )
    assert len(several) == 6


def test_repeated_rows_keep_their_own_clips_in_order():
    order, rows = expand_clips(torch.tensor([0, 1, 1, 3]), batch_size=4, expand_size=2)
    assert order.tolist() == [0, 0, 1, 2, 1, 2, 3, 3]
    assert rows.tolist() == [0, 1, 2, 2, 3, 3, 6, 7]


def test_streamer_gets_prompt_then_one_id_at_a_time():
    class Collect(BaseStreamer):
        def __init__(self):
            self.pieces, self.ended = [], False

        def put(self, value):
            self.pieces.append(value.flatten().tolist())

        def end(self):
            self.ended = True

    model, batch = hearing_model(), hearing_batch()
    inputs, streamer = alone(batch, 0), Collect()
    output = model.generate(**inputs, max_new_tokens=4, do_sample=False, streamer=streamer)
    assert streamer.ended
    assert streamer.pieces == [inputs["input_ids"][0].tolist(), *[[t] for t in output[0, -4:].tolist()]]


def test_loss_counts_only_labelled_positions():
    model, batch = hearing_model(), hearing_batch(side="right")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    labels[labels == PLACEHOLDER] = -100
    loss = model(**batch, labels=labels).loss
    logits = logits_of(model, batch)[:, :-1].reshape(-1, 60)
    wanted = torch.nn.functional.cross_entropy(logits, labels[:, 1:].reshape(-1))
    assert torch.allclose(loss, wanted)
    loss.backward()
    for part in (model.audio_encoder, model.connector, model.language_model):
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in part.parameters())


def test_placeholders_and_audio_must_match():
    model, batch = hearing_model(), hearing_batch()
    short = dict(batch, feature_lengths=torch.tensor([21, 9, 20]))
    with pytest.raises(ModelError, match=r"row 1 has 7 audio placeholders but its audio gives 5 embeddings"):
        model(**short)
    short.pop("audio_batch_index")
    with pytest.raises(
        ModelError, match=r"the batch has 10 audio placeholders but its audio gives 8 embeddings"
    ):
        model(**short)
    swapped = dict(batch, audio_batch_index=torch.tensor([0, 0, 1]))
    with pytest.raises(ModelError, match="row 0 has 3 audio placeholders but its audio gives 5"):
        model(**swapped)
    with pytest.raises(ModelError, match="10 audio placeholders but its audio gives 0"):
        model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    with pytest.raises(ModelError, match="rising order"):
        model(**dict(batch, audio_batch_index=torch.tensor([1, 0, 1])))


def test_inputs_that_do_not_go_together_are_refused():
    model, batch = hearing_model(), hearing_batch()
    with pytest.raises(ModelError, match="one of the two"):
        model()
    embeddings = torch.zeros(1, 3, 32)
    with pytest.raises(ModelError, match="input_features need input_ids"):
        model(inputs_embeds=embeddings, input_features=batch["input_features"])
    assert model(inputs_embeds=embeddings).logits.shape == (1, 3, 60)
