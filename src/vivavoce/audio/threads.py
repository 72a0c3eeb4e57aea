"""Torch on one thread, for results that must be the same on every machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread(device: str = "cpu") -> Iterator[None]:
    """Run torch on one thread, so that sums are taken in one order on every machine and in every worker.

    Args:
        device: Where the work is; on another than the CPU nothing is changed.
    """
    import torch

    if device != "cpu":
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
