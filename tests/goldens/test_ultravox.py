"""Tiny Ultravox models against reference numbers: every stored field of every case, in batches as the reference pads
them, and alone whatever the padding.

Distillation (``kd``, ``kd_*``, ``labels_*``) is checked by test_ultravox_kd.py, token counts and spectrograms by
test_ultravox_processor.py, files by test_ultravox_files.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.goldens.discovery import golden_folders, label
from tests.goldens.ultravox_cases import (
    RATE,
    WAVE,
    Case,
    all_cases,
    case_folders,
    collated,
    facts,
    is_elsewhere,
    is_turn,
    run,
    stored,
)
from tests.goldens.ultravox_models import load_golden
from tests.goldens.ultravox_toy import AUDIO, EOT
from torch import Tensor

MELS, EMBEDDINGS, LOGITS = 2e-5, 1e-4, 2e-4

CASES = all_cases()
FOLDERS = case_folders()
every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: f"{label(p.parent)}-{p.name}")


def close(found: Tensor | None, wanted: Tensor, most: float) -> None:
    assert found is not None
    torch.testing.assert_close(found, wanted, rtol=0, atol=most)


def check_logits(case: Case, wanted: Tensor, padded: bool) -> None:
    real = case.mask.bool()
    close(run(case, padded).logits[real], wanted[real], LOGITS)


def check_generated(case: Case, wanted: Tensor, padded: bool) -> None:
    model, size = load_golden(case.folder, padded).model, wanted.shape[1]
    made = model.generate(**case.inputs(), max_new_tokens=size, min_new_tokens=size, do_sample=False)
    assert made[:, case.ids.shape[1] :].tolist() == wanted.tolist()


def check_full_length(case: Case, wanted: Tensor, padded: bool) -> None:
    assert int(wanted) == case.ids.shape[1] + case.fields["generated_ids"].shape[1]


def check_counts(case: Case, wanted: Tensor, padded: bool) -> None:
    model = load_golden(case.folder, padded).model
    assert case.lengths is not None
    assert (
        model.connector.num_tokens(model.audio_encoder.num_frames(case.lengths)).tolist() == wanted.tolist()
    )


def check_features(case: Case, wanted: Tensor, padded: bool) -> None:
    """Spectrograms of stored waveforms; shapes and padding of all."""
    found, known = collated(case)
    assert found.shape == wanted.shape
    close(found[known], wanted[known], MELS)


def check_text(case: Case, field: str) -> None:
    """Ids, mask, lengths and places that our processor makes of the same text and clips of the same lengths."""
    golden = load_golden(case.folder)
    clips = [case.samples(i).numpy() for i in range(len(case.clips()))]
    side = "left" if not case.mask[:, 0].all() else "right"
    made = golden.processor(text=case.texts(), audio=clips, sampling_rate=RATE, padding_side=side)
    if field == "input_ids":
        assert (
            made["input_ids"].masked_fill(made["input_ids"] == AUDIO, EOT).tolist()
            == case.fields[field].tolist()
        )
    elif field == "attention_mask":
        assert made["attention_mask"].tolist() == case.fields[field].tolist()
    elif field == "audio_lens":
        assert made["feature_lengths"].tolist() == case.fields[field].flatten().tolist()
    elif field == "audio_batch_size":
        index = made["audio_batch_index"]
        assert torch.bincount(index, minlength=len(made["input_ids"])).tolist() == case.chunks
    else:
        starts, counts = case.fields[field].flatten().tolist(), case.counts
        places = [[] for _ in case.chunks]
        for row, start, count in zip(case.rows, starts, counts, strict=True):
            places[row] += range(start, start + count)
        found = [(row == AUDIO).nonzero().flatten().tolist() for row in made["input_ids"]]
        assert found == places


Check = Callable[[Case, Tensor, bool], None]
CHECKS: dict[str, Check] = {
    "audio_values": check_features,
    "audio_token_len": check_counts,
    "encoder_output": lambda case, wanted, padded: close(
        run(case, padded).encoder_output, wanted, EMBEDDINGS
    ),
    "audio_embeds": lambda case, wanted, padded: close(run(case, padded).audio_embeds, wanted, EMBEDDINGS),
    "inputs_embeds_merged": lambda case, wanted, padded: close(run(case, padded).merged, wanted, EMBEDDINGS),
    "logits": check_logits,
    "last_logits": lambda case, wanted, padded: close(run(case, padded).logits[:, -1], wanted, LOGITS),
    "generated_ids": check_generated,
    "generated_full_len": check_full_length,
    **{
        field: (lambda case, wanted, padded, field=field: check_text(case, field))
        for field in (
            "input_ids",
            "attention_mask",
            "audio_lens",
            "audio_batch_size",
            "audio_token_start_idx",
        )
    },
}


def known(field: str) -> bool:
    return field in CHECKS or WAVE.fullmatch(field) is not None


def test_some_case_is_stored() -> None:
    assert CASES and FOLDERS


@every_folder
def test_every_tensor_has_a_check(folder: Path) -> None:
    """A name that nothing here compares fails; turns of conversations are told by their shapes."""
    cases = {name.rpartition("/")[0] for name in stored(folder)}
    checked = {c for c in cases if not is_elsewhere(c) and not is_turn(c)}
    unread = [
        n for n in stored(folder) if n.rpartition("/")[0] in checked and not known(n.rpartition("/")[2])
    ]
    assert not unread, f"{folder}: no test reads {', '.join(unread)}"
    files = {"config.json", "goldens.safetensors", "keys.json", "model.safetensors", "summary.json"}
    other = [p.name for p in folder.iterdir() if p.name not in files and not p.name.endswith(".safetensors")]
    assert not other, f"{folder}: no test reads {', '.join(other)}"


def by_field(wanted: Callable[[Case], bool]) -> Any:
    pairs = [(c, f) for c in CASES if wanted(c) for f in c.fields if f in CHECKS]
    return pytest.mark.parametrize(("case", "field"), pairs, ids=[f"{case}-{field}" for case, field in pairs])


@by_field(lambda case: True)
def test_as_the_reference_pads(case: Case, field: str) -> None:
    CHECKS[field](case, case.fields[field], True)


@by_field(lambda case: len(case.rows) <= 1 and len(case.chunks) == 1)
def test_a_clip_alone_without_the_references_padding(case: Case, field: str) -> None:
    CHECKS[field](case, case.fields[field], False)


@every_case
def test_each_row_gives_what_it_gives_alone(case: Case) -> None:
    """Our own padding: no row and no chunk of the batch changes another."""
    model, together = load_golden(case.folder).model, run(case, False)
    for row in range(len(case.ids)):
        with torch.no_grad():
            alone = model(**case.row(row)).logits
        close(together.logits[row, case.mask[row].bool()], alone[0], LOGITS)
    if case.features is not None:
        assert case.lengths is not None and together.audio_embeds is not None
        for chunk, (length, count) in enumerate(zip(case.lengths.tolist(), case.counts, strict=True)):
            with torch.no_grad():
                alone = model.hear(case.features[chunk : chunk + 1, :, :length]).embeddings[0]
            close(together.audio_embeds[chunk, :count], alone, EMBEDDINGS)


SUMMARY: dict[str, Callable[[Path, Any], None]] = {}


def summary(name: str) -> Callable[[Callable[[Path, Any], None]], Callable[[Path, Any], None]]:
    def keep(check: Callable[[Path, Any], None]) -> Callable[[Path, Any], None]:
        SUMMARY[name] = check
        return check

    return keep


@summary("cases")
def check_shapes(folder: Path, wanted: dict[str, dict[str, Any]]) -> None:
    """Lengths of each case, by our own arithmetic."""
    for name, sizes in wanted.items():
        if is_elsewhere(name) or is_turn(name):
            continue
        case, model = Case(folder, name), load_golden(folder).model
        assert case.lengths is not None and case.features is not None
        found = {
            "audio_lens": case.lengths.tolist(),
            "audio_token_len": model.connector.num_tokens(
                model.audio_encoder.num_frames(case.lengths)
            ).tolist(),
            "audio_token_start_idx": case.starts,
            "audio_batch_size": case.fields["audio_batch_size"].tolist(),
            "mel_shape": list(case.features.shape),
            "input_ids_shape": list(case.ids.shape),
        }
        assert sizes == {k: found[k] for k in sizes}, f"{folder.name} {name}"


@summary("batch_vs_single_audio_embed_absdiff_per_token")
def check_what_batching_changes(folder: Path, wanted: list[float]) -> None:
    alone = run(Case(folder, "batch_item0_alone"), True).audio_embeds
    batch = run(Case(folder, "batch_left"), True).audio_embeds
    assert alone is not None and batch is not None
    close((batch[0, : len(wanted)] - alone[0]).abs().amax(-1), torch.tensor(wanted), EMBEDDINGS)


@summary("two_audios_vs_batch_audio_embed_absdiff_item0")
def check_what_one_call_changes(folder: Path, wanted: list[float]) -> None:
    batch, pair = (run(Case(folder, name), True).audio_embeds for name in ("batch_left", "two_audios"))
    assert batch is not None and pair is not None
    close((pair[0] - batch[0]).abs().amax(-1)[: len(wanted)], torch.tensor(wanted), EMBEDDINGS)


@summary("two_audios_vs_batch_mel_first_differing_frame")
def check_where_spectrograms_differ(folder: Path, wanted: list[int]) -> None:
    """Of clips whose waveforms are stored, as we compute them."""
    batch, pair = Case(folder, "batch_left"), Case(folder, "two_audios")
    (alone, _), (together, _) = collated(batch), collated(pair)
    for clip in batch.waves:
        differ = ((alone[clip] - together[clip]).abs().amax(0) > MELS).nonzero().flatten().tolist()
        assert (differ[0] if differ else -1) == wanted[clip]


FACTS = [(folder, name) for folder in FOLDERS for name in facts(folder) if not is_elsewhere(name)]


@pytest.mark.parametrize(("folder", "name"), FACTS, ids=[f"{label(f.parent)}-{f.name}-{n}" for f, n in FACTS])
def test_summary(folder: Path, name: str) -> None:
    if name not in SUMMARY:
        pytest.skip(f"{folder}/summary.json: nothing here reads {name}")
    SUMMARY[name](folder, facts(folder)[name])


@pytest.mark.parametrize("root", golden_folders("ultravox"), ids=label)
def test_everything_in_the_folder_is_read(root: Path) -> None:
    read = {*FOLDERS, *(root / name for name in ("README.json", "checkpoint_keys.json", "processor"))}
    other = [str(path) for path in sorted(root.iterdir()) if path not in read and path.name[0] != "."]
    assert not other, f"no test reads {', '.join(other)}"
