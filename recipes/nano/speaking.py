"""Utterances that teach speaking, from prepare_voice.py's file, drawn evenly from its voices."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import torch

from vivavoce.models.voice.aligned import AlignedVoice, AlignedVoiceConfig
from vivavoce.models.voice.teaching import SpeakingBatch, Teacher, Utterance
from vivavoce.models.voice.word_alignment import WordAlignment
from vivavoce.tokens.phones import PHONES


class SpeakingData:
    """Utterances with word-aligned codes, laid out as the model speaks.

    Args:
        path: Output of prepare_voice.py.
        tokenizer: The bundle's tokenizer.
        drop: Share of frames whose embedding is hidden from the model, so that it relies on the text.
    """

    def __init__(self, path: Path, tokenizer, drop: float = 0.15) -> None:
        stored = torch.load(path, weights_only=True)
        names = tuple(stored.get("voices", ("default",)))
        self.voice_config = AlignedVoiceConfig(
            text_size=256, num_phones=len(PHONES), frame_s=stored["frame_s"], voices=names,
            own_pace=len(names) > 1,
        )  # fmt: skip
        self.drop = drop
        layout = replace(self.voice_config, depth_layers=0)  # only its geometry is asked for
        self.teacher = Teacher(AlignedVoice(layout), tokenizer)
        self.rows: dict[int, list[Utterance]] = {}
        for item in stored["items"]:
            if item["split"] != "voice":
                continue
            aligned = WordAlignment(*(item[key] for key in ("phones", "ends_s", "word_of", "borders")))
            voice = names.index(item.get("voice", names[0]))
            row = self.teacher.lay_out(item["text"].split(), aligned, item["codes"], voice)
            self.rows.setdefault(voice, []).append(row)

    def add_voice(self, config: AlignedVoiceConfig, tokenizer) -> None:
        """Make room for one more voice, the last of ``config``; its utterances go to ``rows`` under its index."""
        self.voice_config = config
        self.teacher = Teacher(AlignedVoice(replace(config, depth_layers=0)), tokenizer)

    def batch(self, rng: random.Random, size: int) -> SpeakingBatch:
        """``size`` random utterances, each voice as often as the others."""
        voices = sorted(self.rows)
        rows = [rng.choice(self.rows[voices[i % len(voices)]]) for i in range(size)]
        return self.teacher.collate(rows, self.drop)
