"""Waveform <-> codes, whole and streaming, one file per codec."""

from vivavoce.base.registry import Registry

# name -> class with the classmethod ``from_folder(path)``; full entry in docs/codecs.md
CODECS = Registry(
    "codec",
    {
        "nano": "vivavoce.codecs.nano:NanoCodec",
        "snac": "vivavoce.codecs.snac:SNACCodec",
        "encodec": "vivavoce.codecs.encodec:EncodecCodec",
        "mimi": "vivavoce.codecs.mimi:MimiCodec",
    },
    group="vivavoce.codecs",
)
