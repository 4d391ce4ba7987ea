"""Our own files on disk: directories with exact permissions, small files, path locks, a reserve."""
