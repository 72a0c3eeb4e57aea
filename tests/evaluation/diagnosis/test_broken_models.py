"""Models broken on purpose are called out, each for what was broken; the healthy one is not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vivavoce.audio.synthesis import has_synthesizer
from vivavoce.evaluation.diagnosis import diagnose
from vivavoce.evaluation.results import Finding
from vivavoce.evaluation.run import RunSettings, run_evaluation
from vivavoce.inference.assistant import Assistant, load

pytestmark = pytest.mark.skipif(not has_synthesizer("espeak"), reason="needs espeak-ng")


def found(assistant: Assistant, out: Path, limit: int = 10) -> dict[str, Finding]:
    """Findings about an assistant on the bundle's own questions, by name."""
    settings = RunSettings(limit=limit, aloud=False)
    tasks, systems = ["nano_questions", "nano_typed"], ["model", "swapped", "typed"]
    base = [] if assistant.name == "nano" else ["base"]
    run_evaluation(assistant, tasks, [*systems, *base], out, settings)
    return {finding.name: finding for finding in diagnose(out)}


def copy_of_nano(name: str = "copy") -> Assistant:
    assistant = load("nano")
    assistant.name = name
    return assistant


def test_healthy(tmp_path: Path) -> None:
    findings = found(copy_of_nano("nano"), tmp_path)
    assert {f.severity for f in findings.values()} == {"ok"}
    assert {"audio_ignored", "labels_shifted", "text_head_damaged", "refuses_everything"} <= set(findings)


@pytest.mark.parametrize("how", ["connector", "features"])
def test_audio_ignored(how: str, tmp_path: Path) -> None:
    assistant = copy_of_nano()
    if (
        how == "connector"
    ):  # the CTC head still hears, so some answers stay right; the language model hears nothing
        with torch.no_grad():
            for weight in assistant.model.connector.parameters():
                weight.zero_()
    else:
        encoder = assistant.model.audio_encoder
        encoder.register_forward_pre_hook(lambda _, given: (torch.zeros_like(given[0]), *given[1:]))
    findings = found(assistant, tmp_path)
    assert findings["audio_ignored"].severity == "broken"
    assert "ignored" in findings["audio_ignored"].words
    assert findings["labels_shifted"].severity == findings["text_head_damaged"].severity == "ok"


@pytest.mark.parametrize("how", ["head", "layers", "silenced"])
def test_text_head_damaged(how: str, tmp_path: Path) -> None:
    assistant = copy_of_nano()
    language_model, noise = assistant.model.language_model, torch.Generator().manual_seed(0)
    weights = [assistant.model.get_output_embeddings().weight]
    if how == "layers":
        weights = [
            w for layer in language_model.model.layers[1:5] for w in layer.parameters() if w.dim() == 2
        ]
    with torch.no_grad():
        for weight in weights:
            if how == "silenced":
                weight[30:300] = 0.0
            else:
                weight += torch.randn(weight.shape, generator=noise).to(weight) * weight.std() * 2
    findings = found(assistant, tmp_path)
    assert findings["text_head_damaged"].severity == "broken"
    assert "damaged" in findings["text_head_damaged"].words
    assert findings["labels_shifted"].severity != "broken"
