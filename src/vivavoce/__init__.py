"""Give any open-weights LLM ears and a voice.

    import vivavoce

    assistant = vivavoce.load("nano")
    reply = assistant.chat("what is nine plus four", audio=True)
    reply.save("answer.wav")

Importing the package is cheap; torch and transformers are imported when one of the names below is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vivavoce.audio.files import read_audio, write_audio
    from vivavoce.base.errors import VivavoceError
    from vivavoce.codecs.loading import list_codecs, load_codec
    from vivavoce.inference.assistant import Assistant, load
    from vivavoce.inference.reply import Delta, Reply, Transcript
    from vivavoce.models.loading import list_models, load_speech_lm

__version__ = "0.1.0"

_DOORS = {
    "Assistant": "vivavoce.inference.assistant",
    "Delta": "vivavoce.inference.reply",
    "Reply": "vivavoce.inference.reply",
    "Transcript": "vivavoce.inference.reply",
    "VivavoceError": "vivavoce.base.errors",
    "list_codecs": "vivavoce.codecs.loading",
    "list_models": "vivavoce.models.loading",
    "load": "vivavoce.inference.assistant",
    "load_codec": "vivavoce.codecs.loading",
    "load_speech_lm": "vivavoce.models.loading",
    "read_audio": "vivavoce.audio.files",
    "write_audio": "vivavoce.audio.files",
}

__all__ = [
    "Assistant",
    "Delta",
    "Reply",
    "Transcript",
    "VivavoceError",
    "__version__",
    "list_codecs",
    "list_models",
    "load",
    "load_codec",
    "load_speech_lm",
    "read_audio",
    "write_audio",
]


def __getattr__(name: str) -> Any:
    if name not in _DOORS:
        raise AttributeError(f"module 'vivavoce' has no attribute {name!r}")
    return getattr(importlib.import_module(_DOORS[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_DOORS})
