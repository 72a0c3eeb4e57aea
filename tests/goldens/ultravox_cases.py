"""Cases of the Ultravox goldens: what is stored of each, and what our model gives for it.

A folder of one tiny model stores tensors named ``case/field``. Not every case stores everything: features may be
those of another case with the same clips, or come from stored waveforms.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tests.goldens.discovery import golden_folders, label
from tests.goldens.ultravox_models import load_golden
from tests.goldens.ultravox_toy import AUDIO, AUDIO_TOKEN, FIRST_SPECIAL, SPECIAL
from torch import Tensor

RATE = 16_000
FRAME = 160
ELSEWHERE = ("kd", "kd_", "labels_")  # cases of test_ultravox_kd.py
ALONE = re.compile(r"batch_item(\d+)_alone")
WAVE = re.compile(r"waveform(\d*)_i16")


def case_folders() -> list[Path]:
    """Folders that store cases of a tiny model, of every golden folder of this kind."""
    roots = golden_folders("ultravox")
    return [
        p
        for root in roots
        for p in sorted(root.iterdir())
        if p.is_dir() and stored(p) and p.name != "processor"
    ]


@cache
def stored(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder but the model's."""
    files = [p for p in sorted(folder.glob("*.safetensors")) if not p.name.startswith("model")]
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


@cache
def facts(folder: Path) -> dict[str, object]:
    """What summary.json says."""
    path = folder / "summary.json"
    found: dict[str, object] = json.loads(path.read_text()) if path.is_file() else {}
    return found


class Run(NamedTuple):
    """What our model made of a case."""

    encoder_output: Tensor | None
    audio_embeds: Tensor | None
    merged: Tensor
    logits: Tensor


@dataclass(frozen=True)
class Case:
    """One case of one folder."""

    folder: Path
    name: str

    def __str__(self) -> str:
        return f"{label(self.folder.parent)}-{self.folder.name}-{self.name}"

    @cached_property
    def fields(self) -> dict[str, Tensor]:
        prefix = f"{self.name}/"
        return {k.removeprefix(prefix): v for k, v in stored(self.folder).items() if k.startswith(prefix)}

    @property
    def batch(self) -> Case | None:
        """For one row of a batch run alone: the batch."""
        if not ALONE.fullmatch(self.name):
            return None
        return Case(
            self.folder, "batch_left" if "batch_left/input_ids" in stored(self.folder) else "batch_right"
        )

    @property
    def row_of_batch(self) -> int:
        found = ALONE.fullmatch(self.name)
        assert found
        return int(found[1])

    @cached_property
    def ids(self) -> Tensor:
        """Token ids with our placeholder where audio is, [B, L]."""
        if self.batch is not None:
            row = self.row_of_batch
            return self.batch.ids[row : row + 1, self.batch.mask[row].bool()]
        ids = self.fields["input_ids"].clone()
        for row, start, length in zip(self.rows, self.starts, self.counts, strict=True):
            ids[row, start : start + length] = AUDIO
        return ids

    @cached_property
    def mask(self) -> Tensor:
        return self.fields.get("attention_mask", torch.ones_like(self.ids))

    @cached_property
    def chunks(self) -> list[int]:
        """Chunks of clips in each row."""
        if self.batch is not None:
            return [1]
        if "audio_batch_size" in self.fields:
            return list(self.fields["audio_batch_size"].flatten().tolist())
        size = len(self.fields["input_ids"])
        return [len(self.lengths) if size == 1 else 1] * size if self.lengths is not None else [0] * size

    @property
    def rows(self) -> list[int]:
        """The row of each chunk."""
        return [row for row, count in enumerate(self.chunks) for _ in range(count)]

    @property
    def starts(self) -> list[int]:
        found = self.fields.get("audio_token_start_idx")
        return [] if found is None else found.flatten().tolist()

    @property
    def counts(self) -> list[int]:
        if "audio_token_len" in self.fields:
            return self.fields["audio_token_len"].flatten().tolist()
        model = load_golden(self.folder).model
        return (
            []
            if self.lengths is None
            else model.connector.num_tokens(model.audio_encoder.num_frames(self.lengths)).tolist()
        )

    @cached_property
    def lengths(self) -> Tensor | None:
        """Mel frames of each chunk."""
        if self.batch is not None:
            lengths = self.batch.lengths
            assert lengths is not None
            return lengths[self.row_of_batch : self.row_of_batch + 1]
        if "audio_lens" in self.fields:
            return self.fields["audio_lens"].flatten()
        return None if not self.waves else self.read[1]

    @cached_property
    def waves(self) -> dict[int, Tensor]:
        """Stored waveforms, float32 at 16 kHz, by the number of their clip."""
        pools = [self.name] + (["batch"] if self.name.startswith(("batch", "two_audios")) else [])
        found = {}
        for name, tensor in stored(self.folder).items():
            case, _, field = name.rpartition("/")
            match = WAVE.fullmatch(field)
            if match and case in pools:
                found[int(match[1] or 0)] = tensor.flatten().float() / 32_768
        return (
            {0: found[self.row_of_batch]} if self.batch is not None and self.row_of_batch in found else found
        )

    @cached_property
    def read(self) -> tuple[Tensor, Tensor]:
        """Features and frames of stored waveforms, all in one call of the processor."""
        reader = load_golden(self.folder, reference_padding=True).processor.clip_reader
        made = reader.read([self.waves[k].numpy() for k in sorted(self.waves)])
        return made.features, made.lengths

    @cached_property
    def features(self) -> Tensor | None:
        """What the encoder is given, [N, M, T]."""
        if self.lengths is None:
            return None
        if "audio_values" in self.fields:
            return self.fields["audio_values"]
        for name, tensor in stored(self.folder).items():
            other = Case(self.folder, name.rpartition("/")[0])
            if name.endswith("/audio_values") and other.lengths is not None:
                same = torch.equal(other.lengths, self.lengths)
                if same and other.name.partition("_")[0] == self.name.partition("_")[0]:
                    return tensor
        return self.read[0]

    def clips(self) -> list[list[int]]:
        """Chunks of each clip: a whole context goes on in the next chunk if that stands right behind it."""
        longest, found = load_golden(self.folder).model.audio_encoder.longest, []
        lengths = [] if self.lengths is None else self.lengths.tolist()
        for i, row in enumerate(self.rows):
            follows = i > 0 and self.rows[i - 1] == row and lengths[i - 1] == longest
            if follows and self.starts[i] == self.starts[i - 1] + self.counts[i - 1]:
                found[-1].append(i)
            else:
                found.append([i])
        return found

    def samples(self, clip: int) -> Tensor:
        """A clip's waveform, or silence of its length where it is not stored."""
        if clip in self.waves:
            return self.waves[clip]
        assert self.lengths is not None
        return torch.zeros(FRAME * int(sum(self.lengths[i] for i in self.clips()[clip])))

    def texts(self) -> list[str]:
        """What each row says, with one mark for each clip."""
        beginnings = {(self.rows[c[0]], self.starts[c[0]]) for c in self.clips()}
        said = []
        for row, (ids, mask) in enumerate(zip(self.ids.tolist(), self.mask.tolist(), strict=True)):
            text = ""
            for at, (token, real) in enumerate(zip(ids, mask, strict=True)):
                if token == AUDIO:
                    text += AUDIO_TOKEN * ((row, at) in beginnings)
                elif real:
                    text += chr(token) if token < FIRST_SPECIAL else SPECIAL[token - FIRST_SPECIAL]
            said.append(text)
        return said

    def inputs(self) -> dict[str, Tensor]:
        """Arguments of the model."""
        made = {"input_ids": self.ids, "attention_mask": self.mask}
        if self.features is not None:
            assert self.lengths is not None
            made |= {"input_features": self.features, "feature_lengths": self.lengths}
            made["audio_batch_index"] = torch.tensor(self.rows)
        return made

    def row(self, row: int) -> dict[str, Tensor]:
        """Arguments of the model for one row by itself, without any padding."""
        made = {"input_ids": self.ids[row : row + 1, self.mask[row].bool()]}
        own = [i for i, r in enumerate(self.rows) if r == row]
        if own:
            assert self.lengths is not None and self.features is not None
            made["feature_lengths"] = self.lengths[own]
            made["input_features"] = self.features[own][..., : int(self.lengths[own].max())]
        return made


@cache
def run(case: Case, reference_padding: bool) -> Run:
    """Our model on a case."""
    model = load_golden(case.folder, reference_padding).model
    inputs = case.inputs()
    with torch.no_grad():
        logits = model(**inputs).logits
        if "input_features" not in inputs:
            return Run(None, None, model.embed(case.ids, None), logits)
        heard = model.hear(inputs["input_features"], inputs["feature_lengths"])
        merged = model.embed(case.ids, heard, inputs["audio_batch_index"])
    return Run(heard.states, heard.embeddings, merged, logits)


def collated(case: Case) -> tuple[Tensor, list[int]]:
    """Features as processor and collator make them, and the chunks of clips whose waveforms are stored.

    Clips of one row are read in one call, rows apart; the collator fills up with 0.
    """
    reader, known, parts = load_golden(case.folder, reference_padding=True).processor.clip_reader, [], []
    numbered = list(enumerate(case.clips()))
    for row in range(len(case.chunks)):
        own = [(k, chunks) for k, chunks in numbered if case.rows[chunks[0]] == row]
        if own:
            parts.append(reader.read([case.samples(k).numpy() for k, _ in own]).features)
            known += [i for k, chunks in own if k in case.waves for i in chunks]
    longest = max(part.shape[-1] for part in parts)
    return torch.cat([F.pad(part, (0, longest - part.shape[-1])) for part in parts]), known


def all_cases() -> list[Case]:
    """Every case of every folder that is checked here, but for conversations."""
    found = []
    for folder in case_folders():
        names = {name.rpartition("/")[0] for name in stored(folder)}
        found += [
            Case(folder, n) for n in sorted(names) if not is_elsewhere(n) and n != "batch" and not is_turn(n)
        ]
    return found


def is_elsewhere(name: str) -> bool:
    """Whether a case is checked by another module."""
    return name == "kd" or name.startswith(ELSEWHERE[1:]) or name.startswith("kd/")


def is_turn(name: str) -> bool:
    """Whether a case is a turn of a conversation."""
    return re.fullmatch(r"turn\d+", name) is not None
