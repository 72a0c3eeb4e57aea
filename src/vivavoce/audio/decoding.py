"""Open any recording and hand out its samples block by block, mono, at its own rate.

libsndfile reads WAV, RF64, W64, AIFF, AU, CAF, NIST, FLAC, Ogg (Vorbis, Opus) and MP3. Everything else (M4A,
WebM, WMA, AMR, video files) goes through the ``ffmpeg`` program when there is one. Nothing here loads a whole
file.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vivavoce.audio.resample import HIGHEST_HZ, LOWEST_HZ
from vivavoce.base.errors import AudioError, MissingExtraError

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO

BLOCK_SAMPLES = 1 << 17
MOST_BYTES = 2 << 30
PROBE_TIMEOUT_S = 60.0
LOCAL_ONLY = ["-protocol_whitelist", "file,pipe"]  # a playlist inside a file must not reach the network


class Recording(ABC):
    """An opened recording.

    Attributes:
        name: The path, or a few words for what has none; for messages.
        sample_rate: Hz.
        num_channels: Channels in the file.
        num_samples: Samples per channel, None when only decoding would tell.
        duration_s: Seconds, exact where ``num_samples`` is known, the container's claim elsewhere, None
            without one.
        container: "WAV", "FLAC", "OGG", "MP3", ..., or ffmpeg's name for it.
        encoding: "PCM_16", "VORBIS", ..., or ffmpeg's name of the audio codec.
    """

    name: str
    sample_rate: int
    num_channels: int
    num_samples: int | None
    duration_s: float | None
    container: str
    encoding: str

    @abstractmethod
    def mono(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Yield samples ``[start, stop)`` as float32 blocks ``[<= BLOCK_SAMPLES]``, the mean over channels.

        Raises:
            AudioError: The data are damaged, end before the header says so, or hold NaN or infinity.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""

    def _checked(self, block: np.ndarray) -> np.ndarray:
        mean = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)
        if not np.isfinite(mean).all():
            raise AudioError(f"{self.name} holds NaN or infinite samples; repair or re-export the recording.")
        return np.ascontiguousarray(mean, dtype=np.float32)

    def check_header(self) -> None:
        """Refuse a sample rate nobody records at, and a file without samples."""
        if not LOWEST_HZ <= self.sample_rate <= HIGHEST_HZ:
            raise AudioError(
                f"{self.name} says {self.sample_rate} Hz; wanted {LOWEST_HZ} to {HIGHEST_HZ} Hz."
            )
        if self.num_samples == 0:
            raise AudioError(f"{self.name} has no samples; wanted a recording of more than 0 s.")


@contextmanager
def open_recording(source: Source) -> Iterator[Recording]:
    """Open a path, the bytes of a file, or a binary file object (read from its beginning, up to 2 GiB).

    Raises:
        AudioError: Missing, empty, damaged, without samples, or not a recording.
        MissingExtraError: The container needs the ffmpeg program, which is not installed.
    """
    with ExitStack() as stack:
        where, name = _locate(source)
        head = _peek(where, name)
        if not head:
            raise AudioError(f"{name} is empty (0 bytes); wanted {_readable()}.")
        recording: Recording | None = None
        complaint = "its first bytes are not those of a recording"
        if _libsndfile_knows(head):
            try:
                recording = _SoundFileRecording(where, name)
            except _NotDecodableError as error:
                complaint = str(error) or "its header is damaged"
        if recording is None:
            program, prober = _ffmpeg(name, head, complaint)
            if not isinstance(where, Path):
                copy = stack.enter_context(tempfile.NamedTemporaryFile(prefix="vivavoce-"))
                shutil.copyfileobj(where, copy)
                copy.flush()
                where = Path(copy.name)
            recording = _probe(where, name, program, prober, complaint)
        stack.callback(recording.close)
        recording.check_header()
        yield recording


class _NotDecodableError(Exception):
    """libsndfile cannot open this; ffmpeg may."""


class _SoundFileRecording(Recording):
    def __init__(self, where: Path | io.BytesIO, name: str) -> None:
        import soundfile

        self.name = name
        try:
            self._file = soundfile.SoundFile(str(where) if isinstance(where, Path) else where)
        except (soundfile.LibsndfileError, TypeError) as error:
            text = getattr(error, "error_string", str(error))
            raise _NotDecodableError(str(text).strip().rstrip(".")) from error
        self.sample_rate, self.num_channels = self._file.samplerate, self._file.channels
        self.container, self.encoding = self._file.format, self._file.subtype
        frames = self._file.frames
        unknown = frames < 0 or frames >= 1 << 62  # a FLAC written to a pipe carries no length
        if unknown:
            self._file.seekable = lambda: (
                False
            )  # else soundfile seeks after each block, which libsndfile cannot do here
        self.num_samples = None if unknown else frames
        self.duration_s = None if unknown else frames / self.sample_rate
        cut = re.search(
            r"^\s*(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)", self._file.extra_info, re.M
        )
        if (
            cut and int(cut[2]) < int(cut[1]) < 0x7FFF0000
        ):  # larger sizes are the placeholders of streamed files
            raise AudioError(
                f"{name} is cut off: it holds {cut[2]} of {cut[1]} bytes of sound. Copy it again."
            )

    def mono(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        import soundfile

        # libsndfile's seeks into MP3 and Vorbis can land on the wrong sample, and it has none into FLAC of unknown
        # length, so those are decoded and dropped.
        exact = self.encoding != "VORBIS" and self.container != "MP3" and self.num_samples is not None
        promised = self.num_samples if exact else None
        end = 1 << 62 if stop is None else stop
        try:
            position = start if exact else 0
            if self._file.tell() != position:
                self._file.seek(position)
            while position < end:
                block = self._file.read(min(BLOCK_SAMPLES, end - position), dtype="float32", always_2d=True)
                if not len(block):
                    break
                position += len(block)
                if position > start:
                    yield self._checked(block[max(0, start - (position - len(block))) :])
        except soundfile.LibsndfileError as error:
            raise AudioError(
                f"{self.name} is damaged: {error.error_string.strip() or error} Copy it again."
            ) from error
        if promised is not None and position < min(end, promised):
            raise AudioError(f"{self.name} is cut off: only {position} of {promised} samples are there.")

    def close(self) -> None:
        self._file.close()


class _FfmpegRecording(Recording):
    def __init__(
        self, path: Path, name: str, program: str, stream: dict[str, str], form: dict[str, str]
    ) -> None:
        self.name, self._path, self._program = name, path, program
        self.sample_rate, self.num_channels = (
            int(stream.get("sample_rate", 0)),
            int(stream.get("channels", 0)),
        )
        self.container, self.encoding = (
            form.get("format_name", "unknown"),
            stream.get("codec_name", "unknown"),
        )
        claim = stream.get("duration") or form.get("duration")
        self.num_samples, self.duration_s = None, float(claim) if claim and claim != "N/A" else None

    def close(self) -> None:
        pass  # each decoding run closes its own process

    def mono(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        command = [self._program, "-nostdin", "-v", "error", *LOCAL_ONLY, "-i", f"file:{self._path}"]
        command += [
            "-map",
            "0:a:0",
            "-vn",
            "-f",
            "f32le",
            "-ac",
            str(self.num_channels),
            "-ar",
            str(self.sample_rate),
        ]
        with tempfile.TemporaryFile() as complaints:
            process = subprocess.Popen([*command, "pipe:1"], stdout=subprocess.PIPE, stderr=complaints)
            assert process.stdout is not None
            width, position = 4 * self.num_channels, 0
            try:
                while stop is None or position < stop:
                    wanted = BLOCK_SAMPLES if stop is None else min(BLOCK_SAMPLES, stop - position)
                    data = process.stdout.read(wanted * width)
                    block = np.frombuffer(data[: len(data) - len(data) % width], dtype="<f4")
                    if not block.size:
                        break
                    block = block.reshape(-1, self.num_channels)
                    position += len(block)
                    if position > start:
                        yield self._checked(block[max(0, start - (position - len(block))) :])
                else:
                    return
                if process.wait() != 0:
                    complaints.seek(0)
                    said = complaints.read(400).decode(errors="replace").strip().splitlines()
                    raise AudioError(
                        f"{self.name} cannot be decoded: {said[-1] if said else 'ffmpeg failed'}."
                    )
            finally:
                process.kill()
                process.stdout.close()
                process.wait()


def _ffmpeg(name: str, head: bytes, complaint: str) -> tuple[str, str]:
    program, prober = shutil.which("ffmpeg"), shutil.which("ffprobe")
    if program is not None and prober is not None:
        return program, prober
    container = _container_for_ffmpeg(head)
    if container:
        raise MissingExtraError(
            f"{name} is {container}, which needs the ffmpeg program; install it, or convert to wav."
        )
    raise AudioError(f"{name} cannot be read as a recording: {complaint}. Wanted {_readable()}.")


def _readable() -> str:
    """What can be opened here; the server hides ffmpeg from uploads unless it is allowed."""
    if shutil.which("ffmpeg") and shutil.which("ffprobe"):
        return "wav, flac, ogg, opus, mp3, aiff, or anything ffmpeg reads"
    return "wav, flac, ogg, opus, mp3 or aiff"


def _probe(path: Path, name: str, program: str, prober: str, complaint: str) -> Recording:
    fields = "stream=sample_rate,channels,codec_name,duration:format=duration,format_name"
    command = [prober, "-v", "error", *LOCAL_ONLY, "-select_streams", "a:0", "-show_entries", fields]
    command += ["-of", "json", f"file:{path}"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=PROBE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise AudioError(f"{name} could not be examined within {PROBE_TIMEOUT_S:.0f} s.") from None
    found = json.loads(done.stdout or b"{}") if done.returncode == 0 else {}
    streams = found.get("streams") or []
    if not streams or not int(streams[0].get("channels", 0)):
        reason = "it has no sound track" if found.get("format") else complaint
        raise AudioError(f"{name} cannot be read as a recording: {reason}. Wanted {_readable()}.")
    return _FfmpegRecording(path, name, program, streams[0], found.get("format", {}))


def _locate(source: Source) -> tuple[Path | io.BytesIO, str]:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return io.BytesIO(source), f"the recording of {len(source)} bytes"
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        try:
            if path.is_file():
                return path, str(path)
            if path.is_dir():
                raise AudioError(f"{path} is a folder; wanted a recording ({_readable()}).")
            if not path.exists():
                raise AudioError(f"{path} does not exist; check the path.")
            with path.open("rb") as pipe:  # a named pipe or a device such as /dev/stdin
                return _in_memory(pipe, str(path))
        except (OSError, ValueError) as error:
            raise AudioError(f"{str(path)!r} cannot be opened: {error}.") from error
    return _in_memory(source, str(getattr(source, "name", "the recording")))


def _in_memory(file: BinaryIO, name: str) -> tuple[io.BytesIO, str]:
    if file.seekable():
        file.seek(0)
    data = file.read(MOST_BYTES + 1)
    if not isinstance(data, bytes):
        raise AudioError(f"{name} is open as text; open it with mode 'rb'.")
    if len(data) > MOST_BYTES:
        raise AudioError(f"{name} has over {MOST_BYTES >> 30} GiB; save it to a file and give its path.")
    return io.BytesIO(data), name


def _peek(where: Path | io.BytesIO, name: str) -> bytes:
    if isinstance(where, io.BytesIO):
        return bytes(where.getbuffer()[:64])
    try:
        with where.open("rb") as file:
            return file.read(64)
    except OSError as error:
        raise AudioError(f"{name} cannot be opened: {error.strerror}.") from error


def _libsndfile_knows(head: bytes) -> bool:
    """Look at the first bytes, because libsndfile's MP3 reader writes to stderr about whatever is not one."""
    starts = (
        b"RIFF",
        b"RIFX",
        b"RF64",
        b"riff",
        b"FORM",
        b"caff",
        b".snd",
        b"dns.",
        b"NIST",
        b"fLaC",
        b"OggS",
    )
    mpeg = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 0x06 != 0
    return head.startswith((*starts, b"Creative Voice", b"ID3")) or mpeg


def _container_for_ffmpeg(head: bytes) -> str:
    """Name a container that only ffmpeg reads, or return ""."""
    if head[4:8] == b"ftyp":
        return "an MP4 or M4A file"
    starts = {
        b"\x1a\x45\xdf\xa3": "a WebM or Matroska file",
        b"#!AMR": "an AMR file",
        b"\x30\x26\xb2\x75": "a WMA file",
        b"FLV": "a Flash video",
        b"\xff\xf1": "an AAC file",
        b"\xff\xf9": "an AAC file",
    }
    return next((name for start, name in starts.items() if head.startswith(start)), "")
