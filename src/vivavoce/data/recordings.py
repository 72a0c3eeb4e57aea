"""The recordings that rows name: from paths, archives, data URIs and bytes, to bytes and waveforms.

Letters: S samples.
"""

from __future__ import annotations

import base64
import binascii
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vivavoce.audio.files import flac_bytes, read_audio
from vivavoce.base.errors import AudioError
from vivavoce.data.conversation import Audio, Conversation

ARCHIVE = "::"


def source_of(part: Audio, conversation: Conversation) -> Any:
    """What an audio part names, looked up in the row's ``audios`` if it is an index."""
    return conversation.audios[part.audio] if isinstance(part.audio, int) else part.audio


def read_bytes(source: Any, root: Path | None = None) -> bytes:
    """The bytes of a recording's file.

    Args:
        source: A path, ``archive.tar::member``, a data URI, or ``{"path", "bytes"}``.
        root: Where relative paths start.

    Raises:
        AudioError: There is no such file or member, or nothing is named.
    """
    if isinstance(source, Mapping):
        if source.get("bytes") is not None:
            return bytes(source["bytes"])
        source = source.get("path")
    if not isinstance(source, str) or not source:
        raise AudioError(f"the recording is {source!r}; wanted a path, bytes or a data URI.")
    if source.startswith("data:"):
        try:
            return base64.b64decode(source.partition(",")[2], validate=True)
        except (binascii.Error, ValueError) as error:
            raise AudioError(f"the data URI of a recording is not base64 ({error}).") from error
    if source.startswith(("http://", "https://")):
        raise AudioError(f"{source} is an address on the network; download it and name the file.")
    archive, _, member = source.partition(ARCHIVE)
    path = Path(archive) if root is None else root / archive
    try:
        if not member:
            return path.read_bytes()
        with tarfile.open(path) as tar:
            found = tar.extractfile(member)
            if found is None:
                raise KeyError(member)
            return found.read()
    except (OSError, tarfile.TarError, KeyError) as error:
        raise AudioError(f"cannot read the recording {source}: {error}") from error


def read_waveform(
    part: Audio, conversation: Conversation, sample_rate: int | None = None, root: Path | None = None
) -> tuple[np.ndarray, int]:
    """The part of a recording that counts, mono.

    Args:
        part: Of ``conversation``.
        conversation: Whose ``audios`` it may name.
        sample_rate: Wanted rate, Hz; None keeps the file's.
        root: Where relative paths start.

    Returns:
        float32 [S] and its rate.

    Raises:
        AudioError: It cannot be read.
    """
    data = read_bytes(source_of(part, conversation), root)
    return read_audio(io.BytesIO(data), sample_rate, part.start_s, part.end_s)


def encode_flac(waveform: np.ndarray, sample_rate: int) -> bytes:
    """A waveform [S] within -1 and 1 as the bytes of a 16-bit FLAC file; the same bytes for the same samples."""
    return flac_bytes(waveform, sample_rate)


def hoist(conversation: Conversation, root: Path | None = None, embed: bool = True) -> Conversation:
    """Put the row's recordings into its ``audios``, each once, and let parts name them by index.

    Args:
        conversation: Changed in place and returned.
        root: Where relative paths start.
        embed: Read files into the row; else keep their paths.

    Raises:
        AudioError: A recording cannot be read.
    """
    made: list[Any] = []
    index: dict[Any, int] = {}
    for part in conversation.audio_parts():
        if part.audio is None:
            continue
        source = source_of(part, conversation)
        path = source.get("path") if isinstance(source, Mapping) else source
        path = None if isinstance(path, str) and path.startswith("data:") else path
        data = read_bytes(source, root) if embed or path is None else None
        key = data if data is not None else path
        if key not in index:
            index[key] = len(made)
            if data is not None and path is not None:
                path = path.rpartition("/")[2]  # where it was is nobody's business once it is inside
            made.append({k: v for k, v in (("bytes", data), ("path", path)) if v is not None})
        part.audio = index[key]
    conversation.audios = made
    return conversation
