"""A dialogue in which a user's emotions change: its turns, as the readers give them."""

from __future__ import annotations

from dataclasses import dataclass

from vivavoce.tokens.trajectory import QUESTIONS, language_of

TRAJECTORY = "trajectory"


@dataclass(frozen=True)
class UserTurn:
    """What the user said in one turn, and what the assistant answered.

    Attributes:
        number: As the file numbers it; from 1 where it does not.
        text: Transcript, with marks of sounds such as "[laughter]"; "" for none.
        audio: Name of the recording as the file has it; "" for none.
        path: Where the recording is looked for; "" for none.
        emotion: One of the seven labels, None if none is given or it is none of the seven.
        emotion_given: The label as it is written; "" for none.
        reply: The assistant's answer; "" for none.
        reply_audio: Where a recording of the answer is looked for; "" for none.
    """

    number: int
    text: str
    audio: str = ""
    path: str = ""
    emotion: str | None = None
    emotion_given: str = ""
    reply: str = ""
    reply_audio: str = ""


@dataclass(frozen=True)
class Dialogue:
    """A dialogue whose last user turn is a question about what was said before.

    Attributes:
        id: As the file has it; "" for none.
        place: Where it stands in its file.
        task: "trajectory", "reasoning", "empathy", or the file's own name for another.
        task_name: As the file has it, such as "task1_emotional_trajectory"; "" for none.
        turns: One or more.
        order: Typed instruction after the dialogue; "" for none.
    """

    id: str
    place: str
    task: str
    task_name: str
    turns: tuple[UserTurn, ...]
    order: str = ""

    @property
    def name(self) -> str:
        """The id, or the place where there is none."""
        return self.id or self.place

    @property
    def language(self) -> str:
        """ "zh" or "en", by what the user and the assistant say."""
        said = " ".join(f"{turn.text} {turn.reply}" for turn in self.turns)
        return language_of(said) or "en"

    @property
    def emotions(self) -> tuple[str, ...]:
        """A label per turn; () unless every turn has one."""
        labels = tuple(turn.emotion for turn in self.turns if turn.emotion)
        return labels if len(labels) == len(self.turns) else ()

    @property
    def target(self) -> str:
        """The answer to the last turn; "" for none."""
        return self.turns[-1].reply

    @property
    def texts(self) -> tuple[str, ...]:
        """What the user said, turn by turn."""
        return tuple(turn.text for turn in self.turns)

    @property
    def replies(self) -> tuple[str, ...]:
        """What the assistant said after each turn but the last."""
        return tuple(turn.reply for turn in self.turns[:-1])

    @property
    def instruction(self) -> str:
        """The typed instruction: the file's own, or ours in the dialogue's language."""
        return self.order or QUESTIONS[self.language]
