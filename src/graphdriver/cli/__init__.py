"""The command line, one file per command.

- `main`: the commands in their groups, the parser and what ends a command.
- `command`: the protocol of a command.
- `call`: ``graphdriver call``.
- `conform`: ``graphdriver conform``.
- `doctor`: ``graphdriver doctor``. `plugin_places`: reads sockets and spec files for it.
- `drivers`: ``graphdriver drivers``.
- `du`: ``graphdriver du``.
- `fsck`: ``graphdriver fsck``.
- `gc`: ``graphdriver gc``. `collectable`: the homes of each engine, for it.
- `inspect`: ``graphdriver inspect``.
- `layers`: ``graphdriver layers``.
- `new`: ``graphdriver new``.
- `package`: ``graphdriver package``.
- `record`: ``graphdriver record``.
- `serve`: ``graphdriver serve``.
- `snapshotter`: ``graphdriver snapshotter``.
- `status`: ``graphdriver status``.
- `top`: ``graphdriver top``.
- `units`: ``graphdriver units``.
- `target`: the plugin or the home that `status`, `top`, `layers`, `inspect` and `du` look at.
- `answers`: what a plugin answers to questions.
- `layer_words`, `quantities`: layers, sizes and times in words.
- `serving`: options that both serving commands have.
- `watching`: the option ``--metrics``.
- `screen`: tables, JSON and progress; `table`: the layout of tables.
- `known_homes`: the homes of this machine.
- `places`: where a plugin listens, and its spec file.
"""
