"""Points the discovery of golden folders at ``--goldens DIR`` (repeatable) or at the stored data."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.goldens import discovery


def pytest_configure(config: pytest.Config) -> None:
    """Set the roots once, before any test module asks for its folders."""
    given = config.getoption("--goldens", default=None)
    if given:
        roots = [Path(config.invocation_params.dir, directory) for directory in given]
        missing = [str(root) for root in roots if not root.is_dir()]
        if missing:
            raise pytest.UsageError(f"--goldens: no such folder: {', '.join(missing)}")
        discovery.ROOTS[:] = roots
