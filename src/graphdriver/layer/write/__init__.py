"""Making an entry of a tar in a tree."""
