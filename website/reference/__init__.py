"""The pages of the reference that are made from the source, each time the site is built.

- `command_line`: every command with every option, from the parser of the command line.
- `driver_options`: the options of the drivers, from their classes.
- `layouts`: the files on disk, from the docstrings of the modules that write them.
- `python`: the public names, from their docstrings.
- `markdown`: texts of the source as Markdown.
"""

from __future__ import annotations

from website.reference import command_line, driver_options, layouts, python


def pages() -> dict[str, str]:
    """Return the text of each page, by its path in the site."""
    return {
        "reference/command-line.md": command_line.page(),
        "reference/driver-options.md": driver_options.page(),
        "reference/layouts.md": layouts.page(),
        **{f"reference/python/{name}.md": text for name, text in python.pages().items()},
    }
