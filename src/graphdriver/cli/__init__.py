"""The command line, one file per command.

- `main`: the list of commands, the parser and what ends a command.
- `command`: the protocol of a command.
- `call`: ``graphdriver call``.
- `conform`: ``graphdriver conform``.
- `drivers`: ``graphdriver drivers``.
- `fsck`: ``graphdriver fsck``.
- `package`: ``graphdriver package``.
- `record`: ``graphdriver record``.
- `serve`: ``graphdriver serve``.
- `snapshotter`: ``graphdriver snapshotter``.
- `serving`: options that both serving commands have.
- `watching`: the option ``--metrics``.
- `screen`: tables, JSON and progress.
- `places`: where a plugin listens, and its spec file.
"""
