"""containerd's side: any driver as a proxy snapshotter.

- `server`: the gRPC server on a unix socket.
- `service`: gRPC messages to calls of snapshots, and back.
- `listing`: snapshots as messages: the record of one, and the list of all.
- `questions`: questions to a running snapshotter, both sides.
- `snapshots`: snapshots as layers of a driver.
- `snapshot_mounts`: their mounts. `held_gets`: which snapshots hold a Get.
- `filling`: layers' tars into them.
- `shared_layers`: takes layers from a shared store. `publishing`: puts them there.
- `unpublished`: the layers that wait for that.
- `metadata`: the records of snapshots.
- `database`: the SQLite file that holds them.
- `filters`: containerd's filter language.
- `usage`: the disk usage of snapshots.
- `visibility`: whether containerd sees what is mounted here.
- `remap`: snapshots for user namespaces.
- `diff`: the diff service.
- `callers`: which processes are connected.
- `daemon_client`: asks containerd for its version and its plugins.
- `config`: containerd's configuration, printed.
- `compile`: makes ``_messages_pb2`` from ``messages.proto``.
"""
