"""Sessions beside single answers: the same conversation both ways, and what must be equal."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from tests.inference import tiny
from tests.models.pairs import assistant as pair

from vivavoce.inference.assistant import Assistant
from vivavoce.inference.collect import collect
from vivavoce.inference.finish import Tally
from vivavoce.inference.reply import Reply
from vivavoce.inference.sampling import SamplingOptions
from vivavoce.inference.session import Session
from vivavoce.inference.turn import Turn

MAKERS: dict[str, Any] = {
    "tokens->text": tiny.tokens_to_text,
    "tokens->tokens": tiny.tokens_to_tokens,
    "embeddings->text": tiny.embeddings_to_text,
    "embeddings->tokens": tiny.embeddings_to_tokens,
    "transcript first": lambda: tiny.transcript_first(gate=None),
    "by blocks": lambda: pair("whisper by blocks + stack"),
    "by chunks": lambda: pair("whisper + stack, norm mid"),
    "by samples": lambda: pair("hubert + stack"),
    "by blocks, silence around": lambda: pair("whisper by blocks + stack", silence_s=0.11),
    "by samples, silence around": lambda: pair("hubert + stack", silence_s=0.11),
    "as its reference pads": lambda: pair("whisper + transformer", reference_padding=True),
    "sliding window": lambda: pair("whisper by blocks + stack", text=MISTRAL),
}
MISTRAL = {
    "model_type": "mistral",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "sliding_window": 24,
    "initializer_range": 0.3,
    "max_position_embeddings": 4096,
    "bos_token_id": None,
}
FREE = {"temperature": 1.0, "seed": 3, "max_new_tokens": 40}


@lru_cache(maxsize=16)
def made(name: str) -> Assistant:
    """An assistant of ``MAKERS``, made once."""
    assistant: Assistant = MAKERS[name]()
    return assistant


def noise(seconds: float, rate: int, seed: int = 0, level: float = 0.1) -> np.ndarray:
    """float32 [S]."""
    rng = np.random.default_rng(seed)
    return (level * rng.standard_normal(max(1, round(seconds * rate)))).astype(np.float32)


def feed(session: Session, wave: np.ndarray, rate: int, cuts: Sequence[float] = ()) -> None:
    """Feed a recording in pieces; cuts are shares of it."""
    bounds = sorted(int(cut * len(wave)) for cut in cuts)
    for begin, end in zip([0, *bounds], [*bounds, len(wave)], strict=True):
        session.feed_audio(wave[begin:end], rate)


def offline(assistant: Assistant, messages: Any, audio: bool, options: dict[str, Any]) -> tuple[Reply, Turn]:
    """A whole answer without a session, and the turn behind it."""
    turns: list[Turn] = []
    sampling = SamplingOptions.merge(assistant.model.config.sampling, options)

    def make_turn(prepared: Any, given: SamplingOptions, tally: Tally) -> Turn:
        turns.append(assistant._turn(prepared, given, tally))
        return turns[-1]

    deltas = assistant.answer([dict(m) for m in messages], audio, None, sampling, make_turn=make_turn)
    return collect(deltas, assistant.sample_rate if audio else None), turns[-1]


def answer_both_ways(session: Session, audio: bool = False, **options: Any) -> Reply:
    """Answer and check text, tokens of prompt and answer, logits and audio against one pass over the whole."""
    assistant = session.assistant
    reply = collect(session.respond(audio=audio), assistant.sample_rate if audio else None)
    wanted, turn = offline(assistant, session.messages[:-1], audio, options)
    assert (reply.text, reply.transcript, reply.words, reply.understood) == (
        wanted.text,
        wanted.transcript,
        wanted.words,
        wanted.understood,
    )
    kept = session._kept
    assert kept.decoding.ids == turn._decoding.ids
    read, logits = kept._logits
    prompt = assistant.processor.prepare(session_prompt(session))
    assert prompt["input_ids"] == read
    if not (reply.transcript and getattr(assistant.model.config.audio_in, "answer_from", "") == "transcript"):
        assert read == kept.decoding.ids[: len(read)]
    with torch.no_grad():
        whole = assistant.model(
            **{k: v for k, v in prompt.items() if k != "input_ids"},
            input_ids=torch.tensor([prompt["input_ids"]]),
        ).logits[0, -1]
    assert (logits - whole).abs().max() < 1e-4
    assert whole.std() > 0.05  # the bound is small beside what logits are
    if audio:
        assert reply.audio.shape == wanted.audio.shape
        assert np.abs(reply.audio - wanted.audio).max(initial=0) < 1e-5
    return reply


def session_prompt(session: Session) -> list[dict[str, Any]]:
    """The messages of the last question as the model reads them."""
    from vivavoce.inference.history import prepare_history

    assistant = session.assistant
    return prepare_history(session.messages[:-1], assistant.model.config, assistant.transcribe)
