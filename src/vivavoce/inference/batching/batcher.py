"""One thread for the model; what many threads ask of it at one moment goes through it together.

Continuous batching by meeting: while a forward runs, requests wait; when the thread is free it takes the one that
waits longest and all others of its kind. Nothing waits for a timer, and nobody waits for a batch to fill.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from vivavoce.base.errors import SessionError
from vivavoce.inference.batching.calls import Calls, FrameDraw, draw_frames
from vivavoce.inference.batching.rows import Row
from vivavoce.models.hearing import HeardAudio
from vivavoce.models.speech_lm import SpeechLM

BLOCK = 256  # positions of a prefill between which others get their turn
MOST_ROWS = 64

Result = TypeVar("Result")
Kind = tuple[Any, ...]


class _Request:
    """Something to be done in the thread, and a lock that opens when it is."""

    __slots__ = ("done", "error", "kind", "result", "together", "work")

    def __init__(self, kind: Kind | None, work: Any, together: Callable[[list[Any]], list[Any]]) -> None:
        self.kind, self.work, self.together = kind, work, together
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = threading.Lock()
        self.done.acquire()


class Batcher(Calls):
    """Runs everything in one thread, and requests of one kind in one forward.

    Any number of threads may call; each waits for its own result. A request that fails does not hurt those that went
    with it: they are run again alone. Close it, or use it in a ``with`` statement; the thread holds the model.

    Args:
        model: The speech LM.
        block: Longest piece of a prefill, positions; after each one others get their turn.
        most_rows: Most requests of one forward.

    Attributes:
        num_forwards: Forwards so far, of every kind.
        num_requests: Requests in them.
    """

    def __init__(self, model: SpeechLM, block: int = BLOCK, most_rows: int = MOST_ROWS) -> None:
        super().__init__(model)
        self._block, self._most = block, most_rows
        self._queue: SimpleQueue[_Request | None] = SimpleQueue()
        self._gate, self._closed = threading.Lock(), False
        self.num_forwards = self.num_requests = self._met = 0
        self._thread = threading.Thread(target=self._run, name="vivavoce-model", daemon=True)
        self._thread.start()

    def __enter__(self) -> Batcher:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self, timeout_s: float = 5.0) -> None:
        """End the thread; requests that wait are refused."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)

    # requests

    def feed(self, rows: list[Row]) -> list[Tensor]:
        if len(rows) == 1:
            rows = [self._all_but_last_block(rows[0])]
        backbone = rows[0].sequence.backbone
        kind = ("feed", backbone, rows[0].logits) if all(map(backbone.joins, rows)) else None
        return self._ask(kind, rows, self._feed)

    def draw_frame(self, draw: FrameDraw) -> Tensor:
        return self._ask(("frame", draw.voice), draw, draw_frames)

    def hear(self, features: Tensor, lengths: Tensor, keep_states: bool = True) -> HeardAudio:
        alone = getattr(self.model.audio_encoder, "reference_padding", False)
        kind = None if alone else ("hear", features.shape[1:-1], keep_states)
        return self._ask(kind, (features, lengths, keep_states), self._hear)

    def do(self, work: Callable[[], Result]) -> Result:
        return self._ask(None, work, lambda works: [work() for work in works])

    def _all_but_last_block(self, row: Row) -> Row:
        """Read the beginning of a long row block by block; what is left of it."""
        while len(row) - row.keep >= self._block:
            head, row = _cut(row, self._block)
            self._ask(None, [head], self._feed)
        return row

    def _ask(self, kind: Kind | None, work: Any, together: Callable[[list[Any]], list[Any]]) -> Any:
        if threading.current_thread() is self._thread:  # work that asks for more
            return together([work])[0]
        request = _Request(kind, work, together)
        with self._gate:
            if self._closed:
                raise SessionError("the batcher is closed; make a new one to go on.")
            self._queue.put(request)
        request.done.acquire()
        if request.error is not None:
            raise request.error
        return request.result

    # the thread

    def _run(self) -> None:
        waiting: list[_Request] = []
        batch: list[_Request] = []
        try:
            with torch.inference_mode():
                while self._collect(waiting, max(1, self._met)):
                    kind = waiting[0].kind
                    alike = [r for r in waiting if kind is not None and r.kind == kind]
                    batch = alike[: self._most] or waiting[:1]
                    waiting = [r for r in waiting if r not in batch]
                    self._met = len(batch)
                    self._serve(batch)
                    batch = alike = []  # what they hold is to be free as soon as nobody else has it
                    kind = None
        finally:  # nobody may wait for a thread that has ended, whatever ended it
            with self._gate:
                self._closed = True
            while not self._queue.empty():
                waiting.append(self._queue.get())  # type: ignore[arg-type]
            for request in (*batch, *waiting):
                if request is not None and request.done.locked():
                    request.error = SessionError("the batcher was closed before this was done.")
                    request.done.release()

    def _collect(self, waiting: list[_Request], met: int) -> bool:
        """Take what waits; False at the end.

        Those who met in the last forward were let go at the same time and are about to come back: they get the
        processor once each, or the first of them would go alone.
        """
        if not waiting:
            found = self._queue.get()
            if found is None:
                return False
            waiting.append(found)
        while True:
            try:
                found = self._queue.get_nowait()
            except Empty:
                if len(waiting) >= met:
                    return True
                time.sleep(0)
                if self._queue.empty():
                    return True
                continue
            if found is None:
                return False
            waiting.append(found)

    def _serve(self, batch: list[_Request]) -> None:
        self.num_forwards += 1
        self.num_requests += len(batch)
        try:
            results = batch[0].together([request.work for request in batch])
        except Exception as error:  # noqa: BLE001  (goes to whoever asked)
            if len(batch) > 1:
                for request in batch:
                    self._serve([request])
                return
            batch[0].error = error
            results = [None]
        for request, result in zip(batch, results, strict=True):
            request.result, request.work = result, None
            request.done.release()

    def _feed(self, requests: list[list[Row]]) -> list[list[Tensor]]:
        rows = [row for request in requests for row in request]
        results = iter(rows[0].sequence.backbone.forward(rows))
        return [[next(results) for _ in request] for request in requests]

    def _hear(self, requests: list[tuple[Tensor, Tensor, bool]]) -> list[HeardAudio]:
        if len(requests) == 1:
            features, lengths, keep_states = requests[0]
            return [self.model.hear(features, lengths, keep_states=keep_states)]
        width = max(features.shape[-1] for features, _, _ in requests)
        features = torch.cat([F.pad(f, (0, width - f.shape[-1])) for f, _, _ in requests])
        lengths = torch.cat([lengths for _, lengths, _ in requests])
        heard = self.model.hear(features, lengths, keep_states=requests[0][2])
        sizes, at, found = [len(f) for f, _, _ in requests], 0, []
        for size in sizes:
            rows = slice(at, at + size)
            frames, counts = heard.frames[rows], heard.counts[rows]
            # as wide as it would be alone
            states = heard.states[rows, : int(frames.max())]
            found.append(HeardAudio(states, frames, heard.embeddings[rows, : int(counts.max())], counts))
            at += size
        return found


def _cut(row: Row, at: int) -> tuple[Row, Row]:
    """A row as two, the second from ``at`` on."""
    ids, embeddings = row.ids, row.embeddings
    head = Row(
        row.sequence, None if ids is None else ids[:at], None if embeddings is None else embeddings[:at]
    )
    head.logits = False
    rest_ids = None if ids is None else ids[at:]
    rest = None if embeddings is None else embeddings[at:]
    return head, Row(row.sequence, rest_ids, rest, row.keep, row.logits)
