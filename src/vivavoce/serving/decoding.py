"""Uploaded audio to waveforms, in processes of their own: a bomb or a crash there costs one request."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

import vivavoce.base.errors
from vivavoce.serving.limits import Limits
from vivavoce.serving.refusals import Refusal

PROCESSES = 2
WANTED = "wanted wav, flac, ogg, opus or mp3"
START_S = 30.0  # more than the time limit: a process may have to start first


class Decoder:
    """A few processes that decode.

    Args:
        sample_rate: What the model hears at, Hz.
        resampler: As in ``audio.resample``.
        limits: Seconds of audio and of decoding.
        ffmpeg: Let uploads in other containers go through the ffmpeg program.
    """

    def __init__(self, sample_rate: int, resampler: str, limits: Limits, ffmpeg: bool = False) -> None:
        self.sample_rate, self._resampler, self._limits, self._ffmpeg = sample_rate, resampler, limits, ffmpeg
        self._idle: asyncio.Queue[asyncio.subprocess.Process | None] = asyncio.Queue()
        self._alive: set[asyncio.subprocess.Process] = set()
        for _ in range(PROCESSES):
            self._idle.put_nowait(None)

    async def start(self) -> None:
        """Start one process ahead of the first request."""
        await self._idle.get()
        self._idle.put_nowait(await self._new())

    async def close(self) -> None:
        """End all processes."""
        for process in list(self._alive):
            await self._killed(process)

    async def read(self, data: bytes, seconds_left: float | None = None, param: str = "file") -> np.ndarray:
        """Decode a file.

        Args:
            data: The file.
            seconds_left: Most seconds; default the limit of a request.
            param: The field, for messages.

        Returns:
            float32 [S] at ``sample_rate``.

        Raises:
            Refusal: 400, not a recording or a broken one; 413, too long.
        """
        most = self._limits.max_audio_s if seconds_left is None else seconds_left
        if not data:
            raise Refusal(400, f"{param} is empty (0 bytes); {WANTED}.", "invalid_audio", param)
        order = {
            "bytes": len(data),
            "sample_rate": self.sample_rate,
            "resampler": self._resampler,
            "max_seconds": most,
        }
        process = await self._idle.get()
        try:
            if process is None or process.returncode is not None:
                process = await asyncio.wait_for(self._new(), START_S)
            head, body = await asyncio.wait_for(self._ask(process, order, data), self._limits.decode_s)
        except TimeoutError:
            await self._killed(process)
            process = None
            limit = self._limits.decode_s
            raise Refusal(
                400, f"{param} took more than {limit:g} s to decode; {WANTED}.", "invalid_audio", param
            ) from None
        except (asyncio.IncompleteReadError, ConnectionError, json.JSONDecodeError):
            await self._killed(process)
            process = None
            raise Refusal(
                400, f"{param} broke the decoder; {WANTED}, written anew.", "invalid_audio", param
            ) from None
        except BaseException:  # the caller left: the process is in the middle of something
            await self._killed(process)
            process = None
            raise
        finally:
            self._idle.put_nowait(process)
        if "error" in head:
            message = head["error"]
            if "too long" in message:
                limit = self._limits.max_audio_s
                raise Refusal(
                    413, f"{param} has too much audio: at most {limit:g} s.", "audio_too_long", param
                )
            wanted = "" if "anted" in message else f" {WANTED[0].upper()}{WANTED[1:]}."
            raise Refusal(400, f"{param}: {message}{wanted}", "invalid_audio", param)
        return np.frombuffer(body, "<f4").copy()

    async def _ask(
        self, process: asyncio.subprocess.Process, order: dict[str, Any], data: bytes
    ) -> tuple[dict[str, Any], bytes]:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.write(data)
        await process.stdin.drain()
        head = json.loads(await process.stdout.readline())
        return head, await process.stdout.readexactly(4 * head.get("samples", 0))

    async def _new(self) -> asyncio.subprocess.Process:
        package = Path(vivavoce.base.errors.__file__).parents[2]
        environment = {"PYTHONPATH": str(package), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        # Without a path no ffmpeg is found: playlists and other odd containers cannot make it open files.
        environment["PATH"] = os.environ.get("PATH", "") if self._ffmpeg else ""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "vivavoce.serving.decode_process",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C in the terminal is for the server, which drains first
        )
        self._alive.add(process)
        return process

    async def _killed(self, process: asyncio.subprocess.Process | None) -> None:
        if process is None:
            return
        self._alive.discard(process)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def from_base64(text: str, param: str) -> bytes:
    """Bytes of a base64 text.

    Raises:
        Refusal: 400, it is something else.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(
            400, f"{param} is not base64 ({error}); encode the bytes of the file.", "invalid_base64", param
        ) from None
