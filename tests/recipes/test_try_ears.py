"""The ears of a run by themselves: a clip among others is read as it is alone, as the encoder reads it."""

from __future__ import annotations

from pathlib import Path

import checkpoint
import numpy as np
import pytest
import torch
from make_tokenizer import build
from network import Nano
from trials import Trial
from try_ears import Ears, best_offsets

from vivavoce.audio.resample import resample


@pytest.fixture(scope="module")
def ears(tmp_path_factory: pytest.TempPathFactory) -> Ears:
    folder: Path = tmp_path_factory.mktemp("ears")
    build().save_pretrained(folder)
    torch.manual_seed(0)
    checkpoint.save(folder / "state.pt", model=Nano(len(build()), faint_ears=True).state_dict())
    return Ears(folder, folder)


@pytest.fixture(scope="module")
def trials() -> list[Trial]:
    rng = np.random.default_rng(0)
    return [
        Trial(((0.1 * rng.standard_normal(n)).astype(np.float32), rate), "x", "x", "noise")
        for n, rate in ((4000, 8000), (16_000, 16_000), (9000, 24_000))
    ]


def test_together_is_alone(ears: Ears, trials: list[Trial]) -> None:
    together = ears.read(trials)
    assert together == [ears.read([trial])[0] for trial in trials]
    assert together == ears.read(trials, together=2) and all(together)  # untrained ears read something


def test_scores_of_digits_are_those_of_their_paths(ears: Ears, trials: list[Trial]) -> None:
    """Together as alone; the best path of one digit is no more probable than all of its paths."""
    scores = ears.digit_scores(trials)
    assert torch.allclose(scores, torch.cat([ears.digit_scores([trial]) for trial in trials]), atol=1e-4)
    six = ears.tokenizer.convert_tokens_to_ids("six")
    clips = ears.reader.read([resample(*trials[0].source, 16_000)])
    with torch.inference_mode():
        logs = ears.encoder.ctc_logits(ears.encoder(clips.features, clips.lengths)[0])[0].log_softmax(-1)
    frames, blank = len(logs), logs[:, ears.encoder.config.blank_id]
    paths = [
        blank[:a].sum() + logs[a:b, six].sum() + blank[b:].sum()
        for a in range(frames) for b in range(a + 1, frames + 1)
    ]  # fmt: skip
    assert float(scores[0, 6]) == pytest.approx(float(torch.stack(paths).logsumexp(0)), abs=1e-3)


def test_offsets_mend_what_is_balance_and_not_what_is_order() -> None:
    digits = torch.arange(10).repeat(20)
    scores = 4.0 * torch.nn.functional.one_hot(digits, 10)
    scores[:, 8] += 6.0  # everything is read as eight
    assert float((scores.argmax(1) == digits).float().mean()) == pytest.approx(0.1)
    offsets = best_offsets(scores, digits)
    assert bool(((scores + offsets).argmax(1) == digits).all()) and int(offsets.argmin()) == 8
    wrong = scores.roll(1, 0)  # the scores of another recording
    assert float(((wrong + best_offsets(wrong, digits)).argmax(1) == digits).float().mean()) < 0.3


def test_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no state\.pt"):
        Ears(tmp_path, tmp_path)
