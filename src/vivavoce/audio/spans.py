"""Cut many parts out of a long recording in one pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from vivavoce.audio.decoding import Source
from vivavoce.audio.files import audio_info, blocks, check_span
from vivavoce.base.errors import AudioError

BLOCK_S = 30.0


def read_spans(
    source: Source, spans: Sequence[tuple[float, float]], sample_rate: int | None = None
) -> Iterator[tuple[int, np.ndarray, int]]:
    """Read parts of a recording, each the same samples as that slice of the whole recording at ``sample_rate``.

    The recording is read once and by blocks, up to the last part's end; memory holds a block and the parts that are
    open at a time. Parts may overlap.

    Args:
        source: As for ``read_audio``.
        spans: (start, end) of each part, seconds; an end behind the recording's means its end.
        sample_rate: Wanted rate, Hz; None keeps the recording's.

    Yields:
        Number of the part, float32 [S] with S >= 1, and its rate in Hz; parts in the order in which they end.

    Raises:
        AudioError: The recording cannot be read, or ends before a part begins; or a part that ends before it begins.
    """
    for start_s, end_s in spans:
        check_span(start_s, end_s)
    if not spans:
        return
    rate = sample_rate or audio_info(source).sample_rate
    edges = [(round(a * rate), round(b * rate)) for a, b in spans]
    waiting = sorted(range(len(spans)), key=lambda i: edges[i], reverse=True)
    open_parts: dict[int, list[np.ndarray]] = {}
    for block in blocks(source, BLOCK_S, sample_rate=rate):
        begin = round(block.start_s * rate)
        end = begin + block.waveform.size
        while waiting and edges[waiting[-1]][0] < end:
            open_parts[waiting.pop()] = []
        for i, pieces in open_parts.items():
            pieces.append(block.waveform[max(0, edges[i][0] - begin) : max(0, edges[i][1] - begin)])
        for i in sorted((i for i in open_parts if edges[i][1] <= end), key=lambda i: edges[i][1]):
            yield i, _whole(open_parts.pop(i), spans[i]), rate
        if not waiting and not open_parts:
            return
    for i in sorted(open_parts):
        yield i, _whole(open_parts[i], spans[i]), rate
    if waiting:
        raise AudioError(f"the recording ends before {spans[waiting[-1]][0]:g} s, where a part begins.")


def _whole(pieces: list[np.ndarray], span: tuple[float, float]) -> np.ndarray:
    found = np.concatenate(pieces)
    if not found.size:
        raise AudioError(f"there are no samples from {span[0]:g} to {span[1]:g} s.")
    return found
