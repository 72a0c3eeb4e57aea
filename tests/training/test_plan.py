"""What a run would do: memory against what it really takes, and runs that are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.training.row_cases import row

from vivavoce.base.errors import ConfigError
from vivavoce.base.records import read_record
from vivavoce.data.manifest import write_set
from vivavoce.data.recordings import hoist
from vivavoce.training import memory as memory_module
from vivavoce.training import plan as plan_module
from vivavoce.training import run as run_module
from vivavoce.training.config import TrainConfig
from vivavoce.training.documents import Document
from vivavoce.training.loop import build_objective
from vivavoce.training.memory import GIB, Memory, available_memory, check_memory, estimate, state_bytes
from vivavoce.training.models import build_model
from vivavoce.training.optimizers import build_optimizer
from vivavoce.training.packed_attention import use_packed_attention
from vivavoce.training.packing import make_batch
from vivavoce.training.parallel import spread
from vivavoce.training.plan import make_plan
from vivavoce.training.recompute import Recompute
from vivavoce.training.shapes import shape_of
from vivavoce.training.trainable import Trainable, choose
from vivavoce.training.world import World

WORLD = World()
WHISPER = {
    "d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 64, "num_mel_bins": 80,
    "max_source_positions": 1500,
}  # fmt: skip
EARS = {"encoder": {"type": "whisper", "model": WHISPER}, "connector": {"type": "stack", "hidden_size": 32}}
CODES = {"codec": "nano", "layout": "interleaved"}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twelve typed rows."""
    folder = tmp_path_factory.mktemp("plan") / "texts"
    rows = [row(f"what is {i}", answer="it is " + "so " * (i % 5)) for i in range(12)]
    return str(_written(folder, rows))


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Four rows that are heard."""
    folder = tmp_path_factory.mktemp("plan") / "heard"
    return str(_written(folder, [row() for _ in range(4)]))


def _written(folder: Path, rows: list[Any]) -> Path:
    for number, one in enumerate(rows):
        one.id = f"r{number}"
        hoist(one, None)
    write_set(folder, rows)
    return folder


def recipe(path: str, **changes: Any) -> TrainConfig:
    record: dict[str, Any] = {
        "steps": 6,
        "model": {"llm": {"hidden_size": 48, "num_layers": 2}, "hears": CODES},
        "data": {"sets": [{"path": path}]},
        "batch": {"rows": 4, "max_tokens": 512},
    }
    return read_record(TrainConfig, {**record, **changes}, "recipe")


def built(config: TrainConfig, folder: Path) -> Any:
    """The model as a run has it."""
    model, _ = build_model(config.model, folder, 0, WORLD)
    choose(model, read_record(Trainable, config.train, "train"))
    use_packed_attention(model.language_model)
    how: Recompute = config.parallel.activation_checkpointing
    spread(model, WORLD, "auto", activation_checkpointing=how)
    return model


WAYS = {
    "full": {"train": {"language_model": "full"}},
    "adapters": {
        "train": {
            "language_model": "lora",
            "lora": {"language_model": {"rank": 4, "targets": ["q_proj", "v_proj"]}},
        }
    },
    "new rows": {"train": {"language_model": "new_rows"}},
    "ears": {
        "model": {"llm": {"hidden_size": 48, "num_layers": 2}, "hears": EARS},
        "train": {"language_model": "frozen", "audio_encoder": "full"},
    },
}


@pytest.mark.parametrize("optimizer", ["adamw", "adam_mini"])
@pytest.mark.parametrize("way", WAYS)
def test_what_is_counted_before_loading_is_what_is_there(
    way: str, optimizer: str, tmp_path: Path, texts: str
) -> None:
    """Weights, gradients and the optimizer's state, to the byte."""
    config = recipe(texts, optimizer={"type": optimizer}, **WAYS[way])
    found = estimate(shape_of(config), config, WORLD)
    model = built(config, tmp_path)
    parameters = list(model.parameters())
    held = sum(t.numel() * t.element_size() for t in [*parameters, *model.buffers()])
    assert found.weights == held
    trained = [p for p in parameters if p.requires_grad]
    for p in trained:
        p.grad = torch.ones_like(p)
    made = build_optimizer(optimizer, model, lr=1e-3)
    made.step()
    assert found.gradients == sum(
        p.grad.numel() * p.grad.element_size() for p in trained if p.grad is not None
    )
    assert found.optimizer == state_bytes(made)
    values = sum(p.numel() for p in trained)
    each = found.optimizer / values
    # in full: 8 bytes of AdamW; of Adam-mini 4, a value per row of 48 and the steps
    assert way != "full" or (8 <= each < 8.01 if optimizer == "adamw" else 4 < each < 4.12)


@pytest.mark.parametrize("how", ["none", "selective", "full"])
@pytest.mark.parametrize("train", ["full", "frozen"])
def test_activations_are_near_what_is_kept(how: str, train: str, tmp_path: Path, texts: str) -> None:
    """Within 3 % of what the backward pass keeps, or 20 % where layers are computed again."""
    more = {"llm": {"hidden_size": 96, "num_layers": 4}, "hears": EARS}
    config = recipe(
        texts,
        model=more,
        train={"language_model": train},
        parallel={"activation_checkpointing": how},
        batch={"rows": 4, "max_tokens": 2000},
    )
    parts = memory_module.Parts(shape_of(config), config, WORLD)
    wanted = parts.activations(2000)
    model = built(config, tmp_path)
    model.train()
    documents = [_document(size) for size in (700, 800, 500)]
    batch = make_batch(documents)
    kept, own = 0, {p.untyped_storage().data_ptr() for p in model.parameters()}
    seen: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        at = tensor.untyped_storage().data_ptr()
        if at not in own and at not in seen:
            seen[at] = tensor  # held, so that no other takes its place
            kept += tensor.untyped_storage().nbytes()
        return tensor

    inputs = batch.inputs()
    inputs["inputs_embeds"] = model.get_input_embeddings()(inputs.pop("input_ids")).detach().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.language_model.model(**inputs)
    again = parts._layer(2000) if how != "none" else 0.0  # of the layer that is computed again
    gradient = 2000 * 96 * 4  # that goes back through the layers
    least, most = (0.97, 1.03) if how == "none" else (0.9, 1.2)
    assert least < (wanted - again - gradient) / kept < most, (wanted, again, kept)


def _document(size: int) -> Document:
    weights = np.ones(size, dtype=np.float32)
    return Document(f"d{size}", "s", np.arange(size) % 200, weights, np.zeros(size, dtype=np.int8))


def test_memory_is_refused_before_anything_is_loaded(
    tmp_path: Path, texts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any) -> Any:
        raise AssertionError("loaded")

    config = recipe(texts)
    needed = check_memory(config, WORLD)
    assert needed is not None and needed.fits
    monkeypatch.setattr(run_module, "build_model", load)
    monkeypatch.setattr(memory_module, "available_memory", lambda world: needed.total - 1)
    for start in (make_plan, run_module.prepare):
        with pytest.raises(
            ConfigError, match=r"needs about .* MiB of memory .*activations.* left\. Try .*max_tokens"
        ):
            start(config, tmp_path / "out", WORLD)
    monkeypatch.setattr(memory_module, "available_memory", lambda world: needed.total)
    with pytest.raises(AssertionError, match="loaded"):
        run_module.prepare(config, tmp_path / "out", WORLD)


def test_recomputing_and_smaller_states_are_advised_where_they_help(texts: str) -> None:
    config = recipe(texts, model={"llm": {"hidden_size": 1024, "num_layers": 2}}, optimizer={"type": "adamw"})
    asked: list[str] = []
    for found in (Memory(100, 100, 200, 10, 10, 50), Memory(10, 10, 20, 900, 10, 50)):
        asked.append(memory_module._refusal(found, config, WORLD))
    assert "optimizer.type=adam_mini" in asked[0] and "checkpointing" not in asked[0]
    assert "activation_checkpointing=full" in asked[1] and "adam_mini" not in asked[1]


def test_an_8b_model_is_counted_without_its_weights(texts: str) -> None:
    """Against the table of bytes per parameter: 16 for AdamW in float32, 12 for Adam-mini."""
    from transformers import AutoModelForCausalLM

    from vivavoce.models.config import SpeechLMConfig
    from vivavoce.models.presets.jan_llama3 import JAN_LLAMA3
    from vivavoce.models.speech_lm import SpeechLM

    with torch.device("meta"):
        text = AutoModelForCausalLM.from_config(JAN_LLAMA3.text_config())
        model = SpeechLM(SpeechLMConfig(text_config=text.config), text_model=text)
    model.requires_grad_(True)
    values = sum(p.numel() for p in model.parameters())
    assert values == 8_038_666_240
    for name, wanted in (("adamw", 16.0), ("adam_mini", 12.0)):
        config = recipe(texts, optimizer={"type": name}, parallel={"activation_checkpointing": "full"})
        found = estimate(model, config, WORLD)
        each = (found.weights + found.gradients + found.optimizer) / values
        assert abs(each - wanted) < 0.01
    spread_over = replace(WORLD, size=4, local_size=4)
    quarter = estimate(model, config, spread_over)
    assert (
        quarter.optimizer == pytest.approx(found.optimizer / 4, rel=1e-6)
        and quarter.gradients * 4 == found.gradients
    )
    assert found.total > 80 * GIB


def test_memory_of_this_machine_is_read() -> None:
    found = available_memory(WORLD)
    assert found is not None and GIB / 8 < found < 2**50
    half = available_memory(replace(WORLD, local_size=2))
    assert half is not None and half < 0.75 * found


def test_a_plan_tells_what_the_run_does_and_leaves_no_trace(tmp_path: Path, heard: str) -> None:
    config = recipe(heard)
    plan = make_plan(config, tmp_path, WORLD)
    assert plan.ok and plan.steps == 6 and plan.passes == 6.0 and plan.rows == {"heard": 4}
    run = run_module.prepare(config, tmp_path, WORLD)
    documents = next(iter(run.loader)).documents
    assert plan.sizes.documents % 4 == 0 and plan.sizes.micro_batches >= 1
    assert plan.sizes.tokens == sum(map(len, documents))
    assert plan.sizes.learned == sum(int((d.weights > 0).sum()) for d in documents)
    assert plan.sizes.audio_s == pytest.approx(4 * 1.3, abs=0.1)
    assert plan.pass_s > 0 and plan.seconds == pytest.approx(
        plan.pass_s * 6 * plan.sizes.micro_batches, rel=0.7
    )
    assert 4 < plan.loss < 12
    assert [preview.row.id for preview in plan.previews] == ["r0", "r1"]
    assert not (tmp_path / "metrics.jsonl").exists() and not (tmp_path / "checkpoints").exists()
    batches = plan_module._batches(run, documents)
    loss, _ = build_objective(config, run.processor)(run.model, batches[0], _totals(config, run, batches))
    assert plan.parts == run.trained.parts and torch.isfinite(loss)


def _totals(config: TrainConfig, run: Any, batches: Any) -> Any:
    return build_objective(config, run.processor).totals(batches)


def test_nothing_to_train_is_refused(tmp_path: Path, texts: str) -> None:
    with pytest.raises(ConfigError, match="nothing is left to train"):
        make_plan(recipe(texts, train={"language_model": "frozen"}), tmp_path, WORLD)


def test_adapters_that_stay_as_they_are_are_an_error(tmp_path: Path, texts: str) -> None:
    plan = make_plan(
        recipe(
            texts,
            train={
                "language_model": "lora", "embeddings": "new_rows", "freeze": ["*.lora_*"],
                "lora": {"language_model": {"rank": 4, "targets": ["q_proj"]}},
            },
        ),
        tmp_path,
        WORLD,
    )  # fmt: skip
    assert not plan.ok and "adapters" in plan.errors[0]


def test_a_part_that_no_loss_reaches_is_told(tmp_path: Path, texts: str) -> None:
    """The connector is trained and no row is heard; and if rows were heard, that is an error."""
    config = recipe(
        texts, model={"llm": {"hidden_size": 48}, "hears": EARS}, train={"language_model": "full"}
    )
    plan = make_plan(config, tmp_path, WORLD)
    assert plan.ok and any("of connector" in sentence for sentence in plan.warnings)


def test_a_loss_on_the_wrong_span_is_an_error(
    tmp_path: Path, texts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the loop learns is compared with what the row says, position by position."""
    right = plan_module.make_document

    def shifted(*given: Any) -> Document:
        document = right(*given)
        return replace(document, weights=np.roll(document.weights, -3))

    monkeypatch.setattr(plan_module, "make_document", shifted)
    plan = make_plan(recipe(texts), tmp_path, WORLD)
    assert not plan.ok and {f.kind for f in plan.findings} == {"wrong_mask"}
    assert len(plan.findings) == 2 * 12 and plan.findings[0].row == "r0"


def test_a_student_that_reads_what_its_teacher_reads_is_an_error(
    tmp_path: Path, texts: str, heard: str
) -> None:
    changes: dict[str, Any] = {
        "model": {"llm": {"hidden_size": 48}, "hears": EARS},
        "train": {"language_model": "frozen"},
        "objective": {"type": "distill"},
    }
    plan = make_plan(recipe(texts, **changes), tmp_path / "texts", WORLD)
    assert not plan.ok and {f.kind for f in plan.findings} == {"teacher_equals_student"}
    assert "reaches nothing that is trained" in plan.errors[0]
    good = make_plan(recipe(heard, **changes), tmp_path / "heard", WORLD)
    assert good.ok and not good.findings and good.parts["connector"][0] > 0


@pytest.mark.parametrize(
    ("schedule", "words"),
    [({"type": "cosine", "warmup_steps": 50}, "rises for 50 updates and the run has 6")],
)
def test_a_schedule_longer_than_the_run_is_an_error(
    tmp_path: Path, texts: str, schedule: dict[str, Any], words: str
) -> None:
    plan = make_plan(recipe(texts, schedule=schedule), tmp_path, WORLD)
    assert not plan.ok and words in plan.errors[0]
