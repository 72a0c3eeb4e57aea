"""Reading by two: the beam search finds the best, scores are those of one pass, the prompt's cache is untouched."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.inference import tiny

from vivavoce.inference.generate import Decoding
from vivavoce.inference.joint import Reading, beam_search, read_jointly, score
from vivavoce.tokens.phones import spoken_form

IDS = tiny.word_tokenizer().get_vocab()
ONE, TWO, THREE, PLUS, END = (IDS[w] for w in ("one", "two", "three", "plus", "<|assistant|>"))


@pytest.fixture(scope="module")
def prompt() -> tuple[Any, Decoding, torch.Tensor, Any]:
    """A tiny model that has heard half a second of noise, up to the opening of the transcript."""
    assistant = tiny.transcript_first(gate=None)
    inputs = assistant.processor.prepare([tiny.user(tiny.clip())])
    heard = assistant.model.hear(inputs["input_features"], inputs["feature_lengths"])
    decoding = Decoding(assistant.model)
    return assistant.model, decoding, decoding.feed(inputs["input_ids"], heard), heard


def _likelihood(decoding: Decoding, logits: torch.Tensor, ids: tuple[int, ...]) -> float:
    """Log probability of ``ids`` one token at a time."""
    total, other = 0.0, decoding.fork()
    for token in ids:
        total += float(F.log_softmax(logits.float(), -1)[token])
        logits = other.feed([token])
    return total


def test_a_wide_beam_finds_the_likeliest_sequence(prompt: Any) -> None:
    _, decoding, logits, _ = prompt
    words = [ONE, TWO, THREE, PLUS]
    forbidden = set(range(len(logits))) - {*words, END}
    found = beam_search(decoding, logits, END, forbidden, beams=40, longest=2)
    every = [(*p, END) for n in (1, 2) for p in itertools.product(words, repeat=n)]
    best = sorted(every, key=lambda ids: -_likelihood(decoding, logits, ids))
    assert found[:5] == [ids[:-1] for ids in best[:5]]


def test_scores_are_those_of_one_pass_and_the_cache_stays(prompt: Any) -> None:
    model, decoding, logits, heard = prompt
    length, ids = decoding.sequence.length, (ONE, TWO)
    reading = score(decoding, logits, heard, 0, [ids], end_id=END)[0]
    assert reading.text * 3 == pytest.approx(_likelihood(decoding, logits, (*ids, END)), abs=1e-4)
    probabilities = model.audio_encoder.ctc_logits(heard.states[0, : int(heard.frames[0])]).softmax(-1)
    blank, every = model.audio_encoder.config.blank_id, 0.0
    frames = len(probabilities)
    assert frames <= 13
    for i, j in itertools.combinations(range(frames + 1), 2):  # first token holds [i, k), second [l, m)
        for k in range(i + 1, j + 1):
            for m in range(j + 1, frames + 1):
                path = (
                    [blank] * i
                    + [ONE] * (k - i)
                    + [blank] * (j - k)
                    + [TWO] * (m - j)
                    + [blank] * (frames - m)
                )
                every += float(torch.stack([probabilities[t, s] for t, s in enumerate(path)]).prod())
    assert reading.ctc * 2 == pytest.approx(torch.tensor(every).log().item(), abs=1e-3)
    beam_search(decoding, logits, END, (), beams=3, longest=3)
    assert decoding.sequence.length == length


def test_the_better_sum_wins_and_impossible_readings_are_left_out(prompt: Any) -> None:
    _, decoding, logits, heard = prompt
    forbidden = set(range(len(logits))) - {END, ONE, TWO, THREE, PLUS}
    winner = read_jointly(decoding, logits, heard, 0, END, forbidden, beams=4, longest=3)
    assert winner is not None and winner.floor <= 0 and not set(winner.ids) & forbidden
    for ids in beam_search(decoding, logits, END, forbidden, beams=4, longest=3):
        assert score(decoding, logits, heard, 0, [ids], END)[0].total <= winner.total + 1e-5
    assert Reading((1, 2), ctc=-0.5, text=-2.0).floor == -2.0


@pytest.mark.parametrize(("floor", "understood"), [(-1000.0, True), (0.0, False)])
def test_the_gate_decides_by_the_floor(floor: float, understood: bool) -> None:
    assistant = tiny.transcript_first(gate="joint", gate_floor=floor)
    heard = assistant.transcribe(tiny.clip())
    assert heard.understood is understood
    reply = assistant.chat([tiny.user(tiny.clip())])
    assert reply.understood is understood and reply.transcript == heard.text


@pytest.mark.parametrize("own", [True, False])
def test_another_language_has_a_floor_of_its_own(own: bool, tmp_path: Path) -> None:
    """A transcript is of the language if the voice's lexicon has all of its words."""
    assistant = tiny.transcript_first(gate="joint", gate_floor=0.0, gate_floors={"other": -1000.0})
    heard = assistant.transcribe(tiny.clip())
    assert not heard.understood  # no lexicon, no other language
    words = sorted(set(spoken_form(heard.text)))
    known = words if own else words[1:]
    (tmp_path / "lexicon_other.txt").write_text("".join(f"{word} ah\n" for word in known))
    assistant.processor.folder = str(tmp_path)
    del assistant.processor.lexicons
    assert assistant.transcribe(tiny.clip()).understood is own
