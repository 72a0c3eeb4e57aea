"""Invented dialogues in every published form, with short recordings."""

# ruff: noqa: RUF001  (Chinese punctuation is meant)

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from vivavoce.audio.files import write_audio

ORDER = "请说说用户的心情。"
ZH = [
    ("阳台上的番茄今天红了三个！[笑声]", "happy", "自己种的番茄最甜了。"),
    ("刚才一阵大风把花架吹倒了，吓我一跳。", "fear", "人没事就好，花盆碎了吗？"),
    ("全碎了，养了一年的兰花也断了。[叹息声]", "sad", "养了一年，真可惜。"),
    ("邻居居然说是我自己没放稳，真气人。", "anger", "被冤枉的滋味不好受。"),
    ("聊到现在，我的心情是怎么变的？", "neutral", "你先为番茄开心，后来被大风吓到、为兰花难过，现在平静了。"),
]
EN = [
    ("My kite got stuck on the church roof, of all places. [sigh]", "sad", "Oh no, your new kite?"),
    ("Wait, a jackdaw just pulled it down for me! [laughter]", "surprise", "What a helpful bird."),
    ("It dropped half a mouse on it, though.", "disgust", "Maybe it wanted to trade."),
    ("How did my mood change while we talked?", "neutral", "You were sad, then surprised, then disgusted."),
]


def some(lines: list[tuple[str, str, str]], turns: int) -> list[tuple[str, str, str]]:
    """A dialogue of so many turns: the first ones, and the question."""
    return [*(lines[i % (len(lines) - 1)] for i in range(turns - 1)), lines[-1]]


def as_turns(identity: str, lines: list[tuple[str, str, str]], folder: str = "task1_3") -> dict[str, Any]:
    """The challenge's form."""
    turns = [
        {
            "turn_id": i,
            "text": text,
            "emotion": emotion,
            "split_audio_file": f"{folder}/{identity}_{i}.wav",
            "response_txt": reply,
        }
        for i, (text, emotion, reply) in enumerate(lines, 1)
    ]
    return {"dialogue_id": identity, "turns": turns}


def as_lines(identity: str, lines: list[tuple[str, str, str]], folder: str = "task1_3") -> dict[str, Any]:
    """The fine-tune's form."""
    said = [line for text, _, reply in lines for line in (text, reply)]
    return {
        "dialogue_id": identity,
        "task": "task1_emotional_trajectory",
        "input_text": "\n".join([*said[:-1], ORDER]),
        "target_text": said[-1],
        "emotion_sequence": [emotion for _, emotion, _ in lines],
        "audio_files": [f"{folder}/{identity}_{i}.wav" for i in range(1, len(lines) + 1)],
    }


def as_numbered(identity: str, lines: list[tuple[str, str, str]], folder: str = "task1_3") -> dict[str, Any]:
    """The form of the fine-tune's converter."""
    said = []
    for i, (text, _, reply) in enumerate(lines, 1):
        said.append(f'第{i}轮 用户说: "{text}"')
        if i < len(lines):
            said.append(f'第{i}轮 模型回: "{reply}"')
    row = as_lines(identity, lines, folder)
    del row["emotion_sequence"]
    return row | {"input_text": "\n".join(["对话：", *said, "", ORDER])}


FORMS = {"turns": as_turns, "lines": as_lines, "numbered": as_numbered}


def write_lines(path: Path, rows: list[Any]) -> Path:
    """JSON lines; a row that is a string is written as it is."""
    text = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    return path


def write_list(path: Path, rows: Any) -> Path:
    """A JSON list, or any value, over several lines."""
    path.write_text(json.dumps(rows, ensure_ascii=False, indent=2), encoding="utf-8")
    return path


def record(root: Path, row: dict[str, Any], seconds: float = 0.2, rate: int = 16_000) -> list[np.ndarray]:
    """Write a noise for every recording that a row names; returns what the files hold."""
    names = row.get("audio_files") or [turn["split_audio_file"] for turn in row["turns"]]
    rng = np.random.default_rng(len(names))
    waves = []
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        wave = np.rint(rng.uniform(-9000, 9000, round(seconds * rate) + 16 * i)) / 32768
        write_audio(root / name, wave.astype(np.float32), rate)
        waves.append(wave.astype(np.float32))
    return waves
