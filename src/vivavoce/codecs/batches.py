"""Many clips to codes, with batches of like lengths inside: each clip's codes are those it has alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vivavoce.codecs.contract import Codec, Codes

MAX_BATCH_S = 320.0  # padding included

ClipEncoder = Callable[[Sequence[Tensor]], list[Codes]]


def clip_encoder(codec: Codec) -> ClipEncoder:
    """The fastest way to encode lists of clips with a codec.

    Args:
        codec: On the device where it is to work, and to stay as it is.

    Returns:
        A function from clips (float32 [S] each, S >= 1, on the CPU) to their codes: batch 1, on the CPU, in order. Its
        result for a clip does not depend on the others.
    """
    from vivavoce.codecs.encodec import EncodecCodec

    if isinstance(codec, EncodecCodec):
        from vivavoce.codecs.encodec_batches import EncodecBatches

        return EncodecBatches(codec).encode
    return LengthBatches(codec).encode


class LengthBatches:
    """Sorts clips by length and gives a codec batches of neighbours.

    Args:
        codec: Any; that a batch gives what each clip gives alone is its promise.
        max_batch_s: Longest clip times clips in a batch, seconds.
    """

    def __init__(self, codec: Codec, max_batch_s: float = MAX_BATCH_S) -> None:
        self.codec, self.max_samples = codec, int(max_batch_s * codec.spec.sample_rate)

    def batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """Which clips go together, by their places."""
        made: list[list[int]] = []
        for place in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
            if not made or lengths[place] * (len(made[-1]) + 1) > self.max_samples:
                made.append([])
            made[-1].append(place)
        return made

    def encode(self, clips: Sequence[Tensor]) -> list[Codes]:
        """Encode clips as ``clip_encoder`` says."""
        device = next(self.codec.parameters()).device
        found: dict[int, Codes] = {}
        for places in self.batches([len(clip) for clip in clips]):
            lengths = [len(clips[i]) for i in places]
            batch = torch.nn.utils.rnn.pad_sequence([clips[i] for i in places], batch_first=True)
            codes = self.codec.encode(batch[:, None].to(device), lengths)
            for row, i in enumerate(places):
                item = codes.item(row, self.codec.spec)
                found[i] = Codes([level.cpu() for level in item.levels], item.num_samples)
        return [found[i] for i in range(len(clips))]
