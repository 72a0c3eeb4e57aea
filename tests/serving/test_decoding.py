"""Uploads are decoded elsewhere: what breaks, hangs or bursts there costs one request."""

from __future__ import annotations

import asyncio
import io
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

pytest.importorskip("fastapi")

from vivavoce.audio.files import read_audio
from vivavoce.serving import decode_process
from vivavoce.serving.decoding import Decoder, from_base64
from vivavoce.serving.limits import Limits
from vivavoce.serving.refusals import Refusal


def wav(seconds: float, rate: int = 8000, channels: int = 1) -> bytes:
    file = io.BytesIO()
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (round(seconds * rate), channels))
    soundfile.write(file, samples, rate, format="WAV")
    return file.getvalue()


def with_decoder(use: Callable[[Decoder], Awaitable[Any]], **limits: Any) -> Any:
    async def main() -> Any:
        decoder = Decoder(16000, "soxr", Limits(**limits))
        try:
            return await use(decoder)
        finally:
            await decoder.close()
            assert not decoder._alive

    return asyncio.run(main())


def test_it_gives_what_reading_gives() -> None:
    async def use(decoder: Decoder) -> None:
        files = [wav(0.5), wav(0.3, 44100, 2)] * 3
        found = await asyncio.gather(*(decoder.read(f) for f in files))
        for file, samples in zip(files, found, strict=True):
            assert np.array_equal(samples, read_audio(file, 16000)[0])

    with_decoder(use)


def test_a_killed_process_costs_one_request() -> None:
    async def use(decoder: Decoder) -> None:
        await decoder.start()
        (process,) = decoder._alive
        process.kill()
        for _ in range(4):  # the others of the pool, and the dead one found out
            try:
                await decoder.read(wav(0.2))
            except Refusal as refusal:
                assert refusal.status_code == 400 and "broke the decoder" in refusal.detail
        assert len(await decoder.read(wav(0.2))) == 3200

    with_decoder(use)


def test_a_process_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    start = asyncio.create_subprocess_exec

    async def hanging(*arguments: Any, **settings: Any) -> Any:
        return await start(sys.executable, "-c", "import time; time.sleep(60)", **settings)

    async def use(decoder: Decoder) -> None:
        monkeypatch.setattr(asyncio, "create_subprocess_exec", hanging)
        with pytest.raises(Refusal, match=r"more than 0\.5 s"):
            await decoder.read(wav(30.0))  # more than a pipe holds
        assert not decoder._alive
        monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
        decoder._limits = Limits()
        assert len(await decoder.read(wav(0.2))) == 3200

    with_decoder(use, decode_s=0.5)


def test_a_caller_who_leaves_takes_no_process_away() -> None:
    async def use(decoder: Decoder) -> None:
        for _ in range(3):
            task = asyncio.create_task(decoder.read(wav(20.0)))
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert decoder._idle.qsize() == 2
        assert len(await decoder.read(wav(0.2))) == 3200

    with_decoder(use)


def test_lengths() -> None:
    async def use(decoder: Decoder) -> None:
        assert len(await decoder.read(wav(1.9))) == 30400
        for data, left in ((wav(2.1), None), (wav(1.0), 0.5)):
            with pytest.raises(Refusal) as caught:
                await decoder.read(data, left)
            assert (caught.value.status_code, caught.value.code) == (413, "audio_too_long")

    with_decoder(use, max_audio_s=2.0)


def test_the_process_sees_no_programs_and_little_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIVAVOCE_API_KEYS", "a secret key")
    seen: dict[str, str] = {}
    start = asyncio.create_subprocess_exec

    async def noted(*arguments: Any, **settings: Any) -> Any:
        seen.update(settings["env"])
        return await start(*arguments, **settings)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)

    async def use(decoder: Decoder) -> None:
        with pytest.raises(Refusal, match="container"):
            await decoder.read(b"\0\0\0\x20ftypM4A " + bytes(100))

    with_decoder(use)
    assert seen["PATH"] == "" and "secret" not in "".join(seen.values())


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are kept on Linux")
@pytest.mark.parametrize("allowed", [False, True])
def test_ffmpeg_is_named_where_it_is_allowed(
    allowed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for program in ("ffmpeg", "ffprobe"):
        (tmp_path / program).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    async def main() -> None:
        decoder = Decoder(16000, "soxr", Limits(), ffmpeg=allowed)
        try:
            with pytest.raises(Refusal) as refused:
                await decoder.read(b"hello there " * 40)
        finally:
            await decoder.close()
        assert "anted wav, flac, ogg, opus" in refused.value.detail
        assert ("anything ffmpeg reads" in refused.value.detail) == allowed

    asyncio.run(main())


def test_memory_is_limited() -> None:
    import subprocess

    code = (
        "from vivavoce.serving import decode_process as d; d._limit_memory()\n"
        "try:\n    bytes(3 << 30)\nexcept MemoryError:\n    print('refused')"
    )
    source = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": source}
    )
    assert done.stdout == "refused\n", done.stderr
    assert decode_process.MEMORY_BYTES <= 2 << 30


def test_many_random_bytes() -> None:
    generator = np.random.default_rng(7)
    heads = (
        b"",
        b"RIFF\x24\0\0\0WAVEfmt ",
        b"fLaC\0\0\0\x22",
        b"OggS\0\x02",
        b"ID3\x04",
        b"\xff\xfb\x90\x00",
        b"FORM",
    )

    async def use(decoder: Decoder) -> None:
        for n in range(70):
            data = heads[n % len(heads)] + generator.bytes(int(generator.integers(0, 4000)))
            try:
                await decoder.read(data)
            except Refusal as refusal:
                assert refusal.status_code in (400, 413)
        assert len(await decoder.read(wav(0.2))) == 3200

    with_decoder(use)


def test_base64() -> None:
    assert from_base64("AAEC", "x") == b"\0\1\2"
    for text in ("AAE", "A*AA", "é===", "AAEC\n AAEC"):
        with pytest.raises(Refusal, match="x is not base64"):
            from_base64(text, "x")
