"""The smoke recipes of models that hear by embeddings: each learns its rows along the stored curve of the loss, its
folder answers as it was taught, and what was to stay frozen is equal to the bit."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.data.build.stand_ins import needs
from tests.recipes.smoke_runs import SMOKE, drifts, run_recipe

import vivavoce
from vivavoce.audio.files import read_audio
from vivavoce.data.conversation import Audio, Conversation
from vivavoce.data.reader import DataSource
from vivavoce.data.recordings import read_bytes, source_of
from vivavoce.training.recipe import load_recipe
from vivavoce.training.run import train

EARS = ["ultravox_v0_4", "ultravox_v0_5", "salmonn", "emotion_trajectory", "ears_and_voice"]


def asked(row: Conversation, source: DataSource) -> list[dict[str, Any]]:
    """A row up to its answer, as somebody would ask it."""
    chat: list[dict[str, Any]] = []
    for message in row.messages[:-1]:
        content: list[dict[str, Any]] = []
        for part in message.parts:
            if isinstance(part, Audio):
                wave, rate = read_audio(io.BytesIO(read_bytes(source_of(part, row), source.root)))
                content.append({"type": "audio", "audio": wave, "sampling_rate": rate})
            else:
                content.append({"type": "text", "text": part.text})
        chat.append({"role": message.role, "content": content})
    return chat


def language_model(folder: Path) -> dict[str, torch.Tensor]:
    """Weights of the language model of a run's model, by their plain names; adapters are left out."""
    stored = load_file(folder / "model.safetensors")
    return {
        name.removeprefix("language_model."): value
        for name, value in stored.items()
        if name.startswith("language_model.") and ".lora_" not in name
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", EARS)
def test_answers_are_right_and_the_folder_answers(name: str, tmp_path: Path) -> None:
    needs("espeak", "flite")
    found = run_recipe(name, tmp_path)
    assert found["exact"] > 0.95 and not drifts(name, tmp_path)
    if name.startswith("ultravox"):
        assert found["agreement"] > 0.95 and found["kl"] < 0.05
    source = DataSource(str(tmp_path / "data" / "rows"), "rows")
    row, assistant = source[0], vivavoce.load(tmp_path / "model")
    chat = asked(row, source)
    reply = assistant.chat(chat, audio=name == "ears_and_voice")
    assert reply.text == row.messages[-1].text
    if name == "salmonn":
        chat[-1]["content"][-1]["text"] = assistant.model.config.audio_in.prompts["QA"]
        assert assistant.chat(chat).text == reply.text
        goes_on(name, tmp_path)
    if name == "ears_and_voice":
        assert reply.audio is not None and len(reply.audio) > 0.3 * assistant.sample_rate
    before, after = load_file(tmp_path / "llm" / "model.safetensors"), language_model(tmp_path / "model")
    assert before.keys() <= after.keys()
    for key, value in before.items():
        assert torch.equal(value, after[key][: len(value)]), key


def goes_on(name: str, folder: Path) -> None:
    """A later stage starts from the folder of the one before, and has learned what that one had."""
    config = load_recipe(SMOKE / f"{name}.yaml")
    model = replace(config.model, start=str(folder / "model"), llm=None, hears=None)
    lora = {key: value for key, value in config.train.items() if key != "lora"}
    sets = (replace(config.data.sets[0], pipeline=None, path=str(folder / "data" / "rows")),)
    later = replace(
        config,
        steps=1,
        model=model,
        train=lora,
        data=replace(config.data, sets=sets),
        schedule={"type": "constant"},
    )
    first = train(config=later, folder=folder / "later")
    assert first["loss"] < 0.1


@pytest.mark.slow
def test_the_bundle_learns_answers_and_keeps_its_ears(tmp_path: Path) -> None:
    needs("flite")
    found = run_recipe("nano", tmp_path)
    assert found["exact"] > 0.95 and not drifts("nano", tmp_path)
    assistant, before = vivavoce.load(tmp_path / "model"), vivavoce.load("nano")
    assert assistant.chat([{"role": "user", "content": "how are you"}]).text == "happy"
    for part in ("audio_encoder", "voice"):
        old, new = getattr(before.model, part).state_dict(), getattr(assistant.model, part).state_dict()
        assert all(torch.equal(old[name], new[name]) for name in old)
    reply = assistant.chat(asked(*_first(tmp_path)), audio=True)
    assert (
        reply.transcript == "what is seven plus five" and reply.text == "one two" and reply.audio is not None
    )


def _first(folder: Path) -> tuple[Conversation, DataSource]:
    source = DataSource(str(folder / "data" / "rows"), "rows")
    return source[0], source
