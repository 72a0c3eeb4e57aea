"""The model's side of a connection: one session, its calls one after the other in the worker."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from vivavoce.inference.reply import Delta
from vivavoce.inference.session import Session
from vivavoce.serving.engine import Engine
from vivavoce.serving.realtime.items import History, Key
from vivavoce.serving.worker import Worker

T = TypeVar("T")


class Talk:
    """Keeps a ``Session`` in step with a conversation whose items come, go and change.

    A session hears what the user says while it is said, and answers it. Where items were deleted, put in or cut, it
    gets the new history and reads again what differs. The methods make work for the worker; a lock keeps one from
    beginning before the last has let go of the session.

    Args:
        engine: The model.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._known: list[Key] = []
        self._hearing: str | None = None
        self._num_heard = 0

    def listen(
        self, history: History, item_id: str, pieces: Sequence[np.ndarray], rate: int
    ) -> Iterator[None]:
        """Take more of what the user says.

        Args:
            history: What was said before.
            item_id: Of the recording that goes on.
            pieces: All of it so far, float32 [S] each.
            rate: Hz.
        """
        with self._lock:
            self._hear(history, item_id, pieces, rate)
            yield None

    def answer(
        self,
        history: History,
        question: tuple[Key, dict[str, Any]],
        answer_id: str,
        pieces: Sequence[np.ndarray],
        audio: bool,
        voice: str,
        options: Mapping[str, Any],
        stop: threading.Event,
    ) -> Iterator[Delta]:
        """Answer the last item.

        Args:
            history: What was said before it.
            question: Its key and message.
            answer_id: Id of the item that will hold the answer.
            pieces: The question, if it is the recording that came in last.
            audio: Speak.
            voice: One of the engine's.
            options: Sampling.
            stop: Once it is set, the answer ends at the next delta, and what was given out stays.
        """
        with self._lock:
            if stop.is_set():
                return
            (item_id, _), content = question[0], question[1]["content"]
            parts: list[dict[str, Any]] = (
                [{"type": "text", "text": content}] if isinstance(content, str) else content
            )
            if self._hearing == item_id:
                self._hear(history, item_id, pieces, parts[0]["sampling_rate"])
            else:
                self._feed(history, parts)
            session, self._hearing = self._at(history), None
            deltas = session.respond(audio, self._engine.own_voice(voice), **options)
            _adopt(parts, session.messages[-1]["content"])
            try:
                for delta in deltas:
                    yield delta
                    if stop.is_set():
                        break
                else:
                    self._known = [*self._known, question[0], (answer_id, 0)]
            finally:
                if session.answering:  # what it holds now may be more than the client got: it is read again
                    session.interrupt()

    def close(self) -> None:
        """Let go of the session; work that still has it lets go at its next delta."""
        self._session = None

    def _hear(self, history: History, item_id: str, pieces: Sequence[np.ndarray], rate: int) -> None:
        session = self._at(history)
        if self._hearing != item_id:
            session.forget_input()
            self._num_heard = 0
        self._hearing = None  # should a piece fail, all is fed again
        for piece in pieces[self._num_heard :]:
            session.feed_audio(piece, rate)
        self._hearing, self._num_heard = item_id, len(pieces)

    def _feed(self, history: History, parts: Sequence[Mapping[str, Any]]) -> None:
        session = self._at(history)
        session.forget_input()
        for part in parts:
            if part["type"] == "text":
                session.feed_text(part["text"])
            else:
                session.feed_text("")  # ends a recording before it
                session.feed_audio(part["audio"], part["sampling_rate"])

    def _at(self, history: History) -> Session:
        """The session, with this history."""
        keys, messages = [key for key, _ in history], [message for _, message in history]
        if self._session is None:
            self._session = self._engine.session()
        if keys != self._known:
            self._session.replace_history(messages)
            self._known = keys
        return self._session


def _adopt(parts: Sequence[dict[str, Any]], asked: Any) -> None:
    """Let the items hold the session's own samples, so that they are kept once and known again."""
    if isinstance(asked, str):
        return
    theirs = [part for part in asked if part["type"] == "audio"]
    ours = [part for part in parts if part["type"] == "audio"]
    for mine, part in zip(ours, theirs, strict=True):
        mine["audio"] = part["audio"]


class Lane:
    """Work of one connection, one piece at a time, in the order it was asked for.

    Args:
        worker: Does it.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._turn = asyncio.Lock()

    async def run(
        self, plan: Callable[[], Callable[[], Iterator[T]] | None], take: Callable[[T], None]
    ) -> None:
        """Do some work after the work before it.

        Args:
            plan: Called when its turn has come; gives the work, None for nothing to do.
            take: Takes its results, in the event loop.
        """
        async with self._turn:
            make = plan()
            if make is not None:
                await done(self._worker, make, take)


async def done(worker: Worker, make: Callable[[], Iterator[T]], take: Callable[[T], None]) -> None:
    """Let the worker do something; it is cancelled if nobody waits for it to the end."""
    job, ended = worker.submit(make), False
    try:
        async for result in job:
            take(result)
        ended = True
    finally:
        if not ended:
            job.cancel()
