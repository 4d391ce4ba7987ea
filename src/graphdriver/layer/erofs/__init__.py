"""A layer's tar as an EROFS image: the tar as it came, and an index that makes it a filesystem.

- `tree`: the layer as a tree in memory.
"""
