"""Tokens by a stand-in for vLLM, sound by us: the same codes, text and audio as by our own engine."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("openai")

import soundfile
import torch
from tests.inference import tiny
from tests.serving.live import running, serving, until
from tests.serving.vllm.fake_vllm import Direction, FakeVllm, config_of, slots_class, update

from vivavoce.base.errors import ConfigError
from vivavoce.cli.main import main
from vivavoce.inference.assistant import load
from vivavoce.inference.collect import collect
from vivavoce.inference.legal_tokens import LegalTokens
from vivavoce.inference.session import Session
from vivavoce.models.conversion import convert
from vivavoce.serving.refusals import Refusal
from vivavoce.serving.vllm.process import make_engine
from vivavoce.tokens.constraints import AudioLimits

MADE = {
    "hears": tiny.tokens_to_text,
    "reads aloud": tiny.text_to_tokens,
    "hears and speaks": tiny.tokens_to_tokens,
}


@pytest.fixture(scope="module", params=MADE)
def folder(request, tmp_path_factory):
    place = tmp_path_factory.mktemp("models")
    made = MADE[request.param]()
    made.model.save_pretrained(place / "ours")
    (made.processor.codec_in if made.hears else made.processor.codec_out).save(place / "ours" / "codec")
    made.processor.folder = str(place / "ours")
    made.processor.save_pretrained(place / "ours")
    convert(str(place / "ours"), place / "tiny", "vllm")
    return place / "tiny"


@pytest.fixture
def pair(folder, monkeypatch):
    """Our own assistant, the one in front of vLLM, and vLLM."""
    fake = FakeVllm(folder, slots_class(monkeypatch))
    with running(fake.app) as address:
        engine = make_engine(str(folder), "tiny", f"http://{address}/v1")
        yield load(folder, device="cpu"), engine.assistant, fake
        engine.stop()


GREEDY = {"temperature": 0.0, "max_new_tokens": 40}
DRAWN = {"temperature": 0.9, "top_p": 0.95, "top_k": 50, "min_p": 0.01, "repetition_penalty": 1.1, "seed": 3}


@pytest.mark.parametrize("options", [GREEDY, {**DRAWN, "max_new_tokens": 60}], ids=["greedy", "drawn"])
def test_answers_are_those_of_our_own_engine(pair, options):
    own, remote, fake = pair
    questions = [[tiny.user("what now")]]
    if own.hears:
        questions.append(
            [tiny.user(tiny.clip(0.3, rate=24_000)), {"role": "assistant", "content": "so"}, tiny.user("why")]
        )
        questions.append([tiny.user(tiny.clip(0.4, seed=1, rate=16_000))])
    calls = [lambda a, q=q: a.stream(q, audio=a.speaks, **options) for q in questions if own.chats]
    if own.speaks:
        calls.append(lambda a: a.stream_say("one two", **options))
    assert calls
    for call in calls:
        wanted, found = (list(call(assistant)) for assistant in (own, remote))
        assert [d.text for d in found] == [d.text for d in wanted]
        assert found[-1].finish == wanted[-1].finish
        for one, other in zip(found, wanted, strict=True):
            assert (one.audio is None) == (other.audio is None)
            assert one.audio is None or np.array_equal(one.audio, other.audio)
    if own.speaks:
        assert any(d.audio is not None and len(d.audio) for d in found)
    assert all(body["ignore_eos"] and body["return_token_ids"] for body in fake.asked)


def test_log_probabilities_come_along(pair):
    own, remote, _ = pair
    if not own.chats:
        pytest.skip("reads aloud only")
    options = {**GREEDY, "logprobs": True, "top_logprobs": 3}
    wanted, found = ([p for d in a.stream("hello", **options) for p in d.logprobs] for a in (own, remote))
    assert [p.token_id for p in found] == [p.token_id for p in wanted] != []
    for one, other in zip(found, wanted, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
        assert [i for i, _ in one.top] == [i for i, _ in other.top]


def test_sessions_go_on(pair):
    own, remote, _ = pair
    if not own.chats:
        pytest.skip("reads aloud only")
    texts = []
    for session in (Session(own, **GREEDY), remote_session(remote)):
        said = []
        for turn in range(2):
            if own.hears and turn == 0:
                wave = tiny.clip(0.4, rate=24_000)["audio"]
                for start in range(0, len(wave), 3000):
                    session.feed_audio(wave[start : start + 3000], 24_000)
            else:
                session.feed_text("and then")
            said.append("".join(d.text for d in session.respond(audio=own.speaks)))
        session.feed_text("more")
        deltas = session.respond()
        next(deltas)
        session.interrupt()
        texts.append((said, len(session.messages)))
    assert texts[0] == texts[1]


def remote_session(remote):
    from vivavoce.serving.vllm.answers import RemoteSession

    return RemoteSession(remote, **GREEDY)


def test_the_whole_server_in_front(pair):
    own, remote, _ = pair
    from vivavoce.serving.vllm.answers import RemoteEngine

    with serving(RemoteEngine(remote, "tiny")) as live:
        client = live.client()
        if own.chats:
            answer = client.chat.completions.create(
                model="tiny", messages=[{"role": "user", "content": "hello"}], temperature=0, max_tokens=12
            )
            wanted = own.chat("hello", temperature=0.0, max_new_tokens=12)
            assert answer.choices[0].message.content == wanted.text
            assert answer.usage.completion_tokens == wanted.finish.text_tokens
        if own.hears:
            sound = io.BytesIO()
            wave = tiny.clip(0.5, rate=24_000)["audio"]
            soundfile.write(sound, wave, 24_000, format="WAV", subtype="FLOAT")
            part = {"data": base64.b64encode(sound.getvalue()).decode(), "format": "wav"}
            answer = client.chat.completions.create(
                model="tiny",
                messages=[{"role": "user", "content": [{"type": "input_audio", "input_audio": part}]}],
                temperature=0,
                max_tokens=12,
            )
            wanted = own.chat([tiny.user(tiny.clip(0.5, rate=24_000))], temperature=0.0, max_new_tokens=12)
            assert answer.choices[0].message.content == wanted.text
        if own.speaks:
            said = client.audio.speech.create(
                model="tiny", voice="default", input="one two", response_format="pcm"
            ).read()
            assert len(said) > 2048 * 2


def test_who_leaves_ends_the_work_there(pair):
    own, remote, fake = pair
    fake.per_event = 1
    deltas = (
        remote.stream_say("one two", temperature=0.0, max_new_tokens=2000)
        if own.speaks
        else remote.stream("x", temperature=0.0, max_new_tokens=2000)
    )
    next(deltas)
    deltas.close()
    until(lambda: bool(fake.ended))
    assert fake.ended[0] < 2000


def test_what_goes_wrong_there_is_told(pair, folder):
    own, remote, fake = pair

    def ask():
        return collect(remote.stream_say("one") if own.speaks else remote.stream("x"))

    fake.fault = "out of memory"
    with pytest.raises(Refusal, match="out of memory") as broken:
        ask()
    assert broken.value.status_code == 502
    fake.fault, fake.ids_given = "", False
    with pytest.raises(Refusal, match="older than"):
        ask()
    fake.ids_given, fake.key = True, "a secret"
    with pytest.raises(Refusal, match="401"):
        ask()
    remote.completions.url = "http://127.0.0.1:9"
    with pytest.raises(Refusal) as gone:
        ask()
    assert gone.value.status_code == 503
    with pytest.raises(ConfigError, match="no vLLM answers"):
        make_engine(str(folder), "tiny", "http://127.0.0.1:9")


def test_without_the_logits_processor_illegal_audio_is_told(folder):
    own = load(folder, device="cpu")
    if not own.speaks:
        pytest.skip("does not speak")
    with running(FakeVllm(folder).app) as address:
        engine = make_engine(str(folder), "tiny", f"http://{address}")
        with pytest.raises(Refusal, match="--logits-processors"):
            collect(engine.say("one two", None), 24_000)
        engine.stop()


def test_rows_of_a_batch_are_followed(folder, monkeypatch):
    own = load(folder, device="cpu")
    vocabulary = own.processor.vocabulary_out or own.processor.vocabulary_in
    slots = slots_class(monkeypatch)(config_of(folder), "cpu", False)
    rows = own.model.config.vocab_size
    inside = LegalTokens(rows, vocabulary, AudioLimits(), inside=True, length=9)
    text = LegalTokens(rows, vocabulary, AudioLimits(allow_start=False), length=9)
    import json
    import types

    def params(legal):
        return types.SimpleNamespace(extra_args=legal and {"vivavoce_audio": json.dumps(legal.to_dict())})

    def legal_rows():
        return torch.isfinite(slots.apply(torch.zeros(3, rows)))

    drawn = []
    slots.update_state(
        update(added=[(0, params(inside), [], drawn), (1, params(text), [], []), (2, params(None), [], [])])
    )
    found = legal_rows()
    assert (
        torch.equal(found[0], inside.allowed()) and torch.equal(found[1], text.allowed()) and found[2].all()
    )
    token = int(inside.allowed().nonzero()[0])
    drawn.append(token)
    inside.advance(token)
    assert torch.equal(legal_rows()[0], inside.allowed())
    slots.update_state(update(moved=[(0, 2, Direction.SWAP)]))
    found = legal_rows()
    assert found[0].all() and torch.equal(found[2], inside.allowed())
    slots.update_state(update(moved=[(1, 2, Direction.SWAP)]))
    found = legal_rows()
    assert torch.equal(found[2], text.allowed()) and torch.equal(found[1], inside.allowed())
    slots.update_state(update(moved=[(1, 2, Direction.SWAP)]))
    slots.update_state(update(removed=[1], moved=[(2, 1, Direction.UNIDIRECTIONAL)]))
    found = legal_rows()
    assert torch.equal(found[1], inside.allowed()) and found[2].all()
    slots.update_state(None)
    slots.update_state(update(removed=[1]))
    assert legal_rows().all()
    assert not slots.is_argmax_invariant()
    with pytest.raises(ValueError, match="legal tokens"):
        slots.validate_params(types.SimpleNamespace(extra_args={"vivavoce_audio": "{}"}))


def test_the_command_says_what_is_missing(tmp_path, folder, capsys, monkeypatch):
    assert main(["serve", str(folder), "--engine", "vllm", "--port", "0"]) == 2
    assert "pip install vllm" in capsys.readouterr().err
    assert main(["serve", "nano", "--engine", "vllm", "--port", "0"]) == 2
    assert "embeddings" in capsys.readouterr().err
    assert main(["serve", str(folder.parent / "ours"), "--engine", "vllm", "--port", "0"]) == 2
    assert "vivavoce export" in capsys.readouterr().err
    assert main(["serve", "nano", "--vllm-url", "http://x"]) == 2
    assert "--engine vllm" in capsys.readouterr().err
    assert main(["serve", "nano", "--engine", "vllm", "--replicas", "2"]) == 2
    assert "--vllm-arg" in capsys.readouterr().err
