"""The kit for snapshotters: each case can fail, no snapshotter harms its host, and ours pass."""
