"""How a mood sounds when a synthesizer speaks it: factors of speed and pitch, and a difference of level.

The directions are what studies of vocal emotion agree on (Murray and Arnott 1993, Scherer 2003): anger and joy are
faster, higher and louder, sadness slower, lower and softer, fear fast, high and soft, surprise very high, disgust slow
and low. The sizes are ours: large enough to be told apart in one voice, small enough that words stay clear.
"""

from __future__ import annotations

from dataclasses import dataclass

EMOTION = "emotion"  # key of messages, and of labels of audio parts


@dataclass(frozen=True)
class Mood:
    """Attributes:
    speed, pitch: Factors.
    level_db: Added to the level, dB.
    """

    speed: float = 1.0
    pitch: float = 1.0
    level_db: float = 0.0


MOODS = {
    "happy": Mood(1.15, 1.3, 2.0),
    "sad": Mood(0.75, 0.8, -5.0),
    "anger": Mood(1.3, 1.05, 6.0),
    "fear": Mood(1.4, 1.45, -4.0),
    "neutral": Mood(),
    "surprise": Mood(1.0, 1.65, 3.0),
    "disgust": Mood(0.8, 0.7, 1.0),
}
