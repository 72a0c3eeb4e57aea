"""One client: its events in, its conversation, its responses."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from typing import Any

from vivavoce.base.errors import VivavoceError
from vivavoce.inference.reply import Delta
from vivavoce.serving.realtime import client_events as ce
from vivavoce.serving.realtime import settings as st
from vivavoce.serving.realtime.context import item_of, plan_of
from vivavoce.serving.realtime.hearing import Hearing, Recording
from vivavoce.serving.realtime.items import History, Item, Items
from vivavoce.serving.realtime.outbox import Fault, Outbox, error_of, new_id
from vivavoce.serving.realtime.response import Plan, Response
from vivavoce.serving.realtime.talk import Lane, Talk, done
from vivavoce.serving.realtime.transcripts import Transcripts
from vivavoce.serving.refusals import Refusal, as_refusal
from vivavoce.serving.service import Service

log = logging.getLogger("vivavoce.serving")

MOST_DETACHED = 4  # responses beside the conversation at a time
FULL = 0.8  # part of the model's positions that a conversation may take before the oldest items are left out


class Connection:
    """Everything of one client but the socket.

    Args:
        service: The model and what belongs to it.
        outbox: Where events go.
        hearing: Threads for the detectors of speech.
        spend: Counts a response of the caller and gives what is left; refuses over the rate.

    Attributes:
        id: Of the session.
        responses: Under way.
    """

    def __init__(
        self, service: Service, outbox: Outbox, hearing: Executor, spend: Callable[[], list[dict[str, Any]]]
    ) -> None:
        engine, limits = service.engine, service.limits
        self._service, self._engine, self._limits, self._outbox = service, engine, limits, outbox
        self._spend = spend
        self.id, self._conversation_id = new_id("sess"), new_id("conv")
        self._expires_at = int(time.time() + limits.max_session_s)
        self._settings = st.first(engine)
        self._items = Items(limits.max_items, limits.max_session_audio_s)
        self._talk, self._lane = Talk(engine), Lane(service.worker)
        self._transcripts = Transcripts(service, outbox)
        self._hearing = Hearing(self._settings.audio.input, limits, hearing, self)
        self._tasks: set[asyncio.Task[None]] = set()
        self._feeding = False
        self._active: Response | None = None
        self._again: Plan | None = None
        self._detached: dict[str, Response] = {}
        self._heard: Recording | None = None  # the last recording that was committed
        self.num_responses = 0
        self._handlers: dict[str, Callable[[Any], Any]] = {
            "session.update": self._update,
            "input_audio_buffer.append": self._append,
            "input_audio_buffer.commit": lambda event: self._hearing.commit(),
            "input_audio_buffer.clear": self._clear,
            "conversation.item.create": self._create,
            "conversation.item.retrieve": self._retrieve,
            "conversation.item.truncate": self._truncate,
            "conversation.item.delete": self._delete,
            "response.create": self._respond,
            "response.cancel": self._cancel,
            "output_audio_buffer.clear": self._clear_output,
        }
        outbox.send("session.created", session=self._fields())

    @property
    def busy(self) -> bool:
        """Whether a response is under way."""
        return self._active is not None or bool(self._detached)

    async def take(self, given: Any) -> bool:
        """Do what a message asks for; what cannot be done becomes an error event. Says whether it was done."""
        event_id = given.get("event_id") if isinstance(given, dict) else None
        try:
            event = ce.read_event(given)
            made = self._handlers[event.type](event)
            if asyncio.iscoroutine(made):
                await made
            return True
        except (Fault, Refusal) as fault:
            self._error(fault, event_id)
        except VivavoceError as error:
            self._error(as_refusal(error), event_id)
        return False

    async def close(self) -> None:
        """Stop everything that is under way and let go of the session."""
        for response in (self._active, *self._detached.values()):
            if response is not None:
                response.stop.set()
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._transcripts.close()
        self._talk.close()
        self._handlers.clear()

    # session

    def _fields(self) -> dict[str, Any]:
        return self._settings.fields(self._engine, self.id, self._expires_at)

    def _update(self, event: ce.SessionUpdate) -> None:
        new = st.updated(self._settings, event.session, self._engine, self._limits)
        self._hearing.change(new.audio.input)
        self._settings = new
        self._outbox.send("session.updated", session=self._fields())

    # what the user says

    async def _append(self, event: ce.Append) -> None:
        if not self._engine.hears:
            raise Fault(f"{self._engine.name} does not hear; send text.", "unsupported_value", "audio")
        await self._hearing.append(event.audio)

    def _clear(self, event: ce.Plain) -> None:
        self._hearing.clear()
        self._outbox.send("input_audio_buffer.cleared")

    def speech_started(self, item_id: str, at_ms: int) -> None:
        """The user speaks: what is being answered gives way."""
        self._outbox.send("input_audio_buffer.speech_started", audio_start_ms=at_ms, item_id=item_id)
        detection = self._settings.audio.input.turn_detection
        if detection is not None and detection.interrupt_response:
            self._again = None
            if self._active is not None:
                self._active.cancel("turn_detected")

    def speech_stopped(self, item_id: str, at_ms: int) -> None:
        """The user has ended."""
        self._outbox.send("input_audio_buffer.speech_stopped", audio_end_ms=at_ms, item_id=item_id)

    def timed_out(self, item_id: str, begin_ms: int, end_ms: int) -> None:
        """Nobody spoke for long."""
        self._outbox.send(
            "input_audio_buffer.timeout_triggered",
            item_id=item_id,
            audio_start_ms=begin_ms,
            audio_end_ms=end_ms,
        )

    def grew(self) -> None:
        """A recording has more samples: let the model hear them."""
        if not self._feeding:
            self._feeding = True
            self._start(self._feed())

    async def _feed(self) -> None:
        def listen() -> Callable[[], Iterator[None]] | None:
            self._feeding = False
            recording = self._hearing.recording
            if recording is None:
                return None
            pieces, history = tuple(recording.pieces), self._history()
            return lambda: self._talk.listen(history, recording.item_id, pieces, recording.rate)

        try:
            await self._lane.run(listen, lambda _: None)
        except (Refusal, VivavoceError) as error:
            # The answer hears all of it; what is lost is only the head start.
            log.info("not heard early", extra={"fields": {"session": self.id, "type": type(error).__name__}})
        finally:
            self._feeding = False

    def committed(self, recording: Recording, automatic: bool) -> None:
        """A recording is whole: it becomes an item and, where that was asked for, a question."""
        item = recording.item()
        before = self._items.add(item)
        self._heard = recording
        self._outbox.send("input_audio_buffer.committed", item_id=item.id, previous_item_id=before)
        self._added(item, before)
        if self._settings.audio.input.transcription is not None:
            self._transcripts.expect(item)
        detection = self._settings.audio.input.turn_detection
        if automatic and detection is not None and detection.create_response:
            plan = Plan(self._settings, item)
            if self._active is not None and not self._active.ended:
                self._again = plan  # interrupt_response is off: the answer to this follows
            else:
                self._begin(plan)

    # items

    def _added(self, item: Item, before: str | None) -> None:
        self._outbox.send("conversation.item.added", item=item.fields(), previous_item_id=before)
        self._outbox.send("conversation.item.done", item=item.fields(), previous_item_id=before)

    async def _create(self, event: ce.ItemCreate) -> None:
        item = await asyncio.to_thread(
            item_of, event.item, self._settings, self._engine, self._limits, "item"
        )
        before = self._items.add(item, event.previous_item_id)
        self._added(item, before)

    async def _retrieve(self, event: ce.ItemNamed) -> None:
        fields = await asyncio.to_thread(self._items.find(event.item_id).fields, True)
        self._outbox.send("conversation.item.retrieved", item=fields)

    def _truncate(self, event: ce.Truncate) -> None:
        item = self._items.find(event.item_id)
        if self._active is not None and self._active.item is item:
            self._active.cancel("client_cancelled")
        item.truncate(event.content_index, event.audio_end_ms)
        self._outbox.send(
            "conversation.item.truncated",
            item_id=item.id,
            content_index=event.content_index,
            audio_end_ms=event.audio_end_ms,
        )

    def _delete(self, event: ce.ItemNamed) -> None:
        item = self._items.find(event.item_id)
        if item.status == "in_progress":
            raise Fault(
                f"item {item.id} is being made; cancel its response first.", "item_in_progress", "item_id"
            )
        self._items.remove(item.id)
        self._transcripts.forget(item)
        self._outbox.send("conversation.item.deleted", item_id=item.id)

    def _history(self, end: Item | None = None, settings: st.Settings | None = None) -> History:
        said = (settings or self._settings).instructions
        first: History = [(("instructions", hash(said)), {"role": "system", "content": said})] if said else []
        return first + self._items.history(end)

    # responses

    def _clear_output(self, event: ce.Plain) -> None:
        raise Fault(
            "output_audio_buffer.clear is for WebRTC; over a WebSocket the client holds the audio: stop playing it, "
            "send response.cancel and conversation.item.truncate.",
            "unsupported_event",
            "type",
        )

    def _cancel(self, event: ce.ResponseCancel) -> None:
        wanted = event.response_id
        if wanted in self._detached:
            self._detached[wanted].cancel("client_cancelled")
        elif self._active is not None and not self._active.ended and wanted in (None, self._active.id):
            self._active.cancel("client_cancelled")
        else:
            raise Fault("no such response is under way.", "response_cancel_not_active", "response_id")

    def _respond(self, event: ce.ResponseCreate) -> None:
        given = event.response or ce.ResponseIn()
        if given.conversation == "none":
            if len(self._detached) >= MOST_DETACHED:
                raise Fault(
                    f"{MOST_DETACHED} responses outside the conversation are under way, the most allowed.",
                    "too_many_responses",
                )
        elif self._active is not None and not self._active.ended:
            raise Fault(
                f"response {self._active.id} is under way; wait for response.done, or send response.cancel.",
                "conversation_already_has_active_response",
            )
        plan = plan_of(given, self._settings, self._engine, self._limits, self._items)
        self._begin(plan)

    def _begin(self, plan: Plan) -> None:
        if plan.in_conversation:
            self._items.check_room()
        limits = self._spend()
        self.num_responses += 1
        hertz = self._engine.speaking_hz if plan.settings.speaks else 0
        response = Response(plan, self._outbox, self._items, self._conversation_id, hertz)
        if plan.in_conversation:
            self._active = response
        else:
            self._detached[response.id] = response
        if limits:
            self._outbox.send("rate_limits.updated", rate_limits=limits)
        self._start(self._run(response))

    async def _run(self, response: Response) -> None:
        question = response.plan.question
        try:
            if question is None:
                await done(self._service.worker, lambda: self._apart(response), response.take)
            else:
                await self._lane.run(
                    lambda: self._answer(response, question), lambda delta: self._brought(response, delta)
                )
            response.complete()
        except Exception as error:  # noqa: BLE001  (told to the client; what is unexpected is logged)
            response.fail(as_refusal(error, self.id))
        finally:
            self._detached.pop(response.id, None)
            if self._active is response:
                self._active = None
        self._service.metrics.realtime_done(response.status, response.ttft_s, response.first_audio_s)
        if question is not None:
            self._transcripts.settle(question)
        self._hearing.quiet_after(response.seconds)
        self._keep_short(response)
        plan, self._again = self._again, None
        if plan is not None:
            self._begin_or_say(plan)

    def _brought(self, response: Response, delta: Delta) -> None:
        assert response.plan.question is not None
        self._transcripts.take(response.plan.question, delta)
        response.take(delta)

    def _begin_or_say(self, plan: Plan) -> None:
        try:
            self._begin(plan)
        except (Fault, Refusal) as fault:
            self._error(fault)

    def _keep_short(self, response: Response) -> None:
        """Leave the oldest items out of what the model reads before they are too many for it."""
        longest, kept = self._engine.longest, self._settings.truncation
        if longest is None or kept == "disabled" or not response.plan.in_conversation:
            return
        if response.num_tokens > FULL * longest:
            self._items.leave_out(0.5 if isinstance(kept, str) else 1 - kept.retention_ratio)

    def _answer(self, response: Response, question: Item) -> Callable[[], Iterator[Delta]]:
        """Work that answers an item in the conversation as it is when the work begins."""
        settings = response.plan.settings
        history = self._history(question, settings)
        asked = question.key, question.message()
        recording = self._heard
        pieces = recording.pieces if recording is not None and recording.item_id == question.id else ()
        options = self._options(settings)
        self._transcripts.begin(question)
        return lambda: self._talk.answer(
            history, asked, response.item.id, pieces, settings.speaks, settings.voice, options, response.stop
        )

    def _apart(self, response: Response) -> Iterator[Delta]:
        plan, settings = response.plan, response.plan.settings
        assert plan.context is not None
        deltas = self._engine.chat(plan.context, settings.speaks, settings.voice, self._options(settings))
        for delta in deltas:
            yield delta
            if response.stop.is_set():
                return

    def _options(self, settings: st.Settings) -> dict[str, Any]:
        most = settings.max_output_tokens
        return {} if most == "inf" else {"max_new_tokens": most}

    # tasks

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _error(self, fault: Fault | Refusal, event_id: Any = None) -> None:
        named = event_id if isinstance(event_id, str) else None
        self._outbox.send("error", error=error_of(fault, named))
