"""A driver as a managed plugin, which Docker keeps and starts itself (``docker plugin create``).

Docker takes a directory with two things in it: ``config.json``, which says how to run the plugin, and
``rootfs/``, the root of its container. Here both are made from what is installed on this machine.

- `bundle`: makes the directory.
- `config`: ``config.json``.
- `rootfs`: the files of a root: programs with their libraries, the interpreter, Python packages.
- `distributions`: the Python packages that a driver needs.
"""
