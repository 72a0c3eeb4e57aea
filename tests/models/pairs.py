"""Tiny random models for every pair of encoder and connector that the toolkit has."""

from __future__ import annotations

from typing import Any

import torch
from tests.inference import tiny
from tests.models.tiny import text_config

from vivavoce.inference.assistant import Assistant
from vivavoce.models.config import SpeechLMConfig
from vivavoce.models.processor import SpeechProcessor
from vivavoce.models.speech_lm import SpeechLM

CONTEXT_S = 0.8  # what the tiny Whisper takes in one pass

WHISPER: dict[str, Any] = {
    "type": "whisper",
    "model": {
        "num_mel_bins": 8,
        "max_source_positions": 40,
        "d_model": 16,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 24,
    },
}
PADDED = {**WHISPER, "pad_to_longest": True}
HUBERT: dict[str, Any] = {
    "type": "huggingface",
    "longest_samples": 12_800,
    "model": {
        "model_type": "hubert",
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "conv_dim": [8, 8],
        "conv_stride": [20, 16],  # 50 Hz
        "conv_kernel": [40, 16],
        "num_feat_extract_layers": 2,
        "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 2,
    },
}
BEATS: dict[str, Any] = {
    "type": "beats",
    "embed_dim": 8,
    "encoder_layers": 2,
    "encoder_embed_dim": 16,
    "encoder_ffn_embed_dim": 24,
    "encoder_attention_heads": 2,
    "conv_pos": 8,
    "conv_pos_groups": 2,
    "num_buckets": 16,
    "max_distance": 40,
    "finetuned_model": False,
}
CTC: dict[str, Any] = {
    "type": "mel_ctc",
    "vocab_size": 300,
    "num_mels": 8,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_layers": 1,
    "num_heads": 2,
}


def _stack(size: int, factor: int = 8, **more: Any) -> dict[str, Any]:
    sizes = {"encoder_size": size, "text_size": 32, "stack_factor": factor, "hidden_size": 24}
    return {"type": "stack", **sizes, **more}


def _qformer(*streams: int, **more: Any) -> dict[str, Any]:
    sizes = {"text_size": 32, "streams": streams, "hidden_size": 16, "num_layers": 1, "num_heads": 2}
    return {"type": "qformer", **sizes, "intermediate_size": 24, "dropout": 0.0, **more}


TRANSFORMER = {
    "type": "transformer",
    "encoder_size": 16,
    "text_size": 32,
    "num_layers": 2,
    "num_heads": 2,
    "intermediate_size": 24,
    "max_positions": 8,
}
_MEL = {"num_mels": 8, "ending": "hop"}

# name -> (encoder, connector, log-mel settings of the processor)
PAIRS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "mel_ctc + stack": (CTC, _stack(16, 2), {"num_mels": 8}),
    "whisper + stack, norm mid": (WHISPER, _stack(16), _MEL),
    "whisper + stack, norm post": (WHISPER, _stack(16, norm="post"), _MEL),
    "whisper by blocks + stack": ({**WHISPER, "block_frames": 8}, _stack(16), _MEL),
    "whisper padded + stack": (PADDED, _stack(16), {**_MEL, "ending": "silence"}),
    "whisper + transformer": (WHISPER, TRANSFORMER, _MEL),
    "whisper padded + qformer": (PADDED, _qformer(16), {**_MEL, "ending": "silence"}),
    "hubert + stack": (HUBERT, _stack(16), {}),
    "beats + qformer of any tail": (BEATS, _qformer(16, tail="pad"), {}),
    "whisper and beats + qformer": (
        {"type": "dual", "first": PADDED, "second": BEATS, "features": {**_MEL, "ending": "silence"}},
        _qformer(16, 16),
        {},
    ),
    "whisper and hubert + stack": ({"type": "dual", "first": WHISPER, "second": HUBERT}, _stack(32), {}),
}


def ears(name: str, **more: Any) -> dict[str, Any]:
    """``audio_in`` of a pair."""
    encoder, connector, features = PAIRS[name]
    parts = {"encoder": encoder, "connector": connector, "features": features}
    return {"type": "embeddings", **parts, "shortest_samples": 320, **more}


def assistant(
    name: str = "whisper + stack, norm mid",
    seed: int = 0,
    text: dict[str, Any] | None = None,
    spare_rows: int = 3,
    **more: Any,
) -> Assistant:
    """A model of a pair whose every weight is far from zero, so that nothing is equal by being small.

    Args:
        name: In ``PAIRS``.
        seed: Of the weights.
        text: Config of the text model, of width 32; a Llama by default.
        spare_rows: Of the text model past the tokenizer's tokens; -1 leaves the placeholder, the last, without.
        more: Fields of ``EmbeddingsIn``.
    """
    tokenizer = tiny.byte_tokenizer("<|audio|>")
    audio_token_id = tokenizer.convert_tokens_to_ids("<|audio|>")
    rows, llama = len(tokenizer) + spare_rows, text_config()
    config = SpeechLMConfig(
        text_config={**(text or llama), "vocab_size": rows, "eos_token_id": tokenizer.eos_token_id},
        audio_in=ears(name, **{"audio_token_id": audio_token_id, **more}),
    )
    torch.manual_seed(seed)
    model = SpeechLM(config).eval()
    with torch.no_grad():
        for part in (model.audio_encoder, model.connector):
            for key, value in part.named_parameters():
                gain = key.endswith("weight") and value.dim() == 1
                value.copy_(torch.randn(value.shape) * 0.2 + gain)
    return Assistant(model, SpeechProcessor.for_config(tokenizer, config), name)
