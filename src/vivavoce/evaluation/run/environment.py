"""What a run was made on, for its record."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "vivavoce", "torch", "transformers", "numpy", "jiwer", "sacrebleu", "whisper-normalizer", "pocketsphinx",
    "espeakng-loader",
)  # fmt: skip


def hardware() -> dict[str, Any]:
    """Facts by name: "cpu", "cores", "threads", and "gpu" where there is one."""
    import torch

    name = platform.processor() or platform.machine()
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        lines = facts.read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((row.partition(":")[2].strip() for row in lines if row.startswith("model name")), name)
    found = {
        "cpu": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that matter, those that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
