"""Decide what was heard by two readers at once: the language model and the encoder's CTC head.

The language model proposes transcripts by a small beam search, the CTC head adds its own greedy reading, and each
proposal is scored by both. The best sum wins; how well it does with the worse of the two says whether to trust it.

Letters: B beams, V vocabulary, F encoder frames.

Source: joint CTC/attention decoding (Watanabe et al. 2017), by rescoring a short list instead of in the search.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vivavoce.inference.batching.rows import CachedSequence, Row
from vivavoce.inference.generate import Decoding
from vivavoce.models.hearing import HeardAudio


@dataclass(frozen=True)
class Reading:
    """A proposed transcript.

    Attributes:
        ids: Its tokens.
        ctc: CTC log probability per token.
        text: The language model's log probability per token, the end included.
    """

    ids: tuple[int, ...]
    ctc: float
    text: float

    @property
    def total(self) -> float:
        return self.ctc * len(self.ids) + self.text * (len(self.ids) + 1)

    @property
    def floor(self) -> float:
        """The less convinced reader's log probability per token."""
        return min(self.ctc, self.text)


@torch.inference_mode()
def beam_search(
    decoding: Decoding, logits: Tensor, end_id: int, forbidden: Collection[int], beams: int, longest: int
) -> list[tuple[int, ...]]:
    """The likeliest token sequences up to ``end_id``, best first, at most ``beams``.

    Args:
        decoding: The prompt; it is not changed.
        logits: float [V] after the prompt.
        end_id: Ends a sequence; not part of it.
        forbidden: Never proposed.
        beams: Width of the search.
        longest: Most tokens of a sequence.
    """
    banned = torch.tensor(sorted(forbidden), dtype=torch.long, device=logits.device)

    def scores(rows: Tensor) -> Tensor:
        out = F.log_softmax(rows.float(), dim=-1)
        return out.index_fill(-1, banned, -torch.inf)

    first = scores(logits)
    first[end_id] = -torch.inf
    values, tokens = first.topk(beams)
    live: list[tuple[float, tuple[int, ...]]] = [
        (float(v), (int(t),)) for v, t in zip(values, tokens, strict=True)
    ]
    sequences = [decoding.calls.fork(decoding.sequence) for _ in live]
    done: list[tuple[float, tuple[int, ...]]] = []
    try:
        for _ in range(longest):
            rows = [Row(own, [ids[-1]]) for own, (_, ids) in zip(sequences, live, strict=True)]
            values, tokens = scores(torch.cat(decoding.calls.feed(rows))).topk(beams + 1)
            likely, which = values.tolist(), tokens.tolist()
            grown = [
                (live[row][0] + likely[row][k], row, which[row][k])
                for row in range(len(live))
                for k in range(beams + 1)
            ]
            grown.sort(key=lambda item: -item[0])
            done += [(score, live[row][1]) for score, row, token in grown if token == end_id]
            kept = [item for item in grown if item[2] != end_id and item[0] > -torch.inf][:beams]
            done = sorted(done, key=lambda item: -item[0])[:beams]
            if not kept or (len(done) == beams and done[-1][0] >= kept[0][0]):
                break
            sequences = _reordered(decoding, sequences, [row for _, row, _ in kept])
            live = [(score, (*live[row][1], token)) for score, row, token in kept]
    finally:
        for sequence in sequences:
            sequence.close()
    return [ids for _, ids in done]


def _reordered(decoding: Decoding, sequences: list[CachedSequence], rows: list[int]) -> list[CachedSequence]:
    """The sequences of these rows; a row may come several times, and those that do not are closed."""
    taken: set[int] = set()
    made = []
    for row in rows:
        made.append(decoding.calls.fork(sequences[row]) if row in taken else sequences[row])
        taken.add(row)
    for row, sequence in enumerate(sequences):
        if row not in taken:
            sequence.close()
    return made


@torch.inference_mode()
def score(
    decoding: Decoding,
    logits: Tensor,
    heard: HeardAudio,
    clip: int,
    proposals: Sequence[tuple[int, ...]],
    end_id: int,
) -> list[Reading]:
    """Score proposals by both readers, all in one pass; arguments as in ``read_jointly``."""
    encoder, frames = decoding.model.audio_encoder, int(heard.frames[clip])
    states = heard.states[clip : clip + 1, :frames]
    heard_as = F.log_softmax(decoding.calls.do(lambda: encoder.ctc_logits(states)).float(), dim=-1)
    sequences = [decoding.calls.fork(decoding.sequence) for _ in proposals]
    try:
        rows = [Row(own, ids, keep=len(ids)) for own, ids in zip(sequences, proposals, strict=True)]
        read = decoding.calls.feed(rows) if rows else []
    finally:
        for sequence in sequences:
            sequence.close()
    readings = []
    for ids, after in zip(proposals, read, strict=True):
        target = torch.tensor([ids], device=logits.device)
        loss = F.ctc_loss(
            heard_as.transpose(0, 1),
            target,
            torch.tensor([frames]),
            torch.tensor([len(ids)]),
            blank=encoder.config.blank_id,
            reduction="none",
        )
        likely = F.log_softmax(torch.cat([logits[None], after]).float(), dim=-1)
        wanted = torch.tensor([*ids, end_id], device=logits.device)
        text = likely.gather(1, wanted[:, None]).sum()
        readings.append(Reading(ids, -float(loss) / len(ids), float(text) / (len(ids) + 1)))
    return readings


def read_jointly(
    decoding: Decoding,
    logits: Tensor,
    heard: HeardAudio,
    clip: int,
    end_id: int,
    forbidden: Collection[int],
    beams: int,
    longest: int,
) -> Reading | None:
    """The best transcript of one clip.

    Args:
        decoding: The prompt up to the token that opens the transcript, by a model whose encoder has a CTC head over
            the text tokens; not changed.
        logits: float [V] after it.
        heard: What the ears made of the clips.
        clip: Which one.
        end_id: The token after a transcript.
        forbidden: Tokens that are no words.
        beams: Proposals of the language model.
        longest: Most tokens of a transcript.

    Returns:
        The winner, or None if nobody proposes anything.
    """
    proposals = beam_search(decoding, logits, end_id, forbidden, beams, longest)
    encoder, states, frames = decoding.model.audio_encoder, heard.states, heard.frames
    one = slice(clip, clip + 1)
    own = decoding.calls.do(lambda: encoder.greedy_tokens(states[one], frames[one]))[0]
    proposals.append(tuple(own[:longest]))
    # a CTC path needs a frame per token, and one more between equal neighbours
    unique = dict.fromkeys(p for p in proposals if p and not set(p) & set(forbidden))
    room = int(frames[clip])
    fitting = [p for p in unique if len(p) + sum(a == b for a, b in itertools.pairwise(p)) <= room]
    readings = score(decoding, logits, heard, clip, fitting, end_id)
    return max(readings, key=lambda r: r.total, default=None)
