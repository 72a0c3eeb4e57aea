"""The process that decodes uploads: no network, no ffmpeg unless allowed, little memory, killed when it is slow.

Protocol on stdin and stdout: a line of JSON, then raw bytes. In: ``{"bytes", "sample_rate", "resampler",
"max_seconds"}`` and the file. Out: ``{"samples"}`` and float32 samples, or ``{"error"}``.
"""

from __future__ import annotations

import json
import sys
from typing import Any, BinaryIO

from vivavoce.base.errors import MissingExtraError, VivavoceError

MEMORY_BYTES = 2 << 30


def serve(source: BinaryIO, target: BinaryIO) -> None:
    """Decode one file after another until the input ends."""
    while line := source.readline():
        order = json.loads(line)
        data = source.read(order["bytes"])
        if len(data) < order["bytes"]:
            return
        head, body = _decoded(order, data)
        target.write(json.dumps(head).encode() + b"\n" + body)
        target.flush()


def _decoded(order: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    from vivavoce.audio.files import read_audio

    try:
        waveform, _ = read_audio(
            data, order["sample_rate"], max_seconds=order["max_seconds"], resampler=order["resampler"]
        )
    except MissingExtraError:
        return {"error": "the audio is in a container this server does not read."}, b""
    except VivavoceError as error:
        return {"error": str(error)}, b""
    except (MemoryError, ValueError, RuntimeError) as error:
        return {"error": f"the audio cannot be decoded ({type(error).__name__})."}, b""
    return {"samples": len(waveform)}, waveform.astype("<f4").tobytes()


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not on this system
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    _limit_memory()
    serve(sys.stdin.buffer, sys.stdout.buffer)
