"""Does a server grow with the conversations it has had? python benchmarks/server_memory.py [--rounds 7]

Starts ``vivavoce serve nano`` and has 48 short realtime conversations a round, four at a time, every other one spoken
(push-to-talk); prints the server's resident memory after each round.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from openai import AsyncOpenAI

from vivavoce.audio.files import read_audio

ROOT = Path(__file__).parents[1]
AT_ONCE, PIECE = 4, 9600


def resident_mb(pid: int) -> float:
    """Resident memory of a process, MB."""
    line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def converse(url: str, question: bytes | None) -> None:
    """One connection with one question, spoken or typed."""
    client = AsyncOpenAI(base_url=url, api_key="none")
    async with client.realtime.connect(model="nano") as talk:
        await talk.session.update(session={"type": "realtime", "audio": {"input": {"turn_detection": None}}})
        if question is not None:
            for at in range(0, len(question), PIECE):
                piece = base64.b64encode(question[at : at + PIECE]).decode()
                await talk.input_audio_buffer.append(audio=piece)
            await talk.input_audio_buffer.commit()
        else:
            typed = [{"type": "input_text", "text": "what is two plus two"}]
            await talk.conversation.item.create(item={"type": "message", "role": "user", "content": typed})
        await talk.response.create()
        async for event in talk:
            if event.type == "response.done":
                break
    await client.close()


async def main(url: str, pid: int, rounds: int) -> None:
    wave, _ = read_audio(ROOT / "src/vivavoce/bundle/nano/question.wav", sample_rate=24_000)
    spoken = (np.clip(wave, -1, 1) * 32767).astype("<i2").tobytes()
    print("conversations  resident MB  seconds")
    for number in range(rounds):
        began = time.perf_counter()
        for _ in range(48 // AT_ONCE):
            await asyncio.gather(*(converse(url, spoken if i % 2 else None) for i in range(AT_ONCE)))
        await asyncio.sleep(1)
        spent = time.perf_counter() - began
        print(f"{(number + 1) * 48:13,}  {resident_mb(pid):11.0f}  {spent:7.1f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    server = subprocess.Popen(
        [sys.executable, "-m", "vivavoce", "serve", "nano", "--port", "0", "--json"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        told = ""
        while "}" not in told:
            told += server.stdout.readline()
        asyncio.run(main(json.loads(told)["url"], server.pid, given.rounds))
    finally:
        server.terminate()
