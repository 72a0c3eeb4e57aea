"""Importing this module lets transformers' Auto classes and ``pipeline`` open folders of this project."""

from vivavoce.models.config import SpeechLMConfig
from vivavoce.models.pipeline import SpeechChatPipeline
from vivavoce.models.processor import SpeechProcessor
from vivavoce.models.speech_lm import SpeechLM

__all__ = ["SpeechChatPipeline", "SpeechLM", "SpeechLMConfig", "SpeechProcessor"]
