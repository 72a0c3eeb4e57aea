"""The crops of each update: a pure function of seed and update, so a run that goes on needs no state of its data."""

from __future__ import annotations

import os
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vivavoce.base.errors import DataError
from vivavoce.codecs.contract import Codec, Codes
from vivavoce.codecs.training.crops import crop_frames, cut, cut_frames, vary
from vivavoce.data.reader.chance import seed_of
from vivavoce.training.codec.config import CodecTrainConfig
from vivavoce.training.codec.recordings import Recordings, readable
from vivavoce.training.world import World

MOST_TRIES = 100  # recordings in a row that cannot be used


@dataclass
class Batch:
    """Crops of one process.

    Attributes:
        waveform: float32 [B, 1, S].
        levels: Codes [B, T_l] of each level, where the decoder alone learns.
    """

    waveform: Tensor
    levels: list[Tensor] | None = None

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        levels = None if self.levels is None else [level.to(device) for level in self.levels]
        return Batch(self.waveform.to(device), levels)


class StoredCodes:
    """Codes of whole recordings: of their rows, or else made once and kept in a folder.

    Args:
        codec: That makes them; weights folded, as everywhere outside of training.
        folder: Where they are kept.
        recordings: Whose codes.
    """

    def __init__(self, codec: Codec, folder: Path, recordings: Recordings) -> None:
        self.codec, self.folder, self.recordings = codec, folder, recordings
        folder.mkdir(parents=True, exist_ok=True)

    def of(self, number: int, waveform: np.ndarray) -> Codes:
        """The codes of a recording."""
        found = self.recordings.stored_codes(number, self.codec.spec)
        if found is not None:
            return found
        file = self.folder / f"{number:07d}.safetensors"
        if file.is_file():
            tensors = load_file(file)
            return Codes([tensors[f"level_{k}"] for k in range(len(tensors))], [len(waveform)])
        device = next(self.codec.parameters()).device
        codes = self.codec.encode(torch.from_numpy(waveform)[None, None].to(device))
        part = file.with_suffix(f".{os.getpid()}.part")
        save_file({f"level_{k}": level.cpu().contiguous() for k, level in enumerate(codes.levels)}, part)
        part.replace(file)
        return Codes([level.cpu() for level in codes.levels], codes.num_samples)


class Batches:
    """Draws the crops of every update, one update ahead, in a thread of its own.

    Args:
        config: Of the run.
        recordings: To draw from.
        codec: For rates and legal lengths.
        world: Each process draws its share of the batch.
        codes: Where the decoder alone learns.

    Raises:
        DataError: The batch cannot be shared out evenly.
    """

    def __init__(
        self,
        config: CodecTrainConfig,
        recordings: Recordings,
        codec: Codec,
        world: World,
        codes: StoredCodes | None = None,
    ) -> None:
        if config.crops.batch % world.size:
            raise DataError(
                f"crops.batch is {config.crops.batch}, wanted a multiple of {world.size} processes."
            )
        self.config, self.recordings, self.spec = config, recordings, codec.spec
        self.world, self.codes = world, codes

    def draw(self, step: int) -> Batch:
        """The crops of the update after ``step`` others; below 0, crops that no update has."""
        share = self.config.crops.batch // self.world.size
        frames = crop_frames(self.config.crops.seconds, max(0, step), self.spec)
        items = [self._item(step, self.world.rank * share + i, frames) for i in range(share)]
        waveform = torch.from_numpy(np.stack([crop for crop, _ in items]))[:, None]
        if self.codes is None:
            return Batch(waveform)
        levels = [torch.stack(level) for level in zip(*(codes for _, codes in items), strict=True)]
        return Batch(waveform, levels)

    def ahead(self, step: int) -> Generator[Batch, None, None]:
        """Batches from ``step`` on, without end."""
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(self.draw, step)
            while True:
                step += 1
                batch, coming = coming.result(), pool.submit(self.draw, step)
                yield batch

    def _item(self, step: int, index: int, frames: int) -> tuple[np.ndarray, list[Tensor]]:
        """One crop and its codes, if there are any."""
        chance = np.random.default_rng(seed_of(self.config.seed, "crop", step, index))
        crops, size = self.config.crops, frames * self.spec.frame_samples
        for _ in range(MOST_TRIES):
            number = int(chance.integers(len(self.recordings)))
            waveform = readable(self.recordings, number, self.config.data.min_s)
            if waveform is None:
                continue
            if self.codes is None:
                crop = cut(waveform, size, self.spec.sample_rate, chance)
                return vary(crop, crops.gain, crops.noise_share, chance), []
            return self._with_codes(waveform, self.codes.of(number, waveform), frames, chance)
        raise DataError(
            f"{MOST_TRIES} recordings in a row could not be read or are shorter than {self.config.data.min_s:g} s, "
            f"the last was {self.recordings.listed[number].name}; look at data."
        )

    def _with_codes(
        self, waveform: np.ndarray, codes: Codes, frames: int, chance: np.random.Generator
    ) -> tuple[np.ndarray, list[Tensor]]:
        """A crop at a whole frame; what a recording lacks is silence, and the last frame repeated."""
        counts, samples = self.spec.codes_per_level, self.spec.frame_samples
        whole = codes.levels[0].shape[1] // counts[0]
        start = cut_frames(frames, whole, chance)
        crop = np.zeros(frames * samples, np.float32)
        piece = waveform[start * samples : (start + frames) * samples]
        crop[: len(piece)] = piece
        missing = max(0, frames - (whole - start))
        levels = []
        for level, count in zip(codes.levels, counts, strict=True):
            taken = level[0, start * count : (start + frames) * count]
            levels.append(torch.cat([taken, level[0, -count:].repeat(missing)]))
        return crop, levels
