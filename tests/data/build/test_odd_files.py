"""Recordings as they come: each odd file is read, or put aside with its reason, and the others are made."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from tests.data.build.engine import assert_complete

from vivavoce.audio.files import audio_info
from vivavoce.data.build.contract import Context
from vivavoce.data.build.pipeline import Pipeline
from vivavoce.data.build.run import Outcome, build
from vivavoce.data.check.sets import check_set
from vivavoce.data.manifest import read_set


def tone(seconds: float = 0.5, rate: int = 16_000, channels: int = 1) -> np.ndarray:
    wave = 0.3 * np.sin(0.2 * np.arange(round(seconds * rate)))
    return np.repeat(wave[:, None], channels, axis=1)


def wav_of_nothing(path: Path) -> None:
    soundfile.write(path, np.zeros((0, 1)), 16_000)


def cut_off(path: Path) -> None:
    soundfile.write(path, tone(2.0), 16_000)
    path.write_bytes(path.read_bytes()[:20_000])


def other_name(path: Path, format: str) -> None:
    soundfile.write(path, tone(), 16_000, format=format)


# name -> (how it is made, where it ends: "" in the set, or stage and kind in quarantine)
FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a_plain.wav": (lambda p: soundfile.write(p, tone(), 16_000), ""),
    "b_empty.wav": (lambda p: p.write_bytes(b""), "source unreadable"),
    "c_text.wav": (lambda p: p.write_text("This is a letter, not a recording. " * 40), "source unreadable"),
    "d_wav.flac": (lambda p: other_name(p, "WAV"), ""),
    "e_flac.mp3": (lambda p: other_name(p, "FLAC"), ""),
    "f_one_sample.wav": (lambda p: soundfile.write(p, [0.5], 16_000), ""),
    "g_no_sample.wav": (wav_of_nothing, "source unreadable"),
    "h_eight.wav": (lambda p: soundfile.write(p, tone(0.5, 192_000, 8), 192_000), ""),
    "i_cut.wav": (cut_off, "source unreadable"),
    "j_nan.wav": (lambda p: soundfile.write(p, np.full(8000, np.nan), 16_000, subtype="FLOAT"), "tokenize unreadable"),
    "k_noise.flac": (lambda p: p.write_bytes(np.random.default_rng(0).bytes(5000)), "source unreadable"),
    "l_nowhere.wav": (lambda p: p.symlink_to("nothing.wav"), "source unreadable"),
    "m_pipe.wav": (lambda p: os.mkfifo(p), "source unreadable"),
    "n_folder.wav": (lambda p: p.mkdir(), "absent"),
    "o_silent.wav": (lambda p: soundfile.write(p, np.zeros(8000), 16_000), "tokenize silent"),
    "p_header.wav": (lambda p: p.write_bytes(b"RIFF" + struct.pack("<I", 4) + b"WAVE"), "source unreadable"),
    "q_long.wav": (lambda p: soundfile.write(p, tone(70.0, 8000), 8000), "tokenize too_long"),
    "r_loud.WAV": (lambda p: soundfile.write(p, tone() * 20, 16_000, subtype="FLOAT", format="WAV"), ""),
    "s \u1edbi \u97f3.wav": (lambda p: soundfile.write(p, tone(), 16_000), ""),
}  # fmt: skip


def tokens_of(folder: Path, out: Path, **more: Any) -> Outcome:
    source = {"type": "recordings", "folder": str(folder), "license": "cc0-1.0"}
    pipeline = Pipeline(source=source, stages=({"type": "tokenize", "codec": "nano"},), block_rows=4, **more)
    made = build(pipeline, out, Context(), workers=0)
    assert_complete(out, made)
    return made


def outcomes(out: Path) -> dict[str, str]:
    """Id or first words of the reason -> "" or stage and kind."""
    lines = [json.loads(line) for line in (out / "put_aside.jsonl").read_text().splitlines()]
    told = {row.id: "" for row in read_set(out)}
    for line in lines:
        assert len(line["reason"]) > 10 and "\n" not in line["reason"], line
        name = line["row"]["id"] if line["row"] else line["reason"].split(":")[0].strip("'")
        told[name] = f"{line['stage']} {line['kind']}"
    return told


def test_each_odd_file_is_read_or_put_aside_with_its_reason(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, (write, _) in FILES.items():
        write(folder / name)
    made = tokens_of(folder, tmp_path / "out")
    assert outcomes(tmp_path / "out") == {n: end for n, (_, end) in FILES.items() if end != "absent"}
    rows = {row.id: row for row in read_set(tmp_path / "out")}
    for name, row in rows.items():
        part = row.messages[0].audios[0]
        info = audio_info(folder / name)
        assert part.tokens is not None and part.tokens["ids"]
        assert part.tokens["num_samples"] == pytest.approx(info.duration_s * 24_000, abs=2)
        assert row.audios[part.audio]["bytes"] == (folder / name).read_bytes()  # as it came
    report = check_set(tmp_path / "out")
    assert report.facts.rows == made.manifest.rows == len(rows)


def test_files_that_may_not_be_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), 16_000)
    (tmp_path / "a.wav").chmod(0)
    soundfile.write(tmp_path / "b.wav", tone(), 16_000)
    if os.access(tmp_path / "a.wav", os.R_OK):
        pytest.skip("this user may read everything")
    assert tokens_of(tmp_path, tmp_path / "out").kinds == {"source: unreadable": 1}


def test_a_transcript_that_is_no_text(tmp_path: Path) -> None:
    for name, transcript in (("a", b"\xff\xfe\xff"), ("b", "gr\u00fc\u00df dich\n".encode()), ("c", b"\n")):
        soundfile.write(tmp_path / f"{name}.wav", tone(), 16_000)
        (tmp_path / f"{name}.txt").write_bytes(transcript)
    assert tokens_of(tmp_path, tmp_path / "out").kinds == {"source: unreadable": 1}
    told = {row.id: row.messages[0].audios[0].transcript for row in read_set(tmp_path / "out")}
    assert told == {"b.wav": "gr\u00fc\u00df dich", "c.wav": None}


def test_only_odd_files_make_an_empty_set_that_says_why(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.wav").write_bytes(b"")
    (tmp_path / "in" / "b.wav").write_bytes(b"RIFF")
    made = tokens_of(tmp_path / "in", tmp_path / "out")
    assert (made.manifest.rows, made.manifest.shards, made.kinds) == (0, [], {"source: unreadable": 2})


def test_what_needs_a_program_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ffmpeg a real m4a cannot be read, while a text of that name is told apart from it where it can be."""
    monkeypatch.setenv("PATH", str(tmp_path))
    soundfile.write(tmp_path / "a.wav", tone(), 16_000)
    (tmp_path / "b.m4a").write_bytes(b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom\0\0\0\0" + bytes(500))
    (tmp_path / "c.wav").write_text("This is a letter. " * 40)
    tokens_of(tmp_path, tmp_path / "out")
    told = outcomes(tmp_path / "out")
    assert told == {"a.wav": "", "b.m4a": "source needs_program", "c.wav": "source unreadable"}


def test_files_that_come_or_change_are_another_source(tmp_path: Path) -> None:
    from vivavoce.data.build.sources import RecordingsConfig, RecordingsSource

    def print_of() -> str:
        return RecordingsSource(RecordingsConfig(str(tmp_path)), Context()).fingerprint()

    soundfile.write(tmp_path / "a.wav", tone(), 16_000)
    (tmp_path / "a.txt").write_text("one")
    seen = [print_of()]
    (tmp_path / "a.txt").write_text("two")
    os.utime(tmp_path / "a.txt", ns=(1, 1))
    seen.append(print_of())
    soundfile.write(tmp_path / "a.wav", tone() / 2, 16_000)
    os.utime(tmp_path / "a.wav", ns=(2, 2))
    seen.append(print_of())
    soundfile.write(tmp_path / "b.wav", tone(), 16_000)
    seen.append(print_of())
    assert len(set(seen)) == 4 and print_of() == seen[-1]
    shutil.copytree(tmp_path, tmp_path / "c")  # what is in the folder below counts too
    assert print_of() != seen[-1]


@pytest.mark.slow
def test_three_hours(tmp_path: Path) -> None:
    """A recording of three hours is put aside, and the one beside it is made."""
    (tmp_path / "in").mkdir()
    rate = 8000
    with soundfile.SoundFile(str(tmp_path / "in" / "long.flac"), "w", rate, 1, subtype="PCM_16") as file:
        for minute in range(180):
            file.write(np.zeros(60 * rate) if minute % 10 else tone(60.0, rate))
    soundfile.write(tmp_path / "in" / "short.wav", tone(), 16_000)
    made = tokens_of(tmp_path / "in", tmp_path / "out")
    assert list(made.kinds) == ["tokenize: too_long"] and made.manifest.rows == 1
    whole = Pipeline(source={"type": "recordings", "folder": str(tmp_path / "in")})
    kept = build(
        whole, tmp_path / "kept", Context(), workers=0
    )  # nothing asks for a part of it, so it is kept whole
    assert kept.manifest.rows == 2 and kept.manifest.hours == pytest.approx(3.0, abs=0.01)
