"""``python -m vivavoce`` is the command ``vivavoce``."""

import sys

from vivavoce.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
