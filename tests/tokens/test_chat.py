"""Conversations: the tokenizer's own template, audio in its place, and masks that cover what is learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tokens.conftest import llama_tokenizer, metaspace_tokenizer, spec
from transformers import PreTrainedTokenizerFast

from vivavoce.base.errors import ConfigError, LayoutError, ModelError, VocabularyError
from vivavoce.codecs.contract import Codes
from vivavoce.tokens.chat import Rendered, orpheus_prompt, render_chat
from vivavoce.tokens.vocabulary import extend_vocabulary

TOKENIZER = llama_tokenizer()
VOCABULARY = extend_vocabulary(TOKENIZER, codec_spec=spec((4, 2, 1), 8), style="sound", layout="interleaved")
CODES = Codes([torch.tensor([[0, 7]]), torch.tensor([[1, 0, 2, 7]]), torch.arange(8)[None]], [800])
IDS = VOCABULARY.to_ids(CODES)
SOUND = VOCABULARY.to_text(CODES)
AUDIO = {"type": "audio", "audio": "a.wav"}

# templates of other families, in their own words
CHATML = (
    "{% for m in messages %}<|start_header_id|>{{ m.role }}\n{{ m.content }}<|eot_id|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant\n{% endif %}"
)
SYSTEM_IN_USER = (
    "{% set ns = namespace(s='') %}{% for m in messages %}"
    "{% if m.role == 'system' %}{% set ns.s = m.content + '\n\n' %}"
    "{% elif m.role == 'user' %}[INST] {{ ns.s }}{{ m.content }} [/INST]{% set ns.s = '' %}"
    "{% else %} {{ m.content }}<|eot_id|>{% endif %}{% endfor %}"
)


def text(content: str) -> dict[str, str]:
    return {"type": "text", "text": content}


def turn(role: str, *parts: Mapping[str, Any] | str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": [text(p) if isinstance(p, str) else dict(p) for p in parts], **more}


def learned(rendered: Rendered, tokenizer: PreTrainedTokenizerFast = TOKENIZER) -> str:
    pairs = zip(rendered.input_ids, rendered.loss_weights, strict=True)
    return str(tokenizer.decode([token for token, weight in pairs if weight > 0]))


words = st.text(st.sampled_from("ab \n.,é東"), max_size=8)
parts = st.lists(st.one_of(words, st.just(AUDIO)), max_size=4)
turns = st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), parts), min_size=1, max_size=4)


@given(conversation=turns, prompt=st.booleans())
@settings(max_examples=60)
def test_audio_as_tokens_equals_its_text_in_the_template(conversation: list[Any], prompt: bool) -> None:
    """Whatever is said, the ids are those of the whole text with the audio spelled out."""
    messages = [turn(role, *content) for role, content in conversation]
    spelled = [
        {"role": role, "content": "".join(p if isinstance(p, str) else SOUND for p in content)}
        for role, content in conversation
    ]
    count = sum(not isinstance(p, str) for _, content in conversation for p in content)
    rendered = render_chat(
        TOKENIZER, messages, [IDS] * count, vocabulary=VOCABULARY, add_generation_prompt=prompt
    )
    whole = TOKENIZER.apply_chat_template(spelled, tokenize=False, add_generation_prompt=prompt)
    assert rendered.input_ids == TOKENIZER(whole, add_special_tokens=False)["input_ids"]
    assert [span.index for span in rendered.spans] == list(range(count))
    for span in rendered.spans:
        assert rendered.input_ids[span.start : span.start + span.length] == IDS and not span.embedded
    said = [s["content"].strip() + "<|eot_id|>" for s in spelled if s["role"] == "assistant"]
    assert learned(rendered) == "".join(said)


@given(conversation=turns, data=st.data())
def test_placeholders_change_nothing_around_them(conversation: list[Any], data: st.DataObject) -> None:
    messages = [turn(role, *content) for role, content in conversation]
    count = sum(not isinstance(p, str) for _, content in conversation for p in content)
    sizes = [data.draw(st.integers(1, 5)) for _ in range(count)]
    embedded = render_chat(TOKENIZER, messages, sizes, placeholder_id=3)
    tokens = render_chat(TOKENIZER, messages, [IDS] * count, vocabulary=VOCABULARY)

    def outside(rendered: Rendered) -> list[tuple[int, float]]:
        inside = {i for s in rendered.spans for i in range(s.start, s.start + s.length)}
        pairs = zip(rendered.input_ids, rendered.loss_weights, strict=True)
        return [pair for i, pair in enumerate(pairs) if i not in inside]

    assert outside(embedded) == outside(tokens)
    assert [(s.length, s.message) for s in embedded.spans] == list(
        zip(sizes, [s.message for s in tokens.spans], strict=True)
    )
    for span in embedded.spans:
        assert embedded.input_ids[span.start : span.start + span.length] == [3] * span.length
        assert not any(embedded.loss_weights[span.start : span.start + span.length])


CHAT = [
    turn("system", "be kind"),
    turn("user", "hello ", AUDIO),
    turn("assistant", "the sound", AUDIO),
    turn("user", AUDIO),
    turn("assistant", "of music"),
]


@pytest.mark.parametrize(
    ("loss_on", "expected"),
    [
        ("assistant", f"the sound{SOUND}<|eot_id|>of music<|eot_id|>"),
        ("last_assistant", "of music<|eot_id|>"),
        ("nothing", ""),
    ],
)
def test_what_is_learned(loss_on: str, expected: str) -> None:
    rendered = render_chat(TOKENIZER, CHAT, [IDS] * 3, vocabulary=VOCABULARY, loss_on=loss_on)
    assert learned(rendered) == expected
    labels = rendered.labels()
    assert [t for t in labels if t != -100] == TOKENIZER(expected, add_special_tokens=False)["input_ids"]
    assert len(labels) == len(rendered.input_ids)


def test_everything_is_learned_but_placeholders() -> None:
    rendered = render_chat(TOKENIZER, CHAT, [IDS, 4, IDS], placeholder_id=3, loss_on="everything")
    [embedded] = [s for s in rendered.spans if s.embedded]
    unlearned = [i for i, weight in enumerate(rendered.loss_weights) if weight == 0]
    assert unlearned == list(range(embedded.start, embedded.start + 4))


def test_weights_of_a_message() -> None:
    chat = [
        turn("user", "hello", AUDIO, loss={"audio": 0.25}),
        turn("assistant", "the sound", AUDIO, loss={"text": 0.5, "audio": 2}),
        turn("user", "hello"),
        turn("assistant", "of music", loss=0),
    ]
    rendered = render_chat(TOKENIZER, chat, [IDS] * 2, vocabulary=VOCABULARY)
    by_weight = {
        weight: TOKENIZER.decode(
            [t for t, w in zip(rendered.input_ids, rendered.loss_weights, strict=True) if w == weight]
        )
        for weight in (0.25, 0.5, 2.0)
    }
    # the end of a turn is learned at the larger weight of its message
    assert by_weight == {0.25: f"{SOUND}<|eot_id|>", 0.5: "the sound", 2.0: f"{SOUND}<|eot_id|>"}
    assert "of music" not in learned(rendered)
    for wrong in (-1, "much", {"speech": 1}, float("nan")):
        with pytest.raises(ConfigError, match="loss of message 0"):
            render_chat(TOKENIZER, [turn("user", "hello", loss=wrong)])


@pytest.mark.parametrize("template", [CHATML, SYSTEM_IN_USER])
def test_other_templates(template: str) -> None:
    rendered = render_chat(TOKENIZER, CHAT, [IDS] * 3, vocabulary=VOCABULARY, template=template)
    assert learned(rendered).replace(" ", "") == f"thesound{SOUND}<|eot_id|>ofmusic<|eot_id|>".replace(
        " ", ""
    )
    plain = [
        {"role": m["role"], "content": "".join(p.get("text", SOUND) for p in m["content"])} for m in CHAT
    ]
    whole = TOKENIZER.apply_chat_template(plain, chat_template=template, tokenize=False)
    assert rendered.input_ids == TOKENIZER(whole, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(
    ("template", "match"),
    [
        ("{% for m in messages[1:] %}{{ m.content }}<|eot_id|>{% endfor %}", "message 0 0 times"),
        ("{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}", "message 0 2 times"),
        ("{% for m in messages | reverse %}{{ m.content }}{% endfor %}", "moves message 1"),
        ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "message 0 0 times"),
        ("{% for m in messages %}{{ m.content | replace('o', '0') }}{% endfor %}", "message 1 differently"),
        (
            "{% for m in messages %}{% if 'be' in m.content %}!{% endif %}{{ m.content }}{% endfor %}",
            "message 0",
        ),
        ("{{ raise_exception('only users here') }}", "only users here"),
        ("{% for m in messages %}{{ m.content }}\n{% endfor %}", "no special token that ends the turn"),
    ],
)
def test_templates_that_cannot_be_used_are_refused(template: str, match: str) -> None:
    with pytest.raises(ModelError, match=match):
        render_chat(TOKENIZER, CHAT, [IDS] * 3, template=template)


def test_an_end_of_turn_that_is_no_special_token() -> None:
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n##\n{% endfor %}"
    rendered = render_chat(TOKENIZER, CHAT, [IDS] * 3, template=template, end_of_turn="##")
    assert learned(rendered) == f" the sound{SOUND}\n## of music\n##"
    render_chat(TOKENIZER, CHAT, [IDS] * 3, template=template, loss_on="nothing")


def test_a_begun_answer_is_continued() -> None:
    rendered = render_chat(TOKENIZER, CHAT, [IDS] * 3, continue_last=True)
    assert str(TOKENIZER.decode(rendered.input_ids)).endswith("<|end_header_id|>\n\nof music")
    with pytest.raises(ConfigError, match="exclude each other"):
        render_chat(TOKENIZER, CHAT, [IDS] * 3, continue_last=True, add_generation_prompt=True)


@pytest.mark.parametrize("opening", ["assistant:", "assistant: "])
def test_a_space_that_the_generation_prompt_lacks_is_learned(opening: str) -> None:
    """Where it is a token of its own, a model that never learned it could not begin its answer."""
    template = (
        "{% for m in messages %}{{ m.role + ': ' + m.content }}<|eot_id|>{% endfor %}"
        f"{{% if add_generation_prompt %}}{{{{ {opening!r} }}}}{{% endif %}}"
    )
    chat = [turn("user", "hello"), turn("assistant", "東")]
    rendered = render_chat(TOKENIZER, chat, template=template)
    asked = render_chat(TOKENIZER, chat[:1], template=template, add_generation_prompt=True)
    answer = str(TOKENIZER.decode(rendered.input_ids[len(asked.input_ids) :]))
    assert answer == ("東" if opening.endswith(" ") else " 東") + "<|eot_id|>"
    assert learned(rendered) == answer


def test_tokenizers_without_a_template() -> None:
    tokenizer = metaspace_tokenizer()
    chat = [turn("user", "hello ", AUDIO, "the weather"), turn("assistant", "Rain is likely.")]
    with pytest.raises(ModelError, match="template='plain'"):
        render_chat(tokenizer, chat, [4], placeholder_id=0)
    with pytest.raises(ConfigError, match="unknown chat template 'chatty'"):
        render_chat(tokenizer, chat, [4], placeholder_id=0, template="chatty")
    vocabulary = extend_vocabulary(tokenizer, codec_spec=spec((1, 1), 4), layout="interleaved")
    sound = [vocabulary.start_id, vocabulary.first_code_id, vocabulary.first_code_id + 3, vocabulary.end_id]
    rendered = render_chat(tokenizer, chat, [sound], template="plain", vocabulary=vocabulary)
    spelled = "<|sound_start|><|sound_0|><|sound_3|><|sound_end|>"
    whole = f"<s>User: hello {spelled}the weather</s>\nAssistant: Rain is likely.</s>\n"
    # the space mark of a first word is not repeated after audio
    assert rendered.input_ids == tokenizer(whole, add_special_tokens=False)["input_ids"]
    assert learned(rendered, tokenizer).endswith("likely.</s>")
    asked = render_chat(
        tokenizer, chat[:1], [sound], template="plain", vocabulary=vocabulary, add_generation_prompt=True
    )
    # what is asked for at inference is how the learned answer begins
    assert rendered.input_ids[: len(asked.input_ids)] == asked.input_ids


@pytest.mark.parametrize(
    ("messages", "match"),
    [
        ([], "no messages"),
        (["hello"], "wanted {'role'"),
        ([{"role": "user"}], "wanted {'role'"),
        ([{"role": "user", "content": 7}], "list of parts"),
        ([turn("user", {"type": "image", "image": "a.png"})], "wanted a part of type"),
        ([{"role": "user", "content": ["hello"]}], "wanted a part of type"),
        ([turn("user", {"type": "text", "audio": "a.wav"})], "has no text"),
        ([turn("user", {"type": "audio", "text": "hello"})], "has no audio"),
        ([turn("user", {"type": "audio", "audio": None})], "has no audio"),
    ],
)
def test_malformed_messages_are_refused(messages: list[Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        render_chat(TOKENIZER, messages, lambda part, index: IDS)


@pytest.mark.parametrize(
    ("audio", "match"),
    [
        ((), "2 audio parts, the audio given has 0"),
        ([IDS] * 3, "2 audio parts, the audio given has 3"),
        ({0: IDS, 2: IDS}, "2 audio parts"),
        ([IDS, 0], "gets 0 positions"),
        ([IDS, -2], "gets -2 positions"),
        ([IDS, 5], "placeholder_id"),
        ([IDS, []], "wanted token ids"),
        ([IDS, "hello"], "wanted token ids"),
        ([IDS, True], "wanted token ids"),
        ([IDS, None], "wanted token ids"),
    ],
)
def test_audio_that_does_not_match_its_parts_is_refused(audio: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        render_chat(TOKENIZER, [turn("user", AUDIO, "and", AUDIO)], audio)


def test_ids_that_are_no_audio_are_refused() -> None:
    chat = [turn("user", AUDIO)]
    with pytest.raises(VocabularyError, match="wanted start"):
        render_chat(TOKENIZER, chat, [IDS[1:]], vocabulary=VOCABULARY)
    with pytest.raises(LayoutError, match="ends inside coarse frame"):
        render_chat(TOKENIZER, chat, [[*IDS[:-3], IDS[-1]]], vocabulary=VOCABULARY)
    with pytest.raises(LayoutError, match="text where audio belongs"):
        render_chat(TOKENIZER, chat, [[IDS[0], 5, IDS[-1]]], vocabulary=VOCABULARY)


@pytest.mark.parametrize("said", ["<|sound_3|>", f"hello {SOUND}", "<|sound_end|>"])
def test_audio_tokens_in_text_are_refused(said: str) -> None:
    with pytest.raises(VocabularyError, match="text holds the audio token"):
        render_chat(TOKENIZER, [turn("user", said)], vocabulary=VOCABULARY)


def test_the_placeholder_may_be_a_token_of_the_template_but_not_of_a_message() -> None:
    end = TOKENIZER.convert_tokens_to_ids("<|eot_id|>")
    rendered = render_chat(TOKENIZER, [turn("user", AUDIO)], [3], placeholder_id=end)
    assert rendered.input_ids[rendered.spans[0].start :] == [end] * 4
    with pytest.raises(VocabularyError, match="text holds"):
        render_chat(TOKENIZER, [turn("user", AUDIO, "<|eot_id|>")], [3], placeholder_id=end)


def test_text_that_looks_like_the_markers() -> None:
    said = "vvAudioq0qn0x vvMessageq0qn0x q1q"
    rendered = render_chat(TOKENIZER, [turn("user", said, AUDIO)], [IDS], vocabulary=VOCABULARY)
    assert f"\n\n{said}{SOUND}<|eot_id|>" in str(TOKENIZER.decode(rendered.input_ids))


def test_the_orpheus_prompt() -> None:
    tokenizer = llama_tokenizer()
    length = len(tokenizer)
    vocabulary = extend_vocabulary(tokenizer, codec_spec=spec((4, 2, 1), 8))
    words = tokenizer("tara: hello", add_special_tokens=False)["input_ids"]
    bos, end = 0, tokenizer.convert_tokens_to_ids("<|eot_id|>")
    expected = [length + 3, bos, *words, end, length + 4, length + 5, length + 1]
    assert orpheus_prompt(tokenizer, vocabulary, "hello", voice="tara") == expected
    turns = orpheus_prompt(tokenizer, vocabulary, "hello", voice="tara", examples=[("hello", CODES)])
    assert turns == [*expected[:-1], *vocabulary.to_ids(CODES), length + 6, *expected]
    with pytest.raises(VocabularyError, match="text holds"):
        orpheus_prompt(tokenizer, vocabulary, "<custom_token_12>")
    with pytest.raises(VocabularyError, match="lacks '<end>'"):
        orpheus_prompt(tokenizer, vocabulary, "hello", end_of_text="<end>")
    with pytest.raises(VocabularyError, match="lacks start_of_human"):
        orpheus_prompt(TOKENIZER, VOCABULARY, "hello")
