"""Our own files on disk: directories with exact permissions, small files, path locks, a reserve.

- `directories`: directories with exact owner and mode.
- `small_files`: files that are read and written whole.
- `path_lock`: a lock for a path.
- `reserve`: disk space that is released on a full filesystem.
- `file_stream`: a stream that is a file of another program.
- `runtime_directory`: files below /run/graphdriver.
"""
