"""The speech LM, its encoders, connectors and voices, presets, loading.

The tables below name the parts that ``SpeechLMConfig`` can plug in. A part is a ``torch.nn.Module`` whose
``__init__`` takes one dataclass; the keys of its JSON object in the config, less ``type``, are the fields of
that dataclass.
"""

from vivavoce.base.registry import Registry

# forward(features [B, M, T], lengths [B]) -> (states [B, F, D], frames [B]); attribute hidden_size
ENCODERS = Registry(
    "audio encoder",
    {"mel_ctc": "vivavoce.models.encoders.mel_ctc:MelCTCEncoder"},
    group="vivavoce.encoders",
)

# forward(states [B, F, D], frames [B]) -> (embeddings [B, F', D_text], counts [B])
CONNECTORS = Registry(
    "connector",
    {
        "stack": "vivavoce.models.connectors.stack:StackProjector",
        "transformer": "vivavoce.models.connectors.transformer:TransformerProjector",
    },
    group="vivavoce.connectors",
)

# aligned speech output, driven by inference/aligned.py
VOICES = Registry(
    "voice",
    {"aligned": "vivavoce.models.voice.aligned:AlignedVoice"},
    group="vivavoce.voices",
)
