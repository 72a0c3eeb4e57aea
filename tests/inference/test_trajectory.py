"""Asking about a trajectory: the messages a model gets, in every form, and what is read from its answer."""

# ruff: noqa: RUF001  (Chinese punctuation is meant)

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from tests.data.dialogue_cases import EN, as_turns, record, some, write_lines
from tests.inference import tiny

from vivavoce.audio.files import write_audio
from vivavoce.base.errors import AudioError, ConfigError, ModelError
from vivavoce.data.trajectories import read_trajectories
from vivavoce.inference.reply import Reply
from vivavoce.inference.trajectory import ask_trajectory, trajectory_request
from vivavoce.models.audio_parts import is_audio, read_part
from vivavoce.tokens.trajectory import QUESTIONS

ALTERNATING = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>' + m['content'] + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>' }}{% endif %}"
)
SALMONN = (
    "{{ bos_token }}{% for m in messages %}{{ 'USER: ' + m['content'] + '\nASSISTANT:' if m['role'] == 'user' "
    "else m['content'] + eos_token }}{% endfor %}"
)


@pytest.fixture(scope="module")
def assistant():
    """Hears by embeddings; its template places audio itself and takes any order of roles."""
    return tiny.embeddings_to_text()


@pytest.fixture(scope="module")
def token_assistant():
    """Hears by codec tokens, with an ordinary template."""
    return tiny.tokens_to_text()


def clips(count: int = 3, seconds: float = 0.3) -> list[dict]:
    return [tiny.clip(seconds, seed=i) for i in range(count)]


def with_prompts(assistant, **prompts):
    """The same model, with prompts it was trained on."""
    copy = tiny.embeddings_to_text()
    copy.model.config.audio_in = dataclasses.replace(copy.model.config.audio_in, prompts=prompts)
    return copy


def texts(message) -> str:
    """The typed text of a message."""
    return "".join(p["text"] for p in message["content"] if p["type"] == "text")


def answering(assistant, text, monkeypatch, **more):
    """Let the model answer so; returns what it was asked."""
    asked: list = []

    def chat(messages, **options):
        asked.append((messages, options))
        return Reply(text=text, timings={"total_s": 1.5}, **more)

    monkeypatch.setattr(assistant, "chat", chat)
    return asked


def test_a_clip_per_turn_with_replies_between(assistant) -> None:
    messages, cut_s = trajectory_request(assistant, clips(), ["Oh!", "I see."])
    assert cut_s == 0.0
    assert [m["role"] for m in messages] == ["user", "assistant", "user", "assistant", "user"]
    assert [sum(is_audio(p) for p in m["content"]) for m in messages[::2]] == [1, 1, 1]
    assert [m["content"] for m in messages[1::2]] == ["Oh!", "I see."]
    assert messages[-1]["content"][1]["text"] == QUESTIONS["en"]
    for message, clip in zip(messages[::2], clips(), strict=True):
        np.testing.assert_array_equal(message["content"][0]["audio"], clip["audio"])


def test_every_model_reads_the_turns_it_is_given(assistant, token_assistant) -> None:
    for model in (assistant, token_assistant):
        rendered = [
            model.processor.prepare(trajectory_request(model, clips(n), question="How?")[0])["input_ids"]
            for n in (1, 2, 3)
        ]
        assert len(rendered[0]) < len(rendered[1]) < len(rendered[2])
        reply = ask_trajectory(model, clips(2), ["Oh!"], temperature=1.0, seed=3, max_new_tokens=12)
        again = ask_trajectory(model, clips(2), ["Oh!"], temperature=1.0, seed=3, max_new_tokens=12)
        assert reply.text == again.text and reply.num_turns == 2 and reply.timings["total_s"] > 0
        messages, _ = trajectory_request(model, clips(2), ["Oh!"])
        assert model.chat(messages, temperature=1.0, seed=3, max_new_tokens=12).text == reply.text


def test_where_roles_must_alternate_clips_are_numbered_in_one_message(token_assistant, monkeypatch) -> None:
    free, _ = trajectory_request(token_assistant, clips())
    assert [m["role"] for m in free] == ["user"] * 3
    monkeypatch.setattr(token_assistant.processor.tokenizer, "chat_template", ALTERNATING)
    (one,), _ = trajectory_request(token_assistant, clips())
    assert texts(one) == f"Turn 1: \nTurn 2: \nTurn 3: {QUESTIONS['en']}"
    assert [p["type"] for p in one["content"]] == ["text", "audio"] * 3 + ["text"]
    assert len(token_assistant.processor.prepare([one])["input_ids"]) > 100
    with_replies, _ = trajectory_request(token_assistant, clips(), ["Oh!", "I see."])
    assert [m["role"] for m in with_replies] == ["user", "assistant", "user", "assistant", "user"]
    half, _ = trajectory_request(token_assistant, clips(), ["", "嗯。"])
    assert [m["role"] for m in half] == ["user", "assistant", "user"]
    assert texts(half[0]) == "第1轮：\n第2轮：" and texts(half[2]) == QUESTIONS["zh"]
    assert token_assistant.processor.prepare(half)["input_ids"]


def test_the_template_of_salmonn_takes_turns_as_they_are(token_assistant, monkeypatch) -> None:
    monkeypatch.setattr(token_assistant.processor.tokenizer, "chat_template", SALMONN)
    messages, _ = trajectory_request(token_assistant, clips(2), question="How?")
    assert [m["role"] for m in messages] == ["user", "user"]
    ids = token_assistant.processor.prepare(messages)["input_ids"]
    text = token_assistant.processor.tokenizer.decode(ids)
    assert text.count("USER: ") == 2 and text.endswith("How?\nASSISTANT:")


def test_transcripts_are_typed_beside_their_clips(assistant) -> None:
    messages, _ = trajectory_request(assistant, clips(2), transcripts=["我很高兴。", None], question="如何？")
    assert [texts(m) for m in messages] == ["我很高兴。", "如何？"]
    assert messages[0]["content"][0]["transcript"] == "我很高兴。"
    assert "transcript" not in messages[1]["content"][0]


def test_a_model_that_transcribes_first_gets_the_question_apart() -> None:
    model = tiny.transcript_first()
    messages, _ = trajectory_request(model, clips(2), ["yes"], ["one", "two"], question="what is one")
    assert [texts(m) if isinstance(m["content"], list) else m["content"] for m in messages] == [
        "",
        "yes",
        "",
        "what is one",
    ]
    assert messages[2]["content"][0]["transcript"] == "two"
    assert ask_trajectory(model, clips(2), ["yes"], ["one", "two"], question="what is one").text


@pytest.mark.parametrize(
    ("arguments", "prompts", "wanted"),
    [
        ({}, {}, QUESTIONS["en"]),
        ({"language": "zh"}, {}, QUESTIONS["zh"]),
        ({"question": "And?"}, {}, "And?"),
        ({"question": ""}, {}, ""),
        ({}, {"trajectory": "Trained."}, "Trained."),
        ({}, {"task1_emotional_trajectory": "Trained."}, "Trained."),
        ({"question": "And?"}, {"trajectory": "Trained."}, "And?"),
        ({"question": ""}, {"trajectory": "Trained."}, ""),
        ({"question": "And?"}, {"trajectory": "Ask: {} Go."}, "Ask: And? Go."),
        ({}, {"trajectory": "Ask: {} Go."}, f"Ask: {QUESTIONS['en']} Go."),
        ({"prompt": "Mine."}, {"trajectory": "Trained."}, "Mine."),
        ({"prompt": "Mine: {}", "question": "And?"}, {"trajectory": "Trained."}, "Mine: And?"),
        ({"prompt": "Mine.", "question": ""}, {}, "Mine."),
    ],
)
def test_whose_question_is_asked(assistant, arguments, prompts, wanted) -> None:
    model = with_prompts(assistant, **prompts) if prompts else assistant
    for joined in (False, True):
        messages, _ = trajectory_request(model, clips(2), joined=joined, **arguments)
        assert texts(messages[-1]) == wanted


def test_joined_is_one_clip_with_silences_and_lines_of_text(assistant, tmp_path) -> None:
    waves = [np.full(n, 0.25, np.float32) for n in (8000, 4000)]
    files = [write_audio(tmp_path / f"{i}.wav", wave, 16_000) for i, wave in enumerate(waves)]
    (message,), cut_s = trajectory_request(
        assistant, files, ["Oh!"], ["I won.", "So?"], question="How?", joined=True
    )
    gap = np.zeros(1600, np.float32)
    np.testing.assert_array_equal(
        message["content"][0]["audio"], np.concatenate([waves[0], gap, waves[1], gap])
    )
    assert texts(message) == "I won.\nOh!\nSo?\nHow?" and cut_s == 0.0
    (single,), _ = trajectory_request(assistant, files[:1], joined=True)
    np.testing.assert_array_equal(single["content"][0]["audio"], waves[0])
    model = with_prompts(assistant, trajectory="Say: {} Now.")
    (filled,), _ = trajectory_request(model, files, transcripts=["a", "b"], joined=True)
    assert texts(filled) == "Say: a\nb Now."


def test_joined_says_how_much_was_never_heard(assistant, monkeypatch) -> None:
    answering(assistant, "x", monkeypatch)
    long = [{"type": "audio", "audio": np.zeros(320_000, np.float32), "sampling_rate": 16_000}] * 2
    assert ask_trajectory(assistant, long, joined=True).cut_s == pytest.approx(10.2)
    (message,), _ = trajectory_request(assistant, long, joined=True)
    assert len(read_part(message["content"][0], 16_000)) == 480_000


def test_answers_are_read_and_become_json(assistant, monkeypatch) -> None:
    asked = answering(assistant, "You cheered up. \n情绪序列: 难过 → happy", monkeypatch)
    reply = ask_trajectory(assistant, clips(2), ["Oh!"], temperature=0.5, seed=7)
    assert (reply.description, reply.emotions) == ("You cheered up.", ("sad", "happy"))
    assert asked[0][1] == {"temperature": 0.5, "seed": 7}
    assert json.loads(json.dumps(reply.as_dict(), ensure_ascii=False)) == {
        "description": "You cheered up.",
        "emotions": ["sad", "happy"],
        "text": "You cheered up. \n情绪序列: 难过 → happy",
        "num_turns": 2,
        "understood": True,
        "cut_s": 0.0,
        "timings": {"total_s": 1.5},
    }
    answering(assistant, "First angry, then calm.", monkeypatch)
    assert ask_trajectory(assistant, clips(2)).emotions == ()
    assert ask_trajectory(assistant, clips(2), guess=True).emotions == ("anger", "neutral")
    answering(assistant, "Sorry, sad.", monkeypatch, understood=False)
    refused = ask_trajectory(assistant, clips(2), guess=True)
    assert refused.emotions == () and not refused.understood


def test_one_path_is_one_turn(assistant, tmp_path) -> None:
    path = write_audio(tmp_path / "a.wav", np.full(4000, 0.1, np.float32), 16_000)
    for given in (path, str(path), [path], path.read_bytes()):
        (message,), _ = trajectory_request(assistant, given)
        assert len(read_part(message["content"][0], 16_000)) == 4000


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"clips": []}, ConfigError, "one recording per turn"),
        ({"history": ["a"]}, ConfigError, "history has 1 entries for 2 places"),
        ({"history": "ab"}, ConfigError, "history has a single text"),
        ({"transcripts": ["a", "b"]}, ConfigError, "transcripts has 2 entries for 3 places"),
        ({"language": "fr"}, ConfigError, "'fr'; wanted one of zh, en"),
        ({"prompt": "Mine.", "question": "And?"}, ConfigError, "has no {} for the question"),
        ({"clips": ["no.wav"]}, AudioError, "no.wav does not exist"),
        ({"clips": ["no.wav"], "joined": True}, AudioError, "no.wav does not exist"),
        ({"tempo": 3}, ConfigError, "tempo"),
    ],
)
def test_refusals_say_what_is_wrong(assistant, arguments, error, words) -> None:
    with pytest.raises(error, match=words):
        ask_trajectory(assistant, **({"clips": clips()} | arguments))


def test_a_model_without_ears_is_told_so() -> None:
    with pytest.raises(ModelError, match="does not hear"):
        ask_trajectory(tiny.text_to_tokens(), clips())


def test_a_model_is_asked_the_way_it_was_taught(assistant, tmp_path) -> None:
    row = as_turns("a", some(EN, 4))
    record(tmp_path, row)
    found = read_trajectories(write_lines(tmp_path / "task1_4.jsonl", [row]))
    (taught,) = found.rows(typed_question=True)
    asked, _ = trajectory_request(assistant, [t.path for t in found[0].turns], found[0].replies)
    assert (
        assistant.processor.prepare(taught["messages"][:-1])["input_ids"]
        == (assistant.processor.prepare(asked)["input_ids"])
    )
