"""Answerers that need no model: what they were given is kept, and what they say is agreed."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from vivavoce.evaluation.items import Sound
from vivavoce.evaluation.run.answerers import Answer


class Echo:
    """Says how much it heard and what it read; ``given`` has all messages, ``heard`` all recordings."""

    name, hears, speaks, clips_first, parallel = "echo", True, True, False, 1

    def __init__(self) -> None:
        self.given: list[Any] = []
        self.heard: list[Sound] = []
        self._lock = threading.Lock()

    def chat(self, messages: Any, aloud: bool = False) -> Answer:
        words, seconds = [], 0.0
        with self._lock:
            self.given.append(messages)
            for message in messages:
                content = message["content"]
                for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
                    if part["type"] == "text":
                        words.append(part["text"])
                    else:
                        self.heard.append(Sound(part["audio"], part["sampling_rate"]))
                        seconds += len(part["audio"]) / part["sampling_rate"]
        sound = Sound(np.full(800, 0.1, np.float32), 16000) if aloud else None
        return Answer(f"{' '.join(words)} {seconds:.3f}".strip(), "", True, sound, 0.01, 0.02, 0.03)

    def transcribe(self, sound: Sound) -> Answer:
        self.heard.append(sound)
        return Answer(f"{len(sound.waveform) / sound.sample_rate:.3f} seconds", total_s=0.02)

    def say(self, text: str) -> Answer:
        return Answer(text, audio=Sound(np.full(len(text) * 100, 0.1, np.float32), 16000), total_s=0.02)

    def choose(self, messages: Any, letters: str) -> Answer:
        self.given.append(messages)
        return Answer(letters[0])
