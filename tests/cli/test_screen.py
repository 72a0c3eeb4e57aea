"""What reaches stdout and stderr."""

from __future__ import annotations

import json

import numpy as np

from vivavoce.cli import screen


def test_control_characters_are_shown_and_not_obeyed():
    assert screen.printable("a\x1b[2Jb\rc\n\tü") == "a\\x1b[2Jb\\rc\n\tü"


def test_an_error_stays_on_one_line_however_long(capsys):
    screen.print_error("long " * 100 + "\n end [red]")
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("error: long long")
    assert err.endswith("end [red]\n")


def test_json_has_no_numbers_that_json_does_not_have(capsys):
    screen.print_json({"a": float("nan"), "b": np.float32(-np.inf), "c": np.int64(3), "d": (1.5,)})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": None, "c": 3, "d": [1.5]}


def test_a_table_in_a_pipe_is_aligned_and_never_cut(capsys):
    screen.print_table(("name", "rate"), [("x" * 200, 1), ("b", 22_050)], right=("rate",))
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["name" + " " * 196 + "   rate", "x" * 200 + "      1", "b" + " " * 199 + "  22050"]
