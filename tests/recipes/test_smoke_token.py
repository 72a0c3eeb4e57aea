"""The smoke recipes of the token family: each learns its rows to the last token, along the stored curve of the loss,
and its folder answers as it was taught."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.data.build.stand_ins import needs
from tests.recipes.smoke_runs import drifts, run_recipe

import vivavoce
from vivavoce.audio.files import read_audio
from vivavoce.codecs.contract import Codes
from vivavoce.data.conversation import Conversation
from vivavoce.data.reader import DataSource
from vivavoce.data.recordings import read_bytes, source_of
from vivavoce.training.config import ModelSettings
from vivavoce.training.models import build_model
from vivavoce.training.world import World

ANSWERING = ["jan_llama3", "jan_llama3_fast", "snac_tts", "snac_asr", "interleave", "orpheus_finetune"]


def first_row(folder: Path) -> tuple[Conversation, DataSource]:
    source = DataSource(str(folder), "rows")
    return source[0], source


def heard(row: Conversation, source: DataSource) -> dict[str, Any]:
    """The recording of a row's question, as a part of a message."""
    part = next(row.audio_parts())
    wave, rate = read_audio(io.BytesIO(read_bytes(source_of(part, row), source.root)))
    return {"type": "audio", "audio": wave, "sampling_rate": rate}


def codes_of(reply: vivavoce.Reply, taught: np.ndarray) -> float:
    """How far a spoken answer is from what the codec makes of the taught codes; nan for another length."""
    if reply.audio is None or len(reply.audio) != len(taught):
        return float("nan")
    return float(np.abs(reply.audio - taught).max())


def taught_audio(row: Conversation, assistant: Any) -> np.ndarray:
    """What the codec makes of the codes of a row's last recording."""
    vocabulary = assistant.processor.vocabulary_out
    ids = list(row.audio_parts())[-1].tokens["ids"]
    codes: Codes = vocabulary.flattening.unflatten(ids, vocabulary.frame_samples)
    with torch.inference_mode():
        made: np.ndarray = assistant.processor.codec_out.decode(codes)[0, 0].numpy()
    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", ANSWERING)
def test_answers_are_right_to_the_last_token(name: str, tmp_path: Path) -> None:
    needs("espeak", "flite")
    found = run_recipe(name, tmp_path)
    assert found["exact"] == 1.0 and not drifts(name, tmp_path)
    if name == "jan_llama3":
        row, source = first_row(tmp_path / "data" / "rows")
        asked = [{"role": "user", "content": [heard(row, source)]}]
        assert vivavoce.load(tmp_path / "model").chat(asked).text == row.messages[-1].words
    if name == "snac_asr":
        row, source = first_row(tmp_path / "data" / "heard")
        assert vivavoce.load(tmp_path / "model").transcribe(heard(row, source)).text == row.messages[-1].words
    if name == "orpheus_finetune":
        row, _ = first_row(tmp_path / "data" / "clips")
        assistant = vivavoce.load(tmp_path / "model")
        assert codes_of(assistant.say(row.messages[-1].words), taught_audio(row, assistant)) < 1e-5
        again = ModelSettings(start=str(tmp_path / "model"), speakers=("anna",))
        model, processor = build_model(again, tmp_path / "again", 0, World.from_environment("cpu"))
        assert vivavoce.Assistant(model, processor).voices == ("anna", "flite:slt")


@pytest.mark.slow
def test_pretraining_knows_the_next_token(tmp_path: Path) -> None:
    """There is no question and no answer: more than 95 of 100 next tokens are right, of texts and of codes. The rest
    are first tokens, which nothing before them tells."""
    needs("flite")
    found = run_recipe("snac_pretrain", tmp_path)
    assert found["accuracy/text"] > 0.95 and found["accuracy/audio"] > 0.95
    assert "exact" not in found and not drifts("snac_pretrain", tmp_path)


def test_one_model_reads_hears_writes_and_speaks(tmp_path: Path) -> None:
    needs("espeak", "flite")
    found = run_recipe("snac_chat", tmp_path)
    assert found["exact"] == 1.0 and not drifts("snac_chat", tmp_path)
    assert len(list((tmp_path / "samples").glob("*/*.wav"))) == 4, "four of the eight answers are spoken"
    assistant = vivavoce.load(tmp_path / "model")
    asked, source = first_row(tmp_path / "data" / "speech_to_text")
    spoken, _ = first_row(tmp_path / "data" / "text_to_speech")
    written = asked.messages[-1].words
    question = spoken.messages[1].words
    assert assistant.chat(question).text == written
    assert assistant.chat([{"role": "user", "content": [heard(asked, source)]}]).text == written
    aloud = [{"role": "system", "content": "Speak."}, {"role": "user", "content": question}]
    reply = assistant.chat(aloud, audio=True)
    assert reply.text == written
    assert codes_of(reply, taught_audio(spoken, assistant)) < 1e-5
