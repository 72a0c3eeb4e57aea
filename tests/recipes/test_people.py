"""Trials of people: the same at every run, labelled as they are spoken, noise as loud as it is said to be."""

from __future__ import annotations

import itertools
import shutil

import numpy as np
import people
import pytest

from vivavoce.audio.files import write_audio
from vivavoce.audio.synthesis import synthesize

RATE = 8000


@pytest.fixture(scope="module")
def person(tmp_path_factory):
    """Two recordings of each digit; digit d is a tone of its own."""
    folder = tmp_path_factory.mktemp("digits")
    for digit, number in itertools.product(range(10), range(2)):
        tone = 0.3 * np.sin(2 * np.pi * 100 * (digit + 2) * np.arange(2000 + 80 * number) / RATE)
        write_audio(folder / f"{digit}_george_{number}.wav", tone.astype(np.float32), RATE)
    return people.Person(folder, "george")


def test_strings_hold_the_digits_they_are_labelled_with(person):
    first, second = (list(person.strings(5)) for _ in range(2))
    for trial, again in zip(first, second, strict=True):
        wave, rate = trial.source
        assert rate == RATE and np.array_equal(wave, again.source[0])
        silent = np.abs(wave) < 1e-6
        edges = np.flatnonzero(np.diff(np.convolve(silent, np.ones(300), "same") > 290))
        pieces = [p for p in np.split(wave, edges) if np.abs(p).max() > 0.05]
        heard = [np.abs(np.fft.rfft(p)).argmax() * RATE / len(p) for p in pieces]
        said = [people.DIGITS[round(hz / 100) - 2] for hz in heard]
        assert " ".join(said) == trial.text == trial.answer


def test_all_digits_come_in_turn(person):
    texts = [trial.text for trial in person.digits()]
    assert texts == [*people.DIGITS, *people.DIGITS]
    assert len(list(person.noise())) == 10


@pytest.mark.skipif(not shutil.which("flite"), reason="flite speaks the trials")
def test_the_baseline_reads_by_the_form_of_each_trial():
    pytest.importorskip("pocketsphinx")
    trials = {
        "single digits": "nine", "strings of four": "one five nine two", "sums": "what is one plus five",
    }  # fmt: skip
    classical = people.Classical()
    for group, text in trials.items():
        trial = people.Trial(synthesize(text, "flite:slt"), text, text, group)
        wrong = people.Trial(trial.source, "two", "two", group)
        assert [f.value for f in classical.try_all([trial, trial, wrong], "slt")] == [pytest.approx(2 / 3)]
        assert classical.misses[group, "two", text] == 1


def test_noise_is_ten_decibels_below(person):
    wave = person.clips[3][0][0]
    mixed = people.noisy(wave, RATE, np.random.default_rng(0))
    noise = mixed - np.pad(wave, RATE // 10)
    assert 20 * np.log10(people.rms(wave) / people.rms(noise)) == pytest.approx(10, abs=0.01)
