"""Trains a tiny codec in a process that kills itself at a place: codec_process FOLDER KIND PLACE."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from tests.training.codec.codec_cases import codec_config

from vivavoce.training import checkpoints
from vivavoce.training.codec import loop
from vivavoce.training.codec.run import train_codec


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(folder: Path, kind: str, place: str) -> None:
    torch.set_num_threads(1)
    what, _, step = place.partition("-")
    config = codec_config(folder.parent / "tones", kind)
    learn, write = loop.CodecTrainer.learn, checkpoints._finish

    def learn_and_die(self: Any, batch: Any) -> None:
        learn(self, batch)
        if self.step == int(step):
            die()

    def die_while_writing(part: Path, final: Path, manifest: Any) -> None:
        if manifest["step"] == int(step):
            die()
        write(part, final, manifest)

    if what == "update":
        loop.CodecTrainer.learn = learn_and_die  # type: ignore[method-assign]
    if what == "writing":
        checkpoints._finish = die_while_writing
    train_codec(config, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
