"""The recipes' scripts import each other by plain name, from their own folder."""

import sys
from pathlib import Path

for recipe in ("nano", "add_voice", "own_voice"):
    sys.path.append(str(Path(__file__).parents[2] / "recipes" / recipe))
