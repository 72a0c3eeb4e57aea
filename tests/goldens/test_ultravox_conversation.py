"""Conversations of several spoken turns: what a cache of earlier turns gives, and that reading all anew gives the same.

The stored ids hold a filler where earlier audio was; the sound itself is in the cache only.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import save_file
from tests.goldens.discovery import label
from tests.goldens.test_ultravox import EMBEDDINGS, LOGITS, MELS, close
from tests.goldens.ultravox_cases import Case, case_folders, collated, facts, is_turn, stored
from tests.goldens.ultravox_models import load_golden
from tests.goldens.ultravox_toy import AUDIO, EOT
from torch import Tensor


class Turn(NamedTuple):
    """A turn of a stored conversation with all that was heard before.

    Attributes:
        case: As stored; its own audio only.
        ids: All of it so far with our placeholders, [1, L].
        features: Of all clips so far, one [1, M, T] for each chunk.
        lengths: True frames of each.
        cached: Positions that an earlier turn put into the cache.
    """

    case: Case
    ids: Tensor
    features: list[Tensor]
    lengths: list[int]
    cached: int


def turns_of(folder: Path) -> list[Case]:
    names = {name.rpartition("/")[0] for name in stored(folder)}
    return [Case(folder, name) for name in sorted(filter(is_turn, names), key=lambda n: int(n[4:]))]


def own_features(case: Case) -> Tensor | None:
    """Spectrograms of a turn: stored with it, with another case of its clips, or made from its waveform."""
    if case.lengths is None:
        return None
    if case.features is not None and "audio_values" in case.fields:
        return case.features
    if case.waves:
        return case.read[0]
    for folder in [case.folder, *case_folders()]:
        for name, tensor in stored(folder).items():
            other = Case(folder, name.rpartition("/")[0])
            if name.endswith("/audio_values") and other.fields.get("audio_lens") is not None:
                same = torch.equal(other.fields["audio_lens"].flatten(), case.lengths)
                if same and tensor.shape[1] == load_golden(case.folder).processor.ears.features["num_mels"]:
                    return tensor
    raise AssertionError(f"{case}: neither features nor waveforms of {case.lengths.tolist()} frames")


def placed(case: Case, taken: set[int]) -> Tensor:
    """A turn's ids with our placeholders for its own audio; where it starts is stored, or told by the fillers."""
    ids, starts = case.fields["input_ids"].reshape(1, -1).clone(), case.starts
    runs, at = [], 0
    for token, group in groupby(ids[0].tolist()):
        size = len(list(group))
        runs += [(at, size)] * (token == EOT and at not in taken)
        at += size
    for i, count in enumerate(case.counts):
        start = starts[i] if i < len(starts) else next(a for a, size in runs if size >= count)
        runs = [(a, size) if a != start else (a + count, size - count) for a, size in runs]
        ids[0, start : start + count] = AUDIO
    return ids


@cache
def turns(folder: Path) -> list[Turn]:
    made: list[Turn] = []
    for case in turns_of(folder):
        before = made[-1] if made else None
        heard = (before.ids[0] == AUDIO).nonzero().flatten().tolist() if before else []
        ids = placed(case, set(heard))
        if before:
            size = before.ids.shape[1]
            assert torch.equal(
                case.fields["input_ids"].reshape(-1)[:size], before.case.fields["input_ids"].reshape(-1)
            )
            ids[0, heard] = AUDIO
        features, lengths = own_features(case), [] if case.lengths is None else case.lengths.tolist()
        own = [] if features is None else [f[None, :, :n] for f, n in zip(features, lengths, strict=True)]
        suffix = [t.shape[1] for n, t in case.fields.items() if n.startswith("logits") and t.dim() == 3]
        cached = ids.shape[1] - min(suffix, default=ids.shape[1]) if before else 0
        earlier = (before.features, before.lengths) if before else ([], [])
        made.append(Turn(case, ids, earlier[0] + own, earlier[1] + lengths, cached))
    return made


def audio(features: list[Tensor], lengths: list[int]) -> dict[str, Tensor]:
    if not features:
        return {}
    longest = max(lengths)
    padded = [torch.nn.functional.pad(f, (0, longest - f.shape[-1])) for f in features]
    return {"input_features": torch.cat(padded), "feature_lengths": torch.tensor(lengths)}


def anew(turn: Turn) -> Tensor:
    """Logits of the whole conversation so far, with every clip in it, [1, L, V]."""
    model = load_golden(turn.case.folder).model
    logits: Tensor = model(input_ids=turn.ids, **audio(turn.features, turn.lengths)).logits
    return logits


def with_cache(turn: Turn) -> Tensor:
    """Logits of what is new in a turn, after a cache that another call filled."""
    model = load_golden(turn.case.folder).model
    before, after = turn.ids[:, : turn.cached], turn.ids[:, turn.cached :]
    old = int((before == AUDIO).sum())
    sizes = (
        model.connector.num_tokens(model.audio_encoder.num_frames(torch.tensor(turn.lengths)))
        .cumsum(0)
        .tolist()
    )
    split = sizes.index(old) + 1 if old else 0
    first = model(input_ids=before, use_cache=True, **audio(turn.features[:split], turn.lengths[:split]))
    mask = torch.ones_like(turn.ids)
    new = audio(turn.features[split:], turn.lengths[split:])
    return model(input_ids=after, attention_mask=mask, past_key_values=first.past_key_values, **new).logits


FOLDERS = [folder for folder in case_folders() if turns_of(folder)]
TURNS = [(folder, i) for folder in FOLDERS for i in range(len(turns_of(folder)))]
every_turn = pytest.mark.parametrize(
    ("folder", "i"), TURNS, ids=[f"{label(f.parent)}-{f.name}-turn{i + 1}" for f, i in TURNS]
)


def check_fields(turn: Turn) -> list[str]:
    """Compare every stored field of a turn; returns the names of those that were compared."""
    case, size, done = turn.case, turn.ids.shape[1], []
    with torch.no_grad():
        whole = anew(turn)
        after = with_cache(turn) if turn.cached else None
        for name, wanted in case.fields.items():
            if name.startswith("logits") and wanted.dim() == 3:
                close(whole[:, size - wanted.shape[1] :], wanted, LOGITS)
                if after is not None:
                    short = min(after.shape[1], wanted.shape[1])
                    close(after[:, -short:], wanted[:, -short:], LOGITS)
            elif name == "generated_ids":
                made = generated(turn, wanted.shape[1])
                assert made == wanted.tolist(), name
            elif name in ("input_ids", "attention_mask"):
                assert wanted.numel() == size, name
            elif name == "audio_values":
                found, known = collated(case)
                close(found[known], wanted[known], MELS)
            elif name in ("audio_embeds", "encoder_output"):
                assert case.features is not None
                heard = load_golden(case.folder, True).model.hear(case.features, case.lengths)
                close(heard.embeddings if name == "audio_embeds" else heard.states, wanted, EMBEDDINGS)
            elif name == "audio_lens":
                assert case.lengths is not None and wanted.flatten().tolist() == case.lengths.tolist()
            elif name == "audio_token_len":
                model = load_golden(case.folder).model
                assert (
                    model.connector.num_tokens(model.audio_encoder.num_frames(case.lengths)).tolist()
                    == wanted.tolist()
                )
            elif name == "audio_token_start_idx":
                assert all(int(turn.ids[0, start]) == AUDIO for start in wanted.flatten().tolist())
            elif name == "audio_batch_size":
                assert int(wanted.sum()) == len(case.counts)
            elif (
                wanted.numel() == 1
                and not wanted.is_floating_point()
                and re.search("len|cached|past|size", name)
            ):
                generated_size = (
                    case.fields["generated_ids"].shape[1] if "generated_ids" in case.fields else 0
                )
                assert int(wanted) in (turn.cached, size, size - turn.cached, size + generated_size), name
            elif not re.fullmatch(r"waveform\d*_i16", name):
                continue
            done.append(name)
    return done


def generated(turn: Turn, size: int) -> list[list[int]]:
    model = load_golden(turn.case.folder).model
    inputs = {
        "input_ids": turn.ids,
        "attention_mask": torch.ones_like(turn.ids),
        **audio(turn.features, turn.lengths),
    }
    made = model.generate(**inputs, max_new_tokens=size, min_new_tokens=size, do_sample=False)
    return made[:, turn.ids.shape[1] :].tolist()


@every_turn
def test_a_turn(folder: Path, i: int) -> None:
    turn = turns(folder)[i]
    unread = sorted(set(turn.case.fields) - set(check_fields(turn)))
    assert not unread, f"{folder}: no test reads {', '.join(f'{turn.case.name}/{name}' for name in unread)}"
    said = facts(folder).get("cached_len")
    assert said is None or i == 0 or int(str(said)) == turn.cached


@every_turn
def test_a_cache_of_earlier_turns_gives_what_reading_anew_gives(folder: Path, i: int) -> None:
    turn = turns(folder)[i]
    if turn.cached:
        with torch.no_grad():
            close(with_cache(turn), anew(turn)[:, turn.cached :], LOGITS)


def two_turns(folder: Path) -> None:
    """Store a conversation as the goldens do, computed by running all of it at once."""
    single = Case(next(f for f in case_folders() if f.name == "v0_5_lnmid"), "single")
    model = load_golden(single.folder).model
    assert single.features is not None and single.lengths is not None
    reply = torch.tensor([[104, 105, EOT]])
    whole = torch.cat([single.ids, reply, single.ids], dim=1)
    with torch.no_grad():
        logits = model(
            input_ids=whole,
            input_features=single.features.repeat(2, 1, 1),
            feature_lengths=single.lengths.repeat(2),
        ).logits
    size, start = single.ids.shape[1], single.fields["audio_token_start_idx"]
    common = {n: single.fields[n] for n in ("audio_values", "audio_lens", "audio_token_len")}
    filled = whole.masked_fill(whole == AUDIO, EOT)
    first = {
        **common,
        "input_ids": filled[:, :size],
        "audio_token_start_idx": start,
        "logits": logits[:, :size],
    }
    second = {**common, "input_ids": filled, "audio_token_start_idx": start + size + 3}
    second["logits_suffix"] = logits[:, size:]
    second["cached_len"] = torch.tensor([size])
    tensors = {
        f"turn{i + 1}/{n}": t.clone() for i, turn in enumerate((first, second)) for n, t in turn.items()
    }
    folder.mkdir()
    save_file(tensors, folder / "goldens.safetensors")


def test_a_conversation_in_this_form_is_read(tmp_path: Path) -> None:
    """Goldens of conversations may be absent; the reading of them is checked by one made here."""
    folder = tmp_path / "conversation"
    two_turns(folder)
    first, second = turns(folder)
    assert (first.cached, second.cached) == (0, first.ids.shape[1])
    for turn in (first, second):
        assert set(check_fields(turn)) == set(turn.case.fields)
    stored(folder)["turn2/logits_suffix"][0, -1, 0] += 0.01
    with pytest.raises(AssertionError):
        check_fields(second)


def test_starts_are_told_by_the_fillers(tmp_path: Path) -> None:
    folder = tmp_path / "conversation"
    two_turns(folder)
    known = [turn.ids.tolist() for turn in turns(folder)]
    other = tmp_path / "again"
    two_turns(other)
    for name in [n for n in stored(other) if n.endswith("start_idx")]:
        del stored(other)[name]
    assert [turn.ids.tolist() for turn in turns(other)] == known
