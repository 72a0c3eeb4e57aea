"""The bundle's own training script: stopped and gone on = never stopped, and what stays as it is."""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.append(str(Path(__file__).parents[2] / "recipes" / "add_language"))
import checkpoint
import pytest
import torch
import train_lm
from german import GERMAN
from grow import language_tokenizer
from growing import grow_tokens
from make_speech import write_shards
from make_tokenizer import build
from network import Nano
from safetensors.torch import save_file
from tests.recipes.tones import tone


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("train_lm")
    row = {"split": "train", "voice": "flite:slt", "answer": "two", "kind": "talk", "seed": 1}
    rows = [{**row, "text": text} for text in ("what is one plus one", "six two", "tell me more")]
    rows += [
        {**row, "kind": "digit", "text": "six"},
        {**row, "split": "unknown", "kind": "unknown", "text": "x"},
    ]
    write_shards(rows, tone, root / "speech", 1)
    build().save_pretrained(root / "tokenizer")
    return root


def run(folder: Path, out: str, monkeypatch: pytest.MonkeyPatch, *more: str) -> dict[str, torch.Tensor]:
    """Train in this process; the weights."""
    given = "--stage all --batch 4 --text-batch 2 --plan-steps 2 --faint-ears".split()
    given += ["--speech", str(folder / "speech"), "--tokenizer", str(folder / "tokenizer")]
    given += ["--out", str(folder / out), *more]
    monkeypatch.setattr("sys.argv", ["train_lm.py", *given])
    threads, flash = torch.get_num_threads(), torch.backends.cuda.flash_sdp_enabled()
    try:
        train_lm.main()
    finally:
        torch.set_num_threads(threads)
        torch.backends.cuda.enable_flash_sdp(flash)
    return torch.load(folder / out / "state.pt", weights_only=True)["model"]


def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(folder, "whole", monkeypatch, "--steps", "2", "--second-batch", "4")
    run(folder, "parts", monkeypatch, "--steps", "1", "--second-batch", "4")
    parts = run(folder, "parts", monkeypatch, "--steps", "2", "--second-batch", "4")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)

    frozen = run(
        folder, "frozen", monkeypatch, "--steps", "1", "--init", str(folder / "whole"), "--freeze-ears"
    )
    same = {name for name in whole if torch.equal(whole[name], frozen[name])}
    assert {name for name in whole if name.startswith("audio_encoder.")} <= same
    assert not {"connector.ctc_scale", "language_model.model.norm.weight"} & same

    ears = run(folder, "ears", monkeypatch, "--steps", "1", "--init", str(folder / "whole"), "--ears-only")
    moved = {name for name in whole if not torch.equal(whole[name], ears[name])}
    assert moved and all(name.startswith("audio_encoder.") for name in moved)

    mind = run(folder, "mind", monkeypatch, "--steps", "1", "--init", str(folder / "whole"), "--freeze-mind")
    moved = {name.split(".")[0] for name in whole if not torch.equal(whole[name], mind[name])}
    assert moved == {"audio_encoder", "connector"}

    spoken = {**whole, "voice.anything": torch.ones(3)}
    (folder / "spoken").mkdir()
    checkpoint.save(folder / "spoken" / "state.pt", model=spoken)
    for steps in ("1", "2"):  # the second goes on from what the first saved
        more = ("--steps", steps, "--init", str(folder / "spoken"), "--freeze-mind")
        assert torch.equal(run(folder, "spoke", monkeypatch, *more)["voice.anything"], torch.ones(3))


def test_a_packaged_model_is_a_start_as_good_as_its_run(tmp_path: Path) -> None:
    model = Nano(30)
    checkpoint.save(tmp_path / "state.pt", model=model.state_dict())
    (tmp_path / "package").mkdir()
    stored = {
        name: w.half() for name, w in model.state_dict().items() if name != "language_model.lm_head.weight"
    }
    save_file(stored, tmp_path / "package" / "model.safetensors")
    of_run, of_package = checkpoint.weights(tmp_path), checkpoint.weights(tmp_path / "package")
    assert of_run.keys() == of_package.keys()
    for name, weight in of_package.items():
        assert weight.dtype == torch.float32
        torch.testing.assert_close(weight, of_run[name], rtol=1e-3, atol=1e-4)


def test_rows_count_alike_whichever_process_hears_them() -> None:
    weight = torch.nn.Parameter(torch.zeros(()))

    class Data:
        def batch(self, rng: random.Random, size: int, strength: float) -> list[SimpleNamespace]:
            return [SimpleNamespace(transcripts=[[1]] * part) for part in (size // 2, size - size // 2)]

    class Model:
        def hearing_loss(self, batch: SimpleNamespace) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            return weight * 1.0, weight * 0.0, weight * 0.0

    args = argparse.Namespace(ears_only=False, batch=6, second_batch=2, language_share=0.5)
    for size in (args.batch, args.second_batch):
        train_lm.hear(Model(), [Data()], random.Random(0), size, args, 1.0)
    assert float(weight.grad) == pytest.approx(1.0)
    for size in (args.batch, args.second_batch):  # half of the rows are of another language
        train_lm.hear(Model(), [Data(), Data()], random.Random(0), size, args, 1.0)
    assert float(weight.grad) == pytest.approx(2.0)


def test_another_language_takes_its_share_of_a_batch() -> None:
    assert train_lm.parted(10, 0.3, ["own", "other"]) == [("own", 7), ("other", 3)]
    assert train_lm.parted(10, 0.3, ["own"]) == [("own", 10)]
    assert train_lm.parted(2, 0.0, ["own", "other"]) == [("own", 2)]


def test_another_language_is_learned_and_its_words_alone_if_so_wished(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["was ist drei plus vier", "funf", "wer bist du", "danke"]
    row = {"split": "train", "voice": "de+m1", "answer": "", "kind": "sum", "seed": 1}
    rows = [{**row, "text": texts[i % len(texts)]} for i in range(14)]
    write_shards(rows, tone, folder / "german", 1)
    (folder / "german" / "lexicon_german.txt").write_text("was v aa s\n")
    tokenizer = language_tokenizer(build(), GERMAN)
    tokenizer.save_pretrained(folder / "bilingual")
    start = grow_tokens(Nano(len(build())).state_dict(), len(tokenizer))
    (folder / "grown").mkdir()
    checkpoint.save(folder / "grown" / "state.pt", model={**start, "voice.anything": torch.ones(3)})
    more = ["--tokenizer", str(folder / "bilingual"), "--language", "german", "--language-share", "0.5"]
    more += ["--language-speech", str(folder / "german"), "--init", str(folder / "grown"), "--steps", "1"]

    words = run(folder, "words", monkeypatch, *more, "--words-only")
    table = "language_model.model.embed_tokens.weight"
    assert all(
        torch.equal(words[name], start[name])
        for name in start
        if not name.endswith(("lm_head.weight", table))
    )
    moved = {i for i in range(len(tokenizer)) if not torch.equal(words[table][i], start[table][i])}
    learned = set(tokenizer.convert_ids_to_tokens(sorted(moved)))
    own = set(GERMAN.vocabulary()) - set(build().get_vocab())
    assert (
        learned == own and {"funf", "sieben"} <= own and torch.equal(words["voice.anything"], torch.ones(3))
    )

    ears = run(folder, "german ears", monkeypatch, *more, "--ears-only", "--batch", "8")
    bias = "audio_encoder.ctc_head.bias"
    funf = tokenizer.convert_tokens_to_ids("funf")
    assert (
        float(ears[bias][funf] - start[bias][funf]) > 0
    )  # what is never said gets rarer, what is said does not
    assert torch.equal(ears[table], start[table])
