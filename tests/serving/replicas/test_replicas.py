"""Two replicas of the embedded model: both work, one is killed, requests go on and it comes back; SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("openai")
pytest.importorskip("websockets")

import httpx
import openai
from tests.serving.live import KEY, until
from websockets.sync.client import connect

import vivavoce
from vivavoce.base.errors import ConfigError
from vivavoce.serving.replicas.processes import Replicas, environments
from vivavoce.serving.settings import ServerSettings

SOURCE = str(Path(vivavoce.__file__).parents[1])


class Front:
    """``vivavoce serve nano --replicas 2`` as its own process."""

    def __init__(self, process: subprocess.Popen[str], url: str, log: Path) -> None:
        self.process, self.url, self.log = process, url, log

    def client(self, **more: object) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.url, api_key=KEY, max_retries=0, timeout=60, **more)

    def health(self) -> dict[str, object]:
        found: dict[str, object] = httpx.get(self.url.removesuffix("/v1") + "/healthz").json()
        return found

    def children(self) -> list[int]:
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in found]

    def rows(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    log = tmp_path_factory.mktemp("front") / "log"
    environment = {**os.environ, "PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1", "VIVAVOCE_API_KEYS": KEY}
    command = [sys.executable, "-m", "vivavoce", "serve", "nano", "--port", "0", "--json", "--replicas", "2"]
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        ) as process,
    ):
        try:
            lines = ""
            while "}" not in lines:
                assert process.stdout is not None
                line = process.stdout.readline()
                assert line, log.read_text()
                lines += line
            yield Front(process, json.loads(lines)["url"], log)
        finally:
            process.kill()


def ask(client: openai.OpenAI) -> str:
    answer = client.chat.completions.create(
        model="nano", messages=[{"role": "user", "content": "what is nine plus four"}], temperature=0
    )
    return answer.choices[0].message.content or ""


@pytest.mark.slow
def test_both_work_and_remember_their_own_answers(front):
    client = front.client()
    wanted = ask(client)
    ids = []
    for _ in range(4):
        spoken = client.chat.completions.create(
            model="nano",
            messages=[{"role": "user", "content": "what is nine plus four"}],
            modalities=["text", "audio"],
            audio={"voice": "default", "format": "wav"},
        )
        assert spoken.choices[0].message.audio.transcript == wanted
        ids.append(spoken.choices[0].message.audio.id)
    assert {name[:9] for name in ids} == {"audio_r0_", "audio_r1_"}
    for name in ids:  # wherever they are asked about
        client.chat.completions.create(
            model="nano",
            messages=[
                {"role": "user", "content": "what is nine plus four"},
                {"role": "assistant", "audio": {"id": name}},
                {"role": "user", "content": "what is two plus two"},
            ],
        )


@pytest.mark.slow
def test_one_is_killed_and_comes_back(front):
    assert front.health() == {"status": "ok", "replicas": 2, "ready": 2}
    client, faults, answers = front.client(), [], []
    going = threading.Event()

    def caller() -> None:
        while not going.is_set():
            try:
                answers.append(ask(client))
            except openai.APIError as error:
                faults.append(error)

    callers = [threading.Thread(target=caller) for _ in range(2)]
    for thread in callers:
        thread.start()
    try:
        until(lambda: len(answers) > 3)
        before = front.children()
        os.kill(before[0], signal.SIGKILL)
        seen = len(answers)
        until(lambda: len(answers) > seen + 5, 60)
        until(lambda: front.health()["ready"] == 2 and set(front.children()) != set(before), 90)
    finally:
        going.set()
        for thread in callers:
            thread.join()
    assert not faults and len(set(answers)) == 1
    again = [row for row in front.rows() if row["event"] == "replica starts again"]
    assert [(row["why"], row["exit_code"]) for row in again] == [("died", -9)]
    page = httpx.get(
        front.url.removesuffix("/v1") + "/metrics", headers={"authorization": f"Bearer {KEY}"}
    ).text
    assert "vivavoce_replica_starts_total{replica=" in page and "} 2\n" in page


@pytest.mark.slow
def test_sigterm_lets_the_running_answers_end_and_leaves_no_child(front):
    children = front.children()
    said = "one two three four five six seven eight nine ten "
    address = front.url.replace("http", "ws") + "/realtime"
    line = connect(address, additional_headers={"authorization": f"Bearer {KEY}"})
    with front.client().audio.speech.with_streaming_response.create(
        model="nano", voice="default", input=said, response_format="pcm"
    ) as response:
        stream = response.iter_bytes()
        size = len(next(stream))
        front.process.send_signal(signal.SIGTERM)
        size += sum(map(len, stream))
    assert size > 48_000 * 2, "the answer was cut"
    events = [json.loads(event) for event in line]
    assert (events[-1]["type"], events[-1]["error"]["code"]) == ("error", "stopping")
    assert (line.close_code, line.close_reason) == (1001, "stopping")
    assert front.process.wait(30) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


def test_what_a_replica_says_is_told_and_no_other_is_left(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", SOURCE)
    settings = ServerSettings(model=str(tmp_path / "nothing here"), name="none")
    replicas = Replicas(settings, [{}, {}])
    with pytest.raises(ConfigError, match=r"replica 0 did not start.*nothing here"):
        replicas.start()
    assert not any(replica.alive for replica in replicas.all)


def test_each_replica_gets_its_part_of_the_machine(monkeypatch):
    from vivavoce.serving.replicas import processes

    monkeypatch.setattr(processes, "_gpus", lambda: ["0", "1"])
    assert environments(3, None) == [{"CUDA_VISIBLE_DEVICES": n} for n in ("0", "1", "0")]
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = len(os.sched_getaffinity(0))
    assert environments(2, "cpu") == [{"OMP_NUM_THREADS": str(max(1, cores // 2))}] * 2
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert environments(2, "cpu") == [{}, {}]
