"""Who answers: an assistant of this project; its shape is what endpoints have too (`endpoint`)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from vivavoce.base.errors import ConfigError, ModelError
from vivavoce.evaluation.items import Sound
from vivavoce.inference.assistant import Assistant
from vivavoce.inference.batching.batcher import Batcher
from vivavoce.inference.reply import Reply
from vivavoce.models.config import SpeechLMConfig
from vivavoce.models.processor import SpeechProcessor
from vivavoce.models.speech_lm import SpeechLM

Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Answer:
    """What came back; times are seconds since the call."""

    text: str | None = None
    transcript: str | None = None
    understood: bool = True
    audio: Sound | None = None
    ttft_s: float | None = None
    first_audio_s: float | None = None
    total_s: float | None = None


class Answerer(Protocol):
    """Answers messages in the OpenAI shape, with recordings as ``{"type": "audio", "audio": float32 [S]}``."""

    @property
    def name(self) -> str: ...
    @property
    def hears(self) -> bool: ...
    @property
    def speaks(self) -> bool: ...
    @property
    def clips_first(self) -> bool: ...
    @property
    def parallel(self) -> int: ...
    def chat(self, messages: Messages, aloud: bool = False) -> Answer: ...
    def transcribe(self, sound: Sound) -> Answer: ...
    def say(self, text: str) -> Answer: ...
    def choose(self, messages: Messages, letters: str) -> Answer: ...


class Local:
    """An assistant as an answerer; greedy.

    Args:
        assistant: What ``vivavoce.load`` gives.
        max_new_tokens: Of an answer.
        seed: Of speech.
    """

    def __init__(self, assistant: Assistant, max_new_tokens: int = 512, seed: int = 0) -> None:
        self.assistant, self.max_new_tokens, self.seed = assistant, max_new_tokens, seed
        self.name, self.hears, self.speaks = assistant.name, assistant.hears, assistant.speaks
        self.clips_first = assistant.clips_first
        # on a CPU one question alone uses all cores, and its latency is what a user would see
        self.parallel = 1 if assistant.model.device.type == "cpu" else 8

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let questions of several threads go through the model in one forward, as long as the block lasts."""
        with Batcher(self.assistant.model) as batcher:
            self.assistant.use(batcher)
            try:
                yield
            finally:
                self.assistant.use(None)

    def chat(self, messages: Messages, aloud: bool = False) -> Answer:
        return _answer(
            self.assistant.chat(
                list(messages),
                audio=aloud,
                temperature=0.0,
                max_new_tokens=self.max_new_tokens,
                seed=self.seed,
            )
        )

    def transcribe(self, sound: Sound) -> Answer:
        heard = self.assistant.transcribe(tuple(sound), temperature=0.0, max_new_tokens=self.max_new_tokens)
        text = heard.text if heard.understood else ""
        return Answer(text, heard.text, heard.understood, total_s=heard.timings["total_s"])

    def say(self, text: str) -> Answer:
        return _answer(self.assistant.say(text, seed=self.seed))

    def choose(self, messages: Messages, letters: str) -> Answer:
        """The letter that the model finds likeliest right after the prompt; nothing is generated."""
        began = time.perf_counter()
        processor = self.assistant.processor
        ids = processor.prepare(messages)["input_ids"]
        row = torch.tensor([ids], device=self.assistant.model.device)
        calls, model = self.assistant.calls, self.assistant.model
        with torch.inference_mode():
            logits = calls.do(lambda: model(input_ids=row, logits_to_keep=1).logits[0, -1].clone())
        tokens = [_letter_ids(processor.tokenizer, letter) for letter in letters]
        best = max(range(len(letters)), key=lambda i: float(logits[tokens[i]].max()))
        return Answer(letters[best], total_s=time.perf_counter() - began)


def _letter_ids(tokenizer: Any, letter: str) -> list[int]:
    """Tokens that are the letter, with and without a space before it."""
    forms = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (letter, f" {letter}")]
    found = sorted({form[0] for form in forms if len(form) == 1} - {tokenizer.unk_token_id})
    if not found:
        raise ModelError(
            f"the tokenizer has no token for the letter {letter!r}; score this task by its text."
        )
    return found


def _answer(reply: Reply) -> Answer:
    sound = None
    if reply.audio is not None and reply.sample_rate is not None:
        sound = Sound(reply.audio, reply.sample_rate)
    times = reply.timings
    return Answer(
        reply.text, reply.transcript, reply.understood, sound,
        times.get("ttft_s"), times.get("first_audio_s"), times.get("total_s"),
    )  # fmt: skip


def make_answerer(
    spec: str,
    max_new_tokens: int,
    seed: int,
    device: str | None,
    key_env: str | None,
    text_only: bool = False,
) -> Answerer:
    """An answerer by name: ``openai:URL[#MODEL]``, or a model's name, folder or hub id.

    With ``text_only`` it may be a language model that neither hears nor speaks.

    Raises:
        ConfigError, ModelError: There is no such model or the address is malformed.
    """
    if spec.startswith("openai:"):
        from vivavoce.evaluation.run.endpoint import Remote

        return Remote(spec, max_new_tokens, key_env)
    if not spec.strip():
        raise ConfigError("the model is named ''; wanted a name, folder, hub id or openai:URL.")
    from vivavoce.inference.assistant import load

    try:
        assistant = load(spec, device=device)
    except ModelError as error:
        if not text_only:
            raise
        assistant = load_text_model(spec, device, error)
    return Local(assistant, max_new_tokens, seed)


def load_text_model(name: str, device: str | None, refused: ModelError) -> Assistant:
    """A language model that neither hears nor speaks as an assistant: what a speech LM was before.

    Args:
        name: Folder or hub id.
        device: Where it runs.
        refused: Why it is no speech LM; raised again where it is no language model either.

    Raises:
        ModelError: It cannot be loaded.
    """
    try:
        language_model = AutoModelForCausalLM.from_pretrained(name, dtype="auto")
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, KeyError):
        raise refused from None
    config = SpeechLMConfig(text_config=language_model.config)
    model = SpeechLM(config, text_model=language_model).eval()
    if device:
        model.to(torch.device(device))  # type: ignore[arg-type]
    return Assistant(model, SpeechProcessor.for_config(tokenizer, config), Path(name).name)
