"""How much one caller, one request and the whole server may use."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from vivavoce.base.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is refused; every refusal names the limit.

    Attributes:
        max_upload_bytes: Most bytes of a request body.
        max_audio_s: Most seconds of audio in one request, all clips together.
        max_clips: Most clips in one request.
        max_text_chars: Most characters of text in one request.
        max_speech_chars: Most characters to read aloud.
        max_tokens: Most new tokens of one answer that may be asked for.
        max_answers: Most answers to one question (``n``).
        slots: Requests that are worked on at once; they share the model's forwards.
        max_queue: Requests that may wait for a slot; more get status 503.
        max_wait_s: Longest wait in the queue, seconds; then status 503.
        max_work_s: Longest time the model works on one request, seconds; it is stopped at the next delta.
        max_concurrent: Requests of one caller at a time; more get status 429.
        requests_per_minute: Of one caller; more get status 429. 0 is no limit.
        upload_idle_s: Longest silence while a body is sent, seconds; then status 408.
        send_idle_s: Longest time a caller may take to read a piece of an answer, seconds; then it is cut.
        decode_s: Longest time to decode one upload, seconds.
        fetch_s: Longest time to fetch one ``audio_url``, seconds.
        drain_s: How long running requests may go on after SIGTERM, seconds.
        max_realtime: Realtime connections at a time; more get status 503.
        max_realtime_per_caller: Of one caller; more get status 429.
        max_session_s: Longest realtime connection, seconds.
        realtime_idle_s: Longest time without an event from a realtime client, seconds.
        max_event_bytes: Longest realtime event.
        max_events_per_s: Realtime events of one client that are read; floods wait.
        max_faults: Faulty realtime events in a row before the client is cut.
        max_items: Most items of a realtime conversation.
        max_session_audio_s: Most seconds of recordings in a realtime conversation.

    Raises:
        ConfigError: A limit that would refuse everything.
    """

    max_upload_bytes: int = 25 << 20
    max_audio_s: float = 300.0
    max_clips: int = 32
    max_text_chars: int = 200_000
    max_speech_chars: int = 4096
    max_tokens: int = 4096
    max_answers: int = 8
    slots: int = 8
    max_queue: int = 32
    max_wait_s: float = 60.0
    max_work_s: float = 300.0
    max_concurrent: int = 8
    requests_per_minute: int = 0
    upload_idle_s: float = 30.0
    send_idle_s: float = 60.0
    decode_s: float = 10.0
    fetch_s: float = 15.0
    drain_s: float = 30.0
    max_realtime: int = 64
    max_realtime_per_caller: int = 32
    max_session_s: float = 3600.0
    realtime_idle_s: float = 900.0
    max_event_bytes: int = 8 << 20
    max_events_per_s: float = 200.0
    max_faults: int = 100
    max_items: int = 1000
    max_session_audio_s: float = 1800.0

    def __post_init__(self) -> None:
        faults = [
            f"{field.name} is {getattr(self, field.name)}, wanted more than 0"
            for field in dataclasses.fields(self)
            if field.name not in ("max_queue", "requests_per_minute") and not getattr(self, field.name) > 0
        ]
        faults += [
            f"{name} is {getattr(self, name)}, wanted 0 or more"
            for name in ("max_queue", "requests_per_minute")
            if getattr(self, name) < 0
        ]
        if faults:
            raise ConfigError("limits: " + "; ".join(faults) + ".")
