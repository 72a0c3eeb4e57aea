"""Requests made at random from the published description: never a 5xx, always an error in the shape of errors."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from tests.serving.live import Live

schemathesis = pytest.importorskip("schemathesis")

ROUTES = [
    "/v1/chat/completions",
    "/v1/audio/speech",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/models",
]

ASKED = [{"role": "user", "content": "what is nine plus four"}]


def attack(live: Live, path: str, examples: int) -> None:
    header = {"Authorization": f"Bearer {live.key}"}
    described = httpx.get(f"{live.root}/openapi.json", headers=header).json()
    schema = schemathesis.openapi.from_dict(described)
    schema.config.update(base_url=live.root)
    method = "GET" if path == "/v1/models" else "POST"

    @settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate], derandomize=True,
    )  # fmt: skip
    def ask(case: Any) -> None:
        if isinstance(case.body, dict):  # what is random there is refused before the rest is looked at
            case.body["model"] = "nano"
            if "messages" in case.body and len(str(case.body)) % 3:
                case.body["messages"] = ASKED
        found = case.call(headers=header, timeout=60)
        assert found.status_code < 500 or (found.status_code == 501 and "translations" in path), found.text[
            :300
        ]
        if found.status_code >= 400:
            assert set(found.json()["error"]) == {"message", "type", "param", "code"}

    given(case=schema[path][method].as_strategy())(ask)()


@pytest.mark.parametrize("path", ROUTES)
def test_random_requests(live: Live, path: str) -> None:
    attack(live, path, 25)


@pytest.mark.slow
@pytest.mark.parametrize("path", ROUTES)
def test_many_random_requests(live: Live, path: str) -> None:
    attack(live, path, 1000)
