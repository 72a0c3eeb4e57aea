"""Rows for people: pieces that leave nothing out, and a page that needs nothing else."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.check.bad_rows import good_row, sound
from tests.inference import tiny
from tests.tokens.conftest import llama_tokenizer, metaspace_tokenizer
from tests.training.row_cases import ASKED, SAID, distilled, heard, row, spoken_answer, stored

from vivavoce.audio.files import read_audio
from vivavoce.data.check.sets import check_set
from vivavoce.data.conversation import read_conversation
from vivavoce.training import preview_page as page_module
from vivavoce.training.preview import Preview, envelope, look_of, pieces, preview_row, runs
from vivavoce.training.preview_page import preview_page

PROCESSORS = {
    "embeddings": lambda: tiny.embeddings_to_text().processor,
    "codes": lambda: tiny.tokens_to_tokens().processor,
    "transcript first": lambda: tiny.transcript_first().processor,
}


@pytest.mark.parametrize("make", PROCESSORS.values(), ids=PROCESSORS)
def test_pieces_are_the_whole_sequence(make: Any) -> None:
    made = preview_row(row(answer=[{"type": "text", "text": "yes"}, *spoken_answer()[1:]]), 3, make())
    assert made.rendering is not None
    assert [i for p in made.pieces for i in p.ids] == made.rendering.input_ids
    assert [p.start for p in made.pieces] == [
        sum(len(q.ids) for q in made.pieces[:n]) for n in range(len(made.pieces))
    ]
    assert [p.clip for p in made.pieces if p.kind != "text"] == [s.index for s in made.rendering.spans]
    learned = sum(len(p.ids) for p in made.pieces if p.weight > 0)
    assert learned == made.numbers()["learned"]
    assert [p for _, group in runs(made.pieces) for p in group] == made.pieces


@given(text=st.text(st.sampled_from("ab \n,é東😀ह"), max_size=24), kind=st.booleans())
@settings(max_examples=60)
def test_tokens_together_are_the_text(text: str, kind: bool) -> None:
    tokenizer = llama_tokenizer() if kind else metaspace_tokenizer()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    found = list(pieces(ids, [0.0] * len(ids), tokenizer))
    assert "".join(p.text for p in found) == tokenizer.decode(ids)
    assert [i for p in found for i in p.ids] == ids
    assert all("\ufffd" not in p.text for p in found)


def test_long_rows_are_cut_into_tokens_in_time_that_grows_with_them() -> None:
    tokenizer = llama_tokenizer()
    ids = tokenizer("what is the weather in Hanoi today? " * 200, add_special_tokens=False)["input_ids"]
    read: list[int] = []
    decode = tokenizer.decode

    class Counting:
        all_special_ids: list[int] = []  # noqa: RUF012

        def decode(self, ids: list[int], **options: Any) -> Any:
            read.append(len(ids))
            return decode(ids, **options)

    assert len(list(pieces(ids, [0.0] * len(ids), Counting()))) == len(ids)
    assert sum(read) < 20 * len(ids)


def test_looks() -> None:
    made = preview_row(row("Hear: ", heard(), answer=spoken_answer()), 0, PROCESSORS["codes"]())
    looks = [look for look, _ in runs(made.pieces)]
    assert looks == ["read", "audio", "read", "learned", "learned audio", "learned"]
    assert look_of(made.pieces[0]) == "read"


def test_a_row_without_a_model_shows_its_parts() -> None:
    made = preview_row(row(heard(2.0, start=0.5)), 4)
    assert (made.rendering, made.pieces, made.teacher, made.findings) == (None, [], [], [])
    [clip] = made.clips
    assert (clip.place, clip.seconds, clip.sample_rate, clip.how) == ("message 0, part 0", 1.5, 16_000, "")
    record = json.loads(json.dumps(made.as_dict()))
    assert record["clips"][0]["transcript"] == ASKED
    assert "input_ids" not in record


def test_a_row_that_cannot_be_read_says_why() -> None:
    broken = row({"type": "audio", "audio": "absent.wav", "transcript": ASKED})
    made = preview_row(broken, 0, PROCESSORS["embeddings"]())
    assert [f.kind for f in made.findings] == ["cannot_render"]
    assert "absent.wav" in made.clips[0].fault
    assert "absent.wav" in preview_page([made], "set")


def test_teachers_are_shown() -> None:
    made = preview_row(row("Hear: ", heard()), 0, distilled(), "distill")
    read = "".join(p.text for p in made.teacher)
    assert f"Hear: {ASKED}" in read
    assert "".join(p.text for p in made.teacher if p.weight > 0).endswith(f"{SAID}<|eot_id|>")
    record = json.loads(json.dumps(made.as_dict()))
    assert len(record["teacher_ids"]) == len(record["teacher_loss_weights"])
    assert len(record["input_ids"]) == len(record["loss_weights"]) == record["positions"]


def test_codecs_that_are_not_here_leave_counts() -> None:
    processor = PROCESSORS["codes"]()
    processor._shelf.items.clear()
    made = preview_row(row(), 0, processor)
    assert made.rendering is not None
    assert [c.known for c in made.clips] == [False]
    assert "counted only" in preview_page([made], "set")


@given(st.integers(1, 2000), st.integers(1, 300))
@settings(max_examples=20)
def test_an_envelope_holds_the_extremes(size: int, points: int) -> None:
    wave = sound(1.0)[:size]
    found = envelope(wave, points)
    assert len(found) == min(points, size)
    assert min(low for low, _ in found) == pytest.approx(wave.min())
    assert max(high for _, high in found) == pytest.approx(wave.max())


class Page(HTMLParser):
    """Reads a page: text, tags that are open, and everything that could load something."""

    void = ("meta", "line", "path")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text = self.look = ""
        self.sources: list[str | None] = []
        self.tokens: list[tuple[str, str]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.sources += [
            v for k, v in attributes if k in ("src", "href", "style", "data", "srcset", "action")
        ]
        self.sources += [k for k, _ in attributes if k.startswith("on")]
        if tag not in self.void:
            self.open.append(tag)
        self.look = dict(attributes).get("class") or ""

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.void:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
            self.tokens.append((self.look, data))


def page_of(*previews: Preview, **more: Any) -> tuple[str, Page]:
    html = preview_page(previews, "my <set>", **more)
    page = Page(html)
    assert page.open == []
    return html, page


def test_the_page_shows_the_row_and_plays_it() -> None:
    conversation = row("Hear: ", heard(1.0, speaker="s1", language="en", words=[["what", 0.1, 0.4]]))
    made = preview_row(conversation, 7, PROCESSORS["embeddings"](), sound=True)
    html, page = page_of(made, model="tiny")
    for words in ("my <set>", "Row r", "Hear: ", ASKED, "s1", SAID, "of them audio", "what", "learned"):
        assert words in page.text, words
    [source] = [s for s in page.sources if s.startswith("data:")]
    data = base64.b64decode(source.removeprefix("data:audio/flac;base64,"))
    wave, rate = read_audio(data)
    assert rate == 16_000
    assert np.array_equal(wave, stored(heard(1.0)))
    learned = "".join(text for look, text in page.tokens if look.startswith("t learned"))
    assert learned.strip().endswith(f"{SAID}<|eot_id|>")
    assert "default-src 'none'" in html


def test_nothing_on_the_page_comes_from_elsewhere_or_runs() -> None:
    nasty = "</span><script>alert(1)</script><img src=https://example.org/x onerror=alert(1)>&amp;\"'"
    conversation = row(
        nasty, heard(0.3, transcript=nasty, speaker=nasty, labels={nasty: nasty}), answer=nasty
    )
    conversation.id = conversation.source = conversation.license = nasty
    conversation.messages[0].parts[1].words = [(nasty, 0.1, 0.2)]  # type: ignore[union-attr]
    report = check_set([conversation])
    processor = PROCESSORS["embeddings"]()
    processor.tokenizer.add_tokens(["<script>alert(1)</script>"])  # one token, and one piece of the page
    made = preview_row(conversation, 0, processor, sound=True)
    assert "<script>alert(1)</script>" in [p.text for p in made.pieces]
    for previews in ([made], [made, made]):
        html, page = page_of(*previews, model=nasty, report=report)
        assert page.text.count(nasty) >= 5
        assert not page.tags & {"script", "img", "iframe", "link", "object", "embed", "form", "base"}
        allowed = re.compile(r"data:audio/flac;base64,[A-Za-z0-9+/=]+|#row-\d+|white-space: pre-wrap")
        assert all(allowed.fullmatch(source or "") for source in page.sources), page.sources
        style = html[html.index("<style>") : html.index("</style>")]
        assert "url(" not in style and "@import" not in style


def test_recordings_that_are_too_large_are_left_out(monkeypatch) -> None:
    made = preview_row(row(heard(1.0)), 0, sound=True)
    assert "data:audio" in page_of(made)[0]
    monkeypatch.setattr(page_module, "MOST_CLIP_BYTES", 1000)
    html, page = page_of(made)
    assert "data:audio" not in html and "too large to be played" in page.text
    monkeypatch.undo()
    size = len(made.clips[0].flac)
    monkeypatch.setattr(page_module, "MOST_PAGE_BYTES", 2 * size)
    assert page_of(made, made, made)[0].count("data:audio") == 2


def test_recordings_of_high_rates_are_played_at_a_lower_one() -> None:
    made = preview_row(row(heard(0.5, 48_000)), 0, sound=True)
    wave, rate = read_audio(made.clips[0].flac)
    assert (rate, wave.size) == (24_000, 12_000)
    assert made.clips[0].sample_rate == 48_000


def test_the_report_is_on_the_page() -> None:
    bad = good_row("b")
    bad["messages"].pop()
    report = check_set([good_row("a"), bad])
    _, page = page_of(preview_row(read_conversation(bad, 1), 1), report=report)
    assert "error: nothing_to_learn" in page.text
    assert "row 'b': no assistant turn" in page.text
    assert report.summary() in page.text
