"""Ultravox's token counts, places and spectrograms against reference numbers, by the processor that models have."""

from __future__ import annotations

import dataclasses
import json
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.goldens.discovery import golden_folders, label
from tests.goldens.ultravox_models import kind_folders, load_golden
from tests.goldens.ultravox_toy import AUDIO, AUDIO_TOKEN, EOT, toy_tokenizer
from torch import Tensor

from vivavoce.base.errors import AudioError, ConfigError
from vivavoce.models.config import EmbeddingsIn, SpeechLMConfig
from vivavoce.models.processor import SpeechProcessor
from vivavoce.models.speech_lm import SpeechLM

MELS = 2e-5
FOLDERS = [f / "processor" for f in golden_folders("ultravox") if (f / "processor").is_dir()]
KNOWN = {
    "single",
    "multi",
    "errors",
    "tokenizer",
    "audio_context_size",
    "stack_factor",
    "encoder_ds_factor",
    "chat_template",
}
ROW = {
    *(
        "num_samples",
        "text",
        "mel_shape",
        "audio_lens",
        "audio_token_len",
        "audio_token_start_idx",
        "audio_batch_size",
    ),
    *("audio_num_chunks", "total_audio_tokens", "input_len", "input_ids"),
}

every_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: label(p.parent))


@cache
def table(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "counts.json").read_text())
    return found


def any_model(folder: Path) -> SpeechLM:
    """A stored model; which one does not matter."""
    found = [
        path for root in (folder.parent, *kind_folders()) for path in sorted(root.glob("*/model.safetensors"))
    ]
    return load_golden(found[0].parent).model


@cache
def processor(folder: Path, mels: int = 80, reference_padding: bool = True) -> SpeechProcessor:
    """The processor of a model with an encoder of the stored context; its sizes do not matter."""
    facts = table(folder)
    config = any_model(folder).config
    ears = config.audio_in
    assert isinstance(ears, EmbeddingsIn)
    model = {
        **ears.encoder["model"],
        "num_mel_bins": mels,
        "max_source_positions": facts["audio_context_size"] // 2,
    }
    changed = dataclasses.replace(
        ears,
        encoder={**ears.encoder, "model": model},
        connector={**ears.connector, "stack_factor": facts["stack_factor"]},
        features={**ears.features, "num_mels": mels},
        reference_padding=reference_padding,
    )
    return SpeechProcessor.for_config(
        toy_tokenizer(folder.parent), SpeechLMConfig(text_config=config.text_config, audio_in=changed)
    )


class Row(NamedTuple):
    """A row of counts.json with one clip or several."""

    folder: Path
    kind: str
    number: int

    @property
    def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = table(self.folder)[self.kind][self.number]
        return found

    @property
    def sizes(self) -> list[int]:
        size = self.facts["num_samples"]
        return size if isinstance(size, list) else [size]

    def clips(self) -> list[np.ndarray]:
        rng = np.random.default_rng(self.number)
        return [rng.uniform(-0.1, 0.1, size).astype(np.float32) for size in self.sizes]


def rows(kind: str) -> Any:
    found = [Row(folder, kind, i) for folder in FOLDERS for i in range(len(table(folder)[kind]))]
    names = [f"{label(r.folder.parent)}-{kind}{r.number}" for r in found]
    return pytest.mark.parametrize("row", found, ids=names)


@every_folder
def test_all_of_the_table_is_read(folder: Path) -> None:
    assert set(table(folder)) <= KNOWN, f"{folder}: no test reads {sorted(set(table(folder)) - KNOWN)}"
    other = {key for kind in ("single", "multi") for row in table(folder)[kind] for key in row} - ROW
    assert not other, f"{folder}/counts.json: no test reads {sorted(other)}"
    files = {p.name for p in folder.iterdir()} - {"counts.json", "mel.safetensors"}
    assert not files, f"{folder}: no test reads {sorted(files)}"


@every_folder
def test_frames_of_the_encoder(folder: Path) -> None:
    model = any_model(folder)
    lengths = torch.arange(1, 40)
    frames = model.audio_encoder.num_frames(lengths)
    assert frames.tolist() == (-(-lengths // table(folder)["encoder_ds_factor"])).tolist()
    tokens = -(-lengths // (table(folder)["encoder_ds_factor"] * table(folder)["stack_factor"]))
    assert model.connector.num_tokens(frames).tolist() == tokens.tolist()


def check_counts(row: Row) -> None:
    facts, made = row.facts, processor(row.folder)
    clips = row.clips()
    if 0 in row.sizes:  # a clip of no samples is refused before it is counted
        with pytest.raises(AudioError, match=r"samples|empty"):
            made(text=facts["text"], audio=clips, sampling_rate=16_000)
        read = made.clip_reader.read(clips)
        assert read.positions == [facts["total_audio_tokens"]]
        assert (list(read.features.shape), read.lengths.tolist()) == (facts["mel_shape"], facts["audio_lens"])
        return
    inputs = made(text=facts["text"], audio=clips, sampling_rate=16_000)
    assert list(inputs["input_features"].shape) == facts["mel_shape"]
    assert inputs["feature_lengths"].tolist() == facts["audio_lens"]
    assert [len(inputs["feature_lengths"])] == facts["audio_batch_size"]
    read = made.clip_reader.read(clips)
    assert read.chunks == facts["audio_num_chunks"]
    assert made.clip_reader.num_embeddings(read.lengths) == facts["audio_token_len"]
    ids = inputs["input_ids"][0]
    assert len(ids) == facts["input_len"] and bool(inputs["attention_mask"].all())
    places = [
        at
        for s, n in zip(facts["audio_token_start_idx"], facts["audio_token_len"], strict=True)
        for at in range(s, s + n)
    ]
    assert (ids == AUDIO).nonzero().flatten().tolist() == places
    assert len(places) == facts.get("total_audio_tokens", len(places))
    if facts.get("input_ids") is not None:
        assert ids.masked_fill(ids == AUDIO, EOT).tolist() == facts["input_ids"]


@rows("single")
def test_counts_of_one_clip(row: Row) -> None:
    check_counts(row)


@rows("multi")
def test_counts_of_several_clips(row: Row) -> None:
    check_counts(row)


@rows("multi")
def test_several_clips_apart_have_the_counts_of_each_alone(row: Row) -> None:
    """Without the reference's padding: the same places, and each clip's spectrogram as if it were alone."""
    reader = processor(row.folder, reference_padding=False).clip_reader
    read, at = reader.read(row.clips()), 0
    assert read.chunks == row.facts["audio_num_chunks"]
    for clip, chunks in zip(row.clips(), read.chunks, strict=True):
        alone = reader.read([clip])
        width = alone.features.shape[-1]
        torch.testing.assert_close(
            read.features[at : at + chunks, :, :width], alone.features, rtol=0, atol=MELS
        )
        at += chunks


@rows("errors")
def test_clips_and_placeholders_that_differ_are_refused(row: Row) -> None:
    text, count, _ = table(row.folder)["errors"][row.number]
    clips = [np.zeros(16_000, np.float32)] * count
    written = text.count(AUDIO_TOKEN)
    with pytest.raises(ConfigError, match=rf"{count} clips for {written} {re.escape(AUDIO_TOKEN)}"):
        processor(row.folder)(text=text, audio=clips or None, sampling_rate=16_000)


def mel_files() -> list[tuple[Path, str]]:
    found = [
        (f, name)
        for f in FOLDERS
        if (f / "mel.safetensors").is_file()
        for name in load_file(f / "mel.safetensors")
    ]
    return [(folder, name) for folder, name in found if not name.endswith("_i16")]


@pytest.mark.parametrize(
    ("folder", "name"), mel_files(), ids=[f"{label(f.parent)}-{n}" for f, n in mel_files()]
)
def test_spectrograms(folder: Path, name: str) -> None:
    stored = load_file(folder / "mel.safetensors")
    bins = re.fullmatch(r"mel(\d+)/(single|pair_padded)", name)
    assert bins, f"{folder}/mel.safetensors: no test reads {name}"
    waves = {n: wave.float().numpy() / 32_768 for n, wave in stored.items() if n.endswith("_i16")}
    unknown = set(waves) - {"waveform_i16", "waveform2_i16"}
    assert not unknown, f"{folder}/mel.safetensors: no test reads {sorted(unknown)}"
    clips = [waves["waveform2_i16"]] * (bins[2] == "pair_padded") + [waves["waveform_i16"]]
    made = processor(folder, int(bins[1]))(text=AUDIO_TOKEN * len(clips), audio=clips, sampling_rate=16_000)
    wanted: Tensor = stored[name]
    found = made["input_features"]
    torch.testing.assert_close(found if wanted.dim() == 3 else found[0], wanted, rtol=0, atol=MELS)
