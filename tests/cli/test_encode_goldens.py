"""``encode`` prints exactly the string of the card for every golden clip."""

from __future__ import annotations

import hashlib
import json

import pytest
from tests.goldens.discovery import golden_folders, label

CLIPS = [
    pytest.param(folder, item, id=f"{label(folder)}-{item['name']}")
    for folder in golden_folders("jan_llama3")
    for item in json.loads((folder / "encodec_codes.json").read_text())["items"]
    if (folder / item["file"]).is_file()
]


@pytest.mark.parametrize(("folder", "item"), CLIPS)
def test_encode_prints_the_string_of_the_card(run, folder, item):
    codec, clip = folder / "encodec_tiny", folder / item["file"]
    outcome = run("encode", clip, "--codec", codec, "--layout", "interleaved", "--format", "text")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.text == item["text"] + "\n"
    assert hashlib.sha256(outcome.out.rstrip(b"\n")).hexdigest() == item["text_sha256"]


def test_there_are_clips_and_one_is_resampled():
    rates = {item["sample_rate"] for _, item in (case.values for case in CLIPS)}
    assert len(CLIPS) > 5
    assert rates - {24_000}
