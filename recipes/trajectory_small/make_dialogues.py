"""Dialogues of three turns whose words tell nothing of the mood: every sentence stands with every mood equally often.

python recipes/trajectory_small/make_dialogues.py runs/trajectory_small

Training and held-out dialogues share no sentence. Beside the dialogues, to be spoken, lie the same ones as typed text
(for a model that only reads), and others with the moods typed in the place of the sound: by these the language model
learns what is asked and how to answer, before it hears dialogues.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from vivavoce.data.build.texts.trajectory import describe
from vivavoce.tokens.trajectory import EMOTIONS, QUESTIONS, format_trajectory

TURNS = 3
LEARNED = """My neighbour painted the house grey. I counted the money twice. The train was on time today.
They moved the meeting to Thursday. I found the letter in the kitchen. The shop opens at nine. She bought
two new chairs. We walked along the river. The bus stops near the bank. I put the keys on the shelf. He called me
after lunch.
The window faces the street. They sent the parcel on Monday. I wrote it down on paper. The lamp stands by the door.
My brother works in the city. We had soup for dinner. The road goes over the hill. I read the report this morning.
She parked the car outside. The garden is behind the school. He gave the book to Anna. I washed the blue shirt.
The film starts at eight. We waited for the doctor. They changed the lock again. I saw the dog in the yard.
The table is made of wood. He left the bag at home. My cousin came to visit. The water is in the glass.
I answered the phone at noon. She drew a map of the town. The boxes are under the stairs. We drove through the village.
He closed the office early. The clock is on the wall. I sold the old bicycle. They planted a tree in front.
The boat crossed the lake.""".replace("\n", " ").split(". ")
HELD_OUT = """I met the teacher at the station. The coat hangs in the hall. She opened the green box.
We changed the date of the trip. He carried the bread to the market. The bridge is next to the mill. I moved the desk
to the corner. They repaired the roof in June. My sister lives upstairs. The paper is in the drawer. We left before the
rain. He lent me his umbrella. The class ends at four. I sent her the photograph. The cat slept on the
sofa.""".replace("\n", " ").split(". ")
TOLD_REPLIES = ("I see.", "Go on.", "All right.", "Tell me more.")
REPLIES = {  # with four to learn from, others upset a model that reads letters: its place in the dialogue was lost
    "learned": (
        *TOLD_REPLIES,
        *"""Okay. Really? Yes. And what happened next? I am listening. Good to know. Thank you for telling me.
Oh, I did not know that. Please continue. Just a moment. That is interesting. Yes, go ahead. Understood. Is there
anything else? Very well. Hm, why was that? What did you do then? Let me think. So it was. How come? Maybe so. Who told
you? When was that? I hear what you say.""".replace("\n", " ")
        .replace("? ", "?|")
        .replace(". ", ".|")
        .split("|"),
    ),
    "held_out": ("I understand.", "And then?", "Yes, I hear you.", "What else?"),
}
TOLD = 840  # dialogues with moods in words
TOLD_LOSS = 0.25  # their answers are ten times as long as a mood, and most of it is form


def dialogues(name: str, texts: list[str], repeats: int, seed: int) -> list[dict[str, object]]:
    """Dialogues in which each sentence stands ``repeats`` times with each mood in each place.

    Args:
        name: Of the split; also of its replies.
        texts: Sentences; none stands twice in a dialogue.
        repeats: ``len(texts) * 7 * repeats`` dialogues are made.
        seed: Of the order.
    """
    rng = random.Random(seed)
    pairs = [(text, mood) for text in texts for mood in EMOTIONS for _ in range(repeats)]
    places = [rng.sample(pairs, len(pairs)) for _ in range(TURNS)]
    for place in range(1, TURNS):  # a sentence that is there twice changes places with another dialogue's
        column, before = places[place], places[:place]
        for i in range(len(column)):
            while any(column[i][0] == other[i][0] for other in before):
                j = rng.randrange(len(column))
                fits = all(column[i][0] != o[j][0] and column[j][0] != o[i][0] for o in before)
                if fits:
                    column[i], column[j] = column[j], column[i]
    made = []
    for i, turns in enumerate(zip(*places, strict=True)):
        messages = []
        for place, (text, mood) in enumerate(turns):
            messages.append({"role": "user", "content": text, "emotion": mood})
            if place < TURNS - 1:
                messages.append({"role": "assistant", "content": rng.choice(REPLIES[name])})
        made.append({"id": f"{name}-{i:04d}", "messages": messages, "license": "cc0-1.0"})
    return made


def typed(row: dict[str, object]) -> dict[str, object]:
    """The same dialogue as text, with question and answer: what a model without ears can learn from."""
    messages = [dict(m) for m in row["messages"]]  # type: ignore[attr-defined]
    moods = [m.pop("emotion") for m in messages if "emotion" in m]
    for message in messages:
        if message["role"] == "assistant":
            message["loss"] = 0.0
    messages[-1]["content"] += "\n" + QUESTIONS["en"]
    messages.append({"role": "assistant", "content": format_trajectory(describe(moods, "en"), moods, "en")})
    return {**row, "messages": messages}


def told(count: int = TOLD, seed: int = 2) -> list[dict[str, object]]:
    """Dialogues with a mood in words where the sound will stand: what a language model learns the answers from.

    Args:
        count: Of dialogues; their moods are drawn, whatever the spoken ones have.
        seed: Of the draws.
    """
    rng = random.Random(seed)
    made = []
    for i in range(count):
        moods = rng.choices(EMOTIONS, k=TURNS)
        messages: list[dict[str, object]] = []
        for place, mood in enumerate(moods):
            asked = QUESTIONS["en"] if place == TURNS - 1 else ""
            messages.append({"role": "user", "content": f"<Speech>{mood}</Speech>{asked}"})
            reply = {"role": "assistant", "content": rng.choice(TOLD_REPLIES), "loss": 0.0}
            messages += [] if asked else [reply]
        answer = format_trajectory(describe(moods, "en"), moods, "en")
        messages.append({"role": "assistant", "content": answer, "loss": TOLD_LOSS})
        made.append({"id": f"told-{i:04d}", "messages": messages, "license": "cc0-1.0"})
    return made


def write(out: Path, repeats: int, held_out_repeats: int) -> None:
    """Write both splits, spoken and typed, and what the language model is told.

    Args:
        out: Folder.
        repeats, held_out_repeats: As in ``dialogues``.
    """
    out.mkdir(parents=True, exist_ok=True)
    found = {"told": told()}
    for seed, (name, texts, times) in enumerate(
        (("learned", LEARNED, repeats), ("held_out", HELD_OUT, held_out_repeats))
    ):
        found[name] = dialogues(name, [text.rstrip(".") + "." for text in texts], times, seed)
        found[f"{name}_typed"] = [typed(row) for row in found[name]]
    for name, rows in found.items():
        (out / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--repeats", type=int, default=3, help="280 dialogues to learn from for each")
    parser.add_argument("--held-out-repeats", type=int, default=2, help="105 held-out dialogues for each")
    given = parser.parse_args()
    write(given.out, given.repeats, given.held_out_repeats)


if __name__ == "__main__":
    main()
