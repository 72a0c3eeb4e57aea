"""``vivavoce serve``: starts, tells where it is, and ends after the running answer."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("openai")

import openai
import uvicorn
import uvicorn.lifespan.off

import vivavoce
from vivavoce.cli.main import main
from vivavoce.serving.running import Draining, is_news


@pytest.mark.slow
def test_sigterm_ends_after_the_running_answer(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("a key of the file\n")
    log = tmp_path / "log"
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(vivavoce.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
    }
    command = [
        sys.executable,
        "-m",
        "vivavoce",
        "serve",
        "nano",
        "--port",
        "0",
        "--json",
        "--api-key-file",
        str(keys),
    ]
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment
        ) as process,
    ):
        try:
            assert process.stdout is not None
            lines = ""
            while "}" not in lines:
                line = process.stdout.readline()
                assert line, log.read_text()
                lines += line
            told = json.loads(lines)
            assert (told["model"], told["keys"]) == ("nano", 1)
            client = openai.OpenAI(base_url=told["url"], api_key="a key of the file", max_retries=0)
            said = "one two three four five six seven eight nine ten "
            with client.audio.speech.with_streaming_response.create(
                model="nano", voice="default", input=said, response_format="pcm"
            ) as response:
                stream = response.iter_bytes()
                size = len(next(stream))
                process.send_signal(signal.SIGTERM)
                size += sum(map(len, stream))
            assert size > 48000 * 2 and size % 4096 == 0, "the answer was cut"
            assert process.wait(20) == 0
        finally:
            process.kill()
    rows = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    assert [row["status"] for row in rows if row["event"] == "request"] == [200]
    assert "seven" not in log.read_text()
    with pytest.raises(openai.APIConnectionError):
        client.models.list()


def test_a_second_ctrl_c_waits_for_nobody_and_is_no_fault() -> None:
    async def forever() -> None:
        await asyncio.sleep(60)

    async def ended() -> bool:
        server = Draining(uvicorn.Config(app))
        server.servers, server.force_exit = [], True
        server.lifespan = uvicorn.lifespan.off.LifespanOff(server.config)
        await asyncio.wait_for(server.shutdown([]), 5)
        return True

    app = SimpleNamespace(drain=forever)
    assert asyncio.run(ended())

    def line(said: str, fault: BaseException | None = None) -> logging.LogRecord:
        about = (type(fault), fault, None) if fault else None
        return logging.LogRecord("uvicorn.error", logging.ERROR, "", 0, said, (), about)

    assert not is_news(line("Exception in ASGI application\n", asyncio.CancelledError()))
    assert not is_news(line("ASGI callable returned without completing handshake."))
    assert is_news(line("Exception in ASGI application\n", ValueError("no")))


def test_what_is_wrong_is_told_before_loading(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", "nano", "--port", str(taken.getsockname()[1])]) == 2
    assert "cannot listen" in capsys.readouterr().err
    assert main(["serve", "nano", "--api-key-file", str(tmp_path / "none")]) == 2
    assert "cannot read the keys" in capsys.readouterr().err
    assert main(["serve", "nano", "--max-audio-s", "0"]) == 2
    assert "max_audio_s is 0" in capsys.readouterr().err
    assert main(["serve", "nano", "--port", "0", "--api-key", "short"]) == 2
    assert "too short" in capsys.readouterr().err
