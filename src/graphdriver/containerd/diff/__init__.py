"""containerd's diff service: layers arrive whole, as their blobs, and leave as blobs.

containerd calls it to fill a snapshot with a layer (Apply) and to make a layer of what a snapshot has
changed (Diff). Blobs are in containerd's content store, which is asked over containerd's own socket.

- `service`: gRPC messages to calls of the differ, and back.
- `differ`: Apply and Diff, by the driver that keeps the snapshots.
- `given_mounts`: which layer the mounts of a call show.
- `blob_files`: blobs as files, where they need not be copied.
- `content`: the client of containerd's content store.
"""
