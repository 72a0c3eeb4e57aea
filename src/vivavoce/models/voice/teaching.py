"""What an aligned voice learns from: utterances laid out as it speaks them, padded together, and their losses.

Letters: B utterances, L tokens, N frames of all of them, K codes in a frame, W words, P phones around a word.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vivavoce.base.errors import ModelError
from vivavoce.codecs.contract import Codes
from vivavoce.models.voice.aligned import AlignedVoice, PhoneTimes
from vivavoce.models.voice.duration import DurationHead, WordWindow
from vivavoce.models.voice.word_alignment import WordAlignment
from vivavoce.tokens.phones import ALL_PHONES, PHONES, Lexicon, phone_ids, words_to_phones

WIDTH_STEP = 16  # batches are padded to its multiples
PAUSE = PHONES.index("pau")


def slot_frames(codes: Codes, slot_levels: Sequence[int]) -> Tensor:
    """Codes of one recording as frames int64 [N, K], in the order in which a voice draws them."""
    per_level = [slot_levels.count(level) for level in range(max(slot_levels) + 1)]
    levels = [level[0].view(-1, n) for level, n in zip(codes.levels, per_level, strict=True)]
    taken = [0] * len(per_level)
    columns = []
    for level in slot_levels:
        columns.append(levels[level][:, taken[level]])
        taken[level] += 1
    return torch.stack(columns, dim=1)


@dataclass(frozen=True)
class Utterance:
    """One utterance, laid out.

    Attributes:
        voice: Index in the voice table.
        tokens: Text and phone tokens, padding where frames stand, int64 [L].
        places: Frame in its word, or the last row for text, int64 [L].
        codes: int64 [N, K].
        frame_at: Position of each frame, int64 [N].
        predicted_at: Position whose hidden state predicts it, int64 [N].
        phones: What each frame is told, int64 [N, steps, 3].
        progress: The same, float [N, steps, 3].
        windows: Of each word, and the log seconds of its phones.
    """

    voice: int
    tokens: Tensor
    places: Tensor
    codes: Tensor
    frame_at: Tensor
    predicted_at: Tensor
    phones: Tensor
    progress: Tensor
    windows: list[tuple[WordWindow, list[float]]]


@dataclass
class SpeakingBatch:
    """Padded utterances; N frames in all, in order of rows.

    Attributes:
        voices: Index in the voice table, int64 [B].
        tokens: int64 [B, L].
        places: int64 [B, L].
        codes: int64 [N, K].
        kept: 0.0 where a frame's own embedding is hidden, float [N].
        frame_at: (row, position) of each frame.
        predicted_at: (row, position) whose hidden state predicts it.
        phones: int64 [N, steps, 3].
        progress: float [N, steps, 3].
        windows: Phones, roles and places of the duration head and the wanted log seconds, [W, P] each.
        window_voices: int64 [W].
    """

    voices: Tensor
    tokens: Tensor
    places: Tensor
    codes: Tensor
    kept: Tensor
    frame_at: tuple[Tensor, Tensor]
    predicted_at: tuple[Tensor, Tensor]
    phones: Tensor
    progress: Tensor
    windows: tuple[Tensor, Tensor, Tensor, Tensor]
    window_voices: Tensor


class Teacher:
    """Lays utterances out for one voice and pads them together.

    Args:
        voice: Its config and geometry are used, not its weights.
        tokenizer: Has ``<|speak|>``, ``<|word|>``, ``<|frames|>``, a token ``<|ph_x|>`` per phone, and padding.

    Raises:
        ModelError: The voice is not told phones.
    """

    def __init__(self, voice: AlignedVoice, tokenizer: Any) -> None:
        if voice.config.alignment != "phone":
            raise ModelError(
                f"the voice is aligned by {voice.config.alignment!r}; only 'phone' voices are taught here."
            )
        self.voice, get = voice, tokenizer.convert_tokens_to_ids
        self.pad, self.speak = tokenizer.pad_token_id, get("<|speak|>")
        self.word, self.frames = get("<|word|>"), get("<|frames|>")
        self.phone_token = [get(f"<|ph_{p}|>") for p in ALL_PHONES[: voice.config.num_phones]]

    def lay_out(
        self,
        words: Sequence[str],
        aligned: WordAlignment,
        codes: Tensor,
        voice: int = 0,
        lexicon: Lexicon | None = None,
    ) -> Utterance:
        """Tokens, frames, conditions and duration windows of one utterance; codes [N, K]."""
        config = self.voice.config
        owned: list[list[tuple[int, float]]] = [[] for _ in words]
        for phone, end, owner in zip(aligned.phones, aligned.ends_s, aligned.word_of, strict=True):
            owned[owner].append((phone, end))
        lexical = [phone_ids(p) for p in words_to_phones(words, lexicon)]
        tokens, places = [self.speak], [config.max_word_frames]
        frame_at, predicted_at, phones, progress, windows = [], [], [], [], []
        begin, start_s = 0, 0.0
        for w, (own, border) in enumerate(zip(owned, aligned.borders, strict=True)):
            text = [self.word, *(self.phone_token[p] for p in lexical[w]), self.frames]
            tokens += text
            places += [config.max_word_frames] * len(text)
            previous = owned[w - 1][-1][0] if w else None
            following = owned[w + 1][0][0] if w + 1 < len(words) else None
            times = PhoneTimes([p for p, _ in own], [e for _, e in own], start_s, previous, following)
            told = self.voice.phone_frames(times, begin, border - begin)
            phones.append(told[0])
            progress.append(told[1])
            for k in range(border - begin):
                predicted_at.append(len(tokens) - 1)
                frame_at.append(len(tokens))
                tokens.append(self.pad)
                places.append(min(k, config.max_word_frames - 1))
            around = [[p for p, _ in owned[i]] if 0 <= i < len(words) else [] for i in (w - 1, w, w + 1)]
            while around[2] and around[2][-1] == PAUSE:  # who speaks knows the next word, not what follows it
                around[2].pop()
            starts = [start_s, *(e for _, e in own[:-1])]
            wanted = [math.log(max(0.01, e - s)) for (_, e), s in zip(own, starts, strict=True)]
            windows.append((WordWindow.of(*around), wanted))
            begin, start_s = border, own[-1][1]
        return Utterance(
            voice, torch.tensor(tokens), torch.tensor(places), codes.long(), torch.tensor(frame_at),
            torch.tensor(predicted_at), torch.cat(phones), torch.cat(progress), windows,
        )  # fmt: skip

    def collate(self, rows: Sequence[Utterance], drop: float = 0.0) -> SpeakingBatch:
        """Pad utterances together.

        Args:
            rows: At least one.
            drop: Share of frames whose embedding is hidden from the model, so that it relies on the text.
        """
        width = -(-max(len(r.tokens) for r in rows) // WIDTH_STEP) * WIDTH_STEP
        tokens = torch.full((len(rows), width), self.pad)
        places = torch.full((len(rows), width), self.voice.config.max_word_frames)
        for i, row in enumerate(rows):
            tokens[i, : len(row.tokens)] = row.tokens
            places[i, : len(row.places)] = row.places
        index = torch.cat([torch.full((len(r.codes),), i) for i, r in enumerate(rows)])
        codes = torch.cat([r.codes for r in rows])
        windows = [window for r in rows for window in r.windows]
        phones, roles, spots = DurationHead.collate([window for window, _ in windows])
        wanted = torch.zeros(phones.shape)
        for i, (_, seconds) in enumerate(windows):
            wanted[i, roles[i] == 2] = torch.tensor(seconds)
        return SpeakingBatch(
            torch.tensor([r.voice for r in rows]), tokens, places, codes,
            (torch.rand(len(codes)) >= drop).float(),
            (index, torch.cat([r.frame_at for r in rows])), (index, torch.cat([r.predicted_at for r in rows])),
            torch.cat([r.phones for r in rows]), torch.cat([r.progress for r in rows]),
            (phones, roles, spots, wanted), torch.tensor([r.voice for r in rows for _ in r.windows]),
        )  # fmt: skip


def speaking_losses(
    voice: AlignedVoice,
    embed_tokens: Callable[[Tensor], Tensor],
    backbone: Callable[[Tensor], Tensor],
    batch: SpeakingBatch,
) -> tuple[Tensor, Tensor]:
    """(cross-entropy of codes, squared error of log durations) of a batch.

    Args:
        voice: Whose losses.
        embed_tokens: The language model's embedding, int64 [B, L] -> [B, L, D].
        backbone: Its layers, [B, L, D] -> final hidden states; padding is on the right.
        batch: From ``Teacher.collate``.
    """
    speakers = voice.voice_embedding(batch.voices)
    frames = voice.embed_frames(batch.codes) * batch.kept[:, None]
    embeds = embed_tokens(batch.tokens)
    embeds = embeds.index_put(batch.frame_at, frames.to(embeds.dtype)) + voice.place_embedding(batch.places)
    embeds = torch.cat([embeds[:, :1] + speakers[:, None], embeds[:, 1:]], dim=1)
    told = voice.embed_condition(batch.phones, batch.progress) + speakers[batch.frame_at[0]]
    embeds = embeds.index_put(batch.predicted_at, told.to(embeds.dtype), accumulate=True)
    hidden = backbone(embeds)[batch.predicted_at]
    loss = voice.code_loss(hidden + voice.condition_to_depth(told), batch.codes)
    phones, roles, spots, wanted = batch.windows
    guess = voice.durations(phones, roles, spots, batch.window_voices).float()
    current = roles == 2
    return loss, F.mse_loss(guess[current], wanted[current])
