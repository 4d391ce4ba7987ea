"""One HTML page that shows the layers of a home: a graph sized by bytes, and what each layer changed.

The page needs nothing but itself: script, style and data are in it, and its policy lets a browser load
and run nothing else. IDs, names of images and paths come from strangers. They are in the page as JSON
only, which the script shows as text; characters that could end the script element, or that would
change how a line reads, are escaped.
"""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.resources
import json
import os
import stat
import time
from collections.abc import Callable
from typing import Final

import graphdriver
from graphdriver.care.home_layers import HomeLayers
from graphdriver.care.layer_changes import NOTHING, LayerChanges
from graphdriver.care.layer_tree import LayerNode
from graphdriver.care.owners import OwnerKind
from graphdriver.driver import ChangeKind
from graphdriver.errors import GraphDriverError
from graphdriver.files.small_files import write_whole

MOST_LISTED: Final = 10_000
"""How many changes of one layer a page lists at most; the others are counted."""
_ALL_LISTED: Final = 200_000
_LEAST_LISTED: Final = 20

_KINDS: Final = tuple(OwnerKind)


def listed_per_layer(layers: int) -> int:
    """Return how many changes of each layer are listed, so that browsers can open the page."""
    return max(_LEAST_LISTED, min(MOST_LISTED, _ALL_LISTED // max(layers, 1)))


def write_page(
    layers: HomeLayers, changes_of: Callable[[LayerNode], LayerChanges], path: str
) -> None:
    """Write the page of a home's layers. Only its owner can read it: it has the names of all files.

    Args:
        layers: the layers.
        changes_of: returns what a layer changed; it is called once for each, parents first.
        path: the page's file; an old one is replaced.

    Raises:
        GraphDriverError: the page cannot be written; an old one is still there.
    """
    if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
        raise _not_written(path, "it is not a regular file")  # it would be replaced by one
    tree, known = layers.tree, layers.identity
    numbers = {id: number for number, id in enumerate(tree.layers)}
    roots = set(tree.roots)
    data = {
        "home": _plain(layers.home),
        "driver": _plain(known.driver) if known else "",
        "engine": known.engine if known else "",
        "version": graphdriver.__version__,
        "written": time.time(),
        "notes": [_plain(text) for text in layers.notes],
        "kinds": [kind.value for kind in _KINDS],
        "layers": [
            _layer(node, None if id in roots else numbers[node.parent or ""], changes_of(node))
            for id, node in tree.layers.items()
        ],
    }
    try:
        write_whole(path, _page(f"Layers of {_plain(layers.home)}", data), 0o600)
    except OSError as error:
        raise _not_written(path, str(error.strerror)) from error


def _not_written(path: str, problem: str) -> GraphDriverError:
    return GraphDriverError(
        f"the page {path} cannot be written: {problem}", hint="choose another file"
    )


def _layer(node: LayerNode, parent: int | None, changes: LayerChanges) -> dict[str, object]:
    return {
        "id": _plain(node.id),
        "parent": parent,
        "parentId": None if node.parent is None else _plain(node.parent),
        "path": _plain(node.path),
        "own": node.own_size,
        "below": node.shared_size,
        "inodes": node.inodes,
        "created": node.created,
        "applied": node.applied,
        "gets": node.gets,
        "lastGet": node.last_get,
        "gotBy": None if node.got_by is None else _plain(node.got_by),
        "mounted": node.mounted,
        "references": node.references,
        "unfinished": node.unfinished,
        "damage": _plain(node.damage),
        "owners": node.owners
        and [[_KINDS.index(one.kind), _plain(one.id), _plain(one.name)] for one in node.owners],
        "totals": [changes.totals.get(kind, NOTHING) for kind in ChangeKind],
        "changes": [[int(one.kind), one.size, _plain(one.path)] for one in changes.listed],
        "unlisted": changes.unlisted,
        "problem": _plain(changes.problem),
    }


def _page(title: str, data: object) -> str:
    files = importlib.resources.files("graphdriver.care") / "page"
    style = (files / "layers.css").read_text()
    script = (files / "layers.js").read_text()
    policy = f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}"
    rest = (files / "layers.html").read_text()
    done = ""
    # In one pass from the start: what was inserted is not searched again.
    for place, inserted in (
        ("{policy}", f"{policy}; base-uri 'none'; form-action 'none'"),
        ("{title}", html.escape(title)),
        ("{style}", style),
        ("{data}", script_text(data)),
        ("{script}", script),
    ):
        before, _, rest = rest.partition(place)
        done += before + inserted
    return done + rest


def _source(text: str) -> str:
    """Return the source by which a policy allows one inline script or style (CSP 3, "hash-source")."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def script_text(value: object) -> str:
    """Return a value as JSON that may stand in a script element.

    Nothing in it ends the element or begins a comment (HTML, "Restrictions for contents of script
    elements"), and it is ASCII, so that no character of it ends a line.
    """
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plain(text: str) -> str:
    """Return a text with codes for characters that do not show, or that change how others show."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _code(c) for c in text)


def _code(character: str) -> str:
    is_byte = "\udc80" <= character <= "\udcff"  # as Python writes bytes that are not UTF-8
    return f"\\x{ord(character) - 0xDC00:02x}" if is_byte else ascii(character)[1:-1]
