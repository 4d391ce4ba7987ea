"""The overlay family (overlay2, fuse-overlayfs): a layer is an upper directory on the layers below it.

Each file is one subject:

- `layout`: the names on disk and the layers' small files. `parents`: each layer's parent and children.
- `mounter`: an overlay mount as data, and the interface of the mounters `kernel_mounter` and
  `fuse_mounter`.
- `mounts`: where and when each layer is mounted. `reference_counts`: how often each was got.
- `roots`: the directories of a new layer.
- `reading`: the layers of a home that need not be served. `removal`: of small layers, at once.
- `aliases`: a second path of a directory. `probe`: whether a directory can be served. `options`.
- `checking`: the check of a home and its repair. `dockers_own`: Docker's own overlay2.
- `overlay2`, `fuse_overlayfs`: the two driver classes, on `driver` (diffs) and `layers` (all else).
  Only these four know the driver classes, so another driver can be built on the others.

**The layout of a home**, in addition to what `graphdriver.store` keeps in it. It is that of
Docker's own overlay2; files of our own begin with a dot.

``ID/diff``
    The layer's changes against its parent: the upper directory of its mount. Without a parent,
    the whole tree. Made by Create with the metadata of the parent's; written by ApplyDiff, or
    through the mount. The overlay's marks in it are those of the mounter
    (`graphdriver.layer.overlay.whiteout`).
``ID/link``
    The name of the layer's link in ``l``. Made by Create. Damaged or missing (it is not synced when
    it is made, so a power cut can empty it): no child can be created until a repair (`checking`)
    writes it again; the link itself still works.
``ID/lower``
    ``l/NAME:l/NAME:...``, the links of the layers below, nearest first. Made by Create if the layer
    has a parent. Damaged, or missing though ``work`` exists: only Remove works, until a repair writes
    it again from the list of a layer above; without one the layer is lost.
``ID/work``
    The work directory of the mount, with files of overlayfs's own. Made by Create if the layer has
    a parent. On a read-only filesystem the layer is mounted on it, without an upper directory. It
    also holds the kernel's mark of a volatile mount that was not unmounted
    (``work/incompat/volatile``).
``ID/committed``
    The layer has, or had, a child: from now on it is mounted read-only, without an upper directory.
    Made by the Create of the first child, before the child appears. A kill in between leaves it
    without a child, which harms nothing.
``ID/.volatile``
    The layer is mounted with ``volatile``. Made by CreateReadWrite in a home with that option.
``ID/.unsettled``
    What of the layer depends on the layers below, while these are not known yet
    (`graphdriver.layer.overlay.parentless`). Made by the ApplyDiff of a layer of containerd's; removed
    by its Commit. A kill leaves it with the layer, which can still be committed or removed. Damaged:
    only Remove works.
``ID/merged``
    Where the layer is mounted. Made by the first Get, removed by the last Put. A kill leaves it
    with or without a mount; the next Get or Put goes on from either.
``l/NAME``
    A symlink to ``../ID/diff``, with a name short enough for some hundred of them in the options of
    one mount. Made by Create before the layer appears, removed by Remove after it is gone: a kill
    leaves a dangling link. Each start removes those that no list has (the others tell which layer was
    lost), and makes missing ones again from ``ID/link``.
``.overlay-probe``
    The two small layers of a probe, which removes them. A kill leaves them, mounted; the next probe
    unmounts and removes them.
``.probed``
    What the last probe found (`graphdriver.drivers.probe_record`).

Below ``/run/graphdriver``, which a reboot empties as it ends all mounts:

``held/HOME/ID``
    The layer's reference count (`graphdriver.drivers.overlay.reference_counts`). Counts of homes
    that no longer exist are removed at each start.
``shown/HASH.N``
    An alias of a probe's directory, or of the home for the program fuse-overlayfs; N is the mount
    namespace. An alias of a home stays until Cleanup. After a kill, the next alias that is mounted
    removes aliases of deleted directories.
"""
