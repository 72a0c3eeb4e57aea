"""The pipeline: Ultravox's call form without its traps, batches as alone, the answers of ``generate``."""

from __future__ import annotations

import copy
import io
import logging

import numpy as np
import pytest
import soundfile
import torch
from tests.goldens.ultravox_cases import case_folders
from tests.goldens.ultravox_models import load_golden
from tests.inference import tiny
from tests.models.pairs import assistant
from transformers import pipeline

import vivavoce.models.auto
from vivavoce.audio.resample import resample
from vivavoce.base.errors import AudioError, ConfigError, ModelError
from vivavoce.models.pipeline import SpeechChatPipeline, to_messages
from vivavoce.models.processor import SpeechProcessor

SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.fixture(scope="module")
def made():
    return assistant()


@pytest.fixture(scope="module")
def folder(made, tmp_path_factory):
    path = tmp_path_factory.mktemp("whisper-stack")
    made.model.save_pretrained(path)
    made.processor.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def pipe(folder):
    return pipeline("speech-chat", model=str(folder), device="cpu")


def wave(seconds=0.5, seed=0, rate=16_000):
    return tiny.clip(seconds, seed, rate)["audio"]


def part(seconds=0.5, seed=0, rate=16_000):
    return tiny.clip(seconds, seed, rate)


def answer(made, messages, **options):
    """What ``generate`` writes, by hand."""
    inputs = made.processor.apply_chat_template(messages, add_generation_prompt=True)
    options = {"max_new_tokens": 12, "do_sample": False, **options}
    ids = made.model.generate(**inputs, **options, pad_token_id=0)[0, inputs["input_ids"].shape[1] :]
    return made.processor.tokenizer.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("task", ["speech-chat", "ultravox-pipeline"])
def test_the_call_form_of_ultravox(made, folder, task):
    pipe = pipeline(task, model=str(folder), device="cpu")
    assert type(pipe) is SpeechChatPipeline and type(pipe.processor) is SpeechProcessor
    audio, turns = wave(0.5, rate=44_100), [SYSTEM]
    before = copy.deepcopy(turns)
    text = pipe({"audio": audio, "turns": turns, "sampling_rate": 44_100}, max_new_tokens=12)
    assert turns == before
    assert text == answer(made, [SYSTEM, tiny.user(part(0.5, rate=44_100))]) != ""
    assert text != pipe({"audio": audio, "turns": turns, "sampling_rate": 16_000}, max_new_tokens=12)
    assert len(pipe({"audio": audio, "sampling_rate": 44_100}, max_new_tokens=30)) > len(text)


def test_every_kind_of_samples_is_the_same_clip(made, pipe, tmp_path):
    clean = np.round(wave(0.4) * 32_768) / 32_768
    soundfile.write(tmp_path / "a.wav", clean, 16_000, subtype="PCM_16")
    buffer = io.BytesIO()
    soundfile.write(buffer, clean, 16_000, format="WAV", subtype="PCM_16")
    integers = np.round(clean * 32_768).astype(np.int16)
    forms = [
        clean.astype(np.float32), clean.astype(np.float64), integers, (integers.astype(np.int32) * 65_536),
        torch.tensor(clean, dtype=torch.float32), np.stack([clean, clean]), list(map(float, clean)),
        {"array": clean, "sampling_rate": 16_000}, {"bytes": buffer.getvalue()}, buffer.getvalue(),
        str(tmp_path / "a.wav"), tmp_path / "a.wav", [clean], (clean, 16_000),
    ]  # fmt: skip
    seen = [pipe.preprocess({"audio": form, "sampling_rate": 16_000})["rows"][0] for form in forms]
    for row in seen[1:]:
        assert row["input_ids"] == seen[0]["input_ids"]
        assert torch.allclose(row["input_features"], seen[0]["input_features"], atol=1e-5)
    half = resample(clean.astype(np.float32), 16_000, 48_000)
    row = pipe.preprocess({"audio": half, "sampling_rate": 48_000})["rows"][0]
    assert row["input_ids"] == seen[0]["input_ids"]
    assert (row["input_features"] - seen[0]["input_features"]).abs().mean() < 0.05


TEXTS = {
    "a prompt without a place": ({"prompt": "What is it?"}, ["What is it? ", part()]),
    "a prompt with one": ({"prompt": "Hear <|audio|> now"}, ["Hear ", part(), " now"]),
    "the last turn": ({"turns": [{"role": "user", "content": "a <|audio|> b"}]}, ["a ", part(), " b"]),
    "the last turn without a place": ({"turns": [{"role": "user", "content": "hear"}]}, ["hear ", part()]),
    "the last turn's text part": ({"turns": [tiny.user("hear <|audio|>")]}, ["hear ", part()]),
    "nothing said": ({}, [part()]),
}


@pytest.mark.parametrize("form", TEXTS)
def test_where_the_clip_is_put(made, pipe, form):
    given, wanted = TEXTS[form]
    given = {"audio": wave(), "sampling_rate": 16_000, **given}
    before = copy.deepcopy(given)
    row = pipe.preprocess(given)["rows"][0]
    assert row["input_ids"] == made.processor.prepare([tiny.user(*wanted)])["input_ids"]
    assert str(given) == str(before)


def test_several_clips_and_earlier_turns(made, pipe):
    turns = [
        {"role": "user", "content": "first <|audio|>"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "then <|audio|> and <|audio|>"},
    ]
    clips = [wave(0.3), wave(0.5, 1), wave(0.2, 2)]
    text = pipe({"audio": clips, "turns": turns, "sampling_rate": 16_000}, max_new_tokens=12)
    messages = [
        tiny.user("first ", part(0.3)),
        {"role": "assistant", "content": "yes"},
        tiny.user("then ", part(0.5, 1), " and ", part(0.2, 2)),
    ]
    assert text == answer(made, messages) == pipe(messages, max_new_tokens=12)
    appended = to_messages(
        {"audio": clips[:2], "turns": messages[:2], "prompt": "Which?", "sampling_rate": 16_000}
    )
    assert [p["type"] for p in appended[-1]["content"]] == ["text", "text", "audio", "audio"]
    assert appended[0] == messages[0]
    long = {"audio": wave(2.1), "turns": [SYSTEM], "sampling_rate": 16_000}  # three passes of the encoder
    assert pipe(long, max_new_tokens=12) == answer(made, [SYSTEM, tiny.user(part(2.1))])


def test_text_alone(made, pipe):
    wanted = answer(made, [{"role": "user", "content": "Hello"}])
    assert pipe("Hello", max_new_tokens=12) == wanted
    for given in (
        {"prompt": "Hello"},
        {"audio": None, "turns": [{"role": "user", "content": "Hello"}]},
        [{"role": "user", "content": "Hello"}],
    ):
        assert pipe(given, max_new_tokens=12) == wanted


def test_a_list_answers_as_its_inputs_do_alone(made, pipe):
    inputs = [
        {"audio": wave(0.9), "turns": [SYSTEM], "sampling_rate": 16_000},
        {"audio": None, "prompt": "Only text here, but a lot of it."},
        {"audio": [wave(0.2), wave(0.3)], "prompt": "<|audio|> or <|audio|>", "sampling_rate": 16_000},
        "Hello",
        [tiny.user("and ", part(0.4, 7))],
    ]
    alone = [pipe(one, max_new_tokens=12) for one in inputs]
    assert len(set(alone)) == len(alone)
    for size in (1, 2, 5):
        assert pipe(inputs, batch_size=size, max_new_tokens=12) == alone
        assert list(pipe((one for one in inputs), batch_size=size, max_new_tokens=12)) == alone
    penalty = {"max_new_tokens": 12, "repetition_penalty": 1.3}
    assert pipe(inputs, batch_size=5, **penalty) == [pipe(one, **penalty) for one in inputs] != alone


def test_options(made, pipe, folder):
    given = {"audio": wave(), "turns": [SYSTEM], "sampling_rate": 16_000}
    messages = [SYSTEM, tiny.user(part())]
    greedy = pipe(given, max_new_tokens=12)
    assert greedy == answer(made, messages)  # no penalty that nobody asked for
    assert (
        greedy
        == pipe(given, max_new_tokens=12, temperature=None)
        == pipe(given, max_new_tokens=12, temperature=0)
    )
    assert pipe(given, max_new_tokens=12, repetition_penalty=2) == answer(
        made, messages, repetition_penalty=2.0
    )
    assert pipe(given, max_new_tokens=12, num_beams=3) == answer(made, messages, num_beams=3)
    torch.manual_seed(0)
    drawn = pipe(given, max_new_tokens=12, temperature=1.5)
    torch.manual_seed(0)
    assert drawn == answer(made, messages, do_sample=True, temperature=1.5, top_k=0) != greedy
    assert pipe(given, max_new_tokens=12, temperature=1.5, top_p=1e-6) == greedy
    stop = next(c for c in greedy[1:] if c.isascii() and c.isprintable())
    assert pipe(given, max_new_tokens=12, stop_strings=stop) == greedy[: greedy.index(stop)]
    short = pipeline("speech-chat", model=str(folder), device="cpu", max_new_tokens=3)
    assert greedy.startswith(short(given)) and len(short(given)) < len(greedy)
    assert short(given, max_new_tokens=12) == greedy
    for wrong, message in (
        ({"temperature": -1}, "temperature is -1"),
        ({"num_return_sequences": 2}, "one text"),
    ):
        with pytest.raises(ConfigError, match=message):
            pipe(given, **wrong)
    with pytest.raises(ValueError, match="tempratur"):
        pipe(given, tempratur=1.0)


def test_options_of_the_config_are_the_defaults(made):
    own = assistant()
    own.model.config.sampling = {"max_new_tokens": 4, "repetition_penalty": 2.0}
    pipe = SpeechChatPipeline(own.model, processor=own.processor, device="cpu")
    messages = [tiny.user(part())]
    assert pipe(messages) == answer(made, messages, max_new_tokens=4, repetition_penalty=2.0)
    assert pipe(messages, max_new_tokens=12, repetition_penalty=1.0) == answer(made, messages)
    own.model.config.sampling = {"max_new_tokens": 12, "temperature": 5.0}
    torch.manual_seed(0)
    assert pipe(messages) != answer(made, messages)
    assert pipe(messages, temperature=None) == pipe(messages, temperature=0) == answer(made, messages)
    own.model.config.text_config.max_position_embeddings = (
        len(own.processor.prepare(messages)["input_ids"]) + 3
    )
    assert pipe(messages, temperature=0) == answer(made, messages, max_new_tokens=3)
    by_tokenizer = SpeechChatPipeline(own.model, tokenizer=own.processor.tokenizer, device="cpu")
    assert by_tokenizer(messages, temperature=0) == pipe(messages, temperature=0)


def test_answers_end_at_the_end_of_a_turn(made, pipe):
    messages = [tiny.user(part())]
    inputs = made.processor.apply_chat_template(messages, add_generation_prompt=True)
    ids = made.model.generate(**inputs, max_new_tokens=12, do_sample=False)[
        0, inputs["input_ids"].shape[1] :
    ].tolist()
    end = ids.index(ids[5])
    assert pipe(messages, max_new_tokens=12, eos_token_id=ids[5]) == made.processor.tokenizer.decode(
        ids[:end]
    )
    own = assistant()
    with torch.no_grad():  # the template's end of turn comes at once
        own.model.get_output_embeddings().weight[own.processor.tokenizer.eos_token_id] *= 80
    ended = SpeechChatPipeline(own.model, processor=own.processor, device="cpu")
    answers = ended([messages, "a", "b", "c"], batch_size=4, max_new_tokens=12)
    assert answers == [ended(one, max_new_tokens=12) for one in (messages, "a", "b", "c")]
    assert len({len(one) for one in answers}) > 1


def test_pipelines_of_models_that_hear_or_speak_by_tokens():
    for make in (tiny.tokens_to_text, tiny.tokens_to_tokens, tiny.embeddings_to_tokens):
        own = make()
        pipe = SpeechChatPipeline(own.model, processor=own.processor, device="cpu")
        text = pipe({"audio": wave(0.2), "sampling_rate": 16_000}, max_new_tokens=20)
        assert isinstance(text, str)
        vocabulary = own.processor.vocabulary_out or own.processor.vocabulary_in
        inputs = own.processor.apply_chat_template([tiny.user(part(0.2))], add_generation_prompt=True)
        options = pipe._generate_options({"max_new_tokens": 20}, None)
        ids = own.model.generate(**inputs, **options)[0, inputs["input_ids"].shape[1] :].tolist()
        assert not vocabulary.audio_ids & set(ids)


def test_saving_writes_a_folder_that_loads_without_foreign_code(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    assert (
        not list(tmp_path.glob("*.py")) and "custom_pipelines" not in (tmp_path / "config.json").read_text()
    )
    again = pipeline("ultravox-pipeline", model=str(tmp_path), device="cpu")
    given = {"audio": wave(), "sampling_rate": 16_000}
    assert again(given, max_new_tokens=8) == pipe(given, max_new_tokens=8)


FAULTS = {
    "no rate": ({"audio": wave()}, AudioError, "needs its sampling_rate"),
    "unknown key": ({"audio": wave(), "sample_rate": 16_000}, ConfigError, "Did you mean 'sampling_rate'"),
    "two user turns": (
        {"audio": wave(), "turns": [{"role": "user", "content": "a"}], "prompt": "b", "sampling_rate": 16_000},
        ConfigError, "put its words into that turn",
    ),
    "more places than clips": (
        {"audio": wave(), "prompt": "<|audio|> <|audio|>", "sampling_rate": 16_000}, ConfigError, "1 clips for 2",
    ),
    "a place without a clip": ({"prompt": "hear <|audio|>"}, ConfigError, "0 clips for 1"),
    "more clips than places": (
        {"audio": [wave(), wave()], "prompt": "<|audio|>", "sampling_rate": 16_000}, ConfigError, "2 clips for 1",
    ),
    "nothing to answer": ({"turns": [SYSTEM]}, ConfigError, "nothing to answer"),
    "an answer last": ({"turns": [{"role": "assistant", "content": "a"}]}, ConfigError, "nothing to answer"),
    "turns that are none": ({"turns": ["hello"]}, ConfigError, "turn 0 is hello"),
    "a turn": ({"turns": {"role": "user", "content": "a"}}, ConfigError, "wanted a list of messages"),
    "a missing file": ({"audio": "nowhere.wav"}, AudioError, "does not exist"),
    "nothing": ([], ConfigError, "no input"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_refused(pipe, fault):
    given, error, message = FAULTS[fault]
    with pytest.raises(error, match=message):
        pipe(given, max_new_tokens=2)


def test_models_it_cannot_serve_are_refused(made):
    deaf = tiny.text_to_tokens()
    pipe = SpeechChatPipeline(deaf.model, processor=deaf.processor, device="cpu")
    with pytest.raises(ModelError, match="does not hear"):
        pipe({"audio": wave(), "sampling_rate": 16_000})
    first = tiny.transcript_first()
    pipe = SpeechChatPipeline(first.model, processor=first.processor, device="cpu")
    with pytest.raises(ModelError, match="writes down what it heard"):
        pipe({"audio": wave(), "sampling_rate": 16_000})
    assert isinstance(pipe("what is one plus two", max_new_tokens=4), str)
    with pytest.raises(ModelError, match="no processor"):
        SpeechChatPipeline(made.model)
    long = {"audio": wave(0.5), "prompt": "x" * 5000, "sampling_rate": 16_000}
    with pytest.raises(ModelError, match="reads 4095 at most"):
        SpeechChatPipeline(made.model, processor=made.processor, device="cpu")(long)


def test_registering_again_is_quiet_and_leaves_others_alone(caplog):
    with caplog.at_level(logging.WARNING):
        vivavoce.models.pipeline.register()
    assert not caplog.records


def golden_model():
    return load_golden(next(iter(case_folders())))


def model_without_its_placeholder():
    own = assistant(spare_rows=-1)
    assert own.processor.audio_token_id == own.model.config.vocab_size
    return own.model, own.processor


@pytest.mark.parametrize("make", [golden_model, model_without_its_placeholder])
@pytest.mark.parametrize("options", [{}, {"repetition_penalty": 1.3}, {"no_repeat_ngram_size": 2}])
def test_models_as_ultravox_has_them(make, options):
    model, processor = make()
    pipe = pipeline("ultravox-pipeline", model=model, processor=processor, device="cpu")
    options = {"max_new_tokens": 8, **options}
    given = {"audio": wave(1.3), "turns": [SYSTEM], "sampling_rate": 16_000}
    inputs = processor.apply_chat_template([SYSTEM, tiny.user(part(1.3))], add_generation_prompt=True)
    ids = model.generate(**inputs, do_sample=False, **options)
    text = processor.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert pipe(given, **options) == text != ""
    batch = [given, {**given, "audio": wave(0.4)}, "Hello"]
    assert pipe(batch, batch_size=3, **options) == [pipe(one, **options) for one in batch]
