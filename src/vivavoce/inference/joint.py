"""Decide what was heard by two readers at once: the language model and the encoder's CTC head.

The language model proposes transcripts by a small beam search, the CTC head adds its own greedy reading, and each
proposal is scored by both. The best sum wins; how well it does with the worse of the two says whether to trust it.

Letters: B beams, V vocabulary, F encoder frames.

Source: joint CTC/attention decoding (Watanabe et al. 2017), by rescoring a short list instead of in the search.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vivavoce.models.speech_lm import HeardAudio, SpeechLM


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
    model: SpeechLM,
    cache: Any,
    logits: Tensor,
    end_id: int,
    forbidden: Collection[int],
    beams: int,
    longest: int,
) -> list[tuple[int, ...]]:
    """The likeliest token sequences up to ``end_id``, best first, at most ``beams``.

    Args:
        model: The speech LM.
        cache: Key-value cache of the prompt; it is not changed.
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
    cache = copy.deepcopy(cache)
    cache.batch_repeat_interleave(beams)
    done: list[tuple[float, tuple[int, ...]]] = []
    for _ in range(longest):
        last = torch.tensor([[ids[-1]] for _, ids in live], device=logits.device)
        output = model.language_model(
            inputs_embeds=model.get_input_embeddings()(last),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        values, tokens = scores(output.logits[:, -1]).topk(beams + 1)
        grown = [
            (live[row][0] + float(values[row, k]), row, int(tokens[row, k]))
            for row in range(len(live))
            for k in range(beams + 1)
        ]
        grown.sort(key=lambda item: -item[0])
        done += [(score, live[row][1]) for score, row, token in grown if token == end_id]
        kept = [item for item in grown if item[2] != end_id and item[0] > -torch.inf][:beams]
        done = sorted(done, key=lambda item: -item[0])[:beams]
        if not kept or (len(done) == beams and done[-1][0] >= kept[0][0]):
            break
        cache.reorder_cache(torch.tensor([row for _, row, _ in kept], device=logits.device))
        live = [(score, (*live[row][1], token)) for score, row, token in kept]
    return [ids for _, ids in done]


@torch.inference_mode()
def score(
    model: SpeechLM,
    cache: Any,
    logits: Tensor,
    heard: HeardAudio,
    clip: int,
    ids: tuple[int, ...],
    end_id: int,
) -> Reading:
    """Score one proposal by both readers; arguments as in ``read_jointly``."""
    frames = int(heard.frames[clip])
    log_probs = F.log_softmax(
        model.audio_encoder.ctc_logits(heard.states[clip : clip + 1, :frames]).float(), dim=-1
    )
    target = torch.tensor([ids], device=logits.device)
    loss = F.ctc_loss(
        log_probs.transpose(0, 1),
        target,
        torch.tensor([frames]),
        torch.tensor([len(ids)]),
        blank=model.audio_encoder.config.blank_id,
        reduction="none",
    )
    output = model.language_model(
        inputs_embeds=model.get_input_embeddings()(target),
        past_key_values=copy.deepcopy(cache),
        use_cache=True,
    )
    rows = F.log_softmax(torch.cat([logits[None], output.logits[0]]).float(), dim=-1)
    wanted = torch.tensor([*ids, end_id], device=logits.device)
    text = rows.gather(1, wanted[:, None]).sum()
    return Reading(ids, -float(loss) / len(ids), float(text) / (len(ids) + 1))


def read_jointly(
    model: SpeechLM,
    cache: Any,
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
        model: The speech LM; its encoder has a CTC head over the text tokens.
        cache: Key-value cache of the prompt up to the token that opens the transcript; not changed.
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
    proposals = beam_search(model, cache, logits, end_id, forbidden, beams, longest)
    own = model.audio_encoder.greedy_tokens(heard.states[clip : clip + 1], heard.frames[clip : clip + 1])[0]
    proposals.append(tuple(own[:longest]))
    # a CTC path needs a frame per token, and one more between equal neighbours
    frames, unique = (
        int(heard.frames[clip]),
        dict.fromkeys(p for p in proposals if p and not set(p) & set(forbidden)),
    )
    fitting = [p for p in unique if len(p) + sum(a == b for a, b in itertools.pairwise(p)) <= frames]
    readings = [score(model, cache, logits, heard, clip, ids, end_id) for ids in fitting]
    return max(readings, key=lambda r: r.total, default=None)
