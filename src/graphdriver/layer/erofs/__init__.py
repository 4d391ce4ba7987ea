"""A layer's tar as an EROFS image: the tar as it came, and an index that makes it a filesystem.

- `tree`: the layer as a tree in memory.
- `structures`: what an image is made of, as bytes, and the limits.
- `chunks`: where the data of sparse files are.
- `index`: writes the index of a tree.
- `storing`: writes a tar to a file while it is read.
- `record`: what is known of an image, beside it.
- `stored`: the checksums of a stored tar, and a stream that checks it while it is read back.
"""
