"""Tensors that are spread over processes, as files: each process writes its rows, anyone reads any rows again.

A piece is some rows of a tensor in a safetensors file; a JSON entry says which rows of which shape. What was written
by eight processes is read by one, or three, each reading only the rows it holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate

from vivavoce.base.errors import CheckpointError
from vivavoce.training.optimizers.sharding import rows_here

FILE_BYTES = 2**30  # tensors of a file, unless one alone is larger; also what is copied to the CPU at a time


def pack_pieces(
    tensors: Iterable[tuple[str, Tensor]], rank: int
) -> Iterator[tuple[bytes, list[dict[str, Any]]]]:
    """Make the files of this process: what is on several processes is in the files of one.

    Args:
        tensors: Names and tensors, or DTensors of ``fully_shard``.
        rank: Of this process.

    Yields:
        A safetensors file, and an entry for each tensor in it, without the file's name.
    """
    held: dict[str, Tensor] = {}
    entries: list[dict[str, Any]] = []
    size = 0
    for name, tensor in tensors:
        if not _writes(tensor, rank):
            continue
        rows = rows_here(name, tensor)
        piece = _dense(tensor).detach()
        if tensor.dim() and not rows.held and rows.group is not None:
            continue
        if held and size + piece.nbytes > FILE_BYTES:
            yield save(held), entries
            held, entries, size = {}, [], 0
        held[name] = piece.cpu().clone(memory_format=torch.contiguous_format)
        size += piece.nbytes
        entries.append({"name": name, "shape": list(tensor.shape), "start": rows.start, "rows": rows.held})
    if held:
        yield save(held), entries


class Pieces:
    """The pieces in a folder.

    Args:
        folder: Where the files are.
        entries: Of all processes, each with its ``file``.
    """

    def __init__(self, folder: Path, entries: Iterable[Mapping[str, Any]]) -> None:
        self.folder = folder
        self._pieces: dict[str, list[Mapping[str, Any]]] = {}
        for entry in entries:
            self._pieces.setdefault(entry["name"], []).append(entry)
        self._open: dict[str, Any] = {}

    @property
    def names(self) -> set[str]:
        return set(self._pieces)

    @torch.no_grad()
    def fill(self, name: str, tensor: Tensor) -> None:
        """Copy the stored values into a tensor, or into the rows of it that are here.

        Raises:
            CheckpointError: Not there, of another shape or type, or rows are missing.
        """
        pieces = self._pieces.get(name)
        if pieces is None:
            raise CheckpointError(f"{self.folder} has no {name}; go on with what was trained before.")
        shape = list(pieces[0]["shape"])
        if shape != list(tensor.shape):
            raise CheckpointError(
                f"{name} is of shape {shape} in {self.folder}, wanted {list(tensor.shape)}; the model or the optimizer "
                "is another than the one that was saved."
            )
        rows, target, filled = rows_here(name, tensor), _local(tensor), 0
        for piece in pieces:
            first = max(rows.start, piece["start"])
            last = min(rows.start + rows.held, piece["start"] + piece["rows"])
            if first >= last:
                continue
            values = self._read(piece, first, last)
            if values.dtype != _dense_dtype(tensor):
                raise CheckpointError(
                    f"{name} is {values.dtype} in {self.folder}, wanted {_dense_dtype(tensor)}; go on with the types "
                    "of weights and states that were saved."
                )
            if tensor.dim() == 0 or (first == rows.start and last == rows.start + rows.held):
                target.copy_(values)
            else:
                target[first - rows.start : last - rows.start].copy_(values)
            filled += last - first
        if filled != rows.held:
            raise CheckpointError(f"{self.folder} has {filled} rows of {name}, wanted {rows.held}.")

    def _read(self, piece: Mapping[str, Any], first: int, last: int) -> Tensor:
        """Rows ``first`` to before ``last`` of a tensor from one of its pieces."""
        try:
            if piece["file"] not in self._open:
                self._open[piece["file"]] = safe_open(self.folder / piece["file"], "pt")
            file = self._open[piece["file"]]
            if not piece["shape"]:
                return file.get_tensor(piece["name"])
            return file.get_slice(piece["name"])[first - piece["start"] : last - piece["start"]]
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"{piece['name']} cannot be read from {self.folder / piece['file']}: {error}"
            ) from error


def check_names(wanted: Iterable[str], found: Iterable[str], where: Path) -> None:
    """Refuse other tensors than the wanted ones.

    Raises:
        CheckpointError: Some are missing or too many; names the first.
    """
    missing, surplus = sorted({*wanted} - {*found}), sorted({*found} - {*wanted})
    if missing or surplus:
        raise CheckpointError(
            f"{where} lacks {_some(missing)} and has {_some(surplus)} too many; go on with the model, the trained "
            "parts and the optimizer that were saved."
        )


def _some(names: Sequence[str]) -> str:
    return f"{len(names)} tensors" + (f" (such as {names[0]})" if names else "")


def _writes(tensor: Tensor, rank: int) -> bool:
    """Whether this process writes its part of a tensor: the first of those that hold the same."""
    if not isinstance(tensor, DTensor):
        return rank == 0
    coordinate = tensor.device_mesh.get_coordinate()
    assert coordinate is not None
    return all(
        place == 0 for place, how in zip(coordinate, tensor.placements, strict=True) if type(how) is Replicate
    )


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _dense(tensor: Tensor) -> Tensor:
    """The values here; spread states of 8 bits as the numbers they stand for, rounded again when read."""
    here = _local(tensor)
    return here.dequantize() if is_packed(here) else here


def _dense_dtype(tensor: Tensor) -> torch.dtype:
    return _dense(tensor).dtype if is_packed(_local(tensor)) else tensor.dtype


def is_packed(tensor: Tensor) -> bool:
    """Whether a tensor is of a type that holds its values in others, as states of 8 bits do."""
    if isinstance(tensor, DTensor):
        tensor = tensor.to_local()
    return type(tensor) not in (Tensor, torch.nn.Parameter) and hasattr(tensor, "__tensor_flatten__")
