"""A model taught with labels one place off has its smallest loss at that lag; losses at lags are the ones by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.inference.tiny import assemble, word_tokenizer

from vivavoce.evaluation.diagnosis import diagnose
from vivavoce.evaluation.diagnosis.probes import lag_losses
from vivavoce.evaluation.results import Finding, Question
from vivavoce.evaluation.run import RunSettings, run_evaluation
from vivavoce.evaluation.tasks.task import Case, Task, ask_typed
from vivavoce.inference.assistant import Assistant

FACTS = {
    "what is one plus one": "two two three one",
    "what is one plus two": "three good night one",
    "what is two plus one": "no good sorry two",
    "what is two plus two": "yes i understand three",
    "what is three": "three plus one equals",
    "good night": "night sorry what two",
}


def facts() -> Task:
    def cases():  # type: ignore[no-untyped-def]
        for number, (question, answer) in enumerate(FACTS.items()):
            asked = Question(f"f{number}", (answer,), question, language="en")
            yield Case(asked, ask_typed(asked.id, question))

    return Task("facts", "read", cases, ({"name": "exact_match"},))


def taught(shift: int) -> Assistant:
    """A tiny model that learned the facts, with labels ``shift`` places off: 0 is right."""
    assistant = assemble(word_tokenizer(), None, text={"tie_word_embeddings": False})
    rows = []
    for question, answer in FACTS.items():
        prompt = assistant.processor.prepare([{"role": "user", "content": question}])["input_ids"]
        said = assistant.processor.tokenizer(answer, add_special_tokens=False)["input_ids"]
        rows.append((len(prompt), [*prompt, *said, *sorted(assistant.processor.stop_ids)[:1]]))
    assistant.model.train()
    optimizer = torch.optim.AdamW(assistant.model.parameters(), lr=3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        for begin, ids in rows:
            logits = assistant.model(input_ids=torch.tensor([ids])).logits[0]
            places = [p for p in range(begin - 1, len(ids) - 1) if 0 <= p + 1 + shift < len(ids)]
            targets = torch.tensor([ids[p + 1 + shift] for p in places])
            torch.nn.functional.cross_entropy(logits[places], targets).backward()
        optimizer.step()
    assistant.model.eval()
    return assistant


def shifted(assistant: Assistant, out: Path) -> Finding:
    run_evaluation(assistant, [facts()], ["typed"], out, RunSettings(max_new_tokens=8))
    return next(finding for finding in diagnose(out) if finding.name == "labels_shifted")


@pytest.mark.parametrize(("shift", "severity"), [(0, "ok"), (-1, "broken"), (1, "broken")])
def test_shifted_labels(shift: int, severity: str, tmp_path: Path) -> None:
    finding = shifted(taught(shift), tmp_path)
    assert finding.severity == severity
    losses = finding.numbers["loss_by_lag"]
    assert min(losses, key=lambda lag: losses[lag]) == str(shift)
    if severity == "broken":
        assert f"lag {shift}" in finding.words


def test_random_model_is_not_called_shifted(tmp_path: Path) -> None:
    assistant = assemble(word_tokenizer(), None)
    assert shifted(assistant, tmp_path).severity != "broken"


def test_losses_by_hand() -> None:
    assistant = assemble(word_tokenizer(), None)
    prompt = assistant.processor.prepare([{"role": "user", "content": "what is one"}])
    found = lag_losses(assistant, prompt, "two three")
    begin, end = len(prompt["input_ids"]), sorted(assistant.processor.stop_ids)[0]
    vocabulary = assistant.processor.tokenizer.get_vocab()
    ids = [*prompt["input_ids"], vocabulary["two"], vocabulary["three"], end]
    with torch.no_grad():
        scores = assistant.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    for lag in (-2, -1, 0, 1, 2):
        right = [-scores[p - 1, ids[p + lag]] for p in range(begin, len(ids)) if p + lag < len(ids)]
        assert found[str(lag)] == pytest.approx(float(torch.stack(right).mean()), rel=1e-4)
