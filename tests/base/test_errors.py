"""One error tree, drawn as it is."""

from __future__ import annotations

import inspect
import re

from vivavoce.base import errors


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    classes = {
        name: c for name, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == errors.__name__
    }
    drawn = [
        (m[2], len(m[1]) // 4) for m in re.finditer(r"^([│ ├└─]*)(\w+Error)", errors.__doc__ or "", re.M)
    ]
    assert {name for name, _ in drawn} == set(classes)
    path: list[str] = []
    for name, depth in drawn:
        path = [*path[:depth], name]
        parent = Exception if depth == 0 else classes[path[-2]]
        assert classes[name].__bases__ == (parent,), f"{name} is drawn under {parent.__name__}"


def test_a_layout_error_may_name_a_position() -> None:
    assert errors.LayoutError("bad", 7).position == 7
    assert errors.LayoutError("bad").position is None
    assert str(errors.LayoutError("bad", 7)) == "bad"
