"""Codebooks in training: they start from data, dead codewords start again, and their use is counted.

Letters: N vectors, K codewords, D width of a codeword.
"""

from __future__ import annotations

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn import functional as F


def summed(tensor: Tensor) -> Tensor:
    """The sum over all processes; the tensor itself where there is one."""
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        torch.distributed.all_reduce(tensor)
    return tensor


def from_first(tensor: Tensor) -> Tensor:
    """What the first process has, for all."""
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        torch.distributed.broadcast(tensor, 0)
    return tensor


def some_of(vectors: Tensor, count: int, jitter: float = 0.02) -> Tensor:
    """Draw [count, D] of [N, D]; where there are too few, again and with a little noise."""
    if count <= len(vectors):
        return vectors[torch.randperm(len(vectors), device=vectors.device)[:count]].clone()
    drawn = vectors[torch.randint(0, len(vectors), (count,), device=vectors.device)]
    return drawn + jitter * drawn.norm(dim=-1, keepdim=True) * torch.randn_like(drawn)


@torch.no_grad()
def cluster(vectors: Tensor, size: int, rounds: int = 10) -> Tensor:
    """Find ``size`` codewords [K, D] for vectors [N, D] by k-means, nearest by angle, as codes are looked up.

    A codeword that loses all its vectors starts again at one of them.
    """
    words = some_of(vectors, size)
    directions = F.normalize(vectors, dim=-1)
    for _ in range(rounds):
        codes = (directions @ F.normalize(words, dim=-1).t()).argmax(-1)
        counts = torch.bincount(codes, minlength=size)
        sums = torch.zeros_like(words).index_add_(0, codes, vectors)
        words = sums / counts.clamp(min=1)[:, None]
        empty = counts == 0
        if empty.any():
            words[empty] = some_of(vectors, int(empty.sum()))
    return from_first(words)


class Use(nn.Module):
    """How often the codewords of each level are used: lately, and since the last line of metrics.

    Args:
        levels: Number of levels.
        size: Codewords of each.
        decay: Of the running mean, per update.
    """

    recent: Tensor
    counted: Tensor

    def __init__(self, levels: int, size: int, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("recent", torch.zeros(levels, size))
        self.register_buffer("counted", torch.zeros(levels, size))

    @torch.no_grad()
    def count(self, level: int, codes: Tensor) -> Tensor:
        """Count the codes of an update, of all processes; returns how often each was used, [K]."""
        size = self.recent.shape[1]
        used = summed(torch.bincount(codes.flatten(), minlength=size).float())
        if not self.recent[level].any():  # the first update: all as if used alike
            self.recent[level] = used.mean()
        self.recent[level].mul_(self.decay).add_(used, alpha=1 - self.decay)
        self.counted[level] += used
        return used

    def dead(self, level: int, below: float) -> Tensor:
        """Which codewords are used less than ``below`` times the mean, bool [K]."""
        recent = self.recent[level]
        return recent < below * recent.mean()

    def told(self) -> dict[str, float]:
        """Share of codewords used and entropy in bits for each level, since the counts were cleared."""
        found = {}
        for level, counts in enumerate(self.counted.double()):
            shares = counts / counts.sum().clamp(min=1)
            bits = -(shares * shares.clamp(min=1e-12).log2()).sum()
            found[f"used/level_{level}"] = float((counts > 0).double().mean())
            found[f"entropy_bits/level_{level}"] = float(bits)
        return found

    def clear(self) -> None:
        """Begin to count anew."""
        self.counted.zero_()


@torch.no_grad()
def restart(words: Tensor, vectors: Tensor, dead: Tensor) -> None:
    """Put vectors of this update, [N, D], in the place of dead codewords of [K, D].

    Args:
        words: Changed in place.
        vectors: Of this process.
        dead: bool [K], the same on all processes.
    """
    fresh = from_first(some_of(vectors, int(dead.sum())).to(words))
    words[dead] = fresh


FEWEST = 1e-3  # vectors of late, below which a running mean is rounding


class RunningCodebook(nn.Module):
    """A codebook kept at the running mean of the vectors assigned to each codeword; no gradient reaches it.

    Args:
        words: Codewords [K, D] of the codec, changed in place.
        decay: Of the running mean, per update.
        unit: Codewords have length 1, as their vectors do.

    Source: van den Oord et al. 2017, appendix A.1.
    """

    counts: Tensor
    sums: Tensor

    def __init__(self, words: Tensor, decay: float = 0.97, unit: bool = True) -> None:
        super().__init__()
        self.decay, self.unit = decay, unit
        self.register_buffer("counts", torch.ones(len(words)))
        self.register_buffer("sums", words.detach().clone())

    @torch.no_grad()
    def follow(self, words: Tensor, vectors: Tensor, codes: Tensor, used: Tensor) -> None:
        """Move codewords towards their vectors.

        Args:
            words: [K, D], changed in place.
            vectors, codes: [N, D] and [N] of this process.
            used: [K] of all processes.
        """
        self.counts.mul_(self.decay).add_(used, alpha=1 - self.decay)
        new = summed(torch.zeros_like(self.sums).index_add_(0, codes, vectors))
        self.sums.mul_(self.decay).add_(new, alpha=1 - self.decay)
        if self.unit:
            words.copy_(F.normalize(self.sums, dim=-1))
        else:
            heard = self.counts > FEWEST
            words[heard] = self.sums[heard] / self.counts[heard, None]

    @torch.no_grad()
    def begin(self, words: Tensor, which: Tensor | None = None, count: float = 1.0) -> None:
        """Take codewords as they stand, [K, D]: all, or those that started again; as if ``count`` vectors made each."""
        which = torch.ones_like(self.counts, dtype=torch.bool) if which is None else which
        self.sums[which], self.counts[which] = words[which] * count, count
