"""A new voice for a bundle, from recordings with transcripts.

python recipes/add_voice/add_voice.py DATA --name NAME --out FOLDER
vivavoce say "good morning" --model FOLDER/bundle --voice NAME --out morning.wav

DATA is JSONL, Parquet or a folder of shards in this project's rows (audio parts with a "transcript"), or a folder of
sound files with a .txt of the same name beside each. The same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from voice_rows import prepare, seconds_of
from voice_training import Lesson, Settings, lay_out, replayed

from vivavoce.base.errors import ConfigError, VivavoceError
from vivavoce.base.records import write_record
from vivavoce.inference.aligned import AlignedSpeaker
from vivavoce.models.config import TokensOut
from vivavoce.models.loading import load_speech_lm
from vivavoce.models.processor import SpeechProcessor
from vivavoce.models.voice.tables import with_voice
from vivavoce.models.voice.teaching import Teacher

HELD_SHARE, LEAST_HELD, MOST_HELD = 0.1, 5, 40
REPLAYED_TEXTS = 300
NAME_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789_-"


def check_name(name: str) -> None:
    """Refuse names that a command line or URL would garble."""
    if not name or set(name) - set(NAME_LETTERS):
        raise ConfigError(f"the name is {name!r}; wanted small letters, digits, '-' and '_'.")


def add_to_config(model: Any, processor: Any, voice: Any) -> Any:
    """Put a voice into a model, and name it in the config; returns the processor that knows it."""
    mouth = model.config.audio_out
    assert isinstance(mouth, TokensOut) and mouth.voice is not None
    record = {"type": mouth.voice["type"], **write_record(voice.config)}
    model.voice = voice.eval()
    model.config.audio_out = replace(mouth, speakers=voice.config.voices, voice=record)
    return SpeechProcessor.for_config(processor.tokenizer, model.config, processor.folder)


def kept(folder: Path, what: str, made_from: dict[str, Any]) -> Path:
    """Where something that is made of ``made_from`` is kept for later runs."""
    key = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:12]
    return folder / f"{what}-{key}.pt"


def rows_of(args: argparse.Namespace, model: Any, processor: Any) -> list[dict[str, Any]]:
    """Prepared rows; those of an earlier run with as many minutes are taken again."""
    codec, frame_s = processor.codec_out, model.voice.config.frame_s
    made_from = {"data": str(args.data.resolve()), "seed": args.seed, "codec": codec.spec.weights}
    path = kept(args.rows or args.out, "rows", made_from)
    stored = torch.load(path, weights_only=True) if path.is_file() else {"minutes": 0.0, "rows": []}
    wanted = float("inf") if args.minutes is None else args.minutes
    if stored["minutes"] < wanted:
        rows, aside = prepare(args.data, codec, model.voice.config.slot_levels, args.minutes, args.seed)
        stored = {"minutes": wanted, "rows": rows}
        torch.save(stored, path)
        print(f"{len(rows)} recordings; put aside: {dict(aside) or 'none'}", flush=True)
    return first_minutes(stored["rows"], wanted, frame_s)


def first_minutes(rows: list[dict[str, Any]], minutes: float, frame_s: float) -> list[dict[str, Any]]:
    """Rows until there are so many minutes."""
    total_s = 0.0
    for number, row in enumerate(rows):
        total_s += seconds_of(row, frame_s)
        if total_s >= minutes * 60:
            return rows[: number + 1]
    return rows


def old_rows(args: argparse.Namespace, model: Any, processor: Any, texts: list[str]) -> list[dict[str, Any]]:
    """Rows of the old voices: of a file of prepare_voice.py, or what the model says."""
    if args.old is not None:
        items = [i for i in torch.load(args.old, weights_only=True)["items"] if i["split"] == "voice"]
        return random.Random(args.seed).sample(items, min(len(items), args.replay))
    made_from = {"bundle": str(args.bundle), "texts": texts, "count": args.replay, "seed": args.seed}
    path = kept(args.rows or args.out, "replay", made_from)
    if not path.is_file():
        lexicons = processor.lexicons
        speaker = AlignedSpeaker(model, processor.tokenizer, processor.codec_out, lexicons=lexicons)
        torch.save(replayed(speaker, texts, args.replay, args.seed), path)
    return torch.load(path, weights_only=True)


def teach(args: argparse.Namespace) -> Path:
    """The whole recipe; returns the folder of the new bundle."""
    check_name(args.name)
    args.out.mkdir(parents=True, exist_ok=True)
    model, processor = load_speech_lm(args.bundle, device="cpu")
    if getattr(model.voice, "config", None) is None or model.voice.config.alignment != "phone":
        raise ConfigError(f"{args.bundle} has no voice that is told phones; wanted a bundle such as nano.")
    voice = with_voice(model.voice, args.name)
    rows = rows_of(args, model, processor)
    held = min(MOST_HELD, max(LEAST_HELD, round(HELD_SHARE * len(rows))))
    texts = [row["text"] for row in rows[held:]][:REPLAYED_TEXTS]
    names, old = model.voice.config.voices, []
    if args.replay:
        old = old_rows(args, model, processor, texts)
    processor = add_to_config(model, processor, voice)
    teacher, index = Teacher(voice, processor.tokenizer), len(voice.config.voices) - 1
    laid = [lay_out(teacher, row, index) for row in rows]
    lexicons = processor.lexicons
    said_by = [(row, row.get("voice", names[0])) for row in old]
    heard = [lay_out(teacher, row, names.index(name), lexicons.get(name)) for row, name in said_by]
    minutes = sum(seconds_of(r, voice.config.frame_s) for r in rows[held:]) / 60
    print(f"{len(rows) - held} to learn ({minutes:.1f} min), {held} kept aside, {len(old)} of old voices")
    settings = Settings(
        steps=args.steps, batch=args.batch, learning_rate=args.learning_rate, least_gain=args.least_gain,
        patience=args.patience, learns=args.learns, seed=args.seed, evaluate_every=args.evaluate_every,
    )  # fmt: skip
    lesson = Lesson(model, processor.tokenizer, laid[held:], laid[:held], heard, settings, args.out)
    lesson.run()
    bundle = args.out / "bundle"
    model.to(getattr(torch, str(args.dtype))).save_pretrained(bundle)
    if (card := Path(processor.folder) / "README.md").exists():  # what it was trained on, and the licence
        shutil.copy(card, bundle)
    processor.save_pretrained(bundle)
    print(f"{bundle} speaks as {', '.join(voice.config.voices)}")
    return bundle


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--rows", type=Path, help="folder for what is prepared, to share between runs; default --out"
    )
    parser.add_argument("--bundle", default="nano", help="the model that gets the voice")
    parser.add_argument("--minutes", type=float, help="learn from so many minutes only")
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--batch", type=int, default=Settings.batch)
    parser.add_argument("--learning-rate", type=float, default=Settings.learning_rate)
    parser.add_argument("--learns", choices=["voice", "row"], default=Settings.learns)
    parser.add_argument(
        "--replay", type=int, default=120, help="utterances of old voices to mix in; 0 lets them fade"
    )
    parser.add_argument("--old", type=Path, help="their data, a file of prepare_voice.py, if it is there")
    parser.add_argument("--evaluate-every", type=int, default=Settings.evaluate_every)
    parser.add_argument("--least-gain", type=float, default=Settings.least_gain)
    parser.add_argument("--patience", type=int, default=Settings.patience)
    parser.add_argument("--dtype", choices=["float16", "float32"], default="float16", help="of what is saved")
    parser.add_argument("--seed", type=int, default=0)
    torch.set_num_threads(1)
    try:
        teach(parser.parse_args())
    except VivavoceError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
