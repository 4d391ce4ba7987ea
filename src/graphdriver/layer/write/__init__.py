"""The writer: makes the entries of a tar in a tree.

- `entry`: makes one entry and sets its metadata.
- `cursor`: the directory of the current entry.
- `form`: what a tree does with whiteouts and devices.
- `plain_tree`: the form of a whole tree, in which whiteouts delete.
- `hard_links`: hard links, also those that come before their targets.
- `inode`: a new inode for an entry.
- `metadata`: owner, mode, extended attributes and time.
- `refusals`: warnings and errors for what the kernel refuses to store.
- `translation`: owners and attributes as they are on disk.
"""
