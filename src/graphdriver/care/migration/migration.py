"""Carries out a plan, from wherever an earlier run was interrupted.

The order of steps, each on disk before the next:

1. The journal, and a block in the place of the new home.
2. The layers are transferred into a home that nobody uses yet. A transfer that takes them out of the
   old home first puts that one aside, so that no daemon starts on a part of it.
3. The old home is put aside. Before the next step: a daemon that ran on it later would change layers
   that are not transferred again.
4. The journal says that all layers are there.
5. The new home gets what its driver expects besides layers.
6. The records get the new side's name.
7. The new home takes the place of the block: from now on a daemon can start on it.
8. The journal says so.
9. The old home is removed, or gets its name again. The journal goes last.

Until step 3 (with renames until step 2) the old side is whole, and a daemon can run on it. From then
on no daemon starts on either side until step 7 is done, by this run or the next one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace

from graphdriver.care.migration.adoption import adopt
from graphdriver.care.migration.layouts import remove_home
from graphdriver.care.migration.plan import Plan, PlannedLayer, Way
from graphdriver.care.migration.switching import CONTAINERS, switch_records
from graphdriver.care.migration.workplace import Journal, Stage, Workplace, is_blocked
from graphdriver.care.owners import UnreadError
from graphdriver.errors import GraphDriverError
from graphdriver.linux.filesystem import syncfs


def migrate(plan: Plan, done: Callable[[PlannedLayer], None] = lambda layer: None) -> None:
    """Carry out a plan. No daemon runs, and no plugin serves one of the homes.

    Args:
        plan: the plan; nothing in it is refused.
        done: called with each layer that is in the new home.

    Raises:
        GraphDriverError: a layer cannot be transferred, or a record cannot be read.
        OSError: something cannot be read or written.
    """
    source, target, transfer = plan.source, plan.target, plan.transfer
    place = Workplace(source.data_root)
    journal = place.journal()
    if journal is None:
        place.expect_exchanges()
        journal = Journal(source, target, transfer.way, plan.keeps)
        place.write(journal)
    if journal.stage is Stage.TRANSFERRING:
        with _syncing(source.data_root, source.records) as sync:
            place.block(target.home)
            if transfer.way is Way.MOVE:
                place.put_aside(source.home)
            old = place.old if is_blocked(source.home) else source.home
            transfer.transfer(old, place.new, plan.layers, done)
            sync()
        place.put_aside(source.home)
        journal = replace(journal, stage=Stage.SWITCHING)
        place.write(journal)
    if journal.stage is Stage.SWITCHING:
        with _syncing(source.data_root, source.records) as sync:
            if is_blocked(target.home):  # not published by a run that was killed right after it
                adopt(target, place.new)
            _switch(plan)
            sync()
        place.publish(target.home)
        place.write(replace(journal, stage=Stage.ENDING))
    if plan.keeps:
        place.put_back(source.home)
    else:
        remove_home(source, place.old)
        place.unblock(source.home)
    place.remove()


def _switch(plan: Plan) -> None:
    try:
        switch_records(plan.source, plan.target, keeps=plan.keeps)
    except UnreadError as error:
        raise GraphDriverError(
            f"{error}, so the migration cannot go on", hint="repair it, and run this again"
        ) from error


@contextlib.contextmanager
def _syncing(data_root: str, records: str) -> Iterator[Callable[[], None]]:
    """Yield a function that waits until all is on disk that was written since.

    The descriptors are opened before the first write: syncfs(2) reports errors since then.
    """
    with contextlib.ExitStack() as held:
        opened: dict[int, int] = {}
        for path in (data_root, os.path.dirname(records), os.path.join(data_root, CONTAINERS)):
            with contextlib.suppress(FileNotFoundError):
                fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                held.callback(os.close, fd)
                opened.setdefault(os.fstat(fd).st_dev, fd)

        def sync() -> None:
            for fd in opened.values():
                syncfs(fd)

        yield sync
