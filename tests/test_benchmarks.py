"""Programs in benchmarks/ start, whatever the names of their neighbours."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tokenize
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "benchmarks"


def run(code: str) -> str:
    """What a program in benchmarks/ prints; its folder is first on the path, as Python puts it there."""
    start = f"import sys; sys.path.insert(0, {str(FOLDER)!r}); "
    done = subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_benchmarks_import_the_tokenize_of_the_standard_library():
    assert run("import tokenize; print(tokenize.__file__, hasattr(tokenize, 'Workers'))") == (
        f"{tokenize.__file__} False"
    )
    assert run("import inspect; print(inspect.getsource(inspect.cleandoc)[:12])") == "def cleandoc"


def test_tokenize_is_a_program_as_well():
    command = [sys.executable, str(FOLDER / "tokenize.py"), "--help"]
    env = {"PYTHONPATH": str(FOLDER.parent / "src"), "PATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0 and "--clips" in done.stdout, done.stderr


def test_training_at_8b_says_what_it_would_do_without_a_gpu():
    """Memory and FLOPs come from shapes alone; with ``--tiny`` the same code trains a small model anywhere."""
    command = [sys.executable, str(FOLDER / "gpu" / "train_8b.py"), "--only", "full", "lora", "--json"]
    small = ["--tiny", "--tokens", "600", "--steps", "4", "--no-compile"]
    env = {
        **os.environ,
        "PYTHONPATH": str(FOLDER.parent / "src"),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run([*command, *small], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    assert "there is no GPU here, so nothing was measured" in done.stdout
    found = {one["plan"]["way"]: one for one in json.loads(done.stdout.splitlines()[-1])}
    full, lora = found["full"]["plan"], found["lora"]["plan"]
    assert full["parameters"] == full["trained"] == 8_038_666_240 and lora["trained"] == 41_943_040
    assert 45 < full["gflop_per_token"] < 52 and full["memory"]["fits"] and lora["memory"]["fits"]
    assert all(11 < one["measured"]["losses"][0] < 12.5 for one in found.values())


def test_latency_at_8b_runs_in_small():
    """It stops by itself if streaming is not as offline."""
    command = [sys.executable, str(FOLDER / "gpu" / "latency_8b.py"), "--tiny", "--json", "--seconds", "1"]
    env = {
        **os.environ,
        "PYTHONPATH": str(FOLDER.parent / "src"),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }
    short = ["--rounds", "1", "--tokens", "4"]
    done = subprocess.run([*command, *short], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["same_float32"]["audio"] < 1e-5 and found["same_float32"]["samples"] > 0
    assert set(found["aims"]) == {"ttft_ms", "first_audio_ms", "share_of_bandwidth", "times_generate"}
    assert found["rows"][0]["streaming"]["ttft_ms"]["p50"] > 0 < found["decode"]["share_of_bandwidth"]


def test_both_ways_of_the_training_benchmark_have_the_same_losses():
    spec = importlib.util.spec_from_file_location("train_benchmark", FOLDER / "train.py")
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    rows = [
        (ids[-size:], weights[-size:])
        for size, (ids, weights) in zip((40, 90, 25), program.rows_of(3, "nano"), strict=True)
    ]
    _, padded = program.train_padded(rows, 2, 3e-4)
    _, ours = program.train_packed(rows, 2, 3e-4, 100)
    assert len(padded) == len(ours) == 2
    assert all(abs(a - b) < 1e-3 for a, b in zip(padded, ours, strict=True))
