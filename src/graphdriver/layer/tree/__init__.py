"""Directory trees by descriptor: resolve, walk, copy, remove, measure."""
