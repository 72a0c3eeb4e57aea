"""Checkpoints of a run: parameters, optimizer, position in the data and random states, from which it goes on.

A checkpoint is a folder ``step-000123``. It is written as ``step-000123.part``, every file is flushed to the disk, then
a manifest with sizes and hashes, then the folder is renamed: it is whole, or it does not count. Weights that stay as
they are and are stored elsewhere (frozen parts with a reference) are left out. Files are safetensors and JSON.

Every process calls these functions together; the folder must be the same for all.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from vivavoce.base.errors import CheckpointError
from vivavoce.models.lora import is_adapter
from vivavoce.models.references import references
from vivavoce.training.pieces import Pieces, check_names, is_packed, pack_pieces
from vivavoce.training.random_state import random_state, set_random_state
from vivavoce.training.schedules import set_group_rate
from vivavoce.training.world import World

FORMAT = 1
MANIFEST = "manifest.json"
ALONE = World()
_STEP = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True)
class Loaded:
    """What a checkpoint holds beside tensors, which are in the model and the optimizer by now.

    Attributes:
        step: Updates that were done.
        readers: Of every process that saved, by rank: the state of its reader.
        counters: As saved.
        world_size: Number of processes that saved.
        same_random: Whether random states were taken over; not, if there were other processes or devices.
    """

    step: int
    readers: list[Any]
    counters: Any
    world_size: int
    same_random: bool


def save_checkpoint(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizer: Optimizer | None = None,
    *,
    reader: Any = None,
    counters: Any = None,
    world: World = ALONE,
    keep_last: int | None = None,
) -> Path:
    """Write ``folder/step-...``; when it is whole, the oldest of more than ``keep_last`` go.

    Args:
        folder: Of the run's checkpoints.
        step: Updates done.
        model: Its trained parameters, and all others but those stored by reference.
        optimizer: Its state, by names of parameters.
        reader: State of this process' reader, JSON.
        counters: Anything else, JSON; that of rank 0 is kept.
        world: The processes.
        keep_last: How many stay, 1 or more; None keeps all.

    Returns:
        The folder.

    Raises:
        CheckpointError: It cannot be written (no space, ...); earlier ones stay as they are.
    """
    final = folder / f"step-{step:06d}"
    part = final.with_name(final.name + ".part")
    fault, files = "", {}
    try:
        if world.is_first and part.exists():
            shutil.rmtree(part)
    except OSError as error:
        fault = str(error)
    world.barrier()
    try:
        part.mkdir(parents=True, exist_ok=True)
        files = _write_own(part, model, optimizer, reader, world)
    except OSError as error:
        fault = fault or str(error)
    shares = world.gather({"fault": fault, "files": files})
    faults = [f"rank {rank}: {share['fault']}" for rank, share in enumerate(shares) if share["fault"]]
    if not faults and world.is_first:
        manifest = {"format": FORMAT, "step": step, "world_size": world.size, "counters": counters}
        manifest["optimizer"] = type(optimizer).__name__ if optimizer is not None else None
        manifest["files"] = {name: facts for share in shares for name, facts in share["files"].items()}
        try:
            _finish(part, final, manifest)
        except OSError as error:
            faults = [str(error)]
    faults = world.gather(faults)[0]
    if world.is_first:
        if faults:
            shutil.rmtree(part, ignore_errors=True)
        else:
            _tidy(folder, final, keep_last)
    world.barrier()
    if faults:
        last = max(_checkpoints(folder), default=None)
        raise CheckpointError(
            f"the checkpoint of step {step} could not be written to {folder} ({'; '.join(faults)}); "
            + (f"the last one is still {last.name}." if last else "there is none yet.")
            + " Make room, or choose another folder."
        )
    return final


def latest_checkpoint(folder: Path, world: World = ALONE, check_hashes: bool = True) -> Path | None:
    """Find the newest checkpoint that is whole; warns of those that are not.

    Args:
        folder: Of the run's checkpoints.
        world: The processes.
        check_hashes: Read every byte, not sizes alone.

    Returns:
        The folder, or None if no checkpoint was ever written.

    Raises:
        CheckpointError: There are some, but none is whole.
    """
    found: list[str] = []
    faults: list[str] = []
    if world.is_first and folder.is_dir():
        faults = [f"{path.name} was never finished" for path in sorted(folder.glob("step-*.part"))]
        for path in reversed(_checkpoints(folder, torn=True)):
            fault = _fault(path, check_hashes)
            if not fault:
                found = [path.name]
                break
            faults.append(f"{path.name}: {fault}")
    found, faults = world.gather([found, faults])[0]
    if faults and world.is_first:
        warnings.warn(f"{'; '.join(faults)}; using {found[0] if found else 'none'}.", stacklevel=2)
    if not found and any(not fault.endswith("never finished") for fault in faults):
        raise CheckpointError(
            f"{folder} has no checkpoint that is whole: {'; '.join(faults)}. Bring back a copy, or remove them to "
            "start again."
        )
    return folder / found[0] if found else None


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: Optimizer | None = None, *, world: World = ALONE
) -> Loaded:
    """Put a checkpoint into a model and an optimizer, whatever number of processes wrote it.

    Learning rate and other settings of the optimizer stay as it was built.

    Args:
        path: What ``latest_checkpoint`` gave.
        model: Built, frozen and spread as it is to be trained.
        optimizer: Of this model; None leaves what is stored of it.
        world: The processes.

    Raises:
        CheckpointError: Another model, other trained parts, another optimizer, or a file that cannot be read.
    """
    manifest = _read_json(path / MANIFEST)
    shares = [_read_json(path / f"rank-{rank:05d}.json") for rank in range(manifest["world_size"])]
    pieces = Pieces(path, [entry for share in shares for entry in share["entries"]])
    stored = {name for name in pieces.names if name.startswith("model/")}
    wanted = {f"model/{name}": tensor for name, tensor in _model_tensors(model)}
    check_names(wanted, stored, path)
    for name, tensor in wanted.items():
        pieces.fill(name, tensor)
    if optimizer is not None:
        if manifest["optimizer"] != type(optimizer).__name__:
            raise CheckpointError(
                f"{path} has the state of {manifest['optimizer']}, wanted {type(optimizer).__name__}; go on with the "
                "optimizer of before."
            )
        _load_optimizer(model, optimizer, pieces, shares[0]["values"], path)
    own = shares[world.rank]["random"] if manifest["world_size"] == world.size else None
    same_random = own is not None and set_random_state(own, world.device)
    readers = [share["reader"] for share in shares]
    return Loaded(manifest["step"], readers, manifest["counters"], manifest["world_size"], same_random)


def _model_tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and lasting buffers that a checkpoint keeps, each once."""
    elsewhere = tuple(references(model)) if hasattr(model, "audio_encoder") else ()  # type: ignore[arg-type]
    kept: list[tuple[str, Tensor]] = [
        (name, parameter)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad or is_adapter(name) or not name.startswith(elsewhere)
    ]
    for prefix, module in model.named_modules():
        for name, buffer in module.named_buffers(prefix, recurse=False):
            lasting = name.rpartition(".")[2] not in module._non_persistent_buffers_set
            if lasting and not name.startswith(elsewhere):
                kept.append((name, buffer))
    return kept


def _optimizer_state(model: nn.Module, optimizer: Optimizer) -> list[tuple[str, Tensor, dict[str, Any]]]:
    """Name, parameter and state of every parameter of an optimizer, in the order of the model."""
    inside = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return [(name, p, optimizer.state.get(p, {})) for name, p in model.named_parameters() if id(p) in inside]


def _tensors_of(state: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors in a parameter's state; those of 8 bits that are whole by the plain tensors they are made of."""
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        if isinstance(value, Tensor) and is_packed(value) and not isinstance(value, DTensor):
            inner = value.__tensor_flatten__()[0]  # type: ignore[attr-defined]
            found |= {f"{key}.{name}": getattr(value, name) for name in inner}
        elif isinstance(value, Tensor):
            found[key] = value
    return found


def _load_optimizer(
    model: nn.Module, optimizer: Optimizer, pieces: Pieces, values: dict[str, Any], path: Path
) -> None:
    """Let the optimizer make its own empty state, spread as it needs it, and fill it."""
    stored = {name for name in pieces.names if name.startswith("optimizer/")} | {*values}
    owners = {name.split("/")[1] for name in stored}
    optimizer.state.clear()
    optimizer.zero_grad()
    parameters = dict(model.named_parameters())
    check_names(owners & {*parameters}, owners, path)
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        set_group_rate(group, 0.0)
    for name in owners:
        parameters[name].grad = torch.zeros_like(parameters[name])
    optimizer.step()
    optimizer.zero_grad()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        set_group_rate(group, rate)
    found = _optimizer_state(model, optimizer)
    tensors = {f"optimizer/{n}/{key}": t for n, _, state in found for key, t in _tensors_of(state).items()}
    plain = {
        f"optimizer/{n}/{key}": (state, key)
        for n, _, state in found
        for key, value in state.items()
        if not isinstance(value, Tensor)
    }
    check_names({*tensors, *plain}, stored, path)
    for name, tensor in tensors.items():
        pieces.fill(name, tensor)
    for name, (state, key) in plain.items():
        state[key] = values[name]


def _write_own(
    part: Path, model: nn.Module, optimizer: Optimizer | None, reader: Any, world: World
) -> dict[str, Any]:
    """Write this process' files; returns name -> size and hash."""
    tensors = [(f"model/{name}", tensor) for name, tensor in _model_tensors(model)]
    values: dict[str, Any] = {}
    for name, _, state in _optimizer_state(model, optimizer) if optimizer is not None else ():
        tensors += [(f"optimizer/{name}/{key}", tensor) for key, tensor in _tensors_of(state).items()]
        values |= {f"optimizer/{name}/{k}": v for k, v in state.items() if not isinstance(v, Tensor)}
    files, entries = {}, []
    for number, (data, inside) in enumerate(pack_pieces(tensors, world.rank)):
        file = f"rank-{world.rank:05d}-{number:03d}.safetensors"
        files[file] = _write(part / file, data)
        entries += [{**entry, "file": file} for entry in inside]
    share = {"entries": entries, "values": values, "reader": reader, "random": random_state(world.device)}
    file = f"rank-{world.rank:05d}.json"
    files[file] = _write(part / file, json.dumps(share).encode())
    return files


def _write(path: Path, data: bytes) -> dict[str, Any]:
    """Write a file to the disk; returns its size and hash."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _finish(part: Path, final: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest and give the folder its name."""
    for name, facts in manifest["files"].items():
        if not (part / name).is_file() or (part / name).stat().st_size != facts["bytes"]:
            raise OSError(f"{name} is not in {part}; all processes must write to one file system")
    _write(part / MANIFEST, json.dumps(manifest).encode())
    _flush(part)
    if final.exists():  # torn, or a run that went back
        old = final.with_name(final.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        final.rename(old)
    part.rename(final)
    _flush(final.parent)


def _flush(folder: Path) -> None:
    """Make the names in a folder last."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _tidy(folder: Path, newest: Path, keep_last: int | None) -> None:
    """Remove what is left over, and the oldest; a file that cannot be removed only takes room."""
    gone = [*folder.glob("step-*.part"), *folder.glob("step-*.old")]
    if keep_last is not None:
        others = [p for p in _checkpoints(folder) if p != newest]
        gone += others[: max(0, len(others) - max(0, keep_last - 1))]
    for path in gone:
        shutil.rmtree(path, ignore_errors=True)


def _number(path: Path) -> int:
    found = _STEP.fullmatch(path.name)
    return int(found[1]) if found else -1


def _checkpoints(folder: Path, torn: bool = False) -> list[Path]:
    """Folders of checkpoints, by step."""
    with suppress(FileNotFoundError):
        found = [p for p in folder.iterdir() if _STEP.fullmatch(p.name)]
        return sorted((p for p in found if torn or (p / MANIFEST).is_file()), key=_number)
    return []


def _fault(path: Path, check_hashes: bool) -> str:
    """Say what is wrong with a checkpoint, "" if it is whole."""
    try:
        manifest = _read_json(path / MANIFEST)
        files: dict[str, dict[str, Any]] = manifest["files"]
        if manifest["format"] != FORMAT:
            return f"format {manifest['format']} is not known"
        for name, facts in files.items():
            if Path(name).name != name or not (path / name).is_file():
                return f"{name} is missing"
            size = (path / name).stat().st_size
            if size != facts["bytes"]:
                return f"{name} has {size} of {facts['bytes']} bytes"
        if check_hashes:
            with ThreadPoolExecutor(4) as pool:
                hashes = dict(zip(files, pool.map(lambda name: _hash(path / name), files), strict=True))
            changed = [name for name, facts in files.items() if hashes[name] != facts["sha256"]]
            return f"{changed[0]} was changed on the disk" if changed else ""
    except (CheckpointError, OSError, KeyError, TypeError) as error:
        return f"{error}"
    return ""


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path.name} cannot be read ({error})") from error
