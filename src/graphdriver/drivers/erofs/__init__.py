"""The driver erofs: a layer's tar is stored as it came, and mounted as an EROFS image.

Each file is one subject:

- `driver`: the driver class, with the diffs. `layers`: the layers, based on
  `graphdriver.drivers.overlay`.
- `applied`: what was applied to a layer: its tar, its record, and the tree that they show.
- `in_place`: the same of tars that stay in a store. `place`: where such a tar is.
- `image_mounts`: which images are mounted, and who uses them. `mounting`: the mount of one image on a
  directory. `probe`: in which way images can be mounted in a home.
- `reading`: the layers of a home that need not be served, and what they changed. `names`: the names in
  a layer, without a mount.
- `layout`: the names on disk. `checking`: the check of a home and its repair.

A layer is what was applied to it, and an upper directory above that, since daemons and BuildKit may
write into every layer that has no child. Either may be missing. While nobody has written into the upper
directory, the layer is exactly the tar that was applied.

**The layout of a home** is that of `graphdriver.drivers.overlay`, and in addition:

``ID/layer.erofs``
    The layer's tar, as it came, in an EROFS image (`graphdriver.layer.erofs`). Made by ApplyDiff. A
    kill leaves it incomplete, without a record. The tar is checked when Diff gives it out. The index
    is not checked: damage there gives errors or wrong content in the layer, or an image that cannot
    be mounted; such a layer can be removed, and the others go on.
``ID/layer.tar``
    The layer's tar, if it came as a file of containerd's content store on the same filesystem: one
    more name (a hard link) of that file, which is only read. ``layer.erofs`` is the index alone then,
    and the tar is a device of the image. Made by ApplyDiff; lost, or of another length: the layer is
    lost, and only Remove works.
``ID/layer.place``
    The tar is in a store (`graphdriver.in_place`), and this says in which one, whether its bytes
    were proved or found to be wrong, and from which headers the index was made. ``layer.erofs`` is
    then the index alone, and the store's image is its device; or it still holds the tar, if a kill
    came between the two. Made before ``layer.json``.
``ID/.unsettled``
    As in the overlay family, of a tree. Beside an image it is empty, and says that of the layers below
    nothing but the metadata of their root matters.
``ID/layer.json``
    The record (`graphdriver.layer.erofs.record`): where the tar is in the file, its checksums, what
    the image was made with. Made by ApplyDiff, last, by a rename. Damaged, or missing though
    ``applied`` exists: the layer is lost, and only Remove works.
``ID/applied``
    What was applied, read-only: the mount point of the image; or, if an image cannot hold the layer
    (`graphdriver.layer.erofs.store` says when), its tree, unpacked from the stored tar into the form
    of an upper directory. Made by ApplyDiff, first: a layer that has it and no record is not whole.
    The image is mounted as long as somebody uses it; a kill leaves it mounted or not, and either is
    found again.
``ID/diff``
    The upper directory above ``applied``, with the metadata of its root. In a layer to which nothing
    was applied: as in the overlay family.
``ID/lower``
    In a layer without a parent, from its ApplyDiff on: ``-``, since a layer that has a ``work``
    directory and no list counts as damaged. In another layer, for each layer below it: ``l/NAME``,
    unless that layer is as it was applied; then ``l/NAME-a``, if something was applied to it. The list
    ends at a layer that hides all layers below it, since
    overlayfs ignores the mark of an opaque root.
``ID/work``
    Also in a layer without a parent, from its ApplyDiff on: such a layer is mounted, too.
``l/NAME-a``
    A symlink to ``../ID/applied``; its name is that of the layer's link to ``../ID/diff``, and ``-a``.
    Made by ApplyDiff; removed, found and made again as the other one.
``.probed``
    Also how images are mounted in this home.
"""
