"""The one error tree. A message says what, the value and unit seen, what was wanted, and the next step.

VivavoceError
├── ConfigError        a setting is unknown, missing or out of range
├── AudioError         a recording cannot be read, written or used
├── DataError          a file of conversations, or a row of it, cannot be used
├── CodecError         codes and codec do not fit together
├── LayoutError        a token sequence is not a legal flattening of codes
├── VocabularyError    a tokenizer lacks, or has wrongly, the audio tokens
├── ModelError         a model folder is missing parts or does not fit its use
│   └── CheckpointError    tensors missing, unexpected or of the wrong shape
├── TrainingError      a training run cannot go on
├── SessionError       a call came in the wrong order or after the end
└── MissingExtraError  an optional package or program is not installed
"""

from __future__ import annotations


class VivavoceError(Exception):
    """Root of every error a user can cause; the command line prints it on one line and exits with 2."""


class ConfigError(VivavoceError):
    """A setting is unknown, missing, of the wrong type or out of range."""


class AudioError(VivavoceError):
    """A recording cannot be read, written or used."""


class DataError(VivavoceError):
    """A file of conversations, or a row of it, cannot be used."""


class CodecError(VivavoceError):
    """Codes and codec do not fit together, or a codec folder cannot be loaded."""


class LayoutError(VivavoceError):
    """A token sequence is not a legal flattening of codes.

    Args:
        message: What is wrong.
        position: Index of the first bad token, when one can be named.
    """

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message)
        self.position = position


class VocabularyError(VivavoceError):
    """A tokenizer lacks the audio tokens, or has them in a form that splits into pieces."""


class ModelError(VivavoceError):
    """A model folder is missing parts, or is asked for something it was not made for."""


class CheckpointError(ModelError):
    """Tensors are missing, unexpected or of the wrong shape."""


class TrainingError(VivavoceError):
    """A training run cannot go on: its loss is not finite, or a process of it was lost."""


class SessionError(VivavoceError):
    """A streaming or chat call came in the wrong order, or after the end."""


class MissingExtraError(VivavoceError):
    """An optional package or program is not installed; the message names the command that installs it."""
