"""Emotional trajectories as text: seven labels and their words, and the line that ends an answer.

An answer is a description, then optionally a new line ``情绪序列: surprise -> disgust -> neutral``, one label
per user turn. Training rows, answers of models and their scores all read and write it here.
"""

# ruff: noqa: RUF001  (Chinese punctuation is meant)

from __future__ import annotations

import re
from collections.abc import Sequence

from vivavoce.base.errors import ConfigError

EMOTIONS = ("happy", "sad", "anger", "fear", "neutral", "surprise", "disgust")
LANGUAGES = ("zh", "en")

# label -> words that mean it, as a label or in running text
EMOTION_WORDS: dict[str, tuple[str, ...]] = {
    "happy": ("happy", "happiness", "joy", "joyful", "开心", "高兴", "快乐", "喜悦", "愉快", "幸福"),
    "sad": ("sad", "sadness", "unhappy", "悲伤", "难过", "伤心", "哀伤", "不开心", "不高兴", "不快乐"),
    "anger": ("anger", "angry", "愤怒", "生气", "气愤", "恼怒", "恼火"),
    "fear": ("fear", "fearful", "afraid", "scared", "恐惧", "害怕", "惊恐", "恐慌"),
    "neutral": ("neutral", "calm", "中性", "中立", "平静", "平和"),
    "surprise": ("surprise", "surprised", "惊讶", "惊喜", "吃惊", "惊奇", "诧异"),
    "disgust": ("disgust", "disgusted", "厌恶", "恶心", "反感", "嫌恶"),
}
HEADERS = {"zh": "情绪序列: ", "en": "Emotion sequence: "}
ARROW = " -> "

# asked when neither the caller nor the model's own prompts say how
QUESTIONS = {
    "zh": "我每一轮说话时是什么情绪？请讲讲我的情绪从头到尾是怎样变化的。",
    "en": "How did I feel in each turn? Tell me how my emotions changed from the first turn to the last.",
}

_LABEL_OF = {word: label for label, words in EMOTION_WORDS.items() for word in words}
_WORD = "|".join(
    rf"(?<![A-Za-z]){word}(?![A-Za-z])" if word.isascii() else word
    for word in sorted(_LABEL_OF, key=len, reverse=True)
)
_WORDS = re.compile(_WORD, re.IGNORECASE)
_ARROW = r"[ \t]*(?:[-—–=]+[>＞》]|[→⇒➔➜⟶>＞])[ \t]*"
_PIECE = rf"(?:(?!{_ARROW})[^\n,，、。；;!！.]){{1,40}}"
_HEADER = re.compile(
    r"\n?[ \t]{0,8}\*{0,2}(?:情[绪感]序列|emotion(?:al)? sequence)\*{0,2}[ \t]*[:：]\*{0,2}[ \t]*",
    re.IGNORECASE,
)
_SEQUENCE = re.compile(  # words between arrows; or known labels between commas, or a single one
    rf"(?P<arrows>{_PIECE}(?:{_ARROW}{_PIECE})+)|(?P<list>(?:{_WORD})(?:[ \t]*[,，、][ \t]*(?:{_WORD}))*)",
    re.IGNORECASE,
)
_AFTER = re.compile(r"[ \t]*[*。.,，、；;!！]*")
_MARKS = " \t\r*_`\"'“”‘’[]【】()（）<>《》"
_LONGEST_LABEL = 24  # characters; a longer piece between arrows is a sentence
_SOUND_MARK = re.compile(r"[\[【]([^\[\]【】\n]{1,20})[\]】]")


def read_emotion(word: str) -> str | None:
    """The label that a word means, whatever its case and language; None if it is none of the seven."""
    return _LABEL_OF.get(word.strip().lower())


def format_trajectory(description: str, emotions: Sequence[str], language: str = "zh") -> str:
    """Write a description with its line of labels; ``parse_trajectory`` gives back exactly both.

    Args:
        description: Kept letter for letter.
        emotions: One label per turn, in any of the accepted words; without labels there is no line.
        language: Of the line's header, "zh" (the published form) or "en"; the labels are always English.

    Raises:
        ConfigError: An unknown label or language, or no labels for a description that would be read as having
            some.
    """
    if language not in HEADERS:
        raise ConfigError(f"language is {language!r}; wanted one of {', '.join(HEADERS)}.")
    labels = [read_emotion(word) for word in emotions]
    unknown = [str(word) for word, label in zip(emotions, labels, strict=True) if label is None]
    if unknown:
        raise ConfigError(f"unknown emotions {', '.join(unknown)}; known: {', '.join(EMOTIONS)}.")
    if not labels:
        if parse_trajectory(description)[1]:
            raise ConfigError(
                "the description has a line of emotions already and no labels are given; take the line away or "
                "give its labels."
            )
        return description
    return f"{description}\n{HEADERS[language]}{ARROW.join(str(label) for label in labels)}"


def parse_trajectory(text: str, guess: bool = False) -> tuple[str, tuple[str, ...]]:
    """Split an answer into its description and its emotions, the inverse of ``format_trajectory``.

    Models write the line in many ways, so this takes full-width colons, ``->``, ``→``, ``—>``, ``=>``, ``>``
    or commas, bold headers, a header in the middle of a line, and labels in Chinese or English. A word between
    arrows that is no known label stays in its place as it was written, in lower case: it counts as a turn, and
    as wrong. Of several such lines the last one counts.

    Args:
        text: What the model wrote.
        guess: Without such a line, read the emotions from the words of the description in order; the same
            emotion several times on end counts once.

    Returns:
        The description, verbatim and with what follows the line, and one label per turn, () for none.
    """
    for header in reversed(list(_HEADER.finditer(text))):
        sequence = _SEQUENCE.match(text, header.end())
        labels = _labels(sequence) if sequence else ()
        if sequence and labels:
            after = _AFTER.match(text, sequence.end())
            return text[: header.start()] + text[after.end() if after else sequence.end() :], labels
    return text, tuple(_named(text)) if guess else ()


def _labels(sequence: re.Match[str]) -> tuple[str, ...]:
    """The labels of a sequence, () if this is none."""
    if sequence["list"]:
        return tuple(_LABEL_OF[word.lower()] for word in _WORDS.findall(sequence["list"]))
    words = [word.strip(_MARKS) for word in re.split(_ARROW, sequence["arrows"])]
    labels = [read_emotion(word) or _first_word(word) or word.lower() for word in words]
    if not set(labels) & set(EMOTIONS) or any(not 0 < len(label) <= _LONGEST_LABEL for label in labels):
        return ()
    return tuple(labels)


def _first_word(phrase: str) -> str | None:
    """The label of "sad" in "sad (at the end)"."""
    return read_emotion(re.split(r"[\s(（]", phrase)[0])


def _named(text: str) -> list[str]:
    labels: list[str] = []
    for found in _WORDS.finditer(text):
        label = _LABEL_OF[found[0].lower()]
        if labels[-1:] != [label]:
            labels.append(label)
    return labels


def sound_marks(text: str) -> list[str]:
    """Sounds that a transcript marks in square brackets, such as "laughter" of "[laughter]"."""
    return [found.strip() for found in _SOUND_MARK.findall(text)]


def without_sound_marks(text: str) -> str:
    """A transcript without its marks of sounds, as it would be spoken."""
    return re.sub(r"[ \t]{2,}", " ", _SOUND_MARK.sub("", text)).strip()


def language_of(text: str) -> str | None:
    """ "zh" for text with more Chinese characters than Latin words, "en" for other words, None for none."""
    chinese, latin = len(re.findall(r"[\u4e00-\u9fff]", text)), len(re.findall(r"[A-Za-z]+", text))
    return "zh" if chinese > latin else "en" if latin else None
