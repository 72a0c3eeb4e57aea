"""Replicas as child processes: started, watched, started again when they die, stopped with us."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from vivavoce.base.errors import ConfigError
from vivavoce.serving.settings import ServerSettings

log = logging.getLogger("vivavoce.serving")

READY_S = 1800.0  # longest time to load a model
CHECK_S = 2.0  # between looks at a replica
SILENCE_S = 10.0  # longest time for the answer to such a look
MOST_SILENCES = 3  # in a row; then it is taken for hung
LONGEST_PAUSE_S = 30.0  # before one that dies at once is started again


class Replica:
    """One child process with a model.

    Args:
        number: Its place in the row.
        settings: What it serves.
        environment: Of the process, over our own.

    Attributes:
        open: Requests and connections that it works on.
        used: When it was last chosen, for turns among equals.
        starts: How often it was started.
    """

    def __init__(self, number: int, settings: ServerSettings, environment: Mapping[str, str]) -> None:
        self.number, self._settings, self._environment = number, settings, dict(environment)
        self.secret = secrets.token_hex(24)
        self.open, self.used, self.starts = 0, 0.0, 0
        self._process: subprocess.Popen[str] | None = None
        self._told: dict[str, Any] = {}
        self._heard = threading.Event()
        self._silences, self._pause_s, self._begun = 0, 0.0, 0.0

    @property
    def ready(self) -> bool:
        """Whether requests may be sent to it."""
        return self.alive and "port" in self._told and self._silences < MOST_SILENCES

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._told['port']}"

    def start(self) -> None:
        """Start the process; it is ready once it has told its port."""
        self._told, self._silences, self._begun = {}, 0, time.monotonic()
        self._heard = threading.Event()
        self.starts += 1
        self._process = subprocess.Popen(
            [sys.executable, "-m", "vivavoce.serving.replicas.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **self._environment},
            start_new_session=True,  # Ctrl-C in a terminal is ours to pass on
        )
        given = {"settings": dataclasses.asdict(self._settings), "secret": self.secret, "number": self.number}
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(given) + "\n")
            self._process.stdin.flush()  # it stays open: when it closes, the child knows that we are gone
        except OSError:
            log.warning("replica died at once", extra={"fields": {"replica": self.number}})
        threading.Thread(target=self._listen, args=(self._process, self._heard), daemon=True).start()

    def _listen(self, process: subprocess.Popen[str], heard: threading.Event) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            line = lines.readline()
        if process is self._process:
            self._told = json.loads(line) if line.startswith("{") else {}
        heard.set()

    def wait(self) -> None:
        """Wait until it serves.

        Raises:
            ConfigError: It ended instead; with what it said.
        """
        self._heard.wait(READY_S)
        if not self.ready:
            said = self._told.get("error") or "it ended without a word; its log lines say more"
            raise ConfigError(f"replica {self.number} did not start: {said}")

    async def look(self, client: httpx.AsyncClient) -> None:
        """See that it lives and answers; start it again if not."""
        if not self.alive:
            self.restart("died")
        elif "port" in self._told:
            try:
                (await client.get(f"http://{self.address}/healthz", timeout=SILENCE_S)).raise_for_status()
                self._silences = 0
            except httpx.HTTPError:
                self._silences += 1
            if self._silences >= MOST_SILENCES:
                self.restart("hung")
        elif time.monotonic() - self._begun > READY_S:
            self.restart("did not start")

    def restart(self, why: str) -> None:
        """End what is left of it and start it again, after a pause if it dies again and again."""
        now = time.monotonic()
        if now - self._begun < self._pause_s:
            return
        code = self._process.poll() if self._process is not None else None
        lived_long = now - self._begun > 2 * LONGEST_PAUSE_S
        self._pause_s = 1.0 if lived_long else min(LONGEST_PAUSE_S, max(1.0, 2 * self._pause_s))
        fields = {"replica": self.number, "why": why, "exit_code": code, "starts": self.starts}
        log.warning("replica starts again", extra={"fields": fields})
        self.kill()
        self.start()

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self, drain_s: float) -> None:
        """Let it end what it does, and end it if that takes too long."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(drain_s)
        except subprocess.TimeoutExpired:
            self.kill()


class Replicas:
    """All of them.

    Args:
        settings: What each serves.
        environments: One for each, over our own environment.
    """

    def __init__(self, settings: ServerSettings, environments: Sequence[Mapping[str, str]]) -> None:
        self.settings = settings
        self.all = [Replica(n, settings, environment) for n, environment in enumerate(environments)]
        self._watching: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start all and wait until all serve.

        Raises:
            ConfigError: One of them does not; the others are ended.
        """
        for replica in self.all:
            replica.start()
        try:
            for replica in self.all:
                replica.wait()
        except BaseException:
            self.kill()
            raise

    def choose(self, number: int | None = None, but: Replica | None = None) -> Replica | None:
        """The least busy replica that is ready; None if there is none.

        Args:
            number: Take this one and no other.
            but: Not this one.
        """
        found = [r for r in self.all if r.ready and r is not but and number in (None, r.number)]
        chosen = min(found, key=lambda r: (r.open, r.used), default=None)
        if chosen is not None:
            chosen.used = time.monotonic()
        return chosen

    def watch(self, client: httpx.AsyncClient) -> None:
        """Look after all from now on; to be called in the event loop."""
        self._watching = [asyncio.ensure_future(self._watch(r, client)) for r in self.all]

    async def _watch(self, replica: Replica, client: httpx.AsyncClient) -> None:
        while True:
            await asyncio.sleep(CHECK_S if replica.alive else 0.1)
            await replica.look(client)

    async def stop(self) -> None:
        """End all, with the time that running requests have."""
        for task in self._watching:
            task.cancel()
        drain_s = self.settings.limits.drain_s + 5
        await asyncio.gather(*(asyncio.to_thread(replica.stop, drain_s) for replica in self.all))

    def kill(self) -> None:
        for replica in self.all:
            replica.kill()


def environments(count: int, device: str | None) -> list[dict[str, str]]:
    """What each replica sees of the machine: a GPU each, in turn, or its share of the CPU cores."""
    gpus = [] if (device or "").startswith("cpu") else _gpus()
    if gpus:
        return [{"CUDA_VISIBLE_DEVICES": gpus[n % len(gpus)]} for n in range(count)]
    if "OMP_NUM_THREADS" in os.environ:
        return [{} for _ in range(count)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return [{"OMP_NUM_THREADS": str(max(1, cores // count))} for _ in range(count)]


def _gpus() -> list[str]:
    """Names of the GPUs that we may use, as CUDA_VISIBLE_DEVICES has them; asked by a process of its own."""
    ask = "import torch; print(torch.cuda.device_count())"
    answer = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = [name.strip() for name in visible.split(",") if name.strip()]
    return (names or list(map(str, range(int(answer.stdout)))))[: int(answer.stdout)]
