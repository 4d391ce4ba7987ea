"""Looks at a home and repairs it, while a plugin serves it or while none does; speaks no protocol.

- `containerd_records`, `docker_records`: the records of the engines; `layer_database` is Docker's own
  list of layers, `build_records` are BuildKit's, in files that `bolt` reads.
- `containerd_names`: which snapshots containerd itself knows.
- `doctor`: looks at a machine for what makes a plugin fail.
- `engine_locks`: the proof that no engine runs.
- `findings`: what a check found, how bad it is, and what to do.
- `fsck`: the check of a home and its repair. `framework_checks`, `engine_checks`: the checks of the
  framework's own files, and against the engine's records. `ways_out`: what to do about lost content.
- `content`: the check of layers' content. `tar_split`: Docker's record of a tar.
- `local_driver`: a home taken up in this process. `engine_records`: the records of its engine.
- `garbage`: layers that no record names.
- `home_layers`: the layers of a home by all that can be read. `usage`: the disk usage of one.
- `layer_tree`: the layers of a home as a tree, with all that is known of each.
- `layer_changes`: what each layer added, changed and deleted.
- `layer_page`: one HTML page of all this; its parts are in ``page``.
- `migration`: moves layers of a stopped daemon to another storage driver.
- `owners`: to which image, container or build each layer belongs, by the engines' own records.
"""
