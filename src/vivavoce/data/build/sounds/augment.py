"""`augment`: the same words in noise, rooms, telephones and codecs; and rows in which nothing is heard."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from vivavoce.audio.augment import Waveform
from vivavoce.base.errors import AudioError, ConfigError, VivavoceError
from vivavoce.base.records import read_record
from vivavoce.data.build.contract import Context, Fault, Made, Needs
from vivavoce.data.build.row_audio import drop_unnamed, hear, put_recording
from vivavoce.data.build.sounds.backgrounds import Folders
from vivavoce.data.build.sounds.effects import EFFECTS, LABEL, Around, Effect, codes_dropped
from vivavoce.data.build.sounds.unheard import UnheardConfig, unheard_row
from vivavoce.data.build.speech.loudness import PEAK
from vivavoce.data.build.speech.speak import SPEAKERS
from vivavoce.data.conversation import Audio, Conversation

Stale = Literal["drop", "fault"]
Place = tuple[int, int]
Sounds = Mapping[Place, tuple[Waveform, int]]
MOST_COPIES = 100
DEFAULT: tuple[Mapping[str, Any], ...] = (
    {"type": "speed", "p": 0.3},
    {"type": "room", "p": 0.4},
    {"type": "noise", "p": 0.6},
    {"type": "band", "p": 0.15},
    {"type": "codec", "p": 0.3},
    {"type": "gain", "p": 0.5},
    {"type": "dropouts", "p": 0.1},
)


@dataclass(frozen=True)
class AugmentConfig:
    """What is done to recordings, and to which.

    Attributes:
        effects: ``{"type": name, "p": how often, ...its settings}``, done in this order.
        copies: Of each row, each with effects of its own. One that comes out as the row was is left out if there is
            such a row already.
        keep: Keep the row as it was, too. With it, or with several copies, these are named ``id/augmented0``, ....
        roles: Whose recordings: "user", "assistant" or both. Those of others stay as they are, codes too.
        tokens: Codes of a recording that changes are no longer its codes: "drop" takes them away and says so in the
            labels, "fault" puts the row aside.
        unheard: Settings of rows in which nothing is heard (`UnheardConfig`); None makes none.
        max_seconds: Longer recordings are left out.
    """

    effects: tuple[Mapping[str, Any], ...] = DEFAULT
    copies: int = 1
    keep: bool = False
    roles: tuple[str, ...] = ("user",)
    tokens: Stale = "drop"
    unheard: Mapping[str, Any] | None = None
    max_seconds: float = 60.0

    def __post_init__(self) -> None:
        faults = [
            f"roles has {r!r}, wanted 'user', 'assistant' or both" for r in self.roles if r not in SPEAKERS
        ]
        if not self.roles:
            faults.append("wanted one or more roles")
        if not 0 <= self.copies <= MOST_COPIES:
            faults.append(f"copies is {self.copies}, wanted 0 to {MOST_COPIES}")
        if not self.copies and not self.keep:
            faults.append("with copies 0 and keep false nothing would be made of a row")
        if self.tokens not in get_args(Stale):
            faults.append(f"tokens is {self.tokens!r}, wanted one of {', '.join(get_args(Stale))}")
        if not 0 < self.max_seconds <= 3600:
            faults.append(f"max_seconds is {self.max_seconds}, wanted more than 0 and at most 3600")
        for make in (self.make_effects, self.make_unheard):
            try:
                make()
            except ConfigError as error:
                faults.append(str(error).rstrip("."))
        if faults:
            raise ConfigError("; ".join(faults))

    def make_effects(self) -> tuple[Effect, ...]:
        """The effects, in their order.

        Raises:
            ConfigError: All that is wrong with them.
        """
        made, faults = [], []
        for number, record in enumerate(self.effects):
            try:
                made.append(_read_effect(record, f"effects[{number}]"))
            except ConfigError as error:
                faults.append(str(error).rstrip("."))
        if faults:
            raise ConfigError("; ".join(faults))
        return tuple(made)

    def make_unheard(self) -> UnheardConfig | None:
        """Settings of rows in which nothing is heard.

        Raises:
            ConfigError: They are wrong.
        """
        return None if self.unheard is None else read_record(UnheardConfig, self.unheard, "unheard")


def _read_effect(record: Mapping[str, Any], where: str) -> Effect:
    if not isinstance(record, Mapping) or not isinstance(record.get("type"), str):
        raise ConfigError(
            f"{where} is {record!r}, wanted {{type: name, ...}} with one of {', '.join(EFFECTS)}"
        )
    cls = EFFECTS.get(record["type"])
    effect: Effect = read_record(cls, {k: v for k, v in record.items() if k != "type"}, where)
    return effect


class _StaleCodesError(VivavoceError):
    """A recording changes that has codes, and they are not to be dropped."""


class Augment:
    """Changes recordings; transcripts stay, times of words stay true, and labels tell what was done.

    A row is put aside if one of its recordings cannot be read ("unreadable"), is too long ("too_long"), has codes only
    ("no_recording"), or has codes that are to be kept ("stale_codes"); or if speed is among the effects and its turns
    have times in a dialogue, which would no longer be true ("timed"). Rows without such recordings pass.
    """

    config_class: ClassVar[type] = AugmentConfig
    version: ClassVar[int] = 1
    batch_rows: ClassVar[int] = 16

    @staticmethod
    def needs(config: AugmentConfig) -> Needs:
        return Needs()

    def __init__(self, config: AugmentConfig, context: Context) -> None:
        self.config, self.context, self.folders = config, context, Folders(context.root)
        effects, self._silence = config.make_effects(), config.make_unheard()
        self._steps = [(record["type"], e) for record, e in zip(config.effects, effects, strict=True)]
        self._speeds = any(name == "speed" for name, _ in self._steps)
        for effect in effects:
            effect.prepare(self.folders)
        if self._silence is not None:
            self._silence.prepare(self.folders)

    def __call__(self, rows: Sequence[Conversation]) -> list[Made]:
        return [self._make(row) for row in rows]

    def _make(self, row: Conversation) -> Made:
        sounds = self._hear(row)
        if isinstance(sounds, Fault):
            return sounds
        mine = {place: s for place, s in sounds.items() if row.messages[place[0]].role in self.config.roles}
        made = [copy.deepcopy(row)] if self.config.keep or not mine else []
        plain = bool(made)
        several = self.config.keep or self.config.copies > 1
        try:
            for number in range(self.config.copies if mine else 0):
                augmented, changed = self._copy(row, mine, number)
                if plain and not changed:
                    continue
                plain = plain or not changed
                augmented.id = f"{row.id}/augmented{number}" if several else row.id
                made.append(augmented)
        except _StaleCodesError as error:
            return Fault("stale_codes", str(error))
        except AudioError as error:
            return Fault("unreadable", str(error))
        return [*made, *self._unheard(row, sounds)]

    def _hear(self, row: Conversation) -> dict[Place, tuple[Waveform, int]] | Fault:
        """The recordings that may change, by message and part."""
        wanted = {*self.config.roles, *(("user",) if self._silence else ())}
        found: dict[Place, tuple[Waveform, int]] = {}
        for place, part in _places(row):
            message, where = row.messages[place[0]], f"part {place[1]} of message {place[0]}"
            if message.role not in wanted:
                continue
            if part.audio is None:
                return Fault("no_recording", f"{where} has codes and no recording that could be changed")
            if message.more.get("time") and message.role in self.config.roles and self._speeds:
                return Fault(
                    "timed", f"message {place[0]} has times in a dialogue; leave speed out of the effects"
                )
            try:
                sound, rate = hear(part, row, self.context.root)
            except AudioError as error:
                return Fault("unreadable", f"{where}: {error}")
            if sound.size > self.config.max_seconds * rate:
                seconds, most = sound.size / rate, self.config.max_seconds
                return Fault(
                    "too_long", f"{where} lasts {seconds:.1f} s, at most {most:g} s are kept", filtered=True
                )
            found[place] = (sound, rate)
        return found

    def _copy(self, row: Conversation, sounds: Sounds, number: int) -> tuple[Conversation, bool]:
        """A copy with effects, and whether there were any."""
        made = copy.deepcopy(row)
        changed = False
        for place, part in _places(made):
            if place not in sounds:
                continue
            sound, rate = sounds[place]
            told: list[dict[str, Any]] = []
            factor = 1.0
            around = Around(self.folders, lambda hz, place=place: self._others(row, place, hz))  # type: ignore[misc]
            for step, (name, effect) in enumerate(self._steps):
                rng = self._rng(row, number, *place, step, name)
                result = effect(sound, rate, rng, around) if rng.random() < effect.p else None
                if result is not None:
                    sound, factor = result.waveform, factor * result.factor
                    told.append({"type": name, **result.told})
            if told:
                self._put(part, made, sound, rate, told, factor)
                changed = True
        if changed:
            drop_unnamed(made)
        return made, changed

    def _put(
        self,
        part: Audio,
        row: Conversation,
        sound: Waveform,
        rate: int,
        told: list[dict[str, Any]],
        factor: float,
    ) -> None:
        """Give a part its changed recording, and keep what is said of it true."""
        peak = float(np.abs(sound).max())
        if peak > 1:
            told.append({"type": "limit", "db": round(20 * float(np.log10(PEAK / peak)), 3)})
            sound = sound * np.float32(PEAK / peak)
        before = part.labels.get(LABEL)
        label = dict(before) if isinstance(before, Mapping) else {}
        label["effects"] = [*label.get("effects", ()), *told]
        if part.tokens is not None:
            if self.config.tokens == "fault":
                raise _StaleCodesError(
                    f"a recording has codes of {part.tokens.get('codec')!r}; tokenize after augment"
                )
            label |= codes_dropped(part.tokens)
        if part.words is not None:
            part.words = [(word, start / factor, end / factor) for word, start, end in part.words]
        part.labels = {**part.labels, LABEL: label}
        put_recording(part, row, sound, rate)

    def _others(self, row: Conversation, place: Place, sample_rate: int) -> list[Waveform]:
        """What others say in the row: other speakers by name, or other roles where there are no names."""
        mine = dict(_places(row))[place].speaker
        found = []
        for other, part in _places(row):
            if mine and part.speaker:
                same = part.speaker == mine
            else:
                same = row.messages[other[0]].role == row.messages[place[0]].role
            if part.audio is not None and other != place and not same:
                sound, _ = hear(part, row, self.context.root, sample_rate, self.config.max_seconds)
                found.append(sound)
        return found

    def _unheard(self, row: Conversation, sounds: Sounds) -> list[Conversation]:
        """The row in which nothing is heard, if this row gets one."""
        config = self._silence
        turns = sorted({m for m, _ in sounds if row.messages[m].role == "user"})
        if config is None or not turns:
            return []
        rng = self._rng(row, "unheard")
        if rng.random() >= config.share:
            return []
        turn = turns[int(rng.integers(len(turns)))]
        heard = {part: sound for (message, part), sound in sounds.items() if message == turn}
        made = unheard_row(row, turn, heard, config, rng, self.folders)
        return [] if made is None else [made]

    def _rng(self, row: Conversation, *names: object) -> np.random.Generator:
        return np.random.default_rng(self.context.number(row.id, "augment", *names))


def _places(row: Conversation) -> list[tuple[Place, Audio]]:
    """All audio parts by message and part."""
    return [
        ((i, k), part)
        for i, message in enumerate(row.messages)
        for k, part in enumerate(message.parts)
        if isinstance(part, Audio)
    ]
