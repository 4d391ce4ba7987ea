"""A layer as a tar stream: compare trees, pack a tree, unpack a tar. Knows nothing of drivers.

- `unpack`: a tar into a tree (ApplyDiff).
- `pack`: a tree, or its changes, as a tar (Diff).
- `changes`: compares two trees (Changes).
- `change_list`: the changes that were found.
- `whiteout`: the names of whiteouts in a tar.
- `attributes`: the policy for extended attributes.
- `idmap`: container ids and host ids.
- `tar`: parses and writes tar bytes, without a filesystem.
- `tree`: walks, resolves, copies and removes directory trees.
- `write`: makes entries in a tree.
- `overlay`: upper directories of overlay mounts.
- `erofs`: a stored tar as a filesystem image.
"""
