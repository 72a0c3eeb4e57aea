"""Conversations with several recordings: all are kept, streams equal answers, a kept cache equals one pass."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.inference import tiny
from tests.models.pairs import PAIRS, WHISPER, assistant

import vivavoce
from vivavoce.base.errors import ModelError
from vivavoce.inference.collect import collect
from vivavoce.inference.generate import Decoding, TokenRun
from vivavoce.inference.sampling import Sampler, SamplingOptions

NAMES = [
    "whisper + stack, norm mid",
    "whisper + transformer",
    "whisper and beats + qformer",
    "hubert + stack",
]
YES = {"role": "assistant", "content": "yes"}
TALK = [
    {"role": "system", "content": "Be brief."},
    tiny.user("first ", tiny.clip(0.5)),
    YES,
    tiny.user("only words"),
    YES,
    tiny.user(tiny.clip(1.1, 1), " or ", tiny.clip(0.2, 2)),  # the first is longer than one pass
    YES,
    tiny.user("and ", tiny.clip(0.4, 3)),
]
GREEDY = {"max_new_tokens": 8}


def swapped(messages, turn, clip):
    """The conversation with another first clip in one of its turns."""
    parts = list(messages[turn]["content"])
    at = next(i for i, part in enumerate(parts) if part["type"] == "audio")
    parts[at] = clip
    return [*messages[:turn], {**messages[turn], "content": parts}, *messages[turn + 1 :]]


@pytest.mark.parametrize("name", NAMES)
def test_clips_of_earlier_turns_are_kept(name):
    made = assistant(name)
    inputs = made.processor.apply_chat_template(TALK, add_generation_prompt=True)
    ids = made.model.generate(**inputs, max_new_tokens=8, do_sample=False, pad_token_id=0)
    wanted = made.processor.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    reply = made.chat(TALK, **GREEDY)
    assert reply.text == wanted != "" and reply.understood
    assert collect(made.stream(TALK, **GREEDY), None).text == reply.text
    with torch.no_grad():
        logits = made.model(**inputs).logits[0, -1]
        for turn in (1, 5, 7):
            other = made.processor.apply_chat_template(
                swapped(TALK, turn, tiny.clip(0.5 if turn == 1 else 1.1 if turn == 5 else 0.4, 9)),
                add_generation_prompt=True,
            )
            assert torch.equal(other["input_ids"], inputs["input_ids"])
            assert (
                made.model(**other).logits[0, -1] - logits
            ).abs().max() > 3e-4  # the tests below allow 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_of_drawn_tokens_equals_the_answer(name):
    made = assistant(name)
    options = {"max_new_tokens": 20, "temperature": 1.0, "seed": 3}
    assert collect(made.stream(TALK, **options), None).text == made.chat(TALK, **options).text
    assert made.chat(TALK, **options).text != made.chat(TALK, **GREEDY).text


@pytest.mark.parametrize("name", PAIRS)
def test_a_cache_that_is_kept_over_turns_equals_one_pass(name):
    """Each turn brings its own clips; what was heard before is in the cache and is not heard again."""
    made = assistant(name)
    model, processor = made.model, made.processor
    decoding, read, clips = Decoding(model), [], []
    for turn in (2, 4, 6, 8):
        row = processor.prepare(TALK[:turn])
        ids = row["input_ids"]
        if turn > 2:
            assert ids[: len(read)] == read  # this template only adds at the end
        new = model_inputs_after(row, len(clips))
        with torch.inference_mode():
            heard = model.hear(*new) if new is not None else None
        logits = decoding.feed(ids[len(read) :], heard)
        clips += [] if new is None else list(new[0])
        inputs = processor.apply_chat_template(TALK[:turn], add_generation_prompt=True)
        with torch.no_grad():
            whole = model(**inputs).logits[0, -1]
        assert (logits - whole).abs().max() < 1e-4 and whole.std() > 0.3
        # the answer of the conversation is what the model goes on with; here the one that is in the messages
        answered = processor.tokenizer("yes", add_special_tokens=False)["input_ids"]
        decoding.feed(answered)
        read = ids + answered
        assert decoding.ids == read


def model_inputs_after(row, chunks):
    """Features and lengths of chunks past the first ones; None if there are no more."""
    if "input_features" not in row or len(row["feature_lengths"]) == chunks:
        return None
    return row["input_features"][chunks:], row["feature_lengths"][chunks:]


def test_a_second_recording_after_an_answer_that_was_drawn():
    made = assistant()
    model, processor = made.model, made.processor
    first = processor.prepare(TALK[:2])
    decoding = Decoding(model)
    with torch.inference_mode():
        logits = decoding.feed(
            first["input_ids"], model.hear(first["input_features"], first["feature_lengths"])
        )
    run = TokenRun(decoding, logits, Sampler(SamplingOptions()), processor.stop_ids, 5)
    said = list(run)
    second = processor.prepare([tiny.user(tiny.clip(1.1, 1))])
    with torch.inference_mode():
        logits = decoding.feed(
            second["input_ids"], model.hear(second["input_features"], second["feature_lengths"])
        )
        ids = [*first["input_ids"], *said, *second["input_ids"]]
        assert decoding.ids == ids and len(said) == 5
        widths = [r["input_features"].shape[-1] for r in (first, second)]
        features = [torch.nn.functional.pad(r["input_features"], (0, max(widths) - w))
                    for r, w in zip((first, second), widths, strict=True)]  # fmt: skip
        whole = model(
            input_ids=torch.tensor([ids]),
            input_features=torch.cat(features),
            feature_lengths=torch.cat([first["feature_lengths"], second["feature_lengths"]]),
        ).logits[0, -1]
    assert (logits - whole).abs().max() < 1e-4
    with pytest.raises(ModelError, match="audio placeholders"):
        decoding.feed(second["input_ids"])  # audio of this turn was forgotten


def test_text_turns_need_no_ears():
    made = assistant()
    reply = made.chat(
        [{"role": "user", "content": "hello"}, YES, {"role": "user", "content": "why"}], **GREEDY
    )
    assert reply.text == made.chat([tiny.user("hello"), YES, tiny.user("why")], **GREEDY).text


def test_more_than_a_minute_is_heard(monkeypatch):
    encoder = {**WHISPER, "model": {**WHISPER["model"], "max_source_positions": 1500}}
    monkeypatch.setitem(PAIRS, "whisper of 30 s", (encoder, *PAIRS["whisper + stack, norm mid"][1:]))
    made = assistant("whisper of 30 s")
    long = tiny.clip(65.0, 4)
    row = made.processor.prepare([tiny.user(long)])
    assert row["feature_lengths"].tolist() == [3000, 3000, 500]
    assert row["input_ids"].count(made.processor.audio_token_id) == 188 + 188 + 32
    talk = [tiny.user(long), YES, tiny.user("and now? ", tiny.clip(0.5))]
    reply = made.chat(talk, **GREEDY)
    assert reply.text == collect(made.stream(talk, **GREEDY), None).text != ""
    logits = []
    with torch.no_grad():
        for end in (60.0, 30.0, 0.0):  # one part after the other is another sound
            changed = {**long, "audio": long["audio"].copy()}
            changed["audio"][round(end * 16_000) : round((end + 4) * 16_000)] = 0
            messages = [tiny.user(changed), *talk[1:]]
            inputs = made.processor.apply_chat_template(messages, add_generation_prompt=True)
            logits.append(made.model(**inputs).logits[0, -1])
    assert all(
        (one - other).abs().max() > 3e-4 for one, other in zip(logits, logits[1:] + logits[:1], strict=True)
    )
    with torch.inference_mode():  # every chunk is heard as it is alone
        together = made.model.hear(row["input_features"], row["feature_lengths"])
        without = made.model.hear(row["input_features"], row["feature_lengths"], keep_states=False)
        assert together.states.shape[:2] == (3, 1500) and without.states.shape[:2] == (3, 0)
        assert torch.equal(together.embeddings, without.embeddings)
        for i, length in enumerate([3000, 3000, 500]):
            alone = made.model.hear(row["input_features"][i : i + 1, :, :length])
            count = int(alone.counts[0])
            assert int(together.counts[i]) == count
            assert (together.embeddings[i, :count] - alone.embeddings[0]).abs().max() < 1e-4
    made.model.config.text_config.max_position_embeddings = 400
    with pytest.raises(ModelError, match="shorten the audio or the history"):
        made.chat([tiny.user(long)])


PEAK = """
import json, sys, torch
sys.path[:0] = sys.argv[2].split(":")
from tests.models.tiny import text_config
from vivavoce.models.config import SpeechLMConfig
from vivavoce.models.speech_lm import SpeechLM

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))

torch.set_num_threads(1)
whisper = {"d_model": 384, "encoder_layers": 4, "encoder_attention_heads": 6, "encoder_ffn_dim": 1536,
           "num_mel_bins": 80, "max_source_positions": 1500}
ears = {"type": "embeddings", "encoder": {"type": "whisper", "model": whisper}, "audio_token_id": 60,
        "connector": {"type": "stack", "encoder_size": 384, "text_size": 32, "hidden_size": 512}}
model = SpeechLM(SpeechLMConfig(text_config=text_config(), audio_in=ears)).eval()
model.hear_at_once = 2
rows = int(float(sys.argv[1]) * 2)
with torch.inference_mode():
    model.hear(torch.randn(1, 80, 100))
    features = torch.randn(rows, 80, 3000)
    before = peak()
    heard = model.hear(features, keep_states=False)
    print(json.dumps({"added": peak() - before, "positions": int(heard.counts.sum())}))
"""


def peak_of_hearing(minutes: float) -> dict[str, float]:
    """Memory in MiB that hearing a recording adds to a process of its own, with an encoder of Whisper-tiny's size."""
    root = Path(__file__).parents[2]
    where = f"{root}:{Path(vivavoce.__file__).parents[1]}"
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(minutes), where], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads Linux's peak of resident memory")
def test_memory_of_hearing_does_not_grow_with_the_recording():
    short, long = peak_of_hearing(2), peak_of_hearing(10)
    assert short["positions"] == 4 * 188 and long["positions"] == 20 * 188
    assert long["added"] < short["added"] + 60  # all 20 chunks at once take 400 more
