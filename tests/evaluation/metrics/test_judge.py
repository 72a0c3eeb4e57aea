"""A judge behind an address: greedy, asked once, marks by rubric; its failures are counted and never guessed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.evaluation.columns import make_items

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.data.build.contract import Fault
from vivavoce.data.build.texts.language_models import Reply
from vivavoce.evaluation.comparison import compare
from vivavoce.evaluation.metrics.judge import RubricJudge, read_marks
from vivavoce.evaluation.metrics.rubrics import EMPATHY, RUBRICS, TRAJECTORY, Rubric

GOOD = {"Accuracy_Completeness": 5, "Depth_Granularity": 3, "Added_Value": 1}


@dataclass
class Table:
    """Answers by what stands in the prompt."""

    verdicts: dict[str, str]
    asked: list[str] = field(default_factory=list)

    def answer(self, prompts: Any, max_new_tokens: int) -> list[Reply | Fault]:
        """Reply, or a fault for "broken"."""
        texts = [prompt[0]["content"] for prompt in prompts]
        self.asked += texts
        found = [next(v for k, v in self.verdicts.items() if f'"{k}"' in text) for text in texts]
        return [Fault("unanswered", "status 500") if v == "broken" else Reply(v) for v in found]


def _judge(verdicts: dict[str, str], **settings: Any) -> RubricJudge:
    return RubricJudge(model="endpoint:table", answerer=Table(verdicts), **settings)


def test_marks_are_means_over_aspects_and_items() -> None:
    table = {"first": json.dumps(GOOD), "second": f"Well: {json.dumps(dict.fromkeys(GOOD, 5))} So."}
    items = make_items(["first", "second", None, "  "], ["r"] * 4, question=["q"] * 4)
    judge = _judge(table)
    score = judge.score(items)
    assert score.values == (3.0, 5.0, 1.0, 1.0) and score.value == 2.5 and score.unit == "marks"
    assert score.details == {"Accuracy_Completeness": 3.0, "Depth_Granularity": 2.5, "Added_Value": 2.0}
    assert score.counts == {"no_answer": 2} and len(judge.answerer.asked) == 2  # type: ignore[union-attr]
    assert score.settings["judge"] == "endpoint:table" and score.settings["rubric"] == "humdial_trajectory"
    assert compare(score, score).difference == 0.0


def test_failures_of_the_judge_are_left_out_up_to_a_share() -> None:
    table = {"fine": json.dumps(GOOD), "odd": '{"Added_Value": 5}', "down": "broken"}
    items = make_items(["fine", "odd", "down"], ["r"] * 3)
    score = _judge(table, most_failures=0.7).score(items)
    assert score.n == 1 and score.values == (3.0, None, None)
    assert score.counts == {"bad_verdict": 1, "judge_failed": 1}
    with pytest.raises(DataError, match=r"no verdict on 2 of 3 items.*first 1: the verdict"):
        _judge(table).score(items)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "[5, 5, 5]",
        '{"Accuracy_Completeness": 5}',
        *(json.dumps({**GOOD, "Added_Value": v}) for v in (2, "5", True, None, 5.0, 7)),
    ],
)
def test_what_is_no_verdict_is_a_fault(text: str) -> None:
    assert isinstance(read_marks(text, TRAJECTORY), Fault)


def test_rubrics_ask_for_what_they_read() -> None:
    for name in RUBRICS:
        rubric = RUBRICS.get(name)
        text = rubric.ask("Q {x}", "good", 'say "hi"')
        assert rubric.name == name and '"Q {x}"' in text and r"\"hi\"" in text
        assert read_marks(text[text.rindex("{") :], rubric) == (5,) * len(rubric.aspects)
        assert all(f"- {aspect}: " in text for aspect in rubric.aspects)
    with pytest.raises(ConfigError, match="low to high"):
        Rubric("x", "", {"a": "b"}, (5, 1))
    assert EMPATHY.marks == (1, 2, 3, 4, 5)


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Run a chat server that gives every answer the same marks; yields its address and what it was sent."""
    seen: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            choice = {"message": {"content": json.dumps(GOOD)}, "finish_reason": "stop"}
            body = json.dumps({"choices": [choice]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}/v1", seen
    http.shutdown()
    thread.join()
    http.server_close()


def test_an_address_is_asked_greedily_and_once(
    server: tuple[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    url, seen = server
    judge = RubricJudge(model="endpoint:m", endpoint={"url": url}, cache=tmp_path)
    items = make_items(["first", "second"], ["r", "r"])
    score = judge.score(items)
    assert score.value == 3.0 and len(seen) == 2
    assert {body["temperature"] for body in seen} == {0} and {body["model"] for body in seen} == {"m"}
    assert judge.score(items) == score and len(seen) == 2
    judge.score(make_items(["third"], ["r"]))
    assert len(seen) == 3
    with pytest.raises(DataError, match="no items"):
        judge.score([])
    with pytest.raises(ConfigError, match="unknown rubric"):
        RubricJudge(model="endpoint:m", rubric="nice").score(items)
