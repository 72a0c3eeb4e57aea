"""Opening a model for the verbs that talk, and what they all say about an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vivavoce.cli.screen import working

if TYPE_CHECKING:
    from vivavoce.inference.assistant import Assistant
    from vivavoce.inference.reply import Reply


def open_assistant(model: str, quantize: str | None = None, device: str | None = None) -> Assistant:
    """Load a model, with a spinner on terminals.

    Raises:
        VivavoceError: As ``vivavoce.load``.
    """
    with working(f"loading {model}"):
        from vivavoce.inference.assistant import load

        return load(model, quantize=quantize, device=device)


def reply_row(reply: Reply, model: str, out: str | None) -> dict[str, Any]:
    """What --json says of an answer."""
    seconds = None
    if reply.audio is not None and reply.sample_rate:
        seconds = len(reply.audio) / reply.sample_rate
    return {
        "model": model,
        "transcript": reply.transcript or None,
        "understood": reply.understood,
        "text": reply.text,
        "audio": out,
        "seconds": seconds,
        "words": [[word, start, end] for word, start, end in reply.words],
        "timings": dict(reply.timings),
    }


def timing_rows(timings: dict[str, float]) -> list[tuple[str, str]]:
    """The timings of an answer for a table: milliseconds, seconds and the real-time factor."""
    rows = [
        (what, f"{1000 * timings[key]:.0f} ms")
        for key, what in (
            ("transcript_s", "transcript"),
            ("ttft_s", "first token of the answer"),
            ("first_audio_s", "first audio"),
            ("total_s", "whole answer"),
        )
        if key in timings
    ]
    if "audio_s" in timings:
        rows.append(("length of the spoken answer", f"{timings['audio_s']:.2f} s"))
    if "rtf" in timings:
        rows.append(("real-time factor", f"{timings['rtf']:.2f} (below 1 is faster than real time)"))
    return rows
