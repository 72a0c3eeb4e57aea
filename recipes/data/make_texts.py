"""Write the texts that the recipes of this folder speak: `questions.jsonl` and `moods.jsonl`, from tables of facts.

    python recipes/data/make_texts.py

The texts are ours and CC0. The same seed gives the same files.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
NUM_QUESTIONS = 1000
NUM_DIALOGUES = 120

CAPITALS = (
    "France Paris, Italy Rome, Spain Madrid, Germany Berlin, Japan Tokyo, China Beijing, Greece Athens, Egypt"
    " Cairo, Vietnam Hanoi, Cuba Havana, Norway Oslo, Poland Warsaw, Austria Vienna, Ireland Dublin, Portugal"
    " Lisbon, Kenya Nairobi, Peru Lima, Chile Santiago, Canada Ottawa, Australia Canberra, Finland Helsinki, "
    "Sweden Stockholm, Denmark Copenhagen, Hungary Budapest, India Delhi, Thailand Bangkok, Turkey Ankara, "
    "Morocco Rabat, Nepal Kathmandu, Iceland Reykjavik"
)
OPPOSITES = (
    "hot cold, big small, tall short, old young, fast slow, happy sad, light dark, open closed, early late, "
    "near far, wet dry, loud quiet, rich poor, strong weak, full empty, clean dirty, sharp blunt, smooth "
    "rough, sweet bitter, brave afraid, ancient modern, generous greedy, polite rude, narrow wide, shallow "
    "deep, cheap expensive"
)
PLANTS = (
    "basil in a warm and sunny spot, moss in damp shade, a cactus in dry and sandy soil, mint in a pot of its"
    " own, lavender in full sun, ferns in cool shade, tomatoes against a warm wall, ivy along a fence"
)
UNITS = (
    "minutes|an hour|60, seconds|a minute|60, hours|a day|24, days|a week|7, months|a year|12, metres|a "
    "kilometre|1000, grams|a kilogram|1000, centimetres|a metre|100, millilitres|a litre|1000, years|a "
    "decade|10, years|a century|100"
)
MEANINGS = {
    "umbrella": "It keeps the rain off you.",
    "compass": "It shows you where north is.",
    "thermometer": "It measures how warm something is.",
    "kettle": "It boils water, for tea for example.",
    "ladder": "It helps you reach high places.",
    "telescope": "It makes distant things look near.",
    "calendar": "It shows the days of the year.",
    "needle": "It carries thread through cloth when you sew.",
    "magnet": "It pulls iron towards itself.",
    "sieve": "It separates fine things from coarse ones.",
    "lighthouse": "It warns ships of the coast at night.",
    "whistle": "It makes a high sound that carries far.",
    "pillow": "It supports your head while you sleep.",
    "brush": "It paints, or cleans, or tidies hair.",
    "anchor": "It keeps a ship in its place.",
}
HABITS = {
    "sleep better": "Go to bed at the same time every day, and leave screens out of the bedroom.",
    "remember names": "Say the name aloud when you hear it, and use it once in the first minute.",
    "drink more water": "Put a glass where you work, and fill it each time you get up.",
    "save energy at home": "Turn the heating down by one degree and switch off lights that nobody needs.",
    "learn a language": "Practise a little every day, and speak from the first week on.",
    "read more books": "Keep a book in your bag and read ten pages before you sleep.",
    "make fewer mistakes when typing": "Slow down a little, and look at the screen instead of your hands.",
    "stay calm before a talk": "Breathe out slowly, and begin with a sentence you know by heart.",
    "cook rice": "Take two cups of water for one of rice, and leave the lid on until it is done.",
    "keep bread fresh": "Keep it in a cloth bag at room temperature, and never in the fridge.",
    "clean a window": "Use warm water with a drop of soap, and dry it with newspaper.",
    "start running": "Run for one minute and walk for two, ten times, three days a week.",
    "wake up early": "Put the alarm at the other end of the room and open the curtains at once.",
    "tidy a desk": "Take everything off, wipe it, and put back only what you used this week.",
    "choose a melon": "Knock on it; a ripe one sounds hollow and smells sweet.",
}
NAMES = (
    "Anna Ben Clara David Emma Felix Grace Henry Iris Jonas Kate Leo Mia Noah Olga Paul Rosa Sam Tara".split()
)
THINGS = "apples books candles eggs flowers keys letters marbles oranges pencils shells stamps tickets boxes".split()


def pairs(table: str) -> list[list[str]]:
    return [item.strip().split(" ", 1) for item in table.split(",")]


def questions(rng: random.Random) -> Iterator[tuple[str, str]]:
    """All questions with their answers, many times more than are taken."""
    for country, city in pairs(CAPITALS):
        yield f"What is the capital of {country}?", f"The capital of {country} is {city}."
        yield f"Which country has the capital {city}?", f"{city} is the capital of {country}."
        yield f"I am flying to {city}. In which country is that?", f"{city} is in {country}."
    for word, other in pairs(OPPOSITES):
        yield f"What is the opposite of {word}?", f"The opposite of {word} is {other}."
        yield (
            f"Tell me a word that means the opposite of {other}.",
            f"A word that means the opposite is {word}.",
        )
    for plant, place in pairs(PLANTS):
        yield f"Where does {plant} grow well?", f"It grows well {place}."
    for item in UNITS.split(","):
        many, one, count = item.strip().split("|")
        yield f"How many {many} are there in {one}?", f"There are {count} {many} in {one}."
    for thing, use in MEANINGS.items():
        yield f"What is {'an' if thing[0] in 'aeiou' else 'a'} {thing} good for?", use
        yield f"Explain to a child what {'an' if thing[0] in 'aeiou' else 'a'} {thing} does.", use
    for aim, advice in HABITS.items():
        yield f"How can I {aim}?", advice
        yield f"Give me one good tip to {aim}.", advice
    for _ in range(400):
        a, b = rng.randint(2, 60), rng.randint(2, 60)
        yield f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}."
        a, b = max(a, b), min(a, b)
        yield f"What is {a} minus {b}?", f"{a} minus {b} is {a - b}."
        a, b = rng.randint(2, 12), rng.randint(2, 12)
        yield f"How much is {a} times {b}?", f"{a} times {b} is {a * b}."
        first, second = rng.sample(NAMES, 2)
        thing, a, b = rng.choice(THINGS), rng.randint(3, 20), rng.randint(1, 3)
        yield (
            f"{first} has {a} {thing} and gives {b} of them to {second}. How many {thing} does {first} have left?",
            f"{first} has {a - b} {thing} left.",
        )
        hour, more = rng.randint(1, 8), rng.randint(1, 4)
        yield (
            f"It is {hour} o'clock. What time will it be in {more} hour{'s' if more > 1 else ''}?",
            f"It will be {hour + more} o'clock.",
        )


# What is said in these says nothing of how it is said: the mood is drawn when it is spoken.
OPENERS = (
    "My sister is coming on {day}., The letter arrived this morning., They moved the meeting to {day}., "
    "My neighbour painted the house {colour}., The train was on time today., We are having {food} for dinner., "
    "He called me about the {object}., The shop on the corner is open again., I found the {object} in the kitchen., "
    "They asked me to come back on {day}., The new office has {colour} walls., My brother bought the {object}., "
    "The dog slept on the sofa., It was raining when I left., I counted the money twice., She left the door open."
).split(",")
REPLIES = (
    "I see. Tell me more., And what happened then?, All right. What else?, Go on; I am listening., Understood. And now?"
).split(",")
SLOTS = {
    "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split(),
    "colour": "green blue red white yellow grey".split(),
    "food": "soup fish rice bread noodles beans".split(),
    "object": "keys letter lamp bicycle picture box phone".split(),
}


def dialogue(rng: random.Random, number: int) -> dict[str, object]:
    """Three turns whose words fit every mood."""
    said = [
        text.strip().format(**{k: rng.choice(v) for k, v in SLOTS.items()}) for text in rng.sample(OPENERS, 3)
    ]
    replies = [text.strip() for text in rng.sample(REPLIES, 2)]
    turns = [
        ("user", said[0]),
        ("assistant", replies[0]),
        ("user", said[1]),
        ("assistant", replies[1]),
        ("user", said[2]),
    ]
    return {
        "id": f"mood-{number:03d}",
        "messages": [{"role": r, "content": c} for r, c in turns],
        "license": "cc0-1.0",
    }


def write(name: str, rows: list[dict[str, object]]) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (HERE / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{name}: {len(rows)} rows")


def main() -> None:
    rng = random.Random(20261121)
    asked = dict(questions(rng))  # a question once
    chosen = sorted(rng.sample(sorted(asked), NUM_QUESTIONS), key=lambda _: rng.random())
    rows = [
        {"id": f"q{i:04d}", "prompt": q, "answer": asked[q], "license": "cc0-1.0"}
        for i, q in enumerate(chosen)
    ]
    write("questions.jsonl", rows)
    write("moods.jsonl", [dialogue(rng, i) for i in range(NUM_DIALOGUES)])


if __name__ == "__main__":
    main()
