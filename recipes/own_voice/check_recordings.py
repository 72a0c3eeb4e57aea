"""Whether the bundle's ears can learn from recordings; teach.sh asks before it makes anything.

python recipes/own_voice/check_recordings.py my_recordings/ --tokenizer src/vivavoce/bundle/nano
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "nano"))

from domain import DIGITS
from hearing import HEAR_RATE, read_recordings

from vivavoce.base.errors import VivavoceError


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recordings", type=Path)
    parser.add_argument(
        "--tokenizer", type=Path, required=True, help="folder with the bundle's tokenizer.json"
    )
    args = parser.parse_args()
    words = set(json.loads((args.tokenizer / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"])
    try:
        rows = read_recordings(args.recordings, words)
    except VivavoceError as error:
        sys.exit(f"check_recordings.py: {error}")
    missing = [digit for digit in DIGITS if digit not in {text for _, text in rows}]
    print(f"{len(rows)} recordings, {sum(len(wave) for wave, _ in rows) / HEAR_RATE:.0f} s")
    if missing:
        print(f"no {', '.join(missing)}: strings and sums are put together only from all ten digits")


if __name__ == "__main__":
    main()
