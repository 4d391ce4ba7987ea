"""Directory trees by descriptor: resolve a name, walk, copy, remove, measure."""
