"""Tiny random speech LMs for every combination of ears and voice; nothing is read from disk or a hub."""

from __future__ import annotations

from typing import Any

import torch

from vivavoce.models.config import SpeechLMConfig
from vivavoce.models.speech_lm import SpeechLM

TEXT_VOCAB = 60
PLACEHOLDER = 59
NUM_MELS = 80


def text_config(vocab_size: int = TEXT_VOCAB, tie: bool = False, **more: Any) -> dict[str, Any]:
    """A two-layer Llama of width 32."""
    return {
        "model_type": "llama",
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": tie,
        "bos_token_id": None,
        "eos_token_id": None,
        "initializer_range": 0.3,
        **more,
    }


def embeddings_in(vocab_size: int = TEXT_VOCAB, stack: int = 2, **more: Any) -> dict[str, Any]:
    """Ears by a one-layer CTC encoder and the stack projector."""
    encoder = {"type": "mel_ctc", "vocab_size": vocab_size, "hidden_size": 16, "intermediate_size": 16}
    return {
        "type": "embeddings",
        "encoder": {**encoder, "num_layers": 1, "num_heads": 2, "num_mels": NUM_MELS},
        "connector": {
            "type": "stack",
            "encoder_size": 16,
            "text_size": 32,
            "stack_factor": stack,
            "hidden_size": 24,
            "norm": "post",
        },
        "audio_token_id": PLACEHOLDER,
        **more,
    }


def hearing_model(seed: int = 0, tie: bool = False, **more: Any) -> SpeechLM:
    """Hears by embeddings, answers in text."""
    torch.manual_seed(seed)
    config = SpeechLMConfig(text_config=text_config(tie=tie), audio_in=embeddings_in(**more))
    return SpeechLM(config).eval()


def hearing_batch(seed: int = 0, side: str = "left") -> dict[str, torch.Tensor]:
    """Three rows with one, two and no clips, of different lengths, padded on one side."""
    torch.manual_seed(seed)
    lengths = torch.tensor([21, 9, 33])  # mel frames; 25 Hz, then stacked by 2 -> 3, 2, 5 embeddings
    rows = [[1, *[PLACEHOLDER] * 3, 2, 3], [4, *[PLACEHOLDER] * 2, 5, *[PLACEHOLDER] * 5, 6], [7, 8, 9]]
    size = max(map(len, rows))
    ids, mask = torch.zeros(3, size, dtype=torch.long), torch.zeros(3, size, dtype=torch.long)
    for i, row in enumerate(rows):
        at = slice(size - len(row), None) if side == "left" else slice(0, len(row))
        ids[i, at], mask[i, at] = torch.tensor(row), 1
    features = torch.randn(3, NUM_MELS, int(lengths.max()))
    for i, n in enumerate(lengths):
        features[i, :, n:] = 7.0  # padding must not matter
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "input_features": features,
        "feature_lengths": lengths,
        "audio_batch_index": torch.tensor([0, 1, 1]),
    }


def alone(batch: dict[str, torch.Tensor], row: int) -> dict[str, torch.Tensor]:
    """One row of a batch without any padding."""
    real = batch["attention_mask"][row].bool()
    single = {"input_ids": batch["input_ids"][row : row + 1, real]}
    clips = (batch["audio_batch_index"] == row).nonzero().flatten()
    if len(clips):
        lengths = batch["feature_lengths"][clips]
        single["input_features"] = batch["input_features"][clips][..., : int(lengths.max())]
        single["feature_lengths"] = lengths
    return single
