"""What a containerd snapshotter must do, whatever it is written in, over gRPC.

It needs the extra ``graphdriver[containerd]``. The cases, and what they are told and run by, are those
of `graphdriver.conformance`; what they work with is a `kit.Kit`.

- `cases`: a module for each group of cases.
- `kit`: what a case works with.
- `subject`: the snapshotter that is examined.
- `references`: the reason for each rule.
- `calls`: the gRPC calls that containerd makes.
- `mounting`: mounts what a snapshotter names.
"""
