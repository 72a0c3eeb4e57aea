"""Conversations as SALMONN was trained on them: the processor's ids, their masks, the tokenizer that is saved."""

# ruff: noqa: RUF001  (Chinese punctuation is meant)

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.goldens.salmonn_parts import STORED_WHOLE, Parts, make_parts

from vivavoce.base.errors import ConfigError, ModelError
from vivavoce.inference.assistant import Assistant
from vivavoce.models.presets.preset import Imported
from vivavoce.models.presets.salmonn.layout import make_row, packed_batch, reference_batch
from vivavoce.models.presets.salmonn.preset import SALMONN
from vivavoce.models.presets.salmonn.prompts import INSTRUCTIONS, published_prompt
from vivavoce.models.presets.salmonn.tokenizer import load_tokenizer
from vivavoce.models.processor import SpeechProcessor
from vivavoce.tokens.chat import render_chat

POSITIONS = 5  # embeddings of a clip of the tiny model, whatever its length
ANSWERS = ["the quick fox", "sad", "", "情绪序列：开心", " two spaces", "yes.\nno"]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return make_parts(STORED_WHOLE, tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def found(parts: Parts) -> Imported:
    folder = parts.checkpoint("checkpoint_layout.pth", parts.text_model.parent / "it")
    return SALMONN.read(folder, parts.sources)


def clip(samples: int = 20_000, seed: int = 0) -> dict[str, Any]:
    wave = np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)
    return {"type": "audio", "array": wave, "sampling_rate": 16_000}


def asked(*content: Any) -> dict[str, Any]:
    parts = [{"type": "text", "text": part} if isinstance(part, str) else part for part in content]
    return {"role": "user", "content": parts}


def said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def ids_of(found: Imported, messages: list[dict[str, Any]], prompt: bool = True) -> list[int]:
    ids: list[int] = found.processor.prepare(messages, add_generation_prompt=prompt)["input_ids"]
    return ids


def pieces(found: Imported, *texts: str) -> list[int]:
    """Ids of pieces that are tokenized one by one; "*" is a clip."""
    tokenizer, made = found.processor.tokenizer, [found.processor.tokenizer.bos_token_id]
    for text in texts:
        own = tokenizer(text, add_special_tokens=False)["input_ids"]
        made += [found.processor.audio_token_id] * POSITIONS if text == "*" else own
    return made


def test_one_turn(found: Imported) -> None:
    wanted = pieces(found, "USER: <Speech>", "*", "</Speech> write down the words\nASSISTANT:")
    assert ids_of(found, [asked(clip(), "write down the words")]) == wanted


def test_turns_and_answers(found: Imported) -> None:
    messages = [
        asked(clip(), "who ?"),
        said("a fox"),
        asked("and where ?"),
        said("there"),
        asked(clip(), "hm"),
    ]
    wanted = pieces(
        found,
        *("USER: <Speech>", "*", "</Speech> who ?\nASSISTANT:", "a fox</s>"),
        *("USER: and where ?\nASSISTANT: there</s>", "USER: <Speech>", "*", "</Speech> hm\nASSISTANT:"),
    )
    assert ids_of(found, messages) == wanted


def test_several_clips_in_one_turn(found: Imported) -> None:
    wanted = pieces(
        found,
        *("USER: <Speech>", "*", "</Speech> and<Speech>", "*", "</Speech><Speech>", "*"),
        "</Speech> compare\nASSISTANT:",
    )
    messages = [asked(clip(), "and", clip(seed=1), clip(seed=2), "compare")]
    assert ids_of(found, messages) == wanted


def test_a_system_message_goes_first(found: Imported) -> None:
    messages = [{"role": "system", "content": "Be kind."}, asked("hi")]
    assert ids_of(found, messages) == pieces(found, "Be kind. USER: hi\nASSISTANT:")


@pytest.mark.parametrize("answer", ANSWERS)
def test_rows_of_conversations_are_rows_of_training(found: Imported, answer: str) -> None:
    """Ids and labels of a rendered conversation are those of the published layout without its gaps."""
    tokenizer, audio = found.processor.tokenizer, found.processor.audio_token_id
    rendered = render_chat(
        tokenizer,
        [asked("<Speech>", clip(), "</Speech> who speaks ?"), said(answer)],
        [POSITIONS],
        placeholder_id=audio,
        apart=True,
    )
    row = make_row(tokenizer, published_prompt("who speaks ?"), answer)
    batch = packed_batch(
        [row], bos_id=tokenizer.bos_token_id, pad_id=0, audio_id=audio, audio_positions=[POSITIONS]
    )
    if answer:  # an empty one leaves the space before it alone
        assert rendered.input_ids == batch["input_ids"][0].tolist()
        assert rendered.labels() == batch["labels"][0].tolist()
    assert rendered.labels()[-1] == tokenizer.eos_token_id


def test_an_answer_that_is_too_long_loses_its_end(found: Imported) -> None:
    tokenizer = found.processor.tokenizer
    whole = make_row(tokenizer, published_prompt("who ?"), "someone laughs and then sighs").target
    assert whole[-1] == tokenizer.eos_token_id
    assert (
        make_row(tokenizer, published_prompt("who ?"), "someone laughs and then sighs", 4).target == whole[:4]
    )


def test_a_prompt_needs_one_clip(found: Imported) -> None:
    for prompt in ("who ?", published_prompt(published_prompt("who ?"))):
        with pytest.raises(ConfigError, match="wanted once"):
            make_row(found.processor.tokenizer, prompt)


def test_published_layout_pads_in_the_middle(found: Imported) -> None:
    tokenizer = found.processor.tokenizer
    rows = [
        make_row(tokenizer, published_prompt(q), a)
        for q, a in (("who ?", "a fox"), ("which one is it ?", "no"))
    ]
    batch = reference_batch(rows, bos_id=1, pad_id=440, audio_id=441, audio_positions=3)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    assert ids[0][mask[0].bool()].tolist() == [
        1,
        *rows[0].before,
        441,
        441,
        441,
        *rows[0].after,
        *rows[0].target,
    ]
    gap = (mask[0] == 0).nonzero().flatten()
    assert len(gap) == len(rows[1].after) - len(rows[0].after) > 0 and int(gap[-1]) + 1 < ids.shape[1]
    assert batch["labels"][0][batch["labels"][0] != -100].tolist() == rows[0].target


def test_a_batch_gives_what_each_gives_alone(found: Imported) -> None:
    conversations = [
        [asked(clip(9_000), "who ?")],
        [asked(clip(30_000, 1), "and", clip(17_000, 2), "what sings near the quiet river bank ?")],
        [asked("no clip")],
    ]
    batch = found.processor.apply_chat_template(conversations, add_generation_prompt=True)
    with torch.no_grad():
        together = found.model(**batch).logits
        for i, messages in enumerate(conversations):
            single = found.processor.apply_chat_template([messages], add_generation_prompt=True)
            logits = found.model(**single).logits[0]
            torch.testing.assert_close(together[i, -len(logits) :], logits, rtol=0, atol=1e-4)


def test_long_recordings_are_heard_in_pieces(found: Imported) -> None:
    """2 s is the context of the tiny model; 5 s are three pieces."""
    inputs = found.processor.apply_chat_template([asked(clip(80_000), "who ?")])
    assert inputs["feature_lengths"].tolist() == [32_000, 32_000, 16_000]
    assert int((inputs["input_ids"] == found.processor.audio_token_id).sum()) == 3 * POSITIONS
    assert torch.isfinite(found.model(**inputs).logits).all()


# tokenizer


def test_the_placeholder_is_past_the_vocabulary(found: Imported) -> None:
    tokenizer, config = found.processor.tokenizer, found.model.config
    assert config.audio_token_id == tokenizer.convert_tokens_to_ids("<SpeechHere>") >= config.vocab_size
    assert tokenizer.convert_tokens_to_ids(tokenizer.pad_token) < config.vocab_size
    with pytest.raises(ConfigError, match="<SpeechHere>"):
        found.processor.prepare([asked("here: <SpeechHere>")])


def test_saved_once_it_needs_no_sentencepiece(
    found: Imported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found.model.config.save_pretrained(tmp_path)
    found.processor.save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.json").is_file() and not (tmp_path / "tokenizer.model").exists()
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    again = SpeechProcessor.from_pretrained(tmp_path)
    messages = [asked(clip(), "who ?\n漢"), said("a fox"), asked("  ok")]
    assert again.prepare(messages)["input_ids"] == ids_of(found, messages)
    assert again.tokenizer.pad_token_id == found.processor.tokenizer.pad_token_id


def test_other_conversions_of_the_tokenizer_give_the_same_ids(parts: Parts, tmp_path: Path) -> None:
    """A folder with tokenizer.json, as later versions of transformers write it."""
    from transformers import LlamaTokenizer

    LlamaTokenizer.from_pretrained(parts.text_model).save_pretrained(tmp_path)
    one, other = load_tokenizer(str(parts.text_model), 441), load_tokenizer(str(tmp_path), 441)
    for text in ("</Speech> write down\nASSISTANT:", " a  b", "a</s>b", "漢"):
        assert (
            one(text, add_special_tokens=False)["input_ids"]
            == other(text, add_special_tokens=False)["input_ids"]
        )
    assert len(one) == len(other) and one.pad_token == other.pad_token
    whole = load_tokenizer(str(parts.text_model / "tokenizer.model"), 441)
    assert whole.get_vocab() == one.get_vocab()


@pytest.mark.parametrize(("rows", "pad", "placeholder"), [(440, "<unk>", 440), (441, "[PAD]", 441)])
def test_padding(parts: Parts, rows: int, pad: str, placeholder: int) -> None:
    """The row that the published code adds for padding is used where the language model has it."""
    tokenizer = load_tokenizer(str(parts.text_model), rows)
    assert tokenizer.pad_token == pad and tokenizer.pad_token_id < rows
    assert tokenizer.convert_tokens_to_ids("<SpeechHere>") == placeholder


def test_a_folder_without_tokenizer_is_refused(parts: Parts) -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.model or tokenizer\.json"):
        load_tokenizer(str(parts.encoder), 440)


# assistant


def test_transcribe_asks_after_the_clip(found: Imported, monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for: list[Any] = []
    prepare = found.processor.prepare
    monkeypatch.setattr(
        found.processor, "prepare", lambda m, *a, **k: (asked_for.append(m), prepare(m, *a, **k))[1]
    )
    part = clip()
    heard = Assistant(found.model, found.processor).transcribe((part["array"], 16_000), max_new_tokens=3)
    assert heard.seconds == pytest.approx(1.25)
    [message] = asked_for[0]
    assert [p["type"] for p in message["content"]] == ["audio", "text"]
    assert message["content"][1]["text"] == INSTRUCTIONS["asr"]


def test_the_assistant_answers_about_a_clip(found: Imported) -> None:
    assistant = Assistant(found.model, found.processor)
    messages = [asked(clip(), "who ?")]
    reply = assistant.chat(messages, max_new_tokens=8)
    inputs = found.processor.apply_chat_template(messages, add_generation_prompt=True)
    ids = found.model.generate(**inputs, num_beams=1, max_new_tokens=8)[0, inputs["input_ids"].shape[1] :]
    assert reply.text.strip() == found.processor.tokenizer.decode(ids, skip_special_tokens=True).strip()
    assert "".join(d.text for d in assistant.stream(messages, max_new_tokens=8)) == reply.text
