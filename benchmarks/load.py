"""Many talkers at once: python benchmarks/load.py [--clients 32] [--minutes 5] [--json]

Starts ``vivavoce serve nano`` and clients of ``/v1/realtime`` that type, talk (server VAD and push-to-talk, as fast as
one speaks), break in, and vanish: sockets are dropped, and processes killed. Every answer is compared with what the
model says when it is alone. Told are errors that are not a documented refusal (429, overload), times from the end of
the turn to the first text and the first samples, growth of the server's memory after warm-up, and what is still
open when all have left: sequences with a cache, jobs, connections, tasks of the event loop, file descriptors. With
--json the last line is one object; the status is 1 if something is not as it must be.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from load_clients import HERTZ, Client, Tally

ROOT = Path(__file__).parents[1]
MOST_GROWTH = 0.05
SETTLE_S = 60.0
IDLE = ("open_sequences", "active", "queue_length", "open_requests", "realtime_connections")


class Server:
    """A ``vivavoce serve nano`` of our own, and what it tells about itself."""

    def __init__(self, log: Path) -> None:
        path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-m", "vivavoce", "serve", "nano", "--port", "0", "--json"]
        self._log = log.open("w+")
        self.process = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": path}, stdout=self._log, stderr=self._log
        )
        self.log = log
        self.root = self._address()

    def _address(self) -> str:
        end = time.monotonic() + 120
        while time.monotonic() < end and self.process.poll() is None:
            found = re.search(r"http://[\d.]+:\d+", self.log.read_text())
            if found:
                try:
                    urllib.request.urlopen(f"{found[0]}/healthz", timeout=5).close()
                    return found[0]
                except OSError:
                    pass
            time.sleep(0.2)
        raise SystemExit(f"the server did not start:\n{self.log.read_text()[-2000:]}")

    def state(self) -> dict[str, float]:
        """Its gauges, memory in MB, descriptors and threads."""
        with urllib.request.urlopen(f"{self.root}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        found = {name: float(value) for name, value in re.findall(r"^vivavoce_(\w+) ([\d.e+]+)$", text, re.M)}
        inside = Path(f"/proc/{self.process.pid}")
        status = inside.joinpath("status").read_text()
        found["rss_mb"] = int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024
        found["threads"] = int(re.findall(r"Threads:\s+(\d+)", status)[0])
        found["descriptors"] = len(list(inside.joinpath("fd").iterdir()))
        return found

    def stop(self) -> int:
        """End it as a service manager does; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(45)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return -1


def recording() -> bytes:
    """The bundle's question, pcm16 at 24 kHz."""
    import soundfile

    from vivavoce.audio.resample import resample

    wave, rate = soundfile.read(ROOT / "src/vivavoce/bundle/nano/question.wav", dtype="float32")
    return (resample(wave, rate, HERTZ) * 32767).clip(-32768, 32767).astype("<i2").tobytes()


async def victim(address: str, pcm: bytes, seed: int, until: float, tally: Tally) -> None:
    """Client processes, each killed after some seconds."""
    chance = random.Random(seed)
    script = str(Path(__file__).parent / "load_clients.py")
    while time.monotonic() < until:
        process = await asyncio.create_subprocess_exec(
            sys.executable, script, address, str(chance.randrange(1 << 30)), stdin=asyncio.subprocess.PIPE
        )
        assert process.stdin is not None
        try:
            process.stdin.write(pcm)
            await process.stdin.drain()
            process.stdin.close()
            await asyncio.sleep(min(chance.uniform(3, 15), max(0.5, until - time.monotonic())))
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
        tally.turns["process killed"] += 1


async def watch(server: Server, until: float, seen: list[tuple[float, dict[str, float]]]) -> None:
    """Look at the server again and again."""
    began = time.monotonic()
    while time.monotonic() < until:
        seen.append((time.monotonic() - began, await asyncio.to_thread(server.state)))
        await asyncio.sleep(2)


async def crowd(
    server: Server, clients: int, seconds: float, think_s: float, tally: Tally
) -> list[tuple[float, dict[str, float]]]:
    """Let all of them talk; what the server said meanwhile."""
    address, pcm = server.root.replace("http", "ws") + "/v1/realtime?model=nano", recording()
    until, seen = time.monotonic() + seconds, []
    killed = max(1, clients // 8)
    work = [victim(address, pcm, number, until, tally) for number in range(killed)]
    work += [
        Client(address, pcm, 1000 + n, tally, think_s=think_s).run(until) for n in range(clients - killed)
    ]
    await asyncio.gather(watch(server, until, seen), *work)
    return seen


def settled(server: Server, before: dict[str, float]) -> dict[str, float]:
    """What is open once all clients are gone: everything as before, or the state after some time."""
    end = time.monotonic() + SETTLE_S
    while True:
        now = server.state()
        rest = {name: now[name] - before[name] for name in (*IDLE, "tasks", "descriptors")}
        # the request that asks is open itself, before and after
        if all(value <= 0 for value in rest.values()) or time.monotonic() > end:
            return rest
        time.sleep(0.5)


def growth(seen: list[tuple[float, dict[str, float]]], warm_s: float) -> dict[str, float]:
    """Memory at the end over memory after warm-up; medians over a fifth of the time after it."""
    after = [state["rss_mb"] for at, state in seen if at >= warm_s]
    part = max(1, len(after) // 5)
    first, last = statistics.median(after[:part]), statistics.median(after[-part:])
    return {"start_mb": seen[0][1]["rss_mb"], "warm_mb": first, "end_mb": last, "growth": last / first - 1}


def percentiles(times: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """In milliseconds, by kind of turn."""
    return {
        kind: {
            "p50": 1000 * float(np.quantile(v, 0.5)),
            "p95": 1000 * float(np.quantile(v, 0.95)),
            "n": len(v),
        }
        for kind, v in sorted(times.items())
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--think", type=float, default=2.0, help="mean seconds between turns")
    parser.add_argument("--log", type=Path, default=Path("/tmp/vivavoce-load.log"))
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    given = parser.parse_args()
    sys.path.insert(0, str(ROOT / "src"))
    seconds = 60 * given.minutes
    server, tally = Server(given.log), Tally()
    try:
        before = server.state()
        seen = asyncio.run(crowd(server, given.clients, seconds, given.think, tally))
        rest = settled(server, before)
    finally:
        code = server.stop()
    memory = growth(seen, min(60.0, seconds / 3))
    faults = [f"{count} x {what}" for what, count in tally.errors.items()]
    faults += [f"{value:g} {name} left" for name, value in rest.items() if value > 0]
    if memory["growth"] >= MOST_GROWTH:
        faults.append(f"memory grew by {memory['growth']:.1%}, aim below {MOST_GROWTH:.0%}")
    if code != 0:
        faults.append(f"the server ended with {code}")
    found: dict[str, Any] = {
        "clients": given.clients, "minutes": given.minutes, "turns": dict(tally.turns), "busy": dict(tally.busy),
        "errors": dict(tally.errors), "left": rest, "memory": memory, "server_status": code,
        "text_ms": percentiles(tally.text_s), "audio_ms": percentiles(tally.audio_s), "faults": faults,
    }  # fmt: skip
    print(f"{given.clients} clients, {given.minutes:g} minutes; ms from the end of the user's turn")
    print(f"{'turn':<14}{'n':>6}{'text p50':>10}{'p95':>8}{'sound p50':>11}{'p95':>8}")
    for kind, text in found["text_ms"].items():
        sound = found["audio_ms"].get(kind, {"p50": float("nan"), "p95": float("nan")})
        print(
            f"{kind:<14}{text['n']:>6}{text['p50']:>10.0f}{text['p95']:>8.0f}{sound['p50']:>11.0f}{sound['p95']:>8.0f}"
        )
    print("turns: " + ", ".join(f"{kind} {count}" for kind, count in sorted(tally.turns.items())))
    print(f"busy: {dict(tally.busy) or 'never'}")
    print(
        "memory: {start_mb:.0f} MB, {warm_mb:.0f} warm, {end_mb:.0f} at the end: {growth:+.1%}".format(
            **memory
        )
    )
    print("left: " + ", ".join(f"{name} {value:g}" for name, value in rest.items()))
    print("pass" if not faults else "short: " + "; ".join(faults))
    if given.json:
        print(json.dumps(found))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
