"""Files that are none, lie about themselves or burst: a status that says so, and nobody else notices."""

from __future__ import annotations

import base64
import io
import zipfile

import httpx
import numpy as np
import pytest
from tests.serving.abuse.attacks import a_good_client, flac_that_claims, resident_mb, wav_that_claims, written
from tests.serving.live import Live

HEADS = (
    b"",
    b"RIFF\x24\0\0\0WAVEfmt ",
    b"fLaC\0\0\0\x22",
    b"OggS\0\x02",
    b"ID3\x04",
    b"\xff\xfb\x90\x00",
    b"PK\3\4",
)


def transcribe(live: Live, data: bytes) -> httpx.Response:
    return httpx.post(
        f"{live.root}/v1/audio/transcriptions",
        files={"file": ("x.wav", data)},
        data={"model": "nano"},
        headers={"Authorization": f"Bearer {live.key}"},
        timeout=60,
    )


def chat(live: Live, text: str) -> httpx.Response:
    part = {"type": "input_audio", "input_audio": {"data": text, "format": "wav"}}
    return httpx.post(
        f"{live.root}/v1/chat/completions",
        json={"model": "nano", "messages": [{"role": "user", "content": [part]}]},
        headers={"Authorization": f"Bearer {live.key}"},
        timeout=60,
    )


def bombs() -> dict[str, tuple[bytes, tuple[int, ...]]]:
    """Files and the statuses that fit them."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.wav", bytes(100 << 20))
    hour = np.zeros(16000 * 3600, np.int16)
    return {
        "zip": (archive.getvalue(), (400,)),
        "an hour of silence as FLAC": (written(hour, 16000, "FLAC"), (413,)),
        "ten hours at 4 Hz as FLAC": (written(np.zeros(4 * 36000, np.int16), 4, "FLAC"), (400, 413)),
        "FLAC that claims days": (flac_that_claims(10**5), (400, 413)),
        "wav that claims days": (wav_that_claims(60_000), (400, 413)),
        "ogg of silence": (written(hour[: 16000 * 120].astype(np.float32), 16000, "OGG"), (413,)),
        "many channels": (written(np.zeros((4000, 200), np.int16), 8000, "WAV")[:390_000], (200, 400, 413)),
    }


@pytest.mark.parametrize("name", sorted(bombs()))
def test_bombs(live: Live, name: str) -> None:
    data, statuses = bombs()[name]
    before = resident_mb()
    with a_good_client(live):
        found = transcribe(live, data)
    assert found.status_code in (*statuses, 413 if len(data) > 390_000 else statuses[0]), found.text
    assert resident_mb() - before < 150


def test_random_bytes(live: Live) -> None:
    generator = np.random.default_rng(11)
    with a_good_client(live):
        for n in range(35):
            data = HEADS[n % len(HEADS)] + generator.bytes(int(generator.integers(0, 20_000)))
            found = transcribe(live, data)
            assert found.status_code in (400, 413), (n, found.text)
            assert found.json()["error"]["code"] in ("invalid_audio", "audio_too_long")


def test_files_cut_and_changed_anywhere(live: Live, question: bytes) -> None:
    generator = np.random.default_rng(5)
    flac = written(np.sin(np.arange(16000) / 9).astype(np.float32), 16000, "FLAC")
    for n in range(30):
        data = bytearray((question, flac)[n % 2])
        for _ in range(int(generator.integers(1, 8))):
            data[int(generator.integers(0, min(len(data), 200)))] = int(generator.integers(0, 256))
        found = transcribe(live, bytes(data[: int(generator.integers(1, len(data)))]))
        assert found.status_code in (200, 400, 413), found.text


@pytest.mark.parametrize(
    "text",
    [
        "=",
        "A",
        "A===",
        "AA=A",
        "\0" * 100,
        "A" * 99_999,
        "-_-_",
        "data:audio/wav;base64,AAAA",
        "🎵" * 100,
        " ",
    ],
)
def test_base64_that_is_none(live: Live, text: str) -> None:
    assert chat(live, text).status_code == 400


def test_base64_of_a_bomb(live: Live) -> None:
    data = base64.b64encode(written(np.zeros(16000 * 600, np.int16), 16000, "FLAC")).decode()
    assert chat(live, data).status_code == 413


@pytest.mark.slow
def test_ten_hours(live: Live) -> None:
    """Of 8 kHz in a file that is small enough to be sent."""
    data = written(np.zeros(8000 * 36_000, np.int16), 8000, "FLAC")
    before = resident_mb()
    with a_good_client(live, 60):
        assert transcribe(live, data).status_code == 413
    assert resident_mb() - before < 700  # the file is made here too
