"""The page of a run: nothing from elsewhere, nothing that is read as markup, whatever the numbers are."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vivavoce.audio.files import write_audio
from vivavoce.training.report import chart, write_report

EVIL = "<script>alert(1)</script> & \"quotes\" 'too' <img src=http://x.example/y.png>"
HELD_BACK = ("src", "href", "data", "action", "poster", "srcset")


class Page(HTMLParser):
    """Tags, what they point at, and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.pointers: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.pointers += [value for name, value in attrs if name in HELD_BACK]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def report(folder: Path, lines: list[dict[str, Any]], **more: Any) -> tuple[str, Page]:
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = write_report(folder, EVIL, {"loss": EVIL, EVIL: 1}, **more).read_text(encoding="utf-8")
    return text, Page(text)


def test_nothing_is_from_elsewhere_and_nothing_is_markup(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"recipe": {"name": EVIL}}))
    write_audio(tmp_path / "a.wav", np.zeros(2400, dtype=np.float32), 24_000)
    sample = {"asked": EVIL, "wanted": EVIL, "said": EVIL, "audio": "a.wav"}
    lines = [{"step": i, "loss": 5.0 - i, "lr": 1e-3, "loss/slot_0": 1.0 + i} for i in range(1, 4)]
    text, page = report(tmp_path, lines, samples=[sample], rows=[f"set: {EVIL}"])
    assert not {"script", "img", "link", "iframe", "object", "base", "meta http-equiv"} & {*page.tags}
    assert page.pointers and all(pointer.startswith("data:audio/wav;base64,") for pointer in page.pointers)
    assert base64.b64decode(page.pointers[0].partition(",")[2]) == (tmp_path / "a.wav").read_bytes()
    assert not re.search(r"url\(|@import", text)
    shown = "".join(page.text)
    assert (
        shown.count("<script>alert(1)</script>") == 9
    )  # title twice, facts twice, sample thrice, row, settings
    assert page.tags.count("svg") == 3


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, 3.0, -1e300])
def test_every_number_gives_a_page(value: Any, tmp_path: Path) -> None:
    lines = [{"step": i, "loss": value if i == 2 else 1.0} for i in range(1, 4)]
    text, page = report(tmp_path, lines)
    assert "svg" in page.tags and "nan" not in text and ">inf" not in text
    assert "svg" not in report(tmp_path, lines[:1])[1].tags  # one point is no curve


def test_a_chart_shows_its_numbers() -> None:
    made = chart({"a<b": [(1, 2.0), (5, 4.0)], "flat": [(1, 3.0), (5, 3.0)]})
    assert "a&lt;b 4" in made and made.count("<polyline") == 2 and "flat 3" in made
    heights = [float(pair.split(",")[1]) for pair in re.findall(r"points='([^']*)'", made)[0].split()]
    assert heights[0] > heights[1]  # what is larger is higher
