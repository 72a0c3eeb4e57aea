"""Settings of `describe`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from vivavoce.base.errors import ConfigError
from vivavoce.data.build.descriptions.describing import QUESTIONS, check_template
from vivavoce.data.build.descriptions.scales import read_scales
from vivavoce.data.build.texts.language_models import check_name
from vivavoce.data.build.texts.local_models import check_dtype
from vivavoce.data.conversation import ROLES

Form = Literal["describe_tts", "generate", "describe", "labels"]
Kind = Literal["speech", "sound", "music"]
Existing = Literal["keep", "replace"]

NAMED: dict[str, tuple[str, ...]] = {
    "speech": ("pitch", "speaking_rate", "speech_monotony", "noise", "loudness", "bandwidth"),
    "sound": ("duration", "loudness", "dynamics", "brightness"),
    "music": ("duration", "tempo", "loudness", "dynamics", "brightness"),
}
"""Aspects that recordings of a kind are measured by."""
SAID = {**NAMED, "speech": ("pitch", "speaking_rate", "speech_monotony", "noise", "reverberation")}
"""Aspects that descriptions speak of unless told otherwise."""
GENDERS = {
    **dict.fromkeys(("male", "m", "man"), "male"),
    **dict.fromkeys(("female", "f", "woman"), "female"),
}


@dataclass(frozen=True)
class DescribeConfig:
    """What is described, and what becomes of it.

    Attributes:
        kind: "speech" (of one voice, with a transcript), "sound" or "music".
        form: "describe_tts" makes rows of a description and a text to be said that way, "generate" of a description
            and its sound, "describe" of a recording and its description; each recording becomes a row. "labels"
            leaves the row as it is but for its labels.
        roles: Whose recordings.
        language: Of recordings that name none. Rates are phones a second in English, else letters or signs.
        genders: Speaker -> "male" or "female", for those whose recordings have no label "gender". Pitch is high
            or low for that gender, or among all voices where it is not known.
        aspects: What descriptions speak of, instead of what is usual for the kind.
        omit: Share of middling aspects that a description leaves out, by chance: "moderate speed" says little.
        scales: Scale -> ``{"edges", "names"}``, as in `scales.SCALES`, to replace them.
        templates: Instead of those in `describing.py`; a row draws one.
        model: Language model that writes descriptions instead of templates: ``transformers:NAME``,
            ``endpoint:MODEL`` or ``service:NAME``.
        subject: Label that says what is heard ("caption"), for sounds and music.
        existing: Labels that are there already, descriptions of published sets too: "keep" or "replace".
        prompt: The user's turn of "describe_tts", with {description} and {text}.
        questions: The user's words of "describe"; a row draws one.
        max_seconds: Longer recordings are left out.
        silence_db: A recording without any sample above this level (dB of full scale) counts as silent.
        max_new_tokens: Longer descriptions of a model are put aside.
        dtype, template_options, endpoint: As in `language_models.ModelSettings`.
    """

    kind: Kind = "speech"
    form: Form = "describe_tts"
    roles: tuple[str, ...] = ("user", "assistant")
    language: str | None = None
    genders: Mapping[str, str] = field(default_factory=dict)
    aspects: tuple[str, ...] = ()
    omit: float = 0.0
    scales: Mapping[str, Any] = field(default_factory=dict)
    templates: tuple[str, ...] = ()
    model: str | None = None
    subject: str | None = None
    existing: Existing = "keep"
    prompt: str = "{description}\n\n{text}"
    questions: tuple[str, ...] = QUESTIONS
    max_seconds: float = 60.0
    silence_db: float = -70.0
    max_new_tokens: int = 160
    dtype: str = "float32"
    template_options: Mapping[str, Any] = field(default_factory=dict)
    endpoint: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        faults = []
        for name, options in (("kind", Kind), ("form", Form), ("existing", Existing)):
            if getattr(self, name) not in get_args(options):
                faults.append(
                    f"{name} is {getattr(self, name)!r}, wanted one of {', '.join(get_args(options))}"
                )
        if (
            not faults
            and (self.kind == "speech") != (self.form == "describe_tts")
            and self.form in ("describe_tts", "generate")
        ):
            faults.append(
                f"form is {self.form!r} and kind {self.kind!r}, wanted 'describe_tts' for speech and "
                "'generate' for others"
            )
        if not self.roles or set(self.roles) - set(ROLES):
            faults.append(f"roles is {list(self.roles)}, wanted some of {', '.join(ROLES)}")
        known = SAID.get(self.kind, ())
        known = (*known, *(a for a in NAMED.get(self.kind, ()) if a not in known))
        odd = [aspect for aspect in self.aspects if aspect not in known]
        faults += [f"aspects has {odd[0]!r}, wanted some of {', '.join(known)}"] if odd else []
        odd = [
            f"{who}: {gender}"
            for who, gender in self.genders.items()
            if GENDERS.get(str(gender).lower()) is None
        ]
        faults += [f"genders has {odd[0]!r}, wanted 'male' or 'female'"] if odd else []
        if not 0 <= self.omit <= 1:
            faults.append(f"omit is {self.omit}, wanted 0 to 1")
        if not 0 < self.max_seconds <= 120 or not -200 <= self.silence_db < 0 or self.max_new_tokens < 1:
            faults.append(
                "wanted max_seconds above 0 and at most 120, silence_db of -200 to below 0 and "
                "max_new_tokens of 1 or more"
            )
        if self.prompt.count("{description}") != 1 or self.prompt.count("{text}") != 1:
            faults.append(f"prompt is {self.prompt!r}, wanted {{description}} and {{text}} in it, once each")
        if not self.questions or not all(question.strip() for question in self.questions):
            faults.append("wanted one or more questions")
        if self.model is not None and self.templates:
            faults.append("wanted model or templates, not both")
        if faults:
            raise ConfigError("; ".join(faults))
        slots = (*known, "speaker") if self.kind == "speech" else (*known, "subject")
        for number, template in enumerate(self.templates):
            check_template(template, slots, f"templates[{number}]")
        read_scales(self.scales)
        check_dtype(self.dtype)
        if self.model is not None:
            check_name(self.model, "model")
