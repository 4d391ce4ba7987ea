"""A layer's tar as bytes, read and written without a filesystem.

- `entry`: one entry of a layer's tar, free of how a tar spells it.
- `header`: one block of a tar header, read in every dialect that layers come in.
- `pax`: pAX extended headers.
- `reader`: read a tar as entries.
- `sparse`: maps of sparse files.
- `stream`: exact pieces of a stream.
- `writer`: write an entry as tar headers, in the smallest form that holds it.
"""
