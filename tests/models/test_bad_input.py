"""Bad input: an error of ours that says what to do, or an answer as documented; never a crash, never NaN."""

from __future__ import annotations

import base64
import io
import struct
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tests.inference import tiny
from tests.models.pairs import PAIRS, assistant

from vivavoce.base.errors import AudioError, ConfigError, ModelError, VivavoceError
from vivavoce.models.audio_parts import list_clips, read_part

RATE = 16_000


@pytest.fixture(scope="module")
def made():
    return assistant()


def sound(seconds: float = 0.3) -> np.ndarray:
    return tiny.clip(seconds)["audio"]


def wav(samples: np.ndarray, subtype: str = "PCM_16", rate: int = RATE) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV", subtype=subtype)
    return buffer.getvalue()


def with_hole(value: float) -> np.ndarray:
    wave = sound()
    wave[100] = value
    return wave


def array(samples: Any, rate: Any = RATE) -> dict[str, Any]:
    return {"type": "audio", "audio": samples, "sampling_rate": rate}


ARRAYS = {
    "NaN": (array(with_hole(np.nan)), "NaN or infinite"),
    "infinite": (array(with_hole(np.inf)), "NaN or infinite"),
    "no samples": (array(np.zeros(0, np.float32)), r"shape \(0,\)"),
    "three axes": (array(np.zeros((1, 2, 800), np.float32)), r"shape \(1, 2, 800\).*wanted samples \[S\]"),
    "no axis": (array(np.float32(0.1)), "wanted samples"),
    "samples before channels": (array(np.zeros((800, 2), np.float32)), "give its transpose"),
    "truth values": (array(np.zeros(800, bool)), "bool; wanted"),
    "complex": (array(np.zeros(800, complex)), "complex128; wanted"),
    "words": (array(["a", "b"]), "one clip in each place"),
    "clips in a clip": (array([sound(), sound()]), "one clip in each place"),
    "no rate": ({"type": "audio", "audio": sound()}, "needs its sampling_rate in Hz"),
    "rate 0": (array(sound(), 0), "sampling_rate is 0 Hz; wanted 1000"),
    "rate below 0": (array(sound(), -16_000), "sampling_rate is -16000 Hz"),
    "rate NaN": (array(sound(), float("nan")), "sampling_rate is nan"),
    "half a Hz": (array(sound(), 16_000.5), "sampling_rate is 16000.5"),
    "rate in kHz": (array(sound(), 16), "sampling_rate is 16 Hz; wanted 1000"),
    "rate as a word": (array(sound(), "16000"), "sampling_rate is '16000'"),
    "rate True": (array(sound(), True), "sampling_rate is True"),
    "rate far too high": (array(sound(), 10**7), "wanted 1000 to"),
    "after the end": ({**array(sound()), "start": 5.0}, "no samples between 5 s"),
    "before the beginning": ({**array(sound()), "start": -0.1}, "wanted 0 <= start_s"),
    "end before start": ({**array(sound()), "start": 0.2, "end": 0.1}, "wanted 0 <= start_s < end_s"),
    "start as a word": ({**array(sound()), "start": "a"}, "start or end is 'a'"),
    "no bytes": ({"type": "audio", "bytes": b""}, r"is empty \(0 bytes\)"),
    "bytes of something else": ({"type": "audio", "bytes": b"hello, this is no recording"}, "cannot be read"),
    "cut off": ({"type": "audio", "bytes": wav(sound())[:3000]}, "cut off"),
    "a header alone": ({"type": "audio", "bytes": wav(np.zeros(0, np.float32))}, "has no samples"),
    "NaN in a file": ({"type": "audio", "bytes": wav(with_hole(np.nan), "FLOAT")}, "NaN or infinite"),
    "no base64": ({"type": "input_audio", "input_audio": {"data": "@@@", "format": "wav"}}, "not base64"),
    "base64 of nothing": ({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}, "0 bytes"),
    "a data URI of nothing": ({"type": "audio_url", "audio_url": {"url": "data:audio/wav;base64,"}}, "0 bytes"),
    "the network": ({"type": "audio_url", "audio_url": {"url": "https://a.b/c.wav"}}, "download it"),
    "nothing within": ({"type": "audio", "audio": {}}, "the audio part is empty"),
    "a missing file": ({"type": "audio", "path": "/nowhere/a.wav"}, "/nowhere/a.wav does not exist"),
    "a number": (array(7), "wanted samples"),
}  # fmt: skip


@pytest.mark.parametrize("fault", ARRAYS)
def test_clips_that_cannot_be_used(made, fault):
    part, message = ARRAYS[fault]
    with pytest.raises(AudioError, match=message):
        made.processor.apply_chat_template([tiny.user("hear ", part)])
    with pytest.raises(AudioError, match=message):
        made.chat([tiny.user(part)])
    with pytest.raises(AudioError, match=message):
        made.processor.apply_chat_template(
            [[tiny.user("fine")], [tiny.user(array(sound())), tiny.user(part)]]
        )


FILES = {
    "nothing.wav": (b"", r"nothing.wav is empty \(0 bytes\)"),
    "notes.wav": (b"Dear all,\nthis is a text.\n", "notes.wav cannot be read as a recording"),
    "zeros.wav": (bytes(4000), "zeros.wav cannot be read as a recording"),
    "short.wav": (b"RIFF", "short.wav"),
    "empty.wav": (wav(np.zeros(0, np.float32)), "empty.wav has no samples"),
    "lies.wav": (b"RIFF" + struct.pack("<I", 1 << 30) + b"WAVEfmt ", "lies.wav"),
    "page.mp3": (b"<!DOCTYPE html><html></html>", "page.mp3 cannot be read"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_recordings(made, name, tmp_path):
    content, message = FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    for part in ({"type": "audio", "audio": str(path)}, {"type": "audio", "path": path}):
        with pytest.raises(VivavoceError, match=message):
            made.processor.apply_chat_template([tiny.user(part)])
    with pytest.raises(VivavoceError, match=message):
        made.processor(text="[user]<|audio|>", audio=path)
    with pytest.raises(AudioError, match="is a folder"):
        made.processor(text="[user]<|audio|>", audio=tmp_path)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("kind", ["one sample", "10 ms", "silence", "constant", "far too loud", "a click"])
def test_odd_clips_are_heard(name, kind):
    own = assistant(name)
    click = np.zeros(6000, np.float32)
    click[3000] = 1.0
    wave = {
        "one sample": np.full(1, 0.5, np.float32), "10 ms": sound(0.01), "silence": np.zeros(16_000, np.float32),
        "constant": np.ones(9000, np.float32), "far too loud": 1e4 * sound(), "a click": click,
    }[kind]  # fmt: skip
    inputs = own.processor.apply_chat_template([tiny.user(array(wave))], add_generation_prompt=True)
    assert int((inputs["input_ids"] == own.processor.audio_token_id).sum()) >= 1
    with torch.no_grad():
        assert own.model(**inputs).logits.isfinite().all()
    assert isinstance(own.chat([tiny.user(array(wave))], max_new_tokens=3).text, str)


def test_integers_of_every_width_and_one_channel_of_many(made):
    wave = np.round(sound() * 120) / 128
    wanted = read_part(array(wave.astype(np.float32)), RATE)
    for dtype, scale, middle in (
        (np.int8, 128, 0), (np.uint8, 128, 128), (np.int16, 2**15, 0), (np.uint16, 2**15, 2**15), (np.int32, 2**31, 0)
    ):  # fmt: skip
        coded = (wave.astype(np.float64) * scale + middle).astype(dtype)
        assert np.abs(read_part(array(coded), RATE) - wanted).max() < 1e-6
        two = np.stack([coded, coded])
        assert np.abs(read_part(array(two), RATE) - wanted).max() < 1e-6
    for floats in (np.float16, np.float64):
        assert np.abs(read_part(array(wave.astype(floats)), RATE) - wanted).max() < 1e-3
    half = torch.tensor(wave, dtype=torch.bfloat16, requires_grad=True)
    assert np.abs(read_part(array(half), RATE) - wanted).max() < 1e-2


def test_lists_of_clips():
    wave = sound()
    assert list_clips(None) == [] == list_clips([])
    assert list_clips([0.1, 0.2]) == [[0.1, 0.2]]
    assert [len(list_clips(x)) for x in (wave, "a.wav", b"x", {"path": "a"}, (wave, RATE), (RATE, wave))] == [
        1
    ] * 6
    assert [len(list_clips(x)) for x in ([wave, wave], (wave, wave), ["a.wav", wave, (wave, RATE)])] == [
        2,
        2,
        3,
    ]


CALLS = {
    "one placeholder too many": ({"text": "<|audio|><|audio|>", "audio": sound()}, ConfigError, r"1 clips for 2 <\|au"),
    "one too few": ({"text": "[user]", "audio": sound()}, ConfigError, "1 clips for 0"),
    "more clips than the batch has": (
        {"text": ["<|audio|>", "a"], "audio": [sound(), sound()]}, ConfigError, "2 clips for 1",
    ),
    "a placeholder without a clip": ({"text": "<|audio|>"}, ConfigError, "0 clips for 1"),
    "both names": ({"text": "<|audio|>", "audio": sound(), "audios": [sound()]}, ConfigError, "two names of the same"),
    "no text": ({"audio": sound()}, ConfigError, "wanted a text"),
    "no texts": ({"text": []}, ConfigError, "wanted a text"),
    "numbers": ({"text": [1, 2]}, ConfigError, "wanted a text"),
    "an argument of others": ({"text": "a", "truncation": True}, ConfigError, "does not take truncation"),
    "pictures": ({"text": "a", "images": ["a.png"]}, ConfigError, "does not take images"),
    "a side": ({"text": ["a", "bc"], "padding_side": "top"}, ConfigError, "padding_side is 'top'"),
    "clips in a clip": ({"text": "<|audio|>", "audio": [[sound(), sound()]]}, AudioError, "one clip in each place"),
}  # fmt: skip


@pytest.mark.parametrize("fault", CALLS)
def test_calls_of_the_processor(made, fault):
    given, error, message = CALLS[fault]
    with pytest.raises(error, match=message):
        made.processor(**{"sampling_rate": RATE, **given})


MESSAGES: dict[str, tuple[Any, str]] = {
    "none": ([], "no conversation"),
    "a text": ("hello", "no conversation"),
    "no content": ([{"role": "user"}], "message 0 is"),
    "no role": ([{"content": "a"}], "message 0 is"),
    "an unknown part": ([{"role": "user", "content": [{"type": "image", "image": "a.png"}]}], "part 0 of message 0"),
    "a clip without audio": ([{"role": "user", "content": [{"type": "audio"}]}], "has no audio"),
    "a literal placeholder": ([{"role": "user", "content": "hear <|audio|>"}], "pass audio as an audio part"),
    "a literal placeholder beside a clip": (
        [tiny.user("hear <|audio|> ", array(sound()))], "message 0 contains <|audio|>",
    ),
    "one in an answer": (
        [tiny.user(array(sound())), {"role": "assistant", "content": "<|audio|>"}], "message 1 contains <|audio|>",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", MESSAGES)
def test_conversations(made, fault):
    messages, message = MESSAGES[fault]
    with pytest.raises(ConfigError, match=message.replace("|", r"\|")):
        made.processor.apply_chat_template(messages)


def test_a_literal_placeholder_that_the_tokenizer_does_not_know():
    own = assistant(audio_token_id=2000)
    assert own.processor.audio_token == "<|audio|>"
    with pytest.raises(ConfigError, match="pass audio as an audio part"):
        own.processor.prepare([{"role": "user", "content": "hear <|audio|>"}])


def test_text_alone_needs_no_ears(made):
    inputs = made.processor.apply_chat_template(
        [{"role": "user", "content": "hello"}], add_generation_prompt=True
    )
    assert "input_features" not in inputs
    assert made.model(**inputs).logits.isfinite().all()
    deaf = tiny.text_to_tokens()
    with pytest.raises(ModelError, match="does not hear"):
        deaf.processor.apply_chat_template([tiny.user(array(sound()))])
    with pytest.raises(ModelError, match='audio_in is "none"'):
        deaf.model(input_ids=torch.ones(1, 3, dtype=torch.long), input_features=torch.zeros(1, 8, 20))


def test_inputs_of_the_model_that_do_not_fit(made):
    inputs = made.processor.apply_chat_template([tiny.user(array(sound()))], add_generation_prompt=True)
    model = made.model
    for changes, message in (
        ({"input_features": None}, "placeholders"),
        ({"input_ids": torch.ones(1, 5, dtype=torch.long), "attention_mask": None}, "0 audio placeholders"),
        ({"audio_batch_index": torch.tensor([1])}, "rising order"),
        ({"audio_batch_index": torch.tensor([0, 0])}, "give one row each"),
    ):
        with pytest.raises(ModelError, match=message):
            model(**{**inputs, **changes})


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("lengths", [[0, 30], [30, 100_000], [30], [30, 30, 30]])
def test_lengths_that_do_not_fit_the_features(name, lengths):
    own = assistant(name)
    reader = own.processor.clip_reader.read([sound(0.3), sound(0.3)])
    with pytest.raises(ModelError, match="lengths are"):
        own.model.hear(reader.features, torch.tensor(lengths))


def test_base64_with_line_breaks_is_read(made):
    text = base64.encodebytes(wav(sound())).decode()
    assert "\n" in text.strip()
    part = {"type": "input_audio", "input_audio": {"data": text, "format": "wav"}}
    assert np.abs(read_part(part, RATE) - sound()).max() < 1e-4
