"""Texts of others, made safe to print: a terminal obeys control characters, and a log has lines."""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    """Return a text with escapes for all characters that are not printable.

    Args:
        text: the text.
        keep: characters that stay as they are, such as line feeds.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)
