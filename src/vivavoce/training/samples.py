"""What a model in training says: the last answers of some rows, asked as inference asks, beside what was wanted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vivavoce.audio.files import write_audio
from vivavoce.base.errors import VivavoceError
from vivavoce.data.conversation import Conversation
from vivavoce.tokens.record import AudioVocabulary
from vivavoce.training.rendering import render_row

MOST_NEW = 1024


@dataclass
class Said:
    """An answer.

    Attributes:
        id: Of the row.
        asked: What was typed or said before, as words.
        wanted, said: Words of the row's answer and of the model's; codes of audio are left out.
        share: Of the wanted tokens, how many the model wrote before its first other one.
        waveform: float32 [S] of a spoken answer; None without, or if its tokens are no codes.
        sample_rate: Hz.
    """

    id: str
    asked: str
    wanted: str
    said: str
    share: float
    waveform: np.ndarray | None = None
    sample_rate: int = 0

    @property
    def exact(self) -> bool:
        """Whether every token was the wanted one, the end included."""
        return self.share == 1.0


@torch.no_grad()
def answer_rows(
    model: Any,
    processor: Any,
    rows: Sequence[tuple[Conversation, Path | None]],
    max_new_tokens: int = MOST_NEW,
) -> list[Said]:
    """Have a model answer rows, greedily, each alone.

    Args:
        model: A ``SpeechLM``; put into evaluation mode for the time.
        processor: Its processor.
        rows: Rows with an answer, and where their paths start.
        max_new_tokens: Longest answer, tokens; never more than the wanted one and some.

    Returns:
        One for each row that has an answer and can be read.
    """
    was_training = model.training
    model.eval()
    try:
        found = [_answer(model, processor, row, root, max_new_tokens) for row, root in rows]
    finally:
        model.train(was_training)
    return [said for said in found if said is not None]


def _answer(model: Any, processor: Any, row: Conversation, root: Path | None, most: int) -> Said | None:
    try:
        rendering = render_row(row, processor, "sft", root=root, encode=True)
    except (VivavoceError, OSError):
        return None
    if not rendering.asked_ids or rendering.input_ids[: len(rendering.asked_ids)] != rendering.asked_ids:
        return None
    asked, wanted = rendering.asked_ids, rendering.input_ids[len(rendering.asked_ids) :]
    until = max((i + 1 for i, w in enumerate(rendering.weights[len(asked) :]) if w > 0), default=0)
    wanted = wanted[:until]
    inputs: dict[str, Any] = {"input_ids": torch.tensor([asked], device=model.device)}
    if rendering.heard is not None:
        inputs |= {"input_features": rendering.heard.features, "feature_lengths": rendering.heard.lengths}
    made = model.generate(
        **inputs,
        attention_mask=torch.ones_like(inputs["input_ids"]),
        do_sample=False,
        max_new_tokens=min(most, until + 16),
        eos_token_id=sorted({*processor.stop_ids, *wanted[-1:]}),
        pad_token_id=processor.pad_id,
    )
    said = made[0, len(asked) :].tolist()
    same = next(
        (i for i, (a, b) in enumerate(zip(wanted, said, strict=False)) if a != b), min(len(wanted), len(said))
    )
    vocabulary = processor.vocabulary_out
    waveform = None if vocabulary is None else _decode(processor, vocabulary, said)
    return Said(
        row.id,
        " ".join(m.words for m in row.messages[:-1]),
        _words(processor, wanted, vocabulary),
        _words(processor, said, vocabulary),
        same / max(1, len(wanted)),
        waveform,
        vocabulary.sample_rate if vocabulary is not None else 0,
    )


def _words(processor: Any, ids: Sequence[int], vocabulary: AudioVocabulary | None) -> str:
    """The text among tokens."""
    kept = [i for i in ids if vocabulary is None or not _is_audio(i, vocabulary)]
    text: str = processor.tokenizer.decode(kept, skip_special_tokens=True)
    return text.strip()


def _is_audio(token: int, vocabulary: AudioVocabulary) -> bool:
    first = vocabulary.first_code_id
    return first <= token < first + vocabulary.num_codes or token in (vocabulary.start_id, vocabulary.end_id)


def _decode(processor: Any, vocabulary: AudioVocabulary, ids: Sequence[int]) -> np.ndarray | None:
    """The waveform of the first run of codes, whole frames only; None if there is none."""
    first, last = vocabulary.first_code_id, vocabulary.first_code_id + vocabulary.num_codes
    codes: list[int] = []
    for token in ids:
        if first <= token < last:
            codes.append(token - first)
        elif codes:
            break
    codes = codes[: len(codes) // vocabulary.flattening.period * vocabulary.flattening.period]
    if not codes:
        return None
    try:
        decoded = processor.codec_out.decode(vocabulary.flattening.unflatten(codes, vocabulary.frame_samples))
    except VivavoceError:
        return None
    waveform: np.ndarray = decoded[0, 0].float().cpu().numpy()
    return waveform


def write_samples(folder: Path, said: Sequence[Said], step: int) -> list[dict[str, Any]]:
    """Write answers as JSON, and spoken ones as wav files.

    Args:
        folder: Of the run; all goes into ``samples/step-000123``.
        said: Answers.
        step: Updates done.

    Returns:
        For each, what `report.write_report` takes.
    """
    made = []
    place = folder / "samples" / f"step-{step:06d}"
    if said:
        place.mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(said):  # rows of two sets may have one name
        audio = None
        if one.waveform is not None:
            name = "".join(c if c.isalnum() or c in "-_" else "_" for c in f"{number:02d}-{one.id}")
            audio = str(write_audio(place / f"{name}.wav", one.waveform, one.sample_rate).relative_to(folder))
        made.append(
            {"id": one.id, "asked": one.asked, "wanted": one.wanted, "said": one.said, "audio": audio}
        )
    if said:
        text = json.dumps(made, indent=1, ensure_ascii=False)
        (place / "answers.json").write_text(text + "\n", encoding="utf-8")
    return made
