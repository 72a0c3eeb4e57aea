"""When each phone of a recording ends, by pocketsphinx, from the words that are said and the bundle's own lexicon.

The recogniser is not asked what was said: every word gets an entry of its own with the phones that the voice will be
told, and only their times are sought. Between words it may find silence.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence

import numpy as np

from vivavoce.audio.resample import resample
from vivavoce.base.errors import MissingExtraError
from vivavoce.tokens.phones import words_to_phones

RATE = 16_000
STEP_S = 0.01
PAD_S = 0.15  # silence before and after, which the recogniser expects
PEAK = 0.6
PAD_NOISE = 4.0 / 32768
SAME = {"ax": "AH"}  # phones that the recogniser has under another name


def spelled(phones: Sequence[str]) -> str:
    """Phones as the recogniser writes them."""
    return " ".join(SAME.get(p, p.upper()) for p in phones)


class PhoneAligner:
    """Aligns one recording at a time.

    Args:
        words: All words that will be asked for; the recogniser does not take new ones later.

    Raises:
        MissingExtraError: pocketsphinx is not installed.
    """

    def __init__(self, words: Iterable[str]) -> None:
        try:
            import pocketsphinx
        except ImportError as error:
            raise MissingExtraError(
                "finding the times of phones needs pocketsphinx; install it with: pip install vivavoce[judge]"
            ) from error
        self._entry: dict[str, str] = {}  # phones of a word -> its name in the dictionary
        for phones in words_to_phones(sorted(set(words))):
            self._entry.setdefault(spelled(phones), f"said{len(self._entry)}")
        with tempfile.NamedTemporaryFile("w", suffix=".dict") as file:
            file.writelines(f"{name} {phones}\n" for phones, name in self._entry.items())
            file.flush()
            self._decoder = pocketsphinx.Decoder(
                samprate=RATE, lm=None, dict=file.name, cmn="batch", loglevel="FATAL"
            )

    def align(
        self, words: Sequence[str], waveform: np.ndarray, sample_rate: int
    ) -> list[tuple[str, float]] | None:
        """Find (phone, end in seconds) of all phones; "pau" where nothing is said.

        Args:
            words: In spoken form.
            waveform: float32 [S] at ``sample_rate`` Hz.
            sample_rate: Hz.

        Returns:
            None where the recording does not fit the words.
        """
        phones = words_to_phones(words)
        entries = [self._entry[spelled(own)] for own in phones]
        samples = self._prepare(waveform, sample_rate)
        self._decoder.set_align_text(" ".join(entries))
        self._decode(samples)
        if self._decoder.hyp() is None:
            return None
        try:
            self._decoder.set_alignment()
            self._decode(samples)
            alignment = self._decoder.get_alignment()
            # read at once and while the alignment is held: its items do not outlive it
            found = [(w.name, [p.start + p.duration for p in w]) for w in alignment]
        except RuntimeError:
            return None
        said = iter(phones)
        timed: list[tuple[str, float]] = []
        for name, ends in found:
            own = next(said, []) if name.startswith("said") else ["pau"] * len(ends)
            if len(own) != len(ends):
                return None
            timed += [(phone, end * STEP_S - PAD_S) for phone, end in zip(own, ends, strict=True)]
        if next(said, None) is not None:
            return None
        return self._clip(timed, len(waveform) / sample_rate)

    @staticmethod
    def _prepare(waveform: np.ndarray, sample_rate: int) -> bytes:
        """16 kHz int16 at a fixed peak, over faint noise from a fixed seed."""
        wave = resample(np.asarray(waveform, np.float32), sample_rate, RATE)
        wave = np.pad(wave * (PEAK / max(1e-3, float(np.abs(wave).max()))), round(PAD_S * RATE))
        wave = wave + np.random.default_rng(0).standard_normal(len(wave)) * PAD_NOISE
        return (np.clip(wave, -1, 1) * 32767).astype(np.int16).tobytes()

    def _decode(self, samples: bytes) -> None:
        self._decoder.start_stream()  # forgets the noise of earlier recordings
        self._decoder.start_utt()
        self._decoder.process_raw(samples, full_utt=True)
        self._decoder.end_utt()

    @staticmethod
    def _clip(timed: list[tuple[str, float]], length_s: float) -> list[tuple[str, float]]:
        """Times within the recording; pauses that lie outside are gone, one reaches to the end."""
        kept: list[tuple[str, float]] = []
        for phone, end in timed:
            end = min(end, length_s)
            if phone == "pau" and end <= (kept[-1][1] if kept else 0.0):
                continue
            kept.append((phone, end))
        if kept[-1][1] < length_s and kept[-1][0] == "pau":
            kept[-1] = ("pau", length_s)
        elif length_s - kept[-1][1] > STEP_S / 2:
            kept.append(("pau", length_s))
        return kept
