"""Emotional-trajectory dialogues: the HumDial challenge's lines and the fine-tuned SALMONN's list."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from vivavoce.data.conversation import Audio, Conversation, Message, Text, read_conversation
from vivavoce.data.convert.contract import Format, Options, Unfit
from vivavoce.data.convert.json_rows import BadItem, Item
from vivavoce.data.convert.look import look
from vivavoce.data.convert.outputs import Clips
from vivavoce.data.convert.texts import question_text
from vivavoce.data.dialogues import Dialogue, UserTurn
from vivavoce.data.trajectories import read_trajectories
from vivavoce.data.trajectory_forms import conversation, published_row
from vivavoce.tokens.trajectory import QUESTIONS, language_of, parse_trajectory, read_emotion, sound_marks

_TASK_NAMES = {
    "trajectory": "task1_emotional_trajectory",
    "reasoning": "task2_emotional_reasoning",
    "empathy": "task3_empathy",
}
_NUMBER = re.compile(r"\d+")


class TrajectoryFormat(Format):
    """Dialogues of several spoken turns with an emotion each; answers are typed, sometimes spoken too.

    Variants: "turns" (the challenge's lines with ``turns``) and "lines" (a list with ``input_text``). Labels of the
    turns are in the audio parts; the line of emotions that some training rows end with is added by views, not here.
    Earlier replies are read with weight 0, as only the last answer is learned.
    """

    name: ClassVar[str] = "trajectory"
    description: ClassVar[str] = (
        "emotional trajectories: HumDial turns, and the list of the fine-tuned SALMONN"
    )
    holds: ClassVar[frozenset[str]] = frozenset(
        {"id", "roles", "typed text", "user transcripts", "reply transcripts", "language", "labels"}
    )
    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".json")
    tasks: ClassVar[tuple[str, ...]] = ("trajectory", "reasoning", "empathy")
    audio_first: ClassVar[bool] = True
    variants: ClassVar[tuple[str, ...]] = ("turns", "lines")

    def detect(self, path: Path) -> float:
        seen = look(path)
        if seen.kind != "json" or not seen.any_has("dialogue_id"):
            return 0.0
        return 0.98 if seen.all_have("turns") or seen.all_have("input_text", "audio_files") else 0.0

    def items(self, path: Path, options: Options) -> Iterator[Item | BadItem]:
        found = read_trajectories(path, "", options.encoding)
        items: list[Item | BadItem] = [Item(_number(d.place), d.place, d) for d in found.dialogues]
        items += [
            BadItem(_number(f.place), f.place, f.kind, f"{f.id} {f.reason}".strip()) for f in found.faults
        ]
        return iter(sorted(items, key=lambda item: item.number))

    def conversations(self, item: Item, options: Options) -> Iterable[Conversation]:
        dialogue: Dialogue = item.value
        row = conversation(
            dialogue, "", suffix=False, typed_question=bool(dialogue.order), spoken_replies=True
        )
        row["id"] = dialogue.id or str(item.number)
        row["source"] = None
        if dialogue.task_name not in ("", _TASK_NAMES.get(dialogue.task)):
            row["meta"] = {self.name: {"task": dialogue.task_name}}
        yield read_conversation(row, item.number)

    def lost(self, row: Conversation, options: Options) -> set[str]:
        made = self.survivor(row, options)
        pairs = list(zip(row.audio_parts(), made.audio_parts(), strict=True))
        found = {"labels"} if any(a.labels != b.labels for a, b in pairs) else set()
        found |= {"language"} if any(a.language and a.language != b.language for a, b in pairs) else set()
        found |= {"typed text"} if options.variant != "lines" and any(map(_is_typed, row.messages)) else set()
        return super().lost(row, options) | found

    def survivor(self, row: Conversation, options: Options | None = None) -> Conversation:
        """As reading gives it: sounds and language by the words, and weight 0 for replies before the last turn."""
        made = super().survivor(row, options)
        is_lines = options is not None and options.variant == "lines"
        users = [message for message in made.messages if message.role == "user"]
        for message in users:
            if not is_lines and _is_typed(message):
                message.parts = [part for part in message.parts if isinstance(part, Audio)]
        said = (
            m.text if m.role == "assistant" or not m.audios else m.audios[0].transcript or ""
            for m in made.messages
        )
        language = language_of(" ".join(said)) or "en"
        for part in (part for message in users for part in message.audios):
            part.labels = _labels(part)
            part.language = language if part.transcript else None
        for i, message in enumerate(made.messages):
            if message.role == "assistant":
                message.loss = 0.0 if any(m.role == "user" for m in made.messages[i:]) else message.loss
                for part in message.audios:
                    part.labels, part.language, part.transcript = {}, None, message.text
        if is_lines and users and not users[-1].text:
            users[-1].parts.append(Text(QUESTIONS[language]))
        return made

    def entries(
        self, row: Conversation, number: int, clips: Clips, options: Options
    ) -> Iterable[dict[str, Any]]:
        dialogue = self._dialogue(row, number, clips)
        if options.variant == "lines":
            if any(turn.reply_audio or not turn.audio for turn in dialogue.turns):
                raise Unfit("a spoken reply, or a turn without a recording")
            if not all(map(_is_line, (*dialogue.texts, *dialogue.replies, dialogue.instruction))):
                raise Unfit("a turn without words, or of several lines")
            yield published_row(dialogue) | {"task": _task_name(dialogue)}
            return
        entry: dict[str, Any] = {"dialogue_id": dialogue.id}
        if dialogue.task != "trajectory" or dialogue.task_name:
            entry["task"] = _task_name(dialogue)
        yield entry | {"turns": [_turn(turn) for turn in dialogue.turns]}

    def _dialogue(self, row: Conversation, number: int, clips: Clips) -> Dialogue:
        turns: list[dict[str, Any]] = []
        order = ""
        for message in row.messages:
            if message.role == "user":
                turn, order = _asked(message, row, clips, order)
                turns.append({"number": len(turns) + 1} | turn)
            elif message.role == "assistant" and turns and "reply" not in turns[-1]:
                turns[-1] |= _replied(message, row, clips)
            else:
                raise Unfit("turns of other roles, or several replies to a turn")
        if not turns:
            raise Unfit("no turn of the user")
        last = turns[-1].get("reply", "")
        description, labels = parse_trajectory(last)
        if labels and labels == tuple(turn.get("emotion") for turn in turns):
            turns[-1]["reply"] = description
        task = row.task if row.task in self.tasks else self.tasks[0]
        named = str(row.meta.get(self.name, {}).get("task", ""))
        return Dialogue(
            row.id or str(number), "", task, named, tuple(UserTurn(**turn) for turn in turns), order
        )


def _task_name(dialogue: Dialogue) -> str:
    return dialogue.task_name or _TASK_NAMES.get(dialogue.task, dialogue.task)


def _is_line(text: str) -> bool:
    return bool(text.strip()) and len(text.splitlines()) == 1


def _is_typed(message: Message) -> bool:
    """Whether the user types something beside a recording."""
    return message.role == "user" and bool(message.audios and message.text)


def _asked(message: Message, row: Conversation, clips: Clips, before: str) -> tuple[dict[str, Any], str]:
    """A user turn, and the instruction that is typed with it, which only the last turn may have."""
    if before or len(message.audios) > 1:
        raise Unfit("several recordings in a turn, or typed words before the last")
    text = question_text(message.parts, audio_first=True)
    if not message.audios:
        return {"text": text}, ""
    part = message.audios[0]
    emotion = read_emotion(str(part.labels.get("emotion", "")))
    if part.audio is None:
        raise Unfit("an audio part has only tokens")
    made: dict[str, Any] = {"text": part.transcript or "", "audio": clips.path(part, row)}
    return made | ({"emotion": emotion, "emotion_given": emotion} if emotion else {}), text


def _replied(message: Message, row: Conversation, clips: Clips) -> dict[str, Any]:
    if len(message.audios) > 1 or (message.audios and not message.text):
        raise Unfit("a reply without text, or with several recordings")
    spoken = {"reply_audio": clips.path(message.audios[0], row)} if message.audios else {}
    return {"reply": "".join(p.text for p in message.parts if isinstance(p, Text))} | spoken


def _turn(turn: UserTurn) -> dict[str, Any]:
    found = {
        "text": turn.text,
        "emotion": turn.emotion,
        "split_audio_file": turn.audio,
        "response_txt": turn.reply,
        "response_audio": turn.reply_audio,
    }
    return {"turn_id": turn.number} | {k: v for k, v in found.items() if v}


def _labels(part: Audio) -> dict[str, Any]:
    """The labels that the form has: the emotion, and the sounds that the transcript marks."""
    emotion = read_emotion(str(part.labels.get("emotion", "")))
    sounds = sound_marks(part.transcript or "")
    return ({"emotion": emotion} if emotion else {}) | ({"sounds": sounds} if sounds else {})


def _number(place: str) -> int:
    """The number of a row from 0, of "line 7" or "item 7 (line 80)"."""
    found = _NUMBER.search(place)
    return int(found[0]) - 1 if found else 0
