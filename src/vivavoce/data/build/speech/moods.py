"""How a mood sounds when a synthesizer speaks it: speed, pitch and its range, level, and pauses between words.

The directions are what studies of vocal emotion agree on (Murray and Arnott 1993, Scherer 2003): anger and joy are
faster, higher, louder and livelier in melody, sadness slower, lower, softer, flatter and full of pauses, fear fast,
high and soft, surprise very high with the widest melody, disgust slow and low. The sizes are ours: large enough to be
told apart in one voice, small enough that words stay clear. docs/data.md shows this table.
"""

from __future__ import annotations

from dataclasses import dataclass

EMOTION = "emotion"  # key of messages, and of labels of audio parts


@dataclass(frozen=True)
class Mood:
    """Attributes:
    speed, pitch: Factors.
    level_db: Added to the level, dB.
    pitch_range: Factor on how far the melody rises and falls, where the voice can change it.
    word_gap_s: Silence between words at speed 1, seconds, where the voice can make it.
    """

    speed: float = 1.0
    pitch: float = 1.0
    level_db: float = 0.0
    pitch_range: float = 1.0
    word_gap_s: float = 0.0


MOODS = {
    "happy": Mood(1.15, 1.3, 2.0, 1.5),
    "sad": Mood(0.75, 0.8, -5.0, 0.5, 0.12),
    "anger": Mood(1.3, 1.05, 6.0, 1.3),
    "fear": Mood(1.4, 1.45, -4.0, 0.7),
    "neutral": Mood(),
    "surprise": Mood(1.0, 1.65, 3.0, 2.0),
    "disgust": Mood(0.8, 0.7, 1.0, 0.8, 0.06),
}
