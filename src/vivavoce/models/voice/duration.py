"""How long each phone of a word lasts, given its neighbours: a small convolutional head.

Letters: B words, N phones of three words side by side, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHORTEST_S, LONGEST_S = 0.015, 1.0
ROLES = 4  # 0 padding, then previous, current and next word
PLACES = 16  # place of a phone in its word; later ones share the last


@dataclass(frozen=True)
class WordWindow:
    """Phones of the previous, current and next word with their roles and places; all of one length N."""

    phones: list[int]
    roles: list[int]
    places: list[int]

    @classmethod
    def of(cls, previous: Sequence[int], current: Sequence[int], following: Sequence[int]) -> WordWindow:
        phones, roles, places = [], [], []
        for role, word in enumerate((previous, current, following), start=1):
            phones += list(word)
            roles += [role] * len(word)
            places += [min(i, PLACES - 1) for i in range(len(word))]
        return cls(phones, roles, places)


class DurationHead(nn.Module):
    """Log durations of phones. Phone ids are shifted by one, so that 0 is padding.

    Args:
        num_phones: Size of the phone set.
        size: Width.
        layers: Convolutions over five phones each.
        voices: Number of voices that speak at a pace of their own; 0 if all share one.
    """

    def __init__(self, num_phones: int, size: int = 96, layers: int = 3, voices: int = 0) -> None:
        super().__init__()
        self.phone = nn.Embedding(num_phones + 1, size)
        self.role = nn.Embedding(ROLES, size)
        self.place = nn.Embedding(PLACES, size)
        self.convs = nn.ModuleList(nn.Conv1d(size, size, 5, padding=2) for _ in range(layers))
        self.out = nn.Linear(size, 1)
        self.voice = nn.Embedding(voices, size) if voices else None
        if self.voice is not None:
            nn.init.zeros_(self.voice.weight)

    def forward(self, phones: Tensor, roles: Tensor, places: Tensor, voices: Tensor | None = None) -> Tensor:
        """int64 [B, N] each (phones shifted by one), voices int64 [B] (default the first) -> log seconds [B, N]."""
        real = (phones > 0)[..., None]
        x = self.phone(phones) + self.role(roles) + self.place(places)
        if self.voice is not None:
            x = x + (self.voice.weight[0] if voices is None else self.voice(voices)[:, None])
        x = x * real
        for conv in self.convs:
            x = (x + F.gelu(conv(x.transpose(1, 2)).transpose(1, 2))) * real
        return self.out(x)[..., 0]

    @staticmethod
    def collate(windows: Sequence[WordWindow]) -> tuple[Tensor, Tensor, Tensor]:
        """Pad windows to one length."""
        width = max(len(w.phones) for w in windows)
        phones, roles, places = (torch.zeros(len(windows), width, dtype=torch.long) for _ in range(3))
        for i, w in enumerate(windows):
            n = len(w.phones)
            phones[i, :n] = torch.tensor(w.phones) + 1
            roles[i, :n], places[i, :n] = torch.tensor(w.roles), torch.tensor(w.places)
        return phones, roles, places

    @torch.inference_mode()
    def seconds(self, window: WordWindow, voice: int = 0) -> list[float]:
        """Durations of the current word's phones in one voice, each 15 ms to 1 s."""
        device = self.out.weight.device
        phones, roles, places = (t.to(device) for t in self.collate([window]))
        log_s = self(phones, roles, places, torch.tensor([voice], device=device))[0].float()
        return [min(max(SHORTEST_S, v), LONGEST_S) for v in log_s[roles[0] == 2].exp().tolist()]
