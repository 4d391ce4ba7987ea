"""Directory trees by descriptor: resolve a name, walk, copy, remove, measure.

- `resolver`: opens a path inside a layer; the only place that does.
- `walk`: visits every entry.
- `trail`: the open directories on the way down.
- `directory_path`: the path of a directory, kept short.
- `copy`: copies one entry. `tree_copy`: copies a whole tree.
- `remove`: removes a tree.
- `inodes`: counts bytes and inodes.
- `directory`: an open directory as a value.
"""
