"""`describe`: recordings are measured, the numbers named, and the names said in a sentence."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from vivavoce.base.errors import AudioError, DataError, VocabularyError
from vivavoce.data.build.contract import Context, Fault, Made, Needs
from vivavoce.data.build.descriptions.describe_config import GENDERS, NAMED, SAID, DescribeConfig
from vivavoce.data.build.descriptions.describing import TEMPLATES, fill, request, slot_words
from vivavoce.data.build.descriptions.scales import ASPECTS, Scale, name_numbers, read_scales
from vivavoce.data.build.descriptions.sound_measures import measure_sound
from vivavoce.data.build.descriptions.speech_measures import count_units, measure_speech
from vivavoce.data.build.row_audio import drop_unnamed, hear
from vivavoce.data.build.texts.language_models import ModelSettings, make_language_model, public_name
from vivavoce.data.conversation import Audio, Conversation, Message, Text

SHORTEST_S = 0.2


@dataclass
class _Clip:
    """A recording on its way.

    Attributes:
        name: Of the row that it becomes.
        labels: With what is measured.
        gender, subject: If known.
        said: Aspects that the description speaks of -> names.
        description: Once there is one.
    """

    name: str
    labels: dict[str, Any]
    gender: str | None
    subject: str | None
    said: dict[str, str]
    description: str | None = None


class Describe:
    """Measures and describes recordings.

    Numbers, names and the description stand in the recording's labels, all under names of Parler-TTS where that has
    them. A row is put aside if it has no recording of the roles ("no_recording"), or one that cannot be read
    ("unreadable"), is too long ("too_long"), shorter than 0.2 s ("too_short"), silent ("silent"), of speech without
    transcript ("no_transcript"), with letters that cannot be counted ("unpronounceable") or without any voiced sound
    ("unvoiced"); if nothing is left to say ("undescribed"); or if the model fails or is cut off.
    """

    config_class: ClassVar[type] = DescribeConfig
    version: ClassVar[int] = 1
    batch_rows: ClassVar[int] = 16

    @staticmethod
    def needs(config: DescribeConfig) -> Needs:
        return Needs() if config.model is None else Needs.of_models(config.model)

    def __init__(self, config: DescribeConfig, context: Context) -> None:
        self.config, self.context = config, context
        self._scales: dict[str, Scale] = read_scales(config.scales)
        self._middles = {scale.middle for scale in self._scales.values()}
        self._aspects = config.aspects or SAID[config.kind]
        self._templates = config.templates or TEMPLATES[config.kind]
        settings = ModelSettings(config.dtype, False, config.template_options, config.endpoint)
        self._model = None if config.model is None else make_language_model(config.model, settings, context)

    def __call__(self, rows: Sequence[Conversation]) -> list[Made]:
        plans = [self._plan(row) for row in rows]
        clips = [
            clip for plan in plans if not isinstance(plan, Fault) for clip in plan if not clip.description
        ]
        written = {id(clip): text for clip, text in zip(clips, self._write(clips), strict=True)}
        made: list[Made] = []
        for row, plan in zip(rows, plans, strict=True):
            if isinstance(plan, Fault):
                made.append(plan)
                continue
            texts = [clip.description or written[id(clip)] for clip in plan]
            fault = next((text for text in texts if isinstance(text, Fault)), None)
            made.append(fault or self._rows(row, plan, [str(text) for text in texts]))
        return made

    def _parts(self, row: Conversation) -> list[Audio]:
        return [part for m in row.messages if m.role in self.config.roles for part in m.audios]

    def _plan(self, row: Conversation) -> list[_Clip] | Fault:
        parts = self._parts(row)
        if not parts:
            return Fault("no_recording", f"the row has no recording of {' or '.join(self.config.roles)}")
        clips = []
        for number, part in enumerate(parts):
            clip = self._clip(row, part, row.id if len(parts) == 1 else f"{row.id}/{number}")
            if isinstance(clip, Fault):
                return clip
            clips.append(clip)
        return clips

    def _clip(self, row: Conversation, part: Audio, name: str) -> _Clip | Fault:
        """Measure a recording, and name what was measured."""
        config = self.config
        numbers = self._measure(row, part)
        if isinstance(numbers, Fault):
            return numbers
        old = dict(part.labels)
        for aspect in [a for a in ASPECTS if a in old and not isinstance(old[a], str)]:
            old[f"{aspect}_given"] = old.pop(aspect)  # such as the factors that a synthesizer was told
        drop = [n for n in numbers if n != "phonemes" and not isinstance(old.get(n, 0), int | float)]
        drop += ["description"] if config.existing == "replace" else []
        old = {name: value for name, value in old.items() if name not in drop}
        gender = GENDERS.get(str(old.get("gender") or config.genders.get(part.speaker or "", "")).lower())
        subject = None if config.subject is None else old.get(config.subject)
        if config.subject is not None and (not isinstance(subject, str) or not subject.strip()):
            return Fault("no_subject", f"the recording has no label {config.subject!r} to say what is heard")
        measured = numbers | ({"gender": gender} if gender else {})
        labels = {**old, **measured} if config.existing == "replace" else {**measured, **old}
        names = {
            aspect: word
            for aspect, word in name_numbers(labels, gender, self._scales).items()
            if aspect in NAMED[config.kind]
        }
        labels = {**labels, **names} if config.existing == "replace" else {**names, **labels}
        return _Clip(name, labels, gender, subject, self._said(name, labels), labels.get("description"))

    def _measure(self, row: Conversation, part: Audio) -> dict[str, Any] | Fault:
        config = self.config
        if part.audio is None:
            return Fault("no_recording", "there are only codes, and no recording to be measured")
        if config.kind == "speech" and not any(c.isalnum() for c in part.transcript or ""):
            return Fault("no_transcript", "a recording of speech has no transcript to tell the rate by")
        try:
            waveform, rate = hear(part, row, self.context.root)
        except AudioError as error:
            return Fault("unreadable", str(error))
        seconds = waveform.size / rate
        if seconds > config.max_seconds:
            reason = f"the recording lasts {seconds:.1f} s, at most {config.max_seconds:g} s are described"
            return Fault("too_long", reason, filtered=True)
        if seconds < SHORTEST_S:
            reason = f"the recording lasts {seconds:.2f} s, at least {SHORTEST_S:g} s are described"
            return Fault("too_short", reason, filtered=True)
        if float(np.abs(waveform).max()) <= 10 ** (config.silence_db / 20):
            reason = f"the recording has no sample above {config.silence_db:g} dB of full scale"
            return Fault("silent", reason)
        if config.kind != "speech":
            return dict(measure_sound(waveform, rate, config.kind == "music"))
        try:
            units = count_units(part.transcript or "", part.language or config.language)
        except VocabularyError as error:
            return Fault("unpronounceable", str(error))
        numbers = measure_speech(waveform, rate, units)
        if "utterance_pitch_mean" not in numbers:
            return Fault("unvoiced", "the recording has no voiced sound, wanted speech")
        return dict(numbers)

    def _said(self, name: str, labels: Mapping[str, Any]) -> dict[str, str]:
        """What the description speaks of."""
        found = {a: labels[a] for a in self._aspects if isinstance(labels.get(a), str)}
        rng = self.context.rng(name, "omitted")
        kept = {
            a: word
            for a, word in found.items()
            if rng.random() >= self.config.omit or word not in self._middles
        }
        return kept or found

    def _write(self, clips: Sequence[_Clip]) -> list[str | Fault]:
        """Descriptions by templates or the model."""
        if self._model is None:
            return [self._fill(clip) for clip in clips]
        prompts = [
            [{"role": "user", "content": request(c.said, self.config.kind, c.gender, c.subject)}]
            for c in clips
        ]
        replies = self._model.answer(prompts, self.config.max_new_tokens) if prompts else []
        found: list[str | Fault] = []
        for reply in replies:
            if isinstance(reply, Fault):
                found.append(reply)
            elif reply.finished is False:
                reason = (
                    f"the description was cut at {self.config.max_new_tokens} tokens: {reply.text[-60:]!r}"
                )
                found.append(Fault("unfinished", reason, filtered=True))
            else:
                found.append(" ".join(reply.text.strip().strip('"').split()))
        return found

    def _fill(self, clip: _Clip) -> str | Fault:
        words = slot_words(clip.said, self.config.kind, clip.gender, clip.subject)
        template = self.context.rng(clip.name, "template").choice(self._templates)
        if not clip.said and not clip.subject:
            return Fault("undescribed", f"none of {', '.join(self._aspects)} is known of the recording")
        try:
            return fill(template, words)
        except DataError as error:
            return Fault("undescribed", str(error))

    def _rows(self, row: Conversation, clips: Sequence[_Clip], texts: Sequence[str]) -> list[Conversation]:
        if self.config.form == "labels":
            made = copy.deepcopy(row)
            for part, clip, text in zip(self._parts(made), clips, texts, strict=True):
                part.labels = clip.labels | {"description": text}
            return [made]
        return [
            self._row(row, place, clip, text)
            for place, (clip, text) in enumerate(zip(clips, texts, strict=True))
        ]

    def _row(self, row: Conversation, place: int, clip: _Clip, text: str) -> Conversation:
        """A row of one recording."""
        made = copy.deepcopy(row)
        part = self._parts(made)[place]
        part.labels = clip.labels | {"description": text}
        form = self.config.form
        made.id, made.task, made.tools = clip.name, form, []
        if form == "describe":
            question = self.context.rng(clip.name, "question").choice(self.config.questions)
            made.messages = [Message("user", [part, Text(question)]), Message("assistant", [Text(text)])]
        else:
            words = {"description": text, "text": part.transcript or ""}
            prompt = "{description}" if form == "generate" else self.config.prompt
            asked = re.sub(r"\{(description|text)\}", lambda found: words[found[1]], prompt)
            made.messages = [Message("user", [Text(asked)]), Message("assistant", [part])]
        drop_unnamed(made)
        if self.config.model is not None:
            made.meta["description"] = {"model": public_name(self.config.model)}
        return made
