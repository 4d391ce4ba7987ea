"""The ready-made drivers, a package for each family, and how a driver is found.

- `loading`: finds a driver by its name, through entry points, or as ``module:Class``.
- `choice`: finds out which driver suits a directory best.
- `new_project`: writes the project of a new driver, from templates in ``project/``.
- `options`: lists and reads a driver's options. `probe_record`: what the last probe of a home
  found.
- `docker_homes`: reads the homes of Docker's own drivers. `dockers_trees`: what is the same of two of
  them.
- `layer_checks`: the checks of a layer's directory that all drivers make.
- `store_checks`: what an interrupted process left in a home, for the drivers' checks.
- `overlay` (overlay2 and fuse-overlayfs), `erofs`, `btrfs`, `vfs`: the drivers. Each
  package's docstring describes its layout on disk.
"""
