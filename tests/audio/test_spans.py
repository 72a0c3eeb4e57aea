"""Parts of a long recording, cut in one pass, are slices of the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.audio import spans
from vivavoce.audio.files import flac_bytes, read_audio, write_audio
from vivavoce.audio.spans import read_spans
from vivavoce.base.errors import AudioError

SOUND = np.random.default_rng(0).uniform(-0.5, 0.5, 40_000).astype(np.float32)
RECORDING = flac_bytes(SOUND, 8000)  # 5 s
TIMES = st.tuples(st.floats(0.0, 4.9), st.floats(0.01, 4.0)).map(lambda t: (t[0], t[0] + t[1]))


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "BLOCK_S", 0.7)


@given(times=st.lists(TIMES, max_size=8), rate=st.sampled_from([None, 8000, 16_000]))
def test_parts_are_slices_of_the_whole(times: list[tuple[float, float]], rate: int | None) -> None:
    whole, own = read_audio(RECORDING, rate)
    found = {number: (waveform, told) for number, waveform, told in read_spans(RECORDING, times, rate)}
    assert sorted(found) == list(range(len(times)))
    for number, (start_s, end_s) in enumerate(times):
        waveform, told = found[number]
        assert told == own
        assert np.array_equal(waveform, whole[round(start_s * own) : round(end_s * own)])


def test_only_what_is_needed_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, read = write_audio(tmp_path / "a.wav", SOUND, 8000), []
    given_blocks = spans.blocks
    monkeypatch.setattr(spans, "blocks", lambda *a, **k: (read.append(b) or b for b in given_blocks(*a, **k)))
    assert [number for number, *_ in read_spans(path, [(1.0, 1.5), (0.2, 0.9)])] == [1, 0]
    assert len(read) == 3  # of 8 blocks of 0.7 s, up to 1.5 s


def test_parts_outside_are_refused() -> None:
    with pytest.raises(AudioError, match="ends before 6 s"):
        list(read_spans(RECORDING, [(1.0, 2.0), (6.0, 7.0)]))
    with pytest.raises(AudioError, match=r"start_s=2\.0, end_s=1\.0"):
        list(read_spans(RECORDING, [(2.0, 1.0)]))
    ((_, waveform, _),) = read_spans(RECORDING, [(4.5, 99.0)])
    assert waveform.size == 4000
