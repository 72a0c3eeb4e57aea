"""The processor: batches equal single conversations, counts fit the model, and a saved folder is enough."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tests.inference import tiny
from transformers import AutoModelForMultimodalLM, AutoProcessor, pipeline

from vivavoce.audio.resample import resample
from vivavoce.base.errors import ConfigError, ModelError
from vivavoce.models.audio_parts import read_part
from vivavoce.models.processor import SpeechProcessor

CONVERSATIONS = [
    [tiny.user("Say ", tiny.clip(0.31))],
    [tiny.user(tiny.clip(0.7, seed=1), " or ", tiny.clip(0.05, seed=2)), {"role": "assistant", "content": "b"},
     tiny.user("why")],
    [tiny.user("only text")],
]  # fmt: skip


@pytest.mark.parametrize("make", [tiny.embeddings_to_text, tiny.tokens_to_text, tiny.tokens_to_tokens])
def test_a_batch_gives_each_conversation_what_it_gets_alone(make):
    assistant = make()
    model, processor = assistant.model, assistant.processor
    batch = processor.apply_chat_template(CONVERSATIONS, add_generation_prompt=True)
    together = model.generate(**batch, max_new_tokens=6, do_sample=False, pad_token_id=0)[:, -6:]
    for row, conversation in enumerate(CONVERSATIONS):
        alone = processor.apply_chat_template(conversation, add_generation_prompt=True)
        assert alone["attention_mask"].all()
        ids = batch["input_ids"][row][batch["attention_mask"][row].bool()]
        assert ids.tolist() == alone["input_ids"][0].tolist()
        single = model.generate(**alone, max_new_tokens=6, do_sample=False, pad_token_id=0)[0, -6:]
        assert single.tolist() == together[row].tolist()


@pytest.mark.parametrize("samples", [1, 799, 800, 801, 5000, 16_000, 40_001])
@pytest.mark.parametrize("stack", [1, 2, 8])
def test_placeholders_are_as_many_as_the_embeddings(samples, stack):
    assistant = tiny.embeddings_to_text()
    config = assistant.model.config
    ears = {**tiny.ears_for(assistant.processor.tokenizer)}
    ears["connector"] = {**ears["connector"], "stack_factor": stack}
    made = tiny.assemble(assistant.processor.tokenizer, None, audio_in=ears)
    part = {"type": "audio", "audio": np.ones(samples, np.float32), "sampling_rate": 16_000}
    inputs = made.processor.apply_chat_template([tiny.user(part)])
    heard = made.model.hear(inputs["input_features"], inputs["feature_lengths"])
    placeholders = int((inputs["input_ids"] == config.audio_token_id).sum())
    assert placeholders == int(heard.counts[0]) >= 1


def test_any_rate_is_resampled():
    processor = tiny.embeddings_to_text().processor
    seconds = np.arange(48_000) / 48_000
    tone = np.sin(2 * np.pi * 440 * seconds).astype(np.float32)
    features = []
    for rate in (8_000, 16_000, 44_100, 48_000):
        wave = tone if rate == 48_000 else np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32)
        part = {"type": "audio", "audio": wave, "sampling_rate": rate}
        features.append(processor.apply_chat_template([tiny.user(part)])["input_features"])
    assert all(abs(f.shape[-1] - 100) <= 1 for f in features)
    middle = [f[..., 20:80] for f in features]
    peaks = [int(m.mean(-1).argmax()) for m in middle]
    assert len(set(peaks)) == 1


def test_sound_tokens_are_those_of_the_codec():
    assistant = tiny.tokens_to_text()
    processor = assistant.processor
    part = tiny.clip(0.3, rate=24_000)
    ids = processor.prepare([tiny.user(part)])["input_ids"]
    vocabulary = processor.vocabulary_in
    begin, end = ids.index(vocabulary.start_id), ids.index(vocabulary.end_id)
    codes = processor.codec_in.encode(torch.from_numpy(part["audio"])[None, None])
    assert ids[begin : end + 1] == vocabulary.to_ids(codes)
    text = processor.tokenizer.decode(ids)
    assert text.startswith(
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n<|sound_start|><|sound_"
    )
    assert text.endswith("<|sound_end|><|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n")


def test_sound_tokens_are_resampled_as_their_codecs_pipelines_do(monkeypatch):
    processor, part = tiny.tokens_to_text().processor, tiny.clip(0.2, rate=44_100)
    seen, encode = [], processor.codec_in.encode
    monkeypatch.setattr(processor.codec_in, "encode", lambda wave: seen.append(wave) or encode(wave))
    processor.prepare([tiny.user(part)])
    wanted = resample(part["audio"], 44_100, 24_000, "sinc")
    assert np.array_equal(seen[0][0, 0].numpy(), wanted)
    assert not np.array_equal(wanted, resample(part["audio"], 44_100, 24_000))


def test_text_with_placeholders_written_out():
    assistant = tiny.embeddings_to_text()
    processor, clips = assistant.processor, [tiny.clip(0.3)["audio"], tiny.clip(0.5, seed=1)["audio"]]
    texts = ["[user]Say <|audio|><|eot_id|>[assistant]", "[user]<|audio|><|eot_id|>[assistant]"]
    inputs = processor(text=texts, audio=clips, sampling_rate=16_000, padding=True, return_tensors="pt")
    parts = [tiny.clip(0.3), tiny.clip(0.5, seed=1)]
    chats = [[tiny.user("Say ", parts[0])], [tiny.user(parts[1])]]
    wanted = processor.apply_chat_template(chats, add_generation_prompt=True)
    assert set(inputs) == set(wanted)
    assert all(torch.equal(inputs[k], wanted[k]) for k in wanted)
    with pytest.raises(ConfigError, match="2 clips for 1"):
        processor(text=texts[0], audio=clips, sampling_rate=16_000)
    with pytest.raises(ConfigError, match="1 clips for 2"):
        processor(text=texts, audio=clips[0], sampling_rate=16_000)
    with pytest.raises(ModelError, match="hears no embeddings"):
        tiny.tokens_to_text().processor(text="x", audio=clips[0], sampling_rate=16_000)


@pytest.mark.parametrize("make", [tiny.embeddings_to_text, tiny.tokens_to_tokens, tiny.transcript_first])
def test_a_saved_folder_is_enough(make, tmp_path):
    assistant = make()
    assistant.model.save_pretrained(tmp_path)
    assistant.processor.save_pretrained(tmp_path)
    wanted = assistant.processor.apply_chat_template(CONVERSATIONS[0][:1], add_generation_prompt=True) if (
        make is not tiny.transcript_first) else None  # fmt: skip
    if assistant.processor._shelf.items.get("codec") is not None:
        assistant.processor.codec_out.save(tmp_path / "codec", dtype=torch.float32)
    for loaded in (AutoProcessor.from_pretrained(tmp_path), SpeechProcessor.from_pretrained(tmp_path)):
        assert type(loaded) is SpeechProcessor
        assert loaded.ears == assistant.processor.ears and loaded.mouth == assistant.processor.mouth
        assert loaded.text_form == assistant.processor.text_form
        assert loaded.stop_ids == assistant.processor.stop_ids
        if wanted is not None:
            again = loaded.apply_chat_template(CONVERSATIONS[0], add_generation_prompt=True)
            assert all(torch.equal(again[k], wanted[k]) for k in wanted)
    # a codec that lies in the folder travels with it, the audio tokens' record too
    loaded.save_pretrained(tmp_path / "copy")
    assert (tmp_path / "copy" / "codec").is_dir() == (tmp_path / "codec").is_dir()
    assert (tmp_path / "copy" / "audio_vocabulary.json").is_file() == (loaded.vocabulary_out is not None)
    stored = json.loads((tmp_path / "processor_config.json").read_text())
    assert stored["processor_class"] == "SpeechProcessor" and "folder" not in stored


def test_the_pipeline_of_transformers_answers(tmp_path):
    assistant = tiny.embeddings_to_text()
    assistant.model.save_pretrained(tmp_path)
    assistant.processor.save_pretrained(tmp_path)
    pipe = pipeline(
        "any-to-any",
        model=AutoModelForMultimodalLM.from_pretrained(tmp_path),
        processor=AutoProcessor.from_pretrained(tmp_path),
    )
    messages = CONVERSATIONS[0]
    before = [dict(m) for m in messages]
    row = pipe(text=messages, max_new_tokens=8, return_full_text=False)[0]
    assert messages == before
    inputs = assistant.processor.apply_chat_template(messages, add_generation_prompt=True)
    output = assistant.model.generate(**inputs, max_new_tokens=8, do_sample=False, pad_token_id=0)
    new = assistant.processor.tokenizer.decode(
        output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True
    )
    assert row["generated_text"] == new
    by_path = pipeline("any-to-any", model=str(tmp_path))
    assert by_path(text=messages, max_new_tokens=8, return_full_text=False)[0]["generated_text"] == new


def test_arguments_that_would_be_ignored_are_refused():
    processor = tiny.embeddings_to_text().processor
    with pytest.raises(ConfigError, match="does not take enable_thinking"):
        processor.apply_chat_template(CONVERSATIONS[0], enable_thinking=True)
    with pytest.raises(ModelError, match="does not hear"):
        tiny.text_to_tokens().processor.apply_chat_template([tiny.user(tiny.clip())])


def test_integer_samples_keep_their_scale():
    wave = tiny.clip(0.1)["audio"]
    for dtype, scale, middle in ((np.int16, 32_768, 0), (np.int32, 2**31, 0), (np.uint8, 128, 128)):
        coded = np.round(wave.astype(np.float64) * scale + middle).astype(dtype)
        read = read_part({"type": "audio", "audio": coded, "sampling_rate": 16_000}, 16_000)
        assert np.abs(read - wave).max() < 1.01 / min(scale, 2**20)
