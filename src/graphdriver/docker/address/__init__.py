"""The address of a plugin: where it listens, and how a daemon or a client finds it.

- `listeners`: unix sockets and TCP.
- `tls`: certificates of both sides.
- `systemd`: a socket that systemd passes.
- `spec_files`: the file by which a daemon finds a socket.
- `discovery`: finds a plugin by its name.
"""
