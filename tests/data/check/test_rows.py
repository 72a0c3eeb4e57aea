"""Every silent failure of a row is found, and nothing is found in a good one."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from tests.data.check.bad_rows import CASES, SPEC, Bad, good_row, said
from tests.tokens.conftest import llama_tokenizer

from vivavoce.codecs.contract import CodecSpec
from vivavoce.data.check.config import CheckConfig
from vivavoce.data.check.findings import Finding
from vivavoce.data.check.kinds import KINDS, SEVERITIES
from vivavoce.data.check.reading import read_any
from vivavoce.data.check.rows import RowChecker
from vivavoce.tokens.vocabulary import extend_vocabulary


def findings(row: dict[str, Any], root: Any = ".", tokenizer: Any = None, **options: Any) -> list[Finding]:
    config = CheckConfig(**{"codec": SPEC, **options})
    return RowChecker(config, root, tokenizer)(read_any(row, 7), 7).findings


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_is_wrong_is_found_and_nothing_else(case: Bad, tmp_path) -> None:
    row = good_row()
    case.change(row)
    found = findings(row, tmp_path, **case.options)
    assert {f.kind for f in found} == case.kinds, [str(f) for f in found]
    assert any(case.seen in str(f) for f in found) or not case.seen, [str(f) for f in found]
    assert all(f.number == 7 and f.seen and f.wanted for f in found)


def test_the_check_does_not_change_the_row() -> None:
    row = read_any(good_row(), 0)
    before = copy.deepcopy(row)
    RowChecker(CheckConfig(codec=SPEC), ".")(row, 0)
    assert row == before


def test_codes_are_read_from_a_file(tmp_path) -> None:
    row = good_row()
    np.save(tmp_path / "a.npy", np.array(said(row)["tokens"].pop("ids"), np.int32))
    said(row)["tokens"]["path"] = "a.npy"
    assert findings(row, tmp_path) == []
    np.save(tmp_path / "a.npy", np.zeros((3, 3)))
    assert [f.kind for f in findings(row, tmp_path)] == ["tokens_incomplete"]


def test_published_codecs_are_known_by_name() -> None:
    row = good_row()
    said(row)["tokens"] |= {
        "codec": "snac_24khz",
        "num_samples": 24_000,
        "ids": list(range(0, 7 * 4096, 4096)) * 12,
    }
    found = findings(row, codec=None)
    assert {f.kind for f in found} == {"tokens_stuck"}
    said(row)["tokens"]["ids"].pop()
    assert {f.kind for f in findings(row, codec=None)} == {"bad_tokens"}


@pytest.mark.parametrize("style", ["sound", "sound_padded"])
def test_sound_tokens_that_split_are_found_by_the_tokenizer(style: str) -> None:
    """The naming trap: the wrong padding does not fail, the string falls into text pieces."""
    tokenizer = llama_tokenizer()
    spec = CodecSpec("toy", 24_000, 320, (1, 1), 16, 0, True)
    extend_vocabulary(tokenizer, codec_spec=spec, layout="interleaved", style=style)
    padded = "<|sound_start|>" + "".join(f"<|sound_{n:04d}|>" for n in range(6)) + "<|sound_end|>"
    plain = "<|sound_start|>" + "".join(f"<|sound_{n}|>" for n in range(6)) + "<|sound_end|>"
    right, wrong = (plain, padded) if style == "sound" else (padded, plain)
    rows = [good_row(), good_row()]
    rows[0]["messages"][1]["content"][0]["text"] = right
    rows[1]["messages"][1]["content"][0]["text"] = wrong
    kinds = [{f.kind for f in findings(row, tokenizer=tokenizer)} for row in rows]
    assert kinds == [{"sound_tokens_in_text"}, {"sound_tokens_in_text", "sound_tokens_split"}]
    [split] = [f for f in findings(rows[1], tokenizer=tokenizer) if f.kind == "sound_tokens_split"]
    size = len(tokenizer(wrong, add_special_tokens=False)["input_ids"])
    assert f"8 sound tokens become {size} tokens" in split.seen  # wanted: 2 + 2 T with T = 3
    assert split.wanted == "8 tokens"


def test_special_tokens_in_text_are_found_by_the_tokenizer() -> None:
    row = good_row()
    row["messages"][1]["content"][0]["text"] = "Stop<|eot_id|>"
    assert {f.kind for f in findings(row, tokenizer=llama_tokenizer())} == {"special_token_in_text"}
    assert findings(row) == []


def test_too_long_rows_are_found_by_the_tokenizer() -> None:
    tokenizer = llama_tokenizer()
    text = tokenizer.apply_chat_template(
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Listen. "},
         {"role": "assistant", "content": "Rain is likely."}], tokenize=False,
    )  # fmt: skip
    words = len(tokenizer(text, add_special_tokens=False)["input_ids"])
    total = words + 2 + 150  # codes of the answer with start and end
    assert findings(good_row(), tokenizer=tokenizer, max_tokens=total) == []
    [found] = findings(good_row(), tokenizer=tokenizer, max_tokens=total - 1)
    assert (found.kind, found.seen) == (
        "too_long",
        f"{total} tokens, {words} of them text, 1 clips not counted",
    )


def test_clips_without_codes_are_counted_by_the_tokenizers_codec() -> None:
    tokenizer = llama_tokenizer()
    extend_vocabulary(tokenizer, codec_spec=CodecSpec("encodec_24khz", 24_000, 320, (1, 1), 1024, 0, True),
                      layout="interleaved", style="sound")  # fmt: skip
    [found] = findings(good_row(), tokenizer=tokenizer, max_tokens=1)
    text = int(found.seen.split(", ")[1].split()[0])
    assert found.seen.startswith(f"{text + 2 + 2 * 150 + 2 + 150} tokens")  # 2 s at 75 frames of 2 a second


def test_turns_that_a_template_refuses_are_found() -> None:
    tokenizer = llama_tokenizer()
    tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    )
    [found] = findings(good_row(), tokenizer=tokenizer)
    assert (found.kind, found.seen) == ("cannot_render", "no system")


def test_recordings_that_need_a_program_are_not_called_bad(monkeypatch) -> None:
    monkeypatch.setenv("PATH", "")
    row = good_row()
    row["audios"][0] = {"bytes": b"\x1aE\xdf\xa3" + bytes(200)}  # the first bytes of a WebM file
    row["messages"][1]["content"][1].pop("words")
    [found] = findings(row)
    assert (found.kind, found.severity) == ("needs_program", "warning")
    assert "ffmpeg" in found.seen


def test_headers_only_and_no_recordings_at_all() -> None:
    row = good_row()
    CASES["silent"].change(row)
    row["messages"][1]["content"][1]["end"] = 5.0
    assert {f.kind for f in findings(row, recordings="headers")} == {"span_outside"}
    assert findings(row, recordings="none") == []


def test_every_kind_has_a_case_and_every_word_of_the_table_is_there() -> None:
    assert all(k.severity in SEVERITIES and k.why and k.next_step for k in KINDS.values())
    of_rows = set().union(*(case.kinds for case in CASES.values()))
    by_tokenizer = {"sound_tokens_split", "special_token_in_text", "too_long", "cannot_render"}
    of_sets = {"one_speaker", "empty_set", "unreadable_file", "manifest_differs", "codecs_mixed", "needs_program",
               "conflicting_transcripts", *(k for k in KINDS if k.startswith(("duplicate_", "overlap_")))}  # fmt: skip
    of_models = {"nothing_learned", "wrong_mask", "loss_on_placeholder", "end_not_learned", "teacher_equals_student",
                 "teacher_differs", "prompt_differs", "answer_audio_unused", "unknown_words"}  # fmt: skip
    assert set(KINDS) == of_rows | by_tokenizer | of_sets | of_models
