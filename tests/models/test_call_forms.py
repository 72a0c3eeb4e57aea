"""However a clip is given to the processor, the model gets the same; long clips become chunks."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import soundfile
import torch
from tests.inference import tiny
from tests.models.pairs import WHISPER, assistant

from vivavoce.audio.resample import resample
from vivavoce.base.errors import ConfigError
from vivavoce.models.clips import ClipReader
from vivavoce.models.config import EmbeddingsIn

RATE = 16_000


@pytest.fixture(scope="module")
def processor():
    return assistant().processor


def noise(seconds=0.4, seed=0, rate=RATE):
    return np.round(tiny.clip(seconds, seed, rate)["audio"] * 32_768).astype(np.float32) / 32_768


def wav(samples, rate=RATE):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples.T, rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def same(one, other):
    assert set(one) == set(other)
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_every_form_of_a_clip(processor, tmp_path):
    wave = noise()
    (tmp_path / "a.wav").write_bytes(wav(wave))
    text = base64.b64encode(wav(wave)).decode()
    uri = f"data:audio/wav;base64,{text}"
    forms = [
        {"type": "audio", "audio": wave, "sampling_rate": RATE},
        {"type": "audio", "array": wave, "sample_rate": RATE},
        {"type": "audio", "audio": {"array": wave, "sampling_rate": RATE}},
        {"type": "audio", "audio": (wave, RATE)},
        {"type": "audio", "audio": (RATE, wave)},
        {"type": "audio", "audio": torch.from_numpy(wave), "sampling_rate": RATE},
        {"type": "audio", "audio": (wave * 32_768).astype(np.int16), "sampling_rate": RATE},
        {"type": "audio", "audio": np.stack([wave, wave]), "sampling_rate": RATE},
        {"type": "audio", "audio": str(tmp_path / "a.wav")},
        {"type": "audio", "path": tmp_path / "a.wav"},
        {"type": "audio", "url": str(tmp_path / "a.wav")},
        {"type": "audio", "audio": wav(wave)},
        {"type": "audio", "bytes": wav(np.stack([wave, wave]))},
        {"type": "audio", "audio": {"bytes": wav(wave), "path": None}},
        {"type": "audio", "audio": io.BytesIO(wav(wave))},
        {"type": "audio", "audio": uri},
        {"type": "input_audio", "input_audio": {"data": text, "format": "wav"}},
        {"type": "audio_url", "audio_url": {"url": uri}},
        {"type": "audio", "audio": np.concatenate([noise(0.25, 5), wave, noise(0.1, 6)]), "sampling_rate": RATE,
         "start": 0.25, "end": 0.65},
    ]  # fmt: skip
    wanted = processor.apply_chat_template([tiny.user("a ", forms[0], " b ", forms[0])])
    for form in forms:
        same(processor.apply_chat_template([tiny.user("a ", form, " b ", form)]), wanted)
    written = "[user]a <|audio|> b <|audio|><|eot_id|>"
    for clip in (wave, wav(wave), tmp_path / "a.wav", {"bytes": wav(wave)}, (wave, RATE), uri):
        for name in ("audio", "audios"):
            same(processor(text=written, **{name: [clip, clip]}, sampling_rate=RATE), wanted)
    same(processor(text=[written], audio=(wave, wave), sampling_rate=RATE, padding=True), wanted)


def test_one_rate_for_all_arrays(processor):
    wave = noise(0.3, rate=44_100)
    bare, told = {"type": "audio", "audio": wave}, {"type": "audio", "audio": wave, "sampling_rate": 44_100}
    other = {"type": "audio", "audio": noise(), "sampling_rate": RATE}
    wanted = processor.apply_chat_template([tiny.user(told, other)])
    same(processor.apply_chat_template([tiny.user(bare, other)], sampling_rate=44_100), wanted)
    given = processor.apply_chat_template(
        [tiny.user(bare, other)], processor_kwargs={"sampling_rate": 44_100}
    )
    same(given, wanted)


def test_any_rate_and_any_channels_are_the_same_sound(processor):
    seconds = np.arange(48_000) / 48_000
    wave = (0.3 * np.sin(2 * np.pi * 300 * seconds) * np.hanning(48_000)).astype(np.float32)
    wanted = processor(text="<|audio|>", audio=wave, sampling_rate=48_000)
    for rate in (8_000, 16_000, 22_050, 44_100, 96_000):
        other = resample(wave, 48_000, rate)
        for samples in (other, np.stack([2 * other, np.zeros_like(other)])):
            found = processor(text="<|audio|>", audio=samples, sampling_rate=rate)
            assert torch.equal(found["input_ids"], wanted["input_ids"])
            loud = wanted["input_features"] > 0.5
            assert (
                loud.any() and (found["input_features"] - wanted["input_features"])[loud].abs().max() < 0.02
            )


@pytest.mark.parametrize(
    ("samples", "chunks", "positions"),
    [(1, [2], 1), (480_000, [3000], 188), (480_001, [3000, 1], 189), (960_000, [3000, 3000], 376),
     (65 * RATE, [3000, 3000, 500], 408)],
)  # fmt: skip
def test_chunks_of_half_a_minute(samples, chunks, positions):
    ears = EmbeddingsIn(
        encoder={**WHISPER, "model": {**WHISPER["model"], "max_source_positions": 1500}},
        connector={"type": "stack", "encoder_size": 16, "text_size": 32, "hidden_size": 24},
        features={"num_mels": 8, "ending": "hop"},
        audio_token_id=5,
        shortest_samples=320,
    )
    read = ClipReader(ears).read([noise(0.5), 0.1 * np.ones(samples, np.float32)])
    assert read.lengths.tolist() == [50, *chunks]
    assert read.chunks == [1, len(chunks)] and read.positions == [4, positions]
    assert read.features.shape == (1 + len(chunks), 8, max(50, *chunks))


def test_long_and_several_clips_in_a_conversation(processor):
    long, short = (
        {"type": "audio", "audio": (noise(2.0), RATE)},
        {"type": "audio", "audio": (noise(0.2, 1), RATE)},
    )
    answer = {"role": "assistant", "content": "yes"}
    inputs = processor.apply_chat_template([tiny.user(long, " or ", short), answer, tiny.user(short, long)])
    assert inputs["feature_lengths"].tolist() == [80, 80, 40, 20, 20, 80, 80, 40]
    ids = inputs["input_ids"][0].tolist()
    assert ids.count(processor.audio_token_id) == 2 * (5 + 5 + 3 + 2)
    text = processor.tokenizer.decode([i for i in ids if i != processor.audio_token_id])
    assert text == "[user] or <|eot_id|>[assistant]yes<|eot_id|>[user]<|eot_id|>"
    right = processor.apply_chat_template([[tiny.user("a")], [tiny.user(short)]], padding_side="right")
    assert right["attention_mask"][0].tolist()[:8] == [1] * 8 and right["attention_mask"][0, -1] == 0


def test_ultravox_spelling_for_models_with_another():
    own = assistant()
    own.processor.tokenizer.add_special_tokens({"additional_special_tokens": ["<SpeechHere>"]})
    own.processor.ears = EmbeddingsIn(
        **{
            **vars(own.processor.ears),
            "audio_token_id": own.processor.tokenizer.convert_tokens_to_ids("<SpeechHere>"),
        }
    )
    with pytest.raises(
        ConfigError, match=r"1 clips for 0 <SpeechHere>.*<\|audio\|> elsewhere is <SpeechHere>"
    ):
        own.processor(text="hear <|audio|>", audio=noise(), sampling_rate=RATE)
    found = own.processor(text="hear <SpeechHere>", audio=noise(), sampling_rate=RATE)
    assert int((found["input_ids"] == own.processor.audio_token_id).sum()) == 3
