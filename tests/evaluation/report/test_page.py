"""The page: well formed, needs nothing from elsewhere, escapes what models say, shows what is broken."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from tests.evaluation.report.folders import answered, make_folder, share, spoken_questions, write_task

from vivavoce.evaluation.report.card import model_card
from vivavoce.evaluation.report.making import make_report
from vivavoce.evaluation.report.players import Players
from vivavoce.evaluation.report.report import read_report
from vivavoce.evaluation.results import Finding, Outcome

SELF_CLOSED = {"meta", "br", "line", "circle", "polyline"}
BROKEN = Finding("audio_ignored", "broken", "it answers as well when it hears silence", {"gap": 0.01})


class Balance(HTMLParser):
    """Finds tags that are not closed, or closed in the wrong order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        if tag not in SELF_CLOSED:
            self.faults.append(f"<{tag}/>")

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data):
        self.text.append(data)


def page_of(folder: Path) -> str:
    make_report(folder)
    return (folder / "report.html").read_text()


def test_page_is_well_formed_and_needs_nothing(tmp_path):
    page = page_of(make_folder(tmp_path / "run", sound=True, findings=[BROKEN, Finding("x", "ok", "fine")]))
    balance = Balance()
    balance.feed(page)
    assert balance.faults == []
    assert balance.open == []
    sources = re.findall(r'(?:src|href|url|xlink:href)\s*[=(]\s*["\']?([^"\')\s>]+)', page)
    assert [s for s in sources if not s.startswith(("#", "data:audio/"))] == []
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert 'name="viewport"' in page
    assert "prefers-color-scheme: dark" in page
    assert page.count("<audio") == 10  # those that were answered wrongly


def test_a_broken_model_stands_on_top_in_red(tmp_path):
    page = page_of(make_folder(tmp_path / "run", findings=[Finding("fine", "ok", "good"), BROKEN]))
    assert "<title>BROKEN: Evaluation of tiny</title>" in page
    banner = page.index('<div class="broken" role="alert">')
    assert banner < page.index("In words") < page.index("75.0 %")
    assert "it answers as well when it hears silence" in page[banner : page.index("In words")]
    assert ".broken { background: var(--red)" in page
    assert page.count("BROKEN MODEL") >= 6  # each verdict and each task too
    assert "BROKEN" not in page_of(make_folder(tmp_path / "sound"))


def test_what_models_say_stays_text(tmp_path):
    folder = make_folder(tmp_path / "run")
    questions = [replace(q, question="<script>alert(1)</script>") for q in spoken_questions(20)]
    evil = [Outcome(q.id, '</div><img src="http://x/y.png" onerror=x>', "<b>heard</b>") for q in questions]
    write_task(folder, "questions", questions, {"model": evil})
    page = page_of(folder)
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_audio_is_embedded_up_to_a_limit_then_beside_the_page(tmp_path):
    folder = make_folder(tmp_path / "run", sound=True)
    size = (folder / "audio/questions/q000.wav").stat().st_size
    players = Players(folder, most_bytes=2 * size)
    shown = [players.show(folder, f"audio/questions/q{i:03d}.wav", "asked") for i in range(3)]
    assert ['src="data:audio/wav;base64,' in s for s in shown] == [True, True, False]
    assert 'src="audio/questions/q002.wav"' in shown[2]
    assert 'src="data' not in Players(folder, most_clip_bytes=10).show(
        folder, "audio/questions/q000.wav", "a"
    )
    beside = Players(tmp_path, most_clip_bytes=10).show(folder, "audio/questions/q000.wav", "a")
    assert 'src="run/audio/questions/q000.wav"' in beside


def test_files_outside_the_run_are_not_shown(tmp_path):
    folder = make_folder(tmp_path / "run", sound=True)
    shutil.copy(folder / "audio/questions/q000.wav", tmp_path / "secret.wav")
    (folder / "run.txt").write_text("x")
    players = Players(folder)
    assert players.show(folder, "../secret.wav", "a") == ""
    assert players.show(folder, str(tmp_path / "secret.wav"), "a") == ""
    assert players.show(folder, "run.txt", "a") == ""
    assert players.show(folder, None, "a") == ""


def test_worst_items_noise_and_latency_are_there(tmp_path):
    page = page_of(make_folder(tmp_path / "run"))
    assert "<del>answer 30</del> <ins>wrong q030</ins>" in page
    assert 'aria-label="score over noise"' in page
    assert "10 dB" in page
    assert re.search(r"questions</td><td>model</td><td>first text</td><td class=\"n\">200 ms \[200 ms", page)
    assert "few" in page


def test_side_by_side(tmp_path):
    make_folder(tmp_path / "both" / "one", name="one", findings=[BROKEN])
    make_folder(tmp_path / "both" / "two", model=10, name="two")
    page = page_of(tmp_path / "both")
    table = page[page.index("Side by side") : page.index('id="one-top"')]
    assert "75.0 % [" in table
    assert "25.0 % [" in table
    assert "BROKEN" in table
    balance = Balance()
    balance.feed(page)
    assert (balance.faults, balance.open) == ([], [])


def test_model_card_is_metadata_and_tables(tmp_path):
    report = read_report(make_folder(tmp_path / "run", findings=[BROKEN])).models[0]
    card = model_card(report)
    _, front, rest = card.split("---\n", 2)
    index = yaml.safe_load(front)["model-index"][0]
    assert index["name"] == "tiny"
    results = {r["dataset"]["type"]: r for r in index["results"]}
    assert results["questions"]["metrics"][0]["value"] == 0.75
    assert results["noisy"]["dataset"]["name"] == "noisy (synthetic stand-in)"
    assert results["noisy"]["task"]["type"] == "automatic-speech-recognition"
    assert "| questions | pocketsphinx 5.1.1 + its own LLM | exact_match | 50.0 % [" in rest
    assert "25.0 points better" in rest
    assert "**This model is broken.**" in rest


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_is_wider_than_the_screen(tmp_path, width):
    folder = make_folder(tmp_path / "run", sound=True, findings=[BROKEN])
    questions = spoken_questions(40)
    long = [replace(o, hypothesis="x" * 300) for o in answered(questions, share(40, 0))]
    write_task(folder, "questions", questions, {"model": long})
    page_of(folder)
    frame = tmp_path / "frame.html"
    measure = (
        "d=document.querySelector('iframe').contentDocument.documentElement;document.title=d.scrollWidth"
    )
    frame.write_text(
        f'<iframe src="run/report.html" style="border:0;width:{width}px;height:900px" onload="{measure}"></iframe>'
    )
    out = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom",
         "--virtual-time-budget=4000", frame.as_uri()],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    assert int(re.search(r"<title>(\d+)</title>", out)[1]) <= width
