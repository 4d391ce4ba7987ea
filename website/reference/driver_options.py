"""The page of the drivers' options."""

from __future__ import annotations

from graphdriver.drivers import loading
from graphdriver.drivers.options import Option
from graphdriver.errors import GraphDriverError
from website.reference.markdown import code, plain, table


def page() -> str:
    """Return the page."""
    takers: dict[Option, list[str]] = {}
    without = []
    for name, cls in sorted(loading.available().items()):
        if isinstance(cls, GraphDriverError):
            raise cls
        options = getattr(cls, "options", ())
        for option in options:
            takers.setdefault(option, []).append(name)
        if not options:
            without.append(name)
    rows = [
        (code(option.example), plain(option.help), ", ".join(_linked(name) for name in names))
        for option, names in takers.items()
    ]
    return f"""\
# Driver options

An option is given to the daemon (`dockerd --storage-opt KEY=VALUE`), or to the plugin
(`graphdriver serve --opt KEY=VALUE`). The daemon's options take precedence.
[The drivers](../drivers.md) explains each option, and what it costs.

{table(("option", "what it sets", "drivers"), rows)}
No options of their own: {", ".join(_linked(name) for name in without)}.

All drivers also take the framework's options: [`sync=` and `adopt=`](../drivers.md).
"""


def _linked(driver: str) -> str:
    return f"[{driver}](../drivers.md#{driver})"
