"""The kit for containerd snapshotters in any language, over gRPC.

It needs the extra ``graphdriver[containerd]``.

- `cases`: a module for each group of cases.
- `kit`: the class that a case works with.
- `subject`: the snapshotter under test.
- `references`: the sources of the rules.
- `calls`: the gRPC calls that containerd makes.
- `content`: a content store for the diff service.
- `layers`: small layers, as tars.
- `mounting`: mounts what a snapshotter names.
"""
