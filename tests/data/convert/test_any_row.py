"""Any row, any form: what comes back is what the form says survives, or the row is left out with its reason."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.data.convert.cases import make_clips, plain_row

from vivavoce.base.errors import DataError
from vivavoce.data.conversation import Audio, Conversation, Message, Text
from vivavoce.data.convert import FORMATS, get_format
from vivavoce.data.convert.contract import Format, Options
from vivavoce.data.recordings import read_waveform

LENGTHS_S = {"clips/a.wav": 0.5, "clips/c.wav": 0.75, "clips/d.flac": 0.5}
WORDS = st.text(st.sampled_from("ab é好<>|\n\"'[]{}#,"), min_size=1, max_size=8).filter(
    lambda s: s.strip() == s
)
TRICKY = st.sampled_from(["<audio>", "hi <speech> x", "<|audio|>", "<|sound_1|>", "# 1 2", "a\tb"])
TEXTS = st.one_of(WORDS, TRICKY)
TOKENS = (
    {"codec": "snac_24khz", "layout": "orpheus", "num_samples": 2000, "ids": [4096 * s for s in range(7)]},
    {"codec": "encodec_24khz", "layout": "interleaved", "num_samples": 640, "ids": [1, 2, 3, 4]},
)
CALL = {"tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}]}
SHAPES = ("u", "u", "ua", "ua", "ua", "sua", "uaua", "a", "uua", "uata")
ROLES = {"u": "user", "a": "assistant", "s": "system", "t": "tool"}


def maybe(draw: st.DrawFn, values: Any) -> Any:
    return draw(values) if draw(st.booleans()) else None


@st.composite
def parts(draw: st.DrawFn) -> Text | Audio:
    if draw(st.integers(0, 2)) == 0:
        return Text(draw(TEXTS))
    start, end = draw(st.sampled_from([(0.0, None), (0.0, None), (0.0, 0.25), (0.125, 0.5), (0.25, None)]))
    label = st.dictionaries(
        st.sampled_from(["emotion", "gender", "description", "pitch", "zz"]),
        st.sampled_from(["happy", "sad", "x"]),
    )
    part = Audio(draw(st.sampled_from(sorted(LENGTHS_S))), start, end, maybe(draw, TEXTS))
    part.language, part.speaker = maybe(draw, st.sampled_from(["en", "zh"])), maybe(draw, WORDS)
    part.words = maybe(draw, WORDS.map(lambda word: [(word, 0.0, 0.125)]))
    part.labels = maybe(draw, label) or {}
    if draw(st.integers(0, 3)) == 0:
        part.tokens = dict(draw(st.sampled_from(TOKENS)))
        if draw(st.booleans()):
            part.audio, part.start_s, part.end_s = None, 0.0, None
    return part


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    messages = []
    for letter in draw(st.sampled_from(SHAPES)):
        message = Message(
            ROLES[letter], draw(st.lists(parts(), min_size=1, max_size=draw(st.sampled_from([1, 1, 2, 3]))))
        )
        if draw(st.integers(0, 3)) == 0:
            message.loss = draw(st.sampled_from([0.0, 1.0, 0.5, {"text": 1.0, "audio": 0.5}]))
        if draw(st.integers(0, 5)) == 0:
            more = [{"name": "x"}, {"time": [0.0, 1.0]}, CALL] if letter == "a" else [{"name": "y"}]
            message.more = dict(draw(st.sampled_from(more)))
        messages.append(message)
    row = Conversation(draw(st.sampled_from(["r1", "0", "a/b", "x.y"])), messages)
    row.task = draw(st.sampled_from(["chat", "asr", "tts", "translate", "continue", "trajectory"]))
    row.license = maybe(draw, st.just("cc0-1.0"))
    row.meta = draw(st.sampled_from([{}, {}, {"rejected_response": "no"}, {"topic": "x"}]))
    row.tools = draw(st.sampled_from([[], [], [{"name": "f"}]]))
    return row


def comparable(row: Conversation, given_row: Conversation, form: Format) -> dict[str, Any]:
    """A row without what may differ in writing but not in meaning."""
    made = plain_row(row)
    if "id" not in form.holds:
        made.pop("id")
    sounds = [
        p
        for m in made["messages"]
        if isinstance(m["content"], list)
        for p in m["content"]
        if p["type"] == "audio"
    ]
    for part, source in zip(sounds, given_row.audio_parts(), strict=False):
        if part.get("end") == LENGTHS_S.get(str(source.audio)):
            part.pop("end", None)  # to its end, or to the second at which it ends
    for message in made["messages"]:
        if form.name == "moshi":
            message.pop("time", None)  # every turn gets one
        if isinstance(message["content"], list) and all(p["type"] == "text" for p in message["content"]):
            message["content"] = "".join(p["text"] for p in message["content"])
    return made


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clips(tmp_path_factory.mktemp("rows"))


@pytest.mark.parametrize("name", [f for f in FORMATS if f != "folder"])
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(row=conversations(), number=st.integers(0, 9))
def test_what_survives_comes_back(root: Path, name: str, row: Conversation, number: int) -> None:
    form = get_format(name)
    suffixes = [s for s in form.suffixes if s not in (".csv", ".tsv")]
    variant = form.variants[number % len(form.variants)] if form.variants else ""
    folder = Path(tempfile.mkdtemp(dir=root))
    out, before = folder / f"o{suffixes[number % len(suffixes)]}", row.content_hash()
    try:
        try:
            done = form.write([row], out, Options(audio_root=root, variant=variant))
        except DataError as error:
            assert "none of 1 rows fits" in str(error) and not list(folder.iterdir())
            return
        assert row.content_hash() == before
        again = Options(variant=variant, form=variant if variant == "separator_50258" else "auto")
        found = list(form.read(out, again))
        assert len(found) == done.entries and all(isinstance(r, Conversation) for r in found), found
        if done.entries == 1 and not {"roles", "typed text", "message borders"} & set(done.dropped):
            expected = form.survivor(row, again)
            assert comparable(found[0], row, form) == comparable(expected, row, form)
            base = out if out.is_dir() else folder
            pairs = zip(row.audio_parts(), expected.audio_parts(), strict=True)
            heard = [_samples(part, row, root) for part, kept in pairs if kept.audio is not None]
            again_heard = [_samples(p, found[0], base) for p in found[0].audio_parts() if p.audio is not None]
            assert len(heard) == len(again_heard)
            assert all(map(np.array_equal, heard, again_heard))
    finally:
        shutil.rmtree(folder)


def _samples(part: Audio, row: Conversation, root: Path) -> np.ndarray:
    return read_waveform(part, row, None, root)[0]
