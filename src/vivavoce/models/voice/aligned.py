"""Speech tokens locked to text: word by word, each frame told which phone it is in and how far.

The language model's backbone runs over ``<|speak|>``, then for each word ``<|word|>``, its phones, ``<|frames|>`` and
its audio frames. A frame is one backbone position; its codes (7 for 24 kHz SNAC geometry) are drawn one after
another by a small depth transformer from the hidden state of the position before. What plain token streams lose
(the place in the text) is given: in ``phone`` alignment a duration head fixes each word's frames beforehand and every
frame gets its phones and progress; in ``word`` alignment the model sees its word and the next and ends each word
itself. Word times come free.

Letters: N frames, K slots (codes in a frame), D backbone width, d depth width.

Source: depth transformer over codebooks as in RQ-Transformer (Lee et al. 2022) and Moshi (Defossez et al. 2024);
alignment by words and phones is this project's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivavoce.base.errors import ConfigError
from vivavoce.models.layers import Angles, RMSNorm, TransformerLayer, rotary_angles
from vivavoce.models.voice.duration import DurationHead


@dataclass(frozen=True)
class AlignedVoiceConfig:
    """Sizes and geometry.

    Attributes:
        text_size: Width of the language model.
        alignment: "phone" or "word".
        slot_levels: Codec level of each slot, in the order they are drawn.
        codebook_size: Codes per level.
        frame_s: Seconds per frame.
        num_phones: Size of the phone set.
        steps_per_frame: Places in a frame at which phone and progress are given (4 = every 21 ms).
        max_word_frames: Frame-in-word counter stops here; ``word`` alignment never draws longer words.
        voices: Names; each has an embedding that is added to ``<|speak|>`` and to every condition.
        own_pace: Whether each voice has durations of its own; else all take those of the first.
    """

    text_size: int
    alignment: Literal["phone", "word"] = "phone"
    slot_levels: tuple[int, ...] = (0, 1, 2, 2, 1, 2, 2)
    codebook_size: int = 1024
    frame_s: float = 2048 / 24_000
    num_phones: int = 41
    steps_per_frame: int = 4
    max_word_frames: int = 24
    condition_size: int = 96
    depth_size: int = 160
    depth_intermediate_size: int = 320
    depth_layers: int = 2
    depth_heads: int = 4
    voices: tuple[str, ...] = ("default",)
    own_pace: bool = False


@dataclass(frozen=True)
class PhoneTimes:
    """One word's phones and when each ends.

    Attributes:
        phones: Phone ids.
        ends_s: End of each, seconds from the start of the utterance, increasing.
        start_s: Start of the first.
        previous: Last phone of the word before, or None.
        following: First phone of the word after, or None.
    """

    phones: Sequence[int]
    ends_s: Sequence[float]
    start_s: float
    previous: int | None = None
    following: int | None = None


class AlignedVoice(nn.Module):
    """Embeds frames, conditions them on phones, and draws their codes."""

    offsets: Tensor

    def __init__(self, config: AlignedVoiceConfig) -> None:
        super().__init__()
        if config.alignment not in ("phone", "word"):
            raise ConfigError(f"alignment is {config.alignment!r}; wanted 'phone' or 'word'.")
        self.config, d, w = config, config.text_size, config.depth_size
        rows = (max(config.slot_levels) + 1) * config.codebook_size
        offsets = torch.tensor([level * config.codebook_size for level in config.slot_levels])
        self.register_buffer("offsets", offsets, persistent=False)
        self.code_embedding = nn.Embedding(rows, d)
        self.place_embedding = nn.Embedding(
            config.max_word_frames + 1, d
        )  # the last row marks text positions
        self.voice_embedding = nn.Embedding(len(config.voices), d)
        self.depth_code_embedding = nn.Embedding(rows, w)
        self.slot_embedding = nn.Embedding(len(config.slot_levels), w)
        self.depth_in = nn.Linear(d, w)
        self.depth = nn.ModuleList(
            TransformerLayer(w, config.depth_intermediate_size, config.depth_heads, causal=True)
            for _ in range(config.depth_layers)
        )
        self.depth_norm = RMSNorm(w)
        self.heads = nn.ModuleList(
            nn.Linear(w, config.codebook_size) for _ in range(max(config.slot_levels) + 1)
        )
        for module in (
            self.code_embedding,
            self.place_embedding,
            self.voice_embedding,
            self.depth_code_embedding,
        ):
            nn.init.normal_(module.weight, std=0.02)
        if config.alignment == "phone":
            c = config.condition_size
            self.phone_embeddings = nn.ModuleList(nn.Embedding(config.num_phones + 1, c) for _ in range(3))
            self.progress = nn.Linear(3, c)
            self.condition = nn.Sequential(
                nn.Linear(config.steps_per_frame * c, d), nn.GELU(), nn.Linear(d, d)
            )
            self.condition_to_depth = nn.Linear(d, d)
            paces = len(config.voices) if config.own_pace else 0
            self.durations = DurationHead(config.num_phones, voices=paces)
        else:
            self.end_head = nn.Linear(d, 1)

    # ---- inputs of the backbone ------------------------------------------------------------------------
    def embed_frames(self, codes: Tensor) -> Tensor:
        """Codes int64 [N, K] -> backbone embeddings [N, D]."""
        return self.code_embedding(codes + self.offsets).sum(dim=1)

    def phone_frames(self, times: PhoneTimes, first: int, count: int) -> tuple[Tensor, Tensor]:
        """What each of ``count`` frames from absolute frame ``first`` on is told, for one word.

        Returns:
            Phones int64 [count, steps, 3] (current, previous, next; 0 is none, ids are shifted by one) and
            progress float [count, steps, 3] (share of the phone done, its length, time spent in it; scaled).
        """
        steps, ids = self.config.steps_per_frame, [p + 1 for p in times.phones]
        t = (torch.arange(count * steps) + 0.5) * self.config.frame_s / steps + first * self.config.frame_s
        ends = torch.tensor(list(times.ends_s), dtype=torch.float32)
        starts = torch.cat([torch.tensor([times.start_s]), ends[:-1]])
        k = torch.searchsorted(ends, t).clamp(max=len(ids) - 1)
        before = 0 if times.previous is None else times.previous + 1
        after = 0 if times.following is None else times.following + 1
        around = torch.tensor([before, *ids, after])
        phones = torch.stack([around[k + 1], around[k], around[k + 2]], dim=1)
        spent, length = (t - starts[k]).clamp(min=0), (ends - starts)[k]
        share = (spent / length.clamp(min=1e-3)).clamp(max=1.5)
        progress = torch.stack([share, length * 5, spent.clamp(max=0.5) * 3], dim=1)
        return phones.view(count, steps, 3), progress.view(count, steps, 3)

    def embed_condition(self, phones: Tensor, progress: Tensor) -> Tensor:
        """Output of ``phone_frames`` (N frames) -> conditions [N, D], added to the position that predicts the frame."""
        device = self.offsets.device
        phones, progress = phones.to(device), progress.to(device)
        parts = [table(phones[..., i]) for i, table in enumerate(self.phone_embeddings)]
        mixed = torch.stack(parts).sum(0) + self.progress(progress.to(self.progress.weight.dtype))
        return self.condition(mixed.flatten(-2))

    # ---- codes of a frame ------------------------------------------------------------------------------
    def depth_states(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """hidden [N, D] and the first k codes [N, k] -> depth states [N, k + 1, d]."""
        base = self.depth_in(hidden)[:, None]
        known = self.depth_code_embedding(codes + self.offsets[: codes.shape[1]]) + base
        x = torch.cat([base, known], dim=1) + self.slot_embedding.weight[: codes.shape[1] + 1]
        angles = rotary_angles(x.shape[1], self.config.depth_size // self.config.depth_heads, x.device)
        for layer in self.depth:
            x = layer(x, angles)
        return self.depth_norm(x)

    def code_loss(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """Mean cross-entropy over slots of frames codes [N, K], given hidden states [N, D]."""
        states = self.depth_states(hidden, codes[:, :-1])
        losses = [
            F.cross_entropy(self.heads[level](states[:, slot]).float(), codes[:, slot])
            for slot, level in enumerate(self.config.slot_levels)
        ]
        return torch.stack(losses).mean()

    @torch.inference_mode()
    def draw_frames(
        self,
        hidden: Tensor,
        temperatures: Sequence[float] | None = None,
        generators: Sequence[torch.Generator | None] | None = None,
    ) -> Tensor:
        """Draw the next frame of each row, slot by slot; rows do not see each other.

        Args:
            hidden: float [N, D].
            temperatures: Of each row; 0 takes the likeliest code, which is the default.
            generators: Of each row, for temperatures > 0.

        Returns:
            Codes int64 [N, K].
        """
        config = self.config
        slots = len(config.slot_levels)
        cos, sin = rotary_angles(slots, config.depth_size // config.depth_heads, hidden.device)
        base = self.depth_in(hidden)
        layers = [cast("TransformerLayer", layer) for layer in self.depth]
        past: list[Angles | None] = [None] * len(layers)
        codes: list[Tensor] = []
        for slot, level in enumerate(config.slot_levels):
            x = base + self.slot_embedding.weight[slot]
            if codes:
                x = x + self.depth_code_embedding(codes[-1] + self.offsets[slot - 1])
            for i, layer in enumerate(layers):
                x, past[i] = layer.step(x, (cos[slot : slot + 1], sin[slot : slot + 1]), past[i])
            logits = self.heads[level](self.depth_norm(x)).float()
            code = logits.argmax(-1)
            for row, temperature in enumerate(temperatures or ()):
                if temperature > 0:
                    odds = torch.softmax(logits[row] / temperature, dim=-1).cpu()
                    generator = generators[row] if generators else None
                    code[row] = torch.multinomial(odds, 1, generator=generator)[0]
            codes.append(code)
        return torch.stack(codes, dim=1)
