"""Upper directories of overlay mounts as layers.

- `whiteout`: makes and recognises whiteouts and opaque directories.
- `unfollowed`: finds marks that our mounts do not follow.
- `form`: unpacks into an upper directory.
- `parentless`: unpacks into one below which the layers are not known yet, and `settle` settles it.
- `changes`: lists what an upper directory changes.
- `pack`: packs an upper directory.
- `lowers`: looks names up in the layers below.
"""
