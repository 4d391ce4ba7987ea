"""Images outside of an engine: where their layers come from when a shared store is filled.

- `archive`: reads an archive as ``docker save`` writes it, or an OCI layout.
- `pushing`: makes the layers of an image, and puts them into a store.
"""
