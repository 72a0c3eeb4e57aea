"""Batches that teach speaking: each word's phones, then its frames, each frame told its phones and progress."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vivavoce.models.voice.aligned import AlignedVoice, AlignedVoiceConfig, PhoneTimes
from vivavoce.models.voice.duration import DurationHead, WordWindow
from vivavoce.tokens.phones import PHONES, phone_ids, words_to_phones


@dataclass
class SpeakingBatch:
    """A padded batch; N frames in all, in order of rows."""

    tokens: Tensor  # [B, L] text and phone tokens; the pad token where frames stand
    places: Tensor  # [B, L] frame in word, or the last row for text
    codes: Tensor  # [N, K]
    kept: Tensor  # [N] 0.0 where a frame's own embedding is dropped
    frame_at: tuple[Tensor, Tensor]  # (row, position) of each frame
    predicted_at: tuple[Tensor, Tensor]  # (row, position) whose hidden state predicts it
    phones: Tensor  # [N, steps, 3]
    progress: Tensor  # [N, steps, 3]
    windows: tuple[Tensor, Tensor, Tensor, Tensor]  # duration inputs and wanted log seconds [W, P]


class SpeakingData:
    """Utterances with word-aligned codes, laid out as the model speaks.

    Args:
        path: Output of prepare_voice.py.
        tokenizer: The bundle's tokenizer.
        drop: Share of frames whose embedding is hidden from the model, so that it relies on the text.
    """

    def __init__(self, path: Path, tokenizer, drop: float = 0.15) -> None:
        stored = torch.load(path, weights_only=True)
        self.voice_config = AlignedVoiceConfig(
            text_size=256, num_phones=len(PHONES), frame_s=stored["frame_s"]
        )
        self.drop = drop
        get = tokenizer.convert_tokens_to_ids
        self.pad, self.speak = tokenizer.pad_token_id, get("<|speak|>")
        self.word, self.frames = get("<|word|>"), get("<|frames|>")
        self.phone_token = [get(f"<|ph_{p}|>") for p in PHONES]
        layout = AlignedVoice(self.voice_config)
        self.items = [self._lay_out(i, layout) for i in stored["items"] if i["split"] == "voice"]

    def _lay_out(self, item: dict, voice: AlignedVoice) -> dict:
        """Tokens, frames, conditions and duration windows of one utterance."""
        config = self.voice_config
        words = [[] for _ in item["borders"]]
        for phone, end, owner in zip(item["phones"], item["ends_s"], item["word_of"], strict=True):
            words[owner].append((phone, end))
        lexical = [phone_ids(p) for p in words_to_phones(item["text"].split())]
        tokens, places, frame_pos, predict_pos = [self.speak], [config.max_word_frames], [], []
        phones, progress, windows, begin, start_s = [], [], [], 0, 0.0
        for w, (own, border) in enumerate(zip(words, item["borders"], strict=True)):
            text = [self.word, *(self.phone_token[p] for p in lexical[w]), self.frames]
            tokens += text
            places += [config.max_word_frames] * len(text)
            previous = words[w - 1][-1][0] if w else None
            following = words[w + 1][0][0] if w + 1 < len(words) else None
            times = PhoneTimes([p for p, _ in own], [e for _, e in own], start_s, previous, following)
            told = voice.phone_frames(times, begin, border - begin)
            phones.append(told[0])
            progress.append(told[1])
            for k in range(border - begin):
                predict_pos.append(len(tokens) - 1)
                frame_pos.append(len(tokens))
                tokens.append(self.pad)
                places.append(min(k, config.max_word_frames - 1))
            around = [[p for p, _ in words[i]] if 0 <= i < len(words) else [] for i in (w - 1, w, w + 1)]
            starts = [start_s, *(e for _, e in own[:-1])]
            wanted = [math.log(max(0.01, e - s)) for (_, e), s in zip(own, starts, strict=True)]
            windows.append((WordWindow.of(*around), wanted))
            begin, start_s = border, own[-1][1]
        return {
            "tokens": torch.tensor(tokens), "places": torch.tensor(places), "codes": item["codes"].long(),
            "frame_pos": torch.tensor(frame_pos), "predict_pos": torch.tensor(predict_pos),
            "phones": torch.cat(phones), "progress": torch.cat(progress), "windows": windows,
        }  # fmt: skip

    def batch(self, rng: random.Random, size: int) -> SpeakingBatch:
        """``size`` random utterances."""
        return self.collate([rng.choice(self.items) for _ in range(size)], self.drop)

    def collate(self, rows: list[dict], drop: float) -> SpeakingBatch:
        width = -(-max(len(r["tokens"]) for r in rows) // 16) * 16
        tokens = torch.full((len(rows), width), self.pad)
        places = torch.full((len(rows), width), self.voice_config.max_word_frames)
        for i, row in enumerate(rows):
            tokens[i, : len(row["tokens"])] = row["tokens"]
            places[i, : len(row["places"])] = row["places"]
        index = torch.cat([torch.full((len(r["codes"]),), i) for i, r in enumerate(rows)])
        codes = torch.cat([r["codes"] for r in rows])
        windows = [w for r in rows for w in r["windows"]]
        phones, roles, where = DurationHead.collate([w for w, _ in windows])
        wanted = torch.zeros(phones.shape)
        for i, (_, seconds) in enumerate(windows):
            wanted[i, roles[i] == 2] = torch.tensor(seconds)
        return SpeakingBatch(
            tokens, places, codes, (torch.rand(len(codes)) >= drop).float(),
            (index, torch.cat([r["frame_pos"] for r in rows])), (index, torch.cat([r["predict_pos"] for r in rows])),
            torch.cat([r["phones"] for r in rows]), torch.cat([r["progress"] for r in rows]),
            (phones, roles, where, wanted),
        )  # fmt: skip
