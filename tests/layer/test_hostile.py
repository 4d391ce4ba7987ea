"""Each attack of the corpus in each form, upon nothing and upon a parent that prepares the trap."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.errors import BadArchiveError, UnsupportedError
from graphdriver.layer.overlay.form import UpperDirectory
from graphdriver.layer.tree.directory import Dir
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.layer.write.plain_tree import PlainTree
from tests.layer import test_races
from tests.layer.hostile import hard_links, links, names, whiteouts
from tests.layer.hostile.attack import Attack
from tests.layer.hostile.corpus import CORPUS, MODULES, Maker
from tests.layer.hostile.ground import Ground, content_of, opened
from tests.support.canary import SECRET
from tests.support.documented import ROOT
from tests.support.unfiltered_tars import unfiltered

REFUSALS = (BadArchiveError, UnsupportedError)

KNOWN = """
    CVE-2014-9356 CVE-2014-9357 CVE-2014-9358 CVE-2017-14992 CVE-2018-15664 CVE-2019-14271
    CVE-2021-29136 CVE-2021-32760 CVE-2022-2879 CVE-2024-12718 CVE-2025-4138 CVE-2025-4330
    CVE-2025-4435 CVE-2025-4517 CVE-2025-47290 CVE-2025-58183 CVE-2025-62518 CVE-2026-17106
    CVE-2026-33055
"""
"""Weaknesses of programs that unpack layers or tars, of which each kind must be tried here."""


HOOKED = (
    "import",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.system",
    "os.chdir",
    "os.putenv",
    "subprocess.Popen",
    "ctypes.dlopen",
    "compile",
    "exec",
)
"""What Python tells its audit hooks, none of which may happen while a layer is worked on."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder on a disk: a tmpfs has attributes of users from Linux 6.6 only."""
    with tempfile.TemporaryDirectory(prefix="gd-", dir="/var/tmp") as path:
        yield Path(path)


def strike(ground: Ground, attack: Attack, upon_parent: bool) -> None:
    """Apply the attack and see that it ends as it must."""
    if upon_parent:
        ground.prepare(tars.tar(*attack.trap))
        tar = tars.tar(*attack.blow)
    else:
        tar = tars.tar(*attack.trap, *attack.blow)
    if attack.refused is None:
        ground.apply(tar)
    else:
        with pytest.raises(REFUSALS, match=attack.refused) as error:
            ground.apply(tar)
        assert str(error.value).isprintable()
        assert len(str(error.value)) < 1000


def look(ground: Ground, attack: Attack) -> None:
    """See that the layer holds what it must, no orders, and nothing of the canary."""
    assert ground.orders() == set()
    with ground.shown() as root:
        found = content_of(root)
        packed = b"" if attack.refused else ground.packed(root)
    assert {name: found.get(name) for name in attack.leaves} == attack.leaves
    assert SECRET not in b"".join(found.values())
    assert SECRET not in packed
    assert b"smuggled" not in found


@pytest.mark.parametrize("form", [PlainTree, UpperDirectory])
@pytest.mark.parametrize("upon_parent", [True, False], ids=["child", "first"])
@pytest.mark.parametrize("maker", CORPUS, ids=lambda maker: maker.__name__)
def test_nothing_outside_changes_or_is_read(
    folder: Path, maker: Maker, upon_parent: bool, form: type[UpperDirectory | PlainTree]
) -> None:
    ground = Ground(folder, form)
    attack = maker(os.fsencode(ground.canary.root))
    try:
        with ground.canary.unharmed():
            if form in attack.forms:
                strike(ground, attack, upon_parent)
                look(ground, attack)
            ground.remove()
        assert os.listdir(folder) == ["canary"]
    finally:
        ground.remove()


@pytest.mark.parametrize(
    "maker",
    [
        names.a_name_that_climbs,
        names.a_name_that_climbs_in_an_extended_header,
        links.a_link_on_the_way_absolute,
        links.a_link_that_is_written_through_in_its_own_tar,
        links.links_that_are_harmless_one_by_one,
        links.a_link_of_the_files_own_name,
        names.an_absolute_name,
        hard_links.a_hard_link_outside,
        whiteouts.a_whiteout_that_climbs,
    ],
    ids=lambda maker: maker.__name__,
)
def test_the_same_tars_harm_who_unpacks_them_without_care(folder: Path, maker: Maker) -> None:
    """So the canary is in reach, and it is noticed when it is touched."""
    ground = Ground(folder, PlainTree)
    attack = maker(os.fsencode(ground.canary.root))
    tar = tars.tar(*attack.trap, *attack.blow)

    def extract() -> None:
        with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
            unfiltered(archive).extractall(ground.layer)

    with pytest.raises(AssertionError), ground.canary.unharmed():
        extract()


def test_every_known_weakness_is_in_the_corpus() -> None:
    assert len(CORPUS) > 100
    told = " ".join(str(one.__doc__) for one in (*CORPUS, test_races))
    told += (ROOT / "tests/docker/test_hostile_ids.py").read_text()
    assert set(KNOWN.split()) <= set(re.findall(r"CVE-\d+-\d+", told))
    for module in MODULES:
        assert any(maker in CORPUS for maker in vars(module).values()), module.__name__


def test_nothing_of_a_layer_is_run_or_loaded_and_nothing_is_imported_late(folder: Path) -> None:
    """CVE-2019-14271: in a process whose current folder is the layer, which is more than ours does."""
    script = f"""
import io, logging, os, sys
sys.path.remove("")
logging.disable()
from graphdriver.errors import GraphDriverError
from graphdriver.layer.pack import pack
from graphdriver.layer.unpack import unpack
from graphdriver.conformance.plugin import tars
from tests.layer import test_races
from tests.layer.hostile.corpus import CORPUS
root = os.open(".", os.O_RDONLY)
attacks = [maker(b"/nowhere/canary") for maker in CORPUS]
sys.path.insert(0, "")
told = []
def hook(event, args):
    if event in {HOOKED!r}:
        told.append((event, args))
unpack(io.BytesIO(), root)
sys.addaudithook(hook)
for attack in attacks:
    try:
        unpack(io.BytesIO(tars.tar(*attack.trap, *attack.blow)), root)
    except GraphDriverError as error:
        str(error)
try:
    stream = pack(root, None)
    while stream.read(1 << 20):
        pass
except GraphDriverError as error:
    str(error)
print(told)
"""
    source = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{source}/src:{source}"},
        capture_output=True,
        text=True,
    )
    with opened(folder) as root:
        for name in Dir(root).names():
            remove_tree(root, name)
    assert (done.stdout, done.stderr) == ("[]\n", "")
