"""The tiny models of the Ultravox goldens, built from their config and filled with their weights."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from tests.goldens.ultravox_toy import AUDIO

from vivavoce.models.config import SpeechLMConfig
from vivavoce.models.encoders.references import encoder_fields
from vivavoce.models.speech_lm import SpeechLM

# prefixes of parameter names, theirs -> ours
NAMES = {
    "audio_tower.": "audio_encoder.encoder.",
    "multi_modal_projector.": "connector.",
    "language_model.": "language_model.",
}


def our_name(name: str) -> str:
    """Our name of a reference parameter."""
    theirs = next(prefix for prefix in NAMES if name.startswith(prefix))
    return NAMES[theirs] + name.removeprefix(theirs)


def golden_config(folder: Path) -> SpeechLMConfig:
    """The config of a golden model; batches pad as the reference does."""
    record: dict[str, Any] = json.loads((folder / "config.json").read_text())
    encoder, text = record["audio_config"], record["text_config"]
    connector = {
        "type": "stack",
        "encoder_size": encoder["d_model"],
        "text_size": text["hidden_size"],
        "stack_factor": record["stack_factor"],
        "hidden_size": record["hidden_size"],
        "activation": record["projector_act"],
        "norm": "mid" if record["projector_ln_mid"] else "post",
        "norm_init": record["norm_init"],
    }
    return SpeechLMConfig(
        text_config=text,
        audio_in={
            "type": "embeddings",
            "encoder": {
                "type": "whisper",
                "model": encoder_fields(encoder),
                "block_frames": record.get("audio_latency_block_size"),
            },
            "connector": connector,
            "audio_token_id": AUDIO,
            "features": {"num_mels": encoder["num_mel_bins"]},
            "shortest_samples": 320,
            "reference_padding": True,
            "text_apart": True,
        },
    )


@lru_cache(maxsize=4)
def load_golden_model(folder: Path) -> SpeechLM:
    """The model of a golden folder in float32, in evaluation mode; it is shared, so leave its weights alone."""
    model = SpeechLM(golden_config(folder)).eval()
    weights = {our_name(name): value for name, value in load_file(folder / "model.safetensors").items()}
    model.load_state_dict(weights)
    return model
