"""The single-clip form of the published fine-tune: samples, prompts and annotations."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.data.dialogue_cases import EN, ORDER, ZH, as_lines, as_turns, record, some, write_lines

from vivavoce.audio.files import read_audio
from vivavoce.base.errors import AudioError, DataError
from vivavoce.data.conversation import read_conversation
from vivavoce.data.trajectories import read_trajectories

LINES = some(ZH, 3)
HISTORY = "\n".join([ZH[0][0], ZH[0][2], ZH[1][0], ZH[1][2], ZH[-1][0], ORDER])


@pytest.fixture
def one(tmp_path):
    """A set of one dialogue, and the waves of its turns."""
    row = as_lines("a", LINES)
    waves = record(tmp_path, row, 0.5)
    return read_trajectories(write_lines(tmp_path / "x.jsonl", [row])), waves


def clip_of(row) -> np.ndarray:
    """The joined clip of a row."""
    wave, rate = read_audio(row["messages"][0]["content"][0]["audio"]["bytes"])
    assert rate == 16_000
    return wave


def test_the_joined_clip_is_the_published_one_sample_for_sample(one) -> None:
    found, waves = one
    (row,) = found.rows(joined=True)
    published = np.concatenate([piece for wave in waves for piece in (wave, np.zeros(1600, np.float32))])
    np.testing.assert_array_equal(clip_of(row), published)
    (between,) = found.rows(joined=True, trailing_gap=False)
    np.testing.assert_array_equal(clip_of(between), published[:-1600])
    (cut,) = found.rows(joined=True, crop_s=0.7)
    np.testing.assert_array_equal(clip_of(cut), published[:11_200])


def test_a_joined_row_is_one_question_and_the_published_answer(one) -> None:
    (row,) = one[0].rows(joined=True)
    assert read_conversation(row).row() == row
    user, answer = row["messages"]
    part, text = user["content"]
    assert part["labels"] == {"emotions": ["happy", "fear", "neutral"]} and "transcript" not in part
    assert text["text"] == f"任务类型: task1_emotional_trajectory\nUSER: {{}}\nASSISTANT: {ORDER}"
    assert answer == {
        "role": "assistant",
        "content": f"{ZH[-1][2]}\n情绪序列: happy -> fear -> neutral",
    }
    (bare,) = one[0].rows(joined=True, prompt="", suffix=False)
    assert len(bare["messages"][0]["content"]) == 1 and bare["messages"][1]["content"] == ZH[-1][2]
    (told,) = one[0].rows(joined=True, prompt="{history}")
    assert told["messages"][0]["content"][1]["text"] == HISTORY


def test_joining_needs_every_recording(one, tmp_path) -> None:
    found, _ = one
    (tmp_path / "task1_3" / "a_2.wav").unlink()
    with pytest.raises(AudioError, match=r"a_2\.wav does not exist"):
        list(found.rows(joined=True))
    assert list(found.rows(joined=True, present_only=True)) == []
    row = as_turns("b", some(EN, 3))
    del row["turns"][1]["split_audio_file"]
    silent = read_trajectories(write_lines(tmp_path / "y.jsonl", [row]))
    with pytest.raises(DataError, match="b names no recording for turn 2"):
        list(silent.rows(joined=True))
    with pytest.raises(DataError, match="b lacks a recording"):
        silent.to_annotation()


def test_the_upstream_annotation(one) -> None:
    found, _ = one
    made = found.to_annotation()
    assert made == {
        "annotation": [
            {
                "path": "task1_3/a_1.wav",
                "expand_wav": ["task1_3/a_2.wav", "task1_3/a_3.wav"],
                "text": f"{ZH[-1][2]}\n情绪序列: happy -> fear -> neutral",
                "task": "task1_emotional_trajectory",
                "Q": HISTORY,
            }
        ]
    }
    assert found.to_annotation(suffix=False)["annotation"][0]["text"] == ZH[-1][2]
    json.dumps(made)
