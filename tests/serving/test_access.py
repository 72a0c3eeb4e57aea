"""Keys, rates and concurrency, with a clock of its own; and what the parts around them count."""

from __future__ import annotations

import pytest

pytest.importorskip("fastapi")

from vivavoce.base.errors import ConfigError
from vivavoce.serving import access as access_module
from vivavoce.serving.access import Access
from vivavoce.serving.limits import Limits
from vivavoce.serving.messages import SpokenAnswers
from vivavoce.serving.metrics import Counter, Histogram
from vivavoce.serving.refusals import Refusal


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_keys_name_callers_without_telling_the_key() -> None:
    access = Access(["first key", "second key"], Limits())
    assert access.caller("Bearer second key", "1.2.3.4") == "key 1"
    assert access.caller("bearer  first key ", "1.2.3.4") == "key 0"
    for header in (
        "",
        "Bearer",
        "Bearer ",
        "first key",
        "Basic first key",
        "Bearer first keyx",
        "Bearer \udcff",
    ):
        with pytest.raises(Refusal) as caught:
            access.caller(header, "1.2.3.4")
        assert caught.value.status_code == 401
    assert Access([], Limits()).caller("Bearer anything", "1.2.3.4") == "address 1.2.3.4"
    with pytest.raises(ConfigError, match="too short"):
        Access(["long enough", "short"], Limits())


def test_every_key_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def compare(a: bytes, b: bytes) -> bool:
        seen.append((a, b))
        return a == b

    monkeypatch.setattr(access_module.hmac, "compare_digest", compare)
    access = Access(["first key", "second key", "third key"], Limits())
    access.caller("Bearer first key", "")
    assert len(seen) == 3 and {len(a) for a, _ in seen} == {32}


def test_the_rate_comes_back_with_time() -> None:
    clock = Clock()
    access = Access([], Limits(requests_per_minute=6, max_concurrent=100), clock)
    for _ in range(6):
        access.enter("a")
    with pytest.raises(Refusal, match="try again in 1"):
        access.enter("a")
    access.enter("b")
    clock.now += 10.1
    access.enter("a")
    with pytest.raises(Refusal):
        access.enter("a")


def test_callers_are_forgotten() -> None:
    clock = Clock()
    access = Access([], Limits(), clock)
    access.enter("kept")
    for n in range(access_module.MOST_CALLERS + 50):
        clock.now += 1
        access.enter(f"{n}")
        access.leave(f"{n}")
    assert len(access._callers) <= access_module.MOST_CALLERS
    assert access.running() == 1


def test_limits_that_refuse_everything() -> None:
    with pytest.raises(ConfigError, match=r"max_audio_s is 0.*max_queue is -1"):
        Limits(max_audio_s=0, max_queue=-1)
    Limits(max_queue=0, requests_per_minute=0)


def test_spoken_answers_are_few_and_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    spoken = SpokenAnswers()
    names = [spoken.reserve()[0] for _ in range(5000)]
    for name in names:
        spoken.keep(name, 2e9 * 2, "me", name)
    assert spoken.text(names[-1], "me") == names[-1] and spoken.text(names[0], "me") is None
    assert spoken.text(names[-1], "you") is None
    spoken.keep("old", 1.0, "me", "text")
    assert spoken.text("old", "me") is None


def test_metrics_text() -> None:
    counter = Counter("requests_total", "Requests.", ("route",))
    counter.add("/a")
    counter.add("/a", amount=2)
    assert counter.lines()[-1] == 'requests_total{route="/a"} 3'
    histogram = Histogram("seconds", "Time.", (0.1, 1.0))
    for value in (0.1, 0.5, 7.0):
        histogram.add(value)
    assert histogram.lines()[2:] == [
        'seconds_bucket{le="0.1"} 1', 'seconds_bucket{le="1.0"} 2', 'seconds_bucket{le="+Inf"} 3',
        "seconds_sum 7.6", "seconds_count 3",
    ]  # fmt: skip
