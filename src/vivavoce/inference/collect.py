"""Deltas to a whole reply, with its timings."""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np

from vivavoce.inference.reply import Delta, Reply


def collect(deltas: Iterable[Delta], sample_rate: int | None = None) -> Reply:
    """Join the pieces of an answer and time their arrival, from the call on.

    Args:
        deltas: As a stream gives them.
        sample_rate: Of the spoken answer, Hz; None if it was not to be spoken.
    """
    began = time.perf_counter()
    reply, pieces, timings = Reply(sample_rate=sample_rate), [], {}
    for delta in deltas:
        now = time.perf_counter() - began
        if delta.transcript:
            reply.transcript += delta.transcript
            timings["transcript_s"] = now
        if delta.text:
            reply.text += delta.text
            timings.setdefault("ttft_s", now)
        if delta.audio is not None and len(delta.audio):
            pieces.append(delta.audio)
            timings.setdefault("first_audio_s", now)
        if delta.word is not None:
            reply.words.append(delta.word)
        reply.understood &= delta.understood
        reply.finish = delta.finish or reply.finish
    reply.text, reply.transcript = reply.text.strip(), reply.transcript.strip()
    timings["total_s"] = time.perf_counter() - began
    if sample_rate:
        reply.audio = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
        timings["audio_s"] = len(reply.audio) / sample_rate
        if timings["audio_s"]:
            timings["rtf"] = timings["total_s"] / timings["audio_s"]
    reply.timings = timings
    return reply
