"""`speak`: turns of text become speech, in many voices drawn by the seed."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from vivavoce.audio.resample import HIGHEST_HZ, LOWEST_HZ, resample
from vivavoce.base.errors import AudioError, ConfigError, DataError, VocabularyError
from vivavoce.data.build.contract import Context, Fault, Made, Needs
from vivavoce.data.build.speech.languages import foreign_letter
from vivavoce.data.build.speech.loudness import bring_to_level
from vivavoce.data.build.speech.moods import EMOTION, MOODS
from vivavoce.data.build.speech.reading_back import character_error_rate
from vivavoce.data.build.speech.voices import Setup, Voice, make_voices
from vivavoce.data.conversation import Audio, Conversation, Message
from vivavoce.data.recordings import encode_flac
from vivavoce.tokens.phones import spoken_words
from vivavoce.tokens.trajectory import read_emotion

SPEAKERS = ("user", "assistant")
SEEDS = 1 << 31  # what every engine takes as a seed


@dataclass(frozen=True)
class SpeakConfig:
    """How to speak.

    Attributes:
        voices: As `voices.py` names them. Each row and role draws one of these names, and then one of the voices that
            it stands for.
        assistant_voices: Those of the assistant, if they are others. Else it draws from ``voices``, but never the voice
            of the user as long as there is another.
        roles: Whose turns are spoken: "user", "assistant" or both. Turns with a recording stay as they are.
        keep_text: Roles whose text stays as text beside the speech; of others it stays as the transcript.
        speed, pitch: Factors are drawn from these ranges, within 0.5 and 2.
        sample_rate: Of the recordings, Hz; None keeps the voice's own.
        level_db: Of the speech without its pauses, dB below full scale; None keeps the voice's own.
        level_spread_db: Each row is louder or softer by up to this, all its turns alike: people sit nearer to a
            microphone or farther. With moods, loudness then tells something only from turn to turn.
        moods: "given": a message with the key ``emotion`` is spoken as `moods.MOODS` says. "drawn": every turn gets a
            mood by chance, so that its words tell nothing of it. The mood stands in ``labels["emotion"]``.
        language: Of the texts, if the voices do not tell.
        spoken_form: Give the voice English words for numbers and signs. The transcript stays as written; the words
            stand in ``labels["spoken"]``.
        max_characters: Longer texts are left out.
        max_seconds: Longer recordings are left out.
        check: Name of a recogniser (service "asr") that reads every recording back; None for no check.
        max_error_rate: More character errors than that, and the row is left out.
        endpoint: Server of the voices "endpoint:MODEL#VOICE" (`endpoints.EndpointConfig`).
    """

    voices: tuple[str, ...] = ("espeak",)
    assistant_voices: tuple[str, ...] = ()
    roles: tuple[str, ...] = ("user",)
    keep_text: tuple[str, ...] = ("assistant",)
    speed: tuple[float, ...] = (1.0, 1.0)
    pitch: tuple[float, ...] = (1.0, 1.0)
    sample_rate: int | None = 24_000
    level_db: float | None = -23.0
    level_spread_db: float = 0.0
    moods: str | None = None
    language: str | None = None
    spoken_form: bool = False
    max_characters: int = 1000
    max_seconds: float = 60.0
    check: str | None = None
    max_error_rate: float = 0.3
    endpoint: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        faults = []
        for name in ("roles", "keep_text"):
            wrong = [role for role in getattr(self, name) if role not in SPEAKERS]
            faults += [f"{name} has {wrong[0]!r}, wanted 'user', 'assistant' or both"] if wrong else []
        if not self.roles or not self.voices:
            faults.append("wanted one or more roles and voices")
        for name in ("speed", "pitch"):
            limits = getattr(self, name)
            if len(limits) != 2 or not 0.5 <= limits[0] <= limits[1] <= 2.0:
                faults.append(f"{name} is {list(limits)}, wanted [lowest, highest] within 0.5 and 2")
        if self.sample_rate is not None and not LOWEST_HZ <= self.sample_rate <= HIGHEST_HZ:
            faults.append(f"sample_rate is {self.sample_rate} Hz, wanted {LOWEST_HZ} to {HIGHEST_HZ}")
        if self.level_db is not None and not -60 <= self.level_db <= -3:
            faults.append(f"level_db is {self.level_db}, wanted -60 to -3")
        if not 0 <= self.level_spread_db <= 20 or (self.level_spread_db and self.level_db is None):
            faults.append(
                f"level_spread_db is {self.level_spread_db}, wanted 0 to 20, and a level_db to spread"
            )
        if self.max_characters < 1 or self.max_seconds <= 0 or self.max_error_rate < 0:
            faults.append(
                "wanted max_characters of 1 or more, max_seconds above 0 and max_error_rate of 0 or more"
            )
        if self.moods not in (None, "given", "drawn"):
            faults.append(f"moods is {self.moods!r}, wanted 'given' or 'drawn'")
        elif self.moods and not 0.75 <= min(*self.speed, *self.pitch) <= max(*self.speed, *self.pitch) <= 1.2:
            faults.append("moods change speed and pitch; keep their own ranges within 0.75 and 1.2")
        if faults:
            raise ConfigError("; ".join(faults))

    def models(self) -> tuple[str, ...]:
        """Voices and the recogniser, by ``ENGINE:NAME``."""
        return (*self.voices, *self.assistant_voices, *([f"service:{self.check}"] if self.check else []))


@dataclass(frozen=True)
class _Turn:
    """A turn to be spoken: where it stands, what it says, and how."""

    message: int
    text: str
    given: str
    voice: Voice
    seed: int
    speed: float
    pitch: float
    mood: str | None
    nearer_db: float


@dataclass(frozen=True)
class _Clip:
    """A spoken turn as the bytes of a FLAC file."""

    data: bytes


class Speak:
    """Speaks turns.

    A row with a turn that cannot be spoken is put aside: without letters or digits ("empty"), too long ("too_long"),
    with letters that the voice's language does not have ("unspeakable"), refused by the voice ("unspoken"), or not
    understood by the recogniser ("garbled").
    """

    config_class: ClassVar[type] = SpeakConfig
    version: ClassVar[int] = 2  # moods have a pitch range and gaps
    batch_rows: ClassVar[int] = 16

    @staticmethod
    def needs(config: SpeakConfig) -> Needs:
        return Needs.of_models(*config.models())

    def __init__(self, config: SpeakConfig, context: Context) -> None:
        self.config, self.context = config, context
        setup = Setup(context, config.language, config.endpoint)
        voices = make_voices(config.voices, setup)
        other = make_voices(config.assistant_voices, setup) if config.assistant_voices else voices
        self._voices = {"user": voices, "assistant": other}
        used = [v for role in config.roles for group in self._voices[role] for v in group]
        for voice in {v.speaker: v for v in used}.values():
            for name in ("speed", "pitch"):
                if name not in voice.tunes and tuple(getattr(config, name)) != (1.0, 1.0):
                    raise ConfigError(
                        f"voice {voice.speaker!r} cannot change {name}; leave {name} at [1, 1]."
                    )
            if config.spoken_form and voice.language not in (None, "en"):
                raise ConfigError(
                    f"spoken_form is for English; voice {voice.speaker!r} speaks {voice.language!r}."
                )
        self._recogniser: Any = context.service("asr", config.check) if config.check else None

    def __call__(self, rows: Sequence[Conversation]) -> list[Made]:
        plans = [self._plan(row) for row in rows]
        turns = [turn for plan in plans if not isinstance(plan, Fault) for turn in plan]
        clips = iter(self._say_all(turns))
        made: list[Made] = []
        for row, plan in zip(rows, plans, strict=True):
            if isinstance(plan, Fault):
                made.append(plan)
                continue
            spoken = [(turn, next(clips)) for turn in plan]
            fault = next((clip for _, clip in spoken if isinstance(clip, Fault)), None)
            made.append(fault or [self._put(row, [(t, c) for t, c in spoken if isinstance(c, _Clip)])])
        return made

    def draw(self, row: Conversation, role: str) -> Voice:
        """The voice of a role in a row."""
        groups = self._voices[role]
        if role == "assistant":
            taken = {p.speaker for m in row.messages if m.role == "user" for p in m.audios}
            if "user" in self.config.roles:
                taken.add(self.draw(row, "user").speaker)
            free = [[voice for voice in group if voice.speaker not in taken] for group in groups]
            groups = [group for group in free if group] or groups
        rng = self.context.rng(row.id, role, "voice")
        return rng.choice(rng.choice(groups))

    def _plan(self, row: Conversation) -> list[_Turn] | Fault:
        turns = []
        for number, message in enumerate(row.messages):
            if message.role not in self.config.roles or message.audios:
                continue
            turn = self._turn(row, number, message)
            if isinstance(turn, Fault):
                return turn
            turns.append(turn)
        if not turns:
            return Fault(
                "nothing_to_speak", f"there is no text of {' or '.join(self.config.roles)} to be spoken"
            )
        return turns

    def _turn(self, row: Conversation, number: int, message: Message) -> _Turn | Fault:
        text, where = message.text.strip(), f"message {number}"
        mood = self._mood(row, number, message)
        if not any(c.isalnum() for c in text) or "\0" in text:
            return Fault("empty", f"{where} has nothing to say: {text[:60]!r}")
        if len(text) > self.config.max_characters:
            reason = f"{where} has {len(text)} characters, at most {self.config.max_characters} are spoken"
            return Fault("too_long", reason, filtered=True)
        voice = self.draw(row, message.role)
        letter = foreign_letter(text, voice.language)
        if letter:
            reason = f"{where} has the letter {letter!r}, which a voice for {voice.language!r} cannot read"
            return Fault("unspeakable", reason, filtered=True)
        given = text
        if self.config.spoken_form:
            try:
                given = " ".join(w.word + w.mark for w in spoken_words(text, name_letters=False))
            except VocabularyError as error:
                return Fault("unspeakable", f"{where}: {error}", filtered=True)
        rng = self.context.rng(row.id, message.role, "manner")
        speed, pitch = (round(rng.uniform(*limits), 3) for limits in (self.config.speed, self.config.pitch))
        if mood is not None:
            speed, pitch = (
                round(factor, 3) for factor in (speed * MOODS[mood].speed, pitch * MOODS[mood].pitch)
            )
        seed = self.context.number(row.id, number, "speech") % SEEDS
        spread = self.config.level_spread_db
        nearer = self.context.rng(row.id, message.role, "level").uniform(-spread, spread)
        return _Turn(number, text, given, voice, seed, speed, pitch, mood, nearer)

    def _mood(self, row: Conversation, number: int, message: Message) -> str | None:
        if self.config.moods == "drawn":
            return self.context.rng(row.id, number, "mood").choice(sorted(MOODS))
        return read_emotion(str(message.more.get(EMOTION, ""))) if self.config.moods else None

    def _say_all(self, turns: Sequence[_Turn]) -> list[_Clip | Fault]:
        """Speak turns in order; a server is asked for several at a time."""
        remote = [turn for turn in turns if turn.voice.server is not None]
        server = remote[0].voice.server if remote else None
        answers = iter(server.each(_say, remote) if server is not None else ())
        return [self._finish(t, _say(t) if t.voice.server is None else next(answers)) for t in turns]

    def _finish(self, turn: _Turn, said: tuple[np.ndarray, int] | Fault) -> _Clip | Fault:
        """Check what a voice said, and bring it to the wanted rate and level."""
        if isinstance(said, Fault):
            return said
        waveform, rate = said
        where = f"message {turn.message}"
        if waveform.ndim != 1 or not waveform.size or not np.isfinite(waveform).all() or not waveform.any():
            return Fault("unspoken", f"{turn.voice.speaker} gave no sound for {where}: {turn.text[:60]!r}")
        if waveform.size > self.config.max_seconds * rate:
            reason = (
                f"{where} lasts {waveform.size / rate:.1f} s, at most {self.config.max_seconds:g} s are kept"
            )
            return Fault("too_long", reason, filtered=True)
        if self.config.sample_rate is not None:
            waveform, rate = resample(waveform, rate, self.config.sample_rate), self.config.sample_rate
        if self.config.level_db is not None:
            louder = MOODS[turn.mood].level_db if turn.mood else 0.0
            waveform = bring_to_level(waveform, rate, self.config.level_db + turn.nearer_db + louder)
        fault = self._listen(turn, waveform, rate) if self.config.check else None
        return fault or _Clip(encode_flac(waveform, rate))

    def _listen(self, turn: _Turn, waveform: np.ndarray, rate: int) -> Fault | None:
        """Have the recogniser read a clip; a fault if it reads something else."""
        heard = self._recogniser.transcribe(waveform, rate)
        errors = character_error_rate(turn.text, heard, turn.voice.language)
        if errors <= self.config.max_error_rate:
            return None
        reason = (
            f"message {turn.message} by {turn.voice.speaker} says {turn.text!r} but was heard as {heard!r}: "
            f"{errors:.2f} errors per letter, at most {self.config.max_error_rate:g}"
        )
        return Fault("garbled", reason, filtered=True)

    def _put(self, row: Conversation, spoken: Sequence[tuple[_Turn, _Clip]]) -> Conversation:
        """A copy of the row with speech in it."""
        made = copy.deepcopy(row)
        for turn, clip in spoken:
            labels: dict[str, Any] = {
                k: v for k, v in (("speed", turn.speed), ("pitch", turn.pitch)) if v != 1.0
            }
            if turn.mood is not None:
                labels[EMOTION] = turn.mood
            if turn.given != turn.text:
                labels["spoken"] = turn.given
            part = Audio(
                len(made.audios), transcript=turn.text, language=turn.voice.language, speaker=turn.voice.speaker,
                labels=labels,
            )  # fmt: skip
            made.audios.append({"bytes": clip.data})
            message = made.messages[turn.message]
            if turn.mood is not None:
                message.more.pop(EMOTION, None)
            message.parts = [*message.parts, part] if message.role in self.config.keep_text else [part]
        return made


def _say(turn: _Turn) -> tuple[np.ndarray, int] | Fault:
    try:
        if turn.mood is not None:
            return turn.voice.express(turn.given, turn.seed, turn.speed, turn.pitch, MOODS[turn.mood])
        return turn.voice.say(turn.given, turn.seed, turn.speed, turn.pitch)
    except (AudioError, DataError) as error:
        return Fault("unspoken", f"message {turn.message} by {turn.voice.speaker}: {error}")
