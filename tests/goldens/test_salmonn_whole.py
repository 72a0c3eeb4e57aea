"""The whole of SALMONN against reference numbers: features, embeddings, rows, logits, loss, ids, decoded answers."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.goldens.discovery import golden_folders, label
from tests.goldens.salmonn_parts import Parts, facts_of, make_parts
from torch import Tensor

from vivavoce.audio.features import LogMel
from vivavoce.inference.assistant import Assistant
from vivavoce.models.encoders.references import feature_settings
from vivavoce.models.presets.preset import Imported
from vivavoce.models.presets.salmonn.checkpoint import read_checkpoint, their_name
from vivavoce.models.presets.salmonn.layout import make_row, packed_batch, reference_batch
from vivavoce.models.presets.salmonn.preset import SALMONN
from vivavoce.models.presets.salmonn.prompts import TURN, Prompts, instruction

TOLERANCE = 2e-5
PARTS = {"llama.safetensors", "whisper_encoder.safetensors", "beats.safetensors", "tokenizer.model"}
CHECKPOINTS = {"checkpoint_layout.pth", "ckpt_model_entry.safetensors"}
SECTIONS = {
    *("llama", "whisper", "whisper_feature_extractor", "beats", "bert", "prompts", "prompt_template"),
    *("end_sym", "max_txt_len", "lora", "vocab_with_pad", "pad_id", "checkpoint_keys", "trainable", "cases"),
}
FACTS = {
    *("tasks", "texts", "Q", "loss", "correct", "total", "speech_tokens", "seq_len", "attention_mask"),
    *("labels", "modern_transformers_check"),
}
OTHER_CASES = {"tokenised", "single_prompt_batch2"}
ANSWER_FACTS = {"prompt", "cfg", "output_ids", "decoded", "independent_greedy_matches"}
SHARED = "train_same_prompt"  # whose audio the cases without their own have
AUDIO = ("raw_wav", "sample_padding_mask", "spectrogram", "whisper_out", "beats_out", "speech_embeds")


class Case(NamedTuple):
    """One row of ``cases``, and the tensors that are stored for it, which may be none."""

    whole: Path
    name: str

    @property
    def facts(self) -> Any:
        return facts_of(self.whole)["cases"][self.name]

    @property
    def stored(self) -> dict[str, Tensor]:
        path = self.whole / f"{self.name}.safetensors"
        return tensors(path) if path.is_file() else {}

    @property
    def audio(self) -> dict[str, Tensor]:
        own = self.stored if "raw_wav" in self.stored else tensors(self.whole / f"{SHARED}.safetensors")
        return {name: own[name] for name in AUDIO}

    @property
    def lengths(self) -> Tensor:
        return (~self.audio["sample_padding_mask"]).sum(1)


@functools.cache
def tensors(path: Path) -> dict[str, Tensor]:
    return load_file(path)


WHOLES = [folder / "whole" for folder in golden_folders("salmonn") if (folder / "whole").is_dir()]
CASES = [Case(whole, name) for whole in WHOLES for name in facts_of(whole)["cases"]]
ROWS = [case for case in CASES if case.name.startswith("train_")]
ANSWERS = [case for case in CASES if case.name.startswith("generate_")]


def name_of(item: Any) -> str:
    whole = item.whole if isinstance(item, Case) else item
    return "-".join([label(whole.parent), *([item.name] if isinstance(item, Case) else [])])


every_whole = pytest.mark.parametrize("whole", WHOLES, ids=name_of)
every_row = pytest.mark.parametrize("case", ROWS, ids=name_of)
every_answer = pytest.mark.parametrize("case", ANSWERS, ids=name_of)


class Shelf:
    """Parts and models of each golden folder, read once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts: dict[Path, Parts] = {}
        self.read: dict[tuple[Path, str, bool], Imported] = {}

    def parts_of(self, whole: Path) -> Parts:
        if whole not in self.parts:
            self.parts[whole] = make_parts(whole, self.folder / str(len(self.parts)))
        return self.parts[whole]

    def model(self, whole: Path, file: str = "checkpoint_layout.pth", reference: bool = True) -> Imported:
        """A model with the published padding, or ours."""
        key = (whole, file, reference)
        if key not in self.read:
            parts = self.parts_of(whole)
            found = SALMONN.read(parts.checkpoint(file, parts.text_model.parent / file), parts.sources)
            found.model.audio_encoder.reference_padding = reference
            found.model.connector.reference_padding = reference
            self.read[key] = found
        return self.read[key]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return Shelf(tmp_path_factory.mktemp("salmonn"))


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=TOLERANCE)


def batch_of(case: Case, found: Imported) -> dict[str, Tensor]:
    """The rows of a case in the published layout."""
    facts, config = case.facts, facts_of(case.whole)
    prompts = Prompts({task: tuple(entries) for task, entries in config["prompts"].items()})
    questions = facts["Q"] or [""] * len(facts["tasks"])
    tokenizer = found.processor.tokenizer
    rows = [
        make_row(tokenizer, prompts.draw(task, 0, question), text, config["max_txt_len"])
        for task, question, text in zip(facts["tasks"], questions, facts["texts"], strict=True)
    ]
    return reference_batch(
        rows,
        bos_id=tokenizer.bos_token_id,
        pad_id=config["pad_id"],
        audio_id=found.processor.audio_token_id,
        audio_positions=facts["speech_tokens"],
    )


def test_there_is_something_to_check() -> None:
    assert WHOLES and ROWS and ANSWERS


def unknown(whole: Path) -> list[str]:
    """What in a golden folder no test here looks at."""
    facts = facts_of(whole)
    found = [f"section {name} of config.json" for name in facts.keys() - SECTIONS]
    rows = {name for name in facts["cases"] if name.startswith("train_")}
    answers = {name for name in facts["cases"] if name.startswith("generate_")}
    found += [f"case {name}" for name in facts["cases"].keys() - rows - answers - OTHER_CASES]
    for names, known in ((rows, FACTS), (answers, ANSWER_FACTS)):
        found += [f"fact {name}.{fact}" for name in names for fact in facts["cases"][name].keys() - known]
    files = {path.name for path in whole.iterdir()}
    known_files = {"config.json", *PARTS, *CHECKPOINTS, *(f"{name}.safetensors" for name in rows)}
    found += [f"file {name}" for name in files - known_files]
    fields = {*AUDIO, "inputs_embeds", "attention_mask", "labels", "logits", "loss"}
    for name in rows:
        found += [f"tensor {name}.{field}" for field in Case(whole, name).stored.keys() - fields]
    return sorted(found)


@every_whole
def test_every_file_case_and_field_is_known(whole: Path) -> None:
    assert not unknown(whole), f"{whole} has what no test knows: {', '.join(unknown(whole))}"


def test_what_no_test_knows_is_named(tmp_path: Path) -> None:
    facts = facts_of(WHOLES[0])
    facts["cases"] |= {"train_new": {"tasks": [], "speed": 2}, "stream": {}, "generate_new": {"top_p": 0.9}}
    (tmp_path / "config.json").write_text(json.dumps({**facts, "projector": {}}))
    save_file({"pitch": torch.zeros(1)}, tmp_path / "train_new.safetensors")
    (tmp_path / "notes.txt").touch()
    assert unknown(tmp_path) == [
        *("case stream", "fact generate_new.top_p", "fact train_new.speed", "file notes.txt"),
        *("section projector of config.json", "tensor train_new.pitch"),
    ]


@every_whole
def test_template_and_end_are_ours(whole: Path, shelf: Shelf) -> None:
    facts = facts_of(whole)
    assert facts["prompt_template"] == TURN
    assert shelf.model(whole).processor.tokenizer.eos_token == facts["end_sym"]


@every_whole
def test_tokenised(whole: Path, shelf: Shelf) -> None:
    tokenizer = shelf.model(whole).processor.tokenizer
    for text, wanted in facts_of(whole)["cases"]["tokenised"].items():
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == wanted, repr(text)


@every_whole
@pytest.mark.parametrize("file", sorted(CHECKPOINTS))
def test_checkpoint_keys(whole: Path, file: str, shelf: Shelf) -> None:
    """What is read, what is left out and what we call trained are what the reference says."""
    facts, checkpoint = facts_of(whole), read_checkpoint(whole / file)
    shapes = {name: list(tensor.shape) for name, tensor in checkpoint.tensors.items()}
    assert shapes.keys() == set(facts["trainable"])
    assert shapes.keys() | set(checkpoint.ignored) == facts["checkpoint_keys"].keys()
    assert all(facts["checkpoint_keys"][name] == shape for name, shape in shapes.items())
    model = shelf.model(whole).model
    ours = {theirs: n for n in model.state_dict() if (theirs := their_name(n)) is not None}
    assert ours.keys() == shapes.keys()
    assert all(torch.equal(model.state_dict()[n], checkpoint.tensors[t]) for t, n in ours.items())


@every_whole
def test_both_checkpoint_files_are_the_same_model(whole: Path, shelf: Shelf) -> None:
    one, other = (shelf.model(whole, file).model.state_dict() for file in sorted(CHECKPOINTS))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@every_whole
def test_adapters_are_apart_and_scaled(whole: Path, shelf: Shelf) -> None:
    wanted, model = facts_of(whole)["lora"], shelf.model(whole).model
    lora = model.config.lora["language_model"]
    assert (lora.rank, lora.alpha, lora.dropout) == (wanted["r"], wanted["alpha"], wanted["dropout"])
    assert sorted(lora.targets) == sorted(wanted["target_modules"])
    layers = [m for m in model.language_model.modules() if hasattr(m, "lora_A")]
    assert len(layers) == len(wanted["target_modules"]) * model.config.text_config.num_hidden_layers
    assert {layer.scaling["default"] for layer in layers} == {wanted["scaling"]}
    assert not any(layer.merged for layer in layers)


@every_row
def test_spectrogram(case: Case, shelf: Shelf) -> None:
    record = shelf.model(case.whole).model.config.audio_in.encoder["first"]
    features, _ = LogMel(**feature_settings(record))(case.audio["raw_wav"], case.lengths)
    close(features, case.audio["spectrogram"])


@every_row
def test_encoders(case: Case, shelf: Shelf) -> None:
    encoder, audio = shelf.model(case.whole).model.audio_encoder, case.audio
    with torch.no_grad():
        states, frames = encoder(audio["raw_wav"], case.lengths)
        speech, _ = encoder.first(
            audio["spectrogram"], torch.full_like(case.lengths, audio["spectrogram"].shape[-1])
        )
    first, second = states.split(list(encoder.streams), dim=-1)
    assert frames.unique(dim=0).tolist() == [[audio["whisper_out"].shape[1], audio["beats_out"].shape[1]]]
    close(first, audio["whisper_out"])
    close(speech, audio["whisper_out"])
    close(second[:, : audio["beats_out"].shape[1]], audio["beats_out"])


@every_row
def test_speech_embeds(case: Case, shelf: Shelf) -> None:
    with torch.no_grad():
        heard = shelf.model(case.whole).model.hear(case.audio["raw_wav"], case.lengths)
    assert heard.counts.tolist() == [case.facts["speech_tokens"]] * len(heard.counts)
    close(heard.embeddings, case.audio["speech_embeds"])


@every_row
def test_rows(case: Case, shelf: Shelf) -> None:
    batch = batch_of(case, shelf.model(case.whole))
    assert batch["input_ids"].shape[1] == case.facts["seq_len"]
    for name in ("attention_mask", "labels"):
        assert batch[name].tolist() == case.facts[name]
        assert name not in case.stored or torch.equal(batch[name], case.stored[name])


@every_row
def test_embeddings_logits_and_loss(case: Case, shelf: Shelf) -> None:
    found = shelf.model(case.whole)
    model, batch = found.model, batch_of(case, found)
    clips = {"input_features": case.audio["raw_wav"], "feature_lengths": case.lengths}
    with torch.no_grad():
        heard = model.hear(*clips.values())
        embeddings = model.embed(batch["input_ids"], heard)
        output = model(**batch, **clips, audio_batch_index=torch.arange(len(case.lengths)))
    assert float(output.loss) == pytest.approx(case.facts["loss"], abs=TOLERANCE)
    learned = batch["labels"][:, 1:] != -100
    right = (output.logits.argmax(-1)[:, :-1] == batch["labels"][:, 1:]) & learned
    assert (int(right.sum()), int(learned.sum())) == (case.facts["correct"], case.facts["total"])
    if case.stored:
        attended = case.stored["attention_mask"].bool()
        close(embeddings, case.stored["inputs_embeds"])
        close(output.logits[attended], case.stored["logits"][attended])
        close(output.loss, case.stored["loss"][0])


@every_row
def test_rows_without_gaps_give_what_they_give_alone(case: Case, shelf: Shelf) -> None:
    """Our own layout and padding: no pads within a row, and a batch changes nothing."""
    found = shelf.model(case.whole, reference=False)
    model, tokenizer = found.model, found.processor.tokenizer
    config, facts = facts_of(case.whole), case.facts
    prompts = {task: entries[0] for task, entries in config["prompts"].items()}
    questions = facts["Q"] or [""] * len(facts["tasks"])
    rows = [
        make_row(tokenizer, prompts[task].replace("{}", question), text, config["max_txt_len"])
        for task, question, text in zip(facts["tasks"], questions, facts["texts"], strict=True)
    ]
    ids = {
        "bos_id": tokenizer.bos_token_id,
        "pad_id": config["pad_id"],
        "audio_id": found.processor.audio_token_id,
    }
    batch = packed_batch(rows, **ids, audio_positions=[facts["speech_tokens"]] * len(rows))
    clips = {"input_features": case.audio["raw_wav"], "feature_lengths": case.lengths}
    with torch.no_grad():
        together = model(**batch, **clips, audio_batch_index=torch.arange(len(rows)))
        for i, row in enumerate(rows):
            alone = packed_batch([row], **ids, audio_positions=[facts["speech_tokens"]])
            length = int(case.lengths[i])
            wave = case.audio["raw_wav"][i : i + 1, :length]
            single = model(**alone, input_features=wave, feature_lengths=case.lengths[i : i + 1])
            assert (
                batch["input_ids"][i][batch["attention_mask"][i].bool()].tolist()
                == alone["input_ids"][0].tolist()
            )
            size = alone["input_ids"].shape[1]
            torch.testing.assert_close(together.logits[i, :size], single.logits[0], rtol=0, atol=1e-4)


@every_answer
def test_answers(case: Case, shelf: Shelf) -> None:
    """The published decoding by ``generate``, greedy and by four beams; the reference puts BOS first."""
    found = shelf.model(case.whole)
    model, tokenizer = found.model, found.processor.tokenizer
    facts, config = case.facts, facts_of(case.whole)
    clips = Case(case.whole, "train_single_prompt_b1" if len(facts["prompt"]) == 1 else SHARED)
    for i, (prompt, wanted) in enumerate(zip(facts["prompt"], facts["output_ids"], strict=True)):
        row = make_row(tokenizer, prompt, turn="{}")
        wave = clips.audio["raw_wav"][i : i + 1, : int(clips.lengths[i])]
        heard = model.hear(wave)
        inputs = packed_batch(
            [row],
            bos_id=tokenizer.bos_token_id,
            pad_id=config["pad_id"],
            audio_id=found.processor.audio_token_id,
            audio_positions=heard.counts.tolist(),
        )
        del inputs["labels"]
        ids = model.generate(**inputs, input_features=wave, **facts["cfg"])[0, inputs["input_ids"].shape[1] :]
        assert [tokenizer.bos_token_id, *ids.tolist()] == wanted


@every_answer
def test_answers_to_messages(case: Case, shelf: Shelf) -> None:
    """The same from a conversation: the processor's own ids, and the assistant's own greedy decoding."""
    found = shelf.model(case.whole, reference=False)
    facts, tokenizer = case.facts, found.processor.tokenizer
    clips = Case(case.whole, "train_single_prompt_b1" if len(facts["prompt"]) == 1 else SHARED)
    if len(facts["prompt"]) != 1:
        return  # unlike the reference, a clip here is not as long as the longest beside it
    wave = clips.audio["raw_wav"][0, : int(clips.lengths[0])].numpy()
    turn, _, _ = TURN.partition("{}")
    asked = instruction(facts["prompt"][0].removeprefix(turn).removesuffix("\nASSISTANT:"))
    message = {
        "role": "user",
        "content": [{"type": "audio", "array": wave, "sampling_rate": 16000}, _text(asked)],
    }
    inputs = found.processor.apply_chat_template([message], add_generation_prompt=True)
    row = make_row(tokenizer, facts["prompt"][0], turn="{}")
    positions = [found.processor.audio_token_id] * int(
        (inputs["input_ids"] == found.processor.audio_token_id).sum()
    )
    assert inputs["input_ids"][0].tolist() == [tokenizer.bos_token_id, *row.before, *positions, *row.after]
    ids = found.model.generate(**inputs, **facts["cfg"])[0, inputs["input_ids"].shape[1] :].tolist()
    assert [tokenizer.bos_token_id, *ids] == facts["output_ids"][0]
    [text] = tokenizer.batch_decode([facts["output_ids"][0]], skip_special_tokens=False)
    # fast tokenizers show a run of bytes that is not UTF-8 as all unknown, sentencepiece its bad bytes only
    other = {a for a, b in zip(text, facts["decoded"][0], strict=True) if a != b}
    assert other <= {"\N{REPLACEMENT CHARACTER}"}
    if facts["cfg"]["num_beams"] == 1:
        reply = Assistant(found.model, found.processor).chat(
            [message], max_new_tokens=facts["cfg"]["max_new_tokens"]
        )
        assert reply.text.strip() == tokenizer.decode(ids, skip_special_tokens=True).strip()


def _text(text: str | None) -> dict[str, str]:
    assert text is not None
    return {"type": "text", "text": text}
