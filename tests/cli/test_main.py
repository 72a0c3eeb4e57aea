"""The frame of all commands: help without heavy imports, errors as lines, exit codes, Ctrl-C, closed pipes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest
from tests.cli.running import SOURCE, process

from vivavoce.base.errors import AudioError
from vivavoce.cli import main as front
from vivavoce.cli.main import VERBS

ALL_VERBS = sorted(VERBS)


def child_program(program: str, **more) -> subprocess.Popen[bytes]:
    """Start Python on ``program`` with our package at hand."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = {"PYTHONPATH": str(SOURCE), "PATH": ""}
    return subprocess.Popen([sys.executable, "-c", program], env=environment, **pipes, **more)


def test_help_is_fast_and_loads_no_torch():
    # processor time counts, so that other work on the machine does not fail the test
    child = child_program(
        "import sys, time\n"
        "from vivavoce.cli.main import main\n"
        "main(['--help'])\n"
        "heavy = {'torch', 'transformers', 'numpy', 'soundfile', 'huggingface_hub'} & set(sys.modules)\n"
        "print(time.process_time(), *heavy, file=sys.stderr)\n"
    )
    out, err = child.communicate(timeout=120)
    assert child.returncode == 0, err
    seconds, *heavy = err.decode().split()
    assert heavy == []
    assert float(seconds) < 0.5
    assert [verb for verb in ALL_VERBS if verb.partition(" ")[0].encode() not in out] == []


@pytest.mark.parametrize("verb", ALL_VERBS)
def test_every_verb_explains_itself_and_takes_json_and_debug(run, verb):
    outcome = run(*verb.split(), "--help")
    assert outcome.code == 0
    assert "--json" in outcome.text
    assert "--debug" in outcome.text


def test_no_arguments_print_the_help(run):
    assert run().text == run("--help").text != ""


def test_version(run):
    import vivavoce

    assert run("--version").text.strip() == vivavoce.__version__


@pytest.mark.parametrize(
    ("arguments", "hints"),
    [
        (["transcrib", "a.wav"], ["Did you mean 'transcribe'? See: vivavoce --help"]),
        (["say", "hello", "--ot", "a.wav"], ["--out"]),
        (["chat", "--temprature", "1"], ["--temperature"]),
        (["transcribe"], ["FILES", "vivavoce transcribe --help"]),
        (["say", "hello"], ["--out"]),
        (["encode", "a.wav", "--format", "numpy"], ["npy", "numpy"]),
        (["chat", "--seed", "x"], ["--seed", "integer"]),
    ],
)
def test_usage_errors_are_one_line_with_the_nearest_name(run, arguments, hints):
    assert run(*arguments).is_one_error(*hints)


def raising(error):
    def verb() -> None:
        raise error

    return verb


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (AudioError("a.wav is\n empty."), 2, "error: a.wav is empty.\n"),
        (KeyError("x"), 1, "error: unexpected KeyError: 'x'. Run again with --debug for the trace.\n"),
        (KeyboardInterrupt(), 130, "interrupted.\n"),
        (AudioError("\x1b[31mred [bold]x"), 2, "error: \\x1b[31mred [bold]x\n"),
    ],
)
def test_errors_become_lines_and_exit_codes(run, monkeypatch, error, code, line):
    monkeypatch.setattr(front.VERBS, "get", lambda name: raising(error))
    outcome = run("models")
    assert (outcome.code, outcome.err, outcome.out) == (code, line, b"")


def test_debug_shows_the_trace(run):
    plain, traced = run("info", "none.wav"), run("info", "none.wav", "--debug")
    assert plain.is_one_error("none.wav does not exist")
    assert traced.code == 2
    assert "Traceback" in traced.err
    assert traced.err.endswith(plain.err)
    assert "Traceback" not in run("info", "--", "--debug").err


def test_ctrl_c_while_waiting_for_input_is_clean(tmp_path):
    child = child_program(
        "import sys\n"
        "from vivavoce.cli.main import main\n"
        "print('ready', flush=True)\n"
        "sys.exit(main(['say', '-', '--out', 'said.wav']))",
        cwd=tmp_path,
        # a shell's background jobs ignore ctrl-c, and hand that on to their children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert child.stdout.readline() == b"ready\n"
    time.sleep(1.0)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=120)
    assert (child.returncode, out, err) == (130, b"", b"interrupted.\n")
    assert list(tmp_path.iterdir()) == []


def test_a_closed_pipe_is_quiet(tmp_path, tone):
    child = process("info", str(tone), cwd=tmp_path)
    child.stdout.close()
    child.stdin.close()
    err = child.stderr.read()
    assert child.wait(timeout=120) == 1
    assert err == b""
