"""`continue`: a batch answers as each row alone, answers are kept once and for all, failures never pass for answers."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from tests.data.build.stand_ins import ask, assert_pure, check_settings, facts, run, save_llama, server

from vivavoce.base.errors import ConfigError, ModelError
from vivavoce.data.build.contract import Context, Fault
from vivavoce.data.build.texts import local_models
from vivavoce.data.build.texts.answer_cache import AnswerCache
from vivavoce.data.build.texts.continuations import TEMPLATES, Continue, ContinueConfig
from vivavoce.data.build.texts.language_models import LocalModel, ModelSettings, Reply
from vivavoce.data.conversation import Audio, Conversation, Message, Text


def heard(number: int, words: str) -> Conversation:
    """A row with a recording."""
    return Conversation(
        f"row/{number}", [Message("user", [Audio(f"{number}.flac", transcript=words)])], task="asr"
    )


def words_of(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return ["x" + "".join(rng.choice("abcdef ghij") for _ in range(rng.randrange(60))) for _ in range(count)]


def answer_of(result: Any) -> str:
    assert not isinstance(result, Fault), result
    assert result[0].messages[-1].role == "assistant" and result[0].messages[-1].loss is None
    return result[0].messages[-1].text


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("models") / "tiny-llama", hidden_size=64, num_hidden_layers=3)


def test_a_local_model_is_pure(llama: Path) -> None:
    rows = [heard(i, words) for i, words in enumerate(words_of(16))]
    made = assert_pure("continue", {"model": f"transformers:{llama}", "max_new_tokens": 12}, Context(), rows)
    answers = [answer_of(r) for r in made]
    assert len(set(answers)) > 4 and len(set(map(len, answers))) > 3
    told = [r[0].meta["answer"] for r in made]
    assert {fact.pop("finished") for fact in told} == {True, False}
    assert told[0] == {"model": "transformers:tiny-llama", "template": "continue"}
    assert (made[0][0].id, made[0][0].task) == ("row/0", "continue")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_batch_answers_as_each_prompt_alone(
    llama: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In half precision a batch does move some choices; rows that were not sure are made again alone."""
    sizes: list[int] = []
    write = local_models._write

    def spy(model: Any, inputs: dict[str, Any], *rest: Any) -> Any:
        sizes.append(len(inputs["input_ids"]))
        return write(model, inputs, *rest)

    monkeypatch.setattr(local_models, "_write", spy)
    model = LocalModel(str(llama), ModelSettings(dtype=dtype), Context())
    prompts = [[{"role": "user", "content": words}] for words in words_of(64)]
    batch = model.answer(prompts, 40)
    alone_again = sum(size == 1 for size in sizes)
    assert alone_again == 0 if dtype == "float32" else 0 < alone_again < len(prompts)
    assert batch == [model.answer([prompt], 40)[0] for prompt in prompts]
    shuffled = random.Random(1).sample(range(64), 64)
    again = [model.answer([prompts[i] for i in shuffled[n : n + 7]], 40) for n in range(0, 64, 7)]
    assert [batch[i] for i in shuffled] == [reply for part in again for reply in part]


def test_a_model_runs_on_one_thread(llama: Path) -> None:
    """How many threads there are changes the order of sums, and so would the number of workers."""
    import torch

    model, seen = LocalModel(str(llama), ModelSettings(), Context()), set()
    model._model.register_forward_pre_hook(lambda *_: seen.add(torch.get_num_threads()))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        model.answer([[{"role": "user", "content": "abc"}]], 2)
        assert seen == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_choice_between_equals_is_made_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_llama(tmp_path / "twins", ties=True)
    calls: list[int] = []
    write = local_models._write

    def spy(model: Any, inputs: dict[str, Any], *rest: Any) -> Any:
        calls.append(len(inputs["input_ids"]))
        return write(model, inputs, *rest)

    monkeypatch.setattr(local_models, "_write", spy)
    model = LocalModel(str(folder), ModelSettings(), Context())
    prompts = [[{"role": "user", "content": words}] for words in words_of(8)]
    batch = model.answer(prompts, 12)
    assert calls[0] == 8 and calls.count(1) >= 4
    assert batch == [model.answer([prompt], 12)[0] for prompt in prompts]


def test_greedy_answers_are_those_of_generate_by_hand(llama: Path) -> None:
    """With the plain form, which takes the words as they are; cut answers are marked."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = (
        AutoTokenizer.from_pretrained(llama),
        AutoModelForCausalLM.from_pretrained(llama).eval(),
    )
    plain = LocalModel(str(llama), ModelSettings(plain=True), Context())
    for words in words_of(6, seed=3):
        ids = torch.tensor([tokenizer(words)["input_ids"]])
        found = []
        while len(found) < 5 and tokenizer.eos_token_id not in found:
            with torch.no_grad():
                found.append(int(model(input_ids=ids).logits[0, -1].argmax()))
            ids = torch.cat([ids, torch.tensor([found[-1:]])], dim=1)
        reply = plain.answer([[{"role": "user", "content": words}]], 5)[0]
        ended = tokenizer.eos_token_id in found
        assert reply == Reply(
            tokenizer.decode(found[: -1 if ended else None], skip_special_tokens=True), ended
        )


def test_the_row_says_what_the_model_was_asked(llama: Path) -> None:
    """The words of the made row, transcripts in the place of audio, are the prompt: what a teacher will read."""
    row = heard(0, "once upon a time")
    row.messages.insert(0, Message("system", [Text("Be brief.")]))
    for template in ("continue", "chat", "Answer in {max_words} words: {transcript} Thanks."):
        builder = Continue(ContinueConfig(f"transformers:{llama}", template=template, max_words=7), Context())
        prompt = builder.prompt(row)
        made = builder([row])[0]
        assert not isinstance(made, Fault) and not isinstance(prompt, Fault)
        assert [{"role": m.role, "content": m.words} for m in made[0].messages[:-1]] == list(prompt)
        assert sum(isinstance(p, Audio) for p in made[0].messages[1].parts) == 1
    assert prompt[-1]["content"] == "Answer in 7 words: once upon a time Thanks."
    hidden = {"model": f"transformers:{llama}", "show_instruction": False}
    assert run("continue", hidden, Context(), [row])[0][0].messages[1] == row.messages[1]
    system = Continue(ContinueConfig(f"transformers:{llama}", system="You are kind."), Context()).prompt(row)
    assert [m["content"] for m in system if m["role"] == "system"] == ["You are kind."]  # type: ignore[union-attr]


def test_rows_that_cannot_be_answered_are_put_aside(llama: Path) -> None:
    rows = {
        "no_question": Conversation("a", [Message("system", [Text("hello")])]),
        "answered": ask(1, "hello", "hi"),
        "no_transcript": Conversation("b", [Message("user", [Audio("a.wav")])]),
        "empty": ask(2, " ?"),
        "too_long": ask(3, "x" * 600),
        "unfinished": ask(5, words_of(16)[9]),
    }
    settings = {
        "model": f"transformers:{llama}",
        "template": "chat",
        "max_new_tokens": 1,
        "keep_unfinished": False,
    }
    made = assert_pure("continue", settings, Context(), list(rows.values()), elsewhere=False)
    assert [r.kind for r in made] == list(rows)
    again = {"model": f"transformers:{llama}", "template": "chat", "replace": True}
    row = run("continue", again, Context(), [rows["answered"]])[0][0]
    assert [m.role for m in row.messages] == ["user", "assistant"] and row.messages[1].text != "hi"


def test_a_model_without_template_or_files_is_refused(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded"):
        run("continue", {"model": f"transformers:{tmp_path}"}, Context(), [])
    bare = save_llama(tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="plain: true"):
        run("continue", {"model": f"transformers:{bare}"}, Context(), [])


def chat(path: str, body: Any) -> tuple[Any, ...]:
    """A server that answers with the words backwards, and misbehaves on demand."""
    assert path == "/v1/chat/completions" and body["temperature"] == 0 and body["max_tokens"] == 96
    words = body["messages"][-1]["content"].rpartition("\n")[2]
    if "refused" in words:
        return 422, b"too rude"
    if "odd" in words:
        return 200, b'{"choices": []}'
    text = "" if "nothing" in words else f"{body['model']} {words[::-1]}"
    reason = "length" if "long" in words else "stop"
    time.sleep(0.01 * (len(words) % 3))
    return 200, json.dumps({"choices": [{"message": {"content": text}, "finish_reason": reason}]}).encode()


def test_a_server_is_pure_and_its_failures_are_faults(tmp_path: Path) -> None:
    words = ["abc", "refused", "def", "odd", "nothing", "long", "ghi", "abc"]
    rows = [heard(i, w) for i, w in enumerate(words)]
    with server(chat) as (url, answers):
        settings = {"model": "endpoint:m", "endpoint": {"url": url, "wait_s": 0.01, "extra": {"seed": 1}}}
        made = assert_pure("continue", settings, Context(cache=tmp_path), rows, elsewhere=False)
        asked = [body["messages"][-1]["content"].rpartition("\n")[2] for _, body, _ in answers.asked]
        assert asked.count("abc") == 1 and {body["seed"] for _, body, _ in answers.asked} == {1}
    assert [r.kind if isinstance(r, Fault) else answer_of(r) for r in made] == [
        "m cba", "unanswered", "m fed", "unanswered", "empty", "m gnol", "m ihg", "m cba",
    ]  # fmt: skip
    assert "422" in made[1].reason and "too rude" in made[1].reason
    assert [r[0].meta["answer"]["finished"] for r in (made[0], made[5])] == [True, False]
    later = run(
        "continue", settings, Context(cache=tmp_path), [rows[0], rows[2], rows[4]]
    )  # the server is gone
    assert facts(later[:2]) == facts([made[0], made[2]]) and later[2].kind == "unanswered"


def test_a_server_is_tried_again_when_that_may_help() -> None:
    tries: dict[str, int] = {}
    reply = json.dumps({"choices": [{"message": {"content": "fine"}, "finish_reason": None}]}).encode()

    def flaky(path: str, body: Any) -> tuple[Any, ...]:
        words = body["messages"][-1]["content"]
        tries[words] = tries.get(words, 0) + 1
        if tries[words] < 3:
            return {
                "busy": (503, b"later"), "asked": (429, b"slow", {"Retry-After": "0"}), "hung": (None, b""),
                "cut": (200, b'{"cho', {"Content-Length": "5000"}), "never": (500, b"no"), "wrong": (401, b"no key"),
            }[words]  # fmt: skip
        return (500, b"no") if words == "never" else (200, reply)

    names = ["busy", "asked", "hung", "cut", "never", "wrong"]
    with server(flaky) as (url, _):
        settings = {
            "model": "endpoint:m",
            "template": "chat",
            "endpoint": {"url": url, "wait_s": 0.01, "retries": 3},
        }
        made = run("continue", settings, Context(), [ask(i, n) for i, n in enumerate(names)])
    assert [r.kind if isinstance(r, Fault) else answer_of(r) for r in made] == ["fine"] * 4 + [
        "unanswered"
    ] * 2
    assert tries == {"busy": 3, "asked": 3, "hung": 3, "cut": 3, "never": 4, "wrong": 1}
    assert (
        "finished" not in made[0][0].meta["answer"]
        and "4 tries" in made[4].reason
        and "401" in made[5].reason
    )


def test_a_slow_server_is_not_waited_for() -> None:
    def slow(path: str, body: Any) -> tuple[Any, ...]:
        time.sleep(2.0)
        return 200, b"{}"

    with server(slow) as (url, _):
        endpoint = {"url": url, "wait_s": 0.01, "retries": 0, "timeout_s": 0.15}
        start = time.monotonic()
        made = run("continue", {"model": "endpoint:m", "endpoint": endpoint}, Context(), [heard(0, "abc")])[0]
        assert isinstance(made, Fault) and "imed out" in made.reason and time.monotonic() - start < 1.5


class Echo:
    """A service "llm"."""

    def __init__(self, name: str) -> None:
        self.fingerprint = name

    def answer(self, prompts: Any, max_new_tokens: int) -> list[str]:
        return [f"{self.fingerprint} {len(p[-1]['content'])} {max_new_tokens}" for p in prompts]


def test_a_service_is_pure(tmp_path: Path) -> None:
    rows = [heard(i, words) for i, words in enumerate(words_of(5))]
    context = Context(services={"llm": Echo}, cache=tmp_path)
    made = assert_pure("continue", {"model": "service:echo", "template": "chat"}, context, rows)
    assert answer_of(made[0]) == f"echo {len(rows[0].messages[0].words)} 96"


def _put_many(folder: Path, name: str) -> list[bytes]:
    cache = AnswerCache(folder, "answers")
    return [cache.put(cache.key(i), f"{name} {i}".encode() * 50) for i in range(300)]


def _put_forever(folder: Path) -> None:
    cache, number = AnswerCache(folder, "answers"), 0
    while True:
        cache.put(cache.key(number % 40), b"x" * 200_000)
        cache._path(cache.key((number + 20) % 40)).unlink(missing_ok=True)
        number += 1


def test_the_cache_gives_all_processes_one_answer_and_survives_a_kill(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("fork")
    with spawn.Pool(3) as pool:
        found = pool.starmap(_put_many, [(tmp_path, "a"), (tmp_path, "b"), (tmp_path, "c")])
    cache = AnswerCache(tmp_path, "answers")
    kept = [cache.get(cache.key(i)) for i in range(300)]
    assert found[0] == found[1] == found[2] == kept
    for attempt in range(5):
        writer = spawn.Process(target=_put_forever, args=(tmp_path / "killed",))
        writer.start()
        end = time.monotonic() + 60
        while not any(path.is_file() for path in (tmp_path / "killed").rglob("[0-9a-f]*")):
            assert time.monotonic() < end, "nothing is kept"
        time.sleep(0.05 + 0.013 * attempt)
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        killed = AnswerCache(tmp_path / "killed", "answers")
        answers = [killed.get(killed.key(i)) for i in range(40)]
        assert any(answers) and set(answers) <= {None, b"x" * 200_000}


def test_a_damaged_answer_is_asked_for_again(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path, "answers")
    key = cache.key("what", {"b": 1, "a": [2]})
    assert key == cache.key("what", {"a": [2], "b": 1}) and cache.get(key) is None
    assert cache.put(key, b"first") == b"first" == cache.put(key, b"second")
    cache._path(key).write_bytes(cache._path(key).read_bytes()[:-1])
    assert cache.get(key) is None and cache.put(key, b"third") == b"third" == cache.get(key)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [key]
    assert (
        AnswerCache(None, "answers").put(key, b"x") == b"x" and AnswerCache(None, "answers").get(key) is None
    )


def test_another_model_or_setting_is_another_answer(llama: Path, tmp_path: Path) -> None:
    rows, cache = [heard(0, "abc")], Context(cache=tmp_path)
    files = lambda: len(list(tmp_path.rglob("answers/*/*")))  # noqa: E731
    for number, settings in enumerate(
        ({}, {"max_new_tokens": 5}, {"template": "chat"}, {"dtype": "bfloat16"}), 1
    ):
        run("continue", {"model": f"transformers:{llama}", **settings}, cache, rows)
        assert files() == number
    os.utime(llama / "model.safetensors")
    run("continue", {"model": f"transformers:{llama}"}, cache, rows)
    assert files() == 5


def test_settings_are_checked_before_work() -> None:
    assert all(text.count("{transcript}") == 1 for text in TEMPLATES.values())
    for settings, message in (
        ({"model": "llama"}, "transformers:NAME"),
        ({"model": "service:a", "template": "go on"}, "'continue', 'chat'"),
        ({"model": "service:a", "max_words": 0}, "1 or more"),
        ({"model": "service:a", "max_token": 3}, "did you mean"),
        ({}, "model is missing"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_settings("continue", settings)
    for settings, message in (
        ({"model": "endpoint:a"}, "needs the setting endpoint"),
        ({"model": "endpoint:a", "endpoint": {"url": "localhost"}}, "http://"),
        ({"model": "endpoint:a", "endpoint": {"adress": "x"}}, "endpoint.url is missing"),
        ({"model": "service:a", "dtype": "int8"}, "float32"),
        ({"model": "service:a"}, "needs the service 'llm'"),
    ):
        with pytest.raises(ConfigError, match=message):
            run("continue", settings, Context(), [])
