"""Files whole or not at all, and values that JSON has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import vivavoce
from vivavoce.base.whole_files import plain, write_whole


def test_a_file_is_written_and_nothing_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    for text in ("first, and long", "größer"):
        write_whole(path, text)
        assert path.read_bytes() == text.encode()
    assert [*tmp_path.iterdir()] == [path]


def test_a_fault_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    write_whole(path, "before")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "after \ud800")
    assert path.read_text() == "before"


def test_a_folder_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "none" / "found.json", "")


def test_values_of_other_libraries_are_plain() -> None:
    given = {
        1: np.float32(0.5),
        "tensor": torch.tensor([[1.0, float("nan")]]),
        "scalar": torch.tensor(3),
        "array": np.array([1, 2]),
        "text": np.str_("words"),
        "pair": (True, None),
        "path": Path("a") / "b",
        "infinite": float("-inf"),
    }
    made = {
        "1": 0.5,
        "tensor": [[1.0, None]],
        "scalar": 3,
        "array": [1, 2],
        "text": "words",
        "pair": [True, None],
        "path": str(Path("a") / "b"),
        "infinite": None,
    }
    assert plain(given) == made
    assert json.loads(json.dumps(plain(given), allow_nan=False)) == made


def test_digits() -> None:
    assert plain([1 / 3, np.float64(2 / 3), 7, float("inf")], digits=3) == [0.333, 0.667, 7, None]
    assert plain([1 / 3]) == [1 / 3]


@pytest.mark.parametrize("name", ["errors", "records", "registry", "whole_files"])
def test_the_base_is_light(name: str) -> None:
    code = (
        f"import sys, vivavoce.base.{name}; "
        "heavy = {'torch', 'transformers', 'numpy', 'soundfile', 'yaml'} & set(sys.modules); assert not heavy, heavy"
    )
    source = str(Path(vivavoce.__file__).parents[1])
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": source})
