"""Many threads on one model: each gets what it would get alone, whatever the others do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.inference import tiny
from tests.inference.talks import MISTRAL, feed, noise
from tests.models.pairs import assistant as pair

from vivavoce.base.errors import SessionError
from vivavoce.inference.assistant import Assistant
from vivavoce.inference.batching.batcher import Batcher
from vivavoce.inference.batching.calls import FrameDraw
from vivavoce.inference.collect import collect
from vivavoce.inference.generate import Decoding
from vivavoce.inference.sampling import Sampler, SamplingOptions
from vivavoce.inference.session import Session

MAKERS: dict[str, Callable[[], Assistant]] = {
    "tokens in": tiny.tokens_to_text,
    "tokens in and out": tiny.tokens_to_tokens,
    "embeddings in": tiny.embeddings_to_text,
    "embeddings in, tokens out": tiny.embeddings_to_tokens,
    "aligned by phones, read jointly": lambda: tiny.transcript_first(gate="joint", gate_floor=-1000.0),
    "aligned by words": lambda: tiny.transcript_first(gate=None, alignment="word"),
    "sliding window, by modules": lambda: pair("whisper by blocks + stack", text=MISTRAL),
}


class Patient(Batcher):
    """A batcher that serves when everybody who talks has asked: they meet for certain, however busy the machine."""

    def __init__(self, model: Any, talkers: int, block: int) -> None:
        self.talkers, self.until = talkers, time.monotonic() + 60
        super().__init__(model, block=block)

    def _collect(self, waiting: list[Any], met: int) -> bool:
        going = super()._collect(waiting, met)
        while going and len(waiting) < self.talkers and time.monotonic() < self.until:
            time.sleep(0.0005)
            going = super()._collect(waiting, 0)
        return going


def question(i: int) -> list[dict[str, Any]]:
    return [tiny.user(tiny.clip(0.3 + 0.1 * i, seed=i))]


@pytest.mark.parametrize("name", MAKERS)
def test_answers_together_are_answers_alone(name: str):
    plain = MAKERS[name]()
    options = [{"temperature": 0.8, "seed": i, "max_new_tokens": 10 + 5 * i} for i in range(4)]

    def answer(assistant: Assistant, i: int) -> Any:
        return assistant.chat(question(i), audio=assistant.speaks, **options[i])

    alone = [answer(plain, i) for i in range(4)]
    with Patient(plain.model, talkers=4, block=7) as batcher:
        assistant, counting = Assistant(plain.model, plain.processor, batcher=batcher), threading.Lock()

        def talk(i: int) -> Any:
            try:
                return answer(assistant, i)
            finally:
                with counting:
                    batcher.talkers -= 1

        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(talk, range(4)))
        assert batcher.num_requests > batcher.num_forwards  # they did meet
        assert batcher.open_sequences == 0
    assert len({reply.text + reply.transcript for reply in alone}) > 1
    for one, other in zip(together, alone, strict=True):
        assert (one.text, one.transcript, one.words) == (other.text, other.transcript, other.words)
        if plain.speaks:
            assert one.audio.shape == other.audio.shape
            assert np.abs(one.audio - other.audio).max(initial=0) < 1e-5


@settings(max_examples=8)
@given(
    schedules=st.lists(st.lists(st.integers(1, 20), min_size=1, max_size=5), min_size=2, max_size=5),
    maker=st.sampled_from([tiny.embeddings_to_text, tiny.tokens_to_text]),
)
def test_any_interleaving_gives_the_logits_of_each_alone(schedules: list[list[int]], maker: Any):
    model = maker().model
    cut = 3

    def run(calls: Any, number: int) -> list[torch.Tensor]:
        decoding, generator = Decoding(model, calls), torch.Generator().manual_seed(number)
        found = []
        for size in schedules[number]:
            ids = torch.randint(0, 200, (size,), generator=generator).tolist()
            found.append(decoding.feed(ids).clone())
            if size % 4 == cut:
                decoding.crop(max(1, len(decoding) - cut))
        return found

    alone = [run(None, i) for i in range(len(schedules))]
    with Batcher(model, block=6) as batcher, ThreadPoolExecutor(len(schedules)) as pool:
        together = list(pool.map(lambda i: run(batcher, i), range(len(schedules))))
        assert batcher.open_sequences == 0
    for one, other in zip(together, alone, strict=True):
        assert (torch.stack(one) - torch.stack(other)).abs().max() < 1e-5 * max(
            1, torch.stack(other).abs().max()
        )


class Held(Batcher):
    """A batcher whose thread waits until it is let go, so that what is asked meanwhile meets for certain."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.go = threading.Event()
        threading.Thread(target=self.do, args=(self.go.wait,), daemon=True).start()
        while not self.num_forwards:
            time.sleep(0.001)

    def together(self, *works: Callable[[], Any]) -> list[Any]:
        def guarded(work: Callable[[], Any]) -> Any:
            try:
                return work()
            except IndexError as error:
                return error

        with ThreadPoolExecutor(len(works)) as pool:
            asked = [pool.submit(guarded, work) for work in works]
            while self._queue.qsize() < len(works):
                time.sleep(0.001)
            self.go.set()
            return [future.result() for future in asked]


def test_a_row_that_fails_does_not_hurt_the_others():
    model = tiny.tokens_to_text().model
    rows = [Decoding(model) for _ in range(3)]
    with Held(model) as batcher:
        together = [Decoding(model, batcher) for _ in range(3)]
        found = batcher.together(
            *(lambda d=d, i=i: d.feed([5 + i] if i != 1 else [10**6]) for i, d in enumerate(together))
        )
        assert isinstance(found[1], IndexError)
        assert len(together[1]) == 0
        for i in (0, 2):
            assert (found[i] - rows[i].feed([5 + i])).abs().max() < 1e-5
        assert (together[1].feed([6]) - rows[1].feed([6])).abs().max() < 1e-5


def test_requests_that_wait_go_in_one_forward():
    model = tiny.tokens_to_text().model
    with Held(model) as batcher:
        decodings = [Decoding(model, batcher) for _ in range(4)]
        sizes = (1, 9, 1, 3)
        found = batcher.together(*(partial(d.feed, [7] * n) for d, n in zip(decodings, sizes, strict=True)))
        assert batcher.num_forwards == 2  # the one that held the thread, and theirs
        for n, logits in zip(sizes, found, strict=True):
            assert (logits - Decoding(model).feed([7] * n)).abs().max() < 1e-5


def test_others_step_between_the_blocks_of_a_long_prefill():
    model = tiny.tokens_to_text().model
    order: list[int] = []
    with Batcher(model, block=8) as batcher:
        feeding = batcher._feed

        def noted(requests: Any) -> Any:
            order.extend(len(row) for rows in requests for row in rows)
            end = time.monotonic() + 20  # however busy: the other asks before the first block is through
            while order.count(8) == 1 and batcher._queue.empty() and time.monotonic() < end:
                time.sleep(0.001)
            return feeding(requests)

        batcher._feed = noted  # type: ignore[method-assign]
        done = threading.Event()

        def read() -> torch.Tensor:
            try:
                return Decoding(model, batcher).feed(list(range(100)))
            finally:
                done.set()

        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(read)
            other = Decoding(model, batcher)
            while not done.is_set():
                other.feed([3])
            assert (reading.result() - Decoding(model).feed(list(range(100)))).abs().max() < 1e-4
    blocks = [i for i, size in enumerate(order) if size > 1]
    assert len(blocks) == 13
    assert 1 in order[blocks[0] : blocks[-1]]


def test_frames_are_drawn_with_each_rows_own_seed_and_temperature():
    assistant = tiny.transcript_first(gate=None)
    voice = assistant.model.voice
    states = torch.randn(4, 1, 32, generator=torch.Generator().manual_seed(0))
    heats = (0.0, 1.0, 2.0, 1.0)

    def draw(calls: Any, i: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(i)
        return torch.stack(
            [calls.draw_frame(FrameDraw(voice, states[i], heats[i], generator)) for _ in range(3)]
        )

    alone = [draw(assistant.calls, i) for i in range(4)]
    with Batcher(assistant.model) as batcher, ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda i: draw(batcher, i), range(4)))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
    assert not torch.equal(alone[1], alone[3])


def test_samplers_are_each_ones_own():
    model = tiny.tokens_to_text().model

    def write(calls: Any, seed: int) -> list[int]:
        decoding, sampler = Decoding(model, calls), Sampler(SamplingOptions(temperature=1.0, seed=seed))
        logits = decoding.feed([1, 2])
        for _ in range(12):
            logits = decoding.feed([sampler(logits, decoding.ids)])
        return decoding.ids

    alone = [write(None, i) for i in range(5)]
    with Batcher(model) as batcher, ThreadPoolExecutor(5) as pool:
        assert list(pool.map(lambda i: write(batcher, i), range(5))) == alone
    assert len({tuple(ids) for ids in alone}) == 5


@pytest.mark.parametrize(
    "name", ["embeddings in, tokens out", "aligned by phones, read jointly", "aligned by words"]
)
def test_answers_that_are_broken_off_give_back_their_sequence(name: str):
    plain = MAKERS[name]()
    with Batcher(plain.model) as batcher:
        assistant = Assistant(plain.model, plain.processor, batcher=batcher)
        for ending in ("close", "drop", "exception"):
            deltas = assistant.stream(question(0), audio=True, temperature=0.8, seed=1, max_new_tokens=40)
            for _ in range(3):
                next(deltas)
            assert batcher.open_sequences > 0
            if ending == "close":
                deltas.close()
            elif ending == "exception":
                with pytest.raises(KeyError):
                    deltas.throw(KeyError("gone"))
            del deltas
            assert batcher.open_sequences == 0, ending


def test_a_thread_that_dies_gives_back_its_sequence():
    plain = tiny.embeddings_to_text()
    with Batcher(plain.model) as batcher:
        assistant = Assistant(plain.model, plain.processor, batcher=batcher)

        def die() -> None:
            for _ in assistant.stream(question(0), temperature=0.9, seed=0, max_new_tokens=30):
                raise KeyboardInterrupt

        def quiet() -> None:
            with pytest.raises(KeyboardInterrupt):
                die()

        thread = threading.Thread(target=quiet)
        thread.start()
        thread.join()
        assert batcher.open_sequences == 0


def test_sessions_of_one_assistant_talk_at_once():
    plain = tiny.tokens_to_tokens()

    def talk(assistant: Assistant, i: int) -> list[Any]:
        session, replies = Session(assistant, temperature=0.9, seed=i, max_new_tokens=20), []
        for turn in range(2):
            feed(session, noise(0.3 + 0.1 * i, 16_000, seed=turn), 16_000, [0.3, 0.7])
            replies.append(collect(session.respond(audio=True), assistant.sample_rate))
        session.interrupt(0.0)
        session.reset()
        return replies

    alone = [talk(plain, i) for i in range(3)]
    with Batcher(plain.model) as batcher:
        assistant = Assistant(plain.model, plain.processor, batcher=batcher)
        with ThreadPoolExecutor(3) as pool:
            together = list(pool.map(lambda i: talk(assistant, i), range(3)))
        assert batcher.open_sequences == 0
    for one, other in zip(together, alone, strict=True):
        assert [r.text for r in one] == [r.text for r in other]
        assert all(np.abs(a.audio - b.audio).max(initial=0) < 1e-5 for a, b in zip(one, other, strict=True))


def test_a_closed_batcher_refuses_and_nobody_hangs():
    model = tiny.tokens_to_text().model
    batcher = Held(model)
    decoding = Decoding(model, batcher)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(decoding.feed, [1])
        while not batcher._queue.qsize():
            time.sleep(0.001)
        closing = threading.Thread(target=batcher.close)
        closing.start()
        batcher.go.set()
        closing.join()
        with suppress(SessionError):  # it came in time, or not
            assert waiting.result(timeout=5) is not None
    with pytest.raises(SessionError, match="closed"):
        decoding.feed([2])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_a_thread_that_died():
    model = tiny.tokens_to_text().model
    batcher = Batcher(model)

    def die() -> None:
        raise SystemExit

    with pytest.raises(SessionError, match="closed"):
        batcher.do(die)
    with pytest.raises(SessionError, match="closed"):
        batcher.do(lambda: 1)
