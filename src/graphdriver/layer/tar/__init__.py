"""A layer's tar as bytes, read and written without a filesystem.

- `entry`: one entry, independent of the dialect of its tar.
- `header`: reads one block of a tar header, in every dialect that layers use.
- `pax`: reads and writes PAX extended headers.
- `reader`: reads a tar as entries.
- `sparse`: reads the maps of sparse files.
- `stream`: reads a stream in exact pieces.
- `writer`: writes an entry as tar headers, in the smallest form that holds it.
"""
