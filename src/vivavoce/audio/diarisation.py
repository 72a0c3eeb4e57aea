"""Find who speaks when in a recording of any length: turns by speakers without names.

Two diarisers in one table, ``DIARISERS``. ``embedded`` needs no weights: it compares voices within the recording
itself. ``pyannote`` runs a pipeline of the package pyannote.audio, which downloads its networks; it is the better one
by far where voices are alike or overlap, and the only one that hears two voices at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from vivavoce.audio.decoding import Source
from vivavoce.audio.files import blocks
from vivavoce.audio.speaker_features import FRAME_S, MIDDLE_S, SAMPLE_RATE, SpeakerFrames, speaker_frames
from vivavoce.audio.speaker_turns import SpeakerTurn, best_pairs
from vivavoce.audio.threads import one_thread
from vivavoce.audio.voice_activity import Segment
from vivavoce.base.errors import ConfigError, MissingExtraError
from vivavoce.base.registry import Registry

DIARISERS = Registry(
    "diariser",
    {
        "embedded": "vivavoce.audio.diarisation:EmbeddedDiariser",
        "pyannote": "vivavoce.audio.diarisation:PyannoteDiariser",
    },
    group="vivavoce.diarisers",
)

BLOCK_S = 30.0
STRETCH_FRAMES = (
    150,
    100,
    125,
    200,
    250,
    300,
)  # lengths into which speech is cut first, to see what they agree on
LONG_FRAMES, LONG_STRETCHES = 60_000, 3  # recordings with more speech are tried with fewer lengths
FEWEST_FRAMES = 100
# What an estimated number of voices must reach: `speaker_clusters.distance`, and the agreement of the lengths. Two is
# what most recordings have, so less is asked for it.
TWO_APART, TWO_AGREE = 1.8, 0.6
MORE_APART, MORE_AGREE = 2.45, 0.9


@dataclass(frozen=True)
class SpeakerCount:
    """How many speakers there are.

    Attributes:
        exactly: Known number; None to estimate it.
        most: Most that an estimate gives.
    """

    exactly: int | None = None
    most: int = 8

    def __post_init__(self) -> None:
        if (self.exactly is not None and self.exactly < 1) or self.most < 1:
            raise ConfigError(f"speakers: exactly {self.exactly}, most {self.most}; wanted 1 or more.")


class Diariser(Protocol):
    """Finds turns.

    Attributes:
        hears_overlap: Whether two turns may overlap; if not, nothing can be said about overlap.
    """

    hears_overlap: ClassVar[bool]

    def diarise(self, source: Source, speech: Sequence[Segment], count: SpeakerCount) -> list[SpeakerTurn]:
        """Find turns, in order of time; speakers are numbered "1", "2", ... in the order of their first words.

        Args:
            source: Recording, as for `files.read_audio`.
            speech: Where somebody speaks.
            count: How many speakers there are.

        Raises:
            AudioError: It cannot be read.
        """


class EmbeddedDiariser:
    """Compare voices by cepstrum and pitch: no download, the same result everywhere, one voice at a time.

    Speech is cut into stretches of some length, which are merged from below by full Gaussians; the clusters become
    mixtures of Gaussians, and the likeliest path through them gives the turns. That is done for several lengths, and
    the result is the one with which the others agree most. Without a known number of speakers, the largest number is
    taken whose voices are far enough apart, and on which the lengths agree.

    Memory: 15 MB an hour of speech while frames are read and some 200 MB more an hour while they are compared; the
    waveform is read by blocks. Time: about 1/50 of the recording on one core.

    It tells voices by what they have in common within the recording, so it wants several seconds of each. Speakers with
    a few words, alike voices in short recordings, and music are beyond it. Figures are in benchmarks/diarisation.py.
    """

    hears_overlap: ClassVar[bool] = False

    def __init__(self, model: str | None = None) -> None:
        if model is not None:
            raise ConfigError(
                f"the diariser 'embedded' has no models to choose from, but {model!r} was named."
            )

    def diarise(self, source: Source, speech: Sequence[Segment], count: SpeakerCount) -> list[SpeakerTurn]:
        """As `Diariser.diarise`."""
        with one_thread():
            waveform = (block.waveform for block in blocks(source, BLOCK_S, sample_rate=SAMPLE_RATE))
            frames = speaker_frames(waveform, speech)
            return turns_of(frames.number, speaker_labels(frames, count))


def speaker_labels(frames: SpeakerFrames, count: SpeakerCount) -> np.ndarray:
    """Give each frame to a speaker, int64 [T] from 0; the same on every machine if torch runs on one thread."""
    import torch

    from vivavoce.audio.speaker_clusters import distance
    from vivavoce.audio.speaker_models import BLOCK_FRAMES, Evidence

    total = frames.number.size
    if total < FEWEST_FRAMES or count.exactly == 1:
        return np.zeros(total, dtype=np.int64)
    cepstra = _normal(torch.from_numpy(frames.cepstra).float())
    voiced, pitch = torch.from_numpy(frames.voiced), torch.from_numpy(frames.pitch).float()
    middle = pitch[voiced].median() if frames.voiced.any() else torch.zeros(())
    offset = torch.where(voiced, pitch - middle, torch.zeros(()))
    clustered = torch.cat([cepstra, _normal(offset[:, None])], dim=1)
    evidence = Evidence(cepstra, pitch, voiced, stretches(frames.number, BLOCK_FRAMES))
    search = _Search(frames.number, clustered, evidence, count.exactly or count.most)
    if count.exactly is not None:
        return search.best(count.exactly)[0]
    chosen, refused = np.zeros(total, dtype=np.int64), 0
    for number in range(2, count.most + 1):
        labels, agreement = search.best(number)
        apart = distance(clustered, labels) if labels.max() + 1 == number else -np.inf
        least = (TWO_APART, TWO_AGREE) if number == 2 else (MORE_APART, MORE_AGREE)
        if apart >= least[0] and agreement >= least[1]:
            chosen, refused = labels, 0
        else:
            refused += 1
        if refused == 2:
            break
    return chosen


class _Search:
    """Partitions into a number of voices, each from several first cuts."""

    def __init__(self, numbers: np.ndarray, clustered: Any, evidence: Any, most: int) -> None:
        from vivavoce.audio.speaker_clusters import merged, sums_of

        self._evidence = evidence
        self._starts = []
        for length in STRETCH_FRAMES[: LONG_STRETCHES if numbers.size > LONG_FRAMES else None]:
            edges = stretches(numbers, length)
            self._starts.append((edges, merged(sums_of(clustered, edges), most)))

    def best(self, number: int) -> tuple[np.ndarray, float]:
        """The partition into ``number`` voices, or fewer if there are no more, with which the others agree most.

        Returns:
            Label of each frame, int64 [T], and the share of frames on which two partitions agree, on average.
        """
        from vivavoce.audio.speaker_models import resegmented

        found = []
        for edges, partitions in self._starts:
            first = np.repeat(partitions[min(number, max(partitions))], np.diff(edges))
            found.append(resegmented(self._evidence, first))
        agreement = np.array([[agreeing(one, other) for other in found] for one in found])
        middle = int(agreement.sum(axis=1).argmax())
        return found[middle], float((agreement.sum() - len(found)) / (len(found) * (len(found) - 1)))


def agreeing(one: np.ndarray, other: np.ndarray) -> float:
    """Share of frames with the same speaker, whatever the speakers are called."""
    both = np.zeros((int(one.max()) + 1, int(other.max()) + 1))
    np.add.at(both, (one, other), 1.0)
    return float(sum(both[i, j] for i, j in best_pairs(both)) / one.size)


def stretches(numbers: np.ndarray, length: int) -> np.ndarray:
    """Cut runs of consecutive frames into equal parts of about ``length``; where they begin, and T, int64 [N + 1]."""
    runs = [0, *(np.flatnonzero(np.diff(numbers) > 1) + 1).tolist(), numbers.size]
    edges = [0]
    for begin, end in itertools.pairwise(runs):
        parts = max(1, round((end - begin) / length))
        edges += np.linspace(begin, end, parts + 1).round().astype(int)[1:].tolist()
    return np.array(edges, dtype=np.int64)


def turns_of(numbers: np.ndarray, labels: np.ndarray) -> list[SpeakerTurn]:
    """Consecutive frames of one speaker as turns; speakers numbered from "1" in the order of their first words."""
    if not numbers.size:
        return []
    begins = [0, *(np.flatnonzero((np.diff(numbers) > 1) | (np.diff(labels) != 0)) + 1).tolist()]
    names: dict[int, str] = {}
    turns = []
    for begin, end in zip(begins, [*begins[1:], numbers.size], strict=True):
        name = names.setdefault(int(labels[begin]), str(len(names) + 1))
        edge = MIDDLE_S - FRAME_S / 2
        turns.append(
            SpeakerTurn(
                float(numbers[begin] * FRAME_S + edge), float((numbers[end - 1] + 1) * FRAME_S + edge), name
            )
        )
    return turns


class PyannoteDiariser:
    """Run a pipeline of pyannote.audio (MIT code; its networks come from the hub, under terms to be accepted there).

    The recording's file is handed over, so that the package reads it as it likes; ``speech`` is not used, the pipeline
    has its own idea of it.

    Args:
        model: Hub id or folder.

    Raises:
        MissingExtraError: The package is not installed.
    """

    hears_overlap: ClassVar[bool] = True

    def __init__(self, model: str | None = None) -> None:
        try:
            from pyannote.audio import Pipeline
        except ImportError as error:
            raise MissingExtraError(
                "the diariser 'pyannote' needs its package; run: pip install pyannote.audio, or take 'embedded'."
            ) from error
        self._pipeline: Any = Pipeline.from_pretrained(model or "pyannote/speaker-diarization-community-1")
        if self._pipeline is None:
            raise ConfigError(
                f"pyannote.audio could not load {model!r}; accept its terms on the hub and log in there."
            )

    def diarise(self, source: Source, speech: Sequence[Segment], count: SpeakerCount) -> list[SpeakerTurn]:
        """As `Diariser.diarise`."""
        import io

        given = str(source) if isinstance(source, str | Path) else source
        if isinstance(given, bytes | bytearray | memoryview):
            given = io.BytesIO(given)
        limits = {"max_speakers": count.most} if count.exactly is None else {"num_speakers": count.exactly}
        made = self._pipeline(given, **limits)
        annotation = getattr(made, "speaker_diarization", made)
        found = sorted((s.start, s.end, str(name)) for s, _, name in annotation.itertracks(yield_label=True))
        names: dict[str, str] = {}
        return [SpeakerTurn(a, b, names.setdefault(name, str(len(names) + 1))) for a, b, name in found]


def _normal(columns: Any) -> Any:
    """Columns brought to mean 0 and variance 1."""
    return (columns - columns.mean(dim=0)) / columns.std(dim=0, unbiased=False).clamp(min=1e-6)
