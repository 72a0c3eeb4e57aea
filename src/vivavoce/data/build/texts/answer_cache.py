"""Answers of models on disk, by the hash of what was asked, for any number of processes and after any kill.

A file is written beside its place and linked into it: it is there whole or not at all, and the first answer stays, so
all who asked the same get the same. A file starts with the hash of its contents; one that was damaged (a power cut
can do that) does not count and is replaced.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import Any

from vivavoce.data.conversation import hash_json

_DIGEST_BYTES = 32


class AnswerCache:
    """Answers of one kind.

    Args:
        folder: Of all caches; None keeps nothing.
        kind: Folder within it ("continuations").
    """

    def __init__(self, folder: Path | None, kind: str) -> None:
        self._folder = None if folder is None else folder / kind

    @staticmethod
    def key(*facts: Any) -> str:
        """Name of an answer: the hash of all that it depends on, as JSON."""
        return hash_json(list(facts))

    def get(self, key: str) -> bytes | None:
        """The answer kept under ``key``, None if there is none."""
        if self._folder is None:
            return None
        try:
            data = self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        digest, answer = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        return answer if hashlib.sha256(answer).digest() == digest else None

    def put(self, key: str, answer: bytes) -> bytes:
        """Keep an answer.

        Returns:
            What is kept: ``answer``, or what another process kept before.

        Raises:
            OSError: It cannot be written.
        """
        if self._folder is None:
            return answer
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
        try:
            with part.open("wb") as file:
                file.write(hashlib.sha256(answer).digest() + answer)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(part, path)
            except FileExistsError:
                earlier = self.get(key)
                if earlier is not None:
                    return earlier
                part.replace(path)
            except OSError:  # a file system without links
                part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return answer

    def _path(self, key: str) -> Path:
        assert self._folder is not None
        return self._folder / key[:2] / key
