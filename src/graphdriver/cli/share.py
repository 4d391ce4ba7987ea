"""``graphdriver share``: the layers in a store for many nodes."""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import os
import re
import secrets
import signal
import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from graphdriver.cli.command import DAMAGED, OK, WARNED, Command
from graphdriver.cli.quantities import period, several, size
from graphdriver.cli.table import Column, Tone, Toned
from graphdriver.errors import GraphDriverError, MalformedRequestError, UnsupportedError

if TYPE_CHECKING:
    from graphdriver.images.layer import ImageLayer
    from graphdriver.images.pushing import Pushed
    from graphdriver.shared.layers import SharedLayers

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_ACTIONS: Final = ("push", "pull", "ls", "verify", "gc")
_EXAMPLES = """\
examples:
  graphdriver share push /mnt/layers image.tar               put an image's layers into a store
  graphdriver share push /mnt/layers /var/lib/docker/erofs   those that a node has pulled or built
  graphdriver share pull /mnt/layers --to /srv/copy          copy a store, or some layers of it
  graphdriver share ls /mnt/layers                           list what is there
  graphdriver share verify /mnt/layers                       read and check all of it
  graphdriver share gc --unused-for 30d --remove /mnt/layers remove what nobody used for 30 days
  graphdriver share push oci://registry.example/layers image.tar into a repository of a registry
  graphdriver snapshotter --address /run/gd/mine.sock --shared /mnt/layers
"""
_NOTES = """\
A store is a directory that all nodes mount, oci://HOST[:PORT]/REPOSITORY, or s3://BUCKET[/PREFIX].
Nothing of it is believed: a layer is used only if its tar has the SHA-256 that the image's
configuration names.

The code is 14 if verify finds damage, and 13 if gc finds unused objects and does not remove them.
"""


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        choices=_ACTIONS,
        help="put the layers of images into a store, copy layers to another one, list what is there,"
        " check it, or find what nobody has used for long",
    )
    parser.add_argument(
        "store", metavar="STORE", help="a directory, oci://HOST/REPOSITORY, or s3://BUCKET/PREFIX"
    )
    parser.add_argument(
        "sources",
        nargs="*",
        metavar="SOURCE",
        help="push: images as docker save writes them, OCI layouts, or homes of the driver erofs;"
        " pull: chain IDs or diff IDs of images' last layers (default: all)",
    )
    parser.add_argument("--to", metavar="STORE", help="pull: the store that gets the layers")
    parser.add_argument(
        "--work",
        metavar="DIR",
        default=tempfile.gettempdir(),
        help="push, pull: where the layers are made; it takes their uncompressed size (default:"
        " %(default)s)",
    )
    parser.add_argument(
        "--unused-for", type=_time, metavar="TIME", help="gc: such as 30d, 12h or 90m"
    )
    parser.add_argument(
        "--remove", action="store_true", help="verify, gc: remove what is wrong, or unused"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def _check(arguments: argparse.Namespace) -> None:
    """Refuse arguments that do not belong to the action, or lack what it needs."""
    action = arguments.action
    if action == "push" and not arguments.sources:
        raise MalformedRequestError("push takes archives or homes")
    if arguments.sources and action not in ("push", "pull"):
        raise MalformedRequestError(f"{action} takes no sources")
    if bool(arguments.to) != (action == "pull"):
        raise MalformedRequestError(
            "pull needs --to STORE" if action == "pull" else "--to belongs to pull"
        )
    if (arguments.unused_for is not None) != (action == "gc"):
        raise MalformedRequestError(
            "gc needs --unused-for TIME" if action == "gc" else "--unused-for belongs to gc"
        )
    if arguments.remove and action not in ("verify", "gc"):
        raise MalformedRequestError("--remove belongs to verify and gc")


def _time(text: str) -> float:
    found = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 30d, 12h, 90m or 5s")
    return int(found[1]) * _UNITS[found[2]]


def _run(arguments: argparse.Namespace) -> int:
    from graphdriver.shared.layers import SharedLayers
    from graphdriver.shared.opening import open_store

    _check(arguments)
    failed = f"the store {arguments.store} failed"
    if arguments.to:
        failed = f"pull from {arguments.store} to {arguments.to}: a store failed"
    may_be_new = arguments.action == "push"
    try:
        with contextlib.closing(open_store(arguments.store, may_be_new=may_be_new)) as store:
            shared = SharedLayers(store)
            match arguments.action:
                case "push":
                    return _put(arguments, shared, _of_sources(arguments.sources))
                case "pull":
                    from graphdriver.images.stored import StoredImages

                    images = StoredImages(shared).images(arguments.sources)
                    with contextlib.closing(open_store(arguments.to, may_be_new=True)) as other:
                        return _put(arguments, SharedLayers(other), images)
                case "ls":
                    return _ls(arguments, shared)
                case "verify":
                    return _verify(arguments, shared)
                case _:
                    return _gc(arguments, shared)
    except OSError as error:
        raise GraphDriverError(f"{failed}: {error}") from error
    except ImportError as missing:
        raise UnsupportedError(
            f"share {arguments.action} needs {missing.name}, which is not installed",
            hint="pip install 'graphdriver[containerd]'",
        ) from missing


# --- the actions ----------------------------------------------------------------------------------


def _put(
    arguments: argparse.Namespace,
    shared: SharedLayers,
    images: Iterator[Sequence[ImageLayer]],
) -> int:
    """Put the layers of images into a store, and tell what became of each."""
    from graphdriver.cli import screen
    from graphdriver.images.pushing import Pusher
    from graphdriver.serving import process

    process.prepare()
    # SIGTERM ends it as Ctrl-C does: it removes what it has made in the directory for work.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if not os.path.isdir(arguments.work):
        raise MalformedRequestError(f"--work {arguments.work} is not a directory")
    work = os.path.join(os.path.abspath(arguments.work), f"graphdriver-{secrets.token_hex(8)}")
    done: dict[str, Pushed] = {}
    with Pusher(shared, work) as pusher:
        for one in itertools.chain.from_iterable(map(pusher.push, images)):
            if one.link.chain_id in done:  # another image has it, too
                continue
            done[one.link.chain_id] = one
            if not arguments.json:
                page = screen.page()
                page.line(f"{one.link.diff_id}: {_outcome(one)}")
                screen.show(page)
    new = [one for one in done.values() if one.outcome == "new"]
    if arguments.json:
        rows = [{**_named(one), "size": one.size, "outcome": one.outcome} for one in done.values()]
        screen.print_json({"store": shared.store.address, "layers": rows})
    else:
        total = size(sum(one.size for one in new))
        print(f"{shared.store.address}: {several(len(done), 'layer')}, {len(new)} new, {total}")
    return OK


def _of_sources(sources: Sequence[str]) -> Iterator[Sequence[ImageLayer]]:
    """Yield the layers of each image in archives and homes."""
    from graphdriver.images.home import HomeImages
    from graphdriver.serving.home import MARKS, identity_of

    for source in sources:
        home = os.path.abspath(source)
        if os.path.isdir(home) and (identity := identity_of(home)):
            marks = os.path.join(home, MARKS)
            is_unfinished = functools.partial(_has, marks)
            yield from HomeImages(home, identity.driver, is_unfinished).images()
            continue
        from graphdriver.images.archive import ImageArchive

        with ImageArchive(source) as archive:
            yield from archive.images()


def _has(directory: str, name: str) -> bool:
    return os.path.lexists(os.path.join(directory, name))


def _named(one: Pushed) -> dict[str, object]:
    return {"diff_id": one.link.diff_id, "chain_id": one.link.chain_id}


def _outcome(one: Pushed) -> str:
    match one.outcome:
        case "new":
            return f"new, {size(one.size)}"
        case "there":
            return "there already"
        case _:
            return "not shared: no image can hold it, and nodes pull it as usual"


def _ls(arguments: argparse.Namespace, shared: SharedLayers) -> int:
    from graphdriver.cli import screen
    from graphdriver.shared.keys import CHAINED, digest_of
    from graphdriver.shared.layers import IMAGE

    found = sorted(
        (one for one in shared.store.stored() if one.key.endswith(IMAGE) and digest_of(one.key)),
        key=lambda one: one.key,
    )
    if arguments.json:
        rows = [
            {
                "digest": digest_of(one.key),
                "chained": one.key.startswith(CHAINED),
                "size": one.size,
                "unused_seconds": round(max(one.unused, 0)),
            }
            for one in found
        ]
        screen.print_json({"store": shared.store.address, "layers": rows})
        return OK
    page = screen.page()
    columns = (
        Column("DIFF ID OR CHAIN ID", shrinks=True),
        Column("SIZE", right=True),
        Column("UNUSED FOR", right=True),
    )
    page.table(columns, ((digest_of(o.key), size(o.size), period(o.unused)) for o in found))
    total = size(sum(one.size for one in found))
    page.line(f"{shared.store.address}: {several(len(found), 'layer')}, {total}")
    screen.show(page)
    return OK


def _verify(arguments: argparse.Namespace, shared: SharedLayers) -> int:
    from graphdriver.cli import screen
    from graphdriver.shared.keys import digest_of
    from graphdriver.shared.layers import IMAGE
    from graphdriver.shared.store import NotStoredError

    stored = shared.store.stored()
    images = [one for one in stored if one.key.endswith(IMAGE) and digest_of(one.key)]
    wrong: dict[str, str] = {}
    kept: list[str] = []
    with screen.progress("checking layers", len(images)) as done:
        for one in images:
            with contextlib.suppress(NotStoredError):  # removed meanwhile
                if problem := shared.wrong(one):
                    wrong[one.key] = problem
                    # At once: later it may be another one, which was pushed in its place.
                    if arguments.remove and not shared.remove_wrong(one.key):
                        kept.append(one.key)
            done(1)
    if arguments.json:
        rows = [{"key": key, "problem": problem} for key, problem in wrong.items()]
        screen.print_json({"store": shared.store.address, "layers": len(images), "damaged": rows})
    else:
        page = screen.page()
        for key, problem in wrong.items():
            page.line(Toned(f"{key}: {problem}", Tone.BAD))
        verdict = f"{len(wrong)} damaged" if wrong else "sound"
        for key in kept:
            page.line(Toned(f"{key}: not removed: a node reads it in place", Tone.BAD))
        removed = ", removed" if wrong and arguments.remove and not kept else ""
        page.line(f"{shared.store.address}: {several(len(images), 'layer')}, {verdict}{removed}")
        screen.show(page)
    return DAMAGED if kept or (wrong and not arguments.remove) else OK


def _gc(arguments: argparse.Namespace, shared: SharedLayers) -> int:
    from graphdriver.cli import screen

    found = list(shared.unused(arguments.unused_for))
    if arguments.remove:
        found = shared.remove_unused(found)
    if arguments.json:
        rows = [{"key": one.key, "size": one.size} for one in found]
        screen.print_json({"store": shared.store.address, "unused": rows})
    else:
        freed = size(sum(one.size for one in found))
        did = "removed" if arguments.remove else "unused; --remove: remove them"
        print(f"{shared.store.address}: {several(len(found), 'object')}, {freed}, {did}")
    return WARNED if found and not arguments.remove else OK


COMMAND: Final = Command(
    name="share",
    summary="layers in a store for many nodes: put them there, list, check and remove them",
    examples=_EXAMPLES,
    configure=_configure,
    run=_run,
    notes=_NOTES,
)
