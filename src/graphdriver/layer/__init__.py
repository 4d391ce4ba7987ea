"""A layer as a tar stream: compare trees, pack a tree, unpack a tar. Knows nothing of drivers."""
