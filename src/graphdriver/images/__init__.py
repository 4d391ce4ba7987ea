"""Images outside of an engine: where their layers come from when a shared store is filled.

- `layer`: a layer of an image.
- `archive`: reads an archive as ``docker save`` writes it, or an OCI layout.
- `home`: reads the layers in a home of the driver erofs.
- `stored`: reads those in another shared store.
- `pushing`: makes the layers of an image, and puts them into a store.
"""
