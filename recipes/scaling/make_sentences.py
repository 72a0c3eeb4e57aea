"""Sentences for the small scaling law, all different: prompt and answer are the same words, the answer is spoken.

python recipes/scaling/make_sentences.py runs/scaling --rows 9600 --held-out 192
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

WORDS = {
    "Who": "the teacher,the farmer,my brother,our neighbour,the captain,a young doctor,the old painter,her sister,"
    "the baker,every student,the night guard,our guide,the miller,a tired driver,the singer,their uncle",
    "did": "found,carried,painted,sold,lost,cleaned,opened,hid,repaired,borrowed,watched,dropped,bought,described",
    "what": "a wooden box,the red lamp,two letters,the silver key,an empty bottle,the long rope,a heavy chair,"
    "the broken clock,three apples,a small boat,the green door,some warm bread,the last map,a winter coat,the blue cup",
    "where": "near the river,in the garden,behind the church,at the market,under the bridge,beside the road,"
    "on the hill,in the harbour,by the window,above the shop,across the valley,inside the barn",
    "when": "this morning,late at night,on Monday,before supper,last winter,after the storm,at noon,two days ago",
}
FORMS = (
    "Who did what where",
    "when Who did what",
    "Who did what when",
    "where Who did what",
    "Who did what where when",
)


def sentence(rng: random.Random) -> str:
    """One sentence; there are 16 x 14 x 15 x 12 x 8 of the longest form alone."""
    words = " ".join(rng.choice(WORDS[part].split(",")) for part in rng.choice(FORMS).split())
    return words[0].upper() + words[1:] + "."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=19200)
    parser.add_argument("--held-out", type=int, default=192)
    given = parser.parse_args()
    rng, found = random.Random(1), dict[str, None]()
    while len(found) < given.rows + given.held_out:
        found[sentence(rng)] = None
    lines = [json.dumps({"prompt": text, "answer": text}) + "\n" for text in found]
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "held_out.jsonl").write_text("".join(lines[: given.held_out]), encoding="utf-8")
    (given.out / "learned.jsonl").write_text("".join(lines[given.held_out :]), encoding="utf-8")


if __name__ == "__main__":
    main()
