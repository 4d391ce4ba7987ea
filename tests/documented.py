"""What the documentation shows is what the tests run."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def block(page: str, language: str, holding: str) -> str:
    """Return the one block of code in a page that holds these words."""
    text = (ROOT / page).read_text()
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (found,) = [each for each in blocks if holding in each]
    return str(found)
