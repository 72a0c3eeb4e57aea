"""``import vivavoce`` is cheap, and its names are where they are promised."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import vivavoce


def test_import_does_not_import_torch():
    code = (
        "import sys, vivavoce; assert vivavoce.__version__; "
        "heavy = {'torch', 'transformers', 'numpy', 'soundfile'} & set(sys.modules); assert not heavy, heavy"
    )
    source = str(Path(vivavoce.__file__).parents[1])
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": source})


@pytest.mark.parametrize("name", [n for n in vivavoce.__all__ if n != "__version__"])
def test_every_name_opens(name):
    assert getattr(vivavoce, name).__name__ == name
    assert name in dir(vivavoce)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        vivavoce.lode  # noqa: B018
