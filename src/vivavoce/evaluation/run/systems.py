"""Systems: ways of answering the same questions; controls and baselines differ in what they are given."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from vivavoce.data.conversation import Audio, Text
from vivavoce.evaluation.items import Sound
from vivavoce.evaluation.results import Outcome
from vivavoce.evaluation.run.answerers import Answer, Answerer
from vivavoce.evaluation.run.recognisers import Recogniser
from vivavoce.evaluation.run.stored import StoredCase
from vivavoce.evaluation.tasks.task import Task

APPLIES: dict[str, tuple[str, ...]] = {
    "model": ("transcribe", "listen", "choose", "speak"),
    "endpoint": ("transcribe", "listen", "choose", "speak", "read"),
    "cascade": ("transcribe", "listen", "choose"),
    "typed": ("listen", "choose", "read"),
    "silent": ("transcribe", "listen", "choose"),
    "swapped": ("transcribe", "listen", "choose"),
    "base": ("listen", "choose", "read"),
    "original": ("speak",),
}
"""System -> kinds of its tasks; "original" is a recording of what is to be spoken, for the listener's floor."""

LETTERS = "ABCDEFGHIJ"


class Given(NamedTuple):
    """What a system made of a case: the line, and what it spoke."""

    outcome: Outcome
    sound: Sound | None = None


@dataclass(frozen=True)
class System:
    """One way of answering.

    Attributes:
        name: As in `APPLIES`.
        words: What it is, for people.
        answer: (case, task) -> line and sound; raises what goes wrong.
        parallel: Questions that may be asked at once.
    """

    name: str
    words: str
    answer: Callable[[StoredCase, Task], Given]
    parallel: int = 1


def with_audio(case: StoredCase, clips: Sequence[Sound], clips_first: bool = False) -> list[dict[str, Any]]:
    """The case's messages with these recordings in the place of its own."""
    left, messages = list(clips), []
    for message in case.conversation.messages:
        parts: list[dict[str, Any]] = []
        for part in message.parts:
            if isinstance(part, Text):
                parts.append({"type": "text", "text": part.text})
            else:
                sound = left.pop(0)
                parts.append({"type": "audio", "audio": sound.waveform, "sampling_rate": sound.sample_rate})
        if clips_first:
            parts.sort(key=lambda p: p["type"] != "audio")
        messages.append({"role": message.role, "content": parts})
    return messages


def with_words(case: StoredCase, words: Sequence[str]) -> list[dict[str, Any]]:
    """The case's messages with words in the place of its recordings: what a text-only model reads."""
    left, messages = list(words), []
    for message in case.conversation.messages:
        texts = [left.pop(0) if isinstance(part, Audio) else part.text for part in message.parts]
        messages.append({"role": message.role, "content": "\n".join(t for t in texts if t)})
    return messages


def speech_system(answerer: Answerer, name: str = "model", words: str = "", aloud: bool = True) -> System:
    """The model with the recordings as they are."""

    def answer(case: StoredCase, task: Task) -> Given:
        if task.kind == "speak":
            return _given(case, answerer.say(case.question.references[0]))
        if task.kind == "read":
            return _given(case, _read(answerer, case, task, []))
        clips = case.clips()
        if task.kind == "transcribe":
            return _given(case, answerer.transcribe(_one(clips)))
        spoken = aloud and task.spoken and answerer.speaks
        messages = with_audio(case, clips, answerer.clips_first)
        return _given(case, answerer.chat(messages, aloud=spoken))

    return System(name, words or f"{answerer.name}, spoken questions", answer, answerer.parallel)


def control_system(answerer: Answerer, name: str, others: Mapping[str, Mapping[str, StoredCase]]) -> System:
    """The model with silence, or with the recordings of another question: it must not do as well.

    Args:
        answerer: The model.
        name: "silent" or "swapped".
        others: Task -> id of a question -> the question whose audio it gets, for "swapped".
    """

    def answer(case: StoredCase, task: Task) -> Given:
        clips = case.clips()
        if name == "silent":
            clips = [Sound(np.zeros_like(c.waveform), c.sample_rate) for c in clips]
        else:
            lent = others[task.name][case.question.id].clips()
            clips = [lent[i % len(lent)] for i in range(len(clips))]
        if task.kind == "transcribe":
            return _given(case, answerer.transcribe(_one(clips)))
        return _given(case, answerer.chat(with_audio(case, clips, answerer.clips_first)))

    what = {"silent": "silence in the place of the question", "swapped": "the audio of another question"}
    return System(name, f"control: {answerer.name} given {what[name]}", answer, answerer.parallel)


def text_system(answerer: Answerer, name: str) -> System:
    """A language model given the true words."""

    def answer(case: StoredCase, task: Task) -> Given:
        return _given(case, _read(answerer, case, task, case.texts))

    told = {"typed": "the true words, typed", "base": "the true words, before speech training"}
    return System(name, f"{answerer.name} given {told[name]}", answer, answerer.parallel)


def cascade_system(recognisers: Callable[[Task], Recogniser], answerer: Answerer, words: str) -> System:
    """A recogniser, then a language model on what it wrote; of tasks that only transcribe, the recogniser alone."""

    def answer(case: StoredCase, task: Task) -> Given:
        recogniser = recognisers(task)
        clips, began = case.clips(), time.perf_counter()
        heard = [recogniser.hear(*clip) for clip in clips]
        seconds = time.perf_counter() - began
        if task.kind == "transcribe":
            return _given(case, Answer(" ".join(heard), " ".join(heard), total_s=seconds))
        if not any(
            heard
        ):  # nothing was heard: a language model would answer the prompt, or refuse an empty turn
            return _given(case, Answer("", "", understood=False, total_s=seconds))
        made = _read(answerer, case, task, heard)
        later = {
            name: value + seconds
            for name in ("ttft_s", "first_audio_s", "total_s")
            if (value := getattr(made, name)) is not None
        }
        return _given(case, dataclasses.replace(made, transcript="\n".join(heard), **later))

    return System("cascade", words, answer)


def original_system() -> System:
    """The recording of what is to be spoken: what the recogniser makes of it is its own error."""

    def answer(case: StoredCase, task: Task) -> Given:
        from vivavoce.audio.files import read_audio

        assert case.question.audio is not None
        sound = Sound(*read_audio(case.folder / case.question.audio))
        return Given(Outcome(case.question.id, spoken_s=_seconds(sound)), sound)

    return System("original", "the original recordings, for the recogniser's own errors", answer)


def swap(cases: Sequence[StoredCase], seed: int) -> dict[str, StoredCase]:
    """Another question's recordings for each question: with other words and another answer, near in length.

    Where all others have the same answer, one with other words; where all have the same words, any other. A single
    question gets no other and is left out.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, StoredCase] = {}
    for case in cases:
        others = [c for c in cases if c is not case and c.clips_differ(case)]
        apart = [c for c in others if c.texts != case.texts] or others
        apart = [c for c in apart if c.question.references != case.question.references] or apart
        if apart:
            jitter = rng.random(len(apart))
            near = min(
                range(len(apart)),
                key=lambda i: (
                    abs((apart[i].question.duration_s or 0) - (case.question.duration_s or 0)) + jitter[i]
                ),
            )
            found[case.question.id] = apart[near]
    return found


def _read(answerer: Answerer, case: StoredCase, task: Task, words: Sequence[str]) -> Answer:
    messages = with_words(case, words)
    letters = LETTERS[: len(case.question.choices)]
    if task.kind == "read" and letters:
        return answerer.choose(messages, letters)
    return answerer.chat(messages)


def _one(clips: Sequence[Sound]) -> Sound:
    from vivavoce.evaluation.run.stored import join

    return clips[0] if len(clips) == 1 else join(clips)


def _given(case: StoredCase, answer: Answer) -> Given:
    outcome = Outcome(
        case.question.id,
        answer.text,
        answer.transcript or None,
        answer.understood,
        ttft_s=_round(answer.ttft_s),
        first_audio_s=_round(answer.first_audio_s),
        total_s=_round(answer.total_s),
        spoken_s=None if answer.audio is None else _seconds(answer.audio),
    )
    return Given(outcome, answer.audio)


def _round(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 5)


def _seconds(sound: Sound) -> float:
    return round(len(sound.waveform) / sound.sample_rate, 3)
