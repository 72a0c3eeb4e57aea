"""Speech for tests and training data, from the small offline synthesizers espeak-ng and flite.

These are classical synthesizers: clear, fast, many voices, nobody's recorded identity. They make practice
material; a model's own voice lives in its tokens, not here, and nothing that answers a user calls this file.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from vivavoce.base.errors import AudioError, MissingExtraError

TIMEOUT_S = 120.0
ESPEAK_WORDS_PER_MINUTE = 175


@dataclass(frozen=True)
class Manner:
    """How a voice is to speak; see ``synthesize``."""

    speed: float = 1.0
    pitch: float = 1.0
    pitch_range: float = 1.0
    word_gap_s: float = 0.0


def synthesize(
    text: str,
    voice: str = "espeak:en-us",
    *,
    speed: float = 1.0,
    pitch: float = 1.0,
    pitch_range: float = 1.0,
    word_gap_s: float = 0.0,
) -> tuple[np.ndarray, int]:
    """Speak ``text`` and return the waveform at the voice's own rate.

    The same arguments give the same samples on the same installation, whatever was spoken before.

    Args:
        text: What to say, one sentence or many; at least one letter or digit.
        voice: ``espeak:LANGUAGE[+VARIANT]`` ("espeak:en-us", "espeak:en-gb-x-rp+f3") or ``flite:NAME``
            ("flite:slt").
        speed: Speaking rate, 0.5 to 2; 1 is the voice's own (about 175 words a minute in espeak-ng).
        pitch: Factor on the fundamental frequency, 0.5 to 2; 1 is the voice's own.
        pitch_range: Factor on how far the melody rises and falls, 0 (monotone) to 2; espeak-ng's library only.
        word_gap_s: Silence put between words, in seconds at speed 1 (shorter in faster speech), 0 to 1; the
            same.

    Returns:
        float32 ``[S]`` within -1 and 1, and the sample rate in Hz (espeak-ng 22050; flite 16000, its ``kal``
        8000).

    Raises:
        AudioError: Nothing to say, an unknown voice, a setting out of range, or a synthesizer that failed.
        MissingExtraError: The synthesizer is not installed.
    """
    manner = Manner(speed, pitch, pitch_range, word_gap_s)
    synthesizer, name = find_synthesizer(text, voice, manner)
    if not 0 <= pitch_range <= 2 or not 0 <= word_gap_s <= 1:
        raise AudioError(
            f"pitch_range is {pitch_range}, word_gap_s {word_gap_s}; wanted a factor from 0 to 2, and 0 to 1 s."
        )
    if (pitch_range, word_gap_s) != (1.0, 0.0) and not synthesizer.has_melody:
        raise AudioError(
            f"voice {voice!r} cannot change pitch_range and word_gap_s; leave them at 1 and 0, or take an "
            "espeak voice and install vivavoce[tts]."
        )
    waveform, rate = synthesizer.speak(text, name, manner)
    if waveform.size == 0:
        raise AudioError(f"{voice.partition(':')[0]} gave no sound for {text!r} in voice {voice!r}.")
    return waveform, rate


def find_synthesizer(text: str, voice: str, manner: Manner) -> tuple[Synthesizer, str]:
    """Check what ``synthesize`` is asked for; gives the synthesizer and its own name of the voice.

    Raises:
        AudioError, MissingExtraError: As ``synthesize``.
    """
    if not any(c.isalnum() for c in text) or "\0" in text:
        raise AudioError(f"cannot speak {text!r}; wanted text with at least one letter or digit and no NUL.")
    for name, value in (("speed", manner.speed), ("pitch", manner.pitch)):
        if not 0.5 <= value <= 2.0:
            raise AudioError(f"{name} is {value}; wanted a factor from 0.5 to 2.")
    engine, name = _split(voice)
    synthesizer = _synthesizer(engine)
    known = synthesizer.names()
    language, _, variant = name.partition("+")
    if language not in known or (variant and f"+{variant}" not in known):
        listed = ", ".join(sorted(known)[:12])
        raise AudioError(
            f"unknown voice {voice!r}. {engine} has {len(known)}, among them {listed}; see list_voices()."
        )
    return synthesizer, name


def list_voices(engine: str) -> list[str]:
    """List what may follow ``engine:``; rows that begin with "+" are espeak-ng variants, to put after a
    language.

    Raises:
        AudioError: An unknown engine.
        MissingExtraError: The synthesizer is not installed.
    """
    return sorted(_synthesizer(engine).names())


def has_synthesizer(engine: str) -> bool:
    """Tell whether ``espeak`` or ``flite`` can speak on this machine."""
    try:
        _synthesizer(engine)
    except MissingExtraError:
        return False
    return True


def can_change_melody(engine: str) -> bool:
    """Tell whether ``pitch_range`` and ``word_gap_s`` work with ``espeak`` or ``flite`` on this machine.

    Raises:
        MissingExtraError: The synthesizer is not installed.
    """
    return _synthesizer(engine).has_melody


class Synthesizer(ABC):
    """What each engine offers: names (variants begin with "+") and speech for a checked name.

    Attributes:
        has_melody: Whether it can change pitch range and gaps between words.
    """

    has_melody = False

    @abstractmethod
    def names(self) -> frozenset[str]: ...

    @abstractmethod
    def speak(self, text: str, name: str, manner: Manner) -> tuple[np.ndarray, int]: ...


class EspeakLibrary(Synthesizer):
    """espeak-ng from the ``espeakng-loader`` wheel, in a process of its own for each call."""

    has_melody = True

    def __init__(self, library: str, data: str) -> None:
        self._library, self._data = library, Path(data)

    def names(self) -> frozenset[str]:
        return frozenset(_espeak_files(self._data))

    def speak(self, text: str, name: str, manner: Manner) -> tuple[np.ndarray, int]:
        output = run(self.command(name, manner), text)
        samples = np.frombuffer(output, dtype="<i2", offset=4).astype(np.float32) / 32768.0
        return samples, int.from_bytes(output[:4], "little")

    def command(self, name: str, manner: Manner) -> list[str]:
        """The process that speaks its standard input."""
        language, plus, variant = name.partition("+")
        voice = _espeak_files(self._data)[language] + plus + variant
        script = str(Path(__file__).with_name("espeak_process.py"))
        settings = [voice, _espeak_words(manner), _espeak_pitch(manner), *_espeak_melody(manner)]
        return [sys.executable, "-I", "-S", script, self._library, str(self._data), *settings]


class _EspeakProgram(Synthesizer):
    """espeak-ng as a program, one process a call; it has no option for the pitch range."""

    def __init__(self, program: str) -> None:
        self._program = program

    def names(self) -> frozenset[str]:
        return _espeak_program_names(self._program)

    def speak(self, text: str, name: str, manner: Manner) -> tuple[np.ndarray, int]:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "speech.wav"
            options = ["-v", name, "-s", _espeak_words(manner), "-p", _espeak_pitch(manner), "-b", "1"]
            run([self._program, *options, "-w", str(target), "--stdin"], text)
            return _read(target)


class FliteProgram(Synthesizer):
    """flite as a program, one process a call."""

    DIPHONE_HZ = 105.0  # mean fundamental that the diphone voices (kal, kal16) aim at

    def __init__(self, program: str) -> None:
        self._program = program

    def names(self) -> frozenset[str]:
        return _flite_names(self._program)

    def speak(self, text: str, name: str, manner: Manner) -> tuple[np.ndarray, int]:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "speech.wav"
            run([*self.command(name, manner), "-t", text, "-o", str(target)])
            return _read(target)

    def command(self, name: str, manner: Manner) -> list[str]:
        """The program with its settings, but for the text and the file."""
        options = ["-voice", name, "--setf", f"duration_stretch={1 / manner.speed:.4f}"]
        if manner.pitch != 1.0:
            diphone = name.startswith("kal")
            mean = f"int_f0_target_mean={self.DIPHONE_HZ * manner.pitch:.3f}"
            options += ["--setf", mean if diphone else f"f0_shift={manner.pitch:.4f}"]
        return [self._program, *options]


def _split(voice: str) -> tuple[str, str]:
    engine, separator, name = voice.partition(":")
    if not separator or not name:
        raise AudioError(
            f"voice is {voice!r}; wanted espeak:LANGUAGE[+VARIANT] (espeak:en-us+f3) or flite:NAME."
        )
    return engine, name


@lru_cache(maxsize=4)
def _synthesizer(engine: str) -> Synthesizer:
    if engine == "espeak":
        try:
            import espeakng_loader
        except ImportError:
            program = shutil.which("espeak-ng")
            if program is None:
                raise MissingExtraError(
                    "espeak-ng is not installed; run: pip install 'vivavoce[tts]', or install its program."
                ) from None
            return _EspeakProgram(program)
        return EspeakLibrary(espeakng_loader.get_library_path(), espeakng_loader.get_data_path())
    if engine == "flite":
        program = shutil.which("flite")
        if program is None:
            raise MissingExtraError(
                "the flite program is not installed; on Debian run: apt-get install flite."
            )
        return FliteProgram(program)
    raise AudioError(f"unknown synthesizer {engine!r}; wanted espeak or flite.")


def _espeak_words(manner: Manner) -> str:
    """Speed as espeak-ng counts it, in words a minute."""
    return str(round(ESPEAK_WORDS_PER_MINUTE * manner.speed))


def _espeak_pitch(manner: Manner) -> str:
    """Pitch on espeak-ng's 0 to 100, where 50 is the voice's own and 50 steps are an octave."""
    return str(min(100, max(0, round(50 + 50 * math.log2(manner.pitch)))))


def _espeak_melody(manner: Manner) -> list[str]:
    """Range and gap as espeak-ng counts them: 50 is the voice's own range, and a gap has units of 10 ms."""
    return [str(round(50 * manner.pitch_range)), str(round(100 * manner.word_gap_s))]


@lru_cache(maxsize=4)
def _espeak_files(data: Path) -> dict[str, str]:
    """Map language codes to the voice files that the library knows them by ("en-gb" -> "en"); "+x" to
    itself."""
    best: dict[str, tuple[int, str]] = {}
    for path in sorted(p for p in (data / "lang").rglob("*") if p.is_file()):
        rows = [line.split() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
        languages = [row for row in rows if len(row) > 1 and row[0] == "language"]
        if not languages:
            continue
        named = [row[1] for row in rows if len(row) > 1 and row[0] == "dictionary"]
        dictionary = named[0] if named else languages[0][1].partition("-")[0]
        if not (data / f"{dictionary}_dict").exists():
            continue
        for row in languages:
            priority = -1 if row[1] == path.name else int(row[2]) if len(row) > 2 and row[2].isdigit() else 5
            best[row[1]] = min(best.get(row[1], (99, "")), (priority, path.name))
    variants = {f"+{p.name}": f"+{p.name}" for p in (data / "voices" / "!v").iterdir()}
    return {language: file for language, (_, file) in best.items()} | variants


@lru_cache(maxsize=4)
def _espeak_program_names(program: str) -> frozenset[str]:
    languages = [line.split() for line in _lines([program, "--voices"])[1:]]
    variants = [line.partition("!v/")[2].strip() for line in _lines([program, "--voices=variant"])[1:]]
    return frozenset({row[1] for row in languages if len(row) > 1} | {f"+{v}" for v in variants if v})


@lru_cache(maxsize=4)
def _flite_names(program: str) -> frozenset[str]:
    return frozenset(" ".join(_lines([program, "-lv"])).partition(":")[2].split())


def run(command: list[str], text: str = "") -> bytes:
    """Run a synthesizer's process and give its standard output.

    Raises:
        AudioError: It does not start, takes too long, or fails.
    """
    try:
        done = subprocess.run(
            command, input=text.encode(), capture_output=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise AudioError(f"the synthesizer took longer than {TIMEOUT_S:.0f} s; give it less text.") from None
    except OSError as error:
        raise AudioError(f"{command[0]} did not start: {error}.") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()[:200]
        raise AudioError(
            f"the synthesizer {Path(command[0]).name} failed with status {done.returncode}. {said}"
        )
    return done.stdout


def _lines(command: list[str]) -> list[str]:
    return run(command).decode(errors="replace").splitlines()


def _read(path: Path) -> tuple[np.ndarray, int]:
    from vivavoce.audio.files import read_audio

    if not path.exists():
        raise AudioError("the synthesizer wrote no file.")
    return read_audio(path, max_seconds=None)
