"""Reading rows for training: in an order that is a formula, from any position, on any number of ranks.

``Reader(Stream([DataSource(...)]))`` gives rows with waveforms. `torch_rows` puts a reader behind torch's DataLoader.
"""

from vivavoce.data.reader.filters import Filters
from vivavoce.data.reader.mixing import Mixing
from vivavoce.data.reader.reading import Reader, Sample, Skipped
from vivavoce.data.reader.source import DataSource
from vivavoce.data.reader.splitting import InSplit, Split, SplitRule, split
from vivavoce.data.reader.stream import Place, Stream

__all__ = [
    "DataSource",
    "Filters",
    "InSplit",
    "Mixing",
    "Place",
    "Reader",
    "Sample",
    "Skipped",
    "Split",
    "SplitRule",
    "Stream",
    "split",
]
