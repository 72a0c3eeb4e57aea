"""How many recordings a second become tokens: the builder `tokenize` against one file at a time.

The baseline is the function that published EnCodec tokens were made with: load the model, read one file, resample it,
run transformers' EncodecModel on it alone, put both codebooks in turn. Beside it the same function with its model kept,
once as it is (PyTorch's threads on both cores) and once in one process per core. Ours is the builder as
`vivavoce data build` runs it: one process per core, whole blocks of rows. Same model (real size, random weights scaled
so that every layer's output has unit variance), same files (1 to 10 s at 24 kHz, FLAC). Starting, and first calls, are
not counted; all take turns, and the best turn counts. All give the same codes, which is checked.

    python benchmarks/tokenize.py [--json] [--clips 64] [--repeats 3] [--codec FOLDER]
"""

from __future__ import annotations

import sys

if __name__ == "tokenize":
    # A program in this folder wants the standard library's `tokenize` (inspect, linecache) and finds this file, since
    # its own folder comes first: give it the one it wants. `import tokenize` then means that everywhere.
    import os
    from importlib.machinery import SourceFileLoader
    from importlib.util import module_from_spec, spec_from_loader

    path = os.path.join(os.path.dirname(os.__file__), "tokenize.py")  # noqa: PTH118, PTH120  (pathlib may ask too)
    loader = SourceFileLoader("tokenize", path)
    sys.modules["tokenize"] = module_from_spec(spec_from_loader("tokenize", loader))
    loader.exec_module(sys.modules["tokenize"])
else:
    import argparse
    import json
    import multiprocessing
    import os
    import tempfile
    import time
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Any

    import numpy as np

    from vivavoce.data.conversation import Audio, Conversation, Message

CORES = 2
BLOCK = 32
BANDWIDTH = 1.5  # kbit/s: two codebooks
RATE = 24_000
AIM = 2.0
PUBLISHED = "one file at a time, model loaded"
KEPT = "one file at a time, model kept"
PER_CORE = "the same, a process per core"
OURS = "tokenize"

_worker: dict[str, Any] = {}


def write_clips(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Write clips of 1 to 10 s: voiced-like buzz with changing pitch and level, and noise."""
    from vivavoce.audio.files import write_audio

    paths = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        size = int(rng.uniform(1.0, 10.0) * RATE)
        knots = np.linspace(0, size, max(4, size // 6000))
        pitch = np.interp(np.arange(size), knots, rng.uniform(80, 260, len(knots)))
        level = np.interp(np.arange(size), knots, rng.uniform(0.01, 0.3, len(knots)))
        buzz = np.mod(np.cumsum(pitch / RATE), 1.0) - 0.5
        wave = level * buzz + 0.02 * rng.standard_normal(size)
        paths.append(write_audio(folder / f"clip{number:04d}.flac", wave.astype(np.float32), RATE))
    return paths


def write_codec(folder: Path, seed: int = 0) -> Path:
    """Write an EnCodec of the published size with random weights whose codes depend on the sound."""
    import torch
    from transformers import EncodecConfig, EncodecModel

    from vivavoce.codecs.causal_codec import spread_codewords
    from vivavoce.codecs.folders import save_pretrained

    torch.manual_seed(seed)
    model = EncodecModel(EncodecConfig()).eval()
    with torch.no_grad():
        x = 0.1 * torch.randn(1, 1, 2 * RATE)
        for layer in model.encoder.layers:
            if hasattr(layer, "conv"):
                layer.conv.parametrizations.weight.original0.div_(layer(x).std())
                layer.conv.bias.zero_()
            x = layer(x)
        spread_codewords(x, [layer.codebook.embed for layer in model.quantizer.layers])
    save_pretrained(model, folder)
    return folder


class OneFileAtATime:
    """The baseline.

    Args:
        folder: Of the model, in transformers' form.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import EncodecModel

        self.model = EncodecModel.from_pretrained(folder).eval()

    def __call__(self, path: Path) -> list[int]:
        """Codes of a file, both codebooks in turn."""
        import torch

        from vivavoce.audio.files import read_audio

        waveform, _ = read_audio(path, RATE, resampler="sinc")
        with torch.no_grad():
            codes = self.model.encode(torch.from_numpy(waveform)[None, None], bandwidth=BANDWIDTH).audio_codes
        ids: list[int] = torch.stack((codes[0, 0, 0], codes[0, 0, 1]), dim=1).flatten().tolist()
        return ids


def one_by_one(
    folder: Path, paths: Sequence[Path], keep: bool = True
) -> tuple[list[list[int]], float, float]:
    """Codes of all files, wall seconds and CPU seconds; without ``keep``, every file loads the model."""
    function = OneFileAtATime(folder)
    function(paths[0])
    began, cpu = time.perf_counter(), time.process_time()
    codes = [(function if keep else OneFileAtATime(folder))(path) for path in paths]
    return codes, time.perf_counter() - began, time.process_time() - cpu


def begin(kind: str, folder: Path, first: Path) -> None:
    """Set up a worker as the local engine does, with one thread."""
    import torch

    from vivavoce.data.build.contract import Context
    from vivavoce.data.build.tokenize import Tokenize, TokenizeConfig

    torch.set_num_threads(1)
    if kind == "builder":
        config = TokenizeConfig(str(folder), {"bandwidth": BANDWIDTH}, "interleaved")
        _worker["builder"] = Tokenize(config, Context())
    else:
        _worker["function"] = OneFileAtATime(folder)
    make_block([first])


def make_block(paths: Sequence[Path]) -> tuple[list[list[int]], float]:
    """Codes of a block's files, and the CPU seconds they took."""
    cpu = time.process_time()
    if "function" in _worker:
        return [_worker["function"](path) for path in paths], time.process_time() - cpu
    rows = [Conversation(path.name, [Message("user", [Audio(str(path))])]) for path in paths]
    made = [result[0] for result in _worker["builder"](rows)]
    return [next(row.audio_parts()).tokens["ids"] for row in made], time.process_time() - cpu


class Workers:
    """One process per core, which take blocks of files.

    Args:
        kind: "builder" or "function".
        folder: Of the model.
        first: A file to begin with.
    """

    def __init__(self, kind: str, folder: Path, first: Path) -> None:
        self.block = BLOCK if kind == "builder" else 1
        self.pool = multiprocessing.get_context("spawn").Pool(CORES, begin, (kind, folder, first))
        self.pool.map(make_block, [[first]] * CORES * 2, chunksize=1)  # wait until all are there

    def __call__(self, paths: Sequence[Path]) -> tuple[list[list[int]], float, float]:
        """Codes of all files, wall seconds and CPU seconds."""
        size = min(self.block, -(-len(paths) // CORES))
        blocks = [list(paths[i : i + size]) for i in range(0, len(paths), size)]
        began = time.perf_counter()
        done = self.pool.map(make_block, blocks, chunksize=1)
        wall = time.perf_counter() - began
        return [codes for found, _ in done for codes in found], wall, sum(cpu for _, cpu in done)

    def close(self) -> None:
        self.pool.close()
        self.pool.join()


def differing(left: Sequence[Sequence[int]], right: Sequence[Sequence[int]]) -> int:
    """Codes that are not the same, missing ones included."""
    return sum(
        sum(a != b for a, b in zip(x, y, strict=False)) + abs(len(x) - len(y))
        for x, y in zip(left, right, strict=True)
    )


def measure(codec: Path | None, num_clips: int, repeats: int) -> dict[str, Any]:
    """Run all in turns; the best wall time of each counts."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    import torch

    from vivavoce.audio.files import audio_info

    torch.set_num_threads(CORES)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write_clips(folder, num_clips)
        codec = codec or write_codec(folder / "codec")
        seconds = [audio_info(path).duration_s or 0.0 for path in paths]
        few = min(4, num_clips)
        workers = {kind: Workers(kind, codec, paths[0]) for kind in ("function", "builder")}
        runs: dict[str, Callable[[], tuple[list[list[int]], float, float]]] = {
            PUBLISHED: lambda: one_by_one(codec, paths[:few], keep=False),
            KEPT: lambda: one_by_one(codec, paths),
            PER_CORE: lambda: workers["function"](paths),
            OURS: lambda: workers["builder"](paths),
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
        wrong = compared = 0
        try:
            for _ in range(repeats):
                found = {}
                for name, run in runs.items():
                    found[name], *taken = run()
                    times[name].append((taken[0], taken[1]))
                wrong += differing(found[OURS], found[KEPT]) + differing(found[PER_CORE], found[KEPT])
                compared += 2 * sum(map(len, found[KEPT]))
        finally:
            for pool in workers.values():
                pool.close()
    table = {}
    for name, turns in times.items():
        rows, audio_s = (few, sum(seconds[:few])) if name == PUBLISHED else (num_clips, sum(seconds))
        wall = min(wall for wall, _ in turns)
        table[name] = {
            "rows_per_s": round(rows / wall, 3), "x_real_time": round(audio_s / wall, 1),
            "cpu_s_per_audio_s": round(min(cpu for _, cpu in turns) / audio_s, 4),
        }  # fmt: skip
    speed = {name: row["x_real_time"] for name, row in table.items()}
    return {
        "clips": num_clips, "audio_s": round(sum(seconds), 1), "table": table, "codes_compared": compared,
        "codes_that_differ": wrong, "ratios": {n: round(speed[OURS] / s, 2) for n, s in speed.items() if n != OURS},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--codec", type=Path, help="folder of an EnCodec; default: real size, random weights")
    options = parser.parse_args()
    result = measure(options.codec, options.clips, options.repeats)
    print(f"{result['clips']} clips, {result['audio_s']} s, {CORES} cores")
    print(f"{'':34}{'rows/s':>9}{'x real time':>13}{'CPU s per audio s':>19}{'tokenize is':>13}")
    for name, row in result["table"].items():
        ratio = f"{result['ratios'][name]:.2f} x" if name in result["ratios"] else ""
        print(
            f"{name:34}{row['rows_per_s']:9.2f}{row['x_real_time']:13.1f}{row['cpu_s_per_audio_s']:19.4f}{ratio:>13}"
        )
    print(f"aim {AIM:g} x; {result['codes_that_differ']} of {result['codes_compared']} codes differ")
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
