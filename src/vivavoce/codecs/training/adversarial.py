"""Losses of the game between a codec and its discriminators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Game = Literal["least_squares", "hinge"]
Maps = Sequence[Tensor]


def discriminator_loss(real: Sequence[Maps], made: Sequence[Maps], game: Game) -> Tensor:
    """What discriminators lower: scores of recordings up, of reconstructions down; summed over discriminators.

    Source: least squares Mao et al. 2017; hinge Lim and Ye 2017.
    """
    total = torch.zeros((), device=real[0][-1].device)
    for ours, theirs in zip(real, made, strict=True):
        yes, no = ours[-1].float(), theirs[-1].float()
        if game == "hinge":
            total = total + F.relu(1 - yes).mean() + F.relu(1 + no).mean()
        else:
            total = total + (1 - yes).square().mean() + no.square().mean()
    return total


def generator_loss(made: Sequence[Maps], game: Game) -> Tensor:
    """What a codec lowers: discriminators take its reconstructions for recordings."""
    scores = [maps[-1].float() for maps in made]
    if game == "hinge":
        return torch.stack([-s.mean() for s in scores]).sum()
    return torch.stack([(1 - s).square().mean() for s in scores]).sum()


def feature_distance(real: Sequence[Maps], made: Sequence[Maps]) -> Tensor:
    """Distance of the discriminators' features, all layers but the scores, summed.

    Source: Larsen et al. 2016; summed over layers as DAC does (Kumar et al. 2023).
    """
    total = torch.zeros((), device=real[0][-1].device)
    for ours, theirs in zip(real, made, strict=True):
        for wanted, found in zip(ours[:-1], theirs[:-1], strict=True):
            total = total + (wanted.detach().float() - found.float()).abs().mean()
    return total
