"""The token loop equals transformers' generate, and pieces of a prompt equal the whole."""

from __future__ import annotations

import pytest
import torch
from tests.inference import tiny
from tests.models.tiny import alone, hearing_batch, hearing_model

from vivavoce.base.errors import ModelError, SessionError
from vivavoce.inference.generate import Decoding, TokenRun
from vivavoce.inference.sampling import Sampler, SamplingOptions


def run_of(model, inputs, stop_ids=(), limit=8, constraint=None, **options):
    heard = None
    if "input_features" in inputs:
        with torch.inference_mode():
            heard = model.hear(inputs["input_features"], inputs["feature_lengths"])
    decoding = Decoding(model)
    logits = decoding.feed(inputs["input_ids"][0].tolist(), heard)
    return TokenRun(
        decoding, logits, Sampler(SamplingOptions(**options)), stop_ids, limit, constraint
    ), decoding


@pytest.mark.parametrize("row", [0, 1, 2])
@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_ids_equal_those_of_generate(row, penalty):
    model, inputs = hearing_model(), alone(hearing_batch(), row)
    run, _ = run_of(model, inputs, repetition_penalty=penalty)
    ours = list(run)
    theirs = model.generate(
        **inputs, max_new_tokens=8, do_sample=False, repetition_penalty=penalty, pad_token_id=0
    )
    assert ours == theirs[0, inputs["input_ids"].shape[1] :].tolist()
    assert run.num_tokens == 8 and run.stopped_by is None and run.done


def test_a_prompt_in_pieces_gives_the_logits_of_the_whole():
    model, inputs = hearing_model(), alone(hearing_batch(), 1)
    ids = inputs["input_ids"][0].tolist()
    with torch.inference_mode():
        heard = model.hear(inputs["input_features"], inputs["feature_lengths"])
        whole = model(**inputs).logits[0]
    decoding = Decoding(model)
    first = decoding.feed(ids[:9], heard)  # all placeholders are among the first nine
    assert (first - whole[8]).abs().max() < 1e-5
    assert (decoding.feed(ids[9:]) - whole[-1]).abs().max() < 1e-5
    assert decoding.ids == ids and len(decoding) == len(ids)


def test_stop_ids_end_the_run_and_the_sequence_can_go_on():
    model, inputs = hearing_model(), alone(hearing_batch(), 2)
    free, _ = run_of(model, inputs)
    tokens = list(free)
    stop = next(t for i, t in enumerate(tokens) if t not in tokens[:i] and i > 1)
    at = tokens.index(stop)
    run, decoding = run_of(model, inputs, stop_ids=[stop])
    assert list(run) == tokens[:at]
    assert run.stopped_by == stop
    assert decoding.ids == inputs["input_ids"][0].tolist() + tokens[:at]
    logits = decoding.feed([stop])
    go_on = TokenRun(decoding, logits, Sampler(SamplingOptions()), [], 8 - at - 1)
    assert list(go_on) == tokens[at + 1 :]


def test_the_loop_is_lazy(monkeypatch):
    model, inputs = hearing_model(), alone(hearing_batch(), 2)
    run, decoding = run_of(model, inputs)
    prompt = len(decoding)
    tokens = iter(run)
    next(tokens)
    assert len(decoding) == prompt
    next(tokens)
    assert len(decoding) == prompt + 1


def test_nothing_to_read_and_missing_audio_are_refused():
    model, inputs = hearing_model(), alone(hearing_batch(), 0)
    with pytest.raises(SessionError, match="at least one token"):
        Decoding(model).feed([])
    with pytest.raises(ModelError, match="3 audio placeholders but its audio gives 0"):
        Decoding(model).feed(inputs["input_ids"][0].tolist())


def test_a_model_of_another_architecture_runs_too():
    from transformers import GPT2Config

    from vivavoce.models.config import SpeechLMConfig
    from vivavoce.models.speech_lm import SpeechLM

    torch.manual_seed(0)
    text = GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=64, initializer_range=0.3)
    model = SpeechLM(SpeechLMConfig(text_config=text)).eval()
    ids = torch.tensor([[3, 4, 5]])
    run, _ = run_of(model, {"input_ids": ids})
    theirs = model.generate(
        input_ids=ids, max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    assert list(run) == theirs[0, 3:].tolist()
    padded = torch.tensor([[0, 0, 3, 4, 5]])
    with torch.no_grad():
        batch = model(input_ids=padded, attention_mask=(torch.arange(5) > 1)[None].long()).logits
        assert (batch[0, 2:] - model(input_ids=ids).logits[0]).abs().max() < 1e-5


def test_every_draw_of_audio_can_be_decoded():
    from vivavoce.inference.legal_tokens import LegalTokens
    from vivavoce.tokens.constraints import AudioLimits

    assistant = tiny.tokens_to_tokens()
    vocabulary, rows = assistant.processor.vocabulary_out, assistant.model.config.vocab_size
    generator = torch.Generator().manual_seed(0)
    sampler = Sampler(SamplingOptions(temperature=1.0, seed=0))
    for _ in range(40):
        limit = int(torch.randint(5, 80, (1,), generator=generator))
        legal, drawn = LegalTokens(rows, vocabulary, AudioLimits(max_length=limit), forbidden=[3]), []
        while len(drawn) < limit:
            logits = torch.randn(rows, generator=generator)
            logits[vocabulary.start_id] += 3
            logits[3] += 50
            drawn.append(sampler(logits, drawn, legal.allowed()))
            legal.advance(drawn[-1])
        assert 3 not in drawn and max(drawn) < vocabulary.num_tokens and legal.step is None
        while vocabulary.start_id in drawn:
            begin = drawn.index(vocabulary.start_id)
            end = drawn.index(vocabulary.end_id)
            assert vocabulary.from_ids(drawn[begin : end + 1]).num_samples[0] > 0
            del drawn[: end + 1]
        assert not {vocabulary.end_id, *vocabulary.code_ids} & set(drawn)
