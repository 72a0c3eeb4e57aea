"""From what clients send to items, and to plans of responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from vivavoce.inference.played import GivenOut
from vivavoce.inference.reply import Delta
from vivavoce.serving.engine import Engine
from vivavoce.serving.limits import Limits
from vivavoce.serving.realtime.client_events import ContentIn, ItemIn, ResponseIn
from vivavoce.serving.realtime.formats import RATES, decoded
from vivavoce.serving.realtime.items import Content, Item, Items
from vivavoce.serving.realtime.outbox import Fault, new_id
from vivavoce.serving.realtime.response import Plan
from vivavoce.serving.realtime.settings import Settings, check, checked

_KINDS = {
    "user": {"input_text": "input_text", "input_audio": "input_audio"},
    "system": {"input_text": "input_text"},
    "assistant": {
        "output_text": "output_text", "text": "output_text", "output_audio": "output_audio", "audio": "output_audio"
    },
}  # fmt: skip


def item_of(given: Mapping[str, Any], settings: Settings, engine: Engine, limits: Limits, at: str) -> Item:
    """An item as the client wrote it.

    Args:
        given: JSON.
        settings: The format of audio.
        engine: What the model can.
        limits: Of text and audio.
        at: Where it stands in the event.

    Raises:
        Fault: With the field.
    """
    if given.get("type", "message") != "message":
        raise Fault(
            f"{at}.type is {str(given.get('type'))[:64]!r}; {engine.name} calls no tools: wanted 'message'.",
            "unsupported_value",
            f"{at}.type",
        )
    read = checked(ItemIn, given, at)
    if read.role is None:
        raise Fault(f"{at}.role is missing.", "missing_required_parameter", f"{at}.role")
    if not read.content:
        raise Fault(f"{at}.content is empty; wanted one part or more.", "invalid_value", f"{at}.content")
    if len(read.content) > limits.max_clips:
        raise Fault(
            f"{at}.content has more than {limits.max_clips} parts.", "too_many_parts", f"{at}.content"
        )
    if read.role == "system" and (why := engine.refuses_instructions()):
        raise Fault(f"{at}.role: {why}", "unsupported_value", f"{at}.role")
    content = [
        _content(part, read.role, settings, engine, limits, f"{at}.content.{i}")
        for i, part in enumerate(read.content)
    ]
    item = Item(read.id or new_id("item"), read.role, content)
    if read.role == "assistant":
        item.given = GivenOut()
        item.given.add(Delta(text=str(item.message()["content"])))
    return item


def _content(
    part: ContentIn, role: str, settings: Settings, engine: Engine, limits: Limits, at: str
) -> Content:
    kind = _KINDS[role].get(part.type)
    if kind is None:
        wanted = ", ".join(_KINDS[role])
        raise Fault(
            f"{at}.type is {part.type!r}; of {role} wanted {wanted}.", "unsupported_value", f"{at}.type"
        )
    if kind != "input_audio":
        field = "transcript" if kind == "output_audio" else "text"
        text = part.transcript if kind == "output_audio" else part.text
        if text is None:
            raise Fault(f"{at}.{field} is missing.", "missing_required_parameter", f"{at}.{field}")
        if len(text) > limits.max_text_chars:
            raise Fault(
                f"{at}.{field} has more than {limits.max_text_chars} characters.",
                "text_too_long",
                f"{at}.{field}",
            )
        return Content(cast("Any", kind), text)
    if not engine.hears:
        raise Fault(f"{at}: {engine.name} does not hear; send text.", "unsupported_value", f"{at}.type")
    if part.audio is None:
        raise Fault(f"{at}.audio is missing.", "missing_required_parameter", f"{at}.audio")
    form = settings.audio.input.format.type
    wave = decoded(part.audio, form, f"{at}.audio")
    if not 0 < len(wave) <= limits.max_audio_s * RATES[form]:
        raise Fault(
            f"{at}.audio has {len(wave) / RATES[form]:.1f} s; wanted more than 0, at most {limits.max_audio_s:g} s.",
            "audio_too_long" if len(wave) else "invalid_value",
            f"{at}.audio",
        )
    said = {"transcript": part.transcript} if part.transcript else {}
    audio = {"type": "audio", "audio": wave, "sampling_rate": RATES[form], **said}
    return Content("input_audio", part.transcript, audio, form)


def plan_of(given: ResponseIn, settings: Settings, engine: Engine, limits: Limits, items: Items) -> Plan:
    """What a response is to be, of the session's settings and its own.

    Raises:
        Fault: With the field.
    """
    if given.conversation not in (None, "auto", "none"):
        raise Fault(
            f"response.conversation is {given.conversation[:64]!r}; wanted 'auto' or 'none'.",
            "invalid_value",
            "response.conversation",
        )
    own = _settings(given, settings)
    check(own, engine, limits, "response")
    joins = given.conversation != "none"
    if given.input is None and joins:
        question = items.question()
        if question is None:
            raise Fault(
                "there is nothing to answer: the last item is not the user's; add one first.",
                "nothing_to_answer",
            )
        return Plan(own, question, metadata=given.metadata)
    context = [{"role": "system", "content": own.instructions}] if own.instructions else []
    if given.input is None:
        context += [message for _, message in items.history()]
    else:
        context += messages_of(given.input, settings, engine, limits, items)
    if not context or context[-1]["role"] != "user":
        raise Fault(
            "response.input must end with an item of the user.", "nothing_to_answer", "response.input"
        )
    return Plan(own, None, context, joins, given.metadata)


def messages_of(
    given: list[dict[str, Any]], settings: Settings, engine: Engine, limits: Limits, items: Items
) -> list[dict[str, Any]]:
    """Messages of items that are written out, or named by their id.

    Raises:
        Fault: With the field.
    """
    if len(given) > limits.max_items:
        raise Fault(
            f"response.input has more than {limits.max_items} items.", "too_many_items", "response.input"
        )
    found = []
    for i, item in enumerate(given):
        at = f"response.input.{i}"
        if item.get("type") == "item_reference":
            found.append(items.find(str(item.get("id")), f"{at}.id").message())
        else:
            found.append(item_of(item, settings, engine, limits, at).message())
    return found


def _settings(given: ResponseIn, settings: Settings) -> Settings:
    changes: dict[str, Any] = {
        name: value
        for name in ("instructions", "output_modalities", "max_output_tokens", "tools", "tool_choice")
        if (value := getattr(given, name)) is not None
    }
    output = given.audio.output if given.audio else None
    if output is not None:
        changed = {n: v for n in ("format", "voice") if (v := getattr(output, n)) is not None}
        audio = settings.audio.model_copy(update={"output": settings.audio.output.model_copy(update=changed)})
        changes["audio"] = audio
    return settings.model_copy(update=changes)
