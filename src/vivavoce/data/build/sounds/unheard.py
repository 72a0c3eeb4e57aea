"""Rows in which nothing can be understood, and the assistant says so."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vivavoce.audio.augment import Waveform, room_response
from vivavoce.audio.bands import limit_band
from vivavoce.audio.room import reverberate
from vivavoce.base.errors import ConfigError
from vivavoce.data.build.row_audio import drop_unnamed, put_recording
from vivavoce.data.build.sounds.backgrounds import KINDS, LEAST_VOICES, Folders, background, folder_faults
from vivavoce.data.build.sounds.effects import LABEL, codes_dropped, draw, draw_name, range_faults
from vivavoce.data.build.speech.loudness import PEAK
from vivavoce.data.conversation import Conversation, Message, Text

SUFFIX = "unheard"
SILENCE = "silence"
SILENCE_DB = -50.0  # what is left of a silent room in a recording; digital silence is what broken files hold
LOUDNESS_DB = (-55.0, -10.0)
FAR_HZ, FAR_RT60_S, FAR_DIRECT_DB = 3000.0, 1.0, -12.0
TALKERS = 8
ANSWERS = (
    "I could not hear that; could you say it again?",
    "Sorry, I could not hear you. Please try once more.",
    "I only heard noise. Could you repeat that?",
    "I did not catch any words. Could you speak up a little?",
    "I am afraid I heard nothing I could understand. Please say it again.",
)


@dataclass(frozen=True)
class UnheardConfig:
    """How often, what is heard instead, and what the assistant says.

    Attributes:
        share: Of rows that get such a row beside them, drawn by the row's id.
        kinds: One is drawn: a kind of noise, "silence" (the faint hiss of a quiet room), "recordings" of a folder, or
            "babble" of many far talkers.
        folder: Of babble or recordings.
        level_db: RMS of the noise, dB of full scale.
        answers: Language -> sentences, of which one is drawn. A clip that names no language has the first one; in other
            languages than these no such row is made.
    """

    share: float = 0.05
    kinds: tuple[str, ...] = ("white", "pink", "brown", "hum", "impulses", SILENCE)
    folder: str | None = None
    level_db: tuple[float, ...] = (-45.0, -20.0)
    answers: Mapping[str, Any] = field(default_factory=lambda: {"en": ANSWERS})

    def __post_init__(self) -> None:
        faults = [] if 0 <= self.share <= 1 else [f"share is {self.share}, wanted 0 to 1"]
        kinds = tuple(kind for kind in self.kinds if kind != SILENCE)
        unknown = [kind for kind in kinds if kind not in KINDS]
        faults += [f"kinds has {kind!r}, wanted some of {', '.join((*KINDS, SILENCE))}" for kind in unknown]
        if not unknown and (kinds or not self.kinds or self.folder):
            faults += folder_faults(kinds, self.folder)
        faults += range_faults("level_db", self.level_db, *LOUDNESS_DB)
        if not self.answers:
            faults.append("answers is empty, wanted sentences by language")
        for language, said in self.answers.items():
            fit = (
                isinstance(said, list | tuple)
                and said
                and all(isinstance(s, str) and s.strip() for s in said)
            )
            faults += [] if fit else [f"answers.{language} is {said!r}, wanted a list of sentences"]
        if faults:
            raise ConfigError("; ".join(faults))

    def prepare(self, folders: Folders) -> None:
        """See that there are recordings, and talkers enough for a babble.

        Raises:
            ConfigError: There are not.
        """
        if self.folder and "babble" in self.kinds and len(folders[self.folder].files) < LEAST_VOICES:
            raise ConfigError(
                f"{self.folder} has less than {LEAST_VOICES} recordings; a babble of so few can be understood."
            )
        if self.folder:
            folders[self.folder]

    def sentences(self, language: str | None) -> Sequence[str]:
        """The sentences for a clip's language; none if there are none."""
        if language is None:
            return tuple(next(iter(self.answers.values())))
        found = self.answers.get(language) or self.answers.get(language.replace("_", "-").partition("-")[0])
        return tuple(found or ())


def unheard_row(
    row: Conversation,
    message: int,
    sounds: Mapping[int, tuple[Waveform, int]],
    config: UnheardConfig,
    rng: np.random.Generator,
    folders: Folders,
) -> Conversation | None:
    """The row up to one of the user's turns, of which nothing is heard, and an answer that says so.

    Typed words that repeat what was said go too; what the turn has typed beside it stays.

    Args:
        row: Not changed.
        message: Number of the turn.
        sounds: Its recordings, by the number of the part: float32 [S] and Hz.
        config: What is heard instead.
        rng: Generator.
        folders: Recordings.

    Returns:
        A new row ``id/unheard`` of task "chat"; None if there is no answer in the clip's language.
    """
    answers = config.sentences(row.messages[message].audios[0].language)
    if not answers:
        return None
    made = copy.deepcopy(row)
    made.id, made.task = f"{row.id}/{SUFFIX}", "chat"
    turn = made.messages[message]
    said = [text for p in turn.audios if (text := (p.transcript or "").strip())]
    kept = []
    for number, part in enumerate(turn.parts):
        if isinstance(part, Text):
            if any(text in part.text for text in said):
                continue
        else:
            heard, told = _instead(*sounds[number], config, rng, folders)
            label = {SUFFIX: told} if part.tokens is None else {SUFFIX: told, **codes_dropped(part.tokens)}
            put_recording(part, made, heard, sounds[number][1])
            part.transcript, part.speaker, part.words = "", None, None
            part.labels = {LABEL: label}
        kept.append(part)
    turn.parts = kept
    answer = answers[int(rng.integers(len(answers)))]
    made.messages = [*made.messages[: message + 1], Message("assistant", [Text(answer)])]
    drop_unnamed(made)
    return made


def _instead(
    sound: Waveform, sample_rate: int, config: UnheardConfig, rng: np.random.Generator, folders: Folders
) -> tuple[Waveform, dict[str, Any]]:
    """What is heard in the place of a clip, as long as it."""
    kind, level = draw_name(rng, config.kinds), draw(rng, config.level_db)
    if kind == SILENCE:
        noise, _ = background("pink", len(sound), sample_rate, rng)
        return noise * np.float32(10 ** (SILENCE_DB / 20)), {"kind": SILENCE}
    folder = folders[config.folder] if config.folder else None
    noise, told = background(kind, len(sound), sample_rate, rng, folder, TALKERS)
    if kind == "babble":
        noise = reverberate(noise, room_response(sample_rate, FAR_RT60_S, rng, FAR_DIRECT_DB))
        noise = limit_band(noise, sample_rate, 100.0, FAR_HZ)
        noise = noise / max(1e-6, float(np.sqrt(np.mean(np.square(noise)))))
    most = round(20 * float(np.log10(PEAK / max(1e-9, np.abs(noise).max()))), 3)  # what peaks allow
    level = min(level, most)
    return (noise * 10 ** (level / 20)).astype(np.float32), {**told, "level_db": level}
