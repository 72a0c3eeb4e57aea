"""The recipe's scripts import each other by plain name, from their own folder."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "recipes" / "nano"))
