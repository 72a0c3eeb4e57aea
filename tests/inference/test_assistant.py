"""Every combination of ears and voice: streams equal whole answers, seeds repeat, refusals are clear."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import soundfile
import torch
from tests.inference import tiny

from vivavoce.base.errors import AudioError, ConfigError, ModelError, SessionError, VocabularyError
from vivavoce.inference.collect import collect

CHATTING = {
    "tokens->text": (tiny.tokens_to_text, False),
    "tokens->tokens": (tiny.tokens_to_tokens, True),
    "embeddings->text": (tiny.embeddings_to_text, False),
    "embeddings->tokens": (tiny.embeddings_to_tokens, True),
}
QUESTION = [tiny.user("Say ", tiny.clip(0.3))]
FREE = {"temperature": 1.0, "max_new_tokens": 90}


def same(first, second):
    assert (first.text, first.transcript, first.words) == (second.text, second.transcript, second.words)
    assert (first.audio is None) == (second.audio is None)
    if first.audio is not None:
        assert first.audio.shape == second.audio.shape
        assert np.abs(first.audio - second.audio).max(initial=0) < 1e-5


def wanting_audio(assistant):
    """The model begins to speak soon: the logit of the start of audio is raised."""
    start = assistant.processor.vocabulary_out.start_id
    model = assistant.model.language_model
    plain = model.lm_head.forward

    def forward(hidden):
        logits = plain(hidden)
        logits[..., start] += 6
        return logits

    model.lm_head.forward = forward
    return assistant


@pytest.mark.parametrize("name", CHATTING)
def test_stream_equals_chat_and_seeds_repeat(name):
    make, audio = CHATTING[name]
    assistant = wanting_audio(make()) if audio else make()
    reply = assistant.chat(QUESTION, audio=audio, seed=1, **FREE)
    streamed = collect(assistant.stream(QUESTION, audio=audio, seed=1, **FREE), 24_000 if audio else None)
    same(reply, streamed)
    assert reply.text and reply.understood
    assert reply.text != assistant.chat(QUESTION, audio=audio, seed=2, **FREE).text
    assert {"ttft_s", "total_s"} <= set(reply.timings)
    if audio:
        assert reply.sample_rate == 24_000 and len(reply.audio) > 0 and reply.audio.dtype == np.float32
        assert reply.timings["audio_s"] == len(reply.audio) / 24_000
        assert reply.timings["first_audio_s"] <= reply.timings["total_s"]
        assert "<" not in assistant.chat(QUESTION, audio=False, seed=1, **FREE).text.replace("<", "", 3)


@pytest.mark.parametrize("name", CHATTING)
def test_the_question_and_its_audio_are_heard(name):
    make, _ = CHATTING[name]
    assistant = make()
    answer = assistant.chat(QUESTION, seed=1, **FREE).text
    assert answer != assistant.chat([tiny.user("Sax ", tiny.clip(0.3))], seed=1, **FREE).text
    assert answer != assistant.chat([tiny.user("Say ", tiny.clip(0.3, seed=5))], seed=1, **FREE).text


@pytest.mark.parametrize("name", CHATTING)
def test_answers_equal_those_of_generate(name):
    make, _ = CHATTING[name]
    assistant = make()
    inputs = assistant.processor.apply_chat_template(QUESTION, add_generation_prompt=True)
    vocabulary = assistant.processor.vocabulary_in or assistant.processor.vocabulary_out
    never = set(range(len(assistant.processor.tokenizer), assistant.model.config.vocab_size))
    never |= {vocabulary.start_id, vocabulary.end_id, *vocabulary.code_ids} if vocabulary else set()
    never |= {assistant.processor.audio_token_id} - {None}
    if not vocabulary:
        never -= set(range(len(assistant.processor.tokenizer), assistant.model.config.vocab_size))
    output = assistant.model.generate(
        **inputs, max_new_tokens=30, do_sample=False, suppress_tokens=sorted(never), pad_token_id=0
    )
    new = output[0, inputs["input_ids"].shape[1] :].tolist()
    text = assistant.processor.tokenizer.decode(new, skip_special_tokens=True).strip()
    assert assistant.chat(QUESTION, max_new_tokens=30).text == text


@pytest.mark.parametrize("make", [tiny.text_to_tokens, tiny.tokens_to_tokens])
def test_say_speaks_whole_frames_and_streams(make):
    assistant = make()
    reply = assistant.say("hello there", seed=4, **FREE)
    same(reply, collect(assistant.stream_say("hello there", seed=4, **FREE), 24_000))
    assert len(reply.audio) > 0 and len(reply.audio) % 2048 == 0
    other = assistant.say("hello you", seed=4, **FREE)
    assert other.audio.shape != reply.audio.shape or np.abs(other.audio - reply.audio).max() > 1e-3


def test_orpheus_prompt_voice_and_defaults(monkeypatch):
    assistant = tiny.text_to_tokens()
    prompts, turn = [], assistant.turn
    monkeypatch.setattr(
        assistant,
        "turn",
        lambda prompt, options, tally: prompts.append((options, prompt)) or turn(prompt, options, tally),
    )
    assistant.say("hi", voice="leo", max_new_tokens=30)
    options, prompt = prompts[0]
    assert (options.temperature, options.top_p, options.repetition_penalty) == (0.6, 0.8, 1.1)
    text = assistant.processor.tokenizer.decode(prompt["input_ids"])
    assert "<|begin_of_text|>leo: hi<|eot_id|>" in text
    assert prompt["input_ids"][-1] == assistant.processor.vocabulary_out.start_id
    assistant.say("hi", max_new_tokens=30)
    assert "tara: hi" in assistant.processor.tokenizer.decode(prompts[1][1]["input_ids"])
    with pytest.raises(ConfigError, match=r"unknown voice 'tarra'\. Did you mean 'tara'"):
        assistant.say("hi", voice="tarra")


def test_audio_that_is_wanted_is_spoken_even_if_the_model_only_writes():
    assistant = tiny.tokens_to_tokens()
    end = assistant.processor.tokenizer.eos_token_id
    plain = assistant.model.language_model.lm_head.forward

    def ends_at_once(hidden):
        logits = plain(hidden)
        logits[..., end] += 100
        return logits

    assistant.model.language_model.lm_head.forward = ends_at_once
    reply = assistant.chat("hi", audio=True, max_new_tokens=60)
    assert reply.text == "" and len(reply.audio) > 0
    assert assistant.chat("hi", max_new_tokens=60).text == ""


def test_stop_strings_and_limits():
    assistant = tiny.embeddings_to_text()
    full = assistant.chat(QUESTION, seed=1, **FREE).text
    stop = next(c for c in full[3:] if c.isascii() and c not in full[:3])
    cut = assistant.chat(QUESTION, seed=1, stop=stop, **FREE).text
    assert cut == full[: full.index(stop)].strip() and len(cut) >= 1
    assert assistant.chat(QUESTION, seed=1, temperature=1.0, max_new_tokens=1).text in ("", full[:1])


def test_conversations_go_on():
    assistant = tiny.embeddings_to_text()
    first = assistant.chat(QUESTION, seed=1, **FREE)
    history = [
        *QUESTION,
        {"role": "assistant", "content": first.text},
        tiny.user("And ", tiny.clip(0.2, seed=9)),
    ]
    before = [dict(m) for m in history]
    second = assistant.chat(history, seed=1, **FREE)
    assert history == before
    alone = assistant.chat(history[2:], seed=1, **FREE)
    assert second.text != alone.text


def forms(tmp_path):
    wave = tiny.clip(0.4)["audio"]
    path = tmp_path / "clip.wav"
    soundfile.write(path, wave, 16_000, subtype="FLOAT")
    data = path.read_bytes()
    encoded = base64.b64encode(data).decode()
    return {
        "path": {"type": "audio", "audio": str(path)},
        "Path": {"type": "audio", "path": path},
        "bytes": {"type": "audio", "audio": data},
        "array": {"type": "audio", "audio": wave, "sampling_rate": 16_000},
        "double": {"type": "audio", "array": wave.astype(np.float64), "sample_rate": 16_000},
        "stereo": {"type": "audio", "audio": np.stack([wave, wave]), "sampling_rate": 16_000},
        "tensor": {"type": "audio", "audio": torch.from_numpy(wave), "sampling_rate": 16_000},
        "datasets": {"type": "audio", "audio": {"array": wave, "sampling_rate": 16_000}},
        "hub": {"type": "audio", "audio": {"path": None, "bytes": data}},
        "uri": {"type": "audio", "audio": "data:audio/wav;base64," + encoded},
        "openai": {"type": "input_audio", "input_audio": {"data": encoded, "format": "wav"}},
        "vllm": {"type": "audio_url", "audio_url": {"url": "data:audio/wav;base64," + encoded}},
        "part": {
            "type": "audio",
            "audio": np.tile(wave, 3),
            "sampling_rate": 16_000,
            "start": 0.4,
            "end": 0.8,
        },
    }


def test_every_form_of_audio_is_the_same_audio(tmp_path):
    assistant = tiny.embeddings_to_text()
    asked = {name: [tiny.user("Say ", part)] for name, part in forms(tmp_path).items()}
    answers = {name: assistant.chat(m, seed=1, **FREE).text for name, m in asked.items()}
    assert len(set(answers.values())) == 1, answers
    source = tmp_path / "clip.wav"
    with pytest.raises(ModelError, match="no prompt for transcribing"):
        assistant.transcribe(source)
    jan = tiny.tokens_to_text()
    texts = {jan.transcribe(s, max_new_tokens=20).text for s in (source, str(source), source.read_bytes())}
    with source.open("rb") as file:
        texts.add(jan.transcribe(io.BytesIO(file.read()), max_new_tokens=20).text)
    texts.add(jan.transcribe((tiny.clip(0.4)["audio"], 16_000), max_new_tokens=20).text)
    assert len(texts) == 1
    heard = jan.transcribe(source, max_new_tokens=20)
    assert heard.understood and heard.seconds == pytest.approx(0.4, abs=1e-3) and heard.timings["rtf"] > 0


@pytest.mark.parametrize(
    ("call", "error", "part"),
    [
        (lambda: tiny.tokens_to_text().chat("hi", audio=True), ModelError, "answers in text only; models that speak: "),
        (lambda: tiny.tokens_to_text().say("hi"), ModelError, "answers in text only"),
        (lambda: tiny.text_to_tokens().chat("hi"), ModelError, "reads text aloud and does not chat; use say"),
        (lambda: tiny.text_to_tokens().transcribe(b""), ModelError, "does not hear; models that do"),
        (lambda: tiny.text_to_tokens().say("  "), ConfigError, "nothing to say"),
        (lambda: tiny.embeddings_to_text().chat([]), ConfigError, "wanted a list of messages"),
        (lambda: tiny.embeddings_to_text().chat([{"role": "assistant", "content": "x"}]), ConfigError, "last message"),
        (lambda: tiny.embeddings_to_text().chat("hi", temprature=1), ConfigError, "Did you mean 'temperature'"),
        (lambda: tiny.embeddings_to_text().chat("say <|audio|>"), ConfigError, "pass audio as an audio part"),
        (lambda: tiny.tokens_to_text().chat("<|sound_start|><|sound_3|>"), VocabularyError, "audio token"),
        (lambda: tiny.embeddings_to_text().chat([tiny.user({"type": "audio"})]), ConfigError, "has no audio"),
        (lambda: tiny.embeddings_to_text().chat([tiny.user({"type": "image"})]), ConfigError, "wanted a part of type"),
        (lambda: tiny.embeddings_to_text().chat([tiny.user({"type": "audio", "audio": "no.wav"})]), AudioError,
         "no.wav"),
        (lambda: tiny.embeddings_to_text().chat([tiny.user({**tiny.clip(), "sampling_rate": None})]), AudioError,
         "needs its sampling_rate"),
        (lambda: tiny.embeddings_to_text().chat([tiny.user({"type": "audio", "audio": "http://x/y.wav"})]), AudioError,
         "address on the network"),
        (lambda: tiny.tokens_to_text().chat("x" * 5000), ModelError, "the model reads 4095 at most"),
        (lambda: tiny.embeddings_to_text().chat("hi").save("x.wav"), SessionError, "ask with audio=True"),
    ],
)  # fmt: skip
def test_refusals_say_what_and_what_else(call, error, part):
    with pytest.raises(error) as caught:
        call()
    assert part in str(caught.value)


def test_a_reply_is_saved_as_it_sounds(tmp_path):
    reply = tiny.text_to_tokens().say("hello", seed=1, **FREE)
    path = reply.save(tmp_path / "a.wav")
    wave, rate = soundfile.read(path, dtype="float32")
    assert rate == 24_000
    assert np.abs(wave - np.clip(reply.audio, -1, 1)).max() < 1e-4
