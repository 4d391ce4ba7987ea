"""``python -m graphdriver``: the same as the command ``graphdriver``."""

from __future__ import annotations

import sys

from graphdriver.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
