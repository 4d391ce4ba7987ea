"""The driver btrfs: each layer is a subvolume, made as a snapshot of its parent.

On disk, in addition to what `graphdriver.store` keeps in a home:

``HOME/ID/root``
    The layer's tree, as containers see it: a subvolume. Made by Create; a snapshot is on disk when
    the call returns. A plain directory in its place (a home that was copied without ``btrfs send``)
    can be read and removed, but no layer can be created on it.
``HOME/.btrfs-probe``
    Made and removed by a probe; a kill during one leaves it, and the next probe removes it.

A kill during Create leaves the subvolume in ``.staging``, one during Remove in ``.trash``; the next
start destroys it there. A container may make subvolumes in its layer: snapshots are made of them
too, and they are destroyed together with the layer (`graphdriver.drivers.btrfs.subvolumes`).

btrfs itself records the rest: the source of each snapshot, the transaction that made it, and what
changed since. So a layer is compared with its parent without walking through the two
trees (`graphdriver.drivers.btrfs.touched`). Against another layer, or where containers made
subvolumes, the naive differ compares everything.

Nothing is mounted, so nothing is counted. A layer does not need its parent once it is made.

- `driver`: the driver class. `checking`: the check of a home and its repair.
- `dockers_own`: the layout of Docker's own btrfs.
- `own_usage`: the disk usage of a layer without its parent.
- `reading`: the layers of a home that need not be served.
- `probe`: whether a directory suits.
- `subvolumes`: snapshots and removal of nested subvolumes.
- `touched`: what changed since a snapshot.
"""
