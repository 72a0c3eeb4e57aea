"""Names to sentences: templates with slots and optional stretches, and the request to a language model.

``"{speaker} speaks[ {speaking_rate}][ in a {pitch} voice]."``: a stretch in brackets goes if one of its slots has no
name; "a" becomes "an" before a name that needs it; sentences begin with capitals.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from vivavoce.base.errors import ConfigError, DataError

SPEECH = (
    "{speaker} speaks[ {speaking_rate}][ in a {pitch} voice].[ The delivery is {speech_monotony}.]"
    "[ The recording is {noise}.][ The voice is {loudness}.][ It sounds {reverberation}.]"
    "[ The sound is {bandwidth}.]",
    "{speaker}[ with a {pitch} voice] talks[ {speaking_rate}][, in a tone that is {speech_monotony}]."
    "[ The audio is {noise}.][ The speech is {loudness}.][ The speaker is {reverberation}.]"
    "[ It is a {bandwidth} recording.]",
    "[In a recording that is {noise}, ]{speaker} says the words[ {speaking_rate}][, with a {pitch} voice]."
    "[ The manner is {speech_monotony}.][ The level is {loudness}.][ The voice sounds {reverberation}.]"
    "[ The sound is {bandwidth}.]",
    "[This is a {pitch} voice. ]{speaker} reads[ {speaking_rate}][ and sounds {speech_monotony}]."
    "[ The sound is {noise}.][ It is {loudness}.][ The recording is {reverberation}.]"
    "[ It is a {bandwidth} recording.]",
)
SOUND = (
    "[{subject}. ]This is a[ {duration}] sound[ with a {brightness} tone].[ It is {loudness}.]"
    "[ Its level is {dynamics}.]",
    "[{subject}. ]A[ {duration}] recording.[ The tone is {brightness}.][ The sound is {loudness}.]"
    "[ The volume is {dynamics}.]",
    "[Here one hears: {subject}. ]The recording is of a sound.[ It is {duration}.][ The tone is {brightness}.]"
    "[ It is {loudness}.][ Its volume is {dynamics}.]",
)
MUSIC = (
    "[{subject}. ]A[ {duration}] piece of music[ at a {tempo} tempo][ with a {brightness} sound]."
    "[ It is {loudness}.][ Its level is {dynamics}.]",
    "[{subject}. ]This is music[ with a {tempo} tempo].[ The sound is {brightness}.][ The piece is {duration}.]"
    "[ It is {loudness}.][ The volume is {dynamics}.]",
)
TEMPLATES = {"speech": SPEECH, "sound": SOUND, "music": MUSIC}

REQUEST = (
    "Describe a recording in one or two plain sentences. Say all of these properties and nothing else. Do not give "
    "numbers, and do not quote what is said.\n\n{properties}"
)
QUESTIONS = (
    "Describe how this sounds.", "What does this recording sound like?", "Describe the sound of this recording.",
)  # fmt: skip

_PHRASES = {  # names that do not fit into a sentence as they are
    ("speaking_rate", "moderate speed"): "at a moderate speed",
    ("loudness", "moderate volume"): "of moderate volume",
    ("pitch", "moderate pitch"): "moderately pitched",
}
_SPEAKERS = {"male": "a man", "female": "a woman", None: "a speaker"}
_SLOT = re.compile(r"\{([^{}\[\]]*)\}")
_STRETCH = re.compile(r"\[([^\[\]]*)\]")


def check_template(template: str, known: Collection[str], what: str) -> None:
    """Refuse a template with unknown slots, or brackets that do not match.

    Raises:
        ConfigError: With the known slots.
    """
    slots = _SLOT.findall(template)
    unknown = [slot for slot in slots if slot not in known]
    if unknown:
        raise ConfigError(f"{what} has the slot {unknown[0]!r}, wanted some of {', '.join(known)}")
    if not slots or set("{}[]") & set(_STRETCH.sub("", _SLOT.sub("", template))):
        raise ConfigError(f"{what} is {template!r}, wanted {{slots}}, with [optional] stretches that close")


def fill(template: str, words: Mapping[str, str]) -> str:
    """Fill a template.

    Args:
        template: That ``check_template`` lets pass.
        words: Slot -> words, without those that have none.

    Raises:
        DataError: A slot outside brackets has no words.
    """

    def stretch(found: re.Match[str]) -> str:
        return found[1] if all(slot in words for slot in _SLOT.findall(found[1])) else ""

    def slot(found: re.Match[str]) -> str:
        if found[1] not in words:
            raise DataError(f"the template needs {found[1]!r}, which is not known of this recording")
        return words[found[1]]

    kept = _STRETCH.sub(stretch, template)
    kept = re.sub(r"\b([Aa]) (?=\{)", lambda m: f"{m[1]}n " if _vowel(kept, m.end(), words) else m[0], kept)
    text = " ".join(_SLOT.sub(slot, kept).split())
    return re.sub(r"(^|[.!?] )([a-z])", lambda m: m[1] + m[2].upper(), text)


def _vowel(template: str, place: int, words: Mapping[str, str]) -> bool:
    """Whether the slot at a place begins with a vowel."""
    found = _SLOT.match(template, place)
    return found is not None and words.get(found[1], "")[:1].lower() in set("aeiou")


def slot_words(
    names: Mapping[str, str], kind: str, gender: str | None, subject: str | None
) -> dict[str, str]:
    """What stands in slots.

    Args:
        names: Aspect -> name.
        kind: "speech" has a speaker.
        gender: Of the speaker, "male" or "female", if known.
        subject: What is heard, if known.
    """
    found = {aspect: _PHRASES.get((aspect, name), name) for aspect, name in names.items()}
    found |= {"speaker": _SPEAKERS[gender]} if kind == "speech" else {}
    return found | ({"subject": subject.strip().rstrip(".")} if subject and subject.strip() else {})


def request(names: Mapping[str, str], kind: str, gender: str | None, subject: str | None) -> str:
    """What a language model is asked."""
    lines = [f"- kind: {kind}"]
    lines += [f"- speaker: {_SPEAKERS[gender]}"] if kind == "speech" else []
    lines += [f"- what is heard: {subject.strip()}"] if subject and subject.strip() else []
    lines += [f"- {aspect.replace('_', ' ')}: {name}" for aspect, name in names.items()]
    return REQUEST.replace("{properties}", "\n".join(lines))
