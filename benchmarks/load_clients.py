"""Clients of ``/v1/realtime`` that type, talk, break in, and vanish; see benchmarks/load.py, which starts them.

As a program: python benchmarks/load_clients.py ADDRESS SEED runs one client until it is killed.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

HERTZ = 24_000
PIECE_S = 0.1
PATIENCE_S = 90.0
MOST_TURNS = 3  # of a conversation; after three the bundle itself makes mistakes
BUSY = {"rate_limit_exceeded", "overloaded", "concurrency_limit_exceeded"}  # documented: status 429 and 503
QUESTIONS = {
    "what is nine plus four": "thirteen",
    "what is two plus three": "five",
    "what is seven plus five": "twelve",
}
HEARD = "twelve"  # the answer to the recording
VAD = {"type": "server_vad", "silence_duration_ms": 500}


class Wrong(Exception):  # noqa: N818
    """Something that must not happen."""


class Vanish(Exception):  # noqa: N818
    """This client leaves now, without a word."""


class Busy(Exception):  # noqa: N818
    """The server said so, as it may; this conversation is over."""


@dataclass
class Tally:
    """What all clients saw.

    Attributes:
        errors: What must not happen, by kind.
        busy: Documented refusals.
        turns: Turns that ended, by kind.
        text_s, audio_s: Seconds from the end of the user's turn, by kind.
    """

    errors: Counter[str] = field(default_factory=Counter)
    busy: Counter[str] = field(default_factory=Counter)
    turns: Counter[str] = field(default_factory=Counter)
    text_s: dict[str, list[float]] = field(default_factory=dict)
    audio_s: dict[str, list[float]] = field(default_factory=dict)


class Client:
    """One client, conversation after conversation.

    Args:
        address: ``ws://...``.
        pcm: The recording, pcm16 at 24 kHz.
        seed: Of its choices.
        tally: Where it counts.
        vanishing: How likely it vanishes in a turn.
        think_s: Mean time between turns.
    """

    def __init__(
        self, address: str, pcm: bytes, seed: int, tally: Tally, vanishing: float = 0.08, think_s: float = 2.0
    ) -> None:
        self._address, self._pcm, self._tally = address, pcm, tally
        self._random, self._vanishing, self._think_s = random.Random(seed), vanishing, think_s
        self._socket: ClientConnection

    async def run(self, until: float) -> None:
        """Talk until the monotonic clock says so."""
        await asyncio.sleep(self._random.uniform(0, 2))
        while time.monotonic() < until:
            try:
                async with connect(self._address, max_size=None, open_timeout=PATIENCE_S) as self._socket:
                    await self._conversation(until)
            except Vanish:
                self._tally.turns["vanished"] += 1
            except Busy:
                await asyncio.sleep(1)
            except InvalidStatus as refused:
                status = refused.response.status_code
                (self._tally.busy if status in (429, 503) else self._tally.errors)[f"status {status}"] += 1
                await asyncio.sleep(1)
            except Wrong as wrong:
                self._tally.errors[str(wrong)] += 1
            except (ConnectionClosed, OSError, TimeoutError) as error:
                self._tally.errors[f"{type(error).__name__}: {error}"[:150]] += 1
                await asyncio.sleep(1)

    async def _conversation(self, until: float) -> None:
        await self._next("session.created")
        spoken = self._random.choice(("vad", "push to talk"))
        turns = {"turn_detection": VAD if spoken == "vad" else None, "transcription": {"model": "nano"}}
        modality = "audio" if self._random.random() < 0.8 else "text"
        session = {"type": "realtime", "output_modalities": [modality], "audio": {"input": turns}}
        await self._send("session.update", session=session)
        await self._next("session.updated")
        self._asked, most = 0, self._random.randint(1, MOST_TURNS)
        while self._asked < most and time.monotonic() < until:
            kind = self._random.choice(("text", spoken, spoken))
            breaks_in = modality == "audio" and self._random.random() < 0.25 and self._asked < MOST_TURNS - 1
            await self._turn(kind, breaks_in)
            await asyncio.sleep(self._random.expovariate(1 / self._think_s))

    async def _turn(self, kind: str, breaks_in: bool) -> None:
        self._asked += 1
        if kind == "text":
            question, wanted = self._random.choice(list(QUESTIONS.items()))
            content = [{"type": "input_text", "text": question}]
            await self._send("conversation.item.create", item=_message(content))
        else:
            wanted = HEARD
            await self._speak(kind == "vad")
        if kind == "push to talk":
            await self._send("input_audio_buffer.commit")
        began = time.monotonic()
        if kind != "vad":
            await self._send("response.create")
        made = await self._answer(kind, began, breaks_in)
        if made is None and kind == "vad":  # who breaks in by speaking gets an answer to that
            self._asked += 1
            made = await self._answer("broken in", time.monotonic(), False)
        if made is None:
            return
        said = "".join(
            part.get("transcript") or part.get("text") or "" for part in made["output"][0]["content"]
        )
        if said != wanted:
            raise Wrong(f"the answer to {kind} is {said!r}, wanted {wanted!r}")

    async def _speak(self, silence: bool) -> None:
        """Send the recording as fast as it was spoken."""
        pcm = self._pcm + bytes(2 * HERTZ) if silence else self._pcm
        size, began = 2 * round(PIECE_S * HERTZ), time.monotonic()
        leaves = self._random.random() < self._vanishing / 2
        for number, at in enumerate(range(0, len(pcm), size)):
            await asyncio.sleep(max(0.0, began + PIECE_S * number - time.monotonic()))
            audio = base64.b64encode(pcm[at : at + size]).decode()
            await self._send("input_audio_buffer.append", audio=audio)
            if leaves and self._random.random() < 0.1:
                self._vanish()

    async def _answer(self, kind: str, began: float, breaks_in: bool) -> dict[str, Any] | None:
        """The response when it is done; None if it was broken off."""
        leaves, cancelled, num_samples, item = self._random.random() < self._vanishing, False, 0, ""
        first: set[str] = set()
        while True:
            event = await self._next()
            name = event["type"]
            if name == "input_audio_buffer.speech_stopped":
                began = time.monotonic() - VAD["silence_duration_ms"] / 1000
            for ending, times in (("transcript.delta", self._tally.text_s), ("text.delta", self._tally.text_s),
                                  ("output_audio.delta", self._tally.audio_s)):  # fmt: skip
                if name.startswith("response.") and name.endswith(ending) and ending not in first:
                    first.add(ending)
                    times.setdefault(kind, []).append(time.monotonic() - began)
            if name == "response.created" and leaves:
                await asyncio.sleep(self._random.uniform(0, 0.5))
                self._vanish()
            if name == "response.output_audio.delta":
                item, num_samples = event["item_id"], num_samples + len(base64.b64decode(event["delta"])) // 2
                if breaks_in and not cancelled:
                    cancelled = True
                    if kind == "vad":
                        await self._speak(True)
                    else:
                        await self._send("response.cancel")
            if name == "response.done":
                status = event["response"]["status"]
                self._tally.turns[f"{kind}: {status}"] += 1
                if status == "failed":
                    error = event["response"]["status_details"]["error"]
                    if error["code"] not in BUSY:
                        raise Wrong(f"{kind} failed: {error}")
                    self._tally.busy[error["code"]] += 1
                    raise Busy
                if cancelled and item:
                    await self._send(
                        "conversation.item.truncate", item_id=item, content_index=0,
                        audio_end_ms=500 * num_samples // HERTZ,
                    )  # fmt: skip
                    await self._next("conversation.item.truncated")
                    if kind == "vad" or status == "cancelled":
                        return None
                if status != "completed":
                    raise Wrong(f"{kind} is {status}")
                return dict(event["response"])

    async def _next(self, wanted: str = "") -> dict[str, Any]:
        """The next event, or the next of a kind."""
        while True:
            try:
                event = json.loads(await asyncio.wait_for(self._socket.recv(), PATIENCE_S))
            except TimeoutError:
                raise Wrong(f"no event in {PATIENCE_S:g} s, waiting for {wanted or 'an answer'}") from None
            if event["type"] == "error":
                code = event["error"]["code"]
                if code in BUSY:
                    self._tally.busy[code] += 1
                    raise Busy
                if code != "response_cancel_not_active":  # it was over in the meantime
                    raise Wrong(f"error event: {event['error']['message']}")
                continue
            if not wanted or event["type"] == wanted:
                return dict(event)

    async def _send(self, kind: str, **fields: Any) -> None:
        await self._socket.send(json.dumps({"type": kind, **fields}))

    def _vanish(self) -> None:
        self._socket.transport.abort()
        raise Vanish


def _message(content: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": content}


if __name__ == "__main__":
    alone = Client(sys.argv[1], sys.stdin.buffer.read(), int(sys.argv[2]), Tally(), vanishing=0.0)
    asyncio.run(alone.run(time.monotonic() + 3600))
