"""Looks at a machine for what makes a plugin fail, now or later; changes nothing.

Each file is one subject. It has the facts as a class, a function that reads them from the machine, and
one that says what is wrong with them, which does no I/O. Facts come from files and programs that may be
damaged or hostile: one that cannot be read is unknown, which is no finding by itself.

- `examination`: all checks of a machine, each on its own.
- `kernel`: what the kernel and its programs can do, and the privileges of this process.
- `home`: a home, its filesystem, space and inodes.
- `daemon`: Docker's daemon: its version and mode. `daemon_api`: asks it.
- `containerd`: its version, and its snapshotters.
- `places`: sockets and spec files by which daemons find plugins.
- `mounts`: mounts that nobody needs, and who holds them.
- `propagation`: whether the daemon sees what the plugin mounts.
- `limits`: what processes may use up: descriptors, threads, memory, mounts.
"""
