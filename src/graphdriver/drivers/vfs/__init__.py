"""The driver vfs, which works on any filesystem: each layer is a full copy of its parent.

A copy shares its blocks with the parent where the filesystem can (reflink: btrfs, XFS); elsewhere
it costs the time and the space of the whole image. A layer does not need its parent once it is
made. Nothing is mounted, so nothing is counted.

On disk, in addition to what `graphdriver.store` and `graphdriver.drivers.probe_record` keep in a
home:

``HOME/ID/root``
    The layer's tree, as containers see it. Made by Create as a copy of the parent's. The copy is
    synced before it becomes a layer: only layers that are applied are synced later, and after a power
    cut no container may run on half an image. A kill during the copy leaves it in ``.staging``, which
    the next start sweeps.
``HOME/ID/made``
    The parent's ID; written last, when the copy is finished. From its change time the naive differ
    knows which files were not touched since. If it is missing or damaged the layer is still whole: it
    is compared file by file, and it does not count as a child of its parent. A layer that was moved
    here from Docker's own vfs has a second line, ``moved``: it is compared file by file, too.

- `driver`: the driver class. `checking`: the check of a home and its repair.
- `reading`: the layers of a home that need not be served.
- `dockers_own`: the layout of Docker's own vfs.
"""
