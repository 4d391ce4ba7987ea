"""Making an entry of a tar in a tree.

- `entry`: makes one entry and sets its metadata.
- `cursor`: the directory that entries are made in.
- `form`: what a tree does with whiteouts and devices.
- `plain_tree`: the form of a whole tree, in which whiteouts delete.
- `hard_links`: links whose target comes later.
- `inode`: a new inode for an entry.
- `metadata`: what an entry says of its file.
- `refusals`: what the kernel refuses to keep of an entry.
"""
