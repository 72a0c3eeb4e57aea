"""Rows and tiny models for tests of what a model reads of a row."""

from __future__ import annotations

from typing import Any

import numpy as np
from tests.data.check.bad_rows import clip, sound
from tests.inference import tiny
from tests.tokens.conftest import metaspace_tokenizer

from vivavoce.audio.files import read_audio
from vivavoce.data.conversation import Conversation, read_conversation

ASKED, SAID = "what is one", "rain is likely"


def row(*asked: Any, answer: Any = SAID, **more: Any) -> Conversation:
    """A question, by default a clip of 1.3 s, and an answer.

    Args:
        asked: Parts of the question: texts or audio parts.
        answer: Text, or parts.
        more: Keys of the answer's message.
    """
    parts = [{"type": "text", "text": p} if isinstance(p, str) else p for p in asked or (heard(),)]
    messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": answer, **more}]
    return read_conversation({"id": "r", "messages": messages, "license": "cc0-1.0"}, 0)


def heard(seconds: float = 1.3, rate: int = 16_000, seed: int = 0, **more: Any) -> dict[str, Any]:
    """An audio part with its recording inside and a transcript."""
    return {
        "type": "audio",
        "audio": clip(sound(seconds, rate, seed=seed), rate),
        "transcript": ASKED,
        **more,
    }


def stored(part: dict[str, Any]) -> np.ndarray:
    """The samples of an audio part's recording."""
    return read_audio(part["audio"]["bytes"])[0]


def spoken_answer(seconds: float = 0.7) -> list[dict[str, Any]]:
    """Text, and a recording of it."""
    return [{"type": "text", "text": SAID}, {**heard(seconds, 24_000, seed=5), "transcript": SAID}]


def distilled() -> Any:
    """The processor of a model that hears by embeddings and whose chat template knows nothing of audio."""
    processor = tiny.embeddings_to_text().processor
    processor.tokenizer.chat_template = tiny.LLAMA3
    return processor


def marked() -> Any:
    """The processor of a model that has text around each clip and reads text after it apart, as SALMONN does; its
    tokenizer marks the beginning of a text.
    """
    tokenizer = metaspace_tokenizer()
    tokenizer.add_tokens(["<|audio|>"], special_tokens=True)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}</s>{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    around = {"clip_before": "the", "clip_after": "world", "text_apart": True}
    return tiny.assemble(tokenizer, None, audio_in={**tiny.ears_for(tokenizer), **around}).processor
