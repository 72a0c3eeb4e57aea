"""Emotional-trajectory dialogues as training rows: a clip per turn, one joined clip, or the published files.

A row is a conversation: ``{"id", "messages", "task", "source"}``, messages in the transformers / OpenAI shape.
"""

from __future__ import annotations

from typing import Any

from vivavoce.audio.files import read_audio
from vivavoce.audio.joining import CROP_S, GAP_S, join_turns
from vivavoce.base.errors import DataError
from vivavoce.data.dialogues import TRAJECTORY, Dialogue, UserTurn
from vivavoce.data.recordings import encode_flac
from vivavoce.tokens.trajectory import format_trajectory, sound_marks, without_sound_marks
from vivavoce.tokens.trajectory_messages import dialogue_text, one_message, turn_messages

# prompt of the fine-tuned SALMONN; its reader never filled the braces, so models have seen them as they stand
PUBLISHED_PROMPT = "任务类型: {task}\nUSER: {}\nASSISTANT: {order}"


def answer(dialogue: Dialogue, suffix: bool = True) -> str:
    """What is to be learned: the answer, and a line with the emotions if ``suffix`` and all are known.

    The line belongs to the trajectory task; other tasks never have it, as in the published reader.
    """
    if suffix and dialogue.target and dialogue.task == TRAJECTORY and dialogue.emotions:
        return format_trajectory(dialogue.target, dialogue.emotions, dialogue.language)
    return dialogue.target


def conversation(
    dialogue: Dialogue,
    source: str,
    suffix: bool = True,
    typed_question: bool = False,
    typed_transcripts: bool = False,
    spoken_replies: bool = False,
) -> dict[str, Any]:
    """A dialogue as one row, with a clip per user turn, the replies between them, and the last answer.

    Only the last answer is learned: earlier replies weigh nothing. Without an answer the row ends with the
    user, for inference.

    Args:
        dialogue: As it was read.
        source: For the row.
        suffix: End the answer with the line of emotions.
        typed_question: Type the file's instruction (ours where it has none) with the last clip, as
            ``inference.trajectory.ask_trajectory`` does unless told otherwise.
        typed_transcripts: Type what is said beside each clip.
        spoken_replies: Add recordings of replies where the file names them.
    """
    messages = turn_messages(
        [_part(turn, dialogue.language) for turn in dialogue.turns],
        dialogue.replies,
        [without_sound_marks(t.text) if t.path else "" for t in dialogue.turns] if typed_transcripts else (),
        dialogue.instruction if typed_question else "",
    )
    replies = iter([turn for turn in dialogue.turns[:-1] if turn.reply])
    for message in messages:
        if message["role"] == "assistant":
            message |= _reply(next(replies), message["content"], spoken_replies) | {"loss": 0.0}
    text = answer(dialogue, suffix)
    if text:
        messages.append({"role": "assistant"} | _reply(dialogue.turns[-1], text, spoken_replies))
    return _row(dialogue, source, messages)


def joined_conversation(
    dialogue: Dialogue,
    source: str,
    suffix: bool = True,
    prompt: str = PUBLISHED_PROMPT,
    trailing_gap: bool = True,
    crop_s: float | None = CROP_S,
    sample_rate: int = 16_000,
) -> dict[str, Any]:
    """A dialogue as the single clip of the published fine-tune; reads its recordings.

    The model hears at most ``crop_s`` of it and, with the published prompt, reads nothing of what was said.
    The clip is in the row, as the bytes of a 16-bit FLAC file.

    Args:
        dialogue: As it was read; every turn has a recording.
        source: For the row.
        suffix: End the answer with the line of emotions.
        prompt: Typed after the clip. ``{task}``, ``{order}`` and ``{history}`` (all messages of the dialogue,
            one per line, and the order) are filled; ``{}`` stays, as it did in training. "" and "{history}"
            are the other forms that repository used.
        trailing_gap: See ``join_turns``; True is the fine-tune, False is upstream's ``expand_wav``.
        crop_s: Most seconds of the clip, None for all.
        sample_rate: Of the clip, Hz.

    Raises:
        AudioError: A recording is missing or cannot be read.
        DataError: A turn has no recording.

    Source: the data reader of the fine-tuned SALMONN; of recordings with several channels it takes the first,
    here they are averaged.
    """
    silent = [str(i) for i, turn in enumerate(dialogue.turns, 1) if not turn.path]
    if silent:
        raise DataError(
            f"{dialogue.name} names no recording for turn {', '.join(silent)}; it cannot be joined."
        )
    waves = [read_audio(turn.path, sample_rate)[0] for turn in dialogue.turns]
    wave = join_turns(waves, sample_rate, GAP_S, trailing_gap=trailing_gap, crop_s=crop_s)
    sound = {"bytes": encode_flac(wave, sample_rate)}
    part: dict[str, Any] = {"type": "audio", "audio": sound, "language": dialogue.language}
    if dialogue.emotions:
        part["labels"] = {"emotions": list(dialogue.emotions)}
    filled = {"{task}": dialogue.task_name or dialogue.task, "{order}": dialogue.instruction}
    filled["{history}"] = input_text(dialogue)
    for name, text in filled.items():
        prompt = prompt.replace(name, text)
    messages = [one_message([part], prompt)]
    text = answer(dialogue, suffix)
    if text:
        messages.append({"role": "assistant", "content": text})
    return _row(dialogue, source, messages)


def input_text(dialogue: Dialogue) -> str:
    """All messages but the answer, a line each, and the instruction: the published ``input_text``."""
    return dialogue_text(dialogue.texts, dialogue.replies, dialogue.instruction)


def annotation(dialogue: Dialogue, suffix: bool = True) -> dict[str, Any]:
    """A dialogue as a row of upstream SALMONN's ``{"annotation": [...]}``, turns joined by its reader.

    ``Q`` holds the dialogue and fills ``{}`` of upstream's prompts; names of recordings are the file's own.

    Raises:
        DataError: A turn has no recording, or there is no answer.
    """
    files = [turn.audio for turn in dialogue.turns]
    if not all(files) or not dialogue.target:
        raise DataError(f"{dialogue.name} lacks a recording or an answer; an annotation needs both.")
    return {
        "path": files[0],
        "expand_wav": files[1:],
        "text": answer(dialogue, suffix),
        "task": dialogue.task_name or dialogue.task,
        "Q": input_text(dialogue),
    }


def published_row(dialogue: Dialogue) -> dict[str, Any]:
    """A dialogue as a row of the fine-tune's JSON list; reading it gives the dialogue again."""
    row: dict[str, Any] = {
        "dialogue_id": dialogue.id,
        "task": dialogue.task_name or dialogue.task,
        "input_text": input_text(dialogue),
        "target_text": dialogue.target,
        "audio_files": [turn.audio for turn in dialogue.turns],
    }
    if dialogue.emotions:
        row["emotion_sequence"] = list(dialogue.emotions)
    return row


def _part(turn: UserTurn, language: str) -> dict[str, Any]:
    """A user turn as an audio part, or as text where no recording is named."""
    if not turn.path:
        return {"type": "text", "text": turn.text}
    part: dict[str, Any] = {"type": "audio", "audio": turn.path}
    if turn.text:
        part |= {"transcript": turn.text, "language": language}
    labels: dict[str, Any] = {"emotion": turn.emotion} if turn.emotion else {}
    if sounds := sound_marks(turn.text):
        labels["sounds"] = sounds
    return part | ({"labels": labels} if labels else {})


def _reply(turn: UserTurn, text: str, spoken: bool) -> dict[str, Any]:
    if not (spoken and turn.reply_audio):
        return {"content": text}
    sound = {"type": "audio", "audio": turn.reply_audio, "transcript": turn.reply}
    return {"content": [{"type": "text", "text": text}, sound]}


def _row(dialogue: Dialogue, source: str, messages: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": dialogue.name, "messages": messages, "task": dialogue.task, "source": source}
