"""Tools go into the template, calls come out of what the model writes, by OpenAI's client."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.inference import tiny
from tests.serving.live import Live, serving

from vivavoce.inference.sampling import Sampler
from vivavoce.serving.engine import Engine
from vivavoce.serving.tool_calls import ToolCalls

# calls have no content, and what tools say is JSON, as in Llama 3.1's template
LLAMA = (
    "{% if tools %}[tools]{% for t in tools %}{{ t | tojson }}{% endfor %}{% endif %}{% for m in messages %}"
    "{% if m.tool_calls %}[assistant]{% for c in m.tool_calls %}"
    '{{ {"name": c.function.name, "parameters": c.function.arguments} | tojson }}{% endfor %}<|eot_id|>'
    "{% elif m.role == 'tool' %}[ipython]{{ m.content | tojson }}<|eot_id|>"
    "{% else %}[{{ m.role }}]{{ m.content }}<|eot_id|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
# content may stand before calls, as in Qwen's and Hermes' templates
QWEN = (
    "{% if tools %}[tools]{% for t in tools %}{{ t | tojson }}{% endfor %}{% endif %}{% for m in messages %}"
    "[{{ m.role }}]{% if m.content %}{{ m.content }}{% endif %}{% for c in m.tool_calls or [] %}\n<tool_call>\n"
    '{{ {"name": c.function.name, "arguments": c.function.arguments} | tojson }}\n</tool_call>{% endfor %}'
    "<|eot_id|>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}
ASKED = [{"role": "user", "content": "How is it in Łódź?"}]


class Scripted:
    """A tiny model that writes what it is told to."""

    def __init__(self, template: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
        self.assistant = tiny.tokens_to_text()
        self.tokenizer = self.assistant.processor.tokenizer
        if template is not None:
            self.tokenizer.chat_template = template
        self.text, self.prompt = "", ""
        self._left: list[int] = []

        def draw(sampler: Sampler, logits: Any, seen: Any, allowed: Any = None) -> int:
            if not self._left:
                self.prompt = self.tokenizer.decode(list(seen))
                self._left = [*self.tokenizer(self.text, add_special_tokens=False)["input_ids"], -1]
            token = self._left.pop(0)
            return self.tokenizer.eos_token_id if token < 0 else token

        monkeypatch.setattr(Sampler, "__call__", draw)


Ask = Callable[..., Any]


@pytest.fixture(params=[LLAMA, QWEN], ids=["llama", "qwen"])
def model(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Scripted:
    return Scripted(request.param, monkeypatch)


@pytest.fixture
def ask(model: Scripted) -> Iterator[Ask]:
    with serving(Engine(model.assistant, "tiny")) as live:

        def asked(text: str, messages: Any = ASKED, **fields: Any) -> Any:
            model.text = text
            given = {"tools": [WEATHER, CLOCK], **fields}
            return live.client().chat.completions.create(model="tiny", messages=messages, **given)

        yield asked


CALLS = {
    "json": '{"name": "get_weather", "parameters": {"city": "Łódź"}}',
    "python tag": '<|python_tag|>{"type": "function", "name": "get_weather", "parameters": {"city": "Łódź"}}',
    "list": '[{"name": "get_weather", "arguments": {"city": "Łódź"}}]',
    "tags": '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Łódź"}}\n</tool_call>',
    "no end": '<tool_call>{"name": "get_weather", "arguments": "{\\"city\\": \\"Łódź\\"}"}',
}


@pytest.mark.parametrize("form", CALLS)
def test_a_call_in_every_form(ask: Ask, model: Scripted, form: str) -> None:
    (choice,) = ask(CALLS[form]).choices
    (call,) = choice.message.tool_calls
    assert (call.type, call.function.name, json.loads(call.function.arguments)) == (
        "function", "get_weather", {"city": "Łódź"},
    )  # fmt: skip
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    assert call.id.startswith("call_")
    assert "Tells the weather." in model.prompt and "clock" in model.prompt, (
        "the model was not told of the tools"
    )
    streamed = [c.choices[0] for c in ask(CALLS[form], stream=True)]
    (calls,) = [c.delta.tool_calls for c in streamed if c.delta.tool_calls]
    assert (calls[0].index, calls[0].function.name) == (0, "get_weather")
    assert json.loads(calls[0].function.arguments) == {"city": "Łódź"}
    assert streamed[-1].finish_reason == "tool_calls"
    assert not "".join(c.delta.content or "" for c in streamed)


def test_several_calls_and_text_around_them(ask: Ask) -> None:
    text = 'I look.\n<tool_call>{"name": "clock"}</tool_call><tool_call>{"name": "clock"}</tool_call>'
    message = ask(text).choices[0].message
    assert [c.function.name for c in message.tool_calls] == ["clock"] * 2 and message.content == "I look."
    assert [c.function.arguments for c in message.tool_calls] == ["{}"] * 2
    assert len(ask(text, parallel_tool_calls=False).choices[0].message.tool_calls) == 1
    both = ask('{"name": "clock"}; {"name": "get_weather", "parameters": {"city": "x"}}').choices[0].message
    assert [c.function.name for c in both.tool_calls] == ["clock", "get_weather"] and both.content is None


@pytest.mark.parametrize(
    "text",
    [
        "It is warm.", '{"name": "launch", "parameters": {}}', '{"city": "Łódź"}', '{"name": "clock"', "[1] See there.",
        "<tool_call>not JSON</tool_call>", "a <tool_ b", '{"name": "clock"} and that is it',
        "<|python_tag|>clock.call()", "[" * 200,
    ],
)  # fmt: skip
def test_what_is_no_call_stays_text(ask: Ask, text: str) -> None:
    (choice,) = ask(text).choices
    assert (choice.message.content, choice.message.tool_calls, choice.finish_reason) == (text, None, "stop")
    assert "".join(c.choices[0].delta.content or "" for c in ask(text, stream=True)) == text


def test_a_choice_of_none_hides_the_tools(ask: Ask, model: Scripted) -> None:
    (choice,) = ask(CALLS["json"], tool_choice="none").choices
    assert choice.message.content == CALLS["json"] and choice.message.tool_calls is None
    assert "Tells the weather." not in model.prompt


def test_what_a_tool_says_is_read(ask: Ask, model: Scripted) -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Łódź"}'},
    }
    said = 'Rain, "heavy"\nand wind'
    messages = [
        *ASKED,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": said},
    ]
    (choice,) = ask("It rains.", messages).choices
    assert (choice.message.content, choice.finish_reason) == ("It rains.", "stop")
    assert said in model.prompt or json.dumps(said, ensure_ascii=False) in model.prompt
    assert '"city": "Łódź"' in model.prompt
    usage = ask("It rains.", messages).usage
    assert usage.prompt_tokens == len(model.tokenizer(model.prompt, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"tool_choice": "required"}, "cannot be forced"),
        ({"tool_choice": {"type": "function", "function": {"name": "clock"}}}, "cannot be forced"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, r"tools\.0"),
        ({"tools": [{"type": "function", "function": {"name": "no spaces"}}]}, "no spaces"),
        ({"tools": [{"type": "function", "function": {"name": "x", "strict": True}}]}, "strict"),
        ({"tools": [{"type": "function", "function": {"name": "x", "parameters": []}}]}, "schema"),
        ({"tools": [CLOCK] * 129}, "at most 128"),
        ({"tools": [], "tool_choice": "auto"}, "belongs to tools"),
        ({"messages": [*ASKED, {"role": "tool", "content": "x"}]}, "tool_call_id"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "x", "arguments": "{"}}]}]}, "JSON"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [CLOCK]}]}, "assistant"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}}, "response_format"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused(ask: Ask, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(openai.BadRequestError, match=says):
        ask("x", **fields)


def test_models_without_tools_say_so(live: Live, client: openai.OpenAI) -> None:
    asked = {"model": "nano", "messages": [{"role": "user", "content": "what is nine plus four"}]}
    with pytest.raises(openai.BadRequestError, match="takes no tools") as caught:
        client.chat.completions.create(**asked, tools=[CLOCK])
    assert caught.value.code == "no_tools"
    said = [*asked["messages"], {"role": "tool", "tool_call_id": "x", "content": "y"}]
    with pytest.raises(openai.BadRequestError, match="takes no tools"):
        client.chat.completions.create(model="nano", messages=said)


PIECES = [
    "<tool_call>",
    "</tool_call>",
    '{"name": "clock"}',
    "{",
    "[",
    "text ",
    "<tool",
    "<|python_tag|>",
    "\n",
    ";",
]


@given(st.lists(st.sampled_from(PIECES), max_size=8), st.lists(st.integers(0, 80), max_size=12))
def test_pieces_make_no_difference_and_nothing_is_lost(pieces: list[str], cuts: list[int]) -> None:
    text = "".join(pieces)
    whole = ToolCalls(["clock"])
    shown = whole.push(text) + whole.close()
    bounds = sorted(min(cut, len(text)) for cut in cuts)
    cut = ToolCalls(["clock"])
    parts = [cut.push(text[a:b]) for a, b in zip([0, *bounds], [*bounds, len(text)], strict=True)]
    assert "".join(parts) + cut.close() == shown
    assert [c["function"] for c in cut.calls] == [c["function"] for c in whole.calls]
    assert shown == text or whole.calls
    plain = ToolCalls([])
    assert plain.push(text) + plain.close() == text
