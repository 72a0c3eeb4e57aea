"""Calls of tools in what a model writes, and tools in what callers send.

Read forms: JSON at the beginning of an answer, ``{"name", "parameters"}`` or ``"arguments"``, several with ";" between
or in a list, after ``<|python_tag|>`` or without it (Llama 3, Mistral); and ``<tool_call>{...}</tool_call>`` after or
between text (Hermes, Qwen). What names no tool of the request stays text.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Mapping
from typing import Any

from vivavoce.serving.refusals import Refusal

BEGIN, END = "<tool_call>", "</tool_call>"
_WHOLE = ("{", "[", "<|python_tag|>")
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
MOST_TOOLS = 128


class ToolCalls:
    """Takes an answer apart as it grows.

    Args:
        names: Of the tools that may be called.
        most: Calls to take; what is called beyond is dropped. None takes all.

    Attributes:
        calls: Complete calls so far, as messages of OpenAI's API have them.
    """

    def __init__(self, names: Collection[str], most: int | None = None) -> None:
        self._names, self._most = set(names), most
        self._held = ""
        self._started = self._whole = False
        self.calls: list[dict[str, Any]] = []

    def push(self, text: str) -> str:
        """Take a piece of the answer and return what of it is text for certain."""
        self._held += text
        if not self._names:
            return self._release()
        if not self._started:
            begin = self._held.lstrip()
            self._whole = begin.startswith(_WHOLE)
            if not begin or (not self._whole and any(w.startswith(begin) for w in _WHOLE)):
                return ""
            self._started = True
        return "" if self._whole else self._tagged()

    def close(self) -> str:
        """End of the answer: what was held and is no call."""
        held = self._held.strip()
        if self._whole:
            body = held.removeprefix("<|python_tag|>")
        else:
            body = held.removeprefix(BEGIN) if held.startswith(BEGIN) else ""
        return "" if body and self._take(body) else self._release()

    def _release(self) -> str:
        text, self._held = self._held, ""
        return text

    def _tagged(self) -> str:
        shown = ""
        while True:
            before, tag, rest = self._held.partition(BEGIN)
            if not tag:
                kept = _beginning_of(BEGIN, self._held)
                shown += self._held[: len(self._held) - kept]
                self._held = self._held[len(self._held) - kept :]
                return shown
            body, end, after = rest.partition(END)
            shown, self._held = shown + before, BEGIN + rest
            if not end:
                return shown
            shown += "" if self._take(body) else BEGIN + body + END
            self._held = after

    def _take(self, body: str) -> bool:
        """Read calls; False if it is something else."""
        found = _values(body)
        calls = [self._call(value) for value in found or ()]
        if not calls or None in calls:
            return False
        room = len(calls) if self._most is None else max(0, self._most - len(self.calls))
        self.calls += [call for call in calls[:room] if call is not None]
        return True

    def _call(self, value: Any) -> dict[str, Any] | None:
        if isinstance(value, Mapping) and isinstance(value.get("function"), Mapping):
            value = value["function"]
        if not isinstance(value, Mapping) or value.get("name") not in self._names:
            return None
        given = value.get("arguments", value.get("parameters", {}))
        arguments = given if isinstance(given, str) else json.dumps(given or {}, ensure_ascii=False)
        function = {"name": value["name"], "arguments": arguments}
        return {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}


def _values(text: str) -> list[Any] | None:
    """JSON values with ";", "," or space between, lists taken apart; None if there is anything else."""
    decoder, found, at = json.JSONDecoder(), [], 0
    text = text.strip()
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return None
        found += value if isinstance(value, list) else [value]
        at = len(text) - len(text[at:].lstrip("; ,\r\n\t"))
    return found


def _beginning_of(tag: str, text: str) -> int:
    """Characters at the end of ``text`` that may begin ``tag``."""
    return next((n for n in range(min(len(tag) - 1, len(text)), 0, -1) if text.endswith(tag[:n])), 0)


def check_tools(tools: Any, choice: Any) -> list[dict[str, Any]]:
    """The tools a model is to be told of.

    Args:
        tools: From the request.
        choice: ``tool_choice``; only "auto" and "none" can be kept, as nothing makes a model call.

    Raises:
        Refusal: 400, malformed or not to be kept.
    """
    for i, tool in enumerate(tools or ()):
        at = f"tools.{i}"
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or tool.get("type") != "function":
            raise _refusal(
                at, "wanted {'type': 'function', 'function': {'name', 'description', 'parameters'}}."
            )
        if not isinstance(function.get("name"), str) or not _NAME.fullmatch(function["name"]):
            raise _refusal(at, f"name {function.get('name')!r}; wanted 1 to 64 of a-z, A-Z, 0-9, _ and -.")
        if not isinstance(function.get("parameters", {}), Mapping):
            raise _refusal(at, "parameters are no JSON schema; wanted an object.")
        if not isinstance(function.get("description") or "", str):
            raise _refusal(at, "description is no text.")
        if function.get("strict"):
            raise _refusal(at, "strict=true cannot be kept here; leave it out.")
    if len(tools or ()) > MOST_TOOLS:
        raise _refusal("tools", f"{len(tools)} tools, at most {MOST_TOOLS}.")
    if choice not in (None, "auto", "none"):
        raise _refusal("tool_choice", "a call cannot be forced here; wanted 'auto' or 'none'.")
    if choice is not None and not tools:
        raise _refusal("tool_choice", "tool_choice belongs to tools.")
    return [] if choice == "none" else [dict(tool) for tool in tools or ()]


def check_calls(calls: Any, at: str) -> list[dict[str, Any]]:
    """Calls in an earlier message, with arguments as templates want them.

    Raises:
        Refusal: 400.
    """
    if not isinstance(calls, list):
        raise _refusal(at, "tool_calls is no list.")
    found = []
    for call in calls:
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise _refusal(
                at, "wanted tool_calls as {'id', 'type': 'function', 'function': {'name', 'arguments'}}."
            )
        try:
            arguments = json.loads(function.get("arguments") or "{}")
        except (TypeError, ValueError, RecursionError):
            raise _refusal(at, f"the arguments of {function['name'][:64]!r} are no JSON.") from None
        if not isinstance(arguments, Mapping):
            raise _refusal(at, f"the arguments of {function['name'][:64]!r} are no JSON object.")
        entry = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
        if isinstance(call.get("id"), str):
            entry["id"] = call["id"]
        found.append(entry)
    return found


def _refusal(at: str, message: str) -> Refusal:
    return Refusal(400, f"{at}: {message}", "unsupported_value" if "here" in message else "invalid_tools", at)
