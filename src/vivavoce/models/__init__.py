"""The speech LM, its encoders, connectors and voices, presets, loading.

The tables below name the parts that ``SpeechLMConfig`` can plug in. A part is a ``torch.nn.Module`` whose
``__init__`` takes one dataclass; the keys of its JSON object in the config, less ``type``, are the fields of
that dataclass.
"""

from vivavoce.base.registry import Registry

# forward(features, lengths int64 [N]) -> (states [N, F, D], frames). States are zero past a clip's own
# frames, and a batch gives each clip what it gets alone. Features are float32, whatever the weights are:
# log-mel frames [N, M, T] if the attribute ``takes`` is "log_mel", samples at 16 kHz [N, S] if it is
# "waveform". ``num_frames(lengths)`` promises ``frames``: int64 [N], or [N, K] for K streams side by side in
# D. Further attributes: ``hidden_size`` (D); ``longest`` (most frames or samples of one pass, or None);
# ``reference_padding`` (True: padding leaks into a batch as in the reference implementation). For weights
# stored elsewhere: ``references()`` (prefix of parameters -> ref) and ``load_reference(prefix, folder,
# **hub)``.
ENCODERS = Registry(
    "audio encoder",
    {
        "beats": "vivavoce.models.encoders.beats:BeatsEncoder",
        "dual": "vivavoce.models.encoders.dual:DualEars",
        "huggingface": "vivavoce.models.encoders.huggingface:HuggingFaceEars",
        "mel_ctc": "vivavoce.models.encoders.mel_ctc:MelCTCEncoder",
        "whisper": "vivavoce.models.encoders.whisper:WhisperEars",
    },
    group="vivavoce.encoders",
)

# forward(states [B, F, D], frames [B]) -> (embeddings [B, F', D_text], counts [B])
CONNECTORS = Registry(
    "connector",
    {
        "qformer": "vivavoce.models.connectors.qformer:WindowQFormer",
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
