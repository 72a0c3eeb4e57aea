"""A whole run that trains a codec: recordings, codec, training, and what is left in its folder.

| in the folder | what |
|---|---|
| `config.json` | the resolved recipe and versions |
| `data/` | speech and codes made for the run |
| `checkpoints/` | what the run goes on from |
| `metrics.jsonl` | numbers, as they came |
| `samples/step-*/` | recordings, what the codec made of them, spectrograms |
| `model/` | the codec, for `load_codec` and every command that takes one |
"""

from __future__ import annotations

import json
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

import vivavoce
from vivavoce.base.errors import ConfigError
from vivavoce.base.records import write_record
from vivavoce.base.whole_files import write_whole
from vivavoce.codecs.contract import Codec
from vivavoce.codecs.loading import load_codec
from vivavoce.codecs.training.building import build_trained
from vivavoce.codecs.training.crops import crop_frames
from vivavoce.codecs.training.spectral import MelDistance
from vivavoce.training.codec.batches import Batches, StoredCodes
from vivavoce.training.codec.config import CodecTrainConfig
from vivavoce.training.codec.loop import CodecTrainer, Players, kept_codec
from vivavoce.training.codec.pictures import MOST_S, write_codec_samples
from vivavoce.training.codec.recordings import Recordings, gather_recordings, readable
from vivavoce.training.metrics_log import check_trackers
from vivavoce.training.schedules import build_schedule
from vivavoce.training.updates import Progress, deciding, writing_results
from vivavoce.training.world import World

Echo = Callable[[str], None]


@dataclass
class CodecRun:
    """A run that is ready to train.

    Attributes:
        config, folder, world: Of the run.
        players: On the device.
        recordings, held_out: To learn from and to measure on.
        batches: Crops.
    """

    config: CodecTrainConfig
    folder: Path
    world: World
    players: Players
    recordings: Recordings
    held_out: Recordings | None
    batches: Batches


def prepare_codec(
    config: CodecTrainConfig, folder: Path, world: World, echo: Echo = lambda line: None
) -> CodecRun:
    """Make codec and data of a run, and refuse what cannot train.

    Raises:
        VivavoceError: Settings, codec or recordings that do not go together; nothing was trained then.
    """
    build_schedule(config.schedule, config.steps)
    check_trackers(config.keep.trackers)
    fault = world.gather(_claim(config, folder) if world.is_first else "")[0]
    if fault:
        raise ConfigError(fault)
    model = config.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        trained = build_trained(model.type, model.start, model.base, model.settings, config.codebooks)
        trained.choose(model.train)
        players = Players(trained, config).to(world.device)
    rate = trained.codec.spec.sample_rate
    recordings, held_out = gather_recordings(config.data, folder, config.seed, rate, world, echo)
    codes = None
    if model.train == "decoder":
        assert model.start is not None
        maker = load_codec(model.start).to(world.device)
        codes = StoredCodes(maker, folder / "data" / "codes", recordings)
    batches = Batches(config, recordings, trained.codec, world, codes)
    return CodecRun(config, folder, world, players, recordings, held_out, batches)


def train_codec(
    config: CodecTrainConfig,
    folder: Path,
    world: World | None = None,
    report: Callable[[Progress], None] | None = None,
    echo: Echo = lambda line: None,
) -> dict[str, Any]:
    """Train a codec, or go on with it; the same call after any stop ends with the same weights.

    Args:
        config: The recipe.
        folder: Of the run.
        world: Of ranks; by default what the launcher says.
        report: Told how far the run is.
        echo: Told what is done before and after, line by line.

    Returns:
        The last metrics, with ``step``, ``steps``, ``rows`` (the data, in a sentence) and, at the end, ``model``.

    Raises:
        VivavoceError: What is wrong with recipe, codec or recordings.
    """
    world = world or World.from_environment()
    run = prepare_codec(config, folder, world, echo)
    if world.is_first:
        _write_config(run)
    shown = run.held_out or run.recordings
    keep = config.keep
    if keep.sample_every >= 0 and world.is_first and find_spec("matplotlib") is None:
        echo(
            "warning: no spectrogram pictures, since matplotlib is not installed (pip install 'vivavoce[plots]')."
        )

    def measure(step: int) -> Mapping[str, Any]:
        found = world.gather(held_out_mel(run, shown) if world.is_first else 0.0)[0]
        return {f"{'held_out' if run.held_out else 'learned'}/mel": found}

    def sample(step: int) -> None:
        if world.is_first:
            codec = kept_codec(run.players).eval()
            write_codec_samples(folder, codec, shown, keep.sample_rows, step, config.data.min_s)
        world.barrier()

    trainer = CodecTrainer(
        config,
        folder,
        run.players,
        run.batches,
        world,
        measure,
        sample if keep.sample_every > 0 else None,
        report,
        echo,
    )
    values = dict(trainer.run())
    told = f"{len(run.recordings):,} recordings, {values.get('audio_s', 0) / 3600:.2f} h of crops learned"
    values |= {"step": trainer.step, "steps": config.steps, "rows": [told]}
    if trainer.stopped:
        return values
    place = folder / "model"
    with writing_results(folder):
        if world.is_first:
            if keep.sample_every >= 0:
                sample_codec = kept_codec(run.players).eval()
                write_codec_samples(
                    folder, sample_codec, shown, keep.sample_rows, config.steps, config.data.min_s
                )
            save_codec(run, place)
            echo(f"codec: {place}")
    world.barrier()
    return values | {"model": str(place)}


def save_codec(run: CodecRun, place: Path) -> None:
    """Write the codec as a folder that ``load_codec`` and every command take."""
    part = place.with_name(f".{place.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    run.players.codec.save(part, kept_codec(run.players))
    shutil.rmtree(place, ignore_errors=True)
    part.rename(place)


@torch.no_grad()
def held_out_mel(run: CodecRun, recordings: Recordings) -> float:
    """Mel distance of the codec as it would be kept, on the first recordings, up to 10 s of each; nan without any."""
    codec: Codec = kept_codec(run.players).eval()
    losses, rate = run.config.losses, codec.spec.sample_rate
    distance = MelDistance(rate, losses.mel_windows, losses.mel_bands, losses.mel_floor).to(run.world.device)
    found = []
    for number in range(min(run.config.keep.measure_rows, len(recordings))):
        waveform = readable(recordings, number, run.config.data.min_s)
        if waveform is not None and len(waveform) > max(losses.mel_windows):
            real = torch.from_numpy(waveform[: round(MOST_S * rate)].copy())[None, None].to(run.world.device)
            found.append(float(distance(codec.decode(codec.encode(real)), real)))
    return sum(found) / len(found) if found else float("nan")


def plan_codec(
    config: CodecTrainConfig, folder: Path, world: World, echo: Echo = lambda line: None
) -> dict[str, Any]:
    """Look at a run without training it: sizes, data, and the time of an update that is made and forgotten.

    Raises:
        VivavoceError: What speaks against the run.
    """
    run = prepare_codec(config, folder, world, echo)
    settings = config.discriminators
    now = settings if settings is None else replace(settings, from_step=0)
    trainer = CodecTrainer(replace(config, discriminators=now), folder, run.players, run.batches, world)
    spec = run.players.codec.codec.spec
    batch = run.batches.draw(0)
    trainer.learn(batch)
    begun = time.perf_counter()
    trainer.learn(batch)
    seconds = time.perf_counter() - begun
    with FlopCounterMode(display=False) as counter:
        trainer.learn(batch)
    judges = run.players.discriminators
    return {
        "codec": sum(p.numel() for p in run.players.codec.codec.parameters()),
        "trained": sum(p.numel() for p in run.players.codec.parameters() if p.requires_grad),
        "discriminators": 0 if judges is None else sum(p.numel() for p in judges.parameters()),
        "recordings": len(run.recordings),
        "crop_s": [
            crop_frames(config.crops.seconds, int(at), spec) * spec.frame_samples / spec.sample_rate
            for at, _ in config.crops.seconds
        ],
        "update_flop": float(counter.get_total_flops()) * world.size,
        "update_s": seconds,
        "run_s": seconds * config.steps,
    }


def _claim(config: CodecTrainConfig, folder: Path) -> str:
    """Say why this recipe may not go on in a folder, "" if it may."""
    path = folder / "config.json"
    if not path.exists() or not any((folder / "checkpoints").glob("step-*")):
        return ""
    try:
        before = json.loads(path.read_text(encoding="utf-8"))["recipe"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{path} cannot be read ({error}); choose another out, or remove the folder."
    ours, theirs = deciding(write_record(config)), deciding(before)
    changed = sorted(k for k in ours.keys() | theirs.keys() if ours.get(k) != theirs.get(k))
    if changed:
        return (
            f"{folder} holds a run of another recipe: {', '.join(changed)} differ; choose another out, or remove the "
            "folder to start again."
        )
    return ""


def _write_config(run: CodecRun) -> None:
    record = {
        "recipe": write_record(run.config),
        "processes": run.world.size,
        "device": str(run.world.device),
        "versions": {
            "vivavoce": vivavoce.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
    run.folder.mkdir(parents=True, exist_ok=True)
    write_whole(run.folder / "config.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
