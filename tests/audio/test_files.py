"""Recordings come back as written, parts equal slices, blocks equal the whole, and bad files get one clear line."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.audio.files import AudioInfo, audio_info, blocks, read_audio, write_audio
from vivavoce.base.errors import AudioError, MissingExtraError

SUFFIXES = [".wav", ".flac", ".ogg", ".opus", ".mp3"]
needs_ffmpeg = pytest.mark.skipif(
    shutil.which("ffmpeg") is None, reason="the ffmpeg program is not installed"
)


def _sweep(seconds: float, rate: int) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (0.6 * np.sin(2 * np.pi * (150 + 90 * time) * time)).astype(np.float32)


def _without_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vivavoce.audio.decoding.shutil.which", lambda _: None)


@given(
    samples=st.lists(st.integers(-32768, 32767), min_size=1, max_size=300),
    suffix=st.sampled_from([".wav", ".flac"]),
)
def test_lossless_files_give_the_samples_back(
    tmp_path_factory: pytest.TempPathFactory, samples: list[int], suffix: str
) -> None:
    path = tmp_path_factory.mktemp("f") / f"a{suffix}"
    wave = np.array(samples, dtype=np.float32) / 32768
    write_audio(path, wave, 16000)
    back, rate = read_audio(path)
    assert rate == 16000 and back.dtype == np.float32
    np.testing.assert_array_equal(back, wave)


def test_a_flac_without_its_length_is_read_and_cut(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.flac", _sweep(9.0, 16000), 16000)
    whole = read_audio(path)[0]
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)  # the number of samples is 0 if a program wrote to a pipe
    assert audio_info(bytes(data)).num_samples is None
    np.testing.assert_array_equal(read_audio(bytes(data))[0], whole)
    np.testing.assert_array_equal(read_audio(bytes(data), None, 8.5, 8.9)[0], whole[136000:142400])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_from_path_bytes_and_file(tmp_path: Path, suffix: str) -> None:
    wave = _sweep(1.5, 24000)
    path = write_audio(tmp_path / f"a{suffix}", wave, 24000)
    assert [p.name for p in tmp_path.iterdir()] == [f"a{suffix}"]  # no temporary file is left
    first, rate = read_audio(path)
    assert rate == 24000 and first.size == wave.size
    assert np.corrcoef(first, wave)[0, 1] > 0.99
    data = path.read_bytes()
    with path.open("rb") as file:
        file.read(3)  # wherever the file object stands, it is read from its beginning
        for source in (str(path), data, memoryview(data), io.BytesIO(data), file):
            np.testing.assert_array_equal(read_audio(source)[0], first)
    info = audio_info(path)
    assert (info.sample_rate, info.num_channels, info.num_samples) == (24000, 1, wave.size)
    assert info.duration_s == pytest.approx(1.5)


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=15)
@given(start=st.floats(0, 4.9), length=st.one_of(st.none(), st.floats(0.001, 9)))
def test_a_part_is_the_slice_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, start: float, length: float | None
) -> None:
    path = tmp_path_factory.getbasetemp() / f"long{suffix}"
    if not path.exists():
        write_audio(path, _sweep(5.0, 24000), 24000)
    whole, rate = read_audio(path)
    end = None if length is None else start + length
    part, _ = read_audio(path, start_s=start, end_s=end)
    expected = whole[round(start * rate) : None if end is None else round(end * rate)]
    np.testing.assert_allclose(part, expected, rtol=0, atol=1e-6)


@given(
    block_s=st.floats(0.01, 3.0),
    overlap=st.floats(0.0, 0.9),
    rate=st.sampled_from([None, 16000, 8000, 44100]),
)
def test_blocks_make_up_the_whole(
    tmp_path_factory: pytest.TempPathFactory, block_s: float, overlap: float, rate: int | None
) -> None:
    path = tmp_path_factory.getbasetemp() / "blocks.flac"
    if not path.exists():
        write_audio(path, _sweep(2.3456, 22050), 22050)
    whole, out_rate = read_audio(path, rate)
    size = round(block_s * out_rate)
    repeated = min(round(block_s * overlap * out_rate), size - 1)
    pieces = list(blocks(path, size / out_rate, repeated / out_rate, rate))
    position = 0
    for number, block in enumerate(pieces):
        last = number == len(pieces) - 1
        assert block.sample_rate == out_rate and block.start_s == pytest.approx(position / out_rate)
        assert block.waveform.size == size or (last and 0 < block.waveform.size <= size)
        np.testing.assert_allclose(block.waveform, whole[position : position + size], rtol=0, atol=1e-5)
        position += size - repeated
    assert position - (size - repeated) + pieces[-1].waveform.size == whole.size
    assert len(pieces) == 1 or pieces[-1].waveform.size > repeated


def test_the_last_block_is_never_only_a_repetition(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", _sweep(1.0, 8000), 8000)
    for overlap_s, count in ((0.0, 4), (0.125, 7), (0.2, 16)):
        pieces = list(blocks(path, 0.25, overlap_s))
        assert [p.waveform.size for p in pieces] == [2000] * count, overlap_s
    assert [p.waveform.size for p in blocks(path, 3.0, 2.0)] == [8000]


def test_channels_become_their_mean_and_rates_change(tmp_path: Path) -> None:
    left, right = _sweep(0.5, 22050), np.roll(_sweep(0.5, 22050), 100)
    path = write_audio(tmp_path / "s.wav", np.stack([left, right]), 22050)
    assert audio_info(path) == AudioInfo(22050, 2, left.size / 22050, left.size, "WAV", "PCM_16")
    mono, _ = read_audio(path)
    np.testing.assert_allclose(mono, (left + right) / 2, atol=1e-4)
    for method in ("soxr", "sinc"):
        wave, rate = read_audio(path, 16000, resampler=method)  # type: ignore[arg-type]
        assert rate == 16000 and wave.size == -(-left.size * 16000 // 22050)


def test_widths_and_float_files_keep_their_values(tmp_path: Path) -> None:
    wave = _sweep(0.1, 8000)
    for subtype, tolerance in (
        ("PCM_U8", 1e-2),
        ("PCM_24", 1e-6),
        ("PCM_32", 1e-7),
        ("FLOAT", 0.0),
        ("DOUBLE", 0.0),
    ):
        soundfile.write(tmp_path / "w.wav", wave, 8000, subtype=subtype)
        np.testing.assert_allclose(read_audio(tmp_path / "w.wav")[0], wave, rtol=0, atol=tolerance)
    soundfile.write(tmp_path / "w.wav", 3 * wave, 8000, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(tmp_path / "w.wav")[0], 3 * wave)


def test_writing_clips_and_replaces_at_once(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", 5 * _sweep(0.1, 8000), 8000)
    assert np.abs(read_audio(path)[0]).max() == 1.0
    with pytest.raises(AudioError, match="NaN"):
        write_audio(path, np.array([0.0, np.nan], np.float32), 8000)
    assert read_audio(path)[0].size == 800  # the old file is whole
    write_audio(path, _sweep(0.2, 8000), 8000)
    assert read_audio(path)[0].size == 1600
    assert len(list(tmp_path.iterdir())) == 1


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(soundfile.SoundFile, "write", full)
    with pytest.raises(AudioError, match="no space left"):
        write_audio(tmp_path / "a.wav", _sweep(0.1, 8000), 8000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "wave", "rate", "message"),
    [
        ("a.aac", np.zeros(4, np.float32), 8000, r"ending in \.wav, \.flac"),
        ("a.wav", np.zeros(0, np.float32), 8000, "0 samples"),
        ("a.wav", np.zeros((9, 4), np.float32), 8000, "9 channels"),
        ("a.wav", np.zeros(4, np.int16), 8000, "wanted float"),
        ("a.opus", np.zeros(4, np.float32), 22050, "24000"),
        ("no/a.wav", np.zeros(4, np.float32), 8000, "make it first"),
        ("dir.wav", np.zeros(4, np.float32), 8000, "is a folder"),
    ],
)
def test_what_cannot_be_written(tmp_path: Path, name: str, wave: np.ndarray, rate: int, message: str) -> None:
    (tmp_path / "dir.wav").mkdir()
    with pytest.raises(AudioError, match=message):
        write_audio(tmp_path / name, wave, rate)
    assert [p.name for p in tmp_path.iterdir()] == ["dir.wav"]


def test_bad_files_get_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = write_audio(tmp_path / "good.wav", _sweep(1.0, 8000), 8000).read_bytes()
    flac = write_audio(tmp_path / "good.flac", _sweep(1.0, 8000), 8000).read_bytes()
    header = write_audio(tmp_path / "one.wav", np.zeros(1, np.float32), 8000).read_bytes()[:-2]
    random = np.random.default_rng(0).bytes(5000)
    nan = tmp_path / "nan.wav"
    soundfile.write(nan, np.array([0.0, np.nan], np.float32), 8000, subtype="FLOAT")
    rate_zero = bytearray(good)
    rate_zero[24:28] = (4).to_bytes(4, "little")
    cases: list[tuple[object, str]] = [
        (tmp_path / "missing.wav", "does not exist"),
        ("nul\0.wav", "does not exist|cannot be opened"),
        (tmp_path, "is a folder"),
        (b"", r"is empty \(0 bytes\)"),
        (header[:40] + bytes(4), "no samples"),
        (random, "cannot be read as a recording"),
        (b"hello there " * 40, "cannot be read as a recording"),
        (good[:30], "cannot be read as a recording"),
        (good[: len(good) // 2], "cut off"),
        (flac[: len(flac) // 2], "damaged|cut off"),
        (nan, "NaN"),
        (bytes(rate_zero), "says 4 Hz"),
    ]
    for ffmpeg in (True, False):
        if not ffmpeg:
            _without_ffmpeg(monkeypatch)
        for source, message in cases:
            with pytest.raises(AudioError, match=message) as caught:
                read_audio(source)  # type: ignore[arg-type]
            assert "\n" not in str(caught.value)
    with pytest.raises(AudioError, match="mode 'rb'"):
        read_audio(io.StringIO("text"))  # type: ignore[arg-type]


def test_streamed_headers_are_welcome(tmp_path: Path) -> None:
    data = bytearray(write_audio(tmp_path / "a.wav", _sweep(1.0, 8000), 8000).read_bytes())
    for size in (0xFFFFFFFF, 0x7FFFF000):  # what programs write when they cannot seek back
        data[40:44] = size.to_bytes(4, "little")
        assert read_audio(bytes(data))[0].size == 8000


def test_spans_and_lengths_are_checked_before_loading(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", _sweep(2.0, 8000), 8000)
    with pytest.raises(AudioError, match="too long: 2 s, at most 1 s"):
        read_audio(path, max_seconds=1.0)
    assert read_audio(path, start_s=1.5, max_seconds=1.0)[0].size == 4000
    assert read_audio(path, end_s=0.5, max_seconds=1.0)[0].size == 4000
    assert read_audio(path, end_s=99.0, max_seconds=None)[0].size == 16000
    with pytest.raises(AudioError, match="ends before 2 s"):
        read_audio(path, start_s=2.0)
    for start, end in ((-1.0, None), (1.0, 1.0), (2.0, 1.0), (float("nan"), None)):
        with pytest.raises(AudioError, match="0 <= start_s < end_s"):
            read_audio(path, start_s=start, end_s=end)
    for block_s, overlap_s in ((0.0, 0.0), (1.0, 1.0), (1.0, -0.5)):
        with pytest.raises(AudioError, match="overlap_s < block_s"):
            next(blocks(path, block_s, overlap_s))


@needs_ffmpeg
@pytest.mark.parametrize("suffix", [".m4a", ".webm"])
def test_other_containers_through_ffmpeg(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wave, path = _sweep(2.0, 48000), tmp_path / f"a{suffix}"
    write_audio(tmp_path / "a.wav", wave, 48000)
    command = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "a.wav"), str(path)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip(f"this ffmpeg cannot write {suffix}")
    back, rate = read_audio(path)
    assert rate == 48000 and abs(back.size - wave.size) < 4800
    for source in (path.read_bytes(), io.BytesIO(path.read_bytes())):
        np.testing.assert_array_equal(read_audio(source)[0], back)
    np.testing.assert_array_equal(read_audio(path, start_s=0.5, end_s=1.25)[0], back[24000:60000])
    np.testing.assert_array_equal(np.concatenate([b.waveform for b in blocks(path, 0.7)]), back)
    assert audio_info(path).duration_s == pytest.approx(2.0, abs=0.1)
    with pytest.raises(AudioError, match="too long"):
        read_audio(path, max_seconds=1.0)
    _without_ffmpeg(monkeypatch)
    with pytest.raises(MissingExtraError, match="needs the ffmpeg program"):
        read_audio(path)


@needs_ffmpeg
def test_a_file_without_sound_and_a_truncated_one(tmp_path: Path) -> None:
    silent, cut = tmp_path / "silent.mp4", tmp_path / "cut.m4a"
    make = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i"]
    subprocess.run([*make, "color=size=32x32:d=1", str(silent)], check=True)
    with pytest.raises(AudioError, match="no sound track"):
        read_audio(silent)
    subprocess.run([*make, "sine=d=2", str(cut)], check=True)
    cut.write_bytes(cut.read_bytes()[:-2000])
    with pytest.raises(AudioError, match=r"cut\.m4a"):
        read_audio(cut)
